package lab

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"muster/internal/durable"
	"muster/internal/model"
)

// State is the file lab.json: what the lab is and what of it exists now. "lab up" writes it before it makes anything,
// so that "lab down" can always clear up; from then on the daemon alone writes it, on every change.
type State struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Dir       string    `json:"dir"`
	MadeDir   bool      `json:"made_dir"` // false: the directory was there, empty, and only what is in it is ours
	Firmware  Firmware  `json:"firmware"`
	Memory    int       `json:"memory_mib"`
	Disk      int64     `json:"disk_bytes"`
	More      int       `json:"more_disks,omitempty"` // disks of the same size besides the first
	Created   time.Time `json:"created"`
	User      string    `json:"bmc_user"`
	Daemon    *Process  `json:"daemon,omitempty"`
	Machines  []Machine `json:"machines"`
}

// Machine is one virtual machine and its BMC as lab.json and "lab status --json" show them.
type Machine struct {
	Name    string `json:"name"`
	UUID    string `json:"uuid"`
	MAC     string `json:"mac"`
	Address string `json:"boot_address"` // meant for net.boot.address; the lab itself gives out no addresses
	BMC     string `json:"bmc_address"`
	Tap     string `json:"tap"`
	Power   string `json:"power"` // on, off
	// Process is the QEMU process; nil when the machine is off.
	Process *Process `json:"process,omitempty"`
	// Boot is the boot device that the BMC was told: "default", or as "network once", "disk persistent".
	Boot string `json:"boot_device"`
	// SOL says that a serial-over-LAN session is attached.
	SOL bool `json:"sol"`
	// Problem is why the machine last did not start; empty after a start that worked.
	Problem string `json:"problem,omitempty"`
}

const (
	stateFile    = "lab.json"
	passwordFile = "bmc.password"
	daemonLog    = "daemon.log"
	bmcUser      = "admin"
)

func (s *State) shape() shape {
	return shape{machines: len(s.Machines), firmware: s.Firmware, memory: s.Memory, disk: s.Disk, more: s.More}
}

func (s *State) machineDir(name string) string { return filepath.Join(s.Dir, name) }

// up says that the daemon lives.
func (s *State) up() bool { return s.Daemon != nil && s.Daemon.alive() }

// plan names everything of a new lab and makes nothing.
func plan(name, dir string, sh shape) *State {
	s := &State{
		Name: name, Namespace: namespaceOf(name), Dir: dir, Firmware: sh.firmware, Memory: sh.memory, Disk: sh.disk, More: sh.more,
		Created: time.Now().UTC().Truncate(time.Second), User: bmcUser,
	}
	for i := range sh.machines {
		n := i + 1
		s.Machines = append(s.Machines, Machine{
			Name:    fmt.Sprintf("r1n%d", n),
			UUID:    uuid.NewString(),
			MAC:     fmt.Sprintf("52:54:00:77:00:%02x", n),
			Address: numbered(bootNetwork, n).String(),
			BMC:     numbered(bmcNetwork, n).String(),
			Tap:     fmt.Sprintf("tap%d", n),
			Power:   "off",
			Boot:    "default",
		})
	}
	return s
}

// loadState reads lab.json in dir. The error is [os.ErrNotExist] when there is no lab.
func loadState(dir string) (*State, error) {
	file := filepath.Join(dir, stateFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w): end the lab's processes and remove %s by hand", file, err, dir)
	}
	return s, nil
}

// save writes lab.json whole: a reader sees the old or the new text, also after a crash.
func (s *State) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(s.Dir, stateFile), append(text, '\n'), 0o600)
}

// unfinished says that a file is one that a killed writer of lab.json or of the password left ([durable.WriteFile]).
func unfinished(name string) bool {
	return strings.HasPrefix(name, "."+stateFile+".new") || strings.HasPrefix(name, "."+passwordFile+".new")
}

// newPassword makes the BMC password of a lab: 16 letters, which every IPMI 2.0 client takes.
func newPassword() model.Secret { return model.NewSecret(strings.ToLower(rand.Text()[:16])) }

func readPassword(dir string) (model.Secret, error) {
	text, err := os.ReadFile(filepath.Join(dir, passwordFile))
	return model.NewSecret(strings.TrimSpace(string(text))), err
}

// labs is where labs live whose directory was not chosen with --dir. For a lab that has a directory of its own
// there is a link of the lab's name here, so that its name is enough to find it.
const labs = "/var/lib/muster-lab"

func namespaceOf(name string) string { return "muster-" + name }

// find returns the state of the lab by name, or by directory when one is given.
func find(name, dir string) (*State, error) {
	if dir == "" {
		dir = filepath.Join(labs, name)
	}
	return loadState(dir)
}
