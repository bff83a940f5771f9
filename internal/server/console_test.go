package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/store"
	"muster/internal/wire/ipmi/ipmitest"
)

// terminalServer is a port of one: what the service connects to it, in order.
func terminalServer(t *testing.T) (source string, accept func() net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "tcp:" + l.Addr().String(), func() net.Conn {
		t.Helper()
		_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
		c, err := l.Accept()
		if err != nil {
			t.Fatalf("the service does not connect: %v", err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

// watcher is a web socket at a node's console, as a page of the web would open one.
type watcher struct {
	t    *testing.T
	conn *websocket.Conn
}

func (s *service) attach(t *testing.T, node, query, origin string) (*watcher, error) {
	t.Helper()
	head := http.Header{}
	if origin != "" {
		head.Set("Origin", origin)
	}
	c, res, err := websocket.Dial(t.Context(), s.client.URL("/v1/console/"+node+"/attach?"+query), &websocket.DialOptions{HTTPClient: s.client.HTTP(), HTTPHeader: head})
	if err != nil {
		if res != nil {
			return nil, fmt.Errorf("status %d", res.StatusCode)
		}
		return nil, err
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return &watcher{t, c}, nil
}

// until reads until a control message or output has the text.
func (w *watcher) until(kind websocket.MessageType, text string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	var all strings.Builder
	for {
		k, b, err := w.conn.Read(ctx)
		if err != nil {
			w.t.Fatalf("%v; want %q, got %q", err, text, all.String())
		}
		if k == kind {
			all.Write(b)
		}
		if strings.Contains(all.String(), text) {
			return
		}
	}
}

func (w *watcher) send(kind websocket.MessageType, b string) {
	w.t.Helper()
	if err := w.conn.Write(w.t.Context(), kind, []byte(b)); err != nil {
		w.t.Fatal(err)
	}
}

func (s *service) consoleLog(node, query string) (string, error) {
	s.t.Helper()
	r, err := s.client.Open(s.t.Context(), "/v1/console/"+node+"/log?"+query)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// logs waits until the record of a console has a text.
func (s *service) logs(node, text string) {
	s.t.Helper()
	var got string
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) { // a record tells nobody that it grows
		var err error
		if got, err = s.consoleLog(node, ""); err == nil && strings.Contains(got, text) {
			return
		}
	}
	s.t.Fatalf("the record of %s has no %q: %q", node, text, got)
}

func TestConsole_of_a_socket_follows_its_attributes(t *testing.T) {
	s := start(t, shortDir(t))
	first, acceptFirst := terminalServer(t)
	second, acceptSecond := terminalServer(t)
	s.add("r1n1", attr("console.source", first))
	line := acceptFirst()
	w, err := s.attach(t, "r1n1", "write=true", "")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(line, "login: ")
	w.until(websocket.MessageBinary, "login: ")
	w.send(websocket.MessageBinary, "root\r")
	got := make([]byte, 5)
	if _, err := io.ReadFull(line, got); err != nil || string(got) != "root\r" {
		t.Errorf("the machine got %q, %v", got, err)
	}

	s.set("r1n1", attr("console.source", second)) // nobody restarts anything
	next := acceptSecond()
	if _, err := line.Read(got); err == nil {
		t.Error("the old address is still connected")
	}
	_, _ = io.WriteString(next, "from the second\r\n")
	w.until(websocket.MessageBinary, "from the second")
	s.logs("r1n1", "console lost: its address or password was changed")

	s.set("r1n1", attr("console.record", "false"))
	if _, err := next.Read(got); err == nil {
		t.Error("a console that is not to be recorded is connected")
	}
	s.logs("r1n1", "recording ends: console.record is false")
	s.set("r1n1", attr("console.record", "true"))
	acceptSecond()
	s.logs("r1n1", "recording goes on after")
}

func TestConsole_does_not_connect_to_sockets_of_the_service(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1", attr("console.source", "unix:"+s.srv.Socket()))
	s.logs("r1n1", "it is a socket of muster's own")
	err := s.post("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("console.source", "serial:/dev/ttyS1")}}, nil)
	wants(t, err, api.Usage, "no source of a console", "unix:/path")
}

func TestConsole_alarms_are_events(t *testing.T) {
	s := start(t, shortDir(t))
	source, accept := terminalServer(t)
	s.add("r1n1", attr("console.source", source))
	line := accept()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	alarm := func(says string) (out model.Event) {
		t.Helper()
		for e, err := range s.srv.store.Follow(ctx, store.EventQuery{Bad: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Step == "console.alarm" && strings.Contains(e.What, says) {
				return e
			}
		}
		t.Fatalf("no event says %q", says)
		return out
	}
	_, _ = io.WriteString(line, "[  1.5] Kernel panic - not syncing: Attempted to kill init!\r\n")
	if e := alarm("Attempted to kill init!"); e.Node != "r1n1" || e.What != "[  1.5] Kernel panic - not syncing: Attempted to kill init!" || e.Reason != "console.alarms has Kernel panic" {
		t.Errorf("%+v", e)
	}
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "compute"}, Groups: true, Set: []api.Assignment{{Attr: "console.alarms", Op: "+=", Value: `ib\d: link (down|lost)`}}}, nil)
	says := func(text, want string) {
		t.Helper()
		for { // until the console has heard of its new rules, the line is only a line
			_, _ = io.WriteString(line, text)
			events, err := s.srv.store.Events(store.EventQuery{Bad: true})
			if err != nil || ctx.Err() != nil {
				t.Fatalf("no event says %q: %v", want, err)
			}
			for _, e := range events {
				if strings.Contains(e.What, want) {
					return
				}
			}
		}
	}
	says("ib0: link lost\r\n", "ib0: link lost")
	says("Oops: 0002\r\n", "Oops: 0002") // the default ones go on
	err := s.post("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("console.alarms", "a(")}}, nil)
	wants(t, err, api.Usage, "no regular expression")
}

func TestConsole_for_a_page_of_the_web(t *testing.T) {
	s := start(t, shortDir(t))
	source, accept := terminalServer(t)
	s.add("r1n1", attr("console.source", source))
	line := accept()
	host := strings.TrimPrefix(s.client.URL(""), "http://")
	host, _, _ = strings.Cut(host, "/")
	if _, err := s.attach(t, "r1n1", "", "https://evil.example"); err == nil || err.Error() != "status 403" {
		t.Errorf("a page of another origin: %v", err)
	}
	ann, err := s.attach(t, "r1n1", "write=true&cols=100&rows=40", "http://"+host)
	if err != nil {
		t.Fatal(err)
	}
	ann.until(websocket.MessageText, `"connected"`)
	bob, err := s.attach(t, "r1n1", "write=true", "http://"+host)
	if err != nil {
		t.Fatal(err)
	}
	bob.send(websocket.MessageBinary, "x")
	bob.until(websocket.MessageText, "has the keyboard")
	bob.send(websocket.MessageText, `{"type":"take"}`)
	bob.until(websocket.MessageText, `"you":true`)
	bob.send(websocket.MessageText, `{"type":"break"}`)
	bob.until(websocket.MessageText, "a plain socket carries no break")
	bob.send(websocket.MessageText, `{"type":"reboot"}`)
	bob.until(websocket.MessageText, "there are break, take")
	bob.send(websocket.MessageText, `no JSON`)
	bob.until(websocket.MessageText, "control message")
	_, _ = io.WriteString(line, "one: down\r\ntwo: up\r\n")
	bob.until(websocket.MessageBinary, "two: up")
	if got, err := s.consoleLog("r1n1", "grep=down%24&tail=5"); err != nil || got != "one: down\r\n" {
		t.Errorf("grep: %q, %v", got, err)
	}
	_, err = s.consoleLog("r1n1", "grep=%28")
	wants(t, err, api.Usage, "no regular expression")
	if got, err := s.consoleLog("r1n1", "until=1h"); err != nil || got != "" {
		t.Errorf("until an hour ago: %q, %v", got, err)
	}
}

// simulatedBMC serves a BMC on a port of the loopback until the test ends.
type simulatedBMC struct {
	sync.Mutex
	*ipmitest.BMC
	port int
}

func startBMC(t *testing.T, user, password string) *simulatedBMC {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	b := &simulatedBMC{BMC: &ipmitest.BMC{User: user, Password: password, On: true, Rand: func(p []byte) { _, _ = rand.Read(p) }}, port: c.LocalAddr().(*net.UDPAddr).Port}
	served := make(chan struct{})
	t.Cleanup(func() {
		_ = c.Close()
		<-served
	})
	go func() {
		defer close(served)
		var last net.Addr
		buf := make([]byte, 2048)
		for {
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, from, err := c.ReadFrom(buf)
			now := time.Now()
			b.Lock()
			switch {
			case err == nil:
				last = from
				b.Input(now, append([]byte(nil), buf[:n]...))
			case !err.(net.Error).Timeout():
				b.Unlock()
				return
			}
			b.Tick(now)
			for _, p := range b.Output() {
				_, _ = c.WriteTo(p, last)
			}
			b.Unlock()
		}
	}()
	return b
}

func (b *simulatedBMC) says(text string) {
	b.Lock()
	defer b.Unlock()
	b.Feed(time.Now(), []byte(text))
}

func (b *simulatedBMC) change(f func()) {
	b.Lock()
	defer b.Unlock()
	f()
}

func TestConsole_of_a_BMC_follows_its_address_and_password(t *testing.T) {
	s := start(t, shortDir(t))
	first, second := startBMC(t, "admin", "one"), startBMC(t, "admin", "two")
	secret := func(text string) api.Assignment {
		return api.Assignment{Attr: "bmc.password", Op: "=", Secret: &api.SecretValue{Plain: text}}
	}
	s.add("r1n1", attr("bmc.address", "127.0.0.1"), attr("bmc.port", fmt.Sprint(first.port)), attr("bmc.user", "admin"), secret("one"))
	s.logs("r1n1", "console connected")
	first.says("from the first\r\n")
	s.logs("r1n1", "from the first")

	s.set("r1n1", attr("bmc.port", fmt.Sprint(second.port)))
	s.logs("r1n1", "refused") // the password is still that of the first
	s.set("r1n1", secret("two"))
	s.logs("r1n1", "console connected again")
	second.says("from the second\r\n")
	s.logs("r1n1", "from the second")
	first.change(func() {
		if first.HasLine() {
			t.Error("the first BMC still has the console")
		}
	})
	w, err := s.attach(t, "r1n1", "write=true", "")
	if err != nil {
		t.Fatal(err)
	}
	w.send(websocket.MessageText, `{"type":"break"}`)
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the simulated machine tells nobody
		breaks := 0
		second.change(func() { breaks = second.Breaks })
		if breaks == 1 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d breaks reached the machine", breaks)
		}
	}
}
