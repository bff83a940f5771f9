package server

import (
	"io"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
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
	summarize(&out, time.Now())
	if out.Status.Status != "up" {
		out.Console = s.consoleTail(n.Name)
	}
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
