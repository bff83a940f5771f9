package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/console"
	"muster/internal/model"
)

// reconcileConsoles keeps a console for every node that has a source of one and wants it, as the snapshot changes.
func (s *Server) reconcileConsoles(ctx context.Context) error {
	have := map[model.NodeName]bool{}
	rules := map[string]*console.Rules{} // by console.alarms: most nodes have the same
	for {
		snap := s.store.Snapshot()
		want := map[model.NodeName]bool{}
		alive := s.keepers()
		was := rules
		rules = map[string]*console.Rules{}
		for n := range snap.Nodes() {
			if s.name() != keeper(alive, n.Name) {
				continue
			}
			key, ok := s.consoleKey(snap, n)
			if !ok {
				continue
			}
			want[n.Name] = true
			if err := s.consoles.Set(n.Name, key, s.serial(n.Name)); err != nil {
				s.log.Error("console", "node", n.Name, "err", err)
			}
			s.consoles.SetAlarms(n.Name, s.alarmsOf(snap, n, rules, was))
		}
		for n := range have {
			if !want[n] {
				s.consoles.Remove(n, s.unwanted(snap, n, alive))
			}
		}
		have = want
		if err := s.keepersChange(ctx, snap, alive); err != nil {
			return err
		}
	}
}

// unwanted says why a console is not kept here any more.
func (s *Server) unwanted(snap *model.Snapshot, name model.NodeName, alive []model.ManagerName) string {
	n := snap.Node(name)
	if n == nil {
		return "the node was removed"
	}
	if k := keeper(alive, name); k != s.name() {
		return "manager " + string(k) + " keeps it from now on"
	}
	if record, err := snap.Attr(n, "console.record"); err == nil && record == "false" {
		return "console.record is false"
	}
	return "nothing says any more where its console is: bmc.address, console.source"
}

// alarmsOf are the rules of a node's console; those of this round, and of the one before, are used again. What cannot be compiled was refused when it was set.
func (s *Server) alarmsOf(snap *model.Snapshot, n *model.Node, round, before map[string]*console.Rules) *console.Rules {
	text, err := snap.Attr(n, "console.alarms")
	if err != nil || text == "" || text == model.NoAlarms {
		return nil
	}
	if r, ok := round[text]; ok {
		return r
	}
	r, ok := before[text]
	if !ok {
		doc, _ := model.Lookup("console.alarms")
		if r, err = console.Compile(doc.Elements(text)); err != nil {
			s.log.Error("console alarms", "node", n.Name, "err", err)
		}
	}
	round[text] = r
	return r
}

// consoleAlarm puts what a console says in need of somebody on the timeline.
func (s *Server) consoleAlarm(a console.Alarm) {
	e := about(a.Node, "console.alarm", a.Line)
	e.Reason, e.Bad = "console.alarms has "+a.Rule, true
	s.tell(e)
}

// keepersChange waits until the nodes are described otherwise than in the snapshot, or others keep them. It looks once a second, too: a manager that is cut
// off hears nothing, and has to let go of what it keeps all the same.
func (s *Server) keepersChange(ctx context.Context, snap *model.Snapshot, alive []model.ManagerName) error {
	changed := func(now *model.Snapshot) bool {
		return now.Described != snap.Described || !slices.Equal(alive, s.keepers())
	}
	for {
		look, cancel := context.WithTimeout(ctx, time.Second)
		err := s.store.Wait(look, changed)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

// consoleKey says whether a node's console is to be recorded; the key changes when what it is connected to does.
func (s *Server) consoleKey(snap *model.Snapshot, n *model.Node) (string, bool) {
	if record, err := snap.Attr(n, "console.record"); err != nil || record == "false" {
		return "", false
	}
	source, err := consoleSource(snap, n)
	if err != nil {
		return "", false
	}
	if source.Network != "bmc" {
		return source.String(), true
	}
	t, err := s.readBMC(snap, n)
	return t.key(), err == nil && t.driver != "wol" // which has no serial line
}

func consoleSource(snap *model.Snapshot, n *model.Node) (model.ConsoleSource, error) {
	text, err := snap.Attr(n, "console.source")
	if err != nil || text == "" {
		return model.ConsoleSource{Network: "bmc"}, err
	}
	return model.ParseConsoleSource(text)
}

// serial connects a node's console as its attributes say at that time.
func (s *Server) serial(name model.NodeName) console.Source {
	return func(ctx context.Context) (console.Stream, error) {
		snap := s.store.Snapshot()
		n := snap.Node(name)
		if n == nil {
			return nil, errors.New("the node was removed")
		}
		source, err := consoleSource(snap, n)
		if err != nil {
			return nil, err
		}
		if source.Network != "bmc" {
			return s.socketConsole(ctx, source)
		}
		d, err := s.driver(snap, n)
		if err != nil {
			return nil, err
		}
		line, err := d.Serial(ctx)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return heldLine{line, d}, nil
	}
}

// socketConsole connects a socket, unless it is one of our own: who may type at a console is not for that reason the service's own user.
func (s *Server) socketConsole(ctx context.Context, source model.ConsoleSource) (console.Stream, error) {
	if source.Network == "unix" {
		real, err := filepath.EvalSymlinks(source.Address)
		data, err2 := filepath.EvalSymlinks(s.cfg.Data)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		if in, err := filepath.Rel(data, real); err == nil && filepath.IsLocal(in) {
			return nil, &console.Error{What: source.String(), Why: "it is a socket of muster's own", Do: "Set console.source to the socket of the machine's serial line"}
		}
	}
	return console.Dial(ctx, source)
}

// heldLine keeps a driver as long as its serial line is used.
type heldLine struct {
	bmc.Stream
	driver bmc.Driver
}

func (l heldLine) Close() error { return errors.Join(l.Stream.Close(), l.driver.Close()) }

func consoleProblem(err error) error {
	var e *console.Error
	if errors.As(err, &e) {
		out := &api.Error{Code: api.Failed, What: e.What, Why: e.Why, Do: e.Do}
		if errors.Is(err, console.ErrUnknown) {
			out.Code = api.Unknown
		}
		return out
	}
	return err
}

func (s *Server) listConsoles(q *request) error {
	out := []api.ConsoleInfo{}
	for _, i := range s.consoles.List() {
		c := api.ConsoleInfo{Node: string(i.Node), State: recording(i), Since: i.Since, Bytes: i.Bytes, Watchers: i.Watchers}
		if s.pooled() {
			c.Manager = string(s.name())
		}
		out = append(out, c)
	}
	if s.pooled() && q.who.Manager == "" {
		out = append(out, s.consolesElsewhere(q)...)
		slices.SortFunc(out, func(a, b api.ConsoleInfo) int { return model.Natural(a.Node, b.Node) })
	}
	return q.answer(out)
}

// consolesElsewhere are those that other managers keep; of one that does not answer within a second there are none.
func (s *Server) consolesElsewhere(q *request) []api.ConsoleInfo {
	ctx, cancel := context.WithTimeout(q.Context(), time.Second)
	defer cancel()
	var mu sync.Mutex
	var all []api.ConsoleInfo
	var asked sync.WaitGroup
	for _, name := range s.keepers() {
		m := q.snap.Manager(name)
		if name == s.name() || m == nil || len(m.Addresses) == 0 {
			continue
		}
		asked.Go(func() {
			var some []api.ConsoleInfo
			if err := s.peers.get(ctx, m.Addresses[0], "/v1/consoles", q.who.Name, &some); err != nil {
				s.log.Warn("consoles of another manager", "manager", name, "err", err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, some...)
		})
	}
	asked.Wait()
	return all
}

// recording is "recording", or why not.
func recording(i console.Info) string {
	if i.State == console.Connected && i.Reason == "" {
		return "recording"
	}
	if i.Reason == "" {
		return string(i.State)
	}
	return string(i.State) + ": " + i.Reason
}

// consoleLog sends the record as bytes or, with replay=true, as lines of [api.ConsoleChunk] with their times.
func (s *Server) consoleLog(q *request) error {
	node, err := q.one("console", q.PathValue("node"))
	if err != nil {
		return err
	}
	n := node.Name
	if done, err := s.handOn(q, n); done || err != nil {
		return err
	}
	var in api.ConsoleLog
	if err := q.query(&in); err != nil {
		return err
	}
	from, err := since(in.Since, time.Now())
	if err != nil {
		return err
	}
	until, err := since(in.Until, time.Now())
	if err != nil {
		return err
	}
	o := console.LogOptions{Since: from, Until: until, Times: in.Times, Tail: in.Tail}
	if in.Grep != "" {
		if o.Grep, err = regexp.Compile(in.Grep); err != nil {
			return &api.Error{Code: api.Usage, What: "grep " + in.Grep, Why: "no regular expression: " + err.Error(), Do: "See https://golang.org/s/re2syntax"}
		}
	}
	if in.Replay {
		return s.replay(q, n, from, until)
	}
	r, err := s.consoles.Log(n, o)
	if err != nil {
		return consoleProblem(err)
	}
	defer r.Close()
	q.w.Header().Set("Content-Type", "application/octet-stream")
	_, err = io.Copy(q.w, r)
	if err != nil {
		s.log.Warn("console log was cut", "node", n, "err", err)
	}
	return nil
}

func (s *Server) replay(q *request, n model.NodeName, from, until time.Time) error {
	chunks, err := s.consoles.Replay(n, from, until)
	if err != nil {
		return consoleProblem(err)
	}
	q.w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(q.w)
	for c, err := range chunks {
		if err != nil {
			s.log.Warn("console replay was cut", "node", n, "err", err)
			return nil
		}
		if enc.Encode(api.ConsoleChunk{Time: c.Time, Data: c.Data, Mark: c.Mark}) != nil {
			return nil
		}
	}
	return nil
}

// attachConsole turns the request into a web socket: binary messages are the serial line, text messages control.
func (s *Server) attachConsole(q *request) error {
	node, err := q.one("console", q.PathValue("node"))
	if err != nil {
		return err
	}
	n := node.Name
	if err := q.sameOrigin(); err != nil {
		return err
	}
	if done, err := s.handOn(q, n); done || err != nil {
		return err
	}
	var in api.ConsoleAttach
	if err := q.query(&in); err != nil {
		return err
	}
	o := console.AttachOptions{Write: in.Write, Take: in.Take, Who: q.who.Name, Cols: in.Cols, Rows: in.Rows}
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()
	session, err := s.consoles.Attach(ctx, n, o)
	if err != nil {
		return consoleProblem(err)
	}
	defer session.Close()
	ws, err := websocket.Accept(q.w, q.Request, &websocket.AcceptOptions{InsecureSkipVerify: true}) // of the origin: that is verified, by the manager that was asked
	if err != nil {
		return nil // it has answered
	}
	defer func() { _ = ws.CloseNow() }()
	go func() {
		defer cancel()
		defer session.Close()
		fromWatcher(ctx, ws, session)
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case e, more := <-session.Events():
				if !more || control(ctx, ws, api.ConsoleControl{Type: string(e.Type), Text: e.Text, You: e.Mine}) != nil {
					return
				}
			}
		}
	}()
	buf := make([]byte, 16<<10)
	for {
		k, err := session.Read(buf)
		if err != nil || ws.Write(ctx, websocket.MessageBinary, buf[:k]) != nil {
			break
		}
	}
	cancel()
	<-done
	return nil
}

// sameOrigin refuses a page of another origin: a browser lets any page open a web socket, and sends along who its user is (RFC 6455 §10.2).
func (q *request) sameOrigin() error {
	origin := q.Header.Get("Origin")
	if origin == "" {
		return nil // no browser
	}
	if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, q.Host) {
		return &api.Error{Code: api.Denied, What: "console", Why: "a page of " + origin + " asks, and this is " + q.Host}
	}
	return nil
}

func control(ctx context.Context, ws *websocket.Conn, c api.ConsoleControl) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return ws.Write(ctx, websocket.MessageText, b)
}

// fromWatcher takes what a watcher types and asks until the web socket ends.
func fromWatcher(ctx context.Context, ws *websocket.Conn, session *console.Session) {
	for {
		kind, b, err := ws.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			_, err = session.Write(b)
		} else {
			err = command(session, b)
		}
		if err != nil && control(ctx, ws, api.ConsoleControl{Type: "error", Text: err.Error()}) != nil {
			return
		}
	}
}

func command(session *console.Session, b []byte) error {
	var c api.ConsoleControl
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	switch c.Type {
	case "break":
		return session.Break()
	case "take":
		session.Take()
		return nil
	}
	return fmt.Errorf("there is no control message %q; there are break, take", c.Type)
}
