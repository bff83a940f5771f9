package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/boot/tftpd"
	"muster/internal/model"
)

// childData says in the environment of this test program that it is to be a service, and where its data are; the others where it listens for other managers, and the join string
// of the pool that it is to be one of.
const (
	childData   = "MUSTER_TEST_SERVE"
	childListen = "MUSTER_TEST_LISTEN"
	childName   = "MUSTER_TEST_NAME"
	childJoin   = "MUSTER_TEST_JOIN"
)

// child is a service in a process of its own, which can be killed.
type child struct {
	proc    *exec.Cmd
	Socket  string `json:"socket"`
	API     string `json:"api"`
	Boot    string `json:"boot"` // of boot scripts, over HTTP
	Path    string `json:"path"` // of the script of 52:54:00:77:00:01
	HostKey string `json:"host_key"`
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childData); dir != "" {
		if err := beChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// beChild runs a service, and says in a line where it is.
func beChild(dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	listen := or(os.Getenv(childListen), "127.0.0.1:0")
	return Run(context.Background(), Config{
		Name: os.Getenv(childName), Advertise: os.Getenv(childListen), Join: os.Getenv(childJoin),
		Data: dir, Listen: []string{listen}, Version: "test", Drivers: map[string]Driver{"redfish": {Open: new(talkers).open}},
		Ready: func(s *Server) {
			place := boot.Server{
				Interface: "lo", Address: netip.MustParseAddr("127.0.0.1"), Network: netip.MustParsePrefix("127.0.0.0/8"),
				HTTPPort: 7080, APIPort: 7443, Pin: s.keys.Pin(), TicketKey: s.keys.TicketKey(),
			}
			go func() { _ = http.Serve(l, s.bootHandler(place, tftpd.Files{})) }()
			url := boot.ScriptURL(place, "52:54:00:77:00:01", time.Now())
			_ = json.NewEncoder(os.Stdout).Encode(child{
				Socket: s.Socket(), API: s.APIs()[0], Boot: "http://" + l.Addr().String(), Path: url[strings.Index(url, "/boot/"):], HostKey: s.keys.SSHAuthorizedKey(),
			})
		},
	})
}

// spawn starts a service in a process of its own, and waits until it is ready.
func spawn(t *testing.T, dir string, env ...string) *child {
	t.Helper()
	c := &child{proc: exec.Command(os.Args[0])}
	c.proc.Env = append(append(os.Environ(), childData+"="+dir), env...)
	c.proc.Stderr = os.Stderr
	out, err := c.proc.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.proc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, c)
	}
	if err != nil {
		t.Fatalf("the service did not start: %v: %s", err, line)
	}
	return c
}

// kill ends it as a power failure would.
func (c *child) kill() {
	if c.proc.ProcessState == nil {
		_ = c.proc.Process.Kill()
		_ = c.proc.Wait()
	}
}

func (c *child) client(t *testing.T) *api.Client {
	t.Helper()
	client, err := api.NewClient(api.Options{Server: "unix:" + c.Socket})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// what is the deployment of r1n1: its phase and how far it is.
func (c *child) what(t *testing.T) api.NodeStatus {
	t.Helper()
	for n, err := range api.Stream[api.NodeStatus](context.Background(), c.client(t), "POST", "/v1/status", api.StatusQuery{Range: api.Range{Range: "r1n1"}}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("no status")
	return api.NodeStatus{}
}

func (c *child) deploy(t *testing.T, in api.Deploy) {
	t.Helper()
	in.Range = api.Range{Range: "r1n1"}
	for r, err := range api.Stream[api.DeployResult](context.Background(), c.client(t), "POST", "/v1/deploy", in, nil) {
		if err != nil || r.Error != nil {
			t.Fatal(err, r.Error)
		}
	}
}

// In each phase the service is killed, and then the machine is reset: it boots again, and is up. Killed for good in it, it is held by the next service in its time, with where it
// was; and tried again it is up.
func TestDeployment_ends_well_whoever_is_killed_in_whatever_phase(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n1", attr("net.boot.mac", "52:54:00:77:00:01"), attr("net.boot.address", "127.0.0.1"), attr("bmc.driver", "redfish"), attr("bmc.address", "10.0.0.1"))
	fakeImage(t, s)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	c := spawn(t, data)
	var m *machine
	fresh := func() { // a boot has a new key
		m = &machine{t: t, far: *c, path: c.Path}
		m.key, m.csr = newKey(t)
	}
	boots := 0    // of this test: each has a boot id
	disk := false // the deployment is to disk, and writes it
	steps := []struct {
		phase model.Phase
		do    func() int
	}{
		{model.Armed, func() int { return http.StatusOK }},
		{model.Booting, func() int { m.script(); return http.StatusOK }},
		{model.Enrolled, func() int { _, code := m.enrol(); return code }},
		{model.Fetching, func() int { return m.report("fetching", 43, 100) }},
		{model.Starting, func() int { return m.report("starting", 0, 0) }},
		{model.Writing, func() int { return m.report("writing", 7, 100) }},
		{model.Jobs, func() int {
			if code := m.report("installed", 0, 0); disk && code != http.StatusOK {
				return code
			}
			return m.report("jobs", 3, 7)
		}},
		{model.Up, func() int {
			boots++
			return m.ask("POST", "/v1/node/up", api.Up{BootID: fmt.Sprint("b", boots)}, nil)
		}},
	}
	goOn := func(from, to model.Phase) {
		t.Helper()
		on := from == ""
		for _, s := range steps {
			if on && (disk || s.phase != model.Writing) {
				if code := s.do(); code != http.StatusOK {
					t.Fatalf("%s: status %d", s.phase, code)
				}
				if st := c.what(t); st.Status != string(s.phase) {
					t.Fatalf("it is %s, want %s", st.Status, s.phase)
				}
			}
			on = on || s.phase == from
			if s.phase == to {
				return
			}
		}
	}
	again := func() { // killed, and started again
		t.Helper()
		c.kill()
		c = spawn(t, data)
		m.far, m.path = *c, c.Path
	}
	for _, at := range steps[:len(steps)-1] {
		t.Run(string(at.phase), func(t *testing.T) {
			m.setT(t)
			fresh()
			disk = at.phase == model.Writing
			c.deploy(t, api.Deploy{Image: "compute", Disk: disk})
			goOn("", at.phase)
			again()
			if st := c.what(t); st.Status != string(at.phase) {
				t.Fatalf("after the kill it is %s, want %s", st.Status, at.phase)
			}
			if at.phase != model.Armed {
				fresh() // reset
				goOn(model.Armed, at.phase)
			}
			goOn(at.phase, model.Up)

			// The same with a machine that is never heard of again.
			limit := "deploy.limit." + string(at.phase)
			set := func(value string) {
				t.Helper()
				if err := c.client(t).Do(context.Background(), "POST", "/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr(limit, value)}}, nil); err != nil {
					t.Fatal(err)
				}
			}
			set("1s")
			fresh()
			c.deploy(t, api.Deploy{Image: "compute", Disk: disk, Reboot: true})
			goOn("", at.phase)
			again()
			var st api.NodeStatus
			for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
				if st = c.what(t); st.Status == "held" {
					break
				}
			}
			if st.Status != "held" || st.Code != model.PhaseTooLong || !strings.Contains(st.Reason, limit) {
				t.Fatalf("after its time: %+v", st)
			}
			set("")
			c.deploy(t, api.Deploy{Retry: true})
			fresh()
			goOn(model.Armed, model.Up)
		})
	}
}

func (m *machine) setT(t *testing.T) {
	if m != nil {
		m.t = t
	}
}

// Two managers that both take a node for theirs hold it once: the commit of the second finds it held.
func TestLimits_hold_once_however_many_look(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n[1-50]")
	fakeImage(t, s)
	past := time.Now().Add(-time.Hour)
	var ops []model.Op
	var names []model.NodeName
	for n := range s.srv.store.Snapshot().Nodes() {
		names = append(names, n.Name)
		ops = append(ops, model.Op{Kind: model.KindDeployment, Name: string(n.Name), Doc: &model.Deployment{
			Node: n.Name, Image: "compute", Phase: model.Fetching, Since: past, Deadline: past.Add(time.Minute),
		}})
	}
	s.commit(ops...)
	done := make(chan error)
	for range 8 { // beside the keeper
		go func() { done <- s.srv.holdLate(context.Background(), names) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	times := map[model.NodeName]int{}
	for _, e := range s.told(boot.StepLate) {
		times[e.Node]++
	}
	for _, n := range names {
		if d := s.srv.store.Snapshot().Deployment(n); times[n] != 1 || d.Phase != model.Held {
			t.Errorf("%s: %s, told %d times", n, d.Phase, times[n])
		}
	}
}

// A pool of three in processes of their own: the manager that was asked is killed with a rollout and thirty deadlines on its hands. The others hold each node in its time, stop
// the rollout, and tell each of it once.
func TestDeployments_are_taken_over_from_a_manager_that_is_killed(t *testing.T) {
	first := shortDir(t)
	s := start(t, first)
	fakeImage(t, s)
	s.add("a[1-30],b[1-30]", attr("bmc.driver", "redfish"), attr("bmc.address", "10.0.0.1"), attr("deploy.limit.armed", "2s"))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var pool []*child
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		env := []string{childListen + "=" + l.Addr().String()}
		_ = l.Close()
		dir := first
		if i > 0 {
			var in api.Invitation
			if err := pool[0].client(t).Do(context.Background(), "POST", "/v1/managers/add", api.AddManager{Name: fmt.Sprint("m", i+1)}, &in); err != nil {
				t.Fatal(err)
			}
			dir, env = shortDir(t), append(env, childJoin+"="+in.Join)
		}
		pool = append(pool, spawn(t, dir, env...))
	}
	wait := func(what string, cond func() bool) {
		t.Helper()
		for until := time.Now().Add(time.Minute); !cond(); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%s: not after a minute", what)
			}
		}
	}
	wait("three voters", func() bool {
		var all []api.ManagerInfo
		err := pool[0].client(t).Do(context.Background(), "GET", "/v1/managers", nil, &all)
		voters := 0
		for _, m := range all {
			if m.State == "alive" && (m.Role == "leader" || m.Role == "follower") {
				voters++
			}
		}
		return err == nil && voters == 3
	})
	for _, in := range []api.Deploy{
		{Range: api.Range{Range: "a[1-30]"}, Image: "compute", Reboot: true},
		{Range: api.Range{Range: "b[1-30]"}, Image: "compute", Reboot: true, Canary: 6, Batch: 12, StopAt: 50},
	} {
		for r, err := range api.Stream[api.DeployResult](context.Background(), pool[0].client(t), "POST", "/v1/deploy", in, nil) {
			if err != nil || r.Error != nil {
				t.Fatal(err, r.Error)
			}
		}
	}
	pool[0].kill()

	c := pool[1].client(t)
	count := func(nodes, status string) int {
		n := 0
		for st, err := range api.Stream[api.NodeStatus](context.Background(), c, "POST", "/v1/status", api.StatusQuery{Range: api.Range{Range: nodes}}, nil) {
			if err != nil {
				return -1
			}
			if st.Status == status {
				n++
			}
		}
		return n
	}
	wait("all of a are held", func() bool { return count("a[1-30]", "held") == 30 })
	var r api.RolloutInfo
	wait("the rollout is stopped", func() bool {
		r = api.RolloutInfo{}
		_ = c.Do(context.Background(), "GET", "/v1/rollouts/compute-1", nil, &r)
		return r.State == "stopped"
	})
	if r.Failed < 3 || r.Failed > 6 || r.Wave != 1 || count("b[1-30]", "defined") != 24 {
		t.Errorf("%+v, %d not begun", r, count("b[1-30]", "defined"))
	}
	times := map[string]int{}
	for e, err := range api.Stream[model.Event](context.Background(), c, "GET", "/v1/events", nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Step == boot.StepLate || e.Step == "rollout.stopped" {
			times[e.Step+string(e.Node)]++
		}
	}
	for what, n := range times {
		if n != 1 {
			t.Errorf("%s was told %d times", what, n)
		}
	}
	if len(times) < 30+3+1 {
		t.Errorf("told: %v", times)
	}
}
