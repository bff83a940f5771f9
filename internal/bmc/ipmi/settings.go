package ipmi

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// Settings of a controller, by the names that Settings and Set use:
//
//	lan.address  lan.netmask  lan.gateway   IPv4 addresses
//	lan.source                              static, dhcp, bios, other
//	lan.vlan                                off, or 1 to 4094
//	lan.mac                                 cannot be set
//	user.N.name                             at most 16 octets
//	user.N.password                         at most 20; secret, never read
//	user.N.enable                           true, false
//	user.N.privilege                        callback, user, operator, administrator, oem, none
//	sol.enable  sol.encrypt                 true, false
//	sol.privilege                           as above
//	sol.rate                                9600 to 115200 bit/s, or serial: that of the serial channel
//	sol.retries                             0 to 7
//	sol.interval                            ms between them, 0 to 2550
//	watchdog.use  watchdog.action           sms-os, … ; none, reset, off, cycle
//	watchdog.seconds                        0 to 6553
//	watchdog.running                        true starts it, false stops it

// lanValue is one parameter of the LAN configuration as text.
type lanValue struct {
	parameter wire.LANParameter
	size      int
	text      func(b []byte) string
	parse     func(s string) ([]byte, error) // nil: it cannot be set
}

var lanValues = map[string]lanValue{
	"lan.address": {wire.LANAddress, 4, addressText, parseAddress},
	"lan.netmask": {wire.LANNetmask, 4, addressText, parseNetmask},
	"lan.gateway": {wire.LANGateway, 4, addressText, parseAddress},
	"lan.source": {wire.LANSource, 1, func(b []byte) string { return nth(wire.LANSources[:], b[0]&0x0f) }, func(s string) ([]byte, error) {
		return choice(wire.LANSources[1:], s, 1)
	}},
	"lan.vlan": {wire.LANVLAN, 2, func(b []byte) string {
		v := binary.LittleEndian.Uint16(b)
		if v&0x8000 == 0 {
			return "off"
		}
		return strconv.Itoa(int(v & 0x0fff))
	}, func(s string) ([]byte, error) {
		if s == "off" {
			return []byte{0, 0}, nil
		}
		n, err := number(s, 1, 4094)
		return binary.LittleEndian.AppendUint16(nil, uint16(n)|0x8000), err
	}},
	"lan.mac": {wire.LANMAC, 6, func(b []byte) string { return net.HardwareAddr(b[:6]).String() }, nil},
}

func (v lanValue) read(ask wire.Ask, channel byte) (string, error) {
	b, err := ask(wire.GetLAN(channel, v.parameter))
	if err != nil {
		return "", err
	}
	data, ok := wire.ParameterData(b, v.size)
	if !ok {
		return "", &wire.Error{Cause: wire.Protocol, Step: "get LAN configuration"}
	}
	return v.text(data), nil
}

func addressText(b []byte) string { return netip.AddrFrom4([4]byte(b)).String() }

func parseAddress(s string) ([]byte, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return nil, errors.New("is not an IPv4 address")
	}
	return a.AsSlice(), nil
}

func parseNetmask(s string) ([]byte, error) {
	b, err := parseAddress(s)
	if err != nil {
		return nil, err
	}
	if ones, bits := net.IPMask(b).Size(); bits == 0 || ones == 0 {
		return nil, errors.New("is not a netmask")
	}
	return b, nil
}

func nth(names []string, i byte) string {
	if int(i) < len(names) {
		return names[i]
	}
	return strconv.Itoa(int(i))
}

// choice returns the place of a word in a list, counted from first.
func choice(names []string, s string, first byte) ([]byte, error) {
	if i := slices.Index(names, s); i >= 0 {
		return []byte{byte(i) + first}, nil
	}
	return nil, errors.New("is none of " + strings.Join(names, ", "))
}

func number(s string, least, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("is not a number from %d to %d", least, most)
	}
	return n, nil
}

func boolean(s string) (bool, error) {
	switch s {
	case "true", "false":
		return s == "true", nil
	}
	return false, errors.New("is neither true nor false")
}

func privilege(s string) (wire.Privilege, error) {
	for p, name := range wire.Privileges {
		if name == s {
			return p, nil
		}
	}
	return 0, errors.New("is none of callback, user, operator, administrator, oem, none")
}

// solValue is one setting of serial over LAN: a part of a parameter's octets.
type solValue struct {
	parameter wire.SOLParameter
	size      int
	text      func(b []byte) string
	set       func(b []byte, s string) error // changes the octets
}

var solValues = map[string]solValue{
	"sol.enable":  {wire.SOLEnable, 1, flagText(0, 0x01), setFlag(0x01)},
	"sol.encrypt": {wire.SOLAccess, 1, flagText(0, 0x80), setFlag(0x80)},
	"sol.privilege": {wire.SOLAccess, 1, func(b []byte) string { return privilegeText(wire.Privilege(b[0] & 0x0f)) }, func(b []byte, s string) error {
		p, err := privilege(s)
		b[0] = b[0]&0xf0 | byte(p)
		return err
	}},
	"sol.rate": {wire.SOLRate, 1, func(b []byte) string {
		if s, ok := wire.SOLRates[b[0]&0x0f]; ok {
			return s
		}
		return strconv.Itoa(int(b[0] & 0x0f))
	}, func(b []byte, s string) error {
		for v, name := range wire.SOLRates {
			if name == s {
				b[0] = v
				return nil
			}
		}
		return errors.New("is none of 9600, 19200, 38400, 57600, 115200, serial")
	}},
	"sol.retries": {wire.SOLRetry, 2, func(b []byte) string { return strconv.Itoa(int(b[0] & 7)) }, func(b []byte, s string) error {
		n, err := number(s, 0, 7)
		b[0] = byte(n)
		return err
	}},
	"sol.interval": {wire.SOLRetry, 2, func(b []byte) string { return strconv.Itoa(int(b[1]) * 10) }, func(b []byte, s string) error {
		n, err := number(s, 0, 2550)
		b[1] = byte(n / 10)
		if err == nil && n%10 != 0 {
			err = errors.New("is no multiple of 10")
		}
		return err
	}},
}

func flagText(i int, bit byte) func([]byte) string {
	return func(b []byte) string { return strconv.FormatBool(b[i]&bit != 0) }
}

func setFlag(bit byte) func([]byte, string) error {
	return func(b []byte, s string) error {
		on, err := boolean(s)
		b[0] &^= bit
		if on {
			b[0] |= bit
		}
		return err
	}
}

func privilegeText(p wire.Privilege) string {
	if s, ok := wire.Privileges[p]; ok {
		return s
	}
	return strconv.Itoa(int(p))
}

func readSOL(ask wire.Ask, channel byte, v solValue) ([]byte, error) {
	b, err := ask(wire.GetSOL(channel, v.parameter))
	if err != nil {
		return nil, err
	}
	data, ok := wire.ParameterData(b, v.size)
	if !ok {
		return nil, &wire.Error{Cause: wire.Protocol, Step: "get SOL configuration"}
	}
	return slices.Clone(data[:v.size]), nil
}

// watchdogValues are the settings of the watchdog: text, and change.
var watchdogValues = map[string]struct {
	text func(w wire.Watchdog) string
	set  func(w *wire.Watchdog, s string) error
}{
	"watchdog.use": {func(w wire.Watchdog) string { return nth(wire.WatchdogUses[:], w.Use) }, func(w *wire.Watchdog, s string) error {
		b, err := choice(wire.WatchdogUses[1:], s, 1)
		if err == nil {
			w.Use = b[0]
		}
		return err
	}},
	"watchdog.action": {func(w wire.Watchdog) string { return nth(wire.WatchdogActions[:], w.Action) }, func(w *wire.Watchdog, s string) error {
		b, err := choice(wire.WatchdogActions[:], s, 0)
		if err == nil {
			w.Action = b[0]
		}
		return err
	}},
	"watchdog.seconds": {func(w wire.Watchdog) string { return strconv.FormatFloat(float64(w.Tenths)/10, 'f', -1, 64) }, func(w *wire.Watchdog, s string) error {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || v < 0 || v > 6553.5 {
			return errors.New("is not a number from 0 to 6553")
		}
		w.Tenths = uint16(v*10 + 0.5)
		return nil
	}},
	"watchdog.running": {func(w wire.Watchdog) string { return strconv.FormatBool(w.Running) }, func(w *wire.Watchdog, s string) (err error) {
		w.Running, err = boolean(s)
		return err
	}},
}

func readWatchdog(ask wire.Ask) (wire.Watchdog, error) {
	b, err := ask(wire.GetWatchdog())
	if err != nil {
		return wire.Watchdog{}, err
	}
	w, ok := wire.ParseWatchdog(b)
	if !ok {
		return wire.Watchdog{}, &wire.Error{Cause: wire.Protocol, Step: "get watchdog timer"}
	}
	return w, nil
}

// userValues are the settings of a login that can be read.
var userValues = map[string]func(u wire.User) string{
	"name":      func(u wire.User) string { return u.Name },
	"enable":    func(u wire.User) string { return strconv.FormatBool(u.Enabled) },
	"privilege": func(u wire.User) string { return privilegeText(u.Privilege) },
}

const usersMost = 63 // of a controller, by the width of the field

// Settings reads what the controller has of the settings; what it does not know is left out.
func (d *driver) Settings(ctx context.Context) (all []bmc.Setting, err error) {
	err = d.talk(ctx, "bmc settings", func(_ *peer, ask wire.Ask) error {
		channel, err := wire.ChannelNumber(ask)
		if err != nil {
			return err
		}
		add := func(name, value string, fixed bool) {
			all = append(all, bmc.Setting{Name: name, Value: value, Fixed: fixed})
		}
		for name, v := range lanValues {
			s, err := v.read(ask, channel)
			if err != nil && !answered(err) {
				return err
			}
			if err == nil {
				add(name, s, v.parse == nil)
			}
		}
		sol := map[wire.SOLParameter][]byte{}
		for name, v := range solValues {
			b, had := sol[v.parameter]
			if !had {
				if b, err = readSOL(ask, channel, v); err != nil && !answered(err) {
					return err
				}
				sol[v.parameter] = b
			}
			if b != nil {
				add(name, v.text(b), false)
			}
		}
		w, err := readWatchdog(ask)
		var nonsense *wire.Error // ipmi_sim answers with nothing where no timer was set yet
		if err != nil && !answered(err) && !(errors.As(err, &nonsense) && nonsense.Cause == wire.Protocol) {
			return err
		}
		if err == nil {
			for name, v := range watchdogValues {
				add(name, v.text(w), false)
			}
		}
		return readUsers(ask, channel, add)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b bmc.Setting) int { return cmp.Or(compareNames(a.Name, b.Name), 0) })
	return all, nil
}

// compareNames orders names, user.2 before user.10.
func compareNames(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		n, err1 := strconv.Atoi(x[i])
		m, err2 := strconv.Atoi(y[i])
		if err1 == nil && err2 == nil && n != m {
			return cmp.Compare(n, m)
		}
		if c := cmp.Compare(x[i], y[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

// readUsers lists the logins that have a name or are enabled; the others are room for more.
func readUsers(ask wire.Ask, channel byte, add func(name, value string, fixed bool)) error {
	most := byte(1)
	for id := byte(1); id <= most && id <= usersMost; id++ {
		u, room, err := wire.GetUser(ask, channel, id)
		if err != nil {
			if answered(err) {
				continue
			}
			return err
		}
		most = max(most, room)
		if u.Name == "" && !(u.Enabled && u.Privilege != 15) {
			continue
		}
		for name, text := range userValues {
			add("user."+strconv.Itoa(int(id))+"."+name, text(u), false)
		}
	}
	return nil
}

// change is one setting that was checked and is to be made.
type change struct {
	bmc.Setting
	user  byte   // of user.N.…
	field string // of user.N.…
	order int
}

// Orders in which settings are made: what may cut us off comes last, and an address that is fixed needs its source before.
const (
	orderFirst = iota
	orderUser
	orderEnable
	orderLAN
	orderSource
	orderAddress
)

// check finds all that is wrong with the settings before anything is sent.
func check(settings []bmc.Setting) (all []change, err error) {
	var wrong []error
	for _, s := range settings {
		c := change{Setting: s}
		bad := func(err error) {
			if err == nil {
				return
			}
			value := strconv.Quote(s.Value) + " "
			if s.Secret != nil || c.field == "password" {
				value = "the value "
			}
			wrong = append(wrong, fmt.Errorf("%s: %s%w", s.Name, value, err))
		}
		lan, isLAN := lanValues[s.Name]
		sol, isSOL := solValues[s.Name]
		watchdog, isWatchdog := watchdogValues[s.Name]
		user, isUser := strings.CutPrefix(s.Name, "user.")
		switch {
		case isLAN && lan.parse == nil:
			wrong = append(wrong, fmt.Errorf("%s cannot be set", s.Name))
		case isLAN:
			b, err := lan.parse(s.Value)
			bad(err)
			if err == nil {
				c.Value = lan.text(b) // as it will be read back
			}
			c.order = orderLAN
			switch {
			case s.Name == "lan.address":
				c.order = orderAddress
			case s.Name == "lan.source" && s.Value != "static", s.Name == "lan.vlan":
				c.order = orderAddress + 1
			case s.Name == "lan.source":
				c.order = orderSource
			}
		case isSOL:
			b := make([]byte, sol.size)
			bad(sol.set(b, s.Value))
			c.Value = sol.text(b)
		case isWatchdog:
			var w wire.Watchdog
			bad(watchdog.set(&w, s.Value))
			c.Value = watchdog.text(w)
		case isUser:
			bad(c.checkUser(user))
		default:
			wrong = append(wrong, fmt.Errorf("there is no setting %s", s.Name))
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b change) int { return cmp.Compare(a.order, b.order) })
	return all, errors.Join(wrong...)
}

func (c *change) checkUser(rest string) error {
	id, field, _ := strings.Cut(rest, ".")
	n, err := number(id, 1, usersMost)
	if err != nil {
		return fmt.Errorf("(user %s %w)", id, err)
	}
	c.user, c.field, c.order = byte(n), field, orderUser
	switch field {
	case "name":
		if len(c.Value) > 16 {
			return errors.New("is longer than the 16 octets that IPMI allows")
		}
	case "password":
		switch {
		case c.Secret == nil:
			return errors.New("came in the clear, which passwords never are")
		case len(c.Secret.Reveal()) > 20:
			return errors.New("is longer than the 20 octets that IPMI allows")
		}
	case "privilege":
		_, err = privilege(c.Value)
	case "enable":
		c.order = orderEnable
		_, err = boolean(c.Value)
	default:
		return errors.New("(a user has name, password, privilege and enable)")
	}
	return err
}

// Set makes settings and reads them back. None of them waits for the next boot of the machine.
func (d *driver) Set(ctx context.Context, settings []bmc.Setting) (pending []string, err error) {
	const what = "bmc set"
	changes, err := check(settings)
	if err != nil {
		return nil, &bmc.Error{
			Kind: bmc.Invalid, What: what, Why: strings.ReplaceAll(err.Error(), "\n", "; "), Do: "Look at what there is: muster bmc get " + string(d.target.Node),
		}
	}
	err = d.talk(ctx, what, func(p *peer, ask wire.Ask) error {
		channel, err := wire.ChannelNumber(ask)
		if err != nil {
			return err
		}
		moved := false // the controller may be elsewhere from here on
		fail := func(name string, err error) error {
			var told *bmc.Error
			if errors.As(err, &told) {
				return err
			}
			e := d.explainSent(what, err, p)
			e.Why = name + ": " + e.Why
			if moved && e.Kind == bmc.Timeout {
				e.Kind = bmc.Lost
				e.Why = name + " was sent, and BMC " + p.key.String() + " does not answer at this address any more"
				e.Do = "Set bmc.address to its new address, then: muster bmc test " + string(d.target.Node)
			}
			return e
		}
		inLAN := false
		for _, c := range changes {
			if c.order >= orderLAN && !inLAN {
				inLAN = true
				if _, err := ask(wire.SetLAN(channel, wire.LANProgress, 1)); err != nil && !answered(err) {
					return err
				}
			}
			moved = moved || c.order >= orderAddress
			if err := c.make(ask, channel); err != nil {
				if inLAN && answered(err) {
					_, _ = ask(wire.SetLAN(channel, wire.LANProgress, 0))
				}
				return fail(c.Name, err)
			}
		}
		if inLAN {
			if _, err := ask(wire.SetLAN(channel, wire.LANProgress, 0)); err != nil && !answered(err) {
				return fail("lan", err)
			}
		}
		for _, c := range changes {
			got, err := c.read(ask, channel)
			if err != nil {
				return fail(c.Name, err)
			}
			if got != c.Value && c.Secret == nil {
				return &bmc.Error{
					Kind: bmc.Failed, What: what, Why: fmt.Sprintf("BMC %s took %s=%s and has %q now", p.key, c.Name, c.Value, got),
					Do: "Some settings depend on others, as an address on lan.source=static; some controllers need a moment: look again with muster bmc get " + string(d.target.Node),
				}
			}
		}
		return nil
	})
	return nil, err
}

// make sends one change.
func (c *change) make(ask wire.Ask, channel byte) error {
	send := func(r wire.Request) error {
		_, err := ask(r)
		return err
	}
	if v, ok := lanValues[c.Name]; ok {
		b, err := v.parse(c.Value)
		if err != nil {
			return err
		}
		return send(wire.SetLAN(channel, v.parameter, b...))
	}
	if v, ok := solValues[c.Name]; ok {
		b, err := readSOL(ask, channel, v)
		if err != nil {
			return err
		}
		if err := v.set(b, c.Value); err != nil {
			return err
		}
		return send(wire.SetSOL(channel, v.parameter, b...))
	}
	if v, ok := watchdogValues[c.Name]; ok {
		w, err := readWatchdog(ask)
		if err != nil {
			return err
		}
		was := w.Running
		if err := v.set(&w, c.Value); err != nil {
			return err
		}
		start := w.Running && !was
		w.Running = w.Running && was // a timer that stands is started below
		if err := send(wire.SetWatchdog(w)); err != nil || !start {
			return err
		}
		return send(wire.ResetWatchdog())
	}
	switch c.field {
	case "name":
		return send(wire.SetUserName(c.user, c.Value))
	case "password":
		return send(wire.SetPassword(c.user, c.Secret.Reveal()))
	}
	u, _, err := wire.GetUser(ask, channel, c.user)
	if err != nil {
		return err
	}
	if c.field == "privilege" {
		if u.Privilege, err = privilege(c.Value); err != nil {
			return err
		}
		return send(wire.SetUserAccess(channel, u))
	}
	on, err := boolean(c.Value)
	if err != nil {
		return err
	}
	err = send(wire.EnableUser(c.user, on))
	if err == nil && u.Messaging != on && (on || !u.Known) { // a login that may not use IPMI is of no use, and on some controllers that is all there is
		u.Messaging = on
		err = send(wire.SetUserAccess(channel, u))
	}
	return err
}

// read asks what a setting is now; of a password only whether it is the one.
func (c *change) read(ask wire.Ask, channel byte) (string, error) {
	if v, ok := lanValues[c.Name]; ok {
		return v.read(ask, channel)
	}
	if v, ok := solValues[c.Name]; ok {
		b, err := readSOL(ask, channel, v)
		if err != nil {
			return "", err
		}
		return v.text(b), nil
	}
	if v, ok := watchdogValues[c.Name]; ok {
		w, err := readWatchdog(ask)
		return v.text(w), err
	}
	if c.field == "password" {
		_, err := ask(wire.TestPassword(c.user, c.Secret.Reveal()))
		switch n, ok := code(err); {
		case !ok:
			return "", err
		case n == wire.CodeWrongPassword, n == wire.CodeWrongPassword+1:
			return "", &bmc.Error{Kind: bmc.Failed, What: "bmc set", Why: c.Name + ": the BMC took the password and says now that it is another", Do: "Set it again"}
		}
		return "", nil // many controllers cannot test: the next login will
	}
	u, _, err := wire.GetUser(ask, channel, c.user)
	if err != nil {
		return "", err
	}
	return userValues[c.field](u), nil
}
