package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/image"
	"muster/internal/model"
	"muster/internal/model/layout"
)

func (s *Server) deploy(q *request) error {
	var in api.Deploy
	if err := q.read(&in); err != nil {
		return err
	}
	if err := s.checkDeploy(q.snap, in); err != nil {
		return err
	}
	nodes, err := q.disturbs("deploy", in.Range)
	if err != nil {
		return err
	}
	if in.Reboot {
		if err := onlyOurs(q.snap, "deploy --reboot", namesOf(nodes)); err != nil {
			return err
		}
	}
	switch {
	case in.Cancel || in.None:
		return s.endDeployments(q, in, nodes)
	case in.Retry:
		return s.retry(q, in, nodes)
	case in.Batch > 0 || in.Canary > 0:
		return s.rollOut(q, in, nodes)
	}
	if err := s.arm(q, in, nodes); err != nil {
		return err
	}
	return s.armed(q, in, nodes, in.Reboot)
}

// armed answers where the deployments stand, after the machines were restarted that are armed now.
func (s *Server) armed(q *request, in api.Deploy, nodes []*model.Node, restart bool) error {
	after := s.store.Snapshot()
	return each(q, in.Range, nodes, powerFanout, powerTime, func(ctx context.Context, n *model.Node) (api.DeployResult, *api.Error) {
		out := api.DeployResult{Result: api.Result{Node: string(n.Name)}, Image: in.Image}
		d := after.Deployment(n.Name)
		if d == nil || in.DryRun && in.Image != "" {
			if in.Retry {
				out.Error = &api.Error{Code: api.Conflict, What: "deploy --retry", Why: "nothing is deployed", Do: "muster deploy " + string(n.Name) + " IMAGE", Node: string(n.Name)}
			}
			return out, out.Error
		}
		out.Image, out.Phase, out.Begun, out.Rollout = string(d.Image), string(d.Phase), d.Begun, d.Rollout
		if restart && !in.DryRun && d.Phase == model.Armed && !d.Restart.IsZero() {
			if out.Error = s.restart(ctx, q.snap, n, q.who.Name); out.Error != nil {
				out.Phase = string(model.Held)
			}
		}
		return out, out.Error
	})
}

func (s *Server) checkDeploy(snap *model.Snapshot, in api.Deploy) error {
	wrong := func(why, do string) error { return &api.Error{Code: api.Usage, What: "deploy", Why: why, Do: do} }
	waves := in.Batch != 0 || in.Canary != 0 || in.StopAt != 0
	switch {
	case (in.None || in.Cancel) && (in.Image != "" || in.Reboot || in.Retry || in.Boots != 0 || in.Disk || in.Layout != "" || waves || in.None && in.Cancel):
		return wrong("--none and --cancel go with nothing but a noderange", "")
	case in.None || in.Cancel:
		return nil
	case in.Retry && (in.Image != "" || waves || in.Boots != 0 || in.Disk || in.Layout != ""):
		return wrong("--retry takes the image that is deployed, where it is, at once", "Without --retry an image can be named")
	case in.Retry:
		return nil
	case in.Image == "":
		return wrong("no image named", "Name one: "+imageNames(snap))
	case in.Boots < 0:
		return wrong("a deployment cannot have "+strconv.Itoa(in.Boots)+" network boots", "")
	case in.Batch < 0 || in.Canary < 0 || in.StopAt < 0 || in.StopAt > 100:
		return wrong("waves have numbers of nodes, and a share of 1 to 100 percent", "")
	case waves && in.Batch == 0 && in.Canary == 0:
		return wrong("a share that stops it needs waves", "Add --canary N or --batch N")
	case waves && !in.Reboot:
		return wrong("waves restart the nodes, wave by wave", "Add --reboot")
	case in.Layout != "" && !in.Disk:
		return wrong("a layout goes with an installation to disk only", "Add --disk")
	case in.Disk && s.store.Version() < rolloutSchema:
		return &api.Error{Code: api.Conflict, What: "deploy", Why: "a manager of the pool is older, and knows no disks", Do: "Update it: muster manager list"}
	case waves && s.store.Version() < rolloutSchema:
		return &api.Error{Code: api.Conflict, What: "deploy", Why: "a manager of the pool is older, and knows no waves", Do: "Update it: muster manager list"}
	}
	if in.Layout != "" {
		if _, err := layout.Parse(in.Layout); err != nil {
			return wrong("the layout is wrong: "+err.Error(), "")
		}
	}
	i := snap.Image(model.ImageName(in.Image))
	if i == nil {
		return &api.Error{Code: api.Unknown, What: "deploy", Why: "there is no image " + in.Image, Do: "There is: " + imageNames(snap)}
	}
	return s.checkWhole(i)
}

// checkWhole sees at a glance, by the sizes, whether the files of an image are there. Their digests are for image show, and for
// the nodes, which verify what they fetch.
func (s *Server) checkWhole(i *model.Image) error {
	var wrong []string
	for _, f := range []model.File{i.Kernelf, i.Initrd, i.Root} {
		info, err := os.Stat(filepath.Join(s.imageDir(i.Name), filepath.Base(f.Name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, f.Name+" is missing")
		case err != nil:
			wrong = append(wrong, err.Error())
		case info.Size() != f.Size:
			wrong = append(wrong, fmt.Sprintf("%s has %d bytes, not %d", f.Name, info.Size(), f.Size))
		}
	}
	if m, err := image.Load(s.imageDir(i.Name)); err == nil {
		if err := s.ours(m, i); err != nil {
			wrong = append(wrong, err.Error())
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		wrong = append(wrong, err.Error())
	}
	if len(wrong) == 0 {
		return nil
	}
	return &api.Error{
		Code: api.Conflict, What: "deploy", Why: "image " + string(i.Name) + " is damaged: " + strings.Join(wrong, ", "),
		Do: "Build it again: muster image build " + i.Recipe + " --name " + string(i.Name),
	}
}

func imageNames(snap *model.Snapshot) string {
	var names []string
	for i := range snap.Images() {
		names = append(names, string(i.Name))
	}
	if len(names) == 0 {
		return "none yet; build one: muster image build debian12 --name compute"
	}
	return strings.Join(names, ", ")
}

// arm commits the intent for all nodes, all or nothing.
func (s *Server) arm(q *request, in api.Deploy, nodes []*model.Node) error {
	_, err := s.commit(q.Context(), q, "deploy", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		names := namesOf(nodes)
		if err := idle(snap, "deploy", names); err != nil {
			return nil, "", nil, err
		}
		now := time.Now()
		var restart time.Time
		if in.Reboot {
			restart = now.Add(restartWait)
		}
		ops := make([]model.Op, len(nodes))
		for i, n := range nodes {
			boots, err := bootsOf(snap, n, in.Boots)
			if err != nil {
				return nil, "", nil, err
			}
			d := model.Deployment{
				Node: n.Name, Image: model.ImageName(in.Image), Boots: boots, Left: boots, Phase: model.Armed, Since: now, Begun: now, Actor: q.who.Name, Restart: restart,
			}
			if in.Disk {
				if d.Layout, err = diskLayout(snap, n, in.Layout); err != nil {
					return nil, "", nil, err
				}
			}
			ops[i] = armedOp(snap, d)
		}
		what := " with image " + in.Image
		if in.Disk {
			what += ", to disk"
		}
		return ops, fmt.Sprintf("armed %s (%d)%s", fold(names), len(names), what), perNode(names, "deploy.armed", "armed"+what, q.who.Name), nil
	})
	return err
}

// armedOp puts a deployment that is armed; a machine that is restarted has to ask for its boot script in time.
func armedOp(snap *model.Snapshot, d model.Deployment) model.Op {
	if limit := snap.Limit(snap.Node(d.Node), model.Armed); !d.Restart.IsZero() && limit > 0 {
		d.Deadline = d.Since.Add(limit)
	} else {
		d.Deadline = time.Time{}
	}
	return model.Op{Kind: model.KindDeployment, Name: string(d.Node), Doc: &d}
}

// diskLayout is what is made of a node's disks: as the request says, else the attribute.
func diskLayout(snap *model.Snapshot, n *model.Node, asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	text, err := snap.Attr(n, "disk.layout")
	return cmp.Or(text, layout.Default), err
}

// bootsOf is how many network boots a deployment may use: as the request says, else the attribute.
func bootsOf(snap *model.Snapshot, n *model.Node, asked int) (int, error) {
	if asked > 0 {
		return asked, nil
	}
	text, err := snap.Attr(n, "boot.count")
	if err != nil {
		return 0, err
	}
	boots, _ := strconv.Atoi(text)
	return max(1, boots), nil
}

// retry arms those of the nodes again whose deployments came to an end that is none.
func (s *Server) retry(q *request, in api.Deploy, nodes []*model.Node) error {
	_, err := s.commit(q.Context(), q, "deploy", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		now := time.Now()
		var ops []model.Op
		var names []model.NodeName
		for _, n := range nodes {
			d := snap.Deployment(n.Name)
			if d == nil || d.Phase != model.Held && d.Phase != model.Cancelled {
				continue
			}
			next, err := d.To(model.Armed, now, 0)
			if err != nil {
				return nil, "", nil, err
			}
			next.Code, next.Left, next.Actor, next.TokenHash, next.TokenKey, next.Restart = model.Again, d.Boots, q.who.Name, "", "", time.Time{}
			if in.Reboot {
				next.Restart = now.Add(restartWait)
			}
			ops, names = append(ops, armedOp(snap, next)), append(names, n.Name)
		}
		return ops, fmt.Sprintf("armed %s (%d) again", fold(names), len(names)), perNode(names, "deploy.armed", "armed again", q.who.Name), nil
	})
	if err != nil {
		return err
	}
	return s.armed(q, in, nodes, in.Reboot)
}

// endDeployments takes the intent back: --cancel of what is under way, and tells so; --none of all, without a trace. Nodes whose waves have not begun leave their
// rollouts.
func (s *Server) endDeployments(q *request, in api.Deploy, nodes []*model.Node) error {
	was := map[model.NodeName]string{} // what a cancelled node was at
	_, err := s.commit(q.Context(), q, "deploy", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		now := time.Now()
		clear(was)
		asked := map[model.NodeName]bool{}
		var ops []model.Op
		var names []model.NodeName
		for _, n := range nodes {
			asked[n.Name] = true
			d := snap.Deployment(n.Name)
			switch {
			case d == nil:
				continue
			case in.None:
				ops = append(ops, model.Op{Kind: model.KindDeployment, Name: string(n.Name)})
			case d.Phase.Rests():
				continue
			default:
				next, err := d.To(model.Cancelled, now, 0)
				if err != nil {
					return nil, "", nil, err
				}
				was[n.Name] = d.Phase.Step(s.made.of(d))
				next.Code, next.Reason, next.Restart = model.ByPerson, "by "+q.who.Name+" when it was "+was[n.Name]+"; the machine was left as it is", time.Time{}
				ops = append(ops, model.Op{Kind: model.KindDeployment, Name: string(n.Name), Doc: &next})
			}
			names = append(names, n.Name)
		}
		left := leave(snap, asked, q.who.Name, now)
		ops = append(ops, left.ops...)
		for _, n := range left.nodes {
			was[n] = "waiting"
			names = append(names, n)
		}
		if in.None {
			return ops, fmt.Sprintf("took the deployment of %s (%d) away", fold(names), len(names)), perNode(names, "deploy.none", "nothing is deployed any more", q.who.Name), nil
		}
		return ops, fmt.Sprintf("cancelled the deployment of %s (%d)", fold(names), len(names)), perNode(names, "deploy.cancelled", "the deployment is cancelled", q.who.Name), nil
	})
	if err != nil {
		return err
	}
	return s.armed(q, in, nodes, false)
}

// reboot sends a node through its network boot.
func (s *Server) reboot(ctx context.Context, snap *model.Snapshot, n *model.Node, actor string) error {
	d, err := s.driver(snap, n)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.SetBootDevice(ctx, bmc.BootDevice{Device: "network"}); err != nil {
		return fmt.Errorf("boot device: %w", err)
	}
	was, err := d.Power(ctx)
	if err != nil {
		return err
	}
	e := about(n.Name, "power.cycle", "power cycle into the network")
	e.Actor, e.Reason = actor, "deploy --reboot; it was "+string(was)
	if was == bmc.PowerOff {
		e.Step, e.What = "power.on", "power on into the network"
	}
	s.tell(e)
	if err := setPower(ctx, d, bmc.Cycle, was); err != nil {
		return err
	}
	s.observe(n.Name, func(st *model.State) bool {
		st.Restarted = time.Now()
		return true
	})
	s.wentDown(n.Name, "cycle")
	s.sawPower(n.Name, string(bmc.PowerOn))
	return nil
}
