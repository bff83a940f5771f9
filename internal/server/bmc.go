package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/bmc/exec"
	"muster/internal/bmc/ipmi"
	"muster/internal/bmc/redfish"
	"muster/internal/bmc/wol"
	"muster/internal/identity"
	"muster/internal/model"
)

// Driver is one way to talk to controllers: what bmc.driver names.
type Driver struct {
	// Open stands for one controller; it talks to nobody yet.
	Open func(bmc.Target) bmc.Driver
	// Close ends what all of them share. Nil: nothing.
	Close func() error
	// NoAddress says that bmc.address need not be set.
	NoAddress bool
	// Mute says that nothing is ever answered: a packet is sent, and that is all.
	Mute bool
}

// openDrivers is the list of drivers, by the names that bmc.driver has. null is none of them: there is nothing to open.
func (s *Server) openDrivers() error {
	i, err := ipmi.New(ipmi.Options{Log: s.log})
	if err != nil {
		return err
	}
	r, err := redfish.New(redfish.Options{Log: s.log})
	if err != nil {
		return err
	}
	x, err := exec.New(exec.Options{Log: s.log})
	if err != nil {
		return err
	}
	s.drivers = map[string]Driver{
		"ipmi":    {Open: i.Open, Close: i.Close},
		"redfish": {Open: r.Open, Close: r.Close},
		"exec":    {Open: x.Open, Close: x.Close, NoAddress: true},
		"wol":     {Open: wol.Open, NoAddress: true, Mute: true},
	}
	maps.Copy(s.drivers, s.cfg.Drivers)
	return nil
}

func (s *Server) closeDrivers() {
	for name, d := range s.drivers {
		if d.Close == nil {
			continue
		}
		if err := d.Close(); err != nil {
			s.log.Error("driver", "name", name, "err", err)
		}
	}
}

// pluginDir is where the programs of bmc.driver=exec are.
func (s *Server) pluginDir() string { return filepath.Join(s.cfg.Data, "plugins") }

// bmcAttrs are the attributes that say how a node's BMC is reached. The password is sealed.
type bmcAttrs struct{ driver, address, port, user, password, cipher, pin, system, plugin, mac string }

// key changes when the BMC is reached otherwise. The sealed text stands for the password: it is new whenever that was set.
func (a bmcAttrs) key() string {
	return identity.TokenHash(strings.Join([]string{a.driver, a.address, a.port, a.user, a.password, a.cipher, a.pin, a.system, a.plugin, a.mac}, "\x00"))
}

// noBMC is the error of a node without a controller: it has none, or it is not described yet.
type noBMC struct{ err *api.Error }

func (e noBMC) Error() string { return e.err.Error() }

func (e noBMC) Unwrap() error { return e.err }

// readBMC reads how the BMC of a node is reached; without one the error is a [noBMC].
func (s *Server) readBMC(snap *model.Snapshot, n *model.Node) (a bmcAttrs, err error) {
	for _, v := range []struct {
		name model.AttrName
		to   *string
		of   string // the drivers that ask for it; "" for all
	}{
		{"bmc.driver", &a.driver, ""},
		{"bmc.address", &a.address, ""},
		{"bmc.port", &a.port, ""},
		{"bmc.user", &a.user, ""},
		{"bmc.password", &a.password, ""},
		{"bmc.cipher", &a.cipher, "ipmi"},
		{"bmc.pin", &a.pin, "redfish"},
		{"bmc.system", &a.system, "redfish exec"},
		{"bmc.plugin", &a.plugin, "exec"},
		{"net.boot.mac", &a.mac, "wol exec"},
	} {
		if v.of != "" && !slices.Contains(strings.Fields(v.of), a.driver) {
			continue
		}
		if *v.to, err = snap.Attr(n, v.name); err != nil {
			return a, err
		}
	}
	no := &api.Error{Code: api.Failed, Node: string(n.Name), What: "no BMC"}
	d, have := s.drivers[a.driver]
	switch {
	case a.driver == "null":
		no.Why, no.Do = "bmc.driver is null", "Where it has one: muster set "+string(n.Name)+" bmc.driver=ipmi bmc.address=ADDRESS bmc.user=NAME bmc.password=-"
		return a, noBMC{no}
	case !have:
		no.What, no.Why = "bmc.driver", "this service has no driver "+a.driver
		no.Do = "It has " + strings.Join(slices.Sorted(maps.Keys(s.drivers)), ", ")
		return a, no
	case a.driver == "wol" && a.mac == "":
		no.Why, no.Do = "net.boot.mac is not set", "Set it: muster set "+string(n.Name)+" net.boot.mac=MAC"
		return a, noBMC{no}
	case a.driver == "exec" && a.plugin == "":
		no.Why, no.Do = "bmc.plugin is not set", "Set it: muster set "+string(n.Name)+" bmc.plugin=NAME; there are: muster plugin list"
		return a, noBMC{no}
	case a.address == "" && !d.NoAddress:
		no.Why, no.Do = "bmc.address is not set", "Set it: muster set "+string(n.Name)+" bmc.address=ADDRESS bmc.user=NAME bmc.password=-"
		return a, noBMC{no}
	}
	return a, nil
}

// driver opens the node's BMC; the caller closes it. The session to the BMC is the engine's: all drivers of a BMC share it.
func (s *Server) driver(snap *model.Snapshot, n *model.Node) (bmc.Driver, error) {
	a, err := s.readBMC(snap, n)
	if err != nil {
		return nil, err
	}
	t, err := s.target(snap, n, a)
	if err != nil {
		return nil, err
	}
	return s.drivers[a.driver].Open(t), nil
}

func (s *Server) target(snap *model.Snapshot, n *model.Node, a bmcAttrs) (bmc.Target, error) {
	t := bmc.Target{Node: n.Name, Address: a.address, User: a.user, System: a.system, MAC: a.mac, Pins: splitNames(a.pin)}
	var err error
	if t.Password, err = s.unseal(snap, n, "bmc.password", a.password); err != nil {
		return t, &api.Error{Code: api.Failed, What: "bmc.password", Why: err.Error(), Node: string(n.Name)}
	}
	t.Port, _ = strconv.Atoi(a.port)
	t.Cipher, _ = strconv.Atoi(a.cipher)
	if a.plugin != "" {
		if t.Program, err = s.plugin(a.plugin); err != nil {
			return t, err
		}
	}
	return t, nil
}

// plugin finds a program in the directory of plugins. The name was chosen by who may set attributes: it never leads out of the directory, and what
// others than the service's own user may write is not run.
func (s *Server) plugin(name string) (string, error) {
	bad := func(why, do string) (string, error) {
		return "", &api.Error{Code: api.Failed, What: "bmc.plugin " + name, Why: why, Do: do}
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return bad("it is no name of a file", "Name one of: muster plugin list")
	}
	path := filepath.Join(s.pluginDir(), name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad("there is no program "+path+" on manager "+string(s.name()), "Put it there on every manager; what there is: muster plugin list")
	case err != nil:
		return bad(err.Error(), "")
	}
	if why := unfit(info); why != "" {
		return bad(path+" "+why, "Make it a program that its owner alone may write: chmod 755 "+path)
	}
	return path, nil
}

// unfit says why a file is not run as a plugin; "" when it is.
func unfit(info fs.FileInfo) string {
	switch m := info.Mode(); {
	case !m.IsRegular():
		return "is no file"
	case m&0o111 == 0:
		return "may not be run"
	case m&0o022 != 0:
		return fmt.Sprintf("may be written by others (%v)", m.Perm())
	}
	return ""
}

// bmcProblem makes an API error of what a driver said.
func bmcProblem(n model.NodeName, verb string, err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	out := &api.Error{Code: api.Failed, What: verb, Why: err.Error(), Node: string(n)}
	var b *bmc.Error
	if errors.As(err, &b) {
		out.Why, out.Do = b.Why, b.Do
	} else if errors.Is(err, context.DeadlineExceeded) {
		out.Why = "the BMC did not finish in time"
		out.Do = "Ask for more with --timeout"
	}
	return out
}
