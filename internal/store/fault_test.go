package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"muster/internal/model"
	"muster/internal/need"
)

// managerEnv has the JSON of a managerProcess in the environment of a process that is one.
const managerEnv = "MUSTER_STORE_MANAGER"

// managerProcess is a manager's store as a process of its own, which a test kills. It serves its peers on At, takes requests as JSON lines on
// its standard input and answers on its standard output, so that no fault of the network is in the way of the test.
type managerProcess struct {
	Name  string
	Dir   string
	At    string // host:port
	Files PeerFiles
	Join  *Join
	Log   string // file that takes its log; empty: none
}

// request is one line to a process. Op is one of:
//
//	advertise            tells the pool where it is reached
//	add, promote, remove Name (and URL): changes the pool; add answers Join
//	swap                 puts Value into the nodes Key and Key+"-pair" in one change and answers the value before
//	read                 answers Value of its snapshot, Torn when the two nodes differ
//	health               answers Health
type request struct {
	ID         int64
	Op         string
	Name       string
	URL        string
	Key, Value string
	After      model.Revision // read: wait for that revision
}

type answer struct {
	ID       int64
	Value    string
	Torn     bool
	Revision model.Revision
	Join     *Join
	Health   Health
	Kind     Kind   // of the error
	Err      string // empty: done
}

func (p *managerProcess) main() {
	out := json.NewEncoder(os.Stdout)
	var writing sync.Mutex
	say := func(a answer) {
		writing.Lock()
		defer writing.Unlock()
		_ = out.Encode(a)
	}
	fail := func(err error) {
		a := answer{Err: err.Error()}
		if e := (*Error)(nil); errors.As(err, &e) {
			a.Kind = e.Kind
		}
		say(a)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", p.At)
	if err != nil {
		fail(err)
	}
	g := newGate()
	if err := g.serve(l, p.Files); err != nil {
		fail(err)
	}
	log := slog.New(slog.DiscardHandler)
	if p.Log != "" {
		f, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			fail(err)
		}
		log = slog.New(slog.NewTextHandler(f, nil))
	}
	s, err := Open(context.Background(), Options{
		Dir: p.Dir, Name: model.ManagerName(p.Name), Peer: p.Files, Join: p.Join, Mount: g.mount, Log: log, EventFile: 100_000,
		Changes: 100, // what is removed too early is missed
	})
	if err != nil {
		fail(err)
	}
	go func() {
		<-s.Done()
		fail(s.Err())
	}()
	say(answer{Value: "open"})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			fail(err)
		}
		go func() {
			a, err := s.obey(&r, "https://"+p.At)
			a.ID = r.ID
			if err != nil {
				a.Err = err.Error()
				if e := (*Error)(nil); errors.As(err, &e) {
					a.Kind = e.Kind
				}
			}
			say(a)
		}()
	}
}

func (s *Store) obey(r *request, at string) (a answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch r.Op {
	case "advertise":
		return a, s.Advertise(ctx, at)
	case "add":
		j, err := s.AddMember(ctx, model.ManagerName(r.Name), r.URL)
		a.Join = &j
		return a, err
	case "promote":
		return a, s.Promote(ctx, model.ManagerName(r.Name))
	case "remove":
		return a, s.RemoveMember(ctx, model.ManagerName(r.Name))
	case "health":
		a.Health = s.Health()
		return a, nil
	case "read":
		if r.After > 0 {
			if err := s.AtLeast(ctx, r.After); err != nil {
				return a, err
			}
		}
		snap := s.Snapshot()
		pair := ""
		a.Value, pair, a.Revision = valueOf(snap, r.Key), valueOf(snap, r.Key+"-pair"), snap.Revision
		a.Torn = a.Value != pair
		return a, nil
	case "swap":
		a.Revision, err = s.Update(ctx, func(snap *model.Snapshot) (*model.Change, error) {
			a.Value = valueOf(snap, r.Key)
			return change("swap", node(r.Key, "v", r.Value), node(r.Key+"-pair", "v", r.Value)), nil
		})
		return a, err
	}
	return a, fmt.Errorf("no such request: %s", r.Op)
}

func valueOf(s *model.Snapshot, key string) string {
	if n := s.Node(model.NodeName(key)); n != nil {
		return n.Attrs["v"]
	}
	return ""
}

// process is the test's hold of a managerProcess.
type process struct {
	managerProcess
	space string // network namespace; empty: that of the test

	mu      sync.Mutex
	cmd     *exec.Cmd
	in      io.Writer
	waiting map[int64]chan answer
	gone    chan struct{} // closed when the process has ended
}

var requests atomic.Int64

// errGone says that the process ended before it answered, errDown that it never got the request.
var (
	errGone = errors.New("the process has ended")
	errDown = errors.New("the process does not run")
)

// start starts the process and waits until its store is open.
func (p *process) start(t testing.TB) error {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := json.Marshal(p.managerProcess)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	if p.space != "" {
		cmd = exec.Command("ip", "netns", "exec", p.space, self)
	}
	cmd.Env = append(os.Environ(), managerEnv+"="+string(cfg))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	open, gone := make(chan answer, 1), make(chan struct{})
	p.mu.Lock()
	p.cmd, p.in, p.gone, p.waiting = cmd, in, gone, map[int64]chan answer{0: open}
	p.mu.Unlock()
	go func() {
		defer close(gone)
		for d := json.NewDecoder(out); ; {
			var a answer
			if d.Decode(&a) != nil {
				_ = cmd.Wait()
				return
			}
			p.mu.Lock()
			c := p.waiting[a.ID]
			delete(p.waiting, a.ID)
			p.mu.Unlock()
			if c != nil {
				c <- a
			}
		}
	}()
	select {
	case a := <-open:
		if a.Err != "" {
			return fmt.Errorf("%s: %s", p.Name, a.Err)
		}
		return nil
	case <-gone:
		return fmt.Errorf("%s: %w", p.Name, errGone)
	}
}

// killOnly kills the process and does not wait for its end.
func (p *process) killOnly() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
	}
}

func (p *process) kill() {
	p.mu.Lock()
	cmd, gone := p.cmd, p.gone
	p.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Kill()
		<-gone
	}
}

func (p *process) ask(r request) (answer, error) {
	r.ID = requests.Add(1)
	b, err := json.Marshal(r)
	if err != nil {
		return answer{}, err
	}
	c := make(chan answer, 1)
	p.mu.Lock()
	gone := p.gone
	p.waiting[r.ID] = c
	_, err = p.in.Write(append(b, '\n')) // the whole line, or nothing that can be read as one
	p.mu.Unlock()
	if err != nil {
		return answer{}, errDown
	}
	select {
	case a := <-c:
		return a, nil
	case <-gone:
		return answer{}, errGone
	}
}

// must asks what has to succeed.
func (p *process) must(t testing.TB, r request) answer {
	t.Helper()
	a, err := p.ask(r)
	if err != nil || a.Err != "" {
		t.Fatalf("%s: %s: %v %s", p.Name, r.Op, err, a.Err)
	}
	return a
}

// network is a switch with a cable to each manager, in network namespaces of their own.
type network struct{ prefix string }

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func newNetwork(t testing.TB, n int) *network {
	t.Helper()
	if os.Getuid() != 0 {
		need.Lack(t, "needs network namespaces: run as root")
	}
	w := &network{fmt.Sprintf("muster-test-%d-", os.Getpid())}
	hub := w.prefix + "hub"
	steps := [][]string{{"netns", "add", hub}, {"-n", hub, "link", "add", "br0", "type", "bridge"}, {"-n", hub, "link", "set", "br0", "up"}}
	t.Cleanup(func() {
		_ = ip("netns", "del", hub)
		for i := range n {
			_ = ip("netns", "del", w.space(i))
		}
	})
	for i := range n {
		cable := fmt.Sprint("m", i+1)
		steps = append(steps,
			[]string{"netns", "add", w.space(i)},
			[]string{"-n", w.space(i), "link", "set", "lo", "up"},
			[]string{"-n", hub, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", w.space(i)},
			[]string{"-n", hub, "link", "set", cable, "master", "br0", "up"},
			[]string{"-n", w.space(i), "addr", "add", w.address(i).String() + "/24", "dev", "eth0"},
			[]string{"-n", w.space(i), "link", "set", "eth0", "up"},
		)
	}
	for _, s := range steps {
		if err := ip(s...); err != nil {
			need.Lack(t, fmt.Sprintf("no network namespaces here: %v", err))
		}
	}
	return w
}

func (w *network) space(i int) string   { return fmt.Sprint(w.prefix, "m", i+1) }
func (w *network) address(i int) net.IP { return net.IPv4(10, 99, 0, byte(i+1)) }

// plug puts a manager's cable into the switch, or pulls it: what is under way is lost without a word to anybody.
func (w *network) plug(t testing.TB, i int, in bool) {
	t.Helper()
	if err := ip("-n", w.prefix+"hub", "link", "set", fmt.Sprint("m", i+1), map[bool]string{true: "up", false: "down"}[in]); err != nil {
		t.Error(err)
	}
}

// newProcesses makes a pool of processes, each with a network namespace of its own.
func newProcesses(t testing.TB, n int) (*network, []*process) {
	t.Helper()
	w := newNetwork(t, n)
	a := newAuthority(t)
	var all []*process
	for i := range n {
		name := fmt.Sprint("m", i+1)
		p := &process{space: w.space(i), managerProcess: managerProcess{
			Name: name, Dir: t.TempDir(), At: w.address(i).String() + ":7", Files: a.issue(t, name, w.address(i)), Log: os.Getenv("MUSTER_TEST_LOG"),
		}}
		t.Cleanup(p.kill)
		if i > 0 {
			p.Join = all[0].must(t, request{Op: "add", Name: name, URL: "https://" + p.At}).Join
		}
		if err := p.start(t); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			p.must(t, request{Op: "advertise"})
		} else {
			all[0].must(t, request{Op: "promote", Name: name})
		}
		all = append(all, p)
	}
	return w, all
}

// A new manager that is killed at any point of its way into the pool goes on when it is started again, without its join string.
func TestKillWhileJoining(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	local := net.IPv4(127, 0, 0, 1)
	make := func(name string) *process {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		p := &process{managerProcess: managerProcess{Name: name, Dir: t.TempDir(), At: l.Addr().String(), Files: a.issue(t, name, local)}}
		t.Cleanup(p.kill)
		return p
	}
	first := make("m1")
	if err := first.start(t); err != nil {
		t.Fatal(err)
	}
	first.must(t, request{Op: "advertise"})
	for n := range 50 {
		first.must(t, request{Op: "swap", Key: fmt.Sprint("k", n), Value: strings.Repeat("x", 10_000)})
	}
	for round := range 3 {
		p := make(fmt.Sprint("joiner", round))
		p.Join = first.must(t, request{Op: "add", Name: p.Name, URL: "https://" + p.At}).Join
		for n := range 3 {
			kill := time.AfterFunc(time.Duration(10+round*40+n*50)*time.Millisecond, func() { p.killOnly() })
			_ = p.start(t) // it may be killed before it is open
			kill.Stop()
			p.kill()
			if hasFiles(p.Dir) && n == 1 {
				if _, err := os.Stat(p.Dir + "/join.json"); err == nil {
					p.Join = nil
				}
			}
		}
		if err := p.start(t); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		first.must(t, request{Op: "promote", Name: p.Name})
		rev := first.must(t, request{Op: "swap", Key: "k0", Value: "y"}).Revision
		if a := p.must(t, request{Op: "read", Key: "k0", After: rev}); a.Value != "y" || a.Torn {
			t.Fatalf("round %d: got %+v", round, a)
		}
		first.must(t, request{Op: "remove", Name: p.Name})
		p.kill()
	}
}

// leads waits until a process says who leads.
func leads(t testing.TB, all []*process) int {
	t.Helper()
	found := -1
	eventually(t, "a leader", func() bool {
		for i, p := range all {
			if a, err := p.ask(request{Op: "health"}); err == nil && string(a.Health.Leader) == p.Name {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

// history is what clients asked for and were told, for the checker. Times are in nanoseconds since begin.
type history struct {
	begin time.Time

	mu      sync.Mutex
	clients int
	ops     []porcupine.Operation
}

type swap struct{ key, value string } // value "": a read

// unknown is the output of a request whose outcome nobody knows.
const unknown = "?"

// never is the time at which a request of unknown outcome ends: it may have its effect at any time after its begin.
const never = int64(1) << 62

func (h *history) client() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients++
	return h.clients
}

func (h *history) add(client int, in swap, call time.Time, out string) {
	end := int64(time.Since(h.begin))
	if out == unknown {
		end = never
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: int64(call.Sub(h.begin)), Output: out, Return: end})
}

// registers says what a history may be: each key holds one value; a swap answers the value before it.
var registers = porcupine.Model{
	Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
		of := map[string][]porcupine.Operation{}
		for _, o := range ops {
			k := o.Input.(swap).key
			of[k] = append(of[k], o)
		}
		var all [][]porcupine.Operation
		for _, o := range of {
			all = append(all, o)
		}
		return all
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		next := in.(swap).value
		if next == "" {
			next = state.(string)
		}
		return out == unknown || out == state, next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v → %v", in, out) },
}

// explain names what a person looks for first in a history of one key that cannot be: values that two requests found, values found that nobody
// wrote, and reads of something else than what was written last.
func explain(ops []porcupine.Operation) string {
	var b strings.Builder
	line := func(o porcupine.Operation) {
		fmt.Fprintf(&b, "    client %d: %+v found %q, from %v to %v\n", o.ClientId, o.Input, o.Output, time.Duration(o.Call), time.Duration(o.Return))
	}
	wrote, found := map[string]porcupine.Operation{}, map[string][]porcupine.Operation{}
	for _, o := range ops {
		in, out := o.Input.(swap), o.Output.(string)
		if in.value != "" {
			wrote[in.value] = o
			if out != unknown {
				found[out] = append(found[out], o)
			}
			if out == in.value {
				b.WriteString("  a request was made twice, and found what it wrote itself:\n")
				line(o)
			}
		}
	}
	for value, by := range found {
		if len(by) > 1 {
			fmt.Fprintf(&b, "  %q was found by %d:\n", value, len(by))
			for _, o := range by {
				line(o)
			}
		}
		if w, ok := wrote[value]; !ok && value != "" {
			fmt.Fprintf(&b, "  %q was found and never written\n", value)
			line(by[0])
		} else if ok && w.Call > by[0].Return {
			fmt.Fprintf(&b, "  %q was found before it was written\n", value)
			line(w)
			line(by[0])
		}
	}
	for value, o := range wrote {
		if len(found[value]) == 0 {
			fmt.Fprintf(&b, "  %q was found by nobody\n", value)
			line(o)
		}
	}
	for _, o := range ops {
		if o.Input.(swap).value == "" {
			line(o)
		}
	}
	return b.String()
}

// The checker itself finds a lost write, and accepts one of unknown outcome.
func TestRegisters(t *testing.T) {
	op := func(client int, call, end int64, value, out string) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: swap{"k", value}, Call: call, Return: end, Output: out}
	}
	for _, test := range []struct {
		name string
		ops  []porcupine.Operation
		want bool
	}{
		{"one after the other", []porcupine.Operation{op(1, 0, 1, "a", ""), op(2, 2, 3, "b", "a"), op(1, 4, 5, "", "b")}, true},
		{"an acknowledged write lost", []porcupine.Operation{op(1, 0, 1, "a", ""), op(2, 2, 3, "b", "")}, false},
		{"a stale read", []porcupine.Operation{op(1, 0, 1, "a", ""), op(2, 2, 3, "", "")}, false},
		{"an unknown one made late", []porcupine.Operation{op(1, 0, never, "a", unknown), op(2, 2, 3, "b", ""), op(2, 4, 5, "", "a")}, true},
		{"an unknown one never made", []porcupine.Operation{op(1, 0, never, "a", unknown), op(2, 2, 3, "b", ""), op(2, 4, 5, "", "b")}, true},
	} {
		if got := porcupine.CheckOperations(registers, test.ops); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// Three managers under write load: they are killed, cut off, and healed. No acknowledged write is lost, none is torn, and the history is
// linearizable; a minority refuses writes and goes on reading.
func TestFaults(t *testing.T) {
	t.Parallel()
	rounds := 20
	if long {
		rounds = 200
	}
	if testing.Short() {
		rounds = 5
	}
	w, all := newProcesses(t, 3)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)

	h := &history{begin: time.Now()}
	var round, acked atomic.Int64
	var faultAt atomic.Int64   // time of the last fault of a leader, 0 when writes have come after it
	var failovers [2]durations // killed, cut off
	var kind atomic.Int64
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for _, p := range all {
		for range 2 {
			writers.Go(func() {
				client := h.client()
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					in := swap{fmt.Sprintf("r%d-%d", round.Load(), n%2), fmt.Sprintf("%d.%d", client, n)}
					call := time.Now()
					a, err := p.ask(request{Op: "swap", Key: in.key, Value: in.value})
					switch {
					case errors.Is(err, errDown):
						<-time.After(5 * time.Millisecond)
					case err == nil && a.Err == "":
						h.add(client, in, call, a.Value)
						acked.Add(1)
						if at := faultAt.Load(); at != 0 && call.UnixNano() > at && faultAt.CompareAndSwap(at, 0) {
							failovers[kind.Load()].add(time.Since(time.Unix(0, at)))
						}
					case err == nil && a.Kind == NoMajority: // nothing was written
					case err == nil && a.Kind != Uncertain && a.Kind != Closed && !strings.Contains(a.Err, "meanwhile"):
						t.Errorf("%s: %s", p.Name, a.Err)
						return
					case err == nil && strings.Contains(a.Err, "meanwhile"): // a conflict, for want of luck
					default:
						h.add(client, in, call, unknown)
						client = h.client() // this one is still waiting
					}
				}
			})
		}
	}
	pause := func(least, most int) {
		<-time.After(time.Duration(least+random.IntN(most-least)) * time.Millisecond)
	}
	for r := range rounds {
		round.Store(int64(r))
		pause(50, 300)
		i := leads(t, all)
		leader := r%3 != 2
		if !leader {
			i = (i + 1 + random.IntN(2)) % 3
		}
		faulty := all[i]
		failed := func() {
			if leader {
				kind.Store(int64(r % 2))
				faultAt.Store(time.Now().UnixNano())
			}
		}
		if r%2 == 0 {
			faulty.kill()
			failed()
			pause(20, 1500)
			if err := faulty.start(t); err != nil {
				t.Fatalf("round %d: %v", r, err)
			}
		} else {
			w.plug(t, i, false)
			failed()
			pause(20, 2500)
			if r%10 == 5 {
				eventually(t, "the one that is cut off to notice", func() bool {
					a, err := faulty.ask(request{Op: "health"})
					return err == nil && !a.Health.Since.IsZero()
				})
				a, err := faulty.ask(request{Op: "swap", Key: "minority", Value: "x"})
				if err != nil || a.Kind != NoMajority {
					t.Errorf("round %d: %s is cut off, and says %+v, %v", r, faulty.Name, a, err)
				}
				if a, err := faulty.ask(request{Op: "read", Key: "r0-0"}); err != nil || a.Value == "" {
					t.Errorf("round %d: %s is cut off, and reads %+v, %v", r, faulty.Name, a, err)
				}
			}
			w.plug(t, i, true)
		}
		before := acked.Load()
		eventually(t, "writes", func() bool { return acked.Load() > before+5 })
		for _, p := range all {
			if a, err := p.ask(request{Op: "read", Key: fmt.Sprintf("r%d-0", r)}); err != nil || a.Torn {
				t.Errorf("round %d: %s: torn: %+v, %v", r, p.Name, a, err)
			}
		}
		faultAt.Store(0)
		if t.Failed() {
			break
		}
	}
	close(stop)
	writers.Wait()

	// What every manager holds in the end is the last thing that a client reads.
	last := all[0].must(t, request{Op: "swap", Key: "last", Value: "x"}).Revision
	for r := range rounds {
		for n := range 2 {
			key := fmt.Sprintf("r%d-%d", r, n)
			for _, p := range all {
				call := time.Now()
				a := p.must(t, request{Op: "read", Key: key, After: last})
				if a.Torn {
					t.Errorf("%s: %s is torn", p.Name, key)
				}
				h.add(h.client(), swap{key: key}, call, a.Value)
			}
		}
	}
	if a := all[0].must(t, request{Op: "read", Key: "minority"}); a.Value != "" {
		t.Errorf("what the minority refused was written: %+v", a)
	}
	took := time.Since(h.begin)
	for _, ops := range registers.Partition(h.ops) {
		if res := porcupine.CheckOperationsTimeout(registers, ops, time.Minute); res != porcupine.Ok {
			t.Errorf("the history of %d requests is not linearizable: %v (seed %d)\n%s", len(ops), res, seed, explain(ops))
		}
	}
	uncertain := 0
	for _, o := range h.ops {
		if o.Output == unknown {
			uncertain++
		}
	}
	t.Logf("%d rounds in %v: %d writes acknowledged, %d of unknown outcome, history linearizable", rounds, took.Round(time.Second), acked.Load(), uncertain)
	t.Logf("leader killed, next write after: %v", &failovers[0])
	t.Logf("leader cut off, next write after: %v", &failovers[1])
}

// durations are figures to be printed.
type durations struct {
	mu  sync.Mutex
	all []time.Duration
}

func (d *durations) add(one time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, one.Round(time.Millisecond))
}

func (d *durations) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Sorted(slices.Values(d.all))
	if len(all) == 0 {
		return "never"
	}
	return fmt.Sprintf("median %v, longest %v of %d", all[len(all)/2], all[len(all)-1], len(all))
}
