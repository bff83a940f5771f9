package boot

import (
	"fmt"
	"net/http"
	"time"

	"muster/internal/model"
)

// decideScript hands out the script for iPXE, which uses one of the deployment's network boots.
func decideScript(s *model.Snapshot, r Request, now time.Time) Decision {
	n := s.NodeByMAC(r.MAC)
	if n == nil {
		d := Decision{Status: http.StatusNotFound, Reason: "no node has net.*.mac=" + r.MAC}.
			tell(StepRefused, fmt.Sprintf("a boot script was refused to %s", r.Source))
		d.Events[0].MAC = r.MAC
		return d
	}
	d := Decision{Node: n.Name, Status: http.StatusForbidden}
	port, err := findNIC(s, n, r)
	elsewhere := port.mode == model.ModeProxy // its address is not from here
	switch {
	case port.mode == model.ModeObserve:
		d.Reason = fmt.Sprintf("net.%s.mode is observe; muster take %s", port.name, n.Name)
	case err != nil && !elsewhere:
		d.Reason = err.Error()
	}
	if d.Reason != "" {
		return d.warn(StepRefused, "the boot script was refused")
	}
	if r.Source != port.address && !elsewhere {
		d.Reason = fmt.Sprintf("%s asked, and the node with %s is at %s", r.Source, r.MAC, port.address)
		return d.warn(StepRefused, "the boot script was refused")
	}
	if !r.ticketHolds(now) {
		d.Reason = "the URL is not of a DHCP answer of this service in the last hour; a machine that boots asks by DHCP first"
		return d.warn(StepRefused, "the boot script was refused")
	}
	dep := deployed(s, n.Name)
	if dep == nil {
		d.Status, d.Reason = http.StatusConflict, fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", n.Name)
		return d.tell(StepRefused, "the boot script was refused")
	}
	again := askedAgain(dep, now) || passing(dep, now)
	if dep.Phase == model.Held || dep.Left <= 0 && !again {
		return hold(d, r, *dep, now)
	}
	if !dep.Installed.IsZero() {
		return fromDisk(d, r, *dep, s.Limit(n, model.Booting), now)
	}
	img := s.Image(dep.Image)
	if img == nil {
		d.Reason = fmt.Sprintf("there is no image %s any more; muster deploy %s IMAGE", dep.Image, n.Name)
		return stop(d, r)
	}
	at := places(s, r, port)
	args, err := kernelArgs(s, n, port, at)
	if err != nil {
		d.Reason = err.Error()
		return stop(d, r)
	}
	next, err := dep.To(model.Booting, now, s.Limit(n, model.Booting))
	if err != nil {
		d.Reason = err.Error()
		return stop(d, r)
	}
	if again {
		next.Since, next.Deadline = dep.Since, dep.Deadline
	} else {
		next.Left--
	}
	next.Restart = time.Time{}
	next.TokenHash, next.TokenExpires, next.TokenKey = r.TokenHash, now.Add(TokenLife), ""
	count := fmt.Sprintf("network boot %d of %d", dep.Boots-next.Left, dep.Boots)
	who := ""
	if elsewhere {
		who = r.who() + "/"
	}
	files, err := bootFiles(img, who)
	var line string
	if err == nil {
		line, err = bootLine(args, r.Token)
	}
	if err != nil {
		d.Reason = err.Error()
		return stop(d, r)
	}
	d.Script = bootScript(at, n.Name, img, count, files, line)
	if r.Grub {
		d.Script = grubScript(at, n.Name, img, count, files, line)
	}
	d.Status, d.Reason = http.StatusOK, fmt.Sprintf("image %s is deployed and was not up yet after it", dep.Image)
	if dep.Phase == model.Up {
		d.Reason = fmt.Sprintf("image %s is deployed; the node was up and boots again", dep.Image)
	}
	return d.put(next).tell(StepScript, fmt.Sprintf("boot script for image %s handed out (%s)", dep.Image, count))
}

// passing says that an installed node asks while it is still on its way to the disk: a UEFI goes through its boot entries, PXE and HTTP for each port, and each of
// them asks.
func passing(dep *model.Deployment, now time.Time) bool {
	const way = 2 * time.Minute
	return !dep.Installed.IsZero() && dep.Phase == model.Booting && now.Sub(dep.Since) < way
}

// fromDisk sends a node that is installed on to its disk. Also such a boot is counted: a system that never comes up is held, not looped.
func fromDisk(d Decision, r Request, dep model.Deployment, limit time.Duration, now time.Time) Decision {
	next, err := dep.To(model.Booting, now, limit)
	if err != nil {
		d.Reason = err.Error()
		return stop(d, r)
	}
	if passing(&dep, now) {
		next.Since, next.Deadline = dep.Since, dep.Deadline
	} else {
		next.Left--
	}
	next.Restart = time.Time{}
	next.TokenHash, next.TokenExpires, next.TokenKey = "", time.Time{}, ""
	d.Status, d.Script = http.StatusOK, diskScript(d.Node)
	if r.Grub {
		d.Script = grubDisk(d.Node)
	}
	d.Reason = fmt.Sprintf("image %s is on its disk since %s", dep.Image, dep.Installed.UTC().Format(time.RFC3339))
	return d.put(next).tell(StepScript, fmt.Sprintf("sent on to its disk (boot %d of %d)", dep.Boots-next.Left, dep.Boots))
}

// askedAgain says that the script is asked for a second time in the same boot: iPXE does so when the first answer was lost. No
// machine goes through its firmware twice in that time.
func askedAgain(dep *model.Deployment, now time.Time) bool {
	const lost = 5 * time.Second
	return dep.Phase == model.Booting && dep.TokenHash != "" && dep.TokenKey == "" && now.Sub(dep.Since) < lost
}

// hold stops a machine whose network boots are used up, and says so on its console. The deployment is held from the first
// time on.
func hold(d Decision, r Request, dep model.Deployment, now time.Time) Decision {
	if dep.Phase != model.Held {
		dep = held(dep, model.BootsUsedUp, usedUp(dep), now)
		d = d.put(dep)
	}
	d.Reason = dep.Reason
	return stop(d, r)
}

// stop hands out the script that says the reason and stays there.
func stop(d Decision, r Request) Decision {
	d.Status, d.Script = http.StatusOK, stopScript(d.Node, d.Reason)
	if r.Grub {
		d.Script = grubStop(d.Node, d.Reason)
	}
	return d.warn(StepHeld, "the machine was stopped at its boot script")
}

func usedUp(dep model.Deployment) string {
	return fmt.Sprintf("%d network boots did not reach up; last step: %s", dep.Boots, Stopped(&dep))
}

// Stopped says at which step a deployment that goes no further has stopped, and what to look at.
func Stopped(dep *model.Deployment) string {
	if dep.Reason != "" {
		return dep.Reason
	}
	look := fmt.Sprintf("; look at: muster console %s --log", dep.Node)
	if !dep.Installed.IsZero() && dep.Phase.Runs() && dep.Phase != model.Jobs {
		return "booting from disk, and the agent there has not reported" + look
	}
	switch dep.Phase {
	case model.Armed:
		return "armed, the machine has not asked for its boot script; look at: muster power " + string(dep.Node) + " status, muster why " + string(dep.Node)
	case model.Booting:
		return "booting, the script was handed out and the init has not enrolled (kernel or init stopped)" + look
	case model.Enrolled:
		return "enrolled, the init has not begun to fetch the root image" + look
	case model.Fetching:
		return "fetching, the root image did not arrive whole" + look
	case model.Starting:
		return "starting, the init switched to the root and the agent has not reported" + look
	case model.Writing:
		return dep.Step() + ", the disk was not written whole" + look
	case model.Jobs:
		return dep.Step() + ", they have not ended" + look
	}
	return string(dep.Phase)
}
