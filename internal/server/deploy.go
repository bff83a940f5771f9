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
	if !in.DryRun {
		if err := s.arm(q, in, nodes); err != nil {
			return err
		}
	}
	after := s.store.Snapshot()
	return each(q, in.Range, nodes, powerFanout, powerTime, func(ctx context.Context, n *model.Node) (api.DeployResult, *api.Error) {
		out := api.DeployResult{Result: api.Result{Node: string(n.Name)}, Image: in.Image}
		if d := after.Deployment(n.Name); d != nil {
			out.Image, out.Phase = string(d.Image), string(d.Phase)
		}
		if in.Reboot && !in.DryRun {
			if err := s.reboot(ctx, q, n); err != nil {
				out.Error = bmcProblem(n.Name, "deploy --reboot", err)
			}
		}
		return out, out.Error
	})
}

func (s *Server) checkDeploy(snap *model.Snapshot, in api.Deploy) error {
	switch {
	case in.None && (in.Image != "" || in.Reboot || in.Disk):
		return &api.Error{Code: api.Usage, What: "deploy", Why: "--none goes neither with an image nor with --reboot"}
	case in.None:
		return nil
	case in.Image == "":
		return &api.Error{Code: api.Usage, What: "deploy", Why: "no image named", Do: "Name one: " + imageNames(snap)}
	case in.Boots < 0:
		return &api.Error{Code: api.Usage, What: "deploy", Why: "a deployment cannot have " + strconv.Itoa(in.Boots) + " network boots"}
	}
	if in.Layout != "" {
		if _, err := layout.Parse(in.Layout); err != nil || !in.Disk {
			why := "a layout goes with an installation to disk only"
			if err != nil {
				why = "the layout is wrong: " + err.Error()
			}
			return &api.Error{Code: api.Usage, What: "deploy", Why: why}
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
	_, err := s.commit(q.Context(), q, "deploy", false, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		now := time.Now()
		var ops []model.Op
		names := make([]model.NodeName, len(nodes))
		for i, n := range nodes {
			names[i] = n.Name
			op := model.Op{Kind: model.KindDeployment, Name: string(n.Name)}
			if !in.None {
				boots := in.Boots
				if boots == 0 {
					text, err := snap.Attr(n, "boot.count")
					if err != nil {
						return nil, "", nil, err
					}
					boots, _ = strconv.Atoi(text)
				}
				boots = max(1, boots)
				op.Doc = &model.Deployment{
					Node: n.Name, Image: model.ImageName(in.Image), Boots: boots, Left: boots, Phase: model.Armed, Since: now, Layout: in.Layout,
				}
				if in.Disk && in.Layout == "" {
					of, err := snap.Attr(n, "disk.layout")
					if err != nil {
						return nil, "", nil, err
					}
					op.Doc.(*model.Deployment).Layout = cmp.Or(of, layout.Default)
				}
			} else if snap.Deployment(n.Name) == nil {
				continue
			}
			ops = append(ops, op)
		}
		of := fmt.Sprintf("%s (%d)", fold(names), len(names))
		if in.None {
			return ops, "took the deployment of " + of + " away", perNode(names, "deploy.none", "nothing is deployed any more", q.who.Name), nil
		}
		what := " with image " + in.Image
		if in.Disk {
			what += ", to disk"
		}
		return ops, "armed " + of + what, perNode(names, "deploy.armed", "armed"+what, q.who.Name), nil
	})
	return err
}

// reboot sends a node through its network boot.
func (s *Server) reboot(ctx context.Context, q *request, n *model.Node) error {
	d, err := s.driver(q.snap, n)
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
	e.Actor, e.Reason = q.who.Name, "deploy --reboot; it was "+string(was)
	if was == bmc.PowerOff {
		e.Step, e.What = "power.on", "power on into the network"
	}
	s.tell(e)
	if err := setPower(ctx, d, bmc.Cycle, was); err != nil {
		return err
	}
	s.wentDown(n.Name, "cycle")
	s.sawPower(n.Name, string(bmc.PowerOn))
	return nil
}
