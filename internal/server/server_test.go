package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/store"
)

// service is a running server on a socket in a temporary directory.
type service struct {
	t      testing.TB
	data   string
	client *api.Client
	srv    *Server
	stop   func() error
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t testing.TB, data string) *service {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan *Server, 1), make(chan error, 1)
	s := &service{t: t, data: data, log: &lockedBuffer{}}
	go func() {
		done <- Run(ctx, Config{
			Data: data, Listen: []string{"127.0.0.1:0"}, Version: "test", Drivers: map[string]Driver{"redfish": {Open: new(talkers).open}},
			Log: slog.New(slog.NewTextHandler(s.log, nil)), Ready: func(srv *Server) { ready <- srv },
		})
	}()
	select {
	case s.srv = <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("the service did not start: %v", err)
	}
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	c, err := api.NewClient(api.Options{Server: "unix:" + s.srv.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	s.client = c
	return s
}

// shortDir is a temporary directory whose path leaves room for a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("", "ms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

func (s *service) post(path string, in, out any) error {
	s.t.Helper()
	return s.client.Do(context.Background(), "POST", path, in, out)
}

func (s *service) must(path string, in, out any) {
	s.t.Helper()
	if err := s.post(path, in, out); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
}

func (s *service) add(nodes string, set ...api.Assignment) {
	s.t.Helper()
	var c api.Changed
	s.must("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: nodes}, Groups: []string{"compute"}, Set: set}, &c)
}

func attr(name, value string) api.Assignment {
	return api.Assignment{Attr: name, Op: "=", Value: value}
}

// until waits for what no snapshot tells of: a file, or what the service takes in by itself.
func (s *service) until(what string, cond func() bool) {
	s.t.Helper()
	limit := time.After(30 * time.Second)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-limit:
			s.t.Fatalf("not within 30 s: %s\n%s", what, s.log)
		}
	}
}

// known waits until the manager has written its own document, the last thing that a start does by itself.
func (s *service) known() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	if err := s.srv.store.Wait(ctx, func(snap *model.Snapshot) bool { m := snap.Manager(s.srv.name()); return m != nil && m.Member != "" }); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.srv.store.Events(store.EventQuery{Limit: 1}); err != nil { // when that of the start is there, it moves no revision any more
		s.t.Fatal(err)
	}
}

// wants checks that an error has a code and says all of the words.
func wants(t testing.TB, err error, code api.Code, words ...string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error of code %s", err, code)
	}
	if e.Code != code {
		t.Errorf("code %s, want %s: %v", e.Code, code, e)
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, e)
		}
	}
}

func TestService_keeps_everything_over_a_restart(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n[1-3]", attr("net.boot.address", "10.77.1.{n0}"))
	pin := s.srv.keys.Pin()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, data)
	var names api.Names
	s.must("/v1/list", api.ListNodes{}, &names)
	if names.Folded != "r1n[1-3]" {
		t.Errorf("nodes after a restart: %+v", names)
	}
	if s.srv.keys.Pin() != pin {
		t.Error("the pin changed")
	}
}

func TestService_answers_all_problems_of_an_input_at_once(t *testing.T) {
	s := start(t, shortDir(t))
	err := s.post("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: "r1n[1-2]"}, Set: []api.Assignment{
		attr("bcm.address", "10.1.1.1"),
	}}, nil)
	wants(t, err, api.Usage, "bcm.address", "bmc.address")
	err = s.post("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: "r1n[1-2]"}, Set: []api.Assignment{
		attr("bmc.address", "10.1.1.{n0}"), attr("net.boot.mac", "52:54:00:77:00:01"),
	}}, nil)
	wants(t, err, api.Usage, "52:54:00:77:00:01", "r1n1", "r1n2")
	s.add("r1n[1-2]")
	wants(t, s.post("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: "r1n[2-3]"}}, nil), api.Conflict, "r1n2")
	wants(t, s.post("/v1/power", api.Power{Range: api.Range{Range: "r1n1,r1m2,r9"}, Action: "on"}, nil), api.Unknown, "r1m2", "r9", "r1n2")
	wants(t, s.post("/v1/power", api.Power{Range: api.Range{Range: "r1n[1-"}, Action: "on"}, nil), api.Usage, "column")
	wants(t, s.post("/v1/power", api.Power{Range: api.Range{Range: "r1n1"}, Action: "up"}, nil), api.Usage, "softoff")
	wants(t, s.post("/v1/deploy", api.Deploy{Range: api.Range{Range: "r1n1"}, Image: "x"}, nil), api.Unknown, "image build")
	wants(t, s.post("/v1/power", map[string]string{"rnage": "r1n1"}, nil), api.Usage, "rnage")
	var names api.Names
	s.must("/v1/list", api.ListNodes{}, &names)
	if names.Folded != "r1n[1-2]" {
		t.Errorf("after refused changes there are %s", names.Folded)
	}
}

// A marker is planted in every secret attribute; no answer, log line or file may hold it.
func TestService_never_shows_a_secret(t *testing.T) {
	const marker = "Marker4711"
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n1", attr("bmc.address", "127.0.0.1"), attr("bmc.port", "9"), api.Assignment{Attr: "bmc.password", Op: "=", Secret: &api.SecretValue{Plain: marker}})
	var answers bytes.Buffer
	for _, path := range []string{"/v1/get", "/v1/status", "/v1/power"} {
		for line, err := range api.Stream[api.Raw](context.Background(), s.client, "POST", path, map[string]any{"range": "r1n1"}, nil) {
			answers.Write(line)
			if err != nil {
				answers.WriteString(err.Error())
			}
		}
	}
	var c api.Changed
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("bmc.password", marker+"2")}}, &c)
	answers.WriteString(strings.Join(c.Changes, "\n"))
	for line := range api.Stream[api.Raw](context.Background(), s.client, "GET", "/v1/events", nil, nil) {
		answers.Write(line)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	answers.WriteString(s.log.String())
	if strings.Contains(answers.String(), marker) {
		t.Errorf("an answer or the log shows the secret:\n%s", answers.String())
	}
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(marker)) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestService_tls_needs_a_certificate_of_its_own_ca(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	url := s.srv.APIs()[0]
	admin, err := api.NewClient(api.Options{Server: url, Identity: s.srv.keys.AdminBundle()})
	if err != nil {
		t.Fatal(err)
	}
	var v api.Version
	if err := admin.Do(context.Background(), "GET", "/v1/version", nil, &v); err != nil || v.Who != "admin" {
		t.Errorf("administrator over TLS: %+v, %v", v, err)
	}

	key, csr := newKey(t)
	cert, fingerprint, _, err := s.srv.keys.SignNode("r1n1", csr, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(s.data, "node.pem")
	text := cert + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})) + s.srv.keys.CA()
	if err := os.WriteFile(bundle, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	node, err := api.NewClient(api.Options{Server: url, Identity: bundle})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, node.Do(context.Background(), "POST", "/v1/power", api.Power{Range: api.Range{Range: "r1n1"}, Action: "off"}, nil), api.Denied, "r1n1", "power")
	wants(t, node.Do(context.Background(), "POST", "/v1/node/heartbeat", api.Up{BootID: "x"}, nil), api.Denied, "enrol")
	enrolled := func(key string) {
		t.Helper()
		s.commit(model.Op{Kind: model.KindIdentity, Name: "r1n1", Doc: &model.Identity{Node: "r1n1", Key: key, Enrolled: time.Now()}})
	}
	enrolled("sha256:another")
	wants(t, node.Do(context.Background(), "POST", "/v1/node/heartbeat", api.Up{BootID: "x"}, nil), api.Denied, "another key")
	// It enrolled: then its own verbs are answered, and they are about itself.
	enrolled(fingerprint)
	var beat api.Heartbeat
	if err := node.Do(context.Background(), "POST", "/v1/node/heartbeat", api.Up{BootID: "x"}, &beat); err != nil || beat.IntervalMS == 0 || !beat.Facts {
		t.Errorf("heartbeat: %+v, %v", beat, err)
	}
	wants(t, node.Do(context.Background(), "GET", "/v1/node/plan", nil, nil), api.Conflict, "nothing is deployed")
}

func TestService_refuses_an_enrolment_without_a_token(t *testing.T) {
	s := start(t, shortDir(t))
	wants(t, s.post("/v1/node/enrol", api.Enrol{CSR: "rubbish"}, nil), api.Usage, "certificate request")
}

func TestRun_names_what_cannot_start_and_leaves_nothing(t *testing.T) {
	data := shortDir(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(context.Background(), Config{Data: data, Listen: []string{l.Addr().String(), "192.0.2.1:7443"}})
	wants(t, problem(err), api.Failed, "taken", l.Addr().String(), "192.0.2.1", "--listen")
	err = Run(context.Background(), Config{Data: data, Boot: []string{"nothere0", "nothere1"}})
	wants(t, problem(err), api.Usage, "nothere0", "nothere1", "no such interface")
	start(t, data) // the directory is free and whole
}

func TestRun_refuses_a_second_service_on_one_directory(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	err := Run(context.Background(), Config{Data: data, Listen: []string{"127.0.0.1:0"}})
	if err == nil || !strings.Contains(err.Error(), "another") && !strings.Contains(err.Error(), "process") {
		t.Errorf("a second service: %v", err)
	}
	s.add("r1n1") // the first one still answers
}

// Members of the group come through the data directory to the socket: everything else in it is the service's alone.
func TestService_shows_nothing_but_the_socket_to_others(t *testing.T) {
	s := start(t, shortDir(t))
	entries, err := os.ReadDir(s.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		forbidden := fs.FileMode(0o077)
		if info.Mode()&fs.ModeSocket != 0 {
			forbidden = 0o007
		}
		if info.Mode().Perm()&forbidden != 0 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func TestStop_does_not_wait_for_those_who_follow(t *testing.T) {
	s := start(t, shortDir(t))
	follower := make(chan struct{})
	first := make(chan struct{}, 1)
	go func() {
		defer close(follower)
		for range api.Stream[api.Raw](context.Background(), s.client, "GET", "/v1/events?follow=true", nil, nil) {
			select {
			case first <- struct{}{}:
			default:
			}
		}
	}()
	<-first
	began := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %v", time.Since(began))
	<-follower
}

func TestWhy_tells_the_newest_attempt_and_what_to_look_at(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	at := func(sec int) time.Time { return time.Date(2026, 11, 20, 8, 0, sec, 0, time.UTC) }
	s.srv.tell(
		model.Event{Time: at(0), Node: "r1n1", Step: "power.on", What: "power on"},
		model.Event{Time: at(30), Node: "r1n1", Step: "node.up", What: "up"},
		model.Event{Time: at(40), Node: "r1n1", Step: "deploy.armed", What: "armed"},
		model.Event{Time: at(50), Node: "r1n1", Step: "power.cycle", What: "power cycle"},
		model.Event{Time: at(52), Node: "r1n1", Step: "boot.script", What: "script", TookUS: 300},
	)
	var w api.Why
	if err := s.client.Do(context.Background(), "GET", "/v1/why/r1n1", nil, &w); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, e := range w.Steps {
		steps = append(steps, e.Step)
	}
	if got := strings.Join(steps, " "); got != "deploy.armed power.cycle boot.script" {
		t.Errorf("steps %s", got)
	}
	if w.Stopped != "boot.script" || w.OursUS != 300 || len(w.Look) == 0 || !strings.Contains(strings.Join(w.Look, " "), "muster deploy r1n1") {
		t.Errorf("stopped at %s, look at %q, ours %d µs", w.Stopped, w.Look, w.OursUS)
	}
	wants(t, s.client.Do(context.Background(), "GET", "/v1/why/52:54:00:00:00:99", nil, nil), api.Unknown, "ever heard", "discover")
}

func TestAttempt(t *testing.T) {
	e := func(steps ...string) (out []model.Event) {
		for _, s := range steps {
			out = append(out, model.Event{Step: s})
		}
		return out
	}
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"node.add", "node.add"},
		{"node.add deploy.armed power.on dhcp.offer", "deploy.armed power.on dhcp.offer"},
		{"deploy.armed power.on node.up run power.reset dhcp.offer", "deploy.armed power.reset dhcp.offer"},
		{"power.on node.up deploy.armed", "power.on node.up deploy.armed"},
	} {
		var got []string
		for _, ev := range attempt(e(strings.Fields(c.in)...)) {
			got = append(got, ev.Step)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("attempt(%s) = %s, want %s", c.in, got, c.want)
		}
	}
}

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "10m": now.Add(-10 * time.Minute), "2026-11-20T06:00:00Z": now.Add(-2 * time.Hour)} {
		if got, err := since(text, now); err != nil || !got.Equal(want) {
			t.Errorf("since(%q) = %v, %v", text, got, err)
		}
	}
	if _, err := since("yesterday", now); err == nil {
		t.Error("since(yesterday) was taken")
	}
}

func TestProblem_of_the_store_is_told_when_a_time_ran_out_in_it(t *testing.T) {
	err := &store.Error{Kind: store.Uncertain, What: "commit set", Why: "no answer came", Do: "Look, then ask again", Err: context.DeadlineExceeded}
	if e := problem(err); e.Why != err.Why || e.Do != err.Do {
		t.Errorf("%+v", e)
	}
	if e := problem(context.DeadlineExceeded); e.What != "time ran out" {
		t.Errorf("%+v", e)
	}
}
