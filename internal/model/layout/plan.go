package layout

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Step is one command of a plan. Text says what it does.
type Step struct {
	Text  string
	Args  []string // program and arguments
	Input string   // standard input
}

// Mount is a file system of the new system, below its root.
type Mount struct{ Path, Device, Type, Options string }

// Plan is what is to be done, in order; nothing of it was done. Steps leave all file systems made, and nothing mounted.
type Plan struct {
	Steps  []Step
	Mounts []Mount // the root first
	Fstab  string  // by UUID, fstab(5)

	Root     string   // UUID of the root file system
	Boot     string   // UUID of the file system that has the kernel
	BootPath string   // the folder of the kernel in it: "/boot", or "" where /boot is one of its own
	UEFI     bool     // how the boot loader is installed
	Loader   []string // where: disks ("/dev/vda") for BIOS, mount points of EFI system partitions for UEFI
	Arrays   []string // UUIDs of the arrays that the root lies on
	Volume   string   // the logical volume that the root is: "vg0/root"; "" where it is none
	Kept     []string // what stays, in words
}

// Tools are the programs that the steps call, each once, in the order of the steps.
func (p *Plan) Tools() []string {
	var out []string
	for _, s := range p.Steps {
		if !slices.Contains(out, s.Args[0]) {
			out = append(out, s.Args[0])
		}
	}
	return out
}

// String is the plan for people: every command with what it does, what is mounted, fstab, and what stays.
func (p *Plan) String() string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "# %s\n%s\n", s.Text, strings.Join(s.Args, " "))
		for line := range strings.Lines(s.Input) {
			b.WriteString("  " + line)
		}
	}
	for _, m := range p.Mounts {
		fmt.Fprintf(&b, "mount %s %s %s\n", m.Type, m.Device, m.Path)
	}
	fmt.Fprintf(&b, "%s# root %s, kernel in %q of %s, loader on %v, UEFI %v, arrays %v, volume %q\n", p.Fstab, p.Root, p.BootPath, p.Boot, p.Loader, p.UEFI, p.Arrays, p.Volume)
	for _, k := range p.Kept {
		b.WriteString("kept: " + k + "\n")
	}
	return b.String()
}

// Held says why nothing may be done: every reason at once.
type Held struct{ Reasons []string }

func (h *Held) Error() string { return strings.Join(h.Reasons, "\n") }

// Options are what a plan needs besides.
type Options struct {
	UUID    func() string // a new random UUID (RFC 9562 §5.4), in small letters
	Content int64         // bytes that will lie on the root; less room is a reason
}

const (
	mib    = int64(1) << 20
	extent = 4 * mib // of LVM, as vgcreate takes it
)

// Types of partitions (UEFI specification §5.3.3, and the Discoverable Partitions Specification), as sfdisk takes them.
const (
	typeESP   = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	typeBIOS  = "21686148-6449-6E6F-744E-656564454649"
	typeSwap  = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
	typeRaid  = "A19D880F-05FC-4D3B-A006-743F0F84911E"
	typeLVM   = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
	typeLinux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

var types = map[Use]string{ESP: typeESP, BIOS: typeBIOS, Swap: typeSwap, Member: typeRaid, PV: typeLVM}

// contents is what [Probe] says of a use.
var contents = map[Use]string{EXT4: "ext4", XFS: "xfs", VFAT: "vfat", ESP: "vfat", Swap: "swap", Member: "raid", PV: "lvm"}

// smallest is the least room for a use: below it mkfs refuses, or a system makes no sense.
var smallest = map[Use]int64{EXT4: 16 * mib, XFS: 300 * mib, VFAT: 8 * mib, ESP: 34 * mib, Swap: mib, BIOS: mib, Member: 8 * mib, PV: 8 * mib, None: mib}

// place is one volume of the layout where it will lie.
type place struct {
	Volume
	owner  *Device
	disk   string // of a partition
	number int
	start  int64
	size   int64
	device string
	kept   bool
	uuid   string // of the file system
	part   string // UUID of the partition
	was    *Partition
}

type maker struct {
	l       *Layout
	m       Machine
	o       Options
	reasons []string
	plan    Plan
	chosen  map[string][]BlockDisk
	places  []*place
	tables  []Step
	wipes   []Step // of what lies where new partitions are
}

// Make decides what is to be done to a machine. The error is [*Held] where something is ambiguous, missing or too small.
func Make(l *Layout, m Machine, o Options) (*Plan, error) {
	k, err := placed(l, m, o)
	if err != nil {
		return nil, err
	}
	k.finish()
	return &k.plan, nil
}

// placed gives everything in a layout its place.
func placed(l *Layout, m Machine, o Options) (*maker, error) {
	k := &maker{l: l.withFirmware(m), m: m, o: o}
	k.chosen, k.reasons = choose(k.l, m)
	if len(k.reasons) == 0 {
		k.disks()
	}
	if len(k.reasons) == 0 {
		k.arrays()
	}
	if len(k.reasons) > 0 {
		return nil, &Held{k.reasons}
	}
	return k, nil
}

func (k *maker) because(format string, args ...any) {
	k.reasons = append(k.reasons, fmt.Sprintf(format, args...))
}

func (k *maker) step(text string, args ...string) {
	k.plan.Steps = append(k.plan.Steps, Step{Text: text, Args: args})
}

// device finds one by its name.
func (l *Layout) device(name string) *Device {
	for i := range l.Devices {
		if l.Devices[i].Name == name {
			return &l.Devices[i]
		}
	}
	return nil
}

// under adds the disks of the layout that a device lies on.
func (l *Layout) under(d *Device, disks []*Device) []*Device {
	if d.Kind == Disk {
		if !slices.Contains(disks, d) {
			disks = append(disks, d)
		}
		return disks
	}
	for _, m := range d.Members {
		owner, _, _ := strings.Cut(m, ".")
		disks = l.under(l.device(owner), disks)
	}
	return disks
}

// mounted finds the volume that holds a path of the new system: "/boot", else "/".
func (l *Layout) mounted(path string) (*Device, *Volume) {
	for i := range l.Devices {
		for j := range l.Devices[i].Volumes {
			if l.Devices[i].Volumes[j].Mount == path {
				return &l.Devices[i], &l.Devices[i].Volumes[j]
			}
		}
	}
	if path != "/" {
		return l.mounted("/")
	}
	return nil, nil
}

// withFirmware adds what the firmware of the machine needs and the layout does not say: for UEFI an EFI system partition, for BIOS a place
// for GRUB on each disk that the boot files are on.
func (l *Layout) withFirmware(m Machine) *Layout {
	out := &Layout{Devices: slices.Clone(l.Devices)}
	boot, _ := out.mounted("/boot")
	if boot == nil {
		return out
	}
	has := func(d *Device, u Use) bool {
		return slices.ContainsFunc(d.Volumes, func(v Volume) bool { return v.Use == u })
	}
	disks := out.under(boot, nil)
	if m.UEFI {
		for i := range out.Devices {
			if has(&out.Devices[i], ESP) {
				return out
			}
		}
		disks[0].Volumes = slices.Insert(slices.Clone(disks[0].Volumes), 0, Volume{Line: disks[0].Line, Name: free(disks[0], "esp"), Size: Size{Bytes: 512 * mib}, Use: ESP, Mount: "/boot/efi"})
		return out
	}
	for _, d := range disks {
		if !has(d, BIOS) {
			d.Volumes = slices.Insert(slices.Clone(d.Volumes), 0, Volume{Line: d.Line, Name: free(d, "bios"), Size: Size{Bytes: mib}, Use: BIOS})
		}
	}
	return out
}

func free(d *Device, name string) string {
	for slices.ContainsFunc(d.Volumes, func(v Volume) bool { return v.Name == name }) {
		name += "-"
	}
	return name
}

// keeps says that something on the volume is to stay, so that it has to stay itself.
func (k *maker) keeps(d *Device, v *Volume) bool {
	if v.Preserve {
		return true
	}
	name := d.Name + "." + v.Name
	if d.Kind == Raid {
		name = d.Name
	}
	for i := range k.l.Devices {
		o := &k.l.Devices[i]
		if slices.Contains(o.Members, name) && slices.ContainsFunc(o.Volumes, func(w Volume) bool { return k.keeps(o, &w) }) {
			return true
		}
	}
	return false
}

// disks places the partitions of all disks.
func (k *maker) disks() {
	for i := range k.l.Devices {
		d := &k.l.Devices[i]
		if d.Kind != Disk {
			continue
		}
		for n, disk := range k.chosen[d.Name] {
			k.partitions(d, disk, n)
		}
	}
}

func (k *maker) partitions(d *Device, disk BlockDisk, nth int) {
	sector := cmp.Or(disk.Sector, 512)
	blank := disk.Table == "" && disk.FS == ""
	var old []Partition
	for _, p := range k.m.Partitions {
		if p.Disk == disk.Name {
			old = append(old, p)
		}
	}
	wants := d.Keep || slices.ContainsFunc(d.Volumes, func(v Volume) bool { return k.keeps(d, &v) })
	if wants && !blank && disk.Table != "gpt" {
		k.because("line %d: something on /dev/%s is to be preserved, and it has no GPT but %s", d.Line, disk.Name, cmp.Or(disk.Table, disk.FS))
		return
	}
	var mine []*place
	stays := map[int]*place{} // by the number of the partition
	for _, v := range d.Volumes {
		p := &place{Volume: v, owner: d, disk: disk.Name}
		if nth > 0 && p.Mount != "" {
			p.Mount += strconv.Itoa(nth + 1) // the ESP of a second disk: a copy
		}
		mine = append(mine, p)
		at := -1
		for i, o := range old {
			if o.Name == v.Name && stays[o.Number] == nil {
				if at >= 0 && k.keeps(d, &v) {
					k.because("line %d: /dev/%s has two partitions of the name %s, and one is to be preserved", v.Line, disk.Name, v.Name)
				}
				at = i
			}
			if d.Keep && (v.Use == ESP && o.Type == typeESP || v.Use == BIOS && o.Type == typeBIOS) {
				at, p.Preserve = i, true // of the other system, and good for both
				break
			}
		}
		keep := p.Preserve || k.keeps(d, &v)
		switch {
		case !keep || blank:
		case at < 0:
			k.because("line %d: %s is to be preserved, and %s has no partition of this name (it has %s). Take preserve away to make it anew, which loses what is on the disk",
				v.Line, v.Name, disk, names(old))
		case contents[v.Use] != "" && old[at].FS.Type != contents[v.Use]:
			k.because("line %d: %s is to be preserved as %s, and %s holds %s", v.Line, v.Name, v.Use, device(disk.Name, old[at].Number), cmp.Or(old[at].FS.Type, "nothing known"))
		default:
			o := old[at]
			p.kept, p.was, p.number, p.start, p.size, p.uuid, p.part = true, &o, o.Number, o.Start, o.Size, o.FS.UUID, o.UUID
			stays[o.Number] = p
		}
	}
	others := map[int]Partition{}
	for _, o := range old {
		named := slices.ContainsFunc(d.Volumes, func(v Volume) bool { return v.Name == o.Name })
		if d.Keep && !named && stays[o.Number] == nil {
			others[o.Number] = o
		}
	}
	if len(k.reasons) > 0 {
		return
	}
	k.allocate(d, disk, mine, others)
	number := 0
	for _, p := range mine {
		if !p.kept {
			for number++; others[number].Number != 0 || stays[number] != nil; {
				number++
			}
			p.number, p.uuid, p.part = number, k.o.UUID(), k.o.UUID()
		}
		p.device = device(disk.Name, p.number)
		if p.kept {
			k.plan.Kept = append(k.plan.Kept, fmt.Sprintf("%s (%s, %s, %s)", p.device, p.Name, p.Use, human(p.size)))
		}
	}
	for _, o := range old {
		if stays[o.Number] == nil && others[o.Number].Number == 0 {
			k.wipes = append(k.wipes, Step{Text: "wipe what was on " + device(disk.Name, o.Number), Args: []string{"wipefs", "-a", "-q", "-f", device(disk.Name, o.Number)}})
		} else if stays[o.Number] == nil {
			k.plan.Kept = append(k.plan.Kept, fmt.Sprintf("%s (%s, %s)", device(disk.Name, o.Number), cmp.Or(o.Name, o.FS.Type, "no name"), human(o.Size)))
		}
	}
	k.table(disk, sector, mine, others)
	k.places = append(k.places, mine...)
}

func names(old []Partition) string {
	out := make([]string, len(old))
	for i, o := range old {
		out[i] = cmp.Or(o.Name, "one without a name")
	}
	return cmp.Or(strings.Join(out, ", "), "none")
}

// gap is room between partitions.
type gap struct{ start, end int64 }

// allocate gives the new partitions their places: in the order of the layout where the disk is all theirs, else each in the first gap that
// holds it, and the rest in the largest.
func (k *maker) allocate(d *Device, disk BlockDisk, mine []*place, others map[int]Partition) {
	gaps := []gap{{mib, (disk.Size/mib - 1) * mib}} // the last MiB holds the second copy of the GPT
	all := gaps[0].end - gaps[0].start
	cut := func(start, end int64) {
		start, end = start/mib*mib, (end+mib-1)/mib*mib
		var out []gap
		for _, g := range gaps {
			if left := (gap{g.start, min(g.end, start)}); left.start < left.end {
				out = append(out, left)
			}
			if right := (gap{max(g.start, end), g.end}); right.start < right.end {
				out = append(out, right)
			}
		}
		gaps = out
	}
	for _, o := range others {
		cut(o.Start, o.Start+o.Size)
	}
	fixed := int64(0)
	var rest *place
	for _, p := range mine {
		switch {
		case p.kept:
			cut(p.start, p.start+p.size)
			continue
		case p.Size.Rest:
			rest = p
			continue
		case p.Size.Percent > 0:
			p.size = all / 100 * int64(p.Size.Percent) / mib * mib
		default:
			p.size = (p.Size.Bytes + mib - 1) / mib * mib
		}
		fixed += p.size
	}
	room := int64(0)
	for _, g := range gaps {
		room += g.end - g.start
	}
	if wanted := fixed + k.least(rest); wanted > room {
		k.because("line %d, disk %s: %s is too small: %s are free there, and the layout wants at least %s", d.Line, d.Name, disk, human(room), human(wanted))
		return
	}
	if rest != nil && len(gaps) == 1 {
		rest.size, rest = room-fixed, nil
	}
	put := func(p *place) bool {
		for i, g := range gaps {
			if g.end-g.start >= p.size {
				p.start, gaps[i].start = g.start, g.start+p.size
				return true
			}
		}
		k.because("line %d, disk %s: no gap between what is preserved on %s holds the %s of %s", p.Line, d.Name, disk, human(p.size), p.Name)
		return false
	}
	for _, p := range mine {
		if !p.kept && p != rest && (p.size < k.least(p) && k.small(p, p.size) || !put(p)) {
			return
		}
	}
	if rest != nil && !rest.kept {
		g := slices.MaxFunc(append(gaps, gap{}), func(a, b gap) int { return cmp.Compare(a.end-a.start, b.end-b.start) })
		rest.start, rest.size = g.start, g.end-g.start
		if rest.size < k.least(rest) {
			k.small(rest, rest.size)
		}
	}
}

// least is the least room for a volume; of none it is nothing.
func (k *maker) least(p *place) int64 {
	if p == nil || p.kept {
		return 0
	}
	n := smallest[p.Use]
	if p.Mount == "/" {
		n = max(n, k.o.Content+k.o.Content/8+64*mib) // file systems keep some for themselves
	}
	return n
}

func (k *maker) small(p *place, size int64) bool {
	what := "it needs"
	if p.Mount == "/" {
		what = "the image needs"
	}
	k.because("line %d: %s would have %s, and %s %s", p.Line, p.Name, human(size), what, human(k.least(p)))
	return true
}

// table makes the step that writes a GPT, in the words of sfdisk(8).
func (k *maker) table(disk BlockDisk, sector int64, mine []*place, others map[int]Partition) {
	var b strings.Builder
	b.WriteString("label: gpt\n")
	kept := len(others) > 0
	lines := map[int]string{}
	write := func(number int, start, size int64, kind, id, name, attrs string) {
		s := fmt.Sprintf("%d : start=%d, size=%d, type=%s", number, start/sector, size/sector, kind)
		if id != "" {
			s += ", uuid=" + strings.ToUpper(id)
		}
		if name != "" {
			s += fmt.Sprintf(", name=%q", name)
		}
		if attrs != "" {
			s += fmt.Sprintf(", attrs=%q", attrs)
		}
		lines[number] = s + "\n"
	}
	for _, p := range mine {
		if kept = kept || p.kept; p.kept {
			write(p.number, p.was.Start, p.was.Size, p.was.Type, p.was.UUID, p.was.Name, p.was.Attrs)
		} else {
			write(p.number, p.start, p.size, cmp.Or(types[p.Use], typeLinux), p.part, p.Name, "")
		}
	}
	for _, o := range others {
		write(o.Number, o.Start, o.Size, o.Type, o.UUID, o.Name, o.Attrs)
	}
	if kept && disk.ID != "" {
		b.WriteString("label-id: " + disk.ID + "\n")
	}
	b.WriteString("unit: sectors\n")
	for _, n := range sorted(lines) {
		b.WriteString(lines[n])
	}
	dev := "/dev/" + disk.Name
	if !kept {
		k.tables = append(k.tables, Step{Text: "wipe " + disk.String(), Args: []string{"wipefs", "-a", "-q", "-f", dev}},
			Step{Text: "partition " + dev, Args: []string{"sfdisk", "-q", "--wipe", "always", "--wipe-partitions", "always", dev}, Input: b.String()})
		return
	}
	// What stays may be in use by an array or volume group: the kernel is told of the changes one by one.
	k.tables = append(k.tables, Step{Text: "partition " + dev + ", some of it stays", Args: []string{"sfdisk", "-q", "--force", "--no-reread", "--no-tell-kernel", "--wipe", "never", "--wipe-partitions", "never", dev}, Input: b.String()},
		Step{Text: "tell the kernel of it", Args: []string{"partx", "-u", dev}})
	for _, p := range mine {
		if !p.kept {
			k.tables = append(k.tables, Step{Text: "wipe what lies where " + p.device + " is now", Args: []string{"wipefs", "-a", "-q", "-f", p.device}})
		}
	}
}

func sorted[V any](m map[int]V) []int {
	var out []int
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// members are the places that a device is made of.
func (k *maker) members(d *Device) []*place {
	var out []*place
	for _, m := range d.Members {
		owner, part, dotted := strings.Cut(m, ".")
		if !dotted {
			part = owner
		}
		for _, p := range k.places {
			if p.owner.Name == owner && p.Name == part {
				out = append(out, p)
			}
		}
	}
	return out
}

// arrays places what lies on arrays and in volume groups.
func (k *maker) arrays() {
	k.stop()
	k.plan.Steps = append(k.plan.Steps, k.wipes...)
	k.plan.Steps = append(k.plan.Steps, k.tables...)
	k.step("wait for the partitions", "udevadm", "settle")
	for i := range k.l.Devices {
		switch d := &k.l.Devices[i]; d.Kind {
		case Raid:
			k.array(d)
		case LVM:
			k.group(d)
		}
	}
}

// touched says whether a device of the kernel is, or is on, a disk of the layout.
func (k *maker) touched(dev string) bool {
	for _, disks := range k.chosen {
		for _, d := range disks {
			rest, ok := strings.CutPrefix(dev, d.Name)
			if ok && strings.Trim(strings.TrimPrefix(rest, "p"), "0123456789") == "" {
				return true
			}
		}
	}
	return slices.ContainsFunc(k.m.Arrays, func(a Array) bool {
		return strings.TrimPrefix(a.Device, "/dev/") == dev && slices.ContainsFunc(a.Members, k.touched)
	})
}

// stop ends the arrays and volume groups that were found running on the disks and go away.
func (k *maker) stop() {
	stays := func(members []string) bool {
		return slices.ContainsFunc(k.places, func(p *place) bool { return p.kept && slices.Contains(members, strings.TrimPrefix(p.device, "/dev/")) })
	}
	var arrays []string // that stay
	for _, a := range k.m.Arrays {
		if stays(a.Members) {
			arrays = append(arrays, strings.TrimPrefix(a.Device, "/dev/"))
		}
	}
	for _, g := range k.m.Groups {
		on := slices.ContainsFunc(g.Members, func(m string) bool { return slices.Contains(arrays, m) })
		if slices.ContainsFunc(g.Members, k.touched) && !stays(g.Members) && !on {
			k.step("stop volume group "+g.Name, "vgchange", "-a", "n", g.Name)
		}
	}
	for _, a := range k.m.Arrays {
		if slices.ContainsFunc(a.Members, k.touched) && !stays(a.Members) {
			k.step("stop array "+a.Device, "mdadm", "--stop", a.Device)
		}
	}
}

func (k *maker) array(d *Device) {
	members := k.members(d)
	p := &place{Volume: d.Volumes[0], owner: d, device: "/dev/md/" + d.Name, uuid: k.o.UUID()}
	least := members[0].size
	var devices []string
	kept := 0
	for _, m := range members {
		least = min(least, m.size)
		devices = append(devices, m.device)
		if m.kept {
			kept++
		}
	}
	n := int64(len(members))
	each := least - min(136*mib, least/16) // superblock, bitmap and room for reshaping
	p.size = map[string]int64{"0": n * each, "1": each, "4": (n - 1) * each, "5": (n - 1) * each, "6": (n - 2) * each, "10": n * each / 2}[d.Level]
	k.places = append(k.places, p)
	id := k.o.UUID()
	if kept > 0 {
		a := slices.IndexFunc(k.m.Arrays, func(a Array) bool {
			return slices.ContainsFunc(devices, func(dev string) bool { return slices.Contains(a.Members, strings.TrimPrefix(dev, "/dev/")) })
		})
		switch {
		case kept < len(members) || a < 0:
			k.because("line %d: array %s is to be preserved, and it does not run with all of its members %s", d.Line, d.Name, strings.Join(devices, " "))
			return
		case contents[p.Use] != "" && k.m.Arrays[a].FS.Type != contents[p.Use]:
			k.because("line %d: %s is to be preserved as %s, and %s holds %s", p.Line, d.Name, p.Use, k.m.Arrays[a].Device, cmp.Or(k.m.Arrays[a].FS.Type, "nothing known"))
			return
		}
		p.kept, p.device, p.uuid, id = true, k.m.Arrays[a].Device, k.m.Arrays[a].FS.UUID, k.m.Arrays[a].UUID
		k.plan.Kept = append(k.plan.Kept, fmt.Sprintf("%s (array %s)", p.device, d.Name))
	} else {
		args := []string{"mdadm", "--create", p.device, "--run", "--metadata=1.2", "--homehost=any", "--name=" + d.Name, "--uuid=" + mdUUID(id), "--level=" + d.Level, "--raid-devices=" + strconv.Itoa(len(devices))}
		k.step("make array "+d.Name, append(args, devices...)...)
		k.step("wait for the array", "udevadm", "settle")
	}
	if p.size < k.least(p) {
		k.small(p, p.size)
	}
	if k.roots(d) {
		k.plan.Arrays = append(k.plan.Arrays, id)
	}
}

// mdUUID is how mdadm writes one: four groups of eight.
func mdUUID(id string) string {
	h := strings.ReplaceAll(id, "-", "")
	if len(h) != 32 {
		return id
	}
	return h[:8] + ":" + h[8:16] + ":" + h[16:24] + ":" + h[24:]
}

// roots says whether the root lies on a device.
func (k *maker) roots(d *Device) bool {
	root, _ := k.l.mounted("/")
	var on func(x *Device) bool
	on = func(x *Device) bool {
		if x == d {
			return true
		}
		return slices.ContainsFunc(x.Members, func(m string) bool {
			owner, _, _ := strings.Cut(m, ".")
			return on(k.l.device(owner))
		})
	}
	return on(root)
}

func (k *maker) group(d *Device) {
	members := k.members(d)
	var devices []string
	room, kept := int64(0), 0
	for _, m := range members {
		devices = append(devices, m.device)
		room += (m.size - mib) / extent * extent
		if m.kept {
			kept++
		}
	}
	at := slices.IndexFunc(k.m.Groups, func(g Group) bool { return g.Name == d.Name })
	var old []Logical
	switch {
	case kept == 0:
		if at >= 0 && !slices.ContainsFunc(k.m.Groups[at].Members, k.touched) {
			k.because("line %d: there is a volume group %s on other disks of the machine: give this one another name", d.Line, d.Name)
			return
		}
		for _, dev := range devices {
			k.step("make physical volume "+dev, "pvcreate", "-q", "-ff", "-y", dev)
		}
		k.step("make volume group "+d.Name, append([]string{"vgcreate", "-q", "-y", d.Name}, devices...)...)
	case at < 0 || kept < len(members):
		k.because("line %d: something in volume group %s is to be preserved, and %s are not all of one", d.Line, d.Name, strings.Join(devices, " "))
		return
	default:
		old = k.m.Groups[at].Volumes
		k.step("start volume group "+d.Name, "vgchange", "-a", "y", d.Name)
		for _, o := range old {
			i := slices.IndexFunc(d.Volumes, func(v Volume) bool { return v.Name == o.Name })
			if i < 0 || !d.Volumes[i].Preserve {
				k.step("take away "+d.Name+"/"+o.Name, "lvremove", "-q", "-y", d.Name+"/"+o.Name)
			}
		}
	}
	all, fixed := room, int64(0)
	var mine, rest []*place
	for _, v := range d.Volumes {
		p := &place{Volume: v, owner: d, device: "/dev/" + d.Name + "/" + v.Name, uuid: k.o.UUID()}
		mine = append(mine, p)
		switch i := slices.IndexFunc(old, func(o Logical) bool { return o.Name == v.Name }); {
		case v.Preserve && kept > 0 && i < 0:
			k.because("line %d: %s is to be preserved, and volume group %s has none of this name", v.Line, v.Name, d.Name)
		case v.Preserve && kept > 0 && contents[v.Use] != "" && old[i].FS.Type != contents[v.Use]:
			k.because("line %d: %s is to be preserved as %s, and %s holds %s", v.Line, v.Name, v.Use, p.device, cmp.Or(old[i].FS.Type, "nothing known"))
		case v.Preserve && kept > 0:
			p.kept, p.size, p.uuid = true, old[i].Size, old[i].FS.UUID
			k.plan.Kept = append(k.plan.Kept, fmt.Sprintf("%s (%s, %s)", p.device, p.Use, human(p.size)))
		case v.Size.Rest:
			rest = append(rest, p)
			continue
		case v.Size.Percent > 0:
			p.size = all / 100 * int64(v.Size.Percent) / extent * extent
		default:
			p.size = (v.Size.Bytes + extent - 1) / extent * extent
		}
		fixed += p.size
	}
	for _, p := range rest {
		p.size = room - fixed
	}
	if fixed > room {
		k.because("line %d: volume group %s would have %s, and the layout wants %s of it", d.Line, d.Name, human(room), human(fixed))
		return
	}
	// The rest is made when all others are there, whatever its place in the text.
	for _, p := range append(slices.DeleteFunc(slices.Clone(mine), func(p *place) bool { return p.Size.Rest }), rest...) {
		switch {
		case p.kept:
		case p.size < k.least(p):
			k.small(p, p.size)
		case p.Size.Rest:
			k.step("make "+d.Name+"/"+p.Name, "lvcreate", "-q", "-y", "-W", "y", "-n", p.Name, "-l", "100%FREE", d.Name)
		default:
			k.step("make "+d.Name+"/"+p.Name, "lvcreate", "-q", "-y", "-W", "y", "-n", p.Name, "-L", strconv.FormatInt(p.size, 10)+"b", d.Name)
		}
	}
	k.places = append(k.places, mine...)
}

// finish makes the file systems, and says what is mounted where.
func (k *maker) finish() {
	k.plan.UEFI = k.m.UEFI
	for _, p := range k.places {
		if p.Use == ESP || p.Use == VFAT {
			if !p.kept {
				p.uuid = strings.ToUpper(p.uuid[:4] + "-" + p.uuid[4:8]) // all that FAT has
			}
		}
		if !p.kept {
			k.format(p)
		}
	}
	var fstab strings.Builder
	fstab.WriteString("# by muster, from the layout of the node\n")
	places := slices.Clone(k.places)
	slices.SortStableFunc(places, func(a, b *place) int {
		return cmp.Or(cmp.Compare(strings.Count(strings.TrimRight(a.Mount, "/"), "/"), strings.Count(strings.TrimRight(b.Mount, "/"), "/")), cmp.Compare(a.Mount, b.Mount))
	})
	for _, p := range places {
		kind, options, check := contents[p.Use], cmp.Or(p.Options, "defaults"), "2"
		switch {
		case p.Use == Swap:
			fmt.Fprintf(&fstab, "UUID=%s none swap %s 0 0\n", p.uuid, cmp.Or(p.Options, "sw"))
			continue
		case p.Mount == "":
			continue
		case p.Mount == "/":
			check = "1"
		case p.Use == ESP:
			options = cmp.Or(p.Options, "umask=0077")
			if k.chosen[p.owner.Name][0].Name != p.disk {
				options += ",nofail"
			}
		}
		if p.Use == XFS {
			check = "0"
		}
		fmt.Fprintf(&fstab, "UUID=%s %s %s %s 0 %s\n", p.uuid, p.Mount, kind, options, check)
		k.plan.Mounts = append(k.plan.Mounts, Mount{Path: p.Mount, Device: p.device, Type: kind, Options: p.Options})
		if p.Use == ESP && k.m.UEFI {
			k.plan.Loader = append(k.plan.Loader, p.Mount)
		}
	}
	k.plan.Fstab = fstab.String()
	boot, volume := k.l.mounted("/boot")
	if k.plan.BootPath = "/boot"; volume.Mount == "/boot" {
		k.plan.BootPath = ""
	}
	for _, p := range k.places {
		if p.Mount == "/" {
			k.plan.Root = p.uuid
			if p.owner.Kind == LVM {
				k.plan.Volume = p.owner.Name + "/" + p.Name
			}
		}
		if p.Mount == volume.Mount {
			k.plan.Boot = p.uuid
		}
	}
	if !k.m.UEFI {
		for _, d := range k.l.under(boot, nil) {
			for _, disk := range k.chosen[d.Name] {
				k.plan.Loader = append(k.plan.Loader, "/dev/"+disk.Name)
			}
		}
	}
}

func (k *maker) format(p *place) {
	what := fmt.Sprintf("make %s on %s", p.Use, p.device)
	label := func(flag string) []string {
		if p.Label == "" {
			return nil
		}
		return []string{flag, p.Label}
	}
	var args []string
	switch p.Use {
	case EXT4:
		args = append([]string{"mkfs.ext4", "-q", "-F", "-U", p.uuid}, label("-L")...)
	case XFS:
		args = append([]string{"mkfs.xfs", "-q", "-f", "-m", "uuid=" + p.uuid}, label("-L")...)
	case VFAT, ESP:
		args = append([]string{"mkfs.vfat", "-i", strings.ReplaceAll(p.uuid, "-", "")}, label("-n")...)
		if p.size >= 34*mib {
			args = append(args, "-F", "32")
		}
	case Swap:
		args = append([]string{"mkswap", "-q", "-U", p.uuid}, label("-L")...)
	default:
		return
	}
	k.step(what, append(args, p.device)...)
}
