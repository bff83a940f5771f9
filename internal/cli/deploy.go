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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/layout"
	"muster/internal/model/noderange"
)

// The times of deploy --wait: how long in all unless --timeout says otherwise, how often to ask at most when something
// happens, and how often when nothing does.
const (
	deployTime  = 30 * time.Minute
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

A deployment is armed for a number of network boots. When they are used up and the node is not up, it is held, with the
reason, and not booted again and again: muster why NODE. --wait follows the nodes until each is up or held, at most for
--timeout (default 30m); the exit status is 1 when one is not up then. Without an image it follows what is deployed already.
--none takes the intent away; what runs keeps running.

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
  muster deploy rack2 compute --boots 1
  muster deploy rack2 --wait
  muster deploy r1n[1-3] compute --disk --layout disks.txt --reboot --wait
  muster deploy r1n7 --none`,
		Args: args(1, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		switch {
		case q.None && (len(a) > 1 || q.Reboot || wait || q.Boots != 0 || q.Disk || file != ""):
			return usage("deploy --none", "it goes with nothing but a noderange", "muster deploy "+a[0]+" --none")
		case !q.None && len(a) < 2 && (!wait || q.Reboot || q.Boots != 0 || q.Disk || file != ""):
			return usage("deploy", "no image", "Name one of: muster image list; or take it away with --none")
		case q.Boots < 0:
			return usage(fmt.Sprintf("--boots %d", q.Boots), "it is negative", "Give a number of network boots")
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
	f.BoolVar(&wait, "wait", false, "follow the nodes until each is up or held")
	c.ValidArgsFunction = s.completeNodesThenImages
	return s.changesNodes(c)
}

func (s *session) deploy(ctx context.Context, q api.Deploy, wait bool) error {
	started := make(map[string]bool)
	if q.Image == "" && !q.None {
		var names api.Names
		if err := s.do(ctx, "POST", "/v1/list", api.ListNodes{Range: q.Range}, &names); err != nil {
			return err
		}
		s.skipped(names.Skipped)
		for _, n := range names.Names {
			started[n] = true
		}
		return (&waiting{s: s, pending: started, asked: len(started), last: make(map[string]string), began: time.Now()}).run(ctx)
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
			}
			return []string{r.Phase + ", image " + r.Image}
		},
		each: func(r *api.DeployResult) {
			if r.Error == nil {
				started[r.Node] = true
			}
		},
		goesOn: wait,
	})
	if err != nil || !wait {
		return err
	}
	w := &waiting{s: s, pending: started, asked: len(started), last: make(map[string]string), began: time.Now()}
	return w.run(ctx)
}

// waiting follows nodes until each is up or held.
type waiting struct {
	s       *session
	pending map[string]bool
	last    map[string]string // status of each node, as last told
	asked   int
	up, bad int
	began   time.Time
}

func (w *waiting) run(ctx context.Context) error {
	s := w.s
	limit := deployTime
	if s.flags.timeout > 0 {
		limit = s.flags.timeout
	}
	c, err := s.client()
	if err != nil {
		return err
	}
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
	p := s.newProgress("deploy", folds)
	late := time.NewTimer(limit)
	defer late.Stop()
	for len(w.pending) > 0 {
		if err = w.look(ctx, c, p, answers, troubles); err != nil {
			break
		}
		p.say(w.text())
		if len(w.pending) == 0 {
			break
		}
		if err = pause(ctx, deployBrisk, nil, nil); err == nil {
			err = pause(ctx, deployCalm, news, late.C)
		}
		if err != nil {
			break
		}
	}
	if errors.Is(err, errLate) {
		err = nil
		for n := range w.pending {
			w.bad++
			w.trouble(troubles, n, &api.Error{
				Code: api.Failed, What: "deploy", Why: fmt.Sprintf("%s, and not up after %s", or(w.last[n], "unknown"), limit), Do: "See: muster why " + n,
			})
		}
	}
	p.end()
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

// look asks for the status of all that are on their way, and tells what became of them.
func (w *waiting) look(ctx context.Context, c *api.Client, p *progress, answers, troubles *sink) error {
	seen := make(map[string]bool)
	q := api.StatusQuery{Range: api.Range{Range: w.fold(), Known: true}}
	for line, err := range c.Lines(ctx, "POST", "/v1/status", q, nil) {
		var n api.NodeStatus
		if err == nil {
			err = json.Unmarshal(line, &n)
		}
		if err != nil {
			return w.patient(ctx, err)
		}
		seen[n.Node] = true
		if n.Status != w.last[n.Node] {
			w.last[n.Node] = n.Status
			if w.s.flags.json {
				_, _ = w.s.out.Write(append(line, '\n'))
			} else if w.s.flags.verbose && n.Status != string(model.Up) && n.Status != string(model.Held) {
				p.clear()
				fmt.Fprintf(w.s.err, "%s: %s\n", n.Node, statusText(&n, false, time.Time{}))
			}
		}
		switch n.Status {
		case string(model.Up):
			w.up++
			delete(w.pending, n.Node)
			if !w.s.flags.json {
				p.clear()
				answers.add(n.Node, statusText(&n, false, time.Time{}))
			}
		case "defined":
			w.bad++
			delete(w.pending, n.Node)
			p.clear()
			w.trouble(troubles, n.Node, &api.Error{Code: api.Failed, What: "deploy", Why: "nothing is deployed", Do: "Name an image: muster image list"})
		case string(model.Held):
			w.bad++
			delete(w.pending, n.Node)
			if !w.s.flags.json {
				p.clear()
				w.trouble(troubles, n.Node, &api.Error{Code: api.Failed, What: "deploy", Why: "held: " + n.Reason, Do: "See: muster why " + n.Node})
			}
		}
	}
	for n := range w.pending {
		if !seen[n] {
			w.bad++
			delete(w.pending, n)
			w.trouble(troubles, n, &api.Error{Code: api.Failed, What: "deploy", Why: "the node was removed meanwhile"})
		}
	}
	return nil
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
	if w.s.flags.json {
		e.Node = node
		w.s.printJSON(api.Result{Node: node, Error: e})
		return
	}
	k.add(node, troubleText("deploy", e))
}

// fold names the nodes on their way.
func (w *waiting) fold() string { return noderange.Fold(slices.Collect(maps.Keys(w.pending))) }

// text is "1 of 3 up, 1 held, 1 fetching, 12 s".
func (w *waiting) text() string {
	parts := []string{fmt.Sprintf("%d of %d up", w.up, w.asked)}
	if w.bad > 0 {
		parts = append(parts, fmt.Sprintf("%d not", w.bad))
	}
	on := make(map[string]int)
	for n := range w.pending {
		on[or(w.last[n], "armed")]++
	}
	for _, phase := range sortedKeys(on) {
		parts = append(parts, fmt.Sprintf("%d %s", on[phase], phase))
	}
	return strings.Join(parts, ", ") + ", " + ago(w.began, time.Now())
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
