package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/console"
	"muster/internal/model"
)

// reconcileConsoles keeps a console for every node that has a BMC and wants one, as the snapshot changes.
func (s *Server) reconcileConsoles(ctx context.Context) error {
	have := map[model.NodeName]bool{}
	for {
		snap := s.store.Snapshot()
		want := map[model.NodeName]bool{}
		alive := s.keepers()
		for n := range snap.Nodes() {
			if s.name() != keeper(alive, n.Name) {
				continue
			}
			if key, ok := s.consoleKey(snap, n); ok {
				want[n.Name] = true
				if err := s.consoles.Set(n.Name, key, s.serial(n.Name)); err != nil {
					s.log.Error("console", "node", n.Name, "err", err)
				}
			}
		}
		for n := range have {
			if !want[n] {
				s.consoles.Remove(n)
			}
		}
		have = want
		if err := s.keepersChange(ctx, snap, alive); err != nil {
			return err
		}
	}
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

// consoleKey says whether a node's console is to be recorded; the key changes when its BMC does.
func (s *Server) consoleKey(snap *model.Snapshot, n *model.Node) (string, bool) {
	if record, err := snap.Attr(n, "console.record"); err != nil || record == "false" {
		return "", false
	}
	t, err := s.readBMC(snap, n)
	return t.key(), err == nil && t.driver != "wol" // which has no serial line
}

// serial connects a node's console by the BMC that it has at that time.
func (s *Server) serial(name model.NodeName) console.Source {
	return func(ctx context.Context) (console.Stream, error) {
		snap := s.store.Snapshot()
		n := snap.Node(name)
		if n == nil {
			return nil, errors.New("the node was removed")
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
	if in.Replay {
		return s.replay(q, n, from)
	}
	r, err := s.consoles.Log(n, console.LogOptions{Since: from, Times: in.Times, Tail: in.Tail})
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

func (s *Server) replay(q *request, n model.NodeName, from time.Time) error {
	chunks, err := s.consoles.Replay(n, from)
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
	ws, err := websocket.Accept(q.w, q.Request, nil)
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
				if !more || control(ctx, ws, string(e.Type), e.Text) != nil {
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

func control(ctx context.Context, ws *websocket.Conn, kind, text string) error {
	b, err := json.Marshal(api.ConsoleControl{Type: kind, Text: text})
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
		if err != nil && control(ctx, ws, "error", err.Error()) != nil {
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
