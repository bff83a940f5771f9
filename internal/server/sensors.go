package server

import (
	"context"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

func (s *Server) sensors(q *request) error {
	var in api.Sensors
	if err := q.read(&in); err != nil {
		return err
	}
	if err := checkGlobs("sensors", in.Types); err != nil {
		return err
	}
	nodes, err := q.nodes("sensors", in.Range)
	if err != nil {
		return err
	}
	return controllers(s, q, in.Range, nodes, "sensors", readTime, func(l *api.NodeSensors) *api.Result { return &l.Result },
		func(ctx context.Context, _ *model.Node, d bmc.Driver, out *api.NodeSensors) error {
			all, err := d.Sensors(ctx)
			if err != nil {
				return err
			}
			out.Sensors = []model.Sensor{}
			for _, r := range all {
				if globbed(in.Types, r.Kind) && !(in.Bad && (r.Health == model.Healthy || r.Health == model.HealthAbsent || r.Health == model.HealthUnknown)) {
					out.Sensors = append(out.Sensors, r)
				}
			}
			return nil
		})
}
