package server

import (
	"context"
	"io"
	"path/filepath"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// updateTime is how long the update of one machine may take; updateFanout how many get an image at once: it goes over the management network to each.
const (
	updateTime   = time.Hour
	updateFanout = 32
)

func (s *Server) firmwareList(q *request) error {
	var in api.FirmwareList
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodes("firmware list", in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, "firmware list", readTime, func(l *api.NodeFirmware) *api.Result { return &l.Result },
		func(ctx context.Context, _ *model.Node, d bmc.Driver, out *api.NodeFirmware) (err error) {
			out.Firmware, err = d.Firmware(ctx)
			return err
		})
}

// firmwareUpdate keeps the image in an unnamed file while it goes to the controllers.
func (s *Server) firmwareUpdate(q *request) error {
	var in api.FirmwareUpdate
	if err := q.query(&in); err != nil {
		return err
	}
	const verb = "firmware update"
	if in.Name == "" || in.Name != filepath.Base(in.Name) {
		return &api.Error{Code: api.Usage, What: verb, Why: "the image has no name, or one with a path", Do: "Name the file alone: bios-2.1.bin"}
	}
	nodes, err := q.disturbs(verb, in.Range)
	if err != nil {
		return err
	}
	image, size, err := s.spool(q.Context(), "firmware update", q.Body)
	if err != nil {
		return err
	}
	defer image.Close()
	if size == 0 {
		return &api.Error{Code: api.Usage, What: verb, Why: "the image is empty"}
	}
	if !in.DryRun {
		release, err := s.claim(q, nodes, verb, in.Name, updateTime+time.Minute)
		if err != nil {
			return err
		}
		defer release()
	}
	st := q.stream(len(nodes))
	return eachOn(q, st, in.Range, nodes, updateFanout, updateTime, func(ctx context.Context, n *model.Node) (api.FirmwareStep, *api.Error) {
		out := api.FirmwareStep{Result: api.Result{Node: string(n.Name)}}
		err := func() error {
			d, err := s.driver(q.snap, n)
			if err != nil {
				return err
			}
			defer d.Close()
			if in.DryRun {
				out.Step = "would be updated"
				return nil
			}
			return s.changing(q, n.Name, "firmware.update", "firmware update with "+in.Name, func() error {
				return d.UpdateFirmware(ctx, bmc.Update{
					Image: io.NewSectionReader(image, 0, size), Name: in.Name, Size: size, Targets: in.Targets,
					Progress: func(step string, percent int) {
						out.Step, out.Percent = step, nil
						if percent >= 0 {
							out.Percent = &percent
						}
						st.tell(out)
					},
				})
			})
		}()
		if err != nil {
			out.Error = bmcProblem(n.Name, verb, err)
		} else if out.Done = !in.DryRun; out.Done {
			e := about(n.Name, "firmware.updated", "firmware updated with "+in.Name)
			e.Actor, e.Reason = q.who.Name, out.Step
			s.tell(e)
		}
		return out, out.Error
	})
}
