package server

import (
	"strconv"

	"muster/internal/api"
	"muster/internal/model"
)

// The documents of nodes for programs: one, or pages of them.
const (
	pageSize = 1_000
	mostPage = 10_000
)

// showNode is GET /v1/nodes/{name}.
func (s *Server) showNode(q *request) error {
	var in api.NodeQuery
	if err := q.query(&in); err != nil {
		return err
	}
	name := q.PathValue("name")
	n := q.snap.Node(model.NodeName(name))
	if n == nil {
		var err error
		if n, err = q.one("node", name); err != nil { // an alias, or it says what is near
			return err
		}
	}
	if err := q.may(q.snap, "get", []model.NodeName{n.Name}); err != nil {
		return err
	}
	if q.unchanged() {
		return nil
	}
	p, err := newProjection(q.snap, in)
	if err != nil {
		return err
	}
	b, _ := p.node(make([]byte, 0, 512), n)
	return q.send(append(b, '\n'))
}

// showNodes is GET /v1/nodes: a page, or a stream of all.
func (s *Server) showNodes(q *request) error {
	var in api.NodesQuery
	if err := q.query(&in); err != nil {
		return err
	}
	p, err := newProjection(q.snap, in.NodeQuery)
	if err != nil {
		return err
	}
	lines := q.wants("application/x-ndjson")
	switch {
	case in.Limit > mostPage && !lines:
		return &api.Error{Code: api.Usage, What: "nodes", Why: strconv.Itoa(in.Limit) + " nodes are more than a page has", Do: "Ask for 10000 at most, or for a stream: Accept: application/x-ndjson"}
	case in.Limit == 0 && !lines:
		in.Limit = pageSize
	}
	all, err := q.nodesOrAll("get", api.Range{Range: in.Range})
	if err != nil {
		return err
	}
	nodes, next, err := page(all, in.After, in.Limit)
	if err != nil {
		return err
	}
	if lines {
		st := q.stream(len(nodes))
		for _, n := range nodes {
			st.each(func(b []byte) ([]byte, bool) {
				b, failed := p.node(b, n)
				return append(b, '\n'), failed
			})
		}
		return st.end()
	}
	if q.unchanged() {
		return nil
	}
	b := append(make([]byte, 0, 128+128*len(nodes)), `{"nodes":[`...)
	for i, n := range nodes {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = p.node(b, n)
	}
	b = strconv.AppendInt(append(b, `],"total":`...), int64(len(all)), 10)
	if next != "" {
		b = appendString(append(b, `,"next":`...), next)
	}
	b = strconv.AppendInt(append(b, `,"revision":`...), int64(q.snap.Revision), 10)
	return q.send(append(b, "}\n"...))
}
