package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/layout"
	"muster/internal/model/noderange"
)

// The times of deploy --wait: how long in all unless --timeout says otherwise, how often to ask at most when something
// happens, and how often when nothing does.
const (
	deployTime  = 30 * time.Minute
	rolloutTime = 24 * time.Hour
	deployBrisk = 300 * time.Millisecond
	deployCalm  = 10 * time.Second
)

func deploy(s *session) *cobra.Command {
	var q api.Deploy
	var wait bool
	var file string
	c := &cobra.Command{
		Use:        "deploy NODERANGE IMAGE",
		SuggestFor: []string{"nodeset", "rinstall", "nodedeploy"},
		GroupID:    JobDeploy,
		Short:      "Put an image on nodes with their next network boot",
		Long: `Arm nodes with an image: they get it with their next network boot, or at once with --reboot.

A deployment is armed for a number of network boots. When they are used up and the node is not up, or a phase takes longer than its
attribute deploy.limit.PHASE allows, the node is held, with the reason, and not booted again and again: muster why NODE.

--wait follows the nodes until each is up, held or cancelled, at most for --timeout (default 30m, with waves 24h); the exit status is 1 when one is
not up then. On a terminal it draws a line for each phase; elsewhere it prints a line for each node and phase; --json one object for
each change. Without an image it follows what is deployed already. It only looks: what is deployed goes on without it.

--canary N and --batch N make waves: the first N nodes, then N at a time, each wave when those before it have ended, whoever watches or
does not. When the failures among the nodes begun so far reach --stop-at (default 10 %), the rest is not begun.

--retry arms held and cancelled nodes again with the image that they had; what is on disk already boots from there. --cancel ends
what is under way or waits for its wave; the machines stay as they are. --none takes the intent away without a trace; what runs
keeps running.

--disk writes the image to disk: it boots in memory first, and the agent there writes the disks as the node's disk.layout says,
or FILE (- is standard input). Where the layout fits no disk, or several, or something is too small, nothing is written and the
node is held with the reason. From then on it boots from its disk.

  disk system: local size>=100G              which disk: exactly one has to fit
    boot  1G    ext4  /boot                   name, size (512M 40G 480GB 30% rest), use, mount point
    root  40G   ext4  /
    data  rest  xfs   /data  preserve         what is there by this name stays

  disks pair: 2 local model="SAMSUNG*"       two alike; also smallest largest usb bus= serial= wwn= path=
    half  rest  raid
  raid mirror: 1 pair.half
    lvm
  lvm vg0: mirror
    root  40%   xfs   /
    swap  8G    swap`,
		Example: `  muster deploy r1n[1-3] compute --reboot --wait
  muster deploy compute compute --reboot --canary 2 --batch 50 --stop-at 5% --wait
  muster deploy r1n[1-3] compute --disk --layout disks.txt --reboot --wait
  muster deploy rack2 --retry --reboot
  muster deploy rack2 --cancel
  muster deploy r1n7 --none`,
		Args: args(1, 2),
	}
	share := ""
	disk := func() bool { return q.Disk || file != "" }
	c.RunE = func(c *cobra.Command, a []string) error {
		switch {
		case q.None && q.Cancel:
			return usage("deploy", "--none and --cancel are two things", "--cancel ends what is under way and says so, --none takes away what is deployed")
		case (q.None || q.Cancel) && (len(a) > 1 || q.Reboot || wait || q.Boots != 0 || q.Retry || disk() || waves(q, share)):
			return usage("deploy --none and --cancel", "it goes with nothing but a noderange", "muster deploy "+a[0]+" --cancel")
		case q.Retry && (len(a) > 1 || q.Boots != 0 || disk() || waves(q, share)):
			return usage("deploy --retry", "it takes the image that is deployed, where it is, at once", "muster deploy "+a[0]+" --retry --reboot")
		case !q.None && !q.Cancel && !q.Retry && len(a) < 2 && (!wait || q.Reboot || q.Boots != 0 || disk() || waves(q, share)):
			return usage("deploy", "no image", "Name one of: muster image list; or take it away with --none")
		case q.Boots < 0:
			return usage(fmt.Sprintf("--boots %d", q.Boots), "it is negative", "Give a number of network boots")
		case q.Canary < 0 || q.Batch < 0:
			return usage("--canary and --batch", "they are numbers of nodes", "Give one from 1 on")
		case waves(q, share) && q.Canary == 0 && q.Batch == 0:
			return usage("--stop-at", "it is for waves", "Add --canary N or --batch N")
		case waves(q, share) && !q.Reboot:
			return usage("deploy in waves", "it restarts the nodes, wave by wave", "Add --reboot")
		}
		if share != "" {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(share, "%")))
			if err != nil || n < 1 || n > 100 {
				return usage("--stop-at "+share, "it is no share", "Give 1% to 100%")
			}
			q.StopAt = n
		}
		if len(a) > 1 {
			q.Image = a[1]
		}
		var err error
		if file != "" {
			text, err := s.readLayout(file)
			if err != nil {
				return err
			}
			q.Disk, q.Layout = true, text
		}
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		return s.deploy(c.Context(), q, wait && !q.DryRun)
	}
	f := c.Flags()
	f.BoolVar(&q.Reboot, "reboot", false, "power cycle the nodes into the network now")
	f.IntVar(&q.Boots, "boots", 0, "hold a node that is not up after `N` network boots (default: its boot.count)")
	f.BoolVar(&q.Disk, "disk", false, "write the image to disk")
	f.StringVar(&file, "layout", "", "what to make of the disks, from `FILE` (default: the node's disk.layout)")
	f.BoolVar(&q.None, "none", false, "take the deployment away")
	f.BoolVar(&q.Retry, "retry", false, "try again with what is held or cancelled")
	f.BoolVar(&q.Cancel, "cancel", false, "end what is under way or waits; the machines stay as they are")
	f.IntVar(&q.Canary, "canary", 0, "begin with `N` nodes, and go on when they are up")
	f.IntVar(&q.Batch, "batch", 0, "`N` nodes at a time")
	f.StringVar(&share, "stop-at", "", "begin no further wave when this `share` of the nodes has failed (default 10%)")
	f.BoolVar(&wait, "wait", false, "follow the nodes until each is up or held")
	c.ValidArgsFunction = s.completeNodesThenImages
	return s.changesNodes(c)
}

func waves(q api.Deploy, share string) bool { return q.Canary != 0 || q.Batch != 0 || share != "" }

func (s *session) deploy(ctx context.Context, q api.Deploy, wait bool) error {
	w := &waiting{s: s, pending: make(map[string]*follow), began: time.Now(), limit: deployTime}
	if waves(q, "") {
		w.limit = rolloutTime
	}
	if q.Image == "" && !q.None && !q.Cancel && !q.Retry {
		var names api.Names
		if err := s.do(ctx, "POST", "/v1/list", api.ListNodes{Range: q.Range}, &names); err != nil {
			return err
		}
		s.skipped(names.Skipped)
		for _, n := range names.Names {
			w.pending[n] = &follow{}
		}
		return w.run(ctx)
	}
	err := ask(ctx, s, question[api.DeployResult]{
		what: "deploy", path: "/v1/deploy", in: q,
		node: func(r *api.DeployResult) *api.Result { return &r.Result },
		text: func(r *api.DeployResult) []string {
			switch {
			case r.Image == "":
				return []string{"nothing is deployed"}
			case r.Phase == "":
				return []string{"image " + r.Image}
			case r.Wave > 0:
				return []string{fmt.Sprintf("waiting for wave %d of rollout %s, image %s", r.Wave, r.Rollout, r.Image)}
			}
			return []string{r.Phase + ", image " + r.Image}
		},
		each: func(r *api.DeployResult) {
			if r.Error == nil {
				w.pending[r.Node] = &follow{begun: r.Begun, rollout: r.Rollout}
			}
		},
		goesOn: wait,
	})
	if err != nil || !wait {
		return err
	}
	return w.run(ctx)
}

// waiting follows nodes until each is up, held or cancelled.
type waiting struct {
	s       *session
	pending map[string]*follow
	asked   int
	up, bad int
	began   time.Time
	limit   time.Duration // unless --timeout says otherwise
	screen  *board        // on a terminal
}

// follow is what is known of a node on its way.
type follow struct {
	begun   time.Time // of the deployment that is meant; what began before is another
	rollout string
	status  string // as last told
	step    string // the same with its progress
}

func (w *waiting) run(ctx context.Context) error {
	s := w.s
	limit := w.limit
	if s.flags.timeout > 0 {
		limit = s.flags.timeout
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	w.asked = len(w.pending)
	following, stop := context.WithCancel(ctx)
	news := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ring(following, c, w.fold(), news)
	}()
	defer func() { stop(); <-ended }()

	folds := s.folds() && !s.flags.json
	answers, troubles := newSink(s.out, folds), newSink(s.err, folds)
	if s.errTerminal && !s.flags.quiet && (folds || s.flags.json || !s.outTerminal) {
		w.screen = &board{w: s.err}
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	for len(w.pending) > 0 {
		if err = w.look(ctx, c, answers, troubles); err != nil {
			break
		}
		w.screen.draw(w.lines())
		if len(w.pending) == 0 {
			break
		}
		if err = pause(ctx, deployBrisk, nil, nil); err == nil {
			err = pause(ctx, w.calm(), news, late.C)
		}
		if err != nil {
			break
		}
	}
	if errors.Is(err, errLate) {
		err = nil
		for _, n := range sortedKeys(w.pending) {
			w.bad++
			w.trouble(troubles, n, &api.Error{
				Code: api.Failed, What: "deploy", Why: fmt.Sprintf("%s, and not up after %s", or(w.pending[n].step, "unknown"), limit), Do: "See: muster why " + n,
			})
		}
	}
	w.screen.clear()
	answers.end()
	troubles.end()
	if err != nil {
		if ctx.Err() != nil {
			fmt.Fprintf(s.err, "muster: deploy: interrupted: %s; the deployment goes on\n", w.text())
			s.brokenOff("deploy", w.asked, w.up)
			return errSilent
		}
		return err
	}
	s.failed = s.failed || w.bad > 0
	if s.flags.json {
		s.printJSON(api.Trailer{Asked: w.asked, Answered: w.up, Failed: w.bad, Trailer: true})
	}
	return nil
}

// calm is how often it is looked when nothing happens on the timeline: progress does not.
func (w *waiting) calm() time.Duration {
	for _, f := range w.pending {
		if f.step != f.status {
			return deployBrisk * time.Duration(1+len(w.pending)/1000)
		}
	}
	return deployCalm
}

// look asks for the status of all that are on their way, and tells what became of them.
func (w *waiting) look(ctx context.Context, c *api.Client, answers, troubles *sink) error {
	seen := make(map[string]bool)
	var stopped []string // of whose rollouts the rest is not begun
	q := api.StatusQuery{Range: api.Range{Range: w.fold(), Known: true}}
	for line, err := range c.Lines(ctx, "POST", "/v1/status", q, nil) {
		var n api.NodeStatus
		if err == nil {
			err = json.Unmarshal(line, &n)
		}
		if err != nil {
			return w.patient(ctx, err)
		}
		f := w.pending[n.Node]
		if f == nil {
			continue
		}
		seen[n.Node] = true
		if n.Status != "waiting" && f.rollout != "" && n.Rollout != f.rollout { // what it does is of a deployment before this one
			stopped = append(stopped, n.Node)
			continue
		}
		w.told(&n, f, line)
		switch n.Status {
		case string(model.Up):
			w.up++
			delete(w.pending, n.Node)
			if !w.s.flags.json {
				w.screen.clear()
				answers.add(n.Node, statusText(&n, false, time.Time{}))
			}
		case "defined":
			w.bad++
			delete(w.pending, n.Node)
			w.trouble(troubles, n.Node, &api.Error{Code: api.Failed, What: "deploy", Why: "nothing is deployed", Do: "Name an image: muster image list"})
		case string(model.Held), string(model.Cancelled):
			w.bad++
			delete(w.pending, n.Node)
			if !w.s.flags.json {
				w.trouble(troubles, n.Node, &api.Error{Code: api.Failed, What: "deploy", Why: n.Status + ": " + n.Reason, Do: "See: muster why " + n.Node})
			}
		}
	}
	for _, n := range sortedKeys(w.pending) {
		if !seen[n] {
			w.bad++
			delete(w.pending, n)
			w.trouble(troubles, n, &api.Error{Code: api.Failed, What: "deploy", Why: "the node was removed meanwhile"})
		}
	}
	return w.notBegun(ctx, c, stopped, troubles)
}

// notBegun tells of nodes whose rollout will not begin them, and why.
func (w *waiting) notBegun(ctx context.Context, c *api.Client, nodes []string, troubles *sink) error {
	infos := make(map[string]*api.RolloutInfo)
	for _, n := range nodes {
		name := w.pending[n].rollout
		info := infos[name]
		if info == nil {
			info = new(api.RolloutInfo)
			var e *api.Error
			switch err := c.Do(ctx, "GET", "/v1/rollouts/"+url.PathEscape(name), nil, info); {
			case errors.As(err, &e) && e.Code == api.Unknown:
				info.State, info.Reason = "gone", e.Why
			case err != nil:
				return w.patient(ctx, err)
			}
			infos[name] = info
		}
		if info.State == "running" {
			continue // its wave has begun since, or another deployment is on it
		}
		w.bad++
		delete(w.pending, n)
		w.trouble(troubles, n, &api.Error{Code: api.Failed, What: "deploy", Why: strings.TrimSuffix("not begun: rollout "+name+" was "+info.State+": "+info.Reason, ": ")})
	}
	return nil
}

// told tells that a node has come to another phase, and on --json how far it is.
func (w *waiting) told(n *api.NodeStatus, f *follow, line []byte) {
	step := or(n.Step, n.Status)
	if n.Status == "waiting" {
		f.rollout = n.Rollout
	}
	moved, made := n.Status != f.status, step != f.step
	f.status, f.step = n.Status, step
	end := n.Status == string(model.Up) || n.Status == string(model.Held) || n.Status == string(model.Cancelled)
	switch {
	case w.s.flags.json && made:
		_, _ = w.s.out.Write(append(line, '\n'))
	case moved && !end && !w.s.flags.json && w.screen == nil && !w.s.flags.quiet && (!w.s.folds() || w.s.flags.verbose):
		fmt.Fprintf(w.s.err, "%s: %s\n", n.Node, statusText(n, false, time.Time{}))
	}
}

// patient bears with a service that starts again: the deployment goes on without us.
func (w *waiting) patient(ctx context.Context, err error) error {
	var cut *api.CutError
	var e *api.Error
	if ctx.Err() == nil && (errors.As(err, &cut) || errors.As(err, &e) && e.Code == api.Unreachable) {
		return nil
	}
	return err
}

// trouble tells of a node that did not get up; with --json as a line of its own.
func (w *waiting) trouble(k *sink, node string, e *api.Error) {
	w.screen.clear()
	if w.s.flags.json {
		e.Node = node
		w.s.printJSON(api.Result{Node: node, Error: e})
		return
	}
	k.add(node, troubleText("deploy", e))
}

// fold names the nodes on their way.
func (w *waiting) fold() string { return noderange.Fold(slices.Collect(maps.Keys(w.pending))) }

// text is "1 of 3 up, 1 not, 1 fetching, 12s".
func (w *waiting) text() string {
	parts := []string{fmt.Sprintf("%d of %d up", w.up, w.asked)}
	if w.bad > 0 {
		parts = append(parts, fmt.Sprintf("%d not", w.bad))
	}
	on := make(map[string]int)
	for _, f := range w.pending {
		on[or(f.status, "armed")]++
	}
	for _, phase := range sortedKeys(on) {
		parts = append(parts, fmt.Sprintf("%d %s", on[phase], phase))
	}
	return strings.Join(parts, ", ") + ", " + ago(w.began, time.Now())
}

// lines are one for each phase, in the order of the phases, "r1n[01-40]: fetching 12-43 %", and the sum.
func (w *waiting) lines() []string {
	type share struct {
		nodes    []string
		low, top string
		from, to int
	}
	on := make(map[string]*share)
	for _, n := range sortedKeys(w.pending) {
		f := w.pending[n]
		phase := or(f.status, "armed")
		g := on[phase]
		if g == nil {
			g = &share{low: f.step, top: f.step, from: leading(f.step), to: leading(f.step)}
			on[phase] = g
		}
		g.nodes = append(g.nodes, n)
		if k := leading(f.step); k < g.from {
			g.low, g.from = f.step, k
		} else if k > g.to {
			g.top, g.to = f.step, k
		}
	}
	var out []string
	for _, phase := range append([]string{"waiting", "off", "silent", "defined"}, phaseNames()...) {
		g := on[phase]
		if g == nil {
			continue
		}
		text := or(g.low, phase)
		if g.low != g.top {
			text += " to " + strings.TrimLeft(strings.TrimPrefix(g.top, commonWords(g.low, g.top)), " ")
		}
		out = append(out, noderange.Fold(g.nodes)+": "+printable(text))
	}
	return append(out, w.text())
}

func phaseNames() []string {
	var out []string
	for _, p := range model.Phases {
		out = append(out, string(p))
	}
	return out
}

// leading is the first number in a step: of "jobs 3/7" 3; -1 for none.
func leading(step string) int {
	i := strings.IndexAny(step, "0123456789")
	if i < 0 {
		return -1
	}
	n := 0
	for ; i < len(step) && step[i] >= '0' && step[i] <= '9'; i++ {
		n = n*10 + int(step[i]-'0')
	}
	return n
}

// commonWords is what two steps of one phase begin with, up to the number.
func commonWords(a, b string) string {
	i := strings.IndexAny(b, "0123456789")
	if i < 0 || !strings.HasPrefix(a, b[:i]) {
		return ""
	}
	return b[:i]
}

// board is a few lines on a terminal that are drawn again and again. All methods work on nil, which shows nothing.
type board struct {
	w     io.Writer
	shown int
}

// boardLines is how many lines are drawn at most.
const boardLines = 16

func (b *board) draw(lines []string) {
	if b == nil {
		return
	}
	if n := len(lines); n > boardLines {
		lines = append(lines[:boardLines-1:boardLines-1], lines[n-1])
	}
	var text strings.Builder
	text.WriteString(b.erase())
	width := 79
	if f, ok := b.w.(*os.File); ok {
		if cols, _, err := term.GetSize(int(f.Fd())); err == nil && cols > 1 {
			width = cols - 1
		}
	}
	for _, l := range lines {
		if len(l) > width { // a line that wraps could not be taken away
			l = l[:max(0, width-3)] + "..."
		}
		text.WriteString(l + "\n")
	}
	b.shown = len(lines)
	_, _ = io.WriteString(b.w, text.String())
}

// erase is what takes the lines away that are shown.
func (b *board) erase() string {
	if b.shown == 0 {
		return ""
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", b.shown)
}

// clear takes the lines away, so that something else can be printed.
func (b *board) clear() {
	if b == nil || b.shown == 0 {
		return
	}
	_, _ = io.WriteString(b.w, b.erase())
	b.shown = 0
}

// ring puts one token into news whenever something happens to the nodes. It ends with the context, or with the service;
// then only the calm asking is left.
func ring(ctx context.Context, c *api.Client, nodes string, news chan<- struct{}) {
	q := url.Values{"range": {nodes}, "follow": {"true"}, "known": {"true"}}
	for _, err := range c.Lines(ctx, "GET", "/v1/events?"+q.Encode(), nil, nil) {
		if err != nil {
			return
		}
		select {
		case news <- struct{}{}:
		default:
		}
	}
}

// errLate says that the time for all is over.
var errLate = errors.New("time is over")

// pause waits for d, or shorter when there is news. late ends it with errLate.
func pause(ctx context.Context, d time.Duration, news <-chan struct{}, late <-chan time.Time) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-news:
	case <-late:
		return errLate
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// readLayout reads a layout from a file, or from standard input for "-". Its problems are told before the service is asked.
func (s *session) readLayout(file string) (string, error) {
	var b []byte
	var err error
	if file == "-" {
		b, err = io.ReadAll(s.in)
	} else {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return "", usage("layout "+file, reason(err), "")
	}
	if _, err := layout.Parse(string(b)); err != nil {
		return "", usage("layout "+file, err.Error(), "")
	}
	return string(b), nil
}
