package server

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/boot"
	"muster/internal/console"
	"muster/internal/model"
	"muster/internal/store"
)

// why is GET /v1/why/{name}: every step of the newest attempt, and what to look at where it stopped.
func (s *Server) why(q *request) error {
	name := q.PathValue("name")
	if strings.Count(name, ":") == 5 {
		return s.whyUnknown(q, strings.ToLower(name))
	}
	n, err := q.one("why", name)
	if err != nil {
		return err
	}
	all, err := s.store.Events(store.EventQuery{Nodes: map[model.NodeName]bool{n.Name: true}, Limit: 2000})
	if err != nil {
		return err
	}
	out := api.Why{Node: string(n.Name), Status: s.statusOf(q.snap, n, time.Now()), Steps: attempt(all)}
	waits(&out.Status, q.snap.Waiting()[n.Name])
	summarize(&out, time.Now())
	if out.Status.Status != "up" {
		out.Console = s.consoleTail(n.Name)
		s.readEventLog(q.Context(), q.snap, n, &out)
	}
	out.Do = whatToDo(&out)
	return q.answer(out)
}

// attempt is the tail of a node's timeline that begins with its last power on, else with its last deployment.
func attempt(all []model.Event) []model.Event {
	start := max(0, len(all)-100)
	for i := len(all) - 1; i >= 0; i-- {
		if startsAttempt(all[i]) {
			start = i
			break
		}
	}
	// What armed it belongs to the story.
	for i := start - 1; i >= 0; i-- {
		if all[i].Step == "deploy.armed" {
			return append([]model.Event{all[i]}, all[start:]...)
		}
	}
	return all[start:]
}

func startsAttempt(e model.Event) bool {
	switch e.Step {
	case "power.on", "power.cycle", "power.reset":
		return !e.Bad
	}
	return false
}

// summarize adds what follows from the steps: our own time, the time in all, where it stopped, what to look at.
func summarize(w *api.Why, now time.Time) {
	var began, up time.Time
	for _, e := range w.Steps {
		if began.IsZero() && startsAttempt(e) {
			began = e.Time
		}
		if up.IsZero() || e.Time.Before(up) {
			w.OursUS += e.TookUS
		}
		if e.Step == "node.up" && up.IsZero() {
			up = e.Time
		}
	}
	if !began.IsZero() && !up.IsZero() {
		w.TookMS = up.Sub(began).Milliseconds()
	}
	if w.Status.Status == "up" {
		return
	}
	last := lastStep(w.Steps)
	w.Stopped = last.Step
	w.Look = advice(w, last, now)
}

// lastStep is the last line that tells of the node's own way; its zero value when it never set out.
func lastStep(steps []model.Event) model.Event {
	for i := len(steps) - 1; i >= 0; i-- {
		switch family, step, _ := strings.Cut(steps[i].Step, "."); family {
		case "boot", "dhcp":
			return steps[i]
		case "power":
			if step != "seen" {
				return steps[i]
			}
		case "node":
			if !slices.Contains([]string{"add", "set", "remove", "renewed"}, step) {
				return steps[i]
			}
		}
	}
	return model.Event{}
}

// firmwareTime is how long a machine may take from power on to its first DHCP request.
const firmwareTime = time.Minute

// advice says what to look at, by the step that a node stopped at.
func advice(w *api.Why, last model.Event, now time.Time) []string {
	n := w.Node
	console := "its console: muster console " + n + " --log"
	var out []string
	if w.Status.Console != "" && w.Status.Console != "recording" {
		out = append(out, "the console is not recorded: "+w.Status.Console)
	}
	switch {
	case w.Status.Status == "defined":
		return append(out, "nothing is deployed: muster deploy "+n+" IMAGE --reboot")
	case w.Status.Status == "held":
		return append(out, console, "then let it try again: muster deploy "+n+" "+w.Status.Image+" --reboot")
	case last.Step == boot.StepObserved:
		return append(out, "it is only observed, another system answers it; to take it over: muster take "+n, "which address the other system gives it: muster events "+n)
	case last.Bad && strings.HasPrefix(last.Step, "power."):
		return append(out, "the BMC: "+last.Reason, "its attributes: muster get "+n+" 'bmc.*' --blame")
	case strings.HasPrefix(last.Step, "power.") && w.Status.Power == "on" && now.Sub(last.Time) < firmwareTime:
		return append(out, "it was switched on "+now.Sub(last.Time).Round(time.Second).String()+" ago; firmware takes up to some minutes: ask again, or watch it: muster console "+n)
	case strings.HasPrefix(last.Step, "power.") && w.Status.Power == "on":
		return append(out, "no DHCP request came from it: is net.boot.mac right (muster get "+n+" net.boot.mac), is its cable on the boot interface, does it boot from the network (muster bootdev "+n+" network)?",
			"machines that asked and are not known: muster discover list", console)
	case strings.HasPrefix(last.Step, "power."), last.Step == "":
		return append(out, "it is off: muster power "+n+" on")
	case strings.HasPrefix(last.Step, "dhcp."):
		return append(out, "it has an address but did not fetch its loader or script: "+console)
	case last.Step == "boot.script", last.Step == "boot.file", last.Step == "boot.loader":
		return append(out, "kernel or initramfs did not get as far as enrolment: "+console)
	case last.Step == "node.failed":
		return append(out, last.Reason, console)
	}
	return append(out, console)
}

// The event log of a BMC is asked for no longer than a person waits, and shown in its last entries.
const (
	whyLogTime = 4 * time.Second
	whyLogLast = 8
)

// readEventLog joins what the BMC has to say about the attempt.
func (s *Server) readEventLog(ctx context.Context, snap *model.Snapshot, n *model.Node, w *api.Why) {
	if _, err := s.readBMC(snap, n); err != nil {
		return // it has none
	}
	ctx, cancel := context.WithTimeout(ctx, whyLogTime)
	defer cancel()
	d, err := s.driver(snap, n)
	if err != nil {
		w.EventLogError = problem(err).Error()
		return
	}
	defer d.Close()
	all, err := d.EventLog(ctx)
	if err != nil {
		w.EventLogError = bmcProblem(n.Name, "eventlog", err).Error()
		return
	}
	for _, e := range all {
		if e.Time.IsZero() || len(w.Steps) == 0 || !e.Time.Before(w.Steps[0].Time.Add(-time.Minute)) { // clocks of controllers are not exact
			w.EventLog = append(w.EventLog, e)
		}
	}
	w.EventLog = w.EventLog[max(0, len(w.EventLog)-whyLogLast):]
}

// panicked are words of a kernel that stopped for good.
var panicked = []string{"Kernel panic", "not syncing", "Unable to mount root"}

// whatToDo is one sentence for the person who asks: the cause as far as it is known, and the next command.
func whatToDo(w *api.Why) string {
	n, image := w.Node, w.Status.Image
	again := "muster deploy " + n + " --retry --reboot"
	switch w.Status.Status {
	case "up":
		return "Nothing is to be done: it is up."
	case "defined":
		return "Deploy an image: muster deploy " + n + " IMAGE --reboot."
	case "waiting":
		return "Wait for its wave, or take it out of the rollout: muster deploy " + n + " --cancel."
	case "cancelled":
		return "Begin again with " + again + ", or leave it."
	}
	for _, e := range w.EventLog {
		if e.Health == bmc.Critical && !e.Over && !cleared(w.EventLog, e) {
			return "See to the hardware, as the BMC reports " + strings.TrimSpace(e.Sensor+" "+e.Text) + ", and then: " + again + "."
		}
	}
	for _, l := range w.Console {
		for _, word := range panicked {
			if strings.Contains(l, word) {
				return "Check the image " + image + ", or its kernel arguments (muster get " + n + " image.kernelargs), as its kernel stopped with “" + clip(l) + "”, and then: " + again + "."
			}
		}
	}
	switch w.Status.Code {
	case model.BMCFailed:
		return "Set right how its BMC is reached, which muster bmc test " + n + " tells step by step, and then: " + again + "."
	case model.NodeFailed:
		return "Do away with what the node told (" + clip(w.Status.Reason) + "), and then: " + again + "."
	case model.PhaseTooLong, model.BootsUsedUp:
		return "Read how it stopped (muster console " + n + " --log), give it more time with deploy.limit.* if it was only slow, and then: " + again + "."
	case model.Refused:
		return "Wait until nothing else is under way on it, and then: " + again + "."
	}
	switch {
	case w.Status.Status == "held":
		return "Read how it stopped (muster console " + n + " --log), and then: " + again + "."
	case !w.Status.Deadline.IsZero() && w.Status.Status != "armed":
		return "Wait: it is " + or(w.Status.Step, w.Status.Status) + ", and held at " + w.Status.Deadline.UTC().Format(time.RFC3339) + " if it gets no further."
	case len(w.Look) > 0:
		return "Look here: " + strings.TrimSuffix(w.Look[0], ".") + "."
	}
	return "Look at its console: muster console " + n + " --log."
}

// cleared says that a later entry of the same sensor says that it is over.
func cleared(log []model.LogEntry, e model.LogEntry) bool {
	return slices.ContainsFunc(log, func(l model.LogEntry) bool { return l.Over && l.Sensor == e.Sensor && !l.Time.Before(e.Time) })
}

// clip is a text for the middle of a sentence.
func clip(s string) string {
	const most = 160
	if s = strings.TrimRight(s, ". "); len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " …"
	}
	return s
}

func (s *Server) whyUnknown(q *request, mac string) error {
	told, err := s.store.Events(store.EventQuery{})
	if err != nil {
		return err
	}
	var all []model.Event
	for _, e := range told {
		if e.MAC == mac {
			all = append(all, e)
		}
	}
	all = all[max(0, len(all)-200):]
	if n := q.snap.NodeByMAC(mac); n != nil {
		return &api.Error{Code: api.Usage, What: "why", Why: mac + " belongs to " + string(n.Name), Do: "muster why " + string(n.Name)}
	}
	if len(all) == 0 {
		return &api.Error{Code: api.Unknown, What: "why", Why: "nothing was ever heard of " + mac, Do: "See who asked: muster discover list"}
	}
	return q.answer(api.Why{
		Node: mac, Status: api.NodeStatus{Result: api.Result{Node: mac}, Status: "unknown", Reason: all[len(all)-1].Reason},
		Steps: all, Stopped: all[len(all)-1].Step,
		Look: []string{"make it known: muster node add NAME net.boot.mac=" + mac + " net.boot.address=ADDRESS"},
		Do:   "Make it known, if it is yours: muster node add NAME net.boot.mac=" + mac + " net.boot.address=ADDRESS.",
	})
}

// consoleTail is the last lines of a node's console, without control characters.
func (s *Server) consoleTail(n model.NodeName) []string {
	const lines = 15
	r, err := s.consoles.Log(n, console.LogOptions{Tail: 3 * lines})
	if err != nil {
		return nil // nothing was recorded yet
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, 256<<10))
	if err != nil {
		return nil
	}
	var out []string
	for l := range strings.Lines(console.Plain(b)) {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out[max(0, len(out)-lines):]
}
