package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/model/noderange"
)

// Status is what a fleet says of itself.
type Status struct {
	Seed     uint64 `json:"seed"`
	IPMI     int    `json:"ipmi"`
	Redfish  int    `json:"redfish"`
	Range    string `json:"range"` // names of all nodes, as a noderange
	Dead     int    `json:"dead"`
	Faulty   int    `json:"faulty"` // not dead, and yet with a fault
	On       int    `json:"on"`
	Consoles int    `json:"consoles"` // serial lines that somebody has

	Received int64 `json:"received"` // datagrams
	Sent     int64 `json:"sent"`
	Dropped  int64 `json:"dropped"` // by faults
	Commands int64 `json:"commands"`
	Sessions int64 `json:"sessions"` // of IPMI that were opened
	Requests int64 `json:"requests"` // of Redfish
	Logins   int64 `json:"logins"`
	Streams  int64 `json:"streams"` // of events
	Spoken   int64 `json:"spoken"`  // octets of serial lines, repetitions not counted
	Typed    int64 `json:"typed"`
	Memory   int64 `json:"memory"` // octets that the program has from the system
}

// Status counts.
func (f *Fleet) Status() Status {
	c, now := &f.counters, time.Now()
	s := Status{
		Seed: f.seed, IPMI: f.opt.IPMI, Redfish: f.opt.Redfish, Range: f.Range(),
		Received: c.received.Load(), Sent: c.sent.Load(), Dropped: c.dropped.Load(), Commands: c.commands.Load(), Sessions: c.sessions.Load(),
		Requests: c.requests.Load(), Logins: c.logins.Load(), Streams: c.streams.Load(), Spoken: c.spoken.Load(), Typed: c.typed.Load(),
	}
	for i := range f.bmcs {
		b := &f.bmcs[i]
		b.mu.Lock()
		b.machine.settle(now)
		none := b.faults
		none.Renew = 0
		switch {
		case none.Dead:
			s.Dead++
		case none != Faults{}:
			s.Faulty++
		}
		if b.machine.on {
			s.On++
		}
		if b.line != nil {
			s.Consoles++
		}
		b.mu.Unlock()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.Memory = int64(m.Sys - m.HeapReleased)
	return s
}

// Range are the names of all nodes.
func (f *Fleet) Range() string {
	return f.opt.names(0, len(f.bmcs))
}

// names are the nodes from controller i up to j.
func (o *Options) names(i, j int) string {
	if j == i+1 {
		return fmt.Sprint(o.Prefix, j)
	}
	return fmt.Sprintf("%s[%d-%d]", o.Prefix, i+1, j)
}

// choose are the controllers of a noderange of plain names.
func (f *Fleet) choose(expr string) ([]*bmc, error) {
	names, err := noderange.ExpandNames(expr)
	if err != nil {
		return nil, err
	}
	var all []*bmc
	for _, n := range names {
		i, err := strconv.Atoi(n[min(len(n), len(f.opt.Prefix)):])
		if err != nil || n != fmt.Sprint(f.opt.Prefix, i) || i < 1 || i > len(f.bmcs) {
			return nil, fmt.Errorf("there is no node %s: there are %s", n, f.Range())
		}
		all = append(all, &f.bmcs[i-1])
	}
	return all, nil
}

// Fault applies words (see [ParseFaults]) to the nodes of a noderange, all or none, and returns how many they are.
func (f *Fleet) Fault(expr string, words []string) (int, error) {
	all, err := f.choose(expr)
	if err != nil {
		return 0, err
	}
	if _, err := ParseFaults(Faults{}, words); err != nil {
		return 0, err
	}
	for _, b := range all {
		var failed error
		f.do(b, time.Now(), func() {
			before := b.faults.Renew
			b.faults, _ = ParseFaults(b.faults, words)
			if b.redfish != nil && b.faults.Renew != before {
				failed = f.web.certify(b)
			}
			for _, t := range b.tasksOf() {
				t.hangs = t.hangs && b.faults.Hang
			}
		})
		if failed != nil {
			return 0, failed
		}
	}
	return len(all), nil
}

// tasksOf are the tasks of a controller that speaks Redfish.
func (b *bmc) tasksOf() []*task {
	if b.redfish == nil {
		return nil
	}
	return b.redfish.tasks
}

// Talk sets how many lines a second the machines of a noderange say, and lets them say some at once.
func (f *Fleet) Talk(expr string, rate float64, burst int64) (int, error) {
	all, err := f.choose(expr)
	if err != nil {
		return 0, err
	}
	if !(rate >= 0 && rate <= 1e6) || burst < 0 || burst > 1e9 {
		return 0, errors.New("a machine says 0 to 1,000,000 lines a second, and up to 1,000,000,000 at once")
	}
	for _, b := range all {
		now := time.Now()
		f.do(b, now, func() {
			b.machine.speech.set(now, rate, burst)
			b.speak(now)
		})
	}
	return len(all), nil
}

// WriteNodes writes a table of all nodes that "muster node add -f" reads. password is the file that the password is in.
func (f *Fleet) WriteNodes(out io.Writer, password string) error {
	_, err := fmt.Fprintln(out, "node,bmc.driver,bmc.address,bmc.port,bmc.user,bmc.password,bmc.pin")
	for i := range f.bmcs {
		driver, pin := "ipmi", ""
		if i >= f.opt.IPMI {
			driver, pin = "redfish", "any"
		}
		a := f.bmcs[i].address
		if err == nil {
			_, err = fmt.Fprintf(out, "%s,%s,%s,%d,%s,@%s,%s\n", f.bmcs[i].machine.name, driver, a.Addr(), a.Port(), f.opt.User, password, pin)
		}
	}
	return err
}

// NodeCommands are the commands that make the nodes in muster. The address of a node follows from its number.
func (f *Fleet) NodeCommands(password string) []string {
	var all []string
	add := func(driver string, from, to int, port uint16) {
		if from == to {
			return
		}
		b := f.opt.First.As4()
		address, where := fmt.Sprintf("%d.%d.{n0/256}.{n0%%256}", b[0], b[1]), fmt.Sprint(port)
		if f.opt.Ports {
			address, where = f.opt.First.String(), fmt.Sprintf("{n0+%d}", port)
		}
		line := fmt.Sprintf("muster node add '%s' bmc.driver=%s 'bmc.address=%s' 'bmc.port=%s' bmc.user=%s bmc.password=@%s",
			f.opt.names(from, to), driver, address, where, f.opt.User, password)
		if driver == "redfish" { // its certificates are made at start, and nobody's
			line += " bmc.pin=any"
		}
		all = append(all, line)
	}
	add("ipmi", 0, f.opt.IPMI, f.opt.IPMIPort)
	add("redfish", f.opt.IPMI, len(f.bmcs), f.opt.RedfishPort)
	return all
}

// order is a request over the control socket.
type order struct {
	Range  string   `json:"range"`
	Faults []string `json:"faults,omitempty"`
	Lines  float64  `json:"lines,omitempty"`
	Burst  int64    `json:"burst,omitempty"`
}

// outcome is its answer.
type outcome struct {
	Nodes int    `json:"nodes"`
	Error string `json:"error,omitempty"`
}

// Control serves orders on a unix socket until ctx ends. Only the user who started it may connect.
func (f *Fleet) Control(ctx context.Context, socket, password string) error {
	if c, err := net.Dial("unix", socket); err == nil {
		_ = c.Close()
		return fmt.Errorf("a fleet runs already at %s", socket)
	}
	_ = os.Remove(socket) // of one that was killed
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	s := &http.Server{Handler: f.orders(password), ReadHeaderTimeout: 10 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return s.Close()
	})
	return g.Wait()
}

func (f *Fleet) orders(password string) http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, do func(o order) (int, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var o order
			err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&o)
			var out outcome
			if err == nil {
				out.Nodes, err = do(o)
			}
			if err != nil {
				out.Error = err.Error()
				w.WriteHeader(http.StatusBadRequest)
			}
			_ = json.NewEncoder(w).Encode(out)
		})
	}
	handle("/fault", func(o order) (int, error) { return f.Fault(o.Range, o.Faults) })
	handle("/talk", func(o order) (int, error) { return f.Talk(o.Range, o.Lines, o.Burst) })
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(f.Status()) })
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, _ *http.Request) { _ = f.WriteNodes(w, password) })
	mux.HandleFunc("GET /authority", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.Authority()) })
	return mux
}
