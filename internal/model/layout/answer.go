package layout

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Host is what an installer has to know of a node besides its disks.
type Host struct {
	Name    string
	MAC     string       // of the port that it installs over
	Address netip.Prefix // zero: by DHCP
	Gateway netip.Addr
	DNS     []netip.Addr
	Keys    []string // that may log in as root, in authorized_keys form
	Mirror  string   // URL of the distribution's packages; "" where the installer has one
	Suite   string   // of the mirror, for Debian: "bookworm"
	Late    string   // a command that the installer runs at the end, in the new system; "" for none
}

// answerers are the kinds of installers, and what renders their answers.
var answerers = []struct {
	kind   string
	render func(*maker, Host) (string, error)
}{
	{"autoinstall", autoinstall}, {"autoyast", autoyast}, {"cloud-init", cloudInit}, {"ignition", ignition}, {"kickstart", kickstart}, {"preseed", preseed},
}

// AnswerKinds are the installers whose answers [Answer] renders.
func AnswerKinds() []string {
	var out []string
	for _, a := range answerers {
		out = append(out, a.kind)
	}
	return out
}

// Answer renders the answers of a distribution's installer for a layout on a machine: what it will do is what muster's own plan does, on the disks that the
// selectors of the layout fit. What an installer cannot express is an error that says so, never left out.
func Answer(kind string, l *Layout, m Machine, o Options, h Host) (string, error) {
	i := slices.IndexFunc(answerers, func(a struct {
		kind   string
		render func(*maker, Host) (string, error)
	},
	) bool {
		return a.kind == kind
	})
	if i < 0 {
		return "", fmt.Errorf("there is no installer %q; there are %s", kind, strings.Join(AnswerKinds(), ", "))
	}
	if err := h.check(); err != nil {
		return "", err
	}
	k, err := placed(l, m, o)
	if err != nil {
		return "", err
	}
	return answerers[i].render(k, h)
}

// check refuses what could end a line or a quote in one of the answers.
func (h Host) check() error {
	for _, s := range append([]string{h.Name, h.MAC, h.Mirror, h.Suite, h.Late}, h.Keys...) {
		for _, c := range s {
			if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '\'' {
				return fmt.Errorf("%q cannot stand in the answers of an installer", s)
			}
		}
	}
	return nil
}

// stable is the path of a disk that does not depend on the order in which drivers find them.
func (k *maker) stable(name string) string {
	for _, d := range k.m.Disks {
		if d.Name == name && d.WWN != "" && !strings.ContainsAny(d.WWN, " /") {
			if w, ok := strings.CutPrefix(d.WWN, "naa."); ok {
				return "/dev/disk/by-id/wwn-0x" + w
			}
			return "/dev/disk/by-id/" + map[bool]string{true: "nvme-", false: "wwn-"}[strings.HasPrefix(d.WWN, "eui.")] + d.WWN
		}
		if d.Name == name && d.Path != "" {
			return "/dev/disk/by-path/" + d.Path
		}
	}
	return "/dev/" + name
}

// cannot says what of a layout an installer cannot do.
func (k *maker) cannot(kind string, forbidden func(*place) string) error {
	var why []string
	for _, p := range k.places {
		if w := forbidden(p); w != "" {
			why = append(why, fmt.Sprintf("line %d: %s cannot %s (%s)", p.Line, kind, w, p.Name))
		}
	}
	if len(why) > 0 {
		return &Held{why}
	}
	return nil
}

func mebibytes(p *place) int64 { return p.size / mib }

// on are the places on a device.
func (k *maker) on(d *Device) []*place {
	var out []*place
	for _, p := range k.places {
		if p.owner == d {
			out = append(out, p)
		}
	}
	return out
}

// devices are those of a kind, with what is on them.
func (k *maker) devices(kind Kind) []*Device {
	var out []*Device
	for i := range k.l.Devices {
		if k.l.Devices[i].Kind == kind {
			out = append(out, &k.l.Devices[i])
		}
	}
	return out
}

// stays says whether a partition that is there stays.
func (k *maker) stays(p Partition) bool {
	for _, o := range k.places {
		if o.kept && o.disk == p.Disk && o.number == p.Number {
			return true
		}
	}
	for _, d := range k.devices(Disk) {
		if d.Keep && slices.ContainsFunc(k.chosen[d.Name], func(c BlockDisk) bool { return c.Name == p.Disk }) {
			return !slices.ContainsFunc(d.Volumes, func(v Volume) bool { return v.Name == p.Name })
		}
	}
	return false
}

// diskNames are the disks that are written, in the order of the layout.
func (k *maker) diskNames() []string {
	var out []string
	for _, d := range k.devices(Disk) {
		for _, c := range k.chosen[d.Name] {
			out = append(out, c.Name)
		}
	}
	return out
}

// user of a member: what it belongs to.
func (k *maker) userOf(p *place) *Device {
	for i := range k.l.Devices {
		if slices.Contains(k.members(&k.l.Devices[i]), p) {
			return &k.l.Devices[i]
		}
	}
	return nil
}

// kickstart renders for Anaconda (pykickstart's documentation; EL 8 and newer).
func kickstart(k *maker, h Host) (string, error) {
	if err := k.cannot("kickstart", func(p *place) string {
		if p.kept && p.owner.Kind != LVM && p.Use != PV && p.Use != Member && p.was == nil {
			return "preserve this"
		}
		if p.Use == None {
			return "make a volume without a use"
		}
		return ""
	}); err != nil {
		return "", err
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# by muster, for %s", h.Name)
	line("text\nreboot\nlang en_US.UTF-8\nkeyboard us\ntimezone UTC --utc\nrootpw --lock\nfirstboot --disable")
	if h.Mirror != "" {
		line("url --url=%s", h.Mirror)
	}
	dev := "link"
	if h.MAC != "" {
		dev = h.MAC
	}
	if h.Address.IsValid() {
		s := fmt.Sprintf("network --device=%s --bootproto=static --ip=%s --netmask=%s", dev, h.Address.Addr(), mask(h.Address))
		if h.Gateway.IsValid() {
			s += " --gateway=" + h.Gateway.String()
		}
		if len(h.DNS) > 0 {
			s += " --nameserver=" + addresses(h.DNS, ",")
		}
		line("%s --hostname=%s --activate", s, h.Name)
	} else {
		line("network --device=%s --bootproto=dhcp --hostname=%s --activate", dev, h.Name)
	}
	for _, key := range h.Keys {
		line(`sshkey --username=root "%s"`, key)
	}
	var disks, gone []string
	stays := false
	for _, name := range k.diskNames() {
		disks = append(disks, strings.TrimPrefix(k.stable(name), "/dev/"))
		for _, p := range k.m.Partitions {
			if p.Disk != name {
				continue
			}
			if k.stays(p) {
				stays = true
			} else {
				gone = append(gone, strings.TrimPrefix(device(name, p.Number), "/dev/"))
			}
		}
	}
	line("ignoredisk --only-use=%s", strings.Join(disks, ","))
	switch {
	case !stays:
		line("zerombr\nclearpart --all --initlabel --disklabel=gpt --drives=%s", strings.Join(disks, ","))
	case len(gone) > 0:
		line("clearpart --list=%s", strings.Join(gone, ","))
	default:
		line("clearpart --none")
	}
	line("bootloader --boot-drive=%s", disks[0])
	size := func(p *place) string {
		if p.Size.Rest {
			return fmt.Sprintf("--size=%d --grow", max(1, k.least(p)/mib))
		}
		return fmt.Sprintf("--size=%d", mebibytes(p))
	}
	extra := func(p *place) string {
		s := ""
		if p.Label != "" {
			s += " --label=" + p.Label
		}
		if p.Options != "" {
			s += ` --fsoptions="` + p.Options + `"`
		}
		return s
	}
	id := func(p *place) string {
		s := strings.ReplaceAll(p.owner.Name+p.Name, "-", "")
		if p.owner.Count > 1 {
			s += p.disk
		}
		return s
	}
	target := func(p *place) (string, string) { // mount point or what stands in its place, and file system
		switch p.Use {
		case Swap:
			return "swap", ""
		case Member:
			return "raid." + id(p), ""
		case PV:
			return "pv." + id(p), ""
		case ESP:
			return p.Mount, " --fstype=efi"
		case BIOS:
			return "biosboot", " --fstype=biosboot"
		}
		return cmp.Or(p.Mount, "none"), " --fstype=" + string(p.Use)
	}
	for _, d := range k.devices(Disk) {
		for _, p := range k.on(d) {
			where, kind := target(p)
			switch {
			case p.kept:
				line("part %s --onpart=%s --noformat", where, strings.TrimPrefix(p.device, "/dev/"))
			default:
				line("part %s%s %s --ondisk=%s%s", where, kind, size(p), strings.TrimPrefix(k.stable(p.disk), "/dev/"), extra(p))
			}
		}
	}
	for _, d := range k.devices(Raid) {
		p := k.on(d)[0]
		where, kind := target(p)
		if p.Use == PV {
			where = "pv." + id(p)
		}
		var members []string
		for _, m := range k.members(d) {
			members = append(members, "raid."+id(m))
		}
		if p.kept {
			line("raid %s --device=%s --useexisting --noformat", where, d.Name)
		} else {
			line("raid %s%s --device=%s --level=%s%s %s", where, kind, d.Name, d.Level, extra(p), strings.Join(members, " "))
		}
	}
	for _, d := range k.devices(LVM) {
		var members []string
		exists := false
		for _, m := range k.members(d) {
			members = append(members, "pv."+id(m))
			exists = exists || m.kept
		}
		if exists {
			line("volgroup %s --useexisting --noformat", d.Name)
		} else {
			line("volgroup %s %s", d.Name, strings.Join(members, " "))
		}
		for _, p := range k.on(d) {
			where, kind := target(p)
			if p.kept {
				line("logvol %s --vgname=%s --name=%s --useexisting --noformat", where, d.Name, p.Name)
			} else {
				line("logvol %s%s --vgname=%s --name=%s %s%s", where, kind, d.Name, p.Name, size(p), extra(p))
			}
		}
	}
	line("%%packages\n@^minimal-environment\n%%end")
	if h.Late != "" {
		line("%%post\n%s\n%%end", h.Late)
	}
	return b.String(), nil
}

func mask(p netip.Prefix) string {
	if p.Addr().Is6() {
		return fmt.Sprint(p.Bits())
	}
	m := ^uint32(0) << (32 - p.Bits())
	if p.Bits() == 0 {
		m = 0
	}
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
}

func addresses(list []netip.Addr, sep string) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return strings.Join(out, sep)
}

// preseed renders for the Debian installer (partman-auto: doc/devel/partman-auto-recipe.txt of debian-installer).
func preseed(k *maker, h Host) (string, error) {
	disks := k.diskNames()
	if err := k.cannot("the Debian installer's recipe", func(p *place) string {
		switch {
		case p.kept:
			return "preserve a volume"
		case len(disks) > 1 && p.owner.Kind == Disk && p.Use != Member && p.Use != BIOS && p.Use != ESP && p.Use != Swap:
			return "partition several disks differently: all but arrays on all of them"
		case p.owner.Kind == LVM && len(k.devices(LVM)) > 1:
			return "make several volume groups"
		case p.owner.Kind == LVM && len(k.devices(Raid)) > 0:
			return "put LVM on an array"
		case p.Use == None:
			return "make a volume without a use"
		}
		return ""
	}); err != nil {
		return "", err
	}
	if slices.ContainsFunc(k.devices(Disk), func(d *Device) bool { return d.Keep }) {
		return "", &Held{[]string{"the Debian installer's recipe cannot preserve what is on a disk"}}
	}
	var b strings.Builder
	d := func(owner, key, kind, value string) { fmt.Fprintf(&b, "%s %s %s %s\n", owner, key, kind, value) }
	fmt.Fprintf(&b, "# by muster, for %s\n", h.Name)
	d("d-i", "debian-installer/locale", "string", "en_US.UTF-8")
	d("d-i", "keyboard-configuration/xkb-keymap", "select", "us")
	d("d-i", "netcfg/get_hostname", "string", h.Name)
	if h.Address.IsValid() {
		d("d-i", "netcfg/disable_autoconfig", "boolean", "true")
		d("d-i", "netcfg/get_ipaddress", "string", h.Address.Addr().String())
		d("d-i", "netcfg/get_netmask", "string", mask(h.Address))
		if h.Gateway.IsValid() {
			d("d-i", "netcfg/get_gateway", "string", h.Gateway.String())
		}
		d("d-i", "netcfg/get_nameservers", "string", addresses(h.DNS, " "))
		d("d-i", "netcfg/confirm_static", "boolean", "true")
	}
	if scheme, rest, ok := strings.Cut(h.Mirror, "://"); ok {
		host, dir, _ := strings.Cut(rest, "/")
		d("d-i", "mirror/country", "string", "manual")
		d("d-i", "mirror/protocol", "string", scheme)
		d("d-i", "mirror/"+scheme+"/hostname", "string", host)
		d("d-i", "mirror/"+scheme+"/directory", "string", "/"+dir)
		d("d-i", "mirror/"+scheme+"/proxy", "string", "")
	}
	if h.Suite != "" {
		d("d-i", "mirror/suite", "string", h.Suite)
	}
	d("d-i", "clock-setup/utc", "boolean", "true")
	d("d-i", "time/zone", "string", "Etc/UTC")
	d("d-i", "passwd/root-login", "boolean", "true")
	d("d-i", "passwd/make-user", "boolean", "false")
	d("d-i", "passwd/root-password-crypted", "password", "!")
	var paths []string
	for _, n := range disks {
		paths = append(paths, k.stable(n))
	}
	d("d-i", "partman-auto/disk", "string", strings.Join(paths, " "))
	method := "regular"
	switch {
	case len(k.devices(Raid)) > 0:
		method = "raid"
	case len(k.devices(LVM)) > 0:
		method = "lvm"
		d("d-i", "partman-auto-lvm/new_vg_name", "string", k.devices(LVM)[0].Name)
		d("d-i", "partman-auto-lvm/guided_size", "string", "max")
	}
	d("d-i", "partman-auto/method", "string", method)
	// Minimal size, priority, largest size (decimal megabytes), file system; the same number three times is exactly that.
	var recipe []string
	seen := map[string]bool{}
	for _, p := range k.places {
		if p.owner.Kind == Raid || seen[p.owner.Name+p.Name] {
			continue
		}
		seen[p.owner.Name+p.Name] = true
		mb := p.size / 1000000
		sizes := fmt.Sprintf("%d %d %d", mb, mb, mb)
		if p.Size.Rest {
			sizes = fmt.Sprintf("%d %d -1", max(1, k.least(p)/1000000), 1000000)
		}
		words := []string{sizes}
		switch p.Use {
		case BIOS:
			words = append(words, "free", "$iflabel{ gpt }", "$reusemethod{ }", "method{ biosgrub }")
		case ESP:
			words = append(words, "fat32", "$iflabel{ gpt }", "$reusemethod{ }", "method{ efi }", "format{ }")
		case Swap:
			words = append(words, "linux-swap", "method{ swap }", "format{ }")
		case Member:
			words = append(words, "raid", "$primary{ }", "method{ raid }")
		case PV:
			words = append(words, "lvm", "$primary{ }", "$defaultignore{ }", "method{ lvm }", "vg_name{ "+k.userOf(p).Name+" }")
		case VFAT:
			words = append(words, "fat32", "method{ format }", "format{ }", "use_filesystem{ }", "filesystem{ fat32 }")
		default:
			words = append(words, string(p.Use), "method{ format }", "format{ }", "use_filesystem{ }", "filesystem{ "+string(p.Use)+" }")
		}
		if p.owner.Kind == LVM {
			words = append(words, "$lvmok{ }", "in_vg{ "+p.owner.Name+" }", "lv_name{ "+p.Name+" }")
		}
		if p.Mount != "" && p.Use != ESP {
			words = append(words, "mountpoint{ "+p.Mount+" }")
		}
		if p.Label != "" {
			words = append(words, "label{ "+p.Label+" }")
		}
		for o := range strings.SplitSeq(p.Options, ",") {
			if o != "" {
				words = append(words, "options/"+o+"{ "+o+" }")
			}
		}
		recipe = append(recipe, strings.Join(append(words, "."), " "))
	}
	d("d-i", "partman-auto/expert_recipe", "string", "muster :: "+strings.Join(recipe, " "))
	d("d-i", "partman-auto/choose_recipe", "select", "muster")
	var arrays []string
	for _, dev := range k.devices(Raid) {
		p := k.on(dev)[0]
		var members []string
		for _, m := range k.members(dev) {
			members = append(members, k.stable(m.disk)+"-part"+fmt.Sprint(m.number))
		}
		arrays = append(arrays, fmt.Sprintf("%s %d 0 %s %s %s .", dev.Level, len(members), p.Use, cmp.Or(p.Mount, "-"), strings.Join(members, "#")))
	}
	if len(arrays) > 0 {
		d("d-i", "partman-auto-raid/recipe", "string", strings.Join(arrays, " "))
	}
	for _, key := range []string{
		"partman-partitioning/choose_label string gpt", "partman/default_label string gpt", "partman-lvm/device_remove_lvm boolean true", "partman-md/device_remove_md boolean true", "partman-lvm/confirm boolean true",
		"partman-lvm/confirm_nooverwrite boolean true", "partman-md/confirm boolean true", "partman-md/confirm_nooverwrite boolean true", "partman-partitioning/confirm_write_new_label boolean true",
		"partman/choose_partition select finish", "partman/confirm boolean true", "partman/confirm_nooverwrite boolean true", "partman/mount_style select uuid", "partman-efi/non_efi_system boolean true",
	} {
		b.WriteString("d-i " + key + "\n")
	}
	d("tasksel", "tasksel/first", "multiselect", "standard, ssh-server")
	d("popularity-contest", "popularity-contest/participate", "boolean", "false")
	d("d-i", "grub-installer/bootdev", "string", strings.Join(paths, " "))
	d("d-i", "finish-install/reboot_in_progress", "note", "")
	var late []string
	if len(h.Keys) > 0 {
		late = append(late, "in-target mkdir -p -m 700 /root/.ssh")
		for _, key := range h.Keys {
			late = append(late, "echo '"+key+"' >> /target/root/.ssh/authorized_keys")
		}
	}
	if h.Late != "" {
		late = append(late, "in-target "+h.Late)
	}
	if len(late) > 0 {
		d("d-i", "preseed/late_command", "string", strings.Join(late, "; "))
	}
	return b.String(), nil
}

type object = map[string]any

// marshal writes JSON, which is YAML as well (YAML 1.2 §1.3).
func marshal(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // of maps, slices and strings: it cannot fail
	return b.String()
}

// network is the boot port in version 2 of cloud-init's network configuration, which netplan shares.
func (h Host) network() object {
	port := object{"match": object{"macaddress": h.MAC}}
	if !h.Address.IsValid() {
		port["dhcp4"] = true
	} else {
		port["addresses"] = []string{h.Address.String()}
		if h.Gateway.IsValid() {
			port["routes"] = []object{{"to": "default", "via": h.Gateway.String()}}
		}
		if len(h.DNS) > 0 {
			port["nameservers"] = object{"addresses": strings.Fields(addresses(h.DNS, " "))}
		}
	}
	return object{"version": 2, "ethernets": object{"boot": port}}
}

// autoinstall renders for Ubuntu's Subiquity (its autoinstall reference; storage as curtin's "Storage" page).
func autoinstall(k *maker, h Host) (string, error) {
	var config []object
	add := func(o object) { config = append(config, o) }
	volume := func(p *place) string {
		if p.owner.Kind == Disk {
			return p.disk + "-" + p.Name
		}
		return string(p.owner.Kind) + "-" + p.owner.Name + "-" + p.Name
	}
	var mounts []object
	file := func(p *place) {
		kind := contents[p.Use]
		if p.Use == ESP {
			kind = "fat32"
		}
		if p.Use == Member || p.Use == PV || kind == "" {
			return
		}
		f := object{"type": "format", "id": "format-" + volume(p), "volume": volume(p), "fstype": kind}
		if p.Label != "" {
			f["label"] = p.Label
		}
		if p.kept {
			f["preserve"] = true
		}
		add(f)
		if p.Mount != "" || p.Use == Swap {
			m := object{"type": "mount", "id": "mount-" + volume(p), "device": "format-" + volume(p), "path": p.Mount}
			if p.Options != "" {
				m["options"] = p.Options
			}
			mounts = append(mounts, m)
		}
	}
	for n, d := range k.devices(Disk) {
		for i, c := range k.chosen[d.Name] {
			disk := object{"type": "disk", "id": "disk-" + c.Name, "ptable": "gpt", "path": k.stable(c.Name)}
			kept := d.Keep || slices.ContainsFunc(k.on(d), func(p *place) bool { return p.disk == c.Name && p.kept })
			if disk["preserve"] = kept; !kept {
				disk["wipe"] = "superblock-recursive"
			}
			if !k.m.UEFI && n == 0 && i == 0 {
				disk["grub_device"] = true
			}
			add(disk)
			for _, p := range k.on(d) {
				if p.disk != c.Name {
					continue
				}
				part := object{"type": "partition", "id": volume(p), "device": "disk-" + c.Name, "number": p.number, "size": p.size, "offset": p.start, "partition_name": p.Name, "preserve": p.kept}
				if !p.kept {
					part["wipe"] = "superblock"
				}
				switch p.Use {
				case ESP:
					part["flag"] = "boot"
					part["grub_device"] = k.m.UEFI
				case BIOS:
					part["flag"] = "bios_grub"
				case Swap:
					part["flag"] = "swap"
				}
				add(part)
				file(p)
			}
		}
	}
	for _, d := range k.devices(Raid) {
		p := k.on(d)[0]
		var members []string
		for _, m := range k.members(d) {
			members = append(members, volume(m))
		}
		add(object{"type": "raid", "id": volume(p), "name": d.Name, "raidlevel": "raid" + d.Level, "devices": members, "preserve": p.kept})
		file(p)
	}
	for _, d := range k.devices(LVM) {
		var members []string
		kept := false
		for _, m := range k.members(d) {
			members, kept = append(members, volume(m)), kept || m.kept
		}
		add(object{"type": "lvm_volgroup", "id": "group-" + d.Name, "name": d.Name, "devices": members, "preserve": kept})
		for _, p := range k.on(d) {
			add(object{"type": "lvm_partition", "id": volume(p), "name": p.Name, "volgroup": "group-" + d.Name, "size": fmt.Sprintf("%dB", p.size), "preserve": p.kept})
			file(p)
		}
	}
	slices.SortStableFunc(mounts, func(a, b object) int { return cmp.Compare(a["path"].(string), b["path"].(string)) })
	install := object{
		"version": 1, "locale": "en_US.UTF-8", "keyboard": object{"layout": "us"}, "network": h.network(),
		"ssh":     object{"install-server": true, "allow-pw": false},
		"storage": object{"config": append(config, mounts...)},
		"user-data": object{
			"hostname": h.Name, "disable_root": false, "users": []object{{"name": "root", "lock_passwd": true, "ssh_authorized_keys": h.Keys}},
		},
	}
	if h.Mirror != "" {
		install["apt"] = object{"primary": []object{{"arches": []string{"default"}, "uri": h.Mirror}}}
	}
	if h.Late != "" {
		install["late-commands"] = []string{"curtin in-target -- " + h.Late}
	}
	return "#cloud-config\n" + marshal(object{"autoinstall": install}), nil
}

// cloudInit renders for a system that is on its disk already: the disk of the root is left alone, others are partitioned (cloud-init: disk_setup, fs_setup, mounts).
func cloudInit(k *maker, h Host) (string, error) {
	root, _ := k.l.mounted("/")
	roots := k.l.under(root, nil)
	if err := k.cannot("cloud-init", func(p *place) string {
		switch {
		case k.roots(p.owner): // the system is there already
			return ""
		case p.owner.Kind != Disk || p.Use == Member || p.Use == PV:
			return "make arrays and volume groups"
		}
		return ""
	}); err != nil {
		return "", err
	}
	setup, files, mounts := object{}, []object{}, [][]string{}
	for _, d := range k.devices(Disk) {
		if slices.Contains(roots, d) {
			continue
		}
		for _, c := range k.chosen[d.Name] {
			path := k.stable(c.Name)
			var parts []any
			for _, p := range k.on(d) {
				if p.disk != c.Name {
					continue
				}
				share := max(1, p.size*100/c.Size) // cloud-init knows shares only
				if p.Use == Swap {
					parts = append(parts, []any{share, 82})
				} else {
					parts = append(parts, share)
				}
				kind := contents[p.Use]
				if kind == "" {
					continue
				}
				f := object{"device": path + "-part" + fmt.Sprint(p.number), "partition": "none", "filesystem": kind, "overwrite": !p.Preserve}
				if p.Label != "" {
					f["label"] = p.Label
				}
				files = append(files, f)
				if p.Mount != "" {
					mounts = append(mounts, []string{path + "-part" + fmt.Sprint(p.number), p.Mount, kind, cmp.Or(p.Options, "defaults"), "0", "2"})
				}
			}
			keep := d.Keep || slices.ContainsFunc(d.Volumes, func(v Volume) bool { return v.Preserve })
			setup[path] = object{"table_type": "gpt", "layout": parts, "overwrite": !keep}
		}
	}
	doc := object{"hostname": h.Name, "preserve_hostname": false, "disable_root": false, "users": []object{{"name": "root", "lock_passwd": true, "ssh_authorized_keys": h.Keys}}}
	if len(setup) > 0 {
		doc["disk_setup"], doc["fs_setup"], doc["mounts"] = setup, files, mounts
	}
	if h.Late != "" {
		doc["runcmd"] = []string{h.Late}
	}
	return "#cloud-config\n" + marshal(doc), nil
}

// ignition renders specification 3.3.0 of Ignition (its configuration reference).
func ignition(k *maker, h Host) (string, error) {
	if err := k.cannot("Ignition", func(p *place) string {
		if p.owner.Kind == LVM || p.Use == PV {
			return "make volume groups"
		}
		return ""
	}); err != nil {
		return "", err
	}
	label := func(p *place) string {
		if p.owner.Kind == Raid {
			return "/dev/md/" + p.Name
		}
		if p.owner.Count > 1 {
			return k.stable(p.disk) + "-part" + fmt.Sprint(p.number)
		}
		return "/dev/disk/by-partlabel/" + p.Name
	}
	var disks, arrays, files []object
	for _, d := range k.devices(Disk) {
		for _, c := range k.chosen[d.Name] {
			kept := d.Keep
			var parts []object
			for _, p := range k.on(d) {
				if p.disk != c.Name {
					continue
				}
				kept = kept || p.kept
				part := object{"label": p.Name, "number": p.number, "startMiB": p.start / mib, "sizeMiB": mebibytes(p), "typeGuid": cmp.Or(types[p.Use], typeLinux)}
				if !p.kept {
					part["wipePartitionEntry"] = true
				} else {
					part["typeGuid"] = p.was.Type
				}
				parts = append(parts, part)
			}
			disks = append(disks, object{"device": k.stable(c.Name), "wipeTable": !kept, "partitions": parts})
		}
	}
	for _, d := range k.devices(Raid) {
		var members []string
		for _, m := range k.members(d) {
			members = append(members, label(m))
		}
		arrays = append(arrays, object{"name": d.Name, "level": "raid" + d.Level, "devices": members})
	}
	for _, p := range k.places {
		kind := contents[p.Use]
		if kind == "" || p.Use == Member {
			continue
		}
		f := object{"device": label(p), "format": kind, "wipeFilesystem": !p.kept}
		if p.Mount != "" {
			f["path"] = p.Mount
		}
		if p.Label != "" {
			f["label"] = p.Label
		}
		if p.Options != "" {
			f["mountOptions"] = strings.Split(p.Options, ",")
		}
		files = append(files, f)
	}
	storage := object{"disks": disks, "filesystems": files}
	if len(arrays) > 0 {
		storage["raid"] = arrays
	}
	data := func(s string) object {
		return object{"source": "data:;base64," + base64.StdEncoding.EncodeToString([]byte(s))}
	}
	config := []object{{"path": "/etc/hostname", "mode": 0o644, "overwrite": true, "contents": data(h.Name + "\n")}}
	if h.MAC != "" {
		conn := "[connection]\nid=muster\ntype=ethernet\n\n[ethernet]\nmac-address=" + h.MAC + "\n\n[ipv4]\n"
		if h.Address.IsValid() && h.Address.Addr().Is4() {
			conn += "method=manual\naddress1=" + h.Address.String()
			if h.Gateway.IsValid() {
				conn += "," + h.Gateway.String()
			}
			if len(h.DNS) > 0 {
				conn += "\ndns=" + addresses(h.DNS, ";")
			}
			conn += "\n"
		} else {
			conn += "method=auto\n"
		}
		config = append(config, object{"path": "/etc/NetworkManager/system-connections/muster.nmconnection", "mode": 0o600, "overwrite": true, "contents": data(conn)})
	}
	storage["files"] = config
	return marshal(object{
		"ignition": object{"version": "3.3.0"}, "storage": storage,
		"passwd": object{"users": []object{{"name": "root", "sshAuthorizedKeys": h.Keys}}},
	}), nil
}

// autoyast renders for YaST (AutoYaST guide, "Partitioning", "Network configuration").
func autoyast(k *maker, h Host) (string, error) {
	var b strings.Builder
	depth := 0
	esc := func(s string) string {
		var e strings.Builder
		_ = xml.EscapeText(&e, []byte(s)) // into memory
		return e.String()
	}
	line := func(s string) { b.WriteString(strings.Repeat("  ", depth) + s + "\n") }
	open := func(tag string) { line("<" + tag + ">"); depth++ }
	end := func(tag string) { depth--; line("</" + tag + ">") }
	text := func(tag string, value any) { line(fmt.Sprintf("<%s>%s</%s>", tag, esc(fmt.Sprint(value)), tag)) }
	typed := func(tag, kind string, value any) {
		line(fmt.Sprintf(`<%s config:type="%s">%v</%s>`, tag, kind, value, tag))
	}
	list := func(tag string) { line(fmt.Sprintf(`<%s config:type="list">`, tag)); depth++ }
	line(`<?xml version="1.0"?>`)
	line(`<!DOCTYPE profile>`)
	line(`<profile xmlns="http://www.suse.com/1.0/yast2ns" xmlns:config="http://www.suse.com/1.0/configns">`)
	depth++
	open("general")
	open("mode")
	typed("confirm", "boolean", false)
	end("mode")
	end("general")
	list("partitioning")
	partition := func(p *place) {
		open("partition")
		typed("create", "boolean", !p.kept)
		format := contents[p.Use] != "" && p.Use != Member && p.Use != PV
		if p.owner.Kind == LVM {
			text("lv_name", p.Name)
		} else if p.owner.Kind == Disk {
			typed("partition_nr", "integer", p.number)
		}
		if p.kept {
			typed("resize", "boolean", false)
		} else if p.owner.Kind != Raid {
			size := fmt.Sprint(p.size)
			if p.Size.Rest {
				size = "max"
			}
			text("size", size)
		}
		id := map[Use]int{ESP: 259, BIOS: 263, Swap: 130, Member: 253, PV: 142}[p.Use]
		if p.owner.Kind == Disk {
			typed("partition_id", "integer", cmp.Or(id, 131))
		}
		typed("format", "boolean", format && !p.kept)
		if format {
			typed("filesystem", "symbol", contents[p.Use])
			if p.Mount != "" || p.Use == Swap {
				text("mount", cmp.Or(p.Mount, "swap"))
				typed("mountby", "symbol", "uuid")
			}
		}
		if p.Label != "" {
			text("label", p.Label)
		}
		if p.Options != "" {
			text("fstopt", p.Options)
		}
		if u := k.userOf(p); u != nil && u.Kind == LVM {
			text("lvm_group", u.Name)
		} else if u != nil {
			text("raid_name", "/dev/md/"+u.Name)
		}
		end("partition")
	}
	for _, d := range k.devices(Disk) {
		for _, c := range k.chosen[d.Name] {
			kept := d.Keep || slices.ContainsFunc(k.on(d), func(p *place) bool { return p.disk == c.Name && p.kept })
			open("drive")
			text("device", k.stable(c.Name))
			typed("type", "symbol", "CT_DISK")
			text("disklabel", "gpt")
			typed("initialize", "boolean", !kept)
			if kept {
				var numbers []string
				for _, p := range k.m.Partitions {
					if p.Disk == c.Name && !k.stays(p) {
						numbers = append(numbers, fmt.Sprint(p.Number))
					}
				}
				text("use", cmp.Or(strings.Join(numbers, ","), "free"))
			} else {
				text("use", "all")
			}
			list("partitions")
			for _, p := range k.on(d) {
				if p.disk == c.Name {
					partition(p)
				}
			}
			end("partitions")
			end("drive")
		}
	}
	for _, d := range k.devices(Raid) {
		open("drive")
		text("device", "/dev/md/"+d.Name)
		typed("type", "symbol", "CT_MD")
		text("disklabel", "none")
		text("use", "all")
		list("partitions")
		partition(k.on(d)[0])
		end("partitions")
		open("raid_options")
		text("raid_type", "raid"+d.Level)
		end("raid_options")
		end("drive")
	}
	for _, d := range k.devices(LVM) {
		open("drive")
		text("device", "/dev/"+d.Name)
		typed("type", "symbol", "CT_LVM")
		text("use", "all")
		if slices.ContainsFunc(k.members(d), func(p *place) bool { return p.kept }) {
			typed("keep_unknown_lv", "boolean", true)
		}
		list("partitions")
		for _, p := range k.on(d) {
			partition(p)
		}
		end("partitions")
		end("drive")
	}
	end("partitioning")
	open("networking")
	open("dns")
	text("hostname", h.Name)
	if len(h.DNS) > 0 {
		list("nameservers")
		for _, a := range h.DNS {
			text("nameserver", a)
		}
		end("nameservers")
	}
	end("dns")
	list("interfaces")
	open("interface")
	text("name", "eth0")
	text("startmode", "auto")
	if h.Address.IsValid() {
		text("bootproto", "static")
		text("ipaddr", h.Address.Addr())
		text("prefixlen", h.Address.Bits())
	} else {
		text("bootproto", "dhcp")
	}
	end("interface")
	end("interfaces")
	if h.MAC != "" {
		list("net-udev")
		open("rule")
		text("name", "eth0")
		text("rule", "ATTR{address}")
		text("value", h.MAC)
		end("rule")
		end("net-udev")
	}
	if h.Gateway.IsValid() {
		open("routing")
		list("routes")
		open("route")
		text("destination", "default")
		text("gateway", h.Gateway)
		end("route")
		end("routes")
		end("routing")
	}
	end("networking")
	list("users")
	open("user")
	text("username", "root")
	text("user_password", "!")
	typed("encrypted", "boolean", true)
	list("authorized_keys")
	for _, key := range h.Keys {
		text("listentry", key)
	}
	end("authorized_keys")
	end("user")
	end("users")
	if h.Late != "" {
		open("scripts")
		list("chroot-scripts")
		open("script")
		typed("chrooted", "boolean", true)
		line("<source><![CDATA[" + strings.ReplaceAll(h.Late, "]]>", "]] >") + "]]></source>")
		end("script")
		end("chroot-scripts")
		end("scripts")
	}
	end("profile")
	return b.String(), nil
}
