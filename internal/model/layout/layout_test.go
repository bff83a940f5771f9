package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"muster/internal/need"
)

var update = flag.Bool("update", false, "write the golden files anew")

const full = `# a node with everything
disk system: local size>=100G
  boot  1G    ext4  /boot
  root  40G   ext4  /     label=root options=noatime
  data  rest  xfs   /data preserve

disks pair: 2 local model="SAMSUNG PM*"
  half  50%   raid
  swap  8G    swap
raid mirror: 1 pair.half
  lvm
lvm vg0: mirror
  home  40%   xfs   /home
  scratch rest none
`

func TestParse_reads_what_String_writes(t *testing.T) {
	l, err := Parse(full)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("  boot  1G    ext4  /boot", "  boot 1G ext4 /boot").Replace(`disk system: local size>=100G
  boot 1G ext4 /boot
  root 40G ext4 / label=root options=noatime
  data rest xfs /data preserve
disks pair: 2 local model="SAMSUNG PM*"
  half 50% raid
  swap 8G swap
raid mirror: 1 pair.half
  lvm
lvm vg0: mirror
  home 40% xfs /home
  scratch rest none
`)
	if d := cmp.Diff(want, l.String()); d != "" {
		t.Error(d)
	}
	if _, err := Parse(Default); err != nil {
		t.Error(err)
	}
}

func TestParse_tells_all_problems_each_at_its_place(t *testing.T) {
	_, err := Parse(`  root rest ext4 /
disk a: sise=3G local bus=scsii
  root 40Q ext4 /
  data rest ext5
  x! 1G swap /swap
  y 1G swap /swap
  z rest vfat /z nosuchoption label=waytoolonglabel
  root rest ext4 data
disk a: size>=many
drive b: local
  nothing here is said
disks c: local
disks d: 2 local
  e 1G ext4 /e
  r 1G raid
raid m: 7 d.r
raid n: 5 d.r d.q q.r a d.r
lvm v: n
lvm w:
  p 60% xfs /p preserve format
  q 60% ext4 relative/path
  o 1G esp
disk u: local
  k "1G
`)
	var p Problems
	if !errors.As(err, &p) {
		t.Fatal(err)
	}
	golden(t, "problems", err.Error()+"\n")
	for _, one := range p {
		if one.Line == 0 || one.Column == 0 {
			t.Errorf("no place: %v", one)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", file, d)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{Default, full, "disk a: \"x", "raid r: 1 r\n  lvm", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(l.String())
		if err != nil {
			t.Fatalf("%v\n%s", err, l)
		}
		if again.String() != l.String() {
			t.Fatalf("%s\nbecame\n%s", l, again)
		}
		_, _ = Make(l, machine(2), Options{UUID: counter()})
	})
}

func FuzzProbe(f *testing.F) {
	f.Add([]byte("XFSB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := Probe(b); c.Type == "" && c != (Content{}) {
			t.Errorf("%+v", c)
		}
	})
}

func counter() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n) }
}

// machine has n equal disks of 480 GB, a stick, and a disk of the storage network.
func machine(n int) Machine {
	m := Machine{}
	for i := range n {
		m.Disks = append(m.Disks, BlockDisk{Name: "sd" + string(rune('a'+i)), Size: 480103981056, Model: "SAMSUNG PM893", Serial: fmt.Sprintf("S%d", i+1), WWN: fmt.Sprintf("naa.5002538e0000000%d", i+1), Bus: "sata", Path: fmt.Sprintf("pci-0000:00:17.0-ata-%d", i+1)})
	}
	return m
}

func withMore(m Machine) Machine {
	m.Disks = append(m.Disks,
		BlockDisk{Name: "sdx", Size: 16e9, Model: "Flash Drive", Serial: "U1", Bus: "usb"},
		BlockDisk{Name: "sdy", Size: 900e9, Model: "VIRTUAL-DISK", Serial: "F1", WWN: "naa.600a0b80001", Bus: "scsi", Fabric: "fc"},
		BlockDisk{Name: "nvme1n1", Size: 100e9, Model: "Remote", Serial: "N1", Bus: "nvme", Fabric: "nvme-tcp"})
	return m
}

func TestMake_takes_one_disk_or_says_why_not(t *testing.T) {
	for _, c := range []struct{ selector, disk, why string }{
		{"local", "sda", ""},
		{"largest", "sda", ""},
		{"smallest", "sda", ""},
		{"size=480GB", "sda", ""},
		{"size=480G", "sda", ""}, // as people say it
		{"size=400GB..500GB", "sda", ""},
		{"size>500GB", "", "no disk is size>500GB; the machine has /dev/sda 480.1GB sata SAMSUNG PM893 serial=S1"},
		{"model=samsung*", "sda", ""},
		{"bus=sata", "sda", ""},
		{"usb", "sdx", ""},
		{"serial=U1", "sdx", ""},
		{"size<20GB", "", "no disk is size<20GB"}, // a stick only when it is said
		{"size>=800GB", "", "no disk is size>=800GB"},
		{"serial=F1", "sdy", ""}, // behind a fabric, and named
		{"serial=F*", "", "no disk is serial=F*"},
		{"wwn=0x600a0b80001", "", "no disk"},
		{"wwn=600a0b80001", "sdy", ""},
		{"wwn=naa.600a0b80001 local", "", "no disk"},
		{"model=Remote", "", "no disk is model=Remote"},
		{"path=/dev/sda", "sda", ""},
		{"path=pci-0000:00:17.0-ata-1", "sda", ""},
	} {
		l, err := Parse("disk system: " + c.selector + "\n  root rest ext4 /\n")
		if err != nil {
			t.Fatal(err)
		}
		chosen, reasons := choose(l, withMore(machine(1)))
		got := ""
		if d := chosen["system"]; len(d) == 1 {
			got = d[0].Name
		}
		if why := strings.Join(reasons, "\n"); got != c.disk || c.why == "" != (why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: %q, %q; want %q, %q", c.selector, got, why, c.disk, c.why)
		}
	}
}

func TestMake_holds_with_every_reason(t *testing.T) {
	dos := machine(1)
	dos.Disks[0].Table = "dos"
	for name, c := range map[string]struct {
		layout string
		m      Machine
		why    []string
	}{
		"two equal disks":    {"disk a: local\n root rest ext4 /\n", machine(2), []string{"line 1, disk a: 2 disks are local, and 1 is wanted", "serial=S1", "serial=S2", "disks a: 2 local"}},
		"equally large":      {"disk a: largest\n root rest ext4 /\n", machine(2), []string{"2 disks are largest"}},
		"missing":            {"disk a: serial=S9\n root rest ext4 /\ndisk b: usb\n x rest swap\n", machine(1), []string{"no disk is serial=S9", "no disk is usb"}},
		"none":               {Default, Machine{}, []string{"no disk at all"}},
		"too small":          {"disk a: local\n root 400G ext4 /\n data 100G xfs /d\n", machine(1), []string{"is too small", "480.1GB", "536.9GB"}},
		"image too large":    {"disk a: local\n root 1G ext4 /\n", machine(1), []string{"root would have 1.074GB, and the image needs 2.317GB"}},
		"one disk twice":     {"disk a: local\n root rest ext4 /\ndisk b: serial=S1\n x rest swap\n", machine(1), []string{"is disk a already"}},
		"no GPT to preserve": {"disk a: local\n root 10G ext4 /\n data rest xfs /d preserve\n", dos, []string{"it has no GPT but dos"}},
		"nothing preserved":  {"disk a: local\n root 10G ext4 /\n data rest xfs /d preserve\n", installed(t, "disk a: local\n root 10G ext4 /\n"), []string{"data is to be preserved", "has no partition of this name (it has bios, root)"}},
		"another content":    {"disk a: local\n root 10G ext4 /\n data rest xfs /d preserve\n", installed(t, "disk a: local\n root 10G ext4 /\n data rest ext4 /d\n"), []string{"data is to be preserved as xfs, and /dev/sda3 holds ext4"}},
		"small array":        {"disks a: 2 local\n p 1G raid\nraid r: 1 a.p\n ext4 /\n", machine(2), []string{"r would have", "the image needs"}},
		"small group":        {"disk a: local\n p 20G lvm\nlvm v: a.p\n root 19G ext4 /\n swap 2G swap\n", machine(1), []string{"volume group v would have 21.47GB"}},
	} {
		l, err := Parse(c.layout)
		if err != nil {
			t.Fatal(name, err)
		}
		p, err := Make(l, c.m, Options{UUID: counter(), Content: 2e9})
		var h *Held
		if !errors.As(err, &h) || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
			continue
		}
		for _, w := range c.why {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %s\nlacks %q", name, err, w)
			}
		}
	}
}

// installed is a machine after a layout was put on it.
func installed(t testing.TB, text string) Machine {
	t.Helper()
	l, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	m := machine(1)
	for _, d := range l.Devices {
		if d.Count == 2 {
			m = machine(2)
		}
	}
	return after(t, l, m, Options{UUID: counter()})
}

func after(t testing.TB, l *Layout, m Machine, o Options) Machine {
	t.Helper()
	k, err := placed(l, m, o)
	if err != nil {
		t.Fatal(err)
	}
	out := Machine{UEFI: m.UEFI, Disks: slices.Clone(m.Disks)}
	for i := range out.Disks {
		out.Disks[i].Table, out.Disks[i].ID = "gpt", "ID"
	}
	short := func(p *place) string { return strings.TrimPrefix(p.device, "/dev/") }
	for _, p := range k.places {
		fs := Content{Type: contents[p.Use], UUID: p.uuid}
		switch p.owner.Kind {
		case Disk:
			kind := types[p.Use]
			if kind == "" {
				kind = typeLinux
			}
			out.Partitions = append(out.Partitions, Partition{Disk: p.disk, Number: p.number, Name: p.Name, Start: p.start, Size: p.size, Type: kind, UUID: p.part, FS: fs})
		case Raid:
			a := Array{Device: "/dev/md127", UUID: "array", Name: p.Name, FS: fs}
			for _, o := range k.members(p.owner) {
				a.Members = append(a.Members, short(o))
			}
			p.device = a.Device
			out.Arrays = append(out.Arrays, a)
		case LVM:
			i := slices.IndexFunc(out.Groups, func(g Group) bool { return g.Name == p.owner.Name })
			if i < 0 {
				g := Group{Name: p.owner.Name}
				for _, o := range k.members(p.owner) {
					g.Members = append(g.Members, short(o))
				}
				out.Groups, i = append(out.Groups, g), len(out.Groups)
			}
			out.Groups[i].Volumes = append(out.Groups[i].Volumes, Logical{Name: p.Name, Size: p.size, FS: fs})
		}
	}
	return out
}

const raided = "disks pair: 2 local\n  half rest raid\nraid mirror: 1 pair.half\n  lvm\nlvm vg0: mirror\n  root 40% xfs /\n  home rest ext4 /home preserve\n  swap 8G swap\n"

func TestMake_says_every_step(t *testing.T) {
	const data = "disk system: local\n  boot 1G ext4 /boot\n  root 40G ext4 / label=root\n  data rest xfs /data preserve\n"
	uefi := func(m Machine) Machine { m.UEFI = true; return m }
	dual := machine(1)
	dual.UEFI, dual.Disks[0].Table, dual.Disks[0].ID = true, "gpt", "8A0F1C5E-0001-4000-8000-000000000000"
	dual.Partitions = []Partition{
		{Disk: "sda", Number: 1, Name: "EFI system partition", Start: 1 << 20, Size: 100 << 20, Type: typeESP, UUID: "E", FS: Content{Type: "vfat", UUID: "AAAA-BBBB"}},
		{Disk: "sda", Number: 3, Name: "Basic data partition", Start: 117 << 20, Size: 200 << 30, Type: "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", UUID: "W", Attrs: "RequiredPartition"},
	}
	for name, c := range map[string]struct {
		layout string
		m      Machine
	}{
		"default-bios":   {Default, machine(1)},
		"default-uefi":   {Default, uefi(machine(1))},
		"data-first":     {data, machine(1)},
		"data-again":     {data, installed(t, data)},
		"raid-lvm-first": {raided, uefi(machine(2))},
		"raid-lvm-again": {raided, installed(t, raided)},
		"dual-boot":      {"disk system: local preserve\n  root 50G ext4 /\n  swap 4G swap\n", dual},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Parse(c.layout)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Make(l, c.m, Options{UUID: counter(), Content: 2e9})
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, p.String())
		})
	}
}

// Whatever the layout and whatever was there: partitions lie inside of the disk and not on each other, and what is to be preserved is where it was.
func TestMake_never_overlaps_and_never_moves_what_is_preserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := "disk a: local\n  root " + rapid.SampledFrom([]string{"10G", "20%", "123456789B", "rest"}).Draw(t, "root") + " ext4 /\n"
		text = strings.Replace(text, "123456789B", "12345678901", 1)
		rest := strings.Contains(text, "rest")
		for i := range rapid.IntRange(0, 6).Draw(t, "volumes") {
			size := rapid.SampledFrom([]string{"1G", "7%", "300M", "33333333333"}).Draw(t, "size")
			if !rest && rapid.Bool().Draw(t, "rest") {
				size, rest = "rest", true
			}
			text += fmt.Sprintf("  v%d %s ext4 /v%d", i, size, i)
			if rapid.Bool().Draw(t, "preserve") {
				text += " preserve"
			}
			text += "\n"
		}
		l, err := Parse(text)
		if err != nil {
			t.Fatal(err, text)
		}
		m := machine(1)
		m.UEFI = rapid.Bool().Draw(t, "uefi")
		var before Machine
		for range 3 {
			k := &maker{l: l.withFirmware(m), m: m, o: Options{UUID: counter()}}
			k.chosen, _ = choose(k.l, m)
			if k.disks(); len(k.reasons) > 0 {
				if len(before.Partitions) > 0 {
					t.Fatalf("what fitted before does not any more: %v\n%s", k.reasons, text)
				}
				return
			}
			slices.SortFunc(k.places, func(a, b *place) int { return int(a.start>>20) - int(b.start>>20) })
			at := mib
			for _, p := range k.places {
				if p.start < at || p.start%mib != 0 {
					t.Fatalf("%s begins at %d, and %d is the end of what is before\n%s", p.Name, p.start, at, text)
				}
				at = p.start + p.size
				i := slices.IndexFunc(before.Partitions, func(o Partition) bool { return o.Name == p.Name })
				if i >= 0 && p.Preserve && (!p.kept || before.Partitions[i].Start != p.start || before.Partitions[i].Size != p.size || before.Partitions[i].Number != p.number) {
					t.Fatalf("%s was %+v, is %+v\n%s", p.Name, before.Partitions[i], p, text)
				}
			}
			if at > m.Disks[0].Size-33*512 {
				t.Fatalf("the last one ends at %d\n%s", at, text)
			}
			before = Machine{Disks: slices.Clone(m.Disks)}
			before.Disks[0].Table = "gpt"
			for _, p := range k.places {
				before.Partitions = append(before.Partitions, Partition{Disk: "sda", Number: p.number, Name: p.Name, Start: p.start, Size: p.size, FS: Content{Type: contents[p.Use], UUID: p.uuid}})
			}
			before.UEFI, m = m.UEFI, before
			m.UEFI = before.UEFI
		}
	})
}

// The text of a table is what sfdisk reads, and what it then has on the disk is what was planned.
func TestMake_writes_tables_that_sfdisk_takes(t *testing.T) {
	need.Programs(t, "fdisk e2fsprogs", "sfdisk", "mkfs.ext4", "mkswap")
	m := machine(1)
	l, err := Parse("disk system: local\n  root 1G ext4 / label=root\n  swap 64M swap label=s\n  data rest xfs /data preserve\n")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(m.Disks[0].Size); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		o := Options{UUID: counter()}
		p, err := Make(l, m, o)
		if err != nil {
			t.Fatal(err)
		}
		m = after(t, l, m, Options{UUID: counter()})
		for _, s := range p.Steps {
			if s.Args[0] != "sfdisk" {
				continue
			}
			c := exec.Command("sfdisk", append([]string{"--no-tell-kernel", "--no-reread"}, append(slices.Clone(s.Args[1:len(s.Args)-1]), file)...)...)
			c.Stdin = strings.NewReader(s.Input)
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s\n%s", err, out, s.Input)
			}
		}
		out, err := exec.Command("sfdisk", "--json", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			PartitionTable struct {
				ID         string
				Partitions []struct {
					Start, Size      int64
					Type, UUID, Name string
				}
			}
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		m.Disks[0].ID = got.PartitionTable.ID
		for i, g := range got.PartitionTable.Partitions {
			w := m.Partitions[i]
			if g.Start*512 != w.Start || g.Size*512 != w.Size || g.Type != w.Type || g.Name != w.Name || !strings.EqualFold(g.UUID, w.UUID) {
				t.Errorf("round %d: %+v, want %+v", round, g, w)
			}
		}
	}
	for _, c := range []struct {
		args []string
		want Content
	}{
		{[]string{"mkfs.ext4", "-q", "-F", "-U", "00000001-0000-4000-8000-000000000001", "-L", "root"}, Content{"ext4", "00000001-0000-4000-8000-000000000001", "root"}},
		{[]string{"mkswap", "-q", "-U", "00000001-0000-4000-8000-000000000002", "-L", "s"}, Content{"swap", "00000001-0000-4000-8000-000000000002", "s"}},
		{[]string{"mkfs.xfs", "-q", "-f", "-m", "uuid=00000001-0000-4000-8000-000000000003"}, Content{"xfs", "00000001-0000-4000-8000-000000000003", ""}},
		{[]string{"mkfs.vfat", "-F", "32", "-i", "0A1B2C3D", "-n", "EFI"}, Content{"vfat", "0A1B-2C3D", "EFI"}},
	} {
		if _, err := exec.LookPath(c.args[0]); err != nil {
			t.Log(c.args[0], "is not here")
			continue
		}
		img := filepath.Join(t.TempDir(), "fs")
		if err := os.WriteFile(img, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(img, 400<<20); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(c.args[0], append(c.args[1:], img)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b := make([]byte, ProbeSize)
		file, err := os.Open(img)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Read(b); err != nil {
			t.Fatal(err)
		}
		file.Close()
		if got := Probe(b); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.args[0], got, c.want)
		}
	}
	if (Probe(bytes.Repeat([]byte{0xff}, ProbeSize)) != Content{}) {
		t.Error("something in nothing")
	}
}
