package tftpd

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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

func TestLoadSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, boot.BIOSLoader), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(dir)
	want := "boot loaders: snponly.efi, ipxe.efi missing in " + dir + ". apt-get install ipxe"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
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
		Files:  Files{"snponly.efi": {Name: "snponly.efi", Data: data}},
		Decide: func(r boot.Request) boot.Decision {
			if r.Stage != boot.StageLoader || r.Path != "snponly.efi" || r.Source != netip.MustParseAddr("127.0.0.1") {
				return boot.Decision{Reason: "there is no such loader"}
			}
			return boot.Decision{Loader: r.Path, Events: []model.Event{{Step: boot.StepLoader}}}
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
	if e := <-told; e.Step != boot.StepLoader {
		t.Errorf("told %+v", e)
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
