package server

import (
	"muster/internal/api"
)

func (s *Server) getAttrs(q *request) error {
	var in api.GetAttrs
	if err := q.read(&in); err != nil {
		return err
	}
	nodes, err := q.nodes("get", in.Range)
	if err != nil {
		return err
	}
	p, err := newProjection(q.snap, api.NodeQuery{Attrs: in.Attrs, Fields: []string{"attrs"}, Blame: in.Blame})
	if err != nil {
		return err
	}
	st := q.stream(len(nodes))
	for _, n := range nodes {
		st.each(func(b []byte) ([]byte, bool) { return p.line(b, n) })
	}
	return st.end()
}
