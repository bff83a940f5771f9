package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/protocol"
	"golang.org/x/sys/unix"

	"muster/internal/api"
	"muster/internal/durable"
)

// request is one "lab up".
type request struct {
	name  string
	dir   string // "" for the usual place
	shape shape
}

// daemonTime limits how long the daemon may take until all BMCs answer.
const daemonTime = 30 * time.Second

// up makes the lab, or says that it is up. A lab whose daemon died is brought up again with its disks as they are.
// Whatever fails half-way, ctx included, is undone.
func up(ctx context.Context, out io.Writer, r request) error {
	if err := r.shape.check(r.name); err != nil {
		return err
	}
	if err := missing(os.Geteuid(), needs(r.shape.firmware)); err != nil {
		return err
	}
	unlock, err := lock(r.name)
	if err != nil {
		return err
	}
	defer unlock()

	s, err := find(r.name, r.dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return create(ctx, out, r)
	case err != nil:
		return err
	case s.Name != r.name:
		return &api.Error{Code: api.Conflict, What: "lab up", Why: s.Dir + " is the directory of the lab " + s.Name, Do: "Choose another --dir"}
	case s.shape() != r.shape:
		return &api.Error{
			Code: api.Conflict, What: "lab up", Why: fmt.Sprintf("lab %s exists with %s", s.Name, describe(s)),
			Do: "To change it: muster lab down" + s.flag() + ", then lab up again (its disks are lost)",
		}
	case s.up():
		_, err := fmt.Fprintf(out, "lab %s is already up: %s, namespace %s\n", s.Name, describe(s), s.Namespace)
		return err
	}
	_, _ = fmt.Fprintf(out, "lab %s was not taken down and its daemon is gone: bringing it up again, disks as they are\n", s.Name)
	if err := dismantle(s, out); err != nil {
		return err
	}
	if err := raise(ctx, s); err != nil {
		return errors.Join(interrupted(ctx, err), dismantle(s, out))
	}
	return s.announce(out)
}

// interrupted is err, in words for the person when it comes from the interrupt.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return &api.Error{Code: api.Failed, What: "lab up", Why: "interrupted", Do: "What it had begun is undone; type it again"}
}

// create makes a lab that does not exist.
func create(ctx context.Context, out io.Writer, r request) error {
	dir := r.dir
	if dir == "" {
		dir = filepath.Join(labs, r.name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	other, err := find(r.name, "")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil && other.Dir != dir {
		return &api.Error{
			Code: api.Conflict, What: "lab up", Why: "there is a lab " + r.name + " in " + other.Dir,
			Do: "Choose another --name, or first: muster lab down" + other.flag(),
		}
	}
	if namespaceExists(namespaceOf(r.name)) {
		return &api.Error{
			Code: api.Conflict, What: "lab up", Why: "namespace " + namespaceOf(r.name) + " exists and no lab in " + dir + " has it",
			Do: "If it is a lab with a directory of its own: muster lab down --dir DIR. Else: ip netns delete " + namespaceOf(r.name) + ", or another --name",
		}
	}
	// A link to a directory without a lab: someone removed it by hand, or it was cut off half-way.
	if link := filepath.Join(labs, r.name); isLink(link) {
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	s := plan(r.name, dir, r.shape)
	if s.MadeDir, err = claim(dir); err != nil {
		return err
	}
	undo := func(err error) error { return errors.Join(interrupted(ctx, err), remove(s, out)) }
	if err := s.save(); err != nil { // before anything else: from here on "lab down" can clear up
		return undo(err)
	}
	if err := furnish(s); err != nil {
		return undo(err)
	}
	if err := raise(ctx, s); err != nil {
		return undo(err)
	}
	return s.announce(out)
}

// claim makes the directory, or takes an empty one, or what a killed "lab up" left of one. It says whether the directory is the lab's own: made
// here, or in the place of labs, where nobody else makes any.
func claim(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return true, os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !unfinished(e.Name()) {
			return false, &api.Error{Code: api.Usage, What: "lab up", Why: dir + " is not empty and not a lab", Do: "Give --dir a directory that is empty or does not exist"}
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return false, err
		}
	}
	return filepath.Dir(dir) == labs, nil
}

func isLink(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

// furnish fills the directory: password, disks, and the link by which a lab elsewhere is found by its name.
func furnish(s *State) error {
	if err := durable.WriteFile(filepath.Join(s.Dir, passwordFile), []byte(newPassword().Reveal()+"\n"), 0o600); err != nil {
		return err
	}
	for _, m := range s.Machines {
		if err := makeMachine(s, m); err != nil {
			return err
		}
	}
	if link := filepath.Join(labs, s.Name); link != s.Dir {
		if err := os.MkdirAll(labs, 0o755); err != nil {
			return err
		}
		return os.Symlink(s.Dir, link)
	}
	return nil
}

// raise makes namespace and network and starts the daemon; when it returns nil all BMCs answer and s is as the daemon
// wrote it.
func raise(ctx context.Context, s *State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := makeNamespace(s.Namespace); err != nil {
		return err
	}
	if err := makeNetwork(s); err != nil {
		return fmt.Errorf("network of the lab: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, daemonTime)
	defer cancel()
	if err := startDaemon(ctx, s); err != nil {
		return err
	}
	now, err := loadState(s.Dir)
	if err != nil {
		return err
	}
	*s = *now
	return inside(s.Namespace, func() error {
		for _, m := range s.Machines {
			if err := ping(ctx, m.BMC); err != nil {
				return fmt.Errorf("BMC of %s does not answer on %s: %w", m.Name, m.BMC, err)
			}
		}
		return nil
	})
}

// startDaemon runs this program again inside the namespace, in a session of its own, and waits for its word.
func startDaemon(ctx context.Context, s *State) error {
	logName := filepath.Join(s.Dir, daemonLog)
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	said, say, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = said.Close() }()
	// The program may have no file name of its own (a memfd), but it always has this one.
	cmd := exec.Command("/proc/self/exe", "lab", "run", "--dir", s.Dir)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{say}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// The daemon outlives whoever typed lab up: it must not keep the locks and pipes that they left open for this process.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	err = inside(s.Namespace, cmd.Start)
	_ = say.Close()
	if err != nil {
		return fmt.Errorf("the lab's daemon: %w", err)
	}
	if self, err := identify(cmd.Process.Pid); err == nil {
		s.Daemon = &self // known to an undo before the daemon has written it itself
	}
	defer context.AfterFunc(ctx, func() { _ = said.SetReadDeadline(time.Unix(1, 0)) })()
	word, err := io.ReadAll(said)
	if string(word) == "ready\n" {
		return cmd.Process.Release()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("the lab's daemon: %w", context.Cause(ctx))
	}
	return errors.Join(fmt.Errorf("the lab's daemon ended: %s", lastLines(logName)), err)
}

// ping asks a BMC for a sign of life (ASF presence ping, IPMI 2.0 §13.2.3) until it answers.
func ping(ctx context.Context, address string) error {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, rmcpPort)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	question := []byte{0x06, 0x00, 0xff, 0x06, 0x00, 0x00, 0x11, 0xbe, 0x80, 0x01, 0x00, 0x00}
	want := protocol.BuildASFPresencePong(0x01)
	answer := make([]byte, 64)
	for ctx.Err() == nil {
		if _, err := conn.Write(question); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := conn.Read(answer); err == nil && bytes.Equal(answer[:n], want) {
			return nil
		}
	}
	return ctx.Err()
}

// lock keeps two commands from working on one lab at a time. It leaves no file and ends with the process.
func lock(name string) (func(), error) {
	l, err := net.Listen("unix", "@muster-lab/"+name)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &api.Error{Code: api.Conflict, What: "lab", Why: "another muster lab command works on the lab " + name, Do: "Wait for it to end"}
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Close() }, nil
}

// describe is the shape in words.
func describe(s *State) string {
	machines := "machines"
	if len(s.Machines) == 1 {
		machines = "machine"
	}
	disk := "disk"
	if s.More > 0 {
		disk = strconv.Itoa(s.More+1) + " disks of"
	}
	return fmt.Sprintf("%d %s (%s, %d MiB, %s %s)", len(s.Machines), machines, s.Firmware, s.Memory, disk, formatSize(s.Disk))
}

// flag is what the person has to add to lab commands to mean this lab.
func (s *State) flag() string {
	if s.Name == defaultName {
		return ""
	}
	return " --name " + s.Name
}

// announce says what there is and what to type next.
func (s *State) announce(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "lab %s is up: %s, switched off, in namespace %s\n", s.Name, describe(s), s.Namespace)
	for _, m := range s.Machines {
		fmt.Fprintf(&b, "  %-6s BMC %-11s MAC %s  UUID %s\n", m.Name, m.BMC, m.MAC, m.UUID)
	}
	password := filepath.Join(s.Dir, passwordFile)
	fmt.Fprintf(&b, "BMC user %s, password in %s\n\nNext:\n", s.User, password)
	fmt.Fprintf(&b, "  muster serve --netns %s --boot %s\n", s.Namespace, bridgeName)
	fmt.Fprintf(&b, "  muster node add '%s' bmc.address='10.78.0.{n0}' bmc.user=%s bmc.password=- \\\n", s.noderange(), s.User)
	fmt.Fprintf(&b, "    net.boot.mac='52:54:00:77:00:{n0:02x}' net.boot.address='10.77.1.{n0}' net.boot.prefix=%d < %s\n", bridgeAddress.Bits(), password)
	fmt.Fprintf(&b, "or by hand:\n")
	fmt.Fprintf(&b, "  muster lab exec%s -- ipmitool -I lanplus -C 17 -H %s -U %s -f %s chassis status\n", s.flag(), s.Machines[0].BMC, s.User, password)
	_, err := io.WriteString(out, b.String())
	return err
}

// noderange names all machines.
func (s *State) noderange() string {
	if len(s.Machines) == 1 {
		return s.Machines[0].Name
	}
	return fmt.Sprintf("r1n[1-%d]", len(s.Machines))
}
