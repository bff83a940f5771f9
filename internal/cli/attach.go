package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/term"

	"muster/internal/api"
)

// maxConsoleMessage is the largest message of a console: the ring that is played first, in bytes.
const maxConsoleMessage = 4 << 20

// attached is one person at one console. One loop owns it; what comes from outside comes over channels.
type attached struct {
	s      *session
	node   string
	conn   *websocket.Conn
	raw    bool // the terminal is in raw mode: lines need a carriage return
	watch  bool // nothing is sent
	escape escape
	told   string // last state that was shown
	asks   bool   // somebody else types, and the person here was asked whether to take that over; the next key answers
	met    bool   // who types was told once
}

// message is what the service sent, or how it ended.
type message struct {
	kind websocket.MessageType
	data []byte
	err  error
}

// attach sits at a console until the person leaves, the service ends it, or the context does. The terminal is given back
// as it was in any case.
func (s *session) attach(ctx context.Context, node string, o consoleOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := s.dialConsole(ctx, node, o)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxConsoleMessage)

	a := &attached{s: s, node: node, conn: conn, watch: o.watch, met: o.watch}
	restore, err := a.rawTerminal()
	if err != nil {
		return err
	}
	defer restore()
	if a.raw {
		a.notice("leave: ctrl-e c .   keys: ctrl-e c ?")
	}
	incoming := make(chan message)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer restore() // nothing can be shown any more; also when this panics
		receive(ctx, conn, incoming)
	}()
	err = a.loop(ctx, o, incoming, typing(s.in))
	cancel()
	<-read
	return err
}

func (s *session) dialConsole(ctx context.Context, node string, o consoleOptions) (*websocket.Conn, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	q := url.Values{"write": {strconv.FormatBool(!o.watch)}}
	if o.force {
		q.Set("take", "true")
	}
	if f, ok := s.out.(*os.File); ok && s.outTerminal {
		if cols, rows, err := term.GetSize(int(f.Fd())); err == nil && cols > 0 && rows > 0 {
			q.Set("cols", strconv.Itoa(cols))
			q.Set("rows", strconv.Itoa(rows))
		}
	}
	path := "/v1/console/" + url.PathEscape(node) + "/attach?" + q.Encode()
	conn, res, err := websocket.Dial(ctx, c.URL(path), &websocket.DialOptions{HTTPClient: c.HTTP()})
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case res != nil && res.StatusCode != 101:
		return nil, api.ReadError(res)
	}
	return nil, c.Explain(err)
}

// rawTerminal gives every key to the node. The function that it returns gives the terminal back, once.
func (a *attached) rawTerminal() (func(), error) {
	f, ok := a.s.in.(*os.File)
	if !ok || !a.s.inTerminal {
		return func() {}, nil
	}
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, &api.Error{Code: api.Failed, What: "console " + a.node, Why: "the terminal: " + err.Error()}
	}
	a.raw = true
	var once sync.Once
	return func() { once.Do(func() { _ = term.Restore(int(f.Fd()), state) }) }, nil
}

// receive passes on what the service sends, until the connection or the context ends.
func receive(ctx context.Context, conn *websocket.Conn, to chan<- message) {
	for {
		kind, data, err := conn.Read(ctx)
		select {
		case to <- message{kind, data, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// typing reads standard input. Nothing can end such a read: the goroutine is left behind when the program ends. The
// channel is closed at the end of the input.
func typing(r io.Reader) <-chan []byte {
	out := make(chan []byte)
	go func() {
		defer close(out)
		for {
			b := make([]byte, 4096)
			n, err := r.Read(b)
			if n > 0 {
				out <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

var errLeft = errors.New("left the console")

func (a *attached) loop(ctx context.Context, o consoleOptions, incoming <-chan message, typed <-chan []byte) error {
	linger := time.NewTimer(o.linger)
	linger.Stop()
	defer linger.Stop()
	notices := make(chan string)
	for ended := false; ; {
		var err error
		select {
		case m := <-incoming:
			if m.err != nil {
				return a.cut(ctx, m.err)
			}
			if m.kind == websocket.MessageText {
				if err := a.control(m.data); err != nil {
					return err
				}
				continue
			}
			if ended {
				linger.Reset(o.linger)
			}
			_, err = a.s.out.Write(m.data)
		case b, ok := <-typed:
			if ok {
				err = a.typed(ctx, b, notices)
				break
			}
			typed, ended = nil, true
			err = a.send(ctx, a.escape.end())
			if !o.watch {
				linger.Reset(o.linger)
			}
		case text := <-notices:
			a.notice(text)
		case <-linger.C:
			err = errLeft
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if errors.Is(err, errLeft) {
			if a.raw {
				a.notice("left")
			}
			_ = a.conn.Close(websocket.StatusNormalClosure, "")
			return nil
		}
		if err != nil {
			return a.cut(ctx, err)
		}
	}
}

// cut says why the console ended.
func (a *attached) cut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &api.Error{Code: api.Failed, What: "console " + a.node, Why: "the connection to the service was cut", Do: "Ask again: muster console " + a.node}
	var c websocket.CloseError
	if errors.As(err, &c) {
		if c.Code == websocket.StatusNormalClosure && c.Reason == "" {
			return nil
		}
		e.Why = or(c.Reason, "the service ended it")
	}
	return e
}

// typed sends what is the node's and does what is ours.
func (a *attached) typed(ctx context.Context, in []byte, notices chan<- string) error {
	var out []byte
	if a.asks && len(in) > 0 {
		a.asks = false
		switch in[0] {
		case 'y', 'Y':
			in = in[1:]
			if err := a.tell(ctx, "take"); err != nil {
				return err
			}
		case 'n', 'N', '\r':
			in = in[1:]
			fallthrough
		default:
			a.watch = true
			a.notice("watch only; ctrl-e c t takes over the typing")
		}
	}
	for _, b := range in {
		send, k, action := a.escape.step(b)
		out = append(out, send...)
		if k == keyNone {
			continue
		}
		if err := a.send(ctx, out); err != nil {
			return err
		}
		out = nil
		if err := a.do(ctx, k, action, notices); err != nil {
			return err
		}
	}
	return a.send(ctx, out)
}

func (a *attached) send(ctx context.Context, b []byte) error {
	if len(b) == 0 || a.watch {
		return nil
	}
	return a.conn.Write(ctx, websocket.MessageBinary, b)
}

func (a *attached) do(ctx context.Context, k key, action string, notices chan<- string) error {
	switch k {
	case keyLeave:
		return errLeft
	case keyHelp:
		a.notice(keysHelp)
	case keyBreak:
		a.notice("break")
		return a.tell(ctx, "break")
	case keyTake:
		a.watch = false
		return a.tell(ctx, "take")
	case keyWatch:
		a.watch = true
		a.notice("watch only; ctrl-e c t to type again")
	case keyPower:
		a.notice("power " + action + " …")
		go func() {
			text := a.s.powerFromConsole(ctx, a.node, action)
			select {
			case notices <- text:
			case <-ctx.Done():
			}
		}()
	case keyUnknown:
		a.notice("no such key; ctrl-e c ? shows them")
	}
	return nil
}

func (a *attached) tell(ctx context.Context, kind string) error {
	b, err := json.Marshal(api.ConsoleControl{Type: kind})
	if err != nil {
		return err
	}
	return a.conn.Write(ctx, websocket.MessageText, b)
}

// control shows what the service says about the console, each state once. Where no terminal is, what was refused ends it.
func (a *attached) control(b []byte) error {
	var c api.ConsoleControl
	if json.Unmarshal(b, &c) != nil {
		return nil
	}
	text := c.Text
	switch c.Type {
	case "error":
		if !a.raw {
			return &api.Error{Code: api.Failed, What: c.Text}
		}
	case "writer":
		text = "typing: " + or(c.Text, "nobody")
		a.asks = false // who was asked about has left the keyboard to somebody
		if a.raw && !a.met && c.Text != "" && !c.You {
			a.asks = true
			text += ". Take over the typing? y or n"
		}
		a.met = true
	}
	if text != "" && text != a.told {
		a.told = text
		a.notice(text)
	}
	return nil
}

// notice shows a line of ours, apart from the node's bytes: on standard error.
func (a *attached) notice(text string) {
	if a.s.flags.quiet {
		return
	}
	text = printableLines(text)
	if !a.raw {
		fmt.Fprintf(a.s.err, "[%s: %s]\n", a.node, text)
		return
	}
	fmt.Fprintf(a.s.err, "\r\n[%s: %s]\r\n", a.node, strings.ReplaceAll(text, "\n", "\r\n "))
}

func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}

func (s *session) powerFromConsole(ctx context.Context, node, action string) string {
	c, err := s.client()
	if err != nil {
		return err.Error()
	}
	text := "power " + action + ": no answer"
	for r, err := range api.Stream[api.PowerResult](ctx, c, "POST", "/v1/power", api.Power{Range: api.Range{Range: node}, Action: action}, nil) {
		switch {
		case err != nil:
			return "power " + action + ": " + err.Error()
		case r.Error != nil:
			text = r.Error.Error()
		default:
			text = "power " + r.State
		}
	}
	return text
}
