package model

import (
	"regexp"
	"slices"
	"strings"

	"muster/internal/model/noderange"
)

// Type is the kind of value that an attribute takes.
type Type string

// The types of attribute values. What each takes, and its canonical form, is in value.go.
const (
	String    Type = "string"
	Integer   Type = "integer"
	Boolean   Type = "boolean"
	Address   Type = "address"
	Prefix    Type = "prefix"
	MAC       Type = "MAC"
	Duration  Type = "duration"
	List      Type = "list"
	Choice    Type = "choice"
	NodeRange Type = "noderange"
	SecretOf  Type = "secret"
	NetworkOf Type = "network"            // the name of a Network
	ConsoleAt Type = "console source"     // see ConsoleSource
	Regexp    Type = "regular expression" // RE2
	Pin       Type = "pin"                // the SHA-256 of a certificate, or "any"
	LayoutOf  Type = "disk layout"        // see package layout
	FileName  Type = "file"               // the name of a file in a directory of the service's: never a path
)

// Attr documents one attribute: its name, what it takes, and what it is for. In the name of a family,
// "net.<name>.mac", the part in angle brackets stands for any one word.
type Attr struct {
	Name     AttrName
	Type     Type
	Unit     string   // of an integer: "baud", "boots"
	Default  string   // effective value where nothing is set; "" for none
	Choices  []string // of a choice
	Min, Max int64    // of an integer; both 0 for no limits
	Of       Type     // of a list: the type of its elements
	Sep      string   // of a list: what stands between two elements
	Inherits bool     // groups may set it for their members
	Secret   bool     // stored sealed, never shown
	Help     string   // one line
	Example  string   // a value as people write it, which may be an expression; "" where Choices or the type say enough

	// common is what a network says of its ports; nil for what is the port's own. It counts where nothing else sets the attribute.
	common func(*Network) string
}

// Schema returns every attribute in natural order, families with their placeholder, "custom.<name>" included.
func Schema() []Attr {
	a := attributes()
	slices.SortFunc(a, func(x, y Attr) int { return Natural(string(x.Name), string(y.Name)) })
	return a
}

func attributes() []Attr {
	const maxPort = 65535
	return []Attr{
		{Name: "bmc.address", Type: Address, Inherits: true, Example: "10.78.1.{n0}", Help: "address of the management controller"},
		{Name: "bmc.port", Type: Integer, Min: 1, Max: maxPort, Inherits: true, Example: "623", Help: "port of the management controller; not set is that of its protocol: 623 for IPMI, 443 for Redfish"},
		{Name: "bmc.user", Type: String, Inherits: true, Example: "admin", Help: "user to log in to the management controller as"},
		{Name: "bmc.password", Type: SecretOf, Secret: true, Inherits: true, Help: "password of bmc.user"},
		{Name: "bmc.driver", Type: Choice, Default: "ipmi", Choices: []string{"ipmi", "redfish", "exec", "wol", "null"}, Inherits: true, Help: "how to talk to the management controller; exec: by the program bmc.plugin; wol: only switches on, by a packet to net.boot.mac; null: there is none"},
		{Name: "bmc.cipher", Type: Choice, Default: "17", Choices: []string{"3", "17"}, Inherits: true, Help: "IPMI cipher suite: 17 is SHA-256, 3 is SHA-1 for old controllers"},
		{Name: "bmc.pin", Type: List, Of: Pin, Sep: ",", Inherits: true, Example: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Help: "certificates that a Redfish controller may show, by SHA-256; any takes each; not set: the system's authorities verify it"},
		{Name: "bmc.system", Type: String, Inherits: true, Example: "Self", Help: "Id of the Redfish system, where a controller has several"},
		{Name: "bmc.plugin", Type: FileName, Inherits: true, Example: "pdu.sh", Help: "program of bmc.driver=exec, by its name in the directory plugins of the service's data"},

		{Name: "power.after", Type: NodeRange, Inherits: true, Example: "storage", Help: "nodes that have to be on before power switches this one on, and that are switched off only after it"},
		{Name: "power.delay", Type: Duration, Inherits: true, Example: "90s", Help: "time between the last of power.after being on and this one being switched on"},

		{Name: "net.<name>.mac", Type: MAC, Inherits: true, Example: "52:54:00:77:00:01", Help: "hardware address of the port; net.boot is the port that boots"},
		{Name: "net.<name>.address", Type: Address, Inherits: true, Example: "10.77.1.{n0}", Help: "IP address of the port"},
		{Name: "net.<name>.network", Type: NetworkOf, Inherits: true, Example: "compute", Help: "network that the port is in: gives prefix, gateway, dns, domain, mtu and vlan where these are not set"},
		{Name: "net.<name>.prefix", Type: Integer, Max: 128, Unit: "bits", Inherits: true, common: (*Network).bits, Example: "16", Help: "length of the network prefix"},
		{Name: "net.<name>.gateway", Type: Address, Inherits: true, common: func(n *Network) string { return n.Gateway }, Example: "10.77.0.1", Help: "default router"},
		{Name: "net.<name>.dns", Type: List, Of: Address, Sep: ",", Inherits: true, common: func(n *Network) string { return strings.Join(n.DNS, ",") }, Example: "10.77.0.2,10.77.0.3", Help: "name servers"},
		{Name: "net.<name>.domain", Type: String, Inherits: true, common: func(n *Network) string { return n.Domain }, Example: "hpc.example.org", Help: "DNS domain of the port"},
		{Name: "net.<name>.mtu", Type: Integer, Min: minMTU, Max: maxMTU, Unit: "octets", Inherits: true, common: func(n *Network) string { return number(n.MTU) }, Example: "9000", Help: "largest packet"},
		{Name: "net.<name>.vlan", Type: Integer, Min: 1, Max: maxVLAN, Inherits: true, common: func(n *Network) string { return number(n.VLAN) }, Example: "7", Help: "VLAN of the port's traffic; not set is untagged"},
		{Name: "net.<name>.mode", Type: Choice, Default: ModeFull, Choices: BootModes, Inherits: true, common: func(n *Network) string { return n.Mode }, Help: "how its requests to boot are answered: observe: never, what would have been answered is recorded; proxy: with what to boot, the address is another DHCP server's; full: with both"},

		{Name: "disk.layout", Type: LayoutOf, Inherits: true, Example: "disk system: local\n  root rest ext4 /", Help: "what deploy --disk makes of the disks; not set: the one local disk, all of it the root"},
		{Name: "disk.<name>.device", Type: String, Inherits: true, Example: "/dev/nvme0n1", Help: "block device, as the running system names it"},
		{Name: "disk.<name>.wwn", Type: String, Inherits: true, Example: "0x5000c500a1b2c3d4", Help: "world wide name: the disk itself, wherever it is plugged in"},
		{Name: "disk.<name>.size", Type: Integer, Min: 1, Max: 1 << 62, Unit: "bytes", Inherits: true, Example: "480103981056", Help: "size of the disk"},

		{Name: "console.source", Type: ConsoleAt, Default: "bmc", Inherits: true, Example: "tcp:ts1.example.org:70{n0:02d}", Help: "where the console comes from: bmc, unix:/path, tcp:host:port or telnet:host:port"},
		{Name: "console.alarms", Type: List, Of: Regexp, Sep: "|", Default: defaultAlarms, Inherits: true, Example: "+ ib0: link down|Out of memory", Help: "what in a line of the console raises an event, as regular expressions; + adds to the default, none is nothing"},
		{Name: "console.device", Type: String, Default: "ttyS0", Inherits: true, Example: "ttyS1", Help: "serial port that carries the console, as the kernel names it"},
		{Name: "console.speed", Type: Choice, Default: "115200", Choices: []string{"9600", "19200", "38400", "57600", "115200"}, Unit: "baud", Inherits: true, Help: "speed of the console"},
		{Name: "console.record", Type: Boolean, Default: "true", Inherits: true, Help: "keep the console connected and recorded"},

		{Name: "image.kernelargs", Type: List, Of: String, Sep: " ", Inherits: true, Example: "+ nosmt", Help: "kernel arguments besides those that muster gives"},
		{Name: "boot.loader", Type: Choice, Default: "ipxe", Choices: []string{"ipxe", "shim"}, Inherits: true, Help: "what UEFI firmware loads: ipxe; shim: the shim and GRUB that Debian has had signed, for Secure Boot"},
		{Name: "boot.count", Type: Integer, Default: "3", Min: 1, Max: 100, Unit: "boots", Inherits: true, Example: "5", Help: "network boots that a deployment may use before the node is held"},

		{Name: "jobs", Type: List, Of: String, Sep: ",", Inherits: true, Example: "+ base,slurm", Help: "jobs that run on the node after each start, in this order; + adds to what is inherited"},
		{Name: "deploy.limit.armed", Type: Duration, Default: "15m", Inherits: true, Example: "30m", Help: "time that a machine which is restarted for a deployment may take to ask for its boot script; 0s is any"},
		{Name: "deploy.limit.booting", Type: Duration, Default: "10m", Inherits: true, Example: "30m", Help: "time between the boot script and the enrolment; 0s is any"},
		{Name: "deploy.limit.enrolled", Type: Duration, Default: "5m", Inherits: true, Example: "10m", Help: "time between the enrolment and the first byte of the image; 0s is any"},
		{Name: "deploy.limit.fetching", Type: Duration, Default: "1h", Inherits: true, Example: "2h", Help: "time that fetching the image may take; 0s is any"},
		{Name: "deploy.limit.starting", Type: Duration, Default: "10m", Inherits: true, Example: "20m", Help: "time between switching to the image and the first report of its agent; 0s is any"},
		{Name: "deploy.limit.writing", Type: Duration, Default: "2h", Inherits: true, Example: "4h", Help: "time that writing the disks and starting from them may take; 0s is any"},
		{Name: "deploy.limit.jobs", Type: Duration, Default: "2h", Inherits: true, Example: "6h", Help: "time that the jobs after a deployment may take together; 0s is any"},

		{Name: "ssh.user", Type: String, Default: "root", Inherits: true, Example: "root", Help: "user that run and copy log in as"},
		{Name: "ssh.port", Type: Integer, Default: "22", Min: 1, Max: maxPort, Inherits: true, Example: "22", Help: "TCP port of sshd"},

		{Name: "location.site", Type: String, Inherits: true, Example: "north", Help: "where: site or building"},
		{Name: "location.room", Type: String, Inherits: true, Example: "a12", Help: "where: room"},
		{Name: "location.rack", Type: String, Inherits: true, Example: "r{n1}", Help: "where: rack"},
		{Name: "location.unit", Type: Integer, Min: 1, Max: 100, Inherits: true, Example: "{n0}", Help: "where: lowest height unit in the rack"},
		{Name: "node.comment", Type: String, Example: "waits for a new fan", Help: "a note about this very node"},
		{Name: "custom.<name>", Type: String, Inherits: true, Example: "{rack}-{n0:02d}", Help: "anything of your own"},
	}
}

// defaultAlarms is what machines say that need somebody: kernels (Linux: kernel/panic.c, hung_task.c, watchdog.c, mm/oom_kill.c, mce), file systems, and boot
// programs that wait for a person.
const defaultAlarms = `Kernel panic|Machine check|Hardware Error.*([Ff]atal|[Uu]ncorrect)|Oops: |BUG: |hard LOCKUP|blocked for more than [0-9]+ seconds|` +
	`Out of memory: Kill|Remounting filesystem read-only|grub rescue>|Entering emergency mode|Give root password for maintenance`

// catalogue finds an attribute by name in a few nanoseconds: families by what stands before and after the free word.
type catalogue struct {
	all    []Attr
	exact  map[AttrName]*Attr
	family map[string]map[string]*Attr // "net." → ".mac" → attribute
	short  map[string][]*Attr          // by the last word of their names
	common []*Attr                     // those that a network may give, by the ends of their names
}

// known is the schema, indexed; it is never changed.
var known = index(Schema())

func index(all []Attr) catalogue {
	c := catalogue{all: all, exact: map[AttrName]*Attr{}, family: map[string]map[string]*Attr{}, short: map[string][]*Attr{}}
	for i := range all {
		a := &all[i]
		if last := string(a.Name[strings.LastIndexByte(string(a.Name), '.')+1:]); last != "<name>" {
			c.short[last] = append(c.short[last], a)
		}
		before, rest, ok := strings.Cut(string(a.Name), "<name>")
		if !ok {
			c.exact[a.Name] = a
			continue
		}
		if c.family[before] == nil {
			c.family[before] = map[string]*Attr{}
		}
		c.family[before][rest] = a
		if a.common != nil {
			c.common = append(c.common, a)
		}
	}
	return c
}

// Lookup returns the documentation of an attribute; for a member of a family that of the family.
func Lookup(name AttrName) (*Attr, bool) {
	if a, ok := known.exact[name]; ok {
		return a, true
	}
	s := string(name)
	dot := strings.IndexByte(s, '.')
	if dot < 0 {
		return nil, false
	}
	leaves := known.family[s[:dot+1]]
	if leaves == nil {
		return nil, false
	}
	rest := s[dot+1:]
	if a := leaves[""]; a != nil { // custom.<name>: the name may have dots of its own
		for part := range strings.SplitSeq(rest, ".") {
			if !plainWord(part) {
				return nil, false
			}
		}
		return a, true
	}
	end := strings.IndexByte(rest, '.')
	if end < 0 || !plainWord(rest[:end]) {
		return nil, false
	}
	a, ok := leaves[rest[end:]]
	return a, ok
}

// Short returns the one attribute that ends in a word: {rack} of an expression is location.rack. Without one the problem names those
// that it may be; nil, nil when nothing ends in the word.
func Short(word string) (*Attr, *Problem) {
	all := known.short[word]
	switch {
	case len(all) == 0:
		return nil, nil
	case len(all) == 1 && !strings.Contains(string(all[0].Name), "<name>"):
		return all[0], nil
	}
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = string(a.Name)
	}
	return nil, &Problem{What: word + " may be " + strings.Join(names, " or "), Do: "Write the whole name"}
}

// Section is what the attribute is about, as a heading for it and those beside it.
func (a *Attr) Section() string {
	first, _, _ := strings.Cut(string(a.Name), ".")
	switch first {
	case "bmc":
		return "management controller"
	case "power":
		return "power"
	case "net":
		return "network ports"
	case "disk":
		return "disks"
	case "console":
		return "console"
	case "image", "boot":
		return "images and booting"
	case "ssh":
		return "reaching the running system"
	case "location":
		return "location"
	}
	return "notes and your own"
}

// Pattern is a regular expression (ECMA-262 and RE2 alike) that the canonical form of every value matches which is no expression; "" when
// there is none that says more than the type. A list's is that of its elements.
func (a *Attr) Pattern() string {
	t := a.Type
	if t == List {
		t = a.Of
	}
	switch t {
	case Integer:
		return `^-?[0-9]+$`
	case Boolean:
		return `^(true|false)$`
	case Address:
		return `^[0-9a-f:.]+(%.+)?$`
	case Prefix:
		return `^[0-9a-f:.]+/[0-9]+$`
	case MAC:
		return `^[0-9a-f]{2}(:[0-9a-f]{2}){5,19}$`
	case Duration:
		return `^[-+]?(0|([0-9.]+(ns|us|µs|μs|ms|s|m|h))+)$`
	case NetworkOf:
		return `^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`
	case Pin:
		return `^(any|sha256:[0-9a-f]{64})$`
	case FileName:
		return `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`
	case Choice:
		quoted := make([]string, len(a.Choices))
		for i, c := range a.Choices {
			quoted[i] = regexp.QuoteMeta(c)
		}
		return `^(` + strings.Join(quoted, "|") + `)$`
	}
	return ""
}

// plainWord says that a part of an attribute name is made of letters, digits, - and _.
func plainWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// Suggest returns the attribute name most like the given one, "" when none is near.
func Suggest(name AttrName) AttrName {
	s := string(name)
	for i := range known.all { // {rack} means location.rack: people leave the first word out
		n := known.all[i].Name
		if _, last, ok := strings.Cut(string(n), "."); ok && last == s {
			return n
		}
	}
	words := strings.Split(s, ".")
	return AttrName(noderange.Nearest(s, func(yield func(string) bool) {
		for i := range known.all {
			n := string(known.all[i].Name)
			if strings.HasPrefix(n, "custom.") {
				continue
			}
			if strings.Contains(n, "<name>") {
				if len(words) != 3 || !plainWord(words[1]) {
					continue
				}
				n = strings.Replace(n, "<name>", words[1], 1)
			}
			if !yield(n) {
				return
			}
		}
	}))
}

// unknownAttr says what is wrong with a name that Lookup does not know. A value that was written as part of the name of a secret is not told.
func unknownAttr(a AttrName) *Problem {
	name, _, assigned := strings.Cut(string(a), "=")
	for i := range known.all {
		if d := &known.all[i]; d.Secret && strings.HasPrefix(name, string(d.Name)+".") {
			return &Problem{Attr: d.Name, What: string(d.Name) + " has no parts", Why: "it is one secret"}
		}
	}
	if assigned {
		return &Problem{Attr: AttrName(name), What: "an attribute is named, and a value is given", Do: "Leave out the = and what follows it"}
	}
	p := &Problem{Attr: a, What: "no attribute " + quoted(string(a))}
	if near := Suggest(a); near != "" {
		p.Do = "Did you mean " + string(near) + "?"
	} else {
		p.Do = "muster attributes lists all; your own are named custom.…"
	}
	return p
}
