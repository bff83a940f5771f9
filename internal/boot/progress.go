package boot

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"muster/internal/model"
)

// deployed is the deployment of a node, nil when there is none, or none any more.
func deployed(s *model.Snapshot, n model.NodeName) *model.Deployment {
	if dep := s.Deployment(n); dep != nil && dep.Phase != model.Cancelled {
		return dep
	}
	return nil
}

// phases are those that the node itself reports.
var phases = map[string]model.Phase{"fetching": model.Fetching, "starting": model.Starting, "writing": model.Writing, "jobs": model.Jobs}

// decideProgress records a step that the node reports. A late or repeated one moves nothing back. A failed boot was counted when its
// script was handed out: the node is armed for the next one, or held when none is left, or when another would end in the same way.
func decideProgress(s *model.Snapshot, r Request, now time.Time) Decision {
	d := Decision{Node: r.Node, Status: http.StatusOK}
	dep := deployed(s, r.Node)
	if dep == nil {
		d.Status, d.Reason = http.StatusConflict, fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", r.Node)
		return d
	}
	if !r.Made.Valid() {
		d.Status, d.Reason = http.StatusBadRequest, fmt.Sprintf("%d of %d is no progress", r.Made.Done, r.Made.Of)
		return d
	}
	if r.Step == "failed" {
		return decideFailed(s, d, *dep, r, now)
	}
	if r.Step == "installed" {
		return decideInstalled(s, d, *dep, r, now)
	}
	phase, ok := phases[r.Step]
	switch {
	case !ok:
		d.Status, d.Reason = http.StatusBadRequest, fmt.Sprintf("there is no step %.40q; there are fetching, starting, writing, installed, jobs, failed", r.Step)
		return d
	case phase == model.Writing && dep.Layout == "":
		d.Status, d.Reason = http.StatusConflict, "the deployment is to memory, not to disk"
		return d.warn(StepRefused, "the node wanted to write its disk")
	case phase == dep.Phase:
		d.Reason = "the deployment is " + string(dep.Phase)
		d.Made = &Made{*dep, r.Made, line(r.Output)}
		if phase == model.Writing && r.Text != "" { // each of its few steps is told
			d.Reason = "the node reports it"
			return d.tell(StepWriting, "to disk: "+line(r.Text))
		}
		return d
	case phase == model.Writing && !dep.Installed.IsZero():
		d.Reason = "the disk is written since " + dep.Installed.UTC().Format(time.RFC3339) + ", and a late report does not move it"
		return d
	}
	next, err := dep.To(phase, now, s.Limit(s.Node(r.Node), phase))
	if err != nil {
		d.Reason = "the deployment is " + string(dep.Phase) + ", and a late report does not move it"
		return d
	}
	next.Progress, next.Output = r.Made, line(r.Output)
	d.Reason = "the node reports it"
	what := next.Step() + " " + line(r.Text)
	if phase == model.Writing {
		what = "to disk: " + line(r.Text)
	}
	return d.put(next).tell("node."+r.Step, strings.TrimSpace(what))
}

// decideInstalled is of a node whose disk is written and synced: it starts again, and its boots from there are counted from the first on. The reports from
// before it may all have been lost.
func decideInstalled(s *model.Snapshot, d Decision, dep model.Deployment, r Request, now time.Time) Decision {
	d.Reason = "the deployment is " + string(dep.Phase)
	if dep.Layout == "" || !dep.Installed.IsZero() {
		return d
	}
	if w, err := dep.To(model.Writing, now, 0); err == nil {
		dep = w
	}
	dep.Installed = now
	next, err := dep.To(model.Starting, now, s.Limit(s.Node(dep.Node), model.Starting))
	if err != nil {
		return d
	}
	next.Left = dep.Boots
	d.Reason = "the node wrote it and synced it; it starts again, from disk"
	return d.put(next).tell(StepDisk, strings.TrimSpace("image "+string(dep.Image)+" is on disk "+line(r.Text)))
}

// decideFailed is of a node that cannot go on and says why.
func decideFailed(s *model.Snapshot, d Decision, dep model.Deployment, r Request, now time.Time) Decision {
	why := long(r.Text)
	if why == "" {
		why = "the node gave no reason"
	}
	d.Reason = why
	if do := line(r.Do); do != "" {
		d.Reason += "; look at: " + do
	}
	if !dep.Phase.Runs() {
		return d.warn(StepFailed, fmt.Sprintf("the node stopped; the deployment is %s", dep.Phase))
	}
	reason := fmt.Sprintf("%s, the node stopped: %s", dep.Step(), d.Reason)
	output := line(r.Output)
	if output == "" {
		output = dep.Output
	}
	if over := dep.Left <= 0; over || r.Final || dep.Phase == model.Writing || dep.Phase == model.Jobs {
		if over {
			dep.Reason = reason
			reason = usedUp(dep)
		}
		next := held(dep, model.NodeFailed, reason, now)
		next.Output = output
		return d.put(next).warn(StepFailed, "the node stopped; it is held")
	}
	next, err := dep.To(model.Armed, now, s.Limit(s.Node(dep.Node), model.Armed))
	if err != nil {
		d.Reason = err.Error()
		return d.warn(StepFailed, "the node stopped")
	}
	next.Code, next.Reason, next.Output = model.NodeFailed, reason, output
	return d.put(next).warn(StepFailed, fmt.Sprintf("the node stopped; network boots left: %d", dep.Left))
}

// held is the deployment after it has come to its end for a reason. Its last words, and how far it was, stay.
func held(dep model.Deployment, code model.Code, reason string, now time.Time) model.Deployment {
	next, err := dep.To(model.Held, now, 0)
	if err != nil {
		return dep // it rests already
	}
	next.Code, next.Reason, next.Output, next.Progress, next.Restart = code, reason, dep.Output, dep.Progress, time.Time{}
	return next
}

// decideLimit holds a node that has been in a phase for longer than that may take.
func decideLimit(s *model.Snapshot, r Request, now time.Time) Decision {
	d := Decision{Node: r.Node, Status: http.StatusOK}
	dep := deployed(s, r.Node)
	if dep == nil || !dep.Late(now) {
		d.Reason = "no time is over"
		return d
	}
	after := dep.Deadline.Sub(dep.Since).Round(time.Second)
	d.Reason = fmt.Sprintf("%s for more than %s (deploy.limit.%s): %s", dep.Step(), after, dep.Phase, Stopped(dep))
	return d.put(held(*dep, model.PhaseTooLong, d.Reason, now)).warn(StepLate, "the node is held: its time for "+string(dep.Phase)+" is over")
}

// decideUp records that the running system reported, and starts the count of network boots afresh.
func decideUp(s *model.Snapshot, r Request, now time.Time) Decision {
	d := Decision{Node: r.Node, Status: http.StatusOK}
	dep := deployed(s, r.Node)
	switch {
	case dep == nil:
		d.Reason = "nothing is deployed"
		return d.tell(StepUp, "the node is up")
	case dep.Phase == model.Held && dep.Layout != "" && dep.Installed.IsZero():
		d.Reason = "it stays up in memory, and the deployment is held" // which is the last word on the timeline
		return d
	case dep.Phase == model.Up:
		if st := s.State(r.Node); st != nil && st.BootID == r.BootID {
			d.Reason = "it is known to be up"
			return d
		}
		d.Reason = "the deployment had reached up before"
		return d.tell(StepUp, "the node is up")
	}
	next, err := dep.To(model.Up, now, 0)
	if err != nil {
		// A system from before the deployment: its agent came back, the machine did not boot.
		d.Reason = fmt.Sprintf("it runs from before; the deployment is %s until the next network boot", dep.Phase)
		return d.tell(StepUp, "the running system reported")
	}
	if dep.Layout != "" && dep.Installed.IsZero() {
		d.Reason = "the system in memory reported up without having written the disk: the agent in image " + string(dep.Image) + " cannot; build the image again"
		return d.put(held(*dep, model.NodeFailed, d.Reason, now)).warn(StepFailed, "the disk was not written; the node is held")
	}
	next.Left = dep.Boots
	d.Reason = fmt.Sprintf("the agent in image %s reported; %d network boots are free again", dep.Image, dep.Boots)
	return d.put(next).tell(StepUp, "the node is up")
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
