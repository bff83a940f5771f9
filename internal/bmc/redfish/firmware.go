package redfish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"path"
	"strings"
	"time"

	"muster/internal/bmc"
)

// UpdateFirmware pushes the image (UpdateService.MultipartHttpPushUri, else HttpPushUri), or has the controller fetch it (SimpleUpdate), whichever of these it
// offers first, and follows the task.
func (d *driver) UpdateFirmware(ctx context.Context, u bmc.Update) error {
	return d.with(ctx, "firmware update", func(ctx context.Context, p *peer, _ *place) error {
		if u.Progress == nil {
			u.Progress = func(string, int) {}
		}
		all, service, err := p.software(ctx)
		if err != nil {
			return err
		}
		if service.ServiceEnabled != nil && !*service.ServiceEnabled {
			return &missing{"its update service is switched off"}
		}
		targets := []string{}
		for _, name := range u.Targets {
			s, ok := all[name]
			if !ok {
				return &wrong{fmt.Sprintf("the controller has no firmware %q", name), "Its firmware is listed by: muster firmware"}
			}
			if s.Updateable != nil && !*s.Updateable {
				return &wrong{fmt.Sprintf("firmware %q cannot be updated by the controller", name), ""}
			}
			targets = append(targets, s.link.ID)
		}
		if u.Name == "" {
			u.Name = "firmware.bin"
		}
		u.Name = path.Base(u.Name)
		var a answer
		switch simple := service.Actions.Simple; {
		case service.MultipartHTTPPushURI != "":
			a, err = p.pushParts(ctx, service.MultipartHTTPPushURI, u, targets)
		case service.HTTPPushURI != "":
			a, err = p.push(ctx, service, u, targets)
		case simple.Target != "" && d.engine.opt.Serve != nil:
			return p.fetch(ctx, simple, u, targets)
		case simple.Target != "":
			return &missing{"it only fetches firmware by itself, and there is nothing here to fetch it from"}
		default:
			return &missing{"it takes no firmware"}
		}
		if err != nil {
			return err
		}
		return p.follow(ctx, a, u.Progress)
	})
}

// image is the body of an upload: head, image, tail. It tells how far it got.
func image(kind string, head []byte, u bmc.Update, tail []byte) *body {
	return &body{kind, int64(len(head)) + u.Size + int64(len(tail)), func() (io.Reader, error) {
		if _, err := u.Image.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return io.MultiReader(bytes.NewReader(head), &counting{r: io.LimitReader(u.Image, u.Size), size: u.Size, see: u.Progress}, bytes.NewReader(tail)), nil
	}}
}

type counting struct {
	r         io.Reader
	size, got int64
	last      int
	see       func(string, int)
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.got += int64(n)
	if p := int(c.got * 100 / max(c.size, 1)); p > c.last {
		c.last = p
		c.see("upload", p)
	}
	return n, err
}

// pushParts uploads as DSP0266, "Multipart HTTP push updates" has it. The length is told: many controllers take no chunks.
func (p *peer) pushParts(ctx context.Context, to string, u bmc.Update, targets []string) (answer, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	parameters := map[string]any{"Targets": targets}
	h := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="UpdateParameters"`}, "Content-Type": {"application/json"}}
	part, err := w.CreatePart(h)
	if err == nil {
		err = json.NewEncoder(part).Encode(parameters)
	}
	if err == nil {
		name := strings.NewReplacer(`"`, "_", `\`, "_", "\r", "_", "\n", "_").Replace(u.Name)
		h = textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="UpdateFile"; filename="%s"`, name)}, "Content-Type": {"application/octet-stream"},
		}
		_, err = w.CreatePart(h)
	}
	if err != nil {
		return answer{}, err
	}
	head := bytes.Clone(b.Bytes())
	tail := fmt.Appendf(nil, "\r\n--%s--\r\n", w.Boundary())
	c := call{method: http.MethodPost, path: to, unbounded: true, body: image(w.FormDataContentType(), head, u, tail)}
	return p.do(ctx, c)
}

// push uploads the image as it is. Targets are set beforehand, where that is offered.
func (p *peer) push(ctx context.Context, s updateService, u bmc.Update, targets []string) (answer, error) {
	if len(targets) > 0 {
		if s.HTTPPushURITargets == nil {
			return answer{}, &missing{"it decides by itself what an image is for: name no target"}
		}
		if _, err := p.patch(ctx, s.link.ID, map[string]any{"HttpPushUriTargets": targets}); err != nil {
			return answer{}, err
		}
	}
	a, err := p.do(ctx, call{method: http.MethodPost, path: s.HTTPPushURI, unbounded: true, body: image("application/octet-stream", nil, u, nil)})
	if err == nil && p.quirk.staged && a.location() != "" && s.Actions.Simple.Target != "" {
		return p.post(ctx, s.Actions.Simple.Target, map[string]any{"ImageURI": a.location()})
	}
	return a, err
}

// fetch has the controller fetch the image.
func (p *peer) fetch(ctx context.Context, simple action, u bmc.Update, targets []string) error {
	url, done, err := p.engine.opt.Serve(ctx, u.Name, u.Image)
	if err != nil {
		return err
	}
	defer done()
	scheme, _, _ := strings.Cut(url, "://")
	v := map[string]any{"ImageURI": url}
	if simple.Transfers != nil {
		if !contains(simple.Transfers, scheme) {
			return &missing{"it fetches by " + joined(simple.Transfers) + " and not by " + scheme}
		}
		v["TransferProtocol"] = strings.ToUpper(scheme)
	}
	if len(targets) > 0 {
		v["Targets"] = targets
	}
	a, err := p.post(ctx, simple.Target, v)
	if err != nil {
		return err
	}
	return p.follow(ctx, a, u.Progress)
}

// follow waits for what was accepted (202, or a Task) to be done (DSP0266, "Asynchronous operations"). A controller that is silent meanwhile may be
// restarting with what it was given; one that neither gets on nor ends is given up after Options.Stall.
func (p *peer) follow(ctx context.Context, a answer, see func(step string, percent int)) error {
	var t task
	_ = decode(a.body, &t) // may be empty
	isTask := func() bool { return strings.HasPrefix(t.ODataType, "#Task.") || t.TaskState != "" }
	if a.status != http.StatusAccepted && !(isTask() && t.link.ID != "") {
		return nil
	}
	at := a.location()
	if at == "" {
		at = either(pathOf(t.TaskMonitor), t.link.ID)
	}
	if at == "" {
		return nil // accepted, and nothing to look at
	}
	o := p.engine.opt
	moved, heard, was := time.Now(), time.Now(), ""
	away := false
	for {
		if isTask() {
			if done, err := t.done(see); done || err != nil {
				return err
			}
		}
		if now := string(t.TaskState) + fmt.Sprint(t.PercentComplete.int()); now != was {
			was, moved = now, time.Now()
		}
		if time.Since(moved) > o.Stall {
			return &bmc.Error{
				Kind: bmc.Timeout, What: "firmware update", Why: fmt.Sprintf("BMC %s has not got on for %s (task %s, %s)", p.key, o.Stall, last(at), either(t.TaskState, "no state")),
				Do: "Look at the task there; a reset of the BMC ends it",
			}
		}
		pause := a.retryAfter()
		if pause == 0 {
			pause = o.Poll
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
		var err error
		t = task{}
		a, err = p.get(ctx, at, &t)
		s := (*statusError)(nil)
		switch odd := (*answerError)(nil); {
		case err == nil || errors.As(err, &odd) && len(a.body) == 0 && a.status > 0:
			heard = time.Now()
			if !isTask() && a.status != http.StatusAccepted {
				see("done", 100) // the answer of what was asked: the monitor has nothing more to tell
				return nil
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case absent(err) && away:
			see("done: the controller was restarted and has forgotten the task; look at its version", 100)
			return nil
		case errors.As(err, &s) && s.status < 500 && s.status != http.StatusTooManyRequests:
			return err
		case time.Since(heard) > o.Away:
			return err
		default: // it is restarting, or too busy to answer
			away = true
			see("the controller does not answer; it may be restarting", -1)
		}
	}
}

// done says how a task is; its end may be an error.
func (t task) done(see func(string, int)) (bool, error) {
	percent := -1
	if t.PercentComplete.v != nil {
		percent = int(max(0, min(100, t.PercentComplete.int())))
	}
	var said []string
	restart := false
	for _, m := range t.Messages {
		if m.Message != "" {
			said = append(said, strings.TrimSuffix(string(m.Message), "."))
		}
		switch m.name() {
		case "ResetRequired", "ResetRecommended", "SystemResetRequired":
			restart = true
		}
	}
	switch t.TaskState {
	case "Completed":
		if t.TaskStatus == "Critical" {
			break
		}
		if restart {
			see("done; the machine has to be started anew for it", 100)
		} else {
			see("done", 100)
		}
		return true, nil
	case "Pending", "Suspended":
		if restart || percent == 100 {
			see("done; the machine has to be started anew for it", 100)
			return true, nil
		}
		fallthrough
	default:
		see(strings.ToLower(string(t.TaskState)), percent)
		return false, nil
	case "Exception", "Killed", "Cancelled", "Interrupted":
	}
	if len(said) == 0 {
		said = []string{"it does not say why"}
	}
	return true, &answerError{fmt.Sprintf("the task ended as %s: %s", t.TaskState, strings.Join(said, "; "))}
}
