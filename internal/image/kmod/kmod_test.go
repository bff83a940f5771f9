package kmod

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// From Debian's 6.1.0 kernel.
const dep = `kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/net/core/failover.ko:
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/arch/x86/crypto/sha256-ssse3.ko.xz:
`

const alias = `# Aliases extracted from modules themselves.
alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias virtio:d00000001v* virtio_net
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
`

func TestOrderLoadsWhatIsNeededFirst(t *testing.T) {
	d, err := ReadDeps(strings.NewReader(dep))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Order("kernel/drivers/net/virtio_net.ko")
	want := []string{
		"kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_ring.ko",
		"kernel/net/core/failover.ko", "kernel/drivers/net/net_failover.ko", "kernel/drivers/net/virtio_net.ko",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Order: got %v, %v\nwant %v", got, err, want)
	}
	if _, err := d.Order("kernel/none.ko"); err == nil {
		t.Error("Order of an unknown file: no error")
	}
}

func TestSubsetKeepsDependenciesAndNamesWhatIsMissing(t *testing.T) {
	d, _ := ReadDeps(strings.NewReader(dep))
	sub, missing, err := d.Subset([]string{"net_failover", "sha256-ssse3", "ext9"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"kernel/arch/x86/crypto/sha256-ssse3.ko.xz", "kernel/drivers/net/net_failover.ko", "kernel/net/core/failover.ko"}
	if got := sub.files(); !slices.Equal(got, want) || !slices.Equal(missing, []string{"ext9"}) {
		t.Errorf("got %v missing %v\nwant %v missing [ext9]", got, missing, want)
	}
}

func TestMatchFindsTheDriverOfADevice(t *testing.T) {
	as, err := ReadAliases(strings.NewReader(alias), func(m string) bool { return m != "virtio_pci" })
	if err != nil || len(as) != 3 {
		t.Fatalf("got %v, %v", as, err)
	}
	for modalias, want := range map[string][]string{
		"virtio:d00000001v00001AF4":                             {"virtio_net"},
		"pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00": {"e1000e"},
		"pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00": nil,
		"acpi:PNP0C0A:": nil,
	} {
		if got := Match(as, modalias); !slices.Equal(got, want) {
			t.Errorf("Match(%s) = %v, want %v", modalias, got, want)
		}
	}
}

func TestBrokenTablesAreNamedByLine(t *testing.T) {
	if _, err := ReadDeps(strings.NewReader("a.ko:\nno colon\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("modules.dep: got %v", err)
	}
	if _, err := ReadAliases(strings.NewReader("alias x\n"), nil); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("modules.alias: got %v", err)
	}
}

func FuzzReadDeps(f *testing.F) {
	f.Add(dep)
	f.Add("a: a\n")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ReadDeps(strings.NewReader(s))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := d.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ReadDeps(&b)
		if err != nil || len(again) != len(d) {
			t.Fatalf("%q: written and read again: %v, %v", s, again, err)
		}
		for f := range d {
			_, _ = d.Order(f)
		}
	})
}

func FuzzReadAliases(f *testing.F) {
	f.Add(alias, "virtio:d00000001v00001AF4")
	f.Add("alias [ x\n", "[")
	f.Fuzz(func(_ *testing.T, s, modalias string) {
		as, err := ReadAliases(strings.NewReader(s), nil)
		if err == nil {
			Match(as, modalias)
		}
	})
}
