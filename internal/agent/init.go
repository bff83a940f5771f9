package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/api"
	"muster/internal/model"
)

// Pauses of the init.
const (
	rebootPause = 10 * time.Second // for people to read the console, and for the server not to be hammered
	reportWait  = 5 * time.Second  // for a report that nothing depends on
	fetchReport = 2 * time.Second  // between two reports of the share that came
)

// Init is process 1 of the initramfs. It never returns: it becomes the root's init, or starts the machine again.
func Init() {
	b := &boot{con: &console{w: os.Stdout}}
	err := b.prepare()
	if err == nil {
		preferFastCipher()
		err = b.run(context.Background())
	}
	b.fail(err)
}

// boot is one boot, from kernel to root.
type boot struct {
	con    *console
	args   arguments
	net    *Net
	client *client // nil until enrolled
	id     identity
	plan   api.Plan
	host   struct{ private, public string }
}

// prepare makes the machine's own file systems visible.
func (b *boot) prepare() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755,size=20%"},
	} {
		// The second start of this program (see preferFastCipher) finds them mounted.
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return &failure{What: "mount " + m.target, Err: err, Do: "The kernel of the image does not support it: choose another kernel."}
		}
	}
	return nil
}

// run goes through the boot, up to the root's init.
func (b *boot) run(ctx context.Context) error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if b.args, err = parseArguments(string(line)); err != nil {
		return &failure{What: "kernel arguments", Err: err, Do: "They come from the boot script: look at muster why " + string(b.args.Node)}
	}
	fmt.Fprintln(b.con.w) // the firmware leaves its last line open
	b.con.say("init of %s", b.args.Node)
	steps := []func(context.Context) error{b.modules, b.network, b.enrol, b.fetch, b.start}
	if b.args.Root != "" {
		steps = []func(context.Context) error{b.modules, b.disk}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *boot) modules(context.Context) error {
	s, err := openModules("/lib/modules")
	if err != nil {
		return &failure{What: "module tables of the initramfs", Err: err, Do: "Build the image again."}
	}
	loaded, problems := s.devices()
	for _, p := range problems {
		b.con.say("%v", p)
	}
	if err := s.always(); err != nil {
		return &failure{What: "kernel modules", Err: err, Do: "Build the image again."}
	}
	b.con.say("drivers: %s", strings.Join(loaded, " "))
	return nil
}

func (b *boot) network(ctx context.Context) error {
	n, err := network(ctx, b.args.Net)
	if err != nil {
		return &failure{What: "network", Err: err, Do: "Check net.boot.mac and the cable; the driver of the port must be in the image's initramfs."}
	}
	b.net = n
	b.con.say("network: %s", n)
	return nil
}

// enrol turns the one-time token into a certificate.
func (b *boot) enrol(ctx context.Context) error {
	key, csr, err := newKey(b.args.Node)
	if err != nil {
		return err
	}
	if b.host.private, b.host.public, err = newHostKey("root@" + string(b.args.Node)); err != nil {
		return err
	}
	c := newClient(b.args.Server, b.args.Pin, nil)
	c.say = b.con.say
	var got api.Enrolled
	err = c.patiently(ctx, "enrol", patience, func() error {
		return c.post(ctx, "/v1/node/enrol", api.Enrol{Token: b.args.Token.Reveal(), Node: string(b.args.Node), CSR: csr, HostKeys: []string{b.host.public}}, &got)
	})
	if err != nil {
		return &failure{What: "enrol at " + b.args.Server, Err: err, Do: "The service records its reason: muster why " + string(b.args.Node)}
	}
	// The service's time; what the answer took is lost in the noise of a clock that nobody set.
	if t := time.UnixMilli(got.UnixMS); got.UnixMS > 0 {
		tv := unix.NsecToTimeval(t.UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			b.con.say("setting the clock: %v", err)
		}
	}
	b.plan = got.Plan
	b.id = identity{
		Server: b.args.Server, Pin: b.args.Pin, Node: model.NodeName(got.Node), Image: got.Plan.Image, Digest: got.Plan.Digest,
		Key: key, Certificate: got.Certificate, CA: got.CA, Disk: got.Plan.Disk,
	}
	cert, _, err := b.id.tls()
	if err != nil {
		return &failure{What: "enrol", Err: err, Do: "Look at the service's log."}
	}
	b.client = newClient(b.args.Server, b.args.Pin, cert)
	b.client.say = b.con.say
	b.con.say("enrolled as %s, runs %s", got.Node, got.Plan.Image)
	return nil
}

const (
	memDir   = "/mem"   // memory: the root image and what is written over it
	lowerDir = "/lower" // the root image, mounted
	newDir   = "/new"   // the root to be
)

// fetch brings the root image into memory, verified.
func (b *boot) fetch(ctx context.Context) error {
	if err := mountMemory(memDir); err != nil {
		return err
	}
	b.report(ctx, api.Progress{Step: "fetching", Text: fmt.Sprintf("%s, %.0f MB", b.plan.Image, float64(b.plan.Root.Size)/1e6)})
	percents := make(chan int, 1)
	told := make(chan struct{})
	go func() {
		defer close(told)
		b.tell(ctx, percents)
	}()
	start := uptime()
	err := b.client.fetch(ctx, b.plan.Root, filepath.Join(memDir, rootImage), func(p int) {
		select {
		case percents <- p:
		default: // the last one is still being told
		}
	})
	close(percents)
	<-told
	if err != nil {
		var f *failure
		if errors.As(err, &f) {
			return f
		}
		return &failure{What: "root image of " + b.plan.Image, Err: err, Do: "Check the image on the manager: muster image show " + b.plan.Image}
	}
	took := (uptime() - start).Seconds()
	b.con.say("fetched and verified %.0f MB in %.1f s, %.0f MB/s", float64(b.plan.Root.Size)/1e6, took, float64(b.plan.Root.Size)/1e6/took)
	return nil
}

// tell reports how far the fetch is, not too often.
func (b *boot) tell(ctx context.Context, percents <-chan int) {
	next := time.Now().Add(fetchReport)
	for p := range percents {
		if p < 100 && time.Now().After(next) {
			b.report(ctx, api.Progress{Step: "fetching", Made: model.Progress{Done: p, Of: 100}})
			next = time.Now().Add(fetchReport)
		}
	}
}

// start makes the root and becomes its init.
func (b *boot) start(ctx context.Context) error {
	if err := mountRoot(); err != nil {
		return err
	}
	if err := b.personalize(newDir); err != nil {
		return &failure{What: "writing the node's own files into the root", Err: err, Do: "Give the node more memory."}
	}
	if err := b.id.save(identityFile); err != nil {
		return &failure{What: "handing the identity to the agent", Err: err, Do: "Give the node more memory."}
	}
	b.report(ctx, api.Progress{Step: "starting", Text: b.plan.Image})
	b.con.say("starting %s", b.plan.Image)
	b.client.http.CloseIdleConnections()
	return switchRoot()
}

// report tells the service; a report that does not get through is not worth a boot.
func (b *boot) report(ctx context.Context, p api.Progress) {
	if b.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportWait)
	defer cancel()
	if err := b.client.post(ctx, "/v1/node/progress", p, nil); err != nil {
		b.con.say("report %q: %v", p.Step, err)
	}
}

// tellFailure says why a boot cannot go on, on the console and to the service.
func (b *boot) tellFailure(err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{What: "boot", Err: err, Do: "This is a fault of muster: tell its makers."}
	}
	b.con.say("FAILED: %v", f)
	b.con.say("%s", f.Do)
	b.report(context.Background(), api.Progress{Step: "failed", Text: f.Error(), Do: f.Do})
}

// fail ends a boot that cannot go on.
func (b *boot) fail(err error) {
	b.tellFailure(err)
	if b.args.Debug {
		b.con.say("stopped, as muster.debug says; switch the machine off")
		forever()
	}
	b.con.say("the machine starts again in %s", rebootPause)
	time.Sleep(rebootPause)
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	b.con.say("reboot: %v", err)
	forever()
}

// forever keeps process 1. Where nothing else runs, the runtime takes an empty select for a deadlock and ends the program;
// the kernel panics then.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

// uptime is the time since the kernel started.
func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
