package layout

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Parse reads a layout. Its error is [Problems]: all of them, in the order of the text.
func Parse(text string) (*Layout, error) {
	p := &parser{names: map[string]*Device{}}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		p.line(i+1, strings.TrimSuffix(line, "\r"))
	}
	p.whole()
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b *Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, p.problems
	}
	l := &Layout{}
	for _, d := range p.devices {
		l.Devices = append(l.Devices, *d)
	}
	return l, nil
}

// word is a word of a line and where it stands. Quotes are taken off.
type word struct {
	text   string
	column int
}

type parser struct {
	problems Problems
	devices  []*Device
	names    map[string]*Device
	skip     bool // the device line was wrong: what is below it cannot be judged
	at       int  // line
}

func (p *parser) wrong(line, column int, do, format string, args ...any) {
	p.problems = append(p.problems, &Problem{Line: line, Column: column, What: fmt.Sprintf(format, args...), Do: do})
}

func (p *parser) line(n int, text string) {
	p.at = n
	words := p.words(text)
	if len(words) == 0 {
		return
	}
	if words[0].column > 1 {
		switch {
		case p.skip:
		case len(p.devices) == 0:
			p.wrong(n, words[0].column, "Begin with a line such as: disk system: local", "an indented line, and no device above it")
		default:
			p.volume(p.devices[len(p.devices)-1], words)
		}
		return
	}
	before := len(p.problems)
	d := p.device(words)
	p.skip = d == nil
	if d != nil && (len(p.problems) == before || p.names[d.Name] == nil) {
		p.devices = append(p.devices, d)
		p.names[d.Name] = d
	}
}

// words splits a line at blanks outside of double quotes; # begins a comment where a word would.
func (p *parser) words(text string) []word {
	var out []word
	var w strings.Builder
	begin, quoted := -1, false
	end := func() {
		if begin >= 0 {
			out = append(out, word{w.String(), begin + 1})
		}
		w.Reset()
		begin = -1
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			quoted = !quoted
			if begin < 0 {
				begin = i
			}
		case !quoted && (c == ' ' || c == '\t'):
			end()
		case !quoted && c == '#' && begin < 0:
			return out
		case c < ' ' && c != '\t' || c > '~':
			p.wrong(p.at, i+1, "Use printable ASCII", "octet 0x%02x", c)
			return nil
		default:
			if begin < 0 {
				begin = i
			}
			w.WriteByte(c)
		}
	}
	if quoted {
		p.wrong(p.at, begin+1, "", "a quote is not closed")
	}
	end()
	return out
}

func (p *parser) device(words []word) *Device {
	d := &Device{Line: p.at, Count: 1}
	first := words[0]
	switch first.text {
	case "disk", "disks":
		d.Kind = Disk
	case "raid":
		d.Kind = Raid
	case "lvm":
		d.Kind = LVM
	default:
		p.wrong(p.at, first.column, "A device is one of disk, disks, raid, lvm; what is on one is indented", "%q is no device", first.text)
		return nil
	}
	if len(words) < 2 || !strings.HasSuffix(words[1].text, ":") {
		p.wrong(p.at, first.column+len(first.text), "Write: "+first.text+" NAME: …", "the name of the device and a colon are missing")
		return nil
	}
	d.Name = strings.TrimSuffix(words[1].text, ":")
	if !p.name(d.Name, words[1].column) {
		return nil
	}
	if old := p.names[d.Name]; old != nil {
		p.wrong(p.at, words[1].column, "Give each device a name of its own", "%s is the name of the device of line %d", d.Name, old.Line)
	}
	rest := words[2:]
	end := words[len(words)-1]
	after := end.column + len(end.text)
	switch d.Kind {
	case Disk:
		if first.text == "disks" {
			n := 0
			if len(rest) > 0 {
				n, _ = strconv.Atoi(rest[0].text)
			}
			if n < 2 || n > 64 {
				p.wrong(p.at, words[1].column+len(words[1].text), "Write: disks "+d.Name+": 2 …", "how many disks, from 2 to 64, is missing")
				return d
			}
			d.Count, rest = n, rest[1:]
		}
		for _, w := range rest {
			if w.text == "preserve" {
				d.Keep = true
			} else if t, ok := p.term(w); ok {
				d.Select = append(d.Select, t)
			}
		}
		if len(d.Select) == 0 && !slices.ContainsFunc(p.problems, func(x *Problem) bool { return x.Line == p.at }) {
			p.wrong(p.at, after, "Say which: local, usb, largest, size>=100G, model=…, serial=…, wwn=…, path=…, bus=…", "no disk is selected")
		}
	case Raid:
		if len(rest) == 0 || !slices.Contains([]string{"0", "1", "4", "5", "6", "10"}, rest[0].text) {
			p.wrong(p.at, words[1].column+len(words[1].text), "Write: raid "+d.Name+": 1 DISK.PARTITION …", "the level, one of 0, 1, 4, 5, 6, 10, is missing")
			return d
		}
		d.Level, rest = rest[0].text, rest[1:]
		fallthrough
	case LVM:
		for _, w := range rest {
			p.member(d, w)
		}
		if len(rest) == 0 {
			p.wrong(p.at, after, "Name partitions as DISK.PARTITION, and arrays by their name", "%s has no members", d.Name)
		}
	}
	return d
}

// name checks a name: it becomes a label of GPT (36 characters), of an array or of LVM.
func (p *parser) name(s string, column int) bool {
	ok := s != "" && len(s) <= 32 && s[0] != '-'
	for i := range len(s) {
		c := s[i]
		ok = ok && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_')
	}
	if !ok {
		p.wrong(p.at, column, "Use letters, digits, - and _, at most 32", "%q cannot be a name", s)
	}
	return ok
}

var words = []string{"local", "usb", "smallest", "largest"}

// term reads one condition of a selector.
func (p *parser) term(w word) (Term, bool) {
	if slices.Contains(words, w.text) {
		return Term{Key: w.text}, true
	}
	i := strings.IndexAny(w.text, "=<>")
	if i < 0 {
		p.wrong(p.at, w.column, "There are "+strings.Join(words, ", ")+", preserve, and size, model, serial, wwn, path, bus with =", "%q selects nothing", w.text)
		return Term{}, false
	}
	t := Term{Key: w.text[:i]}
	t.Op, t.Value = w.text[i:i+1], w.text[i+1:]
	if strings.HasPrefix(t.Value, "=") && t.Op != "=" {
		t.Op, t.Value = t.Op+"=", t.Value[1:]
	}
	switch {
	case !slices.Contains([]string{"size", "model", "serial", "wwn", "path", "bus"}, t.Key):
		p.wrong(p.at, w.column, "There are size, model, serial, wwn, path, bus", "a disk has no %q", t.Key)
	case t.Value == "":
		p.wrong(p.at, w.column+i, "", "%s has no value", t.Key)
	case t.Key == "size":
		low, high, isRange := strings.Cut(t.Value, "..")
		if _, err := parseBytes(low); err != nil {
			p.wrong(p.at, w.column+i+len(t.Op), sizeForm, "%s", err)
			return t, false
		}
		if !isRange {
			return t, true
		}
		if _, err := parseBytes(high); err != nil || t.Op != "=" {
			p.wrong(p.at, w.column+i+len(t.Op), "Write: size=400G..500G", "%s is no range of sizes", t.Value)
			return t, false
		}
		return t, true
	case t.Op != "=":
		p.wrong(p.at, w.column+i, "Write "+t.Key+"=…", "only size can be compared with %s", t.Op)
	case t.Key == "bus" && !slices.Contains(Buses, t.Value):
		p.wrong(p.at, w.column+i+1, "There are "+strings.Join(Buses, ", "), "there is no bus %q", t.Value)
	default:
		if _, err := path.Match(t.Value, ""); err != nil {
			p.wrong(p.at, w.column+i+1, "* and ? stand for any characters, [abc] for one of them", "%q is no pattern", t.Value)
			return t, false
		}
		return t, true
	}
	return t, false
}

// Buses are the ways by which a disk is attached.
var Buses = []string{"sata", "sas", "scsi", "nvme", "virtio", "usb", "mmc", "xen", "other"}

const sizeForm = "Write 512M, 40G, 480GB, 2T; in a device also 30% or rest"

// parseBytes reads a number of bytes: 1024 to the power of K M G T P (KiB … too), 1000 with KB MB GB TB PB.
func parseBytes(s string) (int64, error) {
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	unit, power := s[i:], 0
	base := int64(1024)
	if err == nil && unit != "" {
		power = 1 + strings.IndexByte("KMGTP", unit[0])
		switch unit[1:] {
		case "", "iB":
		case "B":
			base = 1000
		default:
			power = 0
		}
		if power == 0 {
			return 0, fmt.Errorf("%q is no size", s)
		}
	}
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no size", s)
	}
	for range power {
		if n > 1<<60/base {
			return 0, fmt.Errorf("%q is larger than any disk", s)
		}
		n *= base
	}
	return n, nil
}

func parseSize(s string) (Size, error) {
	if s == "rest" {
		return Size{Rest: true}, nil
	}
	if share, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.Atoi(share)
		if err != nil || n < 1 || n > 100 {
			return Size{}, fmt.Errorf("%q is no share from 1%% to 100%%", s)
		}
		return Size{Percent: n}, nil
	}
	n, err := parseBytes(s)
	return Size{Bytes: n}, err
}

// member names a partition or an array that stands above.
func (p *parser) member(d *Device, w word) {
	owner, part, dotted := strings.Cut(w.text, ".")
	o := p.names[owner]
	want := PV
	if d.Kind == Raid {
		want = Member
	}
	switch {
	case o == nil || o.Kind == LVM:
		p.wrong(p.at, w.column, "Name what stands above: DISK.PARTITION, or an array", "there is no disk or array %s above this line", owner)
		return
	case o.Kind == Disk && !dotted:
		p.wrong(p.at, w.column, "Write "+owner+".PARTITION", "%s is a disk, and a partition of it is wanted", owner)
		return
	case o.Kind == Raid && (dotted || len(o.Volumes) == 0):
		p.wrong(p.at, w.column, "Below raid "+owner+" write: "+string(want), "%s is not for %s", w.text, d.Kind)
		return
	}
	if !dotted {
		part = owner
	}
	i := slices.IndexFunc(o.Volumes, func(v Volume) bool { return v.Name == part })
	switch {
	case i < 0:
		p.wrong(p.at, w.column, "", "%s has no partition %s", owner, part)
	case o.Volumes[i].Use != want:
		p.wrong(p.at, w.column, "Give it the use "+string(want), "%s is for %s", w.text, o.Volumes[i].Use)
	case p.member1(w.text) != nil:
		p.wrong(p.at, w.column, "", "%s is a member of %s already", w.text, p.member1(w.text).Name)
	case slices.Contains(d.Members, w.text):
		p.wrong(p.at, w.column, "", "%s is named twice", w.text)
	default:
		d.Members = append(d.Members, w.text)
	}
}

// member1 is the device that has a member already.
func (p *parser) member1(name string) *Device {
	for _, d := range p.devices {
		if slices.Contains(d.Members, name) {
			return d
		}
	}
	return nil
}

func (p *parser) volume(d *Device, words []word) {
	v := Volume{Line: p.at}
	rest := words
	if d.Kind == Raid {
		v.Name, v.Size = d.Name, Size{Rest: true}
		if len(d.Volumes) > 0 {
			p.wrong(p.at, words[0].column, "Put it into lvm, to divide it", "array %s has a use already", d.Name)
			return
		}
	} else {
		if len(words) < 3 {
			last := words[len(words)-1]
			p.wrong(p.at, last.column+len(last.text), "Write: NAME SIZE USE [MOUNT POINT] [OPTIONS]", "name, size and use are wanted")
			return
		}
		v.Name = words[0].text
		p.name(v.Name, words[0].column)
		if i := slices.IndexFunc(d.Volumes, func(o Volume) bool { return o.Name == v.Name }); i >= 0 {
			p.wrong(p.at, words[0].column, "", "%s has %s in line %d already", d.Name, v.Name, d.Volumes[i].Line)
		}
		var err error
		if v.Size, err = parseSize(words[1].text); err != nil {
			p.wrong(p.at, words[1].column, sizeForm, "%s", err)
		}
		rest = words[2:]
	}
	v.Use = Use(rest[0].text)
	if !slices.Contains(uses, v.Use) {
		p.wrong(p.at, rest[0].column, "There are "+join(uses), "there is no use %q", rest[0].text)
		return
	}
	if d.Kind != Disk && (v.Use == ESP || v.Use == BIOS || v.Use == Member) {
		p.wrong(p.at, rest[0].column, "Put it on a disk", "%s cannot lie on %s", v.Use, d.Kind)
	}
	for _, w := range rest[1:] {
		p.option(&v, w)
	}
	if v.Use == ESP && v.Mount == "" {
		v.Mount = "/boot/efi"
	}
	mounted := slices.Contains([]Use{EXT4, XFS, VFAT, ESP}, v.Use)
	switch {
	case v.Mount != "" && !mounted:
		p.wrong(p.at, rest[0].column, "", "%s has no mount point", v.Use)
	case v.Mount == "/" && v.Use != EXT4 && v.Use != XFS:
		p.wrong(p.at, rest[0].column, "Take ext4 or xfs", "the root cannot be %s", v.Use)
	case v.Mount == "/" && v.Preserve:
		p.wrong(p.at, rest[0].column, "Preserve what lies beside it, on a volume of its own", "the root is what is installed: it cannot be preserved")
	case d.Count > 1 && mounted && v.Use != ESP:
		p.wrong(p.at, rest[0].column, "Make an array of them: raid", "%s is there %d times and cannot be mounted as one", v.Name, d.Count)
	case (v.Label != "" || v.Options != "") && !mounted && v.Use != Swap:
		p.wrong(p.at, rest[0].column, "", "%s takes neither label nor options", v.Use)
	}
	d.Volumes = append(d.Volumes, v)
}

func (p *parser) option(v *Volume, w word) {
	key, value, _ := strings.Cut(w.text, "=")
	switch {
	case strings.HasPrefix(w.text, "/"):
		if path.Clean(w.text) != w.text || strings.ContainsAny(w.text, " \t\"'#\\") {
			p.wrong(p.at, w.column, "", "%q is no plain path", w.text)
		} else if v.Mount != "" {
			p.wrong(p.at, w.column, "", "a second mount point")
		}
		v.Mount = w.text
	case w.text == "preserve":
		v.Preserve = true
	case w.text == "format": // what happens anyway, said
		if v.Preserve {
			p.wrong(p.at, w.column, "", "preserve and format at once")
		}
	case key == "label" && value != "":
		most := map[Use]int{EXT4: 16, XFS: 12, VFAT: 11, ESP: 11, Swap: 15}[v.Use]
		if len(value) > most || strings.ContainsFunc(value, func(r rune) bool { return !strings.ContainsRune(labelRunes, r) }) {
			p.wrong(p.at, w.column, fmt.Sprintf("Use letters, digits, . _ -, at most %d on %s", most, v.Use), "%q cannot be a label", value)
		}
		v.Label = value
	case key == "options" && value != "":
		if strings.ContainsAny(value, " \t\"'#\\") {
			p.wrong(p.at, w.column, "Write options=noatime,nodev", "%q are no mount options", value)
		}
		v.Options = value
	default:
		p.wrong(p.at, w.column, "There are preserve, format, label=…, options=…, and a mount point that begins with /", "there is no option %q", w.text)
	}
}

const labelRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

func join[S ~string](list []S) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

// whole checks what only the whole tells: one root, each mount point once, no member that nobody uses, shares that fit.
func (p *parser) whole() {
	mounts := map[string]int{}
	for _, d := range p.devices {
		rest, percent := 0, 0
		for _, v := range d.Volumes {
			if v.Size.Rest {
				if rest++; rest == 2 {
					p.wrong(v.Line, 1, "Give the others a size", "%s has two volumes of the rest", d.Name)
				}
			}
			percent += v.Size.Percent
			if v.Mount != "" {
				if line := mounts[v.Mount]; line > 0 {
					p.wrong(v.Line, 1, "", "%s is mounted by line %d already", v.Mount, line)
				}
				mounts[v.Mount] = v.Line
			}
			name := d.Name + "." + v.Name
			if d.Kind == Raid {
				name = d.Name
			}
			if (v.Use == Member || v.Use == PV) && p.member1(name) == nil {
				p.wrong(v.Line, 1, "Add "+name+" to one, or take it away", "no %s has the member %s", v.Use, name)
			}
		}
		if percent > 100 {
			p.wrong(d.Line, 1, "", "the shares of %s are %d%% in all", d.Name, percent)
		}
		if d.Kind == Raid {
			n := 0
			for _, m := range d.Members {
				owner, _, _ := strings.Cut(m, ".")
				n += p.names[owner].Count
			}
			if least := map[string]int{"0": 2, "1": 2, "4": 3, "5": 3, "6": 4, "10": 2}[d.Level]; n < least && len(d.Members) > 0 {
				p.wrong(d.Line, 1, "", "an array of level %s wants %d members and has %d", d.Level, least, n)
			}
			if len(d.Volumes) == 0 {
				p.wrong(d.Line, 1, "Below it write its use, such as: ext4 /", "array %s is for nothing", d.Name)
			}
		}
	}
	if mounts["/"] == 0 && len(p.problems) == 0 {
		p.wrong(1, 1, "Give one volume the mount point /", "nothing is the root")
	}
}
