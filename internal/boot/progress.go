package boot

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"muster/internal/model"
)

// decideProgress records a step that the node's init reports, or the agent that writes its disk. A failed boot was counted when its
// script was handed out: the node is armed for the next one, or held when none is left.
func decideProgress(s *model.Snapshot, r Request, now time.Time) Decision {
	d := Decision{Node: r.Node, Status: http.StatusOK}
	dep := s.Deployment(r.Node)
	if dep == nil {
		d.Status, d.Reason = http.StatusConflict, fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", r.Node)
		return d
	}
	next := *dep
	next.Since = now
	switch r.Step {
	case "fetching", "starting", "writing":
		phase := model.Phase(r.Step)
		if phase == model.Writing && dep.Phase == model.Writing && dep.Installed.IsZero() {
			d.Reason = "the node's agent reports it"
			return d.tell(StepWriting, "to disk: "+line(r.Text))
		}
		if phase == model.Writing && dep.Layout == "" {
			d.Status, d.Reason = http.StatusConflict, "the deployment is to memory, not to disk"
			return d.warn(StepRefused, "the node's agent wanted to write its disk")
		}
		if order(dep.Phase) >= order(phase) || order(dep.Phase) < order(model.Booting) {
			d.Reason = "the deployment is " + string(dep.Phase)
			return d
		}
		next.Phase = phase
		d.Reason = "the node's init reports it"
		what := strings.TrimSpace(r.Step + " " + line(r.Text))
		if phase == model.Writing {
			d.Reason, what = "the node's agent reports it", "to disk: "+line(r.Text)
		}
		return d.put(next).tell("node."+r.Step, what)
	case "installed":
		if dep.Phase != model.Writing || !dep.Installed.IsZero() {
			d.Reason = "the deployment is " + string(dep.Phase)
			return d
		}
		next.Phase, next.Installed, next.Left, next.Reason = model.Starting, now, dep.Boots, ""
		d.Reason = "the node's agent wrote it and synced it; the node starts again, from disk"
		return d.put(next).tell(StepDisk, strings.TrimSpace("image "+string(dep.Image)+" is on disk "+line(r.Text)))
	case "held":
		if o := order(dep.Phase); o < order(model.Booting) || o == order(model.Up) {
			d.Reason = "the deployment is " + string(dep.Phase)
			return d
		}
		d.Reason = long(r.Text)
		if do := line(r.Do); do != "" {
			d.Reason += ". " + do
		}
		next.Phase, next.Reason = model.Held, d.Reason
		return d.put(next).warn(StepHeld, "nothing was written, and the node is held")
	case "failed":
		why := line(r.Text)
		if why == "" {
			why = "the node's init gave no reason"
		}
		d.Reason = why
		if do := line(r.Do); do != "" {
			d.Reason += "; look at: " + do
		}
		if o := order(dep.Phase); o < order(model.Booting) || o == order(model.Up) {
			return d.warn(StepFailed, fmt.Sprintf("the node's init stopped; the deployment is %s", dep.Phase))
		}
		next.Reason = fmt.Sprintf("%s, the node's init stopped: %s", dep.Phase, d.Reason)
		next.Phase = model.Armed
		what := fmt.Sprintf("the node's init stopped; network boots left: %d", dep.Left)
		if dep.Left <= 0 {
			next.Reason = usedUp(next)
			next.Phase = model.Held
			what = "the node's init stopped; the node is held"
		}
		return d.put(next).warn(StepFailed, what)
	}
	d.Status, d.Reason = http.StatusBadRequest, fmt.Sprintf("there is no step %.40q; there are fetching, starting, writing, installed, held, failed", r.Step)
	return d
}

// decideUp records that the running system reported, and starts the count of network boots afresh.
func decideUp(s *model.Snapshot, r Request, now time.Time) Decision {
	d := Decision{Node: r.Node, Status: http.StatusOK}
	dep := s.Deployment(r.Node)
	switch {
	case dep == nil:
		d.Reason = "nothing is deployed"
		return d.tell(StepUp, "the node is up")
	case dep.Phase == model.Held && dep.Layout != "" && dep.Installed.IsZero():
		d.Reason = "it stays up in memory, and the deployment is held" // which is the last word on the timeline
		return d
	case dep.Phase == model.Armed, dep.Phase == model.Held:
		// A system from before the deployment: its agent came back, the machine did not boot.
		d.Reason = fmt.Sprintf("it runs from before; the deployment is %s until the next network boot", dep.Phase)
		return d.tell(StepUp, "the running system reported")
	case dep.Phase == model.Up:
		if st := s.State(r.Node); st != nil && st.BootID == r.BootID {
			d.Reason = "it is known to be up"
			return d
		}
		d.Reason = "the deployment had reached up before"
		return d.tell(StepUp, "the node is up")
	}
	next := *dep
	if dep.Layout != "" && dep.Installed.IsZero() {
		next.Phase, next.Since = model.Held, now
		next.Reason = "the system in memory reported up without having written the disk: the agent in image " + string(dep.Image) + " cannot. Build the image again"
		d.Reason = next.Reason
		return d.put(next).warn(StepHeld, "the disk was not written")
	}
	next.Phase, next.Since, next.Reason, next.Left = model.Up, now, "", dep.Boots
	d.Reason = fmt.Sprintf("the agent in image %s reported; %d network boots are free again", dep.Image, dep.Boots)
	return d.put(next).tell(StepUp, "the node is up")
}

// order is the place of a phase on the way; Held is before all, as nothing follows from it.
func order(p model.Phase) int {
	switch p {
	case model.Armed:
		return 1
	case model.Booting:
		return 2
	case model.Enrolled:
		return 3
	case model.Fetching:
		return 4
	case model.Starting:
		return 5
	case model.Writing:
		return 6
	case model.Up:
		return 7
	}
	return 0
}

// line makes one line of at most 400 octets of printable ASCII from text that a node sent.
func line(text string) string { return cut(text, 400) }

// long is line for what names several disks.
func long(text string) string { return cut(text, 2000) }

func cut(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f:
			return ' '
		case r > '~':
			return '?'
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	return text[:min(len(text), most)]
}
