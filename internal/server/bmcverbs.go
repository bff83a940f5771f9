package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

func (s *Server) bmcInfo(q *request) error {
	var in api.BMCInfo
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodes("bmc info", in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, "bmc info", powerTime, func(l *api.NodeBMC) *api.Result { return &l.Result },
		func(ctx context.Context, _ *model.Node, d bmc.Driver, out *api.NodeBMC) (err error) {
			out.Controller, err = d.Info(ctx)
			return err
		})
}

// bmcTrust takes the certificates that controllers show now. Who stands between is taken as well: so it is said what was seen.
func (s *Server) bmcTrust(q *request) error {
	var in api.BMCTrust
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.disturbs("bmc trust", in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, "bmc trust", powerTime, func(l *api.BMCDone) *api.Result { return &l.Result },
		func(ctx context.Context, n *model.Node, d bmc.Driver, out *api.BMCDone) error {
			if driver, err := q.snap.Attr(n, "bmc.driver"); err != nil || driver != "redfish" {
				return errors.Join(err, &api.Error{
					Code: api.Failed, What: "bmc trust", Why: "bmc.driver is " + driver + ": there is no certificate", Do: "Name nodes of bmc.driver=redfish", Node: string(n.Name),
				})
			}
			_, err := d.Info(ctx)
			var cert *bmc.CertificateError
			switch {
			case err == nil:
				out.Did = "is trusted already"
				return nil
			case !errors.As(err, &cert):
				return err
			}
			if out.Did = "bmc.pin=" + cert.Seen; in.DryRun {
				return nil
			}
			return s.keep(ctx, q, "bmc trust", n.Name, edit{attr: "bmc.pin", op: "=", value: cert.Seen}, cert.Seen)
		})
}

func (s *Server) bmcReset(q *request) error {
	var in api.BMCReset
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.disturbs("bmc reset", in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, "bmc reset", powerTime, func(l *api.BMCDone) *api.Result { return &l.Result },
		func(ctx context.Context, n *model.Node, d bmc.Driver, out *api.BMCDone) error {
			if out.Did = "reset"; in.DryRun {
				return nil
			}
			return s.changing(q, n.Name, "bmc.reset", "BMC reset", func() error { return d.ResetController(ctx) })
		})
}

func (s *Server) bmcGet(q *request) error {
	var in api.BMCGet
	if err := q.read(&in); err != nil {
		return err
	}
	if err := checkGlobs("bmc get", in.Names); err != nil {
		return err
	}
	nodes, err := q.nodes("bmc get", in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, "bmc get", readTime, func(l *api.NodeSettings) *api.Result { return &l.Result },
		func(ctx context.Context, _ *model.Node, d bmc.Driver, out *api.NodeSettings) error {
			all, err := d.Settings(ctx)
			if err != nil {
				return err
			}
			out.Settings = []model.Setting{}
			for _, v := range all {
				if globbed(in.Names, v.Name) {
					out.Settings = append(out.Settings, v)
				}
			}
			return nil
		})
}

func (s *Server) bmcRaw(q *request) error {
	var in api.BMCRaw
	if err := q.read(&in); err != nil {
		return err
	}
	words := strings.Fields(in.Request)
	if len(words) == 0 {
		return &api.Error{Code: api.Usage, What: "bmc raw", Why: "there is no request", Do: "IPMI: muster bmc raw r1n1 0x06 0x01; Redfish: muster bmc raw r1n1 GET /redfish/v1"}
	}
	nodes, err := q.disturbs("bmc raw", in.Range)
	if err != nil {
		return err
	}
	// What follows the first two words may hold secrets.
	what := "raw request " + strings.Join(words[:min(2, len(words))], " ")
	return controllers(s, q, in.Range, nodes, "bmc raw", powerTime, func(l *api.NodeRaw) *api.Result { return &l.Result },
		func(ctx context.Context, n *model.Node, d bmc.Driver, out *api.NodeRaw) error {
			if in.DryRun {
				return nil
			}
			return s.changing(q, n.Name, "bmc.raw", what, func() (err error) {
				out.Answer, err = d.Raw(ctx, in.Request)
				return err
			})
		})
}

// ownPassword stands in a request for the password of the account that muster logs in with.
const ownPassword = "password"

func (s *Server) bmcSet(q *request) error {
	var in api.BMCSet
	if err := q.read(&in); err != nil {
		return err
	}
	set, err := settings(in.Set)
	if err != nil {
		return err
	}
	nodes, err := q.disturbs("bmc set", in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, "bmc set", readTime, func(l *api.BMCDone) *api.Result { return &l.Result },
		func(ctx context.Context, n *model.Node, d bmc.Driver, out *api.BMCDone) error {
			return s.bmcSetOne(ctx, q, n, d, in, set, out)
		})
}

// settings reads the assignments of a request. What ends in password is a secret, however it was sent.
func settings(set []api.Assignment) ([]bmc.Setting, error) {
	if len(set) == 0 {
		return nil, &api.Error{Code: api.Usage, What: "bmc set", Why: "no setting is named", Do: "See which there are: muster bmc get NODE"}
	}
	var out []bmc.Setting
	for _, a := range set {
		v := bmc.Setting{Name: a.Attr, Value: a.Value}
		if a.Op != "" && a.Op != "=" {
			return nil, &api.Error{Code: api.Usage, What: "bmc set " + a.Attr + a.Op, Why: "settings are set as a whole", Do: "Write " + a.Attr + "=VALUE"}
		}
		plain := a.Value
		if a.Secret != nil {
			plain = a.Secret.Plain
		}
		if a.Secret != nil || path.Base(strings.ReplaceAll(a.Attr, ".", "/")) == ownPassword {
			if plain == "" {
				return nil, &api.Error{Code: api.Usage, What: "bmc set " + a.Attr, Why: "the password is empty"}
			}
			secret := model.NewSecret(plain)
			v.Value, v.Secret = "", &secret
		}
		out = append(out, v)
	}
	return out, nil
}

func (s *Server) bmcSetOne(ctx context.Context, q *request, n *model.Node, d bmc.Driver, in api.BMCSet, all []bmc.Setting, out *api.BMCDone) error {
	set, own, err := s.forAccount(ctx, q.snap, n, d, all)
	if err != nil {
		return err
	}
	names := make([]string, len(set))
	for i, v := range set {
		names[i] = v.Name
	}
	what := "BMC set " + strings.Join(names, ", ")
	out.Did = "set " + strings.Join(names, ", ")
	if in.DryRun {
		return nil
	}
	err = s.changing(q, n.Name, "bmc.set", what, func() (err error) {
		out.Pending, err = d.Set(ctx, set)
		return err
	})
	if err != nil || own == nil {
		return err
	}
	// From here on the controller has a password that only the client knows: it is tried, and kept, also when the client goes away meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), powerTime)
	defer cancel()
	if err := s.tryPassword(ctx, q.snap, n, *own); err != nil {
		return &api.Error{
			Code: api.Failed, What: "bmc set", Node: string(n.Name), Why: "the password was set, but the login with it does not work: " + bmcProblem(n.Name, "", err).Why,
			Do: "bmc.password is as before. Look at: muster bmc test " + string(n.Name),
		}
	}
	if in.Leave {
		return nil
	}
	if err := s.keep(ctx, q, "bmc set", n.Name, edit{attr: "bmc.password", op: "=", secret: *own}, masked); err != nil {
		return &api.Error{
			Code: api.Failed, What: "bmc set", Node: string(n.Name), Why: "the BMC has the new password, but bmc.password could not be set: " + problem(err).Error(),
			Do: "Set it: muster set " + string(n.Name) + " bmc.password=-",
		}
	}
	out.Did += " and bmc.password"
	return nil
}

// forAccount names the settings of the account that muster logs in with. own is its new password, nil when that is not among them.
func (s *Server) forAccount(ctx context.Context, snap *model.Snapshot, n *model.Node, d bmc.Driver, all []bmc.Setting) (set []bmc.Setting, own *model.Secret, err error) {
	set = append(set, all...)
	asks := false
	for _, v := range set {
		asks = asks || v.Secret != nil
	}
	if !asks {
		return set, nil, nil
	}
	user, err := snap.Attr(n, "bmc.user")
	if err != nil {
		return nil, nil, err
	}
	have, err := d.Settings(ctx)
	if err != nil {
		return nil, nil, err
	}
	account := ""
	for _, v := range have {
		if first, isName := strings.CutSuffix(v.Name, ".name"); isName && strings.HasPrefix(v.Name, "user.") && v.Value == user {
			account = first + "." + ownPassword
		}
	}
	for i := range set {
		if set[i].Name == ownPassword {
			if account == "" {
				return nil, nil, &api.Error{
					Code: api.Failed, What: "bmc set " + ownPassword, Why: fmt.Sprintf("the BMC lists no account %q (bmc.user)", user),
					Do: "Name the setting: muster bmc get " + string(n.Name) + " 'user.*'", Node: string(n.Name),
				}
			}
			set[i].Name = account
		}
		if set[i].Name == account {
			own = set[i].Secret
		}
	}
	return set, own, nil
}

// tryPassword logs in with another password than the one that is set.
func (s *Server) tryPassword(ctx context.Context, snap *model.Snapshot, n *model.Node, password model.Secret) error {
	a, err := s.readBMC(snap, n)
	if err != nil {
		return err
	}
	t, err := s.target(snap, n, a)
	if err != nil {
		return err
	}
	t.Password = password
	d := s.drivers[a.driver].Open(t)
	defer d.Close()
	_, err = d.Power(ctx)
	return err
}

// unheard is an answer that nobody waits for: the one that is being answered has begun already.
type unheard struct{ http.ResponseWriter }

func (unheard) Header() http.Header { return http.Header{} }

// keep sets an attribute of one node, in a change of its own; shown is the value as it may be told.
func (s *Server) keep(ctx context.Context, q *request, verb string, name model.NodeName, set edit, shown string) error {
	own := *q
	own.w, own.base = unheard{}, 0
	_, err := s.commit(ctx, &own, verb, false, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		n := snap.Node(name)
		if n == nil {
			return nil, "", nil, &api.Error{Code: api.Conflict, What: verb, Node: string(name), Why: "the node was removed meanwhile"}
		}
		w, err := s.writer(snap)
		if err != nil {
			return nil, "", nil, err
		}
		c := *n
		w.node(&c, []edit{set})
		if err := w.err(); err != nil {
			return nil, "", nil, err
		}
		what := "set " + string(set.attr) + "=" + shown + " on " + string(name)
		return append(w.sealer.Ops(), model.Op{Kind: model.KindNode, Name: string(name), Doc: &c}), what, perNode([]model.NodeName{name}, "node.set", what, q.who.Name), nil
	})
	return err
}

// consoleTime is how long a test waits for the serial line.
const consoleTime = 10 * time.Second

func (s *Server) bmcTest(q *request) error {
	var in api.BMCTest
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodes("bmc test", in.Range)
	if err != nil {
		return err
	}
	return each(q, in.Range, nodes, powerFanout, readTime, func(ctx context.Context, n *model.Node) (api.NodeBMCTest, *api.Error) {
		out := api.NodeBMCTest{Result: api.Result{Node: string(n.Name)}}
		out.Steps = s.testBMC(ctx, q.snap, n)
		for _, step := range out.Steps {
			if step.Did == "failed" {
				out.Error = &api.Error{Code: api.Failed, What: "bmc test, " + step.Step, Why: step.Text, Do: step.Do, Node: string(n.Name)}
				break
			}
		}
		return out, out.Error
	})
}

// tester notes the steps of one test. After one that failed those that need it are left out.
type tester struct {
	steps  []api.BMCStep
	failed bool
}

// step tries something. Unsupported is no failure: the controller is what it is.
func (t *tester) step(name string, try func() (text string, err error)) {
	began := time.Now()
	text, err := try()
	st := api.BMCStep{Step: name, Did: "ok", Text: text, MS: time.Since(began).Milliseconds()}
	var b *bmc.Error
	if errors.As(err, &b) && b.Kind == bmc.Unsupported {
		st.Did, st.Text = "skipped", b.Why
	} else if err != nil {
		e := bmcProblem("", "", err)
		st.Did, st.Text, st.Do, t.failed = "failed", e.Why, e.Do, true
	}
	t.steps = append(t.steps, st)
}

// testBMC asks for what muster needs, from the ground up. Power is the first question, as every driver has it: how it fails tells how far it came.
func (s *Server) testBMC(ctx context.Context, snap *model.Snapshot, n *model.Node) []api.BMCStep {
	t := &tester{}
	var d bmc.Driver
	var a bmcAttrs
	t.step("settings", func() (_ string, err error) {
		if a, err = s.readBMC(snap, n); err != nil {
			return "", err
		}
		if d, err = s.driver(snap, n); err != nil {
			return "", err
		}
		text := "bmc.driver " + a.driver
		if a.user != "" {
			text += ", user " + a.user
		}
		return text, nil
	})
	if t.failed {
		return t.steps
	}
	defer d.Close()
	if s.drivers[a.driver].Mute {
		t.steps = append(t.steps, api.BMCStep{Step: "answer", Did: "skipped", Text: "what is sent is not answered: the machine comes on, or does not"})
		return t.steps
	}
	began := time.Now()
	power, err := d.Power(ctx)
	var b *bmc.Error
	errors.As(err, &b)
	answers := err == nil || b != nil && (b.Kind == bmc.Refused || b.Kind == bmc.Failed || b.Kind == bmc.Busy || b.Kind == bmc.Unsupported)
	if !answers {
		t.step("answer", func() (string, error) { return "", err })
		return t.steps
	}
	t.steps = append(t.steps, api.BMCStep{Step: "answer", Did: "ok", MS: time.Since(began).Milliseconds()})
	if err != nil && b.Kind != bmc.Failed { // of the session, not of the question
		t.step("login", func() (string, error) { return "", &api.Error{Code: api.Failed, Why: b.Why, Do: b.Do} })
		return t.steps
	}
	t.step("login", func() (string, error) {
		info, err := d.Info(ctx)
		if err != nil && !isUnsupported(err) {
			return "", err
		}
		var parts []string
		for _, p := range []string{info.Protocol, info.Session, strings.TrimSpace(info.Vendor + " " + info.Model), info.Firmware} {
			if p != "" {
				parts = append(parts, p)
			}
		}
		return strings.Join(parts, ", "), nil
	})
	t.step("power", func() (string, error) { return string(power), err })
	t.step("privilege", func() (string, error) {
		dev, err := d.BootDevice(ctx) // which takes what changing it takes (IPMI 2.0, appendix G: operator)
		if err != nil {
			return "", err
		}
		return "may see and set the boot device, which is " + dev.Device, nil
	})
	t.step("console", func() (string, error) { return s.testConsole(ctx, n.Name, d) })
	return t.steps
}

func isUnsupported(err error) bool {
	var b *bmc.Error
	return errors.As(err, &b) && b.Kind == bmc.Unsupported
}

// testConsole connects the serial line for a moment, unless this service has it already.
func (s *Server) testConsole(ctx context.Context, n model.NodeName, d bmc.Driver) (string, error) {
	if info, ok := s.consoles.Info(n); ok {
		if state := recording(info); state == "recording" {
			return state, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, consoleTime)
	defer cancel()
	line, err := d.Serial(ctx)
	if err != nil {
		return "", err
	}
	return "connected", line.Close()
}
