package tftpd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pin/tftp/v3"

	"muster/internal/boot"
	"muster/internal/model"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"snponly.efi": "snponly.efi", "/snponly.efi": "snponly.efi", "//snponly.efi": "snponly.efi", "./snponly.efi": "snponly.efi",
		`\snponly.efi`: "snponly.efi", "undionly.kpxe\xff": "undionly.kpxe", "undionly.kpxe\x00": "undionly.kpxe", "": "", "../snponly.efi": "../snponly.efi",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"snponly.efi", "/../../etc/shadow", "\xff\xff", `\\host\share`, "././x", ".//x"} {
		f.Add(s)
	}
	files := Files{"snponly.efi": {Name: "snponly.efi"}}
	f.Fuzz(func(t *testing.T, name string) {
		got := clean(name)
		if len(got) > len(name) || strings.HasPrefix(got, "/") || strings.HasSuffix(got, "\xff") {
			t.Fatalf("%q became %q", name, got)
		}
		if file, ok := files[got]; ok && !slices.Contains(boot.Loaders, file.Name) {
			t.Fatalf("%q gave %q", name, file.Name)
		}
	})
}

func TestLoad(t *testing.T) {
	own, system := t.TempDir(), t.TempDir()
	put := func(dir, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(system, name) }
	put(system, boot.BIOSLoader, "x")
	_, err := find([]string{own}, in)
	want := "boot loaders: snponly.efi, ipxe.efi missing in " + own + " and " + system + ". apt-get install ipxe"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	put(system, boot.UEFILoader, "the package's")
	put(system, boot.HTTPLoader, "the package's")
	put(own, boot.UEFILoader, "our own")
	files, err := find([]string{own}, in)
	if err != nil || string(files[boot.UEFILoader].Data) != "our own" || string(files[boot.HTTPLoader].Data) != "the package's" || len(files) != 3 {
		t.Fatalf("got %+v, %v", files, err)
	}
	sums := strings.TrimPrefix(files[boot.UEFILoader].Digest, "sha256:") + "  " + boot.UEFILoader + "\n"
	put(own, "SHA256SUMS", sums)
	if _, err := find([]string{own}, in); err != nil {
		t.Errorf("the right digest: %v", err)
	}
	put(own, "SHA256SUMS", sums+strings.Repeat("0", 64)+" *"+boot.HTTPLoader+"\n")
	if _, err := find([]string{own}, in); err == nil || !strings.Contains(err.Error(), "boot loader ipxe.efi: ") || !strings.Contains(err.Error(), "SHA256SUMS says sha256:0000") {
		t.Errorf("a wrong digest: %v", err)
	}
}

func TestServe(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for port 69")
	}
	const addr = "127.77.69.1"
	data := bytes.Repeat([]byte("muster"), 100_000)
	told := make(chan model.Event, 100)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := Open(ctx, Options{
		Server: boot.Server{Interface: "lo", Address: netip.MustParseAddr(addr)},
		Open: func(_ context.Context, name string, from netip.Addr) (Content, error) {
			if name != "snponly.efi" || from != netip.MustParseAddr("127.0.0.1") {
				return Content{}, errors.New("there is no such loader")
			}
			return Content{Name: name, Size: int64(len(data)), Data: bytes.NewReader(data), Node: "r1n1"}, nil
		},
		Tell: func(es []model.Event) {
			for _, e := range es {
				told <- e
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()

	c, err := tftp.NewClient(addr + ":69")
	if err != nil {
		t.Fatal(err)
	}
	c.SetBlockSize(1428)
	c.RequestTSize(true)
	from, err := c.Receive("/snponly.efi", "octet")
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := from.(tftp.IncomingTransfer).Size(); !ok || n != int64(len(data)) {
		t.Errorf("size option: got %d, %v", n, ok)
	}
	var got bytes.Buffer
	if _, err := from.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("got %d octets, %v; want %d", got.Len(), err, len(data))
	}
	if _, err := c.Receive("../../etc/shadow", "octet"); err == nil || !strings.Contains(err.Error(), "there is no such loader") {
		t.Errorf("other name: got %v", err)
	}
	if _, err := c.Send("snponly.efi", "octet"); err == nil || !strings.Contains(err.Error(), "does not support write") {
		t.Errorf("writing: got %v", err)
	}
	// An address that never acknowledges gets no more than its share of sockets.
	ask := func() (answer []byte, end func()) {
		u, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.WriteTo([]byte("\x00\x01snponly.efi\x00octet\x00"), &net.UDPAddr{IP: net.ParseIP(addr), Port: 69}); err != nil {
			t.Fatal(err)
		}
		answer = make([]byte, 1500)
		n, from, err := u.ReadFrom(answer)
		if err != nil {
			t.Fatal(err)
		}
		return answer[:n], func() {
			_, _ = u.WriteTo([]byte("\x00\x05\x00\x00enough\x00"), from)
			_ = u.Close()
		}
	}
	for idle := false; !idle; runtime.Gosched() {
		s.mu.Lock()
		idle = len(s.under) == 0
		s.mu.Unlock()
	}
	for range most {
		answer, end := ask()
		defer end()
		if !bytes.HasPrefix(answer, []byte("\x00\x03\x00\x01")) {
			t.Fatalf("got %.40q, want the first block", answer)
		}
	}
	answer, end := ask()
	defer end()
	if !bytes.HasPrefix(answer, []byte("\x00\x05")) || !bytes.Contains(answer, []byte("8 transfers to 127.0.0.1 are under way")) {
		t.Errorf("got %.40q, want an error", answer)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Serve does not end")
	}
}
