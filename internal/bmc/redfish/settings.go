package redfish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/internal/bmc"
)

// fingerprint is how pins name a certificate or a key.
func fingerprint(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// resources are what settings are in.
type resources struct {
	lan      ethernet
	net      networkProtocol
	accounts []account
	makes    string // the collection of accounts
	bios     bios
	pending  bios // the settings object; empty when there is none
	biosPath string
	shown    string // fingerprint of the certificate
}

func (p *peer) resources(ctx context.Context, at *place) (*resources, error) {
	r := &resources{}
	_, m, err := p.manager(ctx, at)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	r.shown = p.seen
	p.mu.Unlock()
	get := func(path string, v any) error {
		if path == "" {
			return nil
		}
		if _, err := p.get(ctx, path, v); err != nil && !absent(err) {
			return err
		}
		return nil
	}
	all, err := members[ethernet](ctx, p, m.Ethernet.ID)
	if err != nil {
		return nil, err
	}
	if e := outside(all); e != nil {
		r.lan = *e
	}
	var service struct{ Accounts link }
	if err := errors.Join(get(m.NetworkProtocol.ID, &r.net), get(p.root.AccountService.ID, &service), get(at.first.Bios.ID, &r.bios)); err != nil {
		return nil, err
	}
	r.makes = service.Accounts.ID
	if r.accounts, err = members[account](ctx, p, r.makes); err != nil {
		return nil, err
	}
	r.biosPath = either(r.bios.Settings.SettingsObject.ID, at.first.Bios.ID)
	return r, get(r.bios.Settings.SettingsObject.ID, &r.pending)
}

func flag(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

// services are the services of a controller that can be switched, by the name of their setting.
var services = map[string]struct {
	name string // of the schema
	of   func(*networkProtocol) *protocol
}{
	"service.ssh":    {"SSH", func(n *networkProtocol) *protocol { return &n.SSH }},
	"service.ipmi":   {"IPMI", func(n *networkProtocol) *protocol { return &n.IPMI }},
	"service.snmp":   {"SNMP", func(n *networkProtocol) *protocol { return &n.SNMP }},
	"service.ssdp":   {"SSDP", func(n *networkProtocol) *protocol { return &n.SSDP }},
	"service.telnet": {"Telnet", func(n *networkProtocol) *protocol { return &n.Telnet }},
	"service.kvm":    {"KVMIP", func(n *networkProtocol) *protocol { return &n.KVMIP }},
	"service.media":  {"VirtualMedia", func(n *networkProtocol) *protocol { return &n.VirtualMedia }},
}

func (l ethernet) address() ipv4 {
	if len(l.IPv4Addresses) > 0 {
		return l.IPv4Addresses[0]
	}
	if len(l.IPv4StaticAddresses) > 0 {
		return l.IPv4StaticAddresses[0]
	}
	return ipv4{}
}

func (l ethernet) source() string {
	switch {
	case l.DHCPv4.DHCPEnabled != nil && *l.DHCPv4.DHCPEnabled, l.DHCPv4.DHCPEnabled == nil && l.address().AddressOrigin == "DHCP":
		return "dhcp"
	case l.address().Address == "":
		return ""
	}
	return "static"
}

// settings are the resources in our words.
func (r *resources) settings() []bmc.Setting {
	var out []bmc.Setting
	add := func(name, value string, fixed bool) {
		if value != "" {
			out = append(out, bmc.Setting{Name: name, Value: value, Fixed: fixed})
		}
	}
	a := r.lan.address()
	add("lan.address", string(a.Address), false)
	add("lan.netmask", string(a.SubnetMask), false)
	add("lan.gateway", string(a.Gateway), false)
	add("lan.source", r.lan.source(), false)
	add("lan.mac", mac(r.lan.MACAddress), true)
	if r.lan.VLAN.VLANEnable != nil && *r.lan.VLAN.VLANEnable {
		add("lan.vlan", strconv.FormatInt(r.lan.VLAN.VLANID.int(), 10), false)
	} else if r.lan.VLAN.VLANEnable != nil {
		add("lan.vlan", "off", false)
	}
	names := r.lan.StaticNameServers
	if names == nil {
		names = r.lan.NameServers
	}
	add("dns.servers", listed(names), false)
	add("host.name", string(either(r.net.HostName, r.lan.HostName)), false)
	add("ntp.enabled", flag(r.net.NTP.ProtocolEnabled), false)
	add("ntp.servers", listed(r.net.NTP.NTPServers), false)
	add("tls.certificate", r.shown, true)
	for name, s := range services {
		add(name, flag(s.of(&r.net).ProtocolEnabled), false)
	}
	for _, u := range r.accounts {
		if u.UserName == "" {
			continue
		}
		prefix := "user." + string(u.ID) + "."
		add(prefix+"name", string(u.UserName), false)
		add(prefix+"role", string(u.RoleID), false)
		add(prefix+"enabled", flag(u.Enabled), false)
		add(prefix+"locked", flag(u.Locked), false)
	}
	for name, v := range r.bios.Attributes {
		s := bmc.Setting{Name: "bios." + name, Value: written(v)}
		if later, ok := r.pending.Attributes[name]; ok && written(later) != s.Value {
			s.Pending = written(later)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b bmc.Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// listed joins a list; empty places, which controllers fill up with, are left out.
func listed(l []text) string {
	var all []string
	for _, t := range l {
		if t != "" && t != "0.0.0.0" && t != "::" {
			all = append(all, string(t))
		}
	}
	return strings.Join(all, ",")
}

// written is a BIOS attribute as text.
func written(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// Settings reads what can be set of the controller and of the BIOS, and the certificate that the controller shows.
func (d *driver) Settings(ctx context.Context) ([]bmc.Setting, error) {
	var out []bmc.Setting
	err := d.with(ctx, "bmc settings", func(ctx context.Context, p *peer, at *place) error {
		r, err := p.resources(ctx, at)
		if err != nil {
			return err
		}
		out = r.settings()
		return nil
	})
	return out, err
}

// changes are what is sent to one resource.
type changes map[string]any

// put sets a field inside: put(c, v, "NTP", "NTPServers").
func (c changes) put(v any, path ...string) {
	for _, k := range path[:len(path)-1] {
		inner, ok := c[k].(changes)
		if !ok {
			inner = changes{}
			c[k] = inner
		}
		c = inner
	}
	c[path[len(path)-1]] = v
}

// plan are the changes of a Set, by resource.
type plan struct {
	lan, net, bios changes
	users          map[string]changes // by Id
	drop           []account
	fresh          changes // a new account
}

// Set changes settings and reads them back. A new user is "user.new.name", with role and password; a user whose name becomes empty is taken away.
func (d *driver) Set(ctx context.Context, all []bmc.Setting) ([]string, error) {
	const what = "bmc set"
	var pending []string
	err := d.with(ctx, what, func(ctx context.Context, p *peer, at *place) error {
		r, err := p.resources(ctx, at)
		if err != nil {
			return err
		}
		c, err := r.plan(all, p.quirk)
		if err != nil {
			return err
		}
		if err := p.carryOut(ctx, r, c); err != nil {
			return err
		}
		pending, err = p.readBack(ctx, at, all)
		return err
	})
	return pending, err
}

// plan turns settings into changes. It says all that is wrong with them, and then nothing is sent.
func (r *resources) plan(all []bmc.Setting, q quirk) (*plan, error) {
	c := &plan{lan: changes{}, net: changes{}, bios: changes{}, users: map[string]changes{}, fresh: changes{}}
	known := map[string]bmc.Setting{}
	for _, s := range r.settings() {
		known[s.Name] = s
	}
	var bad []string
	address := r.lan.address()
	moved := false
	for _, s := range all {
		var err error
		switch room, rest, _ := strings.Cut(s.Name, "."); {
		case known[s.Name].Fixed:
			err = errors.New("cannot be set")
		case room == "user":
			err = r.planUser(c, rest, s, q)
		case s.Secret != nil:
			err = errors.New("is no secret")
		case room == "bios":
			err = r.planBIOS(c, rest, s.Value)
		case services[s.Name].of != nil:
			var on bool
			if on, err = truth(s.Value); err == nil {
				c.net.put(on, services[s.Name].name, "ProtocolEnabled")
			}
		case s.Name == "lan.address":
			address.Address, moved = text(s.Value), true
		case s.Name == "lan.netmask":
			address.SubnetMask, moved = text(s.Value), true
		case s.Name == "lan.gateway":
			address.Gateway, moved = text(s.Value), true
		case s.Name == "lan.source" && s.Value == "dhcp":
			c.lan.put(true, "DHCPv4", "DHCPEnabled")
		case s.Name == "lan.source" && s.Value == "static":
			moved = true
		case s.Name == "lan.vlan" && s.Value == "off":
			c.lan.put(false, "VLAN", "VLANEnable")
		case s.Name == "lan.vlan":
			n, e := strconv.Atoi(s.Value)
			if e != nil || n < 1 || n > 4094 {
				err = errors.New("is off, or a number from 1 to 4094")
			}
			c.lan.put(true, "VLAN", "VLANEnable")
			c.lan.put(n, "VLAN", "VLANId")
		case s.Name == "dns.servers":
			c.lan.put(strings.Split(s.Value, ","), "StaticNameServers")
		case s.Name == "host.name" && r.net.HostName != "":
			c.net.put(s.Value, "HostName")
		case s.Name == "host.name":
			c.lan.put(s.Value, "HostName")
		case s.Name == "ntp.servers":
			c.net.put(strings.Split(s.Value, ","), "NTP", "NTPServers")
		case s.Name == "ntp.enabled":
			var on bool
			if on, err = truth(s.Value); err == nil {
				c.net.put(on, "NTP", "ProtocolEnabled")
			}
		default:
			err = errors.New("is no setting of this BMC")
		}
		if err != nil {
			bad = append(bad, s.Name+" "+err.Error())
		}
	}
	if moved {
		field := "IPv4Addresses"
		if r.lan.IPv4StaticAddresses != nil {
			field = "IPv4StaticAddresses"
		}
		address.AddressOrigin = ""
		c.lan.put([]ipv4{address}, field)
		if r.lan.DHCPv4.DHCPEnabled != nil {
			c.lan.put(false, "DHCPv4", "DHCPEnabled")
		}
	}
	if len(bad) > 0 {
		return nil, &wrong{strings.Join(bad, "; "), "The settings of this BMC are listed by: muster bmc settings"}
	}
	return c, nil
}

func truth(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "on", "yes", "1":
		return true, nil
	case "false", "off", "no", "0":
		return false, nil
	}
	return false, errors.New("is true or false")
}

func (r *resources) planBIOS(c *plan, name, value string) error {
	now, ok := r.bios.Attributes[name]
	if !ok {
		return errors.New("is no attribute of this BIOS")
	}
	switch now.(type) {
	case bool:
		on, err := truth(value)
		c.bios.put(on, "Attributes", name)
		return err
	case float64:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return errors.New("is a number")
		}
		c.bios.put(n, "Attributes", name)
	default:
		c.bios.put(value, "Attributes", name)
	}
	return nil
}

// userFields are the fields of an account by the last part of their setting.
var userFields = map[string]string{"name": "UserName", "role": "RoleId", "enabled": "Enabled", "locked": "Locked", "password": "Password"}

func (r *resources) planUser(c *plan, rest string, s bmc.Setting, q quirk) error {
	i := strings.LastIndexByte(rest, '.')
	if i < 1 || userFields[rest[i+1:]] == "" {
		return errors.New("is no setting of a user: they are name, role, enabled, locked and password")
	}
	id, field := rest[:i], rest[i+1:]
	var v any = s.Value
	switch {
	case field == "password" && s.Secret == nil:
		return errors.New("is a secret")
	case field == "password":
		v = s.Secret.Reveal()
	case field == "enabled" || field == "locked":
		on, err := truth(s.Value)
		if err != nil {
			return err
		}
		v = on
	}
	if id == "new" {
		c.fresh.put(v, userFields[field])
		return nil
	}
	at := slices.IndexFunc(r.accounts, func(a account) bool { return string(a.ID) == id })
	if at < 0 {
		return errors.New("is of no user of this BMC; user.new.name makes one")
	}
	if field == "name" && s.Value == "" && !q.slots {
		c.drop = append(c.drop, r.accounts[at])
		return nil
	}
	if c.users[id] == nil {
		c.users[id] = changes{}
	}
	c.users[id].put(v, userFields[field])
	return nil
}

// carryOut sends the changes, those of the network last: they may cut the connection.
func (p *peer) carryOut(ctx context.Context, r *resources, c *plan) error {
	patch := func(path string, v changes) error {
		if len(v) == 0 {
			return nil
		}
		if path == "" {
			return &missing{"it does not offer that"}
		}
		// What is done by a task is not waited for: that of the BIOS ends with the next boot. The reading back tells.
		_, err := p.patch(ctx, path, v)
		return err
	}
	if len(c.bios) > 0 && contains(r.bios.Settings.SupportedApplyTimes, "OnReset") {
		c.bios.put("OnReset", "@Redfish.SettingsApplyTime", "ApplyTime")
	}
	err := patch(r.biosPath, c.bios)
	if _, timed := c.bios["@Redfish.SettingsApplyTime"]; timed && status(err) == http.StatusBadRequest {
		// Some offer the choice and refuse it; OnReset is what they do without.
		delete(c.bios, "@Redfish.SettingsApplyTime")
		err = patch(r.biosPath, c.bios)
	}
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(c.users)) {
		i := slices.IndexFunc(r.accounts, func(a account) bool { return string(a.ID) == id })
		if err := patch(r.accounts[i].link.ID, c.users[id]); err != nil {
			return err
		}
	}
	for _, u := range c.drop {
		if _, err := p.do(ctx, call{method: http.MethodDelete, path: u.link.ID}); err != nil {
			return err
		}
	}
	if len(c.fresh) > 0 {
		if err := p.makeUser(ctx, r, c.fresh); err != nil {
			return err
		}
	}
	if err := patch(r.net.link.ID, c.net); err != nil {
		return err
	}
	return patch(r.lan.link.ID, c.lan)
}

// makeUser makes an account, or fills an empty one where their number is fixed.
func (p *peer) makeUser(ctx context.Context, r *resources, v changes) error {
	if !p.quirk.slots {
		if _, ok := v["RoleId"]; !ok {
			v["RoleId"] = "Operator"
		}
		_, err := p.post(ctx, r.makes, v)
		return err
	}
	for _, a := range r.accounts {
		if a.UserName == "" && a.ID != "1" { // the first is reserved by those who have a fixed number
			if _, ok := v["Enabled"]; !ok {
				v["Enabled"] = true
			}
			_, err := p.patch(ctx, a.link.ID, v)
			return err
		}
	}
	return &missing{"it has no room for another user"}
}

// readBack reads the settings until they are as they were set: some controllers take a moment. What is not says so by name.
func (p *peer) readBack(ctx context.Context, at *place, want []bmc.Setting) ([]string, error) {
	for try := 0; ; try++ {
		r, err := p.resources(ctx, at)
		if err != nil {
			if slices.ContainsFunc(want, func(s bmc.Setting) bool { return strings.HasPrefix(s.Name, "lan.") }) && status(err) == 0 {
				return nil, fmt.Errorf("it took the change, but does not answer at %s any more: set bmc.address when it has moved: %w", p.host, err)
			}
			return nil, err
		}
		pending, off := r.compare(want)
		if len(off) == 0 {
			return pending, nil
		}
		if try == 3 {
			return nil, &answerError{"it accepted the change, but " + strings.Join(off, ", ")}
		}
		if err := wait(ctx, p.engine.opt.Poll); err != nil {
			return nil, err
		}
	}
}

// compare says which of the settings wait for the next boot, and which are not what they should be.
func (r *resources) compare(want []bmc.Setting) (pending, off []string) {
	now := map[string]bmc.Setting{}
	for _, s := range r.settings() {
		now[s.Name] = s
	}
	names := map[string]bool{}
	for _, u := range r.accounts {
		names[string(u.UserName)] = true
	}
	for _, s := range want {
		have, there := now[s.Name]
		switch {
		case s.Secret != nil, strings.HasPrefix(s.Name, "user.new.") && s.Name != "user.new.name":
		case s.Name == "user.new.name":
			if !names[s.Value] {
				off = append(off, "there is no user "+s.Value)
			}
		case same(s.Value, have.Value), s.Value == "" && !there:
		case have.Pending != "" && same(s.Value, have.Pending):
			pending = append(pending, s.Name)
		default:
			off = append(off, fmt.Sprintf("%s is %q and not %q", s.Name, have.Value, s.Value))
		}
	}
	return pending, off
}

func same(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	x, ex := truth(a)
	y, ey := truth(b)
	return ex == nil && ey == nil && x == y && (b == "true" || b == "false")
}

// wait waits, or for the end of ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
