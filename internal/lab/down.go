package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"muster/internal/api"
)

// endTime is how long the daemon may take to turn its machines off before it is killed.
const endTime = 10 * time.Second

// down takes the lab away with all that it made. With no lab it says so.
func down(out io.Writer, name, dir string) error {
	s, err := find(name, dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		where := "lab " + name
		if dir != "" {
			where = "lab in " + dir
		}
		_, err := fmt.Fprintf(out, "there is no %s; nothing to take down\n", where)
		return err
	case errors.Is(err, os.ErrPermission), err == nil && os.Geteuid() != 0:
		return &api.Error{Code: api.Denied, What: "lab down", Why: "it needs root", Do: "Run it with sudo"}
	case err != nil:
		return err
	}
	unlock, err := lock(s.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if s, err = loadState(s.Dir); err != nil { // once more, now that nobody else changes it
		return err
	}
	if err := remove(s, out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "lab %s is down and removed\n", s.Name)
	return err
}

// dismantle ends the lab's processes and removes namespace and links, and leaves the directory. It ends only what the lab
// started; processes of others that are still in the namespace are named.
func dismantle(s *State, out io.Writer) error {
	var all []error
	if s.Daemon != nil {
		all = append(all, s.Daemon.end(syscall.SIGTERM, endTime))
	}
	// The daemon writes the machines it starts; read what it wrote last.
	if now, err := loadState(s.Dir); err == nil {
		s.Machines, s.Daemon = now.Machines, now.Daemon
		if s.Daemon != nil {
			all = append(all, s.Daemon.end(syscall.SIGTERM, endTime))
		}
	}
	for i := range s.Machines {
		if p := s.Machines[i].Process; p != nil {
			all = append(all, p.end(syscall.SIGKILL, endTime))
		}
	}
	if others := inhabitants(s.Namespace); len(others) > 0 {
		_, _ = fmt.Fprintf(out, "warning: still in namespace %s, not of the lab and left alone: %s\n", s.Namespace, strings.Join(others, ", "))
	}
	return errors.Join(append(all, removeNetwork(s), removeNamespace(s.Namespace))...)
}

// remove dismantles the lab and removes what it made on disk, but nothing of that while something of the lab still runs.
// lab.json goes last: until then "lab down" can go on where it was cut off.
func remove(s *State, out io.Writer) error {
	if err := dismantle(s, out); err != nil {
		return err
	}
	ours := []string{passwordFile, daemonLog}
	for _, m := range s.Machines {
		ours = append(ours, m.Name)
	}
	if entries, err := os.ReadDir(s.Dir); err == nil {
		for _, e := range entries {
			if unfinished(e.Name()) {
				ours = append(ours, e.Name())
			}
		}
	}
	for _, name := range ours {
		if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
			return err
		}
	}
	if link := filepath.Join(labs, s.Name); link != s.Dir {
		if to, err := os.Readlink(link); err == nil && to == s.Dir {
			if err := os.Remove(link); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(s.Dir, stateFile)); err != nil {
		return err
	}
	if s.MadeDir {
		if err := os.RemoveAll(s.Dir); err != nil {
			return err
		}
	}
	_ = os.Remove(labs) // succeeds when this was the last lab
	return nil
}
