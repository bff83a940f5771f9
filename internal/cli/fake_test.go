package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/noderange"
)

// fake speaks the documents of the API and keeps just enough of a world for the command line's output to be seen. It is
// no model of the service. Some names have a fate: a node whose custom.fate is
//
//	refused    its BMC refuses the password, and no command runs
//	held       its deployment ends so
//	creeps     it fetches its image, 43 % at each look
//	waits      its wave has not begun, and will not
//	slow       its BMC does not answer in time
//	hang       its BMC never answers, and no time is set
//	cut        the service dies after this node's answer
type fake struct {
	mu     sync.Mutex
	nodes  map[string]*fakeNode
	groups map[string]api.GroupInfo
	images map[string]api.ImageInfo
	events []model.Event
	news   chan struct{} // closed and made anew with every event
	asked  []string      // bodies of set and add, with secrets, for scripts to look at
	typed  chan string   // what consoles received
}

type fakeNode struct {
	groups             []string
	attrs              map[string]string
	power, image       string
	phase, percent     int
	rollout            string
	cancelled          bool
	device, deviceMode string
}

var fakeStart = time.Date(2026, 11, 20, 6, 0, 0, 0, time.UTC)

func newFake() *fake {
	image := api.ImageInfo{Dir: "/var/lib/muster/images/compute", Packages: 142, Image: model.Image{
		Name: "compute", Digest: "sha256:1111", Built: fakeStart, Kernel: "6.1.0-30-amd64", Size: 180_500_000, Recipe: "debian12",
		Kernelf: model.File{Name: "vmlinuz", Digest: "sha256:22", Size: 8_100_000},
		Initrd:  model.File{Name: "initramfs.zst", Digest: "sha256:33", Size: 5_000_000},
		Root:    model.File{Name: "root.squashfs", Digest: "sha256:44", Size: 180_500_000},
	}}
	broken := image
	broken.Name, broken.Problems = "broken", []string{"root.squashfs: its digest is sha256:55 and not sha256:44"}
	return &fake{
		nodes: map[string]*fakeNode{}, groups: map[string]api.GroupInfo{},
		images: map[string]api.ImageInfo{"compute": image, "broken": broken},
		news:   make(chan struct{}), typed: make(chan string, 64),
	}
}

// serve listens on the socket until the test ends.
func (f *fake) serve(t testing.TB, socket string) (stop func()) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: f.routes()}}
	s.Start()
	return func() {
		s.CloseClientConnections()
		s.Close()
	}
}

func (f *fake) routes() http.Handler {
	m := http.NewServeMux()
	handle := func(route string, h func(w http.ResponseWriter, r *http.Request) error) {
		m.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				e, ok := err.(*api.Error)
				if !ok {
					e = &api.Error{Code: api.Failed, What: err.Error()}
				}
				w.WriteHeader(e.Status())
				_ = json.NewEncoder(w).Encode(e)
			}
		})
	}
	handle("POST /v1/nodes/add", f.addNodes)
	handle("POST /v1/nodes/remove", f.removeNodes)
	handle("POST /v1/set", f.set)
	handle("POST /v1/get", f.get)
	handle("POST /v1/list", f.list)
	handle("POST /v1/expand", f.expandNames)
	handle("GET /v1/groups", f.listGroups)
	handle("POST /v1/groups/add", f.addGroup)
	handle("POST /v1/groups/remove", f.removeGroup)
	handle("GET /v1/attributes", f.attributes)
	handle("POST /v1/status", f.status)
	handle("GET /v1/why/{name}", f.why)
	handle("GET /v1/events", f.timeline)
	handle("GET /v1/discovered", f.discovered)
	handle("POST /v1/power", f.power)
	handle("POST /v1/bootdev", f.bootdev)
	handle("POST /v1/deploy", f.deploy)
	handle("GET /v1/rollouts/{name}", func(w http.ResponseWriter, r *http.Request) error {
		return answer(w, api.RolloutInfo{Name: r.PathValue("name"), State: "stopped", Reason: "1 of 1 nodes failed, and 10 % stop it: 1 are not begun"})
	})
	handle("POST /v1/layout", f.layout)
	handle("POST /v1/run", f.run)
	handle("POST /v1/copy", f.copy)
	handle("POST /v1/images/build", f.build)
	handle("POST /v1/images/import", f.importImage)
	handle("GET /v1/images/{name}/export", f.exportImage)
	handle("GET /v1/images/{name}/check", f.checkImage)
	handle("GET /v1/images/{name}/diff/{other}", f.diffImages)
	handle("GET /v1/images", f.listImages)
	handle("GET /v1/images/{name}", f.image)
	handle("DELETE /v1/images/{name}", f.removeImage)
	handle("GET /v1/consoles", f.consoles)
	handle("GET /v1/console/{node}/log", f.consoleLog)
	handle("GET /v1/console/{node}/attach", f.attach)
	handle("GET /v1/whoami", func(w http.ResponseWriter, _ *http.Request) error {
		return answer(w, api.WhoAmI{Who: "root (uid 0)", Kind: "administrator", User: "root", May: "everything"})
	})
	handle("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) error {
		return answer(w, api.Version{
			Version: "test", Started: fakeStart, Revision: 7, Who: "root (uid 0)", Pin: "sha256:ab", API: []string{"127.0.0.1:7433"}, Data: "/var/lib/muster",
		})
	})
	return m
}

func answer(w http.ResponseWriter, v any) error { return json.NewEncoder(w).Encode(v) }

func read(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// stream sends a line for each node.
func (f *fake) stream(w http.ResponseWriter, r *http.Request, nodes []string, line func(string, *fakeNode) (any, *api.Error)) error {
	w.Header().Set(api.AskedHeader, strconv.Itoa(len(nodes)))
	t := api.Trailer{Asked: len(nodes), Trailer: true}
	for _, n := range nodes {
		f.mu.Lock()
		node := f.nodes[n]
		v, e := line(n, node)
		fate := node.attrs["custom.fate"]
		f.mu.Unlock()
		switch fate {
		case "slow":
			continue
		case "hang":
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return nil
		}
		if e != nil {
			t.Failed++
		} else {
			t.Answered++
		}
		_ = json.NewEncoder(w).Encode(v)
		_ = http.NewResponseController(w).Flush()
		if fate == "cut" {
			panic(http.ErrAbortHandler)
		}
	}
	return answer(w, t)
}

// expand knows names, ranges, groups and regular expressions, one of them or a list.
func (f *fake) expand(r api.Range) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if re, ok := strings.CutPrefix(r.Range, "~"); ok {
		var out []string
		for n := range f.nodes {
			if ok, _ := regexp.MatchString("^(?:"+re+")$", n); ok {
				out = append(out, n)
			}
		}
		slices.SortFunc(out, model.Natural)
		return out, nil
	}
	var out []string
	names, err := noderange.ExpandNames(r.Range)
	if err != nil {
		return nil, &api.Error{Code: api.Usage, What: "noderange", Why: err.Error()}
	}
	unknown := &api.Error{Code: api.Unknown, What: "noderange " + r.Range}
	for _, n := range names {
		switch _, isGroup := f.groups[n]; {
		case f.nodes[n] != nil:
			out = append(out, n)
		case n == "everything", isGroup:
			for name, node := range f.nodes {
				if n == "everything" || slices.Contains(node.groups, n) {
					out = append(out, name)
				}
			}
		case !r.Known:
			unknown.More = append(unknown.More, &api.Error{Code: api.Unknown, What: "no node or group " + n, Do: "See: muster list"})
		}
	}
	if len(unknown.More) > 0 {
		unknown.Why = fmt.Sprintf("%d unknown", len(unknown.More))
		return nil, unknown
	}
	slices.SortFunc(out, model.Natural)
	out = slices.Compact(out)
	if r.MaxNodes > 0 && len(out) > r.MaxNodes {
		return nil, &api.Error{Code: api.Usage, What: "noderange", Why: fmt.Sprintf("%d nodes, more than --max-nodes %d", len(out), r.MaxNodes)}
	}
	return out, nil
}

func (f *fake) tell(node, step, what, reason string, bad bool) {
	seq := int64(len(f.events) + 1)
	f.events = append(f.events, model.Event{
		Seq: seq, Time: fakeStart.Add(time.Duration(seq) * time.Second), Node: model.NodeName(node), Step: step, What: what, Reason: reason, Bad: bad, Actor: "root (uid 0)",
	})
	close(f.news)
	f.news = make(chan struct{})
}

func apply(attrs map[string]string, set []api.Assignment) {
	for _, a := range set {
		v := a.Value
		if a.Secret != nil {
			v = "********"
		}
		switch {
		case a.Op == "+=":
			attrs[a.Attr] = strings.TrimPrefix(attrs[a.Attr]+" "+v, " ")
		case a.Op == "-=":
			attrs[a.Attr] = strings.Join(slices.DeleteFunc(strings.Fields(attrs[a.Attr]), func(s string) bool { return s == v }), " ")
		default:
			attrs[a.Attr] = v
		}
		if attrs[a.Attr] == "" {
			delete(attrs, a.Attr)
		}
	}
}

func (f *fake) addNodes(w http.ResponseWriter, r *http.Request) error {
	var q api.AddNodes
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := noderange.ExpandNames(q.Range.Range)
	if err != nil {
		return &api.Error{Code: api.Usage, What: "noderange", Why: err.Error()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range names {
		if f.nodes[n] != nil {
			return &api.Error{Code: api.Conflict, What: "node add", Why: n + " is already there", Do: "Change it with: muster set " + n + " ATTR=VALUE"}
		}
	}
	if !q.DryRun {
		for _, n := range names {
			node := &fakeNode{groups: q.Groups, attrs: map[string]string{}, power: "off", device: "default"}
			apply(node.attrs, q.Set)
			f.nodes[n] = node
			f.tell(n, "node.add", "defined", "", false)
		}
		for _, g := range q.Groups {
			f.groups[g] = api.GroupInfo{Name: g, Attrs: map[string]string{}}
		}
	}
	f.remember(q.Set)
	return answer(w, api.Changed{Nodes: noderange.Fold(names), Count: len(names), Revision: 8, DryRun: q.DryRun})
}

// remember keeps what came as a secret, for tests.
func (f *fake) remember(set []api.Assignment) {
	for _, a := range set {
		if a.Secret != nil {
			f.asked = append(f.asked, a.Attr+" "+a.Secret.Plain)
		}
	}
}

func (f *fake) removeNodes(w http.ResponseWriter, r *http.Request) error {
	var q api.RemoveNodes
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range names {
		if f.nodes[n].attrs["custom.fate"] == "denied" {
			return &api.Error{Code: api.Denied, What: "node remove", Why: "ann may not remove " + n, Do: "Ask an administrator"}
		}
		if !q.DryRun {
			delete(f.nodes, n)
		}
	}
	return answer(w, api.Changed{Nodes: noderange.Fold(names), Count: len(names), Revision: 9, DryRun: q.DryRun})
}

func (f *fake) set(w http.ResponseWriter, r *http.Request) error {
	var q api.SetAttrs
	if err := read(r, &q); err != nil {
		return err
	}
	var names []string
	var err error
	f.mu.Lock()
	f.remember(q.Set)
	f.mu.Unlock()
	if !q.Groups {
		if names, err = f.expand(q.Range); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := api.Changed{Revision: 10, DryRun: q.DryRun}
	change := func(name string, attrs map[string]string) map[string]string {
		next := maps.Clone(attrs)
		apply(next, q.Set)
		for _, a := range q.Set {
			changed.Changes = append(changed.Changes, fmt.Sprintf("%s: %s: %s -> %s", name, a.Attr, or(attrs[a.Attr], "(unset)"), or(next[a.Attr], "(unset)")))
		}
		if q.DryRun {
			return attrs
		}
		return next
	}
	if q.Groups {
		names = strings.Split(q.Range.Range, ",")
	}
	for _, n := range names {
		if !q.Groups {
			f.nodes[n].attrs = change(n, f.nodes[n].attrs)
			continue
		}
		g, ok := f.groups[n]
		if !ok {
			return &api.Error{Code: api.Unknown, What: "group set", Why: "there is no group " + n, Do: "See: muster group list"}
		}
		g.Attrs = change(n, g.Attrs)
		f.groups[n] = g
	}
	changed.Nodes, changed.Count = noderange.Fold(names), len(names)
	return answer(w, changed)
}

func (f *fake) get(w http.ResponseWriter, r *http.Request) error {
	var q api.GetAttrs
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	return f.stream(w, r, names, func(n string, node *fakeNode) (any, *api.Error) {
		line := api.NodeAttrs{Result: api.Result{Node: n}}
		all := map[string]api.AttrValue{"console.speed": {Attr: "console.speed", Value: "115200", From: "default"}}
		for _, g := range node.groups {
			for a, v := range f.groups[g].Attrs {
				all[a] = api.AttrValue{Attr: a, Value: v, From: "group " + g}
			}
		}
		for a, v := range node.attrs {
			i := strings.LastIndexFunc(n, func(r rune) bool { return r < '0' || r > '9' })
			all[a] = api.AttrValue{Attr: a, Value: strings.ReplaceAll(v, "{n0}", n[i+1:]), From: "node", Written: v}
		}
		for _, a := range sortedKeys(all) {
			v := all[a]
			if !q.Blame {
				v.From, v.Written = "", ""
			}
			if len(q.Attrs) == 0 || slices.ContainsFunc(q.Attrs, func(g string) bool { ok, _ := path.Match(g, a); return ok }) {
				line.Attrs = append(line.Attrs, v)
			}
		}
		return line, nil
	})
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) error {
	var q api.ListNodes
	if err := read(r, &q); err != nil {
		return err
	}
	if q.Range.Range == "" {
		q.Range.Range = "everything"
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, q.Prefix) })
	return answer(w, api.Names{Names: names, Folded: noderange.Fold(names)})
}

func (f *fake) expandNames(w http.ResponseWriter, r *http.Request) error {
	var q api.Expand
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := noderange.ExpandNames(q.Range.Range)
	if err != nil {
		return &api.Error{Code: api.Usage, What: "noderange", Why: err.Error()}
	}
	out := api.Names{Names: []string{}, Folded: noderange.Fold(names)}
	if !q.Short {
		out.Names = names
	}
	return answer(w, out)
}

func (f *fake) listGroups(w http.ResponseWriter, _ *http.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []api.GroupInfo{}
	for _, name := range sortedKeys(f.groups) {
		g := f.groups[name]
		var members []string
		for n, node := range f.nodes {
			if slices.Contains(node.groups, name) {
				members = append(members, n)
			}
		}
		g.Members, g.Count = noderange.Fold(members), len(members)
		out = append(out, g)
	}
	return answer(w, out)
}

func (f *fake) addGroup(w http.ResponseWriter, r *http.Request) error {
	var q api.GroupAction
	if err := read(r, &q); err != nil {
		return err
	}
	var members []string
	if q.Members != "" {
		var err error
		if members, err = f.expand(api.Range{Range: q.Members}); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.groups[q.Name]; ok {
		return &api.Error{Code: api.Conflict, What: "group add", Why: "group " + q.Name + " is already there"}
	}
	f.remember(q.Set)
	if !q.DryRun {
		g := api.GroupInfo{Name: q.Name, Range: q.Dynamic, Attrs: map[string]string{}}
		apply(g.Attrs, q.Set)
		f.groups[q.Name] = g
		for _, m := range members {
			f.nodes[m].groups = append(slices.Clone(f.nodes[m].groups), q.Name)
		}
	}
	return answer(w, api.Changed{Nodes: q.Name, Count: len(members), Revision: 11, DryRun: q.DryRun})
}

func (f *fake) removeGroup(w http.ResponseWriter, r *http.Request) error {
	var q api.GroupAction
	if err := read(r, &q); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.groups[q.Name]; !ok {
		return &api.Error{Code: api.Unknown, What: "group remove", Why: "there is no group " + q.Name, Do: "See: muster group list"}
	}
	count := 0
	for _, node := range f.nodes {
		if slices.Contains(node.groups, q.Name) {
			count++
			if !q.DryRun {
				node.groups = slices.DeleteFunc(slices.Clone(node.groups), func(g string) bool { return g == q.Name })
			}
		}
	}
	if !q.DryRun {
		delete(f.groups, q.Name)
	}
	return answer(w, api.Changed{Nodes: q.Name, Count: count, Revision: 12, DryRun: q.DryRun})
}

func (f *fake) attributes(w http.ResponseWriter, r *http.Request) error {
	all := []api.AttrDoc{
		{Name: "bmc.address", Type: "address", Help: "address of the management controller"},
		{Name: "bmc.driver", Type: "choice", Choices: []string{"ipmi", "null"}, Default: "ipmi", Help: "how the BMC is spoken to"},
		{Name: "bmc.password", Type: "secret", Help: "password of bmc.user"},
		{Name: "console.speed", Type: "int", Unit: "bit/s", Default: "115200", Help: "speed of the serial line"},
	}
	out := []api.AttrDoc{}
	for _, d := range all {
		if ok, _ := path.Match(r.FormValue("glob"), d.Name); ok || r.FormValue("glob") == "" {
			out = append(out, d)
		}
	}
	return answer(w, out)
}

// phases are what a deployed node goes through, one for each time that it is asked.
var phases = []string{"armed", "booting", "up"}

func (f *fake) statusOf(n string, node *fakeNode, walk bool) api.NodeStatus {
	s := api.NodeStatus{Result: api.Result{Node: n}, Status: "defined", Power: node.power, Console: "recording", Since: fakeStart}
	if node.image == "" {
		return s
	}
	s.Image = node.image
	if walk && node.power == "on" && node.phase < len(phases)-1 {
		node.phase++
		f.tell(n, "node."+phases[node.phase], phases[node.phase], "", false)
	}
	s.Status, s.Begun = phases[node.phase], fakeStart
	if fate := node.attrs["custom.fate"]; fate == "creeps" && s.Status == "up" && node.percent < 100 {
		node.percent += 43
		s.Status, s.Progress = "fetching", model.Progress{Done: node.percent, Of: 100}
		s.Step = fmt.Sprintf("fetching %d %%", node.percent)
	} else if fate == "waits" {
		s.Status, s.Rollout, s.Reason = "waiting", "compute-1", "it is defined, and waits for wave 2 of 2 of rollout compute-1"
		if node.phase == len(phases)-1 {
			s.Status, s.Rollout, s.Reason = "up", "", "" // with what it had before
		}
	} else if node.rollout != "" {
		s.Rollout = node.rollout
	}
	if node.cancelled {
		s.Status, s.Code, s.Reason = "cancelled", model.ByPerson, "by root (uid 0) when it was armed"
	}
	if node.attrs["custom.fate"] == "held" && s.Status == "up" {
		s.Status, s.Reason = "held", "3 network boots and not up"
	}
	if s.Status == "up" {
		s.Seen = fakeStart
		s.Facts = &model.Facts{CPUs: 1, Memory: 768_000_000, Kernel: "6.1.0-30-amd64"}
	}
	return s
}

func (f *fake) status(w http.ResponseWriter, r *http.Request) error {
	var q api.StatusQuery
	if err := read(r, &q); err != nil {
		return err
	}
	q.Range.Range = or(q.Range.Range, "everything")
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	return f.stream(w, r, names, func(n string, node *fakeNode) (any, *api.Error) { return f.statusOf(n, node, true), nil })
}

func (f *fake) why(w http.ResponseWriter, r *http.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := r.PathValue("name")
	node := f.nodes[n]
	if node == nil {
		return &api.Error{Code: api.Unknown, What: "why", Why: "no node " + n, Do: "See: muster list"}
	}
	out := api.Why{Node: n, Status: f.statusOf(n, node, false)}
	for _, e := range f.events {
		if e.Node == model.NodeName(n) {
			out.Steps = append(out.Steps, e)
		}
	}
	if out.Status.Status == "up" {
		out.OursUS, out.TookMS = 12_345, 31_200
	} else {
		out.Stopped = out.Steps[len(out.Steps)-1].Step
		out.Look = []string{"its console: muster console " + n + " --log"}
		out.Console = []string{"GRUB loading", "\x1b[2Jerror: no such device"}
	}
	return answer(w, out)
}

func (f *fake) timeline(w http.ResponseWriter, r *http.Request) error {
	var of []string
	if nr := r.FormValue("range"); nr != "" {
		var err error
		if of, err = f.expand(api.Range{Range: nr}); err != nil {
			return err
		}
	}
	after, _ := strconv.ParseInt(r.FormValue("after"), 10, 64)
	enc, follow := json.NewEncoder(w), r.FormValue("follow") == "true"
	for n := 0; ; {
		f.mu.Lock()
		all, news := f.events, f.news
		f.mu.Unlock()
		for _, e := range all {
			if e.Seq <= after || of != nil && !slices.Contains(of, string(e.Node)) {
				continue
			}
			after = e.Seq
			n++
			_ = enc.Encode(e)
		}
		if !follow {
			return enc.Encode(api.Trailer{Asked: n, Answered: n, Trailer: true})
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-news:
		case <-r.Context().Done():
			return nil
		}
	}
}

func (f *fake) discovered(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, []api.Discovered{{MAC: "52:54:00:77:00:09", First: fakeStart, Last: fakeStart, Count: 4, Vendor: "PXEClient:Arch:00000", Reason: "no node has this MAC"}})
}

func (f *fake) refusal(n string, node *fakeNode, what string) *api.Error {
	if node.attrs["custom.fate"] != "refused" {
		return nil
	}
	return &api.Error{Code: api.Failed, What: what, Why: "BMC 10.78.0.9 refused user admin", Do: "Set bmc.password", Node: n}
}

func (f *fake) power(w http.ResponseWriter, r *http.Request) error {
	var q api.Power
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	return f.stream(w, r, names, func(n string, node *fakeNode) (any, *api.Error) {
		out := api.PowerResult{Result: api.Result{Node: n}, State: node.power}
		if out.Error = f.refusal(n, node, "power "+q.Action); out.Error != nil {
			f.tell(n, "power."+q.Action, "power "+q.Action+" did not work", out.Error.Why, true)
			return out, out.Error
		}
		if q.Action != "status" && !q.DryRun {
			out.Was = node.power
			node.power = map[string]string{"on": "on", "cycle": "on", "reset": "on", "off": "off", "softoff": "off"}[q.Action]
			out.State = node.power
			f.tell(n, "power."+q.Action, "power "+q.Action, "asked for; it was "+out.Was, false)
		}
		return out, nil
	})
}

func (f *fake) bootdev(w http.ResponseWriter, r *http.Request) error {
	var q api.BootDev
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	return f.stream(w, r, names, func(n string, node *fakeNode) (any, *api.Error) {
		out := api.BootDevResult{Result: api.Result{Node: n}}
		if out.Error = f.refusal(n, node, "bootdev "+q.Device); out.Error != nil {
			return out, out.Error
		}
		if q.Device != "" && !q.DryRun {
			node.device, node.deviceMode = q.Device, q.Firmware+map[bool]string{true: " persist"}[q.Persist]
		}
		out.Device = node.device
		out.Firmware, _, out.Persist = strings.Cut(node.deviceMode, " ")
		return out, nil
	})
}

func (f *fake) deploy(w http.ResponseWriter, r *http.Request) error {
	var q api.Deploy
	if err := read(r, &q); err != nil {
		return err
	}
	f.mu.Lock()
	f.asked = append(f.asked, q.Layout)
	f.mu.Unlock()
	if _, ok := f.images[q.Image]; !ok && !q.None && !q.Cancel && !q.Retry {
		return &api.Error{Code: api.Unknown, What: "deploy", Why: "there is no image " + q.Image, Do: "There is: broken, compute"}
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	return f.stream(w, r, names, func(n string, node *fakeNode) (any, *api.Error) {
		out := api.DeployResult{Result: api.Result{Node: n}, Image: q.Image}
		if q.DryRun {
			return out, nil
		}
		switch {
		case q.Cancel:
			node.cancelled, out.Image, out.Phase = true, node.image, "cancelled"
			return out, nil
		case q.Retry:
			node.cancelled, q.Image, out.Image = false, node.image, node.image
		case q.Canary > 0:
			node.image, node.phase, node.power, node.rollout = q.Image, 0, "on", "compute-1"
			out.Phase, out.Rollout, out.Wave = "waiting", "compute-1", 1
			if node.attrs["custom.fate"] == "waits" {
				out.Wave = 2
			}
			return out, nil
		}
		node.image, node.phase, node.percent = q.Image, 0, 0
		if q.Image == "" {
			return out, nil
		}
		out.Phase = "armed"
		if q.Reboot {
			if out.Error = f.refusal(n, node, "deploy --reboot"); out.Error != nil {
				return out, out.Error
			}
			node.power = "on"
			f.tell(n, "power.on", "power on into the network", "deploy --reboot; it was off", false)
		}
		return out, nil
	})
}

// layout repeats what it was asked; a node that is to be refused has two disks.
func (f *fake) layout(w http.ResponseWriter, r *http.Request) error {
	var q api.Layout
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	return f.stream(w, r, names, func(n string, node *fakeNode) (any, *api.Error) {
		out := api.LayoutResult{Result: api.Result{Node: n}, Text: fmt.Sprintf("for %q from %q\n%s", q.For, q.Mirror, q.Text)}
		if node.attrs["custom.fate"] == "refused" {
			out.Text, out.Error = "", &api.Error{Code: api.Failed, What: "layout", Why: "line 1, disk system: 2 disks are local, and 1 is wanted", Do: "Change the layout", Node: n}
		}
		return out, out.Error
	})
}

// run runs the command here, with NODE set, so that quoting is seen to work.
func (f *fake) run(w http.ResponseWriter, r *http.Request) error {
	var q api.Run
	if err := read(r, &q); err != nil {
		return err
	}
	names, err := f.expand(q.Range)
	if err != nil {
		return err
	}
	return f.stream(w, r, names, func(n string, node *fakeNode) (any, *api.Error) {
		out := api.RunResult{Result: api.Result{Node: n}, Exit: -1}
		if node.attrs["custom.fate"] == "refused" {
			out.Error = &api.Error{Code: api.Failed, What: "run", Why: "not enrolled: its host keys are not known", Do: "See: muster why " + n}
			return out, out.Error
		}
		var stdout, stderr strings.Builder
		c := exec.Command("sh", "-c", q.Command)
		c.Env = append(os.Environ(), "NODE="+n)
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(string(q.Stdin)), &stdout, &stderr
		_ = c.Run()
		out.Stdout, out.Stderr, out.Exit = []byte(stdout.String()), []byte(stderr.String()), c.ProcessState.ExitCode()
		if out.Exit != 0 {
			return out, &api.Error{}
		}
		return out, nil
	})
}

func (f *fake) copy(w http.ResponseWriter, r *http.Request) error {
	maxNodes, _ := strconv.Atoi(r.FormValue("max_nodes"))
	names, err := f.expand(api.Range{Range: r.FormValue("range"), Known: r.FormValue("known") == "true", MaxNodes: maxNodes})
	if err != nil {
		return err
	}
	var files []string
	var bytes int64
	for t := tar.NewReader(r.Body); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		files = append(files, fmt.Sprintf("%s %c %04o", path.Join(r.FormValue("dest"), h.Name), h.Typeflag, h.Mode))
		bytes += h.Size
	}
	f.mu.Lock()
	f.asked = files
	f.mu.Unlock()
	return f.stream(w, r, names, func(n string, _ *fakeNode) (any, *api.Error) {
		return api.CopyResult{Result: api.Result{Node: n}, Files: len(files), Bytes: bytes}, nil
	})
}

func (f *fake) build(w http.ResponseWriter, r *http.Request) error {
	var q api.BuildImage
	if err := read(r, &q); err != nil {
		return err
	}
	lines := []api.BuildStep{
		{Step: "packages", Text: "fetching linux-image-amd64"},
		{Step: "packages", Done: true, Cached: !q.Fresh, MS: 1200},
	}
	switch q.Source {
	case "debian98":
		lines = []api.BuildStep{{Step: "image", Error: &api.Error{Code: api.Usage, What: "image build", Why: "no image source \"debian98\""}}}
	case "debian99":
		lines = append(lines, api.BuildStep{Step: "tree", Error: &api.Error{Code: api.Failed, What: "image build: tree", Why: "mmdebstrap: exit status 1\nE: invalid suite debian99", Do: "Compare the name of the source"}})
	default:
		i := f.images["compute"].Image
		i.Name = model.ImageName(q.Name)
		lines = append(lines, api.BuildStep{Step: "root", Done: true, MS: 30_500}, api.BuildStep{Step: "done", Image: &i})
	}
	for _, l := range lines {
		_ = json.NewEncoder(w).Encode(l)
	}
	t := api.Trailer{Asked: 1, Answered: 1, Trailer: true}
	if lines[len(lines)-1].Error != nil {
		t = api.Trailer{Asked: 1, Failed: 1, Trailer: true}
	}
	return answer(w, t)
}

func (f *fake) importImage(w http.ResponseWriter, r *http.Request) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	if !bytes.Contains(b, []byte("ustar")) {
		return &api.Error{Code: api.Failed, What: "image import, step tree", Why: "the file is neither a tar nor a squashfs"}
	}
	i := f.images["compute"].Image
	i.Name, i.Recipe = model.ImageName(q.Get("name")), "import"
	for _, l := range []api.BuildStep{{Step: "tree", Text: q.Get("source"), Done: true, MS: 1200}, {Step: "image", Done: true, Image: &i}} {
		_ = json.NewEncoder(w).Encode(l)
	}
	return answer(w, api.Trailer{Asked: 1, Answered: 1, Trailer: true})
}

func (f *fake) exportImage(w http.ResponseWriter, r *http.Request) error {
	if format := r.URL.Query().Get("format"); format != "tar" {
		return &api.Error{Code: api.Usage, What: "image export", Why: "there is no format " + format, Do: "There is: tar, oci, squashfs"}
	}
	_, err := io.WriteString(w, "the tree of "+r.PathValue("name"))
	return err
}

func (f *fake) checkImage(w http.ResponseWriter, r *http.Request) error {
	out := api.ImageCheck{Name: model.ImageName(r.PathValue("name")), Findings: []model.ImageFinding{}}
	if r.PathValue("name") == "broken" {
		out.Findings = append(out.Findings, model.ImageFinding{Check: "init", What: "the system has no init", Do: "Install one"},
			model.ImageFinding{Check: "size", What: "too much for " + r.URL.Query().Get("memory") + " with " + strings.Join(r.URL.Query()["modules"], " ")})
	}
	return answer(w, out)
}

func (f *fake) diffImages(w http.ResponseWriter, r *http.Request) error {
	if r.PathValue("name") == r.PathValue("other") {
		return answer(w, model.ImageDifference{})
	}
	return answer(w, model.ImageDifference{
		Before: "6.1", After: "6.12", Packages: []model.PackageChange{{Name: "bash", Before: "5.1", After: "5.2"}, {Name: "chrony", After: "4"}},
		Files: []model.FileChange{{Path: "/etc/x", What: []string{"content", "mode"}}, {Path: "/usr/bin/bash", What: []string{"content"}}}, New: 1_500_000,
	})
}

func (f *fake) listImages(w http.ResponseWriter, _ *http.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return answer(w, slices.Collect(maps.Values(map[string]api.ImageInfo{"compute": f.images["compute"]})))
}

func (f *fake) image(w http.ResponseWriter, r *http.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.images[r.PathValue("name")]
	if !ok {
		return &api.Error{Code: api.Unknown, What: "image show", Why: "there is no image " + r.PathValue("name"), Do: "See: muster image list"}
	}
	return answer(w, i)
}

func (f *fake) removeImage(w http.ResponseWriter, r *http.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := r.PathValue("name")
	if _, ok := f.images[name]; !ok {
		return &api.Error{Code: api.Unknown, What: "image remove", Why: "there is no image " + name, Do: "See: muster image list"}
	}
	for n, node := range f.nodes {
		if node.image == name {
			return &api.Error{Code: api.Conflict, What: "image remove", Why: name + " is deployed on " + n, Do: "Take it away: muster deploy " + n + " --none"}
		}
	}
	delete(f.images, name)
	return answer(w, struct{}{})
}

func (f *fake) consoles(w http.ResponseWriter, _ *http.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []api.ConsoleInfo{}
	for _, n := range slices.SortedFunc(maps.Keys(f.nodes), model.Natural) {
		i := api.ConsoleInfo{Node: n, State: "recording", Since: fakeStart, Bytes: 2_400, Watchers: 1}
		if f.nodes[n].attrs["custom.fate"] == "refused" {
			i = api.ConsoleInfo{Node: n, State: "BMC 10.78.0.9 refused user admin", Since: fakeStart}
		}
		out = append(out, i)
	}
	return answer(w, out)
}

func (f *fake) console(n string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nodes[n] == nil {
		return &api.Error{Code: api.Unknown, What: "console " + n, Why: "there is no such node", Do: "See: muster list"}
	}
	return nil
}

func (f *fake) consoleLog(w http.ResponseWriter, r *http.Request) error {
	if err := f.console(r.PathValue("node")); err != nil {
		return err
	}
	lines := []string{"GRUB loading\r\n", "Linux version 6.1\r\n", "login: \r\n"}
	if n, _ := strconv.Atoi(r.FormValue("tail")); n > 0 {
		lines = lines[len(lines)-n:]
	}
	if r.FormValue("replay") == "true" {
		for i, l := range lines { // a second apart, and a day before the last
			at := fakeStart.Add(time.Duration(i) * time.Second)
			if i == len(lines)-1 {
				at = at.AddDate(0, 0, 1)
			}
			_ = answer(w, api.ConsoleChunk{Time: at, Data: []byte(l)})
		}
		return nil
	}
	for _, name := range []string{"since", "until", "times"} {
		if v := r.FormValue(name); v != "" {
			lines = append(lines, name+" "+v+"\r\n")
		}
	}
	if v := r.FormValue("grep"); v != "" {
		lines = slices.DeleteFunc(lines, func(l string) bool { return !regexp.MustCompile(v).MatchString(l) })
	}
	_, err := io.WriteString(w, strings.Join(lines, ""))
	return err
}

// attach echoes what is typed in upper case, "bye" ends it as a service that stops does. At r1n2 somebody else types.
func (f *fake) attach(w http.ResponseWriter, r *http.Request) error {
	if err := f.console(r.PathValue("node")); err != nil {
		return err
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return nil
	}
	defer c.CloseNow()
	control := func(kind, text string) {
		b, _ := json.Marshal(api.ConsoleControl{Type: kind, Text: text, You: kind == "writer" && text != "ann"})
		_ = c.Write(r.Context(), websocket.MessageText, b)
	}
	control("state", "connected")
	ann := r.PathValue("node") == "r1n2" && r.FormValue("take") != "true"
	switch {
	case ann:
		control("writer", "ann")
	case r.FormValue("write") == "true":
		control("writer", "root (uid 0)")
	}
	_ = c.Write(r.Context(), websocket.MessageBinary, []byte("login: "))
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			f.typed <- "end"
			return nil
		}
		if kind == websocket.MessageText {
			var m api.ConsoleControl
			_ = json.Unmarshal(b, &m)
			f.typed <- "<" + m.Type + ">"
			if ann && m.Type == "take" {
				ann = false
				control("writer", "root (uid 0)")
			}
			control("state", "did "+m.Type)
			continue
		}
		f.typed <- string(b)
		if ann {
			control("error", "console r1n2: write: ann has the keyboard. Take it over, or wait")
			continue
		}
		if strings.Contains(string(b), "bye") {
			_ = c.Close(websocket.StatusGoingAway, "the service stops")
			return nil
		}
		_ = c.Write(r.Context(), websocket.MessageBinary, []byte(strings.ToUpper(string(b))))
	}
}
