package layout

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var host = Host{
	Name: "r1n1", MAC: "52:54:00:77:00:01", Address: netip.MustParsePrefix("10.77.1.1/16"), Gateway: netip.MustParseAddr("10.77.0.1"),
	DNS:  []netip.Addr{netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.3")},
	Keys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9m8A3h7n2Y3E0VqYt6H1zq8R2c0xY5p0r0mJ0f6x2k admin"}, Mirror: "http://packages.example.org/os", Suite: "bookworm", Late: "touch /etc/by-muster",
}

const (
	plain  = "disk system: local\n  boot 1G ext4 /boot\n  root 40G ext4 / label=root options=noatime\n  swap 8G swap\n  data rest xfs /data\n"
	kept   = "disk system: local\n  root 40G ext4 /\n  data rest xfs /data preserve\n"
	lvm    = "disk system: local\n  boot 1G ext4 /boot\n  pv rest lvm\nlvm vg0: system.pv\n  root 40G xfs /\n  swap 8G swap\n  var rest xfs /var\n"
	second = "disk system: serial=S1\n  root rest ext4 /\ndisk data: serial=S2\n  scratch 50% xfs /scratch\n  more rest ext4 /more label=more\n"
	array  = "disks pair: 2 local\n  half rest raid\nraid mirror: 1 pair.half\n  ext4 /\n"
)

// What an installer is told is what is planned; what it cannot do is said.
func TestAnswer_says_to_each_installer_what_the_layout_says(t *testing.T) {
	uefi := func(m Machine) Machine { m.UEFI = true; return m }
	layouts := []struct {
		name, text string
		m          Machine
	}{{"plain", plain, machine(1)}, {"kept", kept, installed(t, kept)}, {"lvm", lvm, uefi(machine(1))}, {"raid-lvm", raided, uefi(machine(2))}, {"array", array, machine(2)}, {"second", second, machine(2)}}
	refused := map[string]string{
		"preseed kept": "cannot preserve a volume", "preseed raid-lvm": "cannot put LVM on an array", "preseed second": "several disks differently",
		"ignition lvm": "cannot make volume groups", "ignition raid-lvm": "cannot make volume groups",
	}
	for _, c := range layouts {
		l, err := Parse(c.text)
		if err != nil {
			t.Fatal(c.name, err)
		}
		for _, kind := range AnswerKinds() {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				got, err := Answer(kind, l, c.m, Options{UUID: counter(), Content: 1e9}, host)
				if want := refused[kind+" "+c.name]; want != "" {
					var h *Held
					if !errors.As(err, &h) || !strings.Contains(err.Error(), want) {
						t.Errorf("%v, want %q", err, want)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				golden(t, "answer-"+kind+"-"+c.name, got)
				validate(t, kind, got)
			})
		}
	}
}

// validate asks the installer's own checker, where there is one; not all of them are in every distribution.
func validate(t *testing.T, kind, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "answer")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	checkers := map[string][]string{
		"preseed": {"debconf-set-selections", "-c", file}, "ignition": {"ignition-validate", file}, "cloud-init": {"cloud-init", "schema", "-c", file}, "autoyast": {"xmllint", "--noout", file},
	}
	check := checkers[kind]
	if check == nil {
		return
	}
	if _, err := exec.LookPath(check[0]); err != nil {
		t.Logf("not checked: %s is not here", check[0])
		return
	}
	if out, err := exec.Command(check[0], check[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s\n%s", check[0], err, out, text)
	}
}

func TestAnswer_refuses_what_could_break_out(t *testing.T) {
	l, err := Parse(Default)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"a\nb", `a"b`, "a'b", `a\b`, "a\x00"} {
		h := host
		h.Late = bad
		for _, kind := range AnswerKinds() {
			if got, err := Answer(kind, l, machine(1), Options{UUID: counter()}, h); err == nil {
				t.Errorf("%s took %q:\n%s", kind, bad, got)
			}
		}
	}
	if _, err := Answer("anaconda", l, machine(1), Options{UUID: counter()}, host); err == nil || !strings.Contains(err.Error(), "kickstart") {
		t.Error(err)
	}
	if _, err := Answer("preseed", l, machine(2), Options{UUID: counter()}, host); err == nil || !strings.Contains(err.Error(), "2 disks are local") {
		t.Error(err)
	}
}
