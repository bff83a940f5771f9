package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// powerFanout is how many BMCs are worked on at once. It bounds memory only: what goes over the wire is bounded by the drivers, where the silent make room
// for those that answer; here they would keep their places for all of powerTime.
const powerFanout = 1 << 15

// powerTime is how long one BMC may take; waitTime with --wait.
const (
	powerTime = 15 * time.Second
	waitTime  = 2 * time.Minute
	// lookAgain is the time between two looks at a power that is waited for.
	lookAgain = 250 * time.Millisecond
)

func (s *Server) power(q *request) error {
	var in api.Power
	if err := q.read(&in); err != nil {
		return err
	}
	if in.Action == "" {
		in.Action = "status"
	}
	actions := []string{"status", "on", "off", "softoff", "cycle", "reset", "diag"}
	if !slices.Contains(actions, in.Action) {
		return &api.Error{Code: api.Usage, What: "power", Why: "there is no action " + in.Action, Do: "Use one of: status, on, off, softoff, cycle, reset, diag"}
	}
	if in.Cached && in.Action != "status" {
		return &api.Error{Code: api.Usage, What: "power " + in.Action, Why: "cached is for the status"}
	}
	reach := q.disturbs
	if in.Action == "status" {
		reach = q.nodes
	}
	nodes, err := reach("power "+in.Action, in.Range)
	if err != nil {
		return err
	}
	if in.Cached {
		return s.cachedPower(q, nodes)
	}
	limit := powerTime
	if in.Wait {
		limit = waitTime
	}
	want := wanted[in.Action]
	if in.NoOrder || want == "" || in.Action == "cycle" || in.Action == "reset" {
		return each(q, in.Range, nodes, powerFanout, limit, func(ctx context.Context, n *model.Node) (api.PowerResult, *api.Error) {
			return s.powerNode(q, n, in, func(out *api.PowerResult) error { return s.powerOne(ctx, q, n, in, out) })
		})
	}
	t, err := s.order(q.snap, nodes, want)
	if err != nil {
		return err
	}
	var stages sync.WaitGroup
	defer stages.Wait()
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()
	if !in.DryRun {
		stages.Go(func() { t.run(ctx, s, q.snap) })
	}
	return each(q, in.Range, t.ordered(nodes), powerFanout, 0, func(ctx context.Context, n *model.Node) (api.PowerResult, *api.Error) {
		return s.powerNode(q, n, in, func(out *api.PowerResult) error { return s.powerInTurn(ctx, q, t, n, in, limit, out) })
	})
}

// wanted is the state that an action leads to; "" where there is none to wait for.
var wanted = map[string]bmc.PowerState{"on": bmc.PowerOn, "cycle": bmc.PowerOn, "reset": bmc.PowerOn, "off": bmc.PowerOff, "softoff": bmc.PowerOff}

// powerNode makes the line of a node, and tells when an action did not work.
func (s *Server) powerNode(q *request, n *model.Node, in api.Power, do func(*api.PowerResult) error) (api.PowerResult, *api.Error) {
	out := api.PowerResult{Result: api.Result{Node: string(n.Name)}}
	if err := do(&out); err != nil {
		out.Error = bmcProblem(n.Name, "power "+in.Action, err)
		if in.Action != "status" && !in.DryRun {
			s.didNot(q, n.Name, "power."+in.Action, "power "+in.Action, out.Error)
		}
	}
	return out, out.Error
}

// powerInTurn is powerOne when it is the node's turn. Who is waited for is followed until its state is the one asked for.
func (s *Server) powerInTurn(ctx context.Context, q *request, t *turns, n *model.Node, in api.Power, limit time.Duration, out *api.PowerResult) error {
	me := t.asked[n.Name]
	if in.DryRun {
		if len(t.stages) > 0 {
			out.Turn, out.After, out.DelayMS = me.number, fold(t.after(n.Name)), me.delay.Milliseconds()
		}
	} else if err := t.wait(ctx, n.Name); err != nil {
		t.finish(n.Name, out, bmcProblem(n.Name, "power "+in.Action, err))
		return err
	}
	if me.awaited {
		in.Wait, limit = true, waitTime
	}
	ctx, cancel := context.WithTimeout(ctx, ownTime(in.Range, limit))
	defer cancel()
	err := s.powerOne(ctx, q, n, in, out)
	var e *api.Error
	var none noBMC
	if err != nil && !errors.As(err, &none) { // without a controller nobody can tell, and nobody waits
		e = bmcProblem(n.Name, "power "+in.Action, err)
	}
	t.finish(n.Name, out, e)
	return err
}

// cachedPower answers what was seen last.
func (s *Server) cachedPower(q *request, nodes []*model.Node) error {
	st := q.stream(len(nodes))
	for _, n := range nodes {
		out := api.PowerResult{Result: api.Result{Node: string(n.Name)}}
		if seen := s.seen.get(q.snap, n.Name); seen != nil && seen.Power != "" {
			out.State, out.Seen = seen.Power, seen.PowerAt
		} else {
			out.Error = &api.Error{Code: api.Failed, What: "power status", Why: "its power was never seen", Do: "Ask its BMC: muster power " + string(n.Name), Node: string(n.Name)}
		}
		st.line(out, out.Error != nil)
	}
	return st.end()
}

func (s *Server) powerOne(ctx context.Context, q *request, n *model.Node, in api.Power, out *api.PowerResult) error {
	d, err := s.driver(q.snap, n)
	if err != nil {
		return err
	}
	defer d.Close()
	was, err := d.Power(ctx)
	switch {
	case err == nil:
		out.State = string(was)
		if in.Action == "status" || in.DryRun {
			s.sawPower(n.Name, string(was))
			return nil
		}
		out.Was = string(was)
	case in.Action != "status" && isUnsupported(err):
		if out.State = stateUnknown; in.DryRun {
			return nil
		}
	default:
		return err
	}
	e := about(n.Name, "power."+in.Action, "power "+in.Action)
	e.Actor, e.Reason = q.who.Name, "asked for; it was "+or(out.Was, stateUnknown)
	s.tell(e) // before it happens: what the machine does next comes after it on the timeline
	if err := setPower(ctx, d, bmc.Action(in.Action), was); err != nil {
		return err
	}
	s.wentDown(n.Name, in.Action)
	want := wanted[in.Action]
	for out.State != stateUnknown {
		now, err := d.Power(ctx)
		if err != nil {
			return err
		}
		out.State = string(now)
		if !in.Wait || want == "" || now == want {
			s.sawPower(n.Name, string(now))
			return nil
		}
		if err := pause(ctx, lookAgain); err != nil {
			return &bmc.Error{Kind: bmc.Timeout, Why: "the BMC took it, and the power is still " + string(now), Do: "Wait longer with --timeout, or look at the machine: muster console " + string(n.Name), Err: err}
		}
	}
	return nil
}

// stateUnknown is the power of a machine whose driver can switch it but not ask for it: wol.
const stateUnknown = "unknown"

// wentDown records that what ran on the node has ended, where the action ends it at once.
func (s *Server) wentDown(n model.NodeName, action string) {
	if action == "off" || action == "cycle" || action == "reset" {
		s.observe(n, func(st *model.State) bool {
			st.Down = time.Now()
			return true
		})
	}
}

// setPower does the action. A machine that is off is switched on by cycle: many BMCs refuse to cycle it (IPMI 2.0 §28.3).
func setPower(ctx context.Context, d bmc.Driver, a bmc.Action, was bmc.PowerState) error {
	if a == bmc.Cycle && was == bmc.PowerOff {
		a = bmc.On
	}
	return d.SetPower(ctx, a)
}

// pause waits between two looks at something that cannot tell when it changes.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (s *Server) bootdev(q *request) error {
	var in api.BootDev
	if err := q.read(&in); err != nil {
		return err
	}
	if in.Device != "" && !slices.Contains([]string{"network", "disk", "cd", "setup", "default"}, in.Device) {
		return &api.Error{Code: api.Usage, What: "bootdev", Why: "there is no boot device " + in.Device, Do: "Use one of: network, disk, cd, setup, default"}
	}
	if !slices.Contains([]string{"", "uefi", "bios"}, in.Firmware) {
		return &api.Error{Code: api.Usage, What: "bootdev", Why: "there is no firmware " + in.Firmware, Do: "Use --uefi or --bios"}
	}
	reach := q.disturbs
	if in.Device == "" {
		reach = q.nodes
	}
	nodes, err := reach("bootdev", in.Range)
	if err != nil {
		return err
	}
	return each(q, in.Range, nodes, powerFanout, powerTime, func(ctx context.Context, n *model.Node) (api.BootDevResult, *api.Error) {
		out := api.BootDevResult{Result: api.Result{Node: string(n.Name)}}
		err := func() error {
			d, err := s.driver(q.snap, n)
			if err != nil {
				return err
			}
			defer d.Close()
			if in.Device != "" && !in.DryRun {
				dev := bmc.BootDevice{Device: in.Device, Persist: in.Persist, Firmware: in.Firmware}
				if err := d.SetBootDevice(ctx, dev); err != nil {
					return err
				}
				e := about(n.Name, "bootdev", "boot device "+in.Device)
				e.Actor = q.who.Name
				s.tell(e)
			}
			dev, err := d.BootDevice(ctx)
			out.Device, out.Persist, out.Firmware = dev.Device, dev.Persist, dev.Firmware
			return err
		}()
		if err != nil {
			out.Error = bmcProblem(n.Name, "bootdev "+in.Device, err)
		}
		return out, out.Error
	})
}
