package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// question is one verb over nodes whose answers stream.
type question[T any] struct {
	what string // for progress and errors: "power on"
	path string // POST
	in   any
	// node is the part that all answers have.
	node func(*T) *api.Result
	// text is the answer for people: each element is folded by itself, and may be of several lines.
	text func(*T) []string
	// despite prints the text of nodes that failed, too.
	despite bool
	// bad says that an answer without error counts as failed, and why: "exit status 3". Nil never does.
	bad func(*T) string
	// also is printed to standard error besides, as text is to standard output. Nil is nothing.
	also func(*T) string
	// news says of a line that it is no answer yet but how far the work is, in a few words; "" is an answer. Nil: all are answers.
	news func(*T) string
	// each is told every answer. Nil is nobody.
	each func(*T)
	// goesOn leaves the trailer of --json to what follows.
	goesOn bool
}

// ask puts the question and prints the answers. The error is of the whole, never of one node.
func ask[T any](ctx context.Context, s *session, q question[T]) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	folds := !s.flags.json && s.folds()
	out := &lazyWriter{w: s.out}
	answers, troubles, others := newSink(out, folds), newSink(s.err, folds), newSink(s.err, folds)
	p := s.newProgress(q.what, folds)
	var trailer api.Trailer
	got := 0
	for line, e := range c.Lines(ctx, "POST", q.path, q.in, &trailer) {
		if err = e; err != nil {
			break
		}
		var v T
		if err = json.Unmarshal(line, &v); err != nil {
			err = &api.Error{Code: api.Failed, What: "answer of the service", Why: err.Error(), Do: "Compare: muster version"}
			break
		}
		r := q.node(&v)
		if q.news != nil && r.Error == nil {
			if n := q.news(&v); n != "" {
				if s.flags.json {
					_, _ = out.Write(append(line, '\n'))
				}
				p.say(printable(fmt.Sprintf("%d of %d, %s: %s", got, trailer.Asked, r.Node, n)))
				continue
			}
		}
		got++
		if q.each != nil {
			q.each(&v)
		}
		why := ""
		if r.Error != nil {
			why = printableLines(troubleText(q.what, r.Error)) // nodes and BMCs have a part in it
		} else if q.bad != nil {
			if b := q.bad(&v); b != "" {
				why = q.what + ": " + b
			}
		}
		s.failed = s.failed || why != ""
		if s.flags.json {
			_, _ = out.Write(append(line, '\n'))
			p.step(got, trailer.Asked)
			continue
		}
		p.clear()
		if r.Error == nil || q.despite {
			for _, text := range q.text(&v) {
				answers.add(r.Node, text)
			}
			if q.also != nil {
				others.add(r.Node, q.also(&v))
			}
		}
		if why != "" {
			troubles.add(r.Node, why)
		}
		p.step(got, trailer.Asked)
	}
	p.end()
	answers.end()
	out.flush()
	others.end()
	troubles.end()
	if err != nil {
		if ctx.Err() != nil {
			return s.interrupted(q.what, got, trailer.Asked)
		}
		return err
	}
	s.skipped(trailer.Skipped)
	s.failed = s.failed || trailer.Failed > 0 || trailer.Answered+trailer.Failed < trailer.Asked
	if s.flags.json {
		if !q.goesOn {
			s.printJSON(trailer)
		}
	} else if missing := trailer.Asked - trailer.Answered - trailer.Failed; missing > 0 {
		fmt.Fprintf(s.err, "muster: %s: %d of %d nodes did not answer in time\n", q.what, missing, trailer.Asked)
	}
	return nil
}

// interrupted tells how far a question came.
func (s *session) interrupted(what string, got, asked int) error {
	of := ""
	if asked > 0 {
		of = fmt.Sprintf(" of %d", asked)
	}
	fmt.Fprintf(s.err, "muster: %s: interrupted: %d%s answered\n", what, got, of)
	s.brokenOff(what, asked, got)
	return errSilent
}

// folds says whether equal answers are folded: on a terminal, if nobody said otherwise.
func (s *session) folds() bool { return s.flags.fold || s.outTerminal && !s.flags.noFold }

// troubleText is a node's error without the node, which stands before it.
func troubleText(what string, e *api.Error) string {
	c := *e
	c.Node = ""
	if c.What == "" {
		c.What = what
	}
	return c.Error()
}

// sink prints what nodes said: at once, each line behind its node's name, or folded at the end.
type sink struct {
	w      io.Writer
	folds  bool
	groups map[string]*group
	order  []*group
}

// group is a text and the nodes that said it. First is the first of them in natural order.
type group struct {
	text  string
	nodes []string
	first string
}

func newSink(w io.Writer, folds bool) *sink {
	return &sink{w: w, folds: folds, groups: make(map[string]*group)}
}

func (k *sink) add(node, text string) {
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return
	}
	if !k.folds {
		var b strings.Builder
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintf(&b, "%s: %s\n", node, line)
		}
		_, _ = io.WriteString(k.w, b.String())
		return
	}
	g := k.groups[text]
	if g == nil {
		g = &group{text: text, first: node}
		k.groups[text] = g
		k.order = append(k.order, g)
	}
	g.nodes = append(g.nodes, node)
	if model.Natural(node, g.first) < 0 {
		g.first = node
	}
}

// end prints the groups, ordered by their first nodes; those of one node stay as they came.
func (k *sink) end() {
	slices.SortStableFunc(k.order, func(a, b *group) int { return model.Natural(a.first, b.first) })
	for _, g := range k.order {
		_, _ = io.WriteString(k.w, g.String())
	}
	k.order, k.groups = nil, make(map[string]*group)
}

const rule = "---------------\n"

// String is "r1n[1-3]: text", or for a text of several lines the text under a head that names the nodes.
func (g *group) String() string {
	names := noderange.Fold(g.nodes)
	if !strings.Contains(g.text, "\n") {
		return names + ": " + g.text + "\n"
	}
	if len(g.nodes) > 1 {
		names = fmt.Sprintf("%s (%d)", names, len(g.nodes))
	}
	return rule + names + "\n" + rule + g.text + "\n"
}

// lazyWriter gathers small writes for at most a hundredth of a second.
type lazyWriter struct {
	mu      sync.Mutex
	w       io.Writer
	b       []byte
	pending bool
}

func (l *lazyWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	switch {
	case len(l.b) > 64<<10:
		l.flushLocked()
	case !l.pending:
		l.pending = true
		time.AfterFunc(10*time.Millisecond, l.flush)
	}
	return len(p), nil
}

func (l *lazyWriter) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = false
	l.flushLocked()
}

func (l *lazyWriter) flushLocked() {
	if len(l.b) > 0 {
		_, _ = l.w.Write(l.b)
		l.b = l.b[:0]
	}
}

// wholeWriter remembers that not all could be written: a full disk is no success.
type wholeWriter struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (o *wholeWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = cmp.Or(o.err, err)
	return n, err
}

func (o *wholeWriter) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// progress is one line on standard error that says how far long work is. It appears only on a terminal, only where it
// does not stand between answers, and only after some time. All methods work on nil, which shows nothing.
type progress struct {
	mu     sync.Mutex
	w      io.Writer
	what   string
	text   string
	shown  bool
	due    bool // the first wait is over
	drawn  time.Time
	closed bool
}

const (
	progressAfter = 300 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// newProgress shows the line unless answers stream to the same terminal.
func (s *session) newProgress(what string, folds bool) *progress {
	if !s.errTerminal || s.flags.quiet || s.outTerminal && !folds {
		return nil
	}
	p := &progress{w: s.err, what: what}
	time.AfterFunc(progressAfter, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.due = true
		p.draw()
	})
	return p
}

// step says that got of asked are done; asked 0 is not known.
func (p *progress) step(got, asked int) {
	if p == nil {
		return
	}
	of := ""
	if asked > 0 {
		of = fmt.Sprintf(" of %d", asked)
	}
	p.say(fmt.Sprintf("%d%s", got, of))
}

// say replaces the text of the line.
func (p *progress) say(text string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
	if p.due && time.Since(p.drawn) >= progressEvery {
		p.draw()
	}
}

func (p *progress) draw() {
	if p.closed {
		return
	}
	p.drawn = time.Now()
	p.shown = true
	fmt.Fprintf(p.w, "\r\x1b[K%s … %s", p.what, p.text)
}

// clear takes the line away, so that something else can be printed.
func (p *progress) clear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// end takes the line away for good.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.clear()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
}

// table prints rows with aligned columns, without spaces at line ends. The first row is the head.
func (s *session) table(rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		line := ""
		for i, cell := range r {
			line += cell + strings.Repeat(" ", width[i]-len([]rune(cell))+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, _ = io.WriteString(s.out, b.String())
}

// ago is a time for people: "5m", "3h", "2d".
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case t.IsZero():
		return "never"
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// size is a number of bytes for people: "1.5 MB", by thousands.
func size(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for i := range len(units) {
		if f /= 1000; f < 1000 || i == len(units)-1 {
			return fmt.Sprintf("%.1f %cB", f, units[i])
		}
	}
	return ""
}

// or is the first that is not empty.
func or(values ...string) string { return cmp.Or(values...) }
