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
	st := q.stream(len(nodes))
	for _, n := range nodes {
		line := api.NodeAttrs{Result: api.Result{Node: string(n.Name)}, Attrs: []api.AttrValue{}}
		values, err := q.snap.Attrs(n, in.Attrs)
		if err != nil {
			line.Error = &api.Error{Code: api.Failed, What: "get", Why: err.Error(), Node: string(n.Name)}
		}
		for _, v := range values {
			a := api.AttrValue{Attr: string(v.Name), Value: v.Value}
			if v.Secret {
				a.Value = shown(v.Value)
			}
			if in.Blame {
				a.From, a.Written = v.From, v.Written
				if v.Secret {
					a.Written = ""
				}
			}
			line.Attrs = append(line.Attrs, a)
		}
		st.line(line, line.Error != nil)
	}
	return st.end()
}
