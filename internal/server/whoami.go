package server

import (
	"slices"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model/noderange"
)

func (s *Server) whoami(q *request) error {
	out := api.WhoAmI{Who: q.who.Name, Kind: string(q.who.Kind), User: string(q.who.User)}
	mine, limited := auth.Roles(q.snap, q.who)
	out.Limited = limited
	for _, r := range mine {
		role := api.Role{Name: string(r.Name), Verbs: slices.Clone(r.Verbs), Range: r.Range}
		if r.Range != "" {
			names, err := q.snap.Expand(r.Range, noderange.Options{Known: true})
			if err != nil {
				return err
			}
			role.Nodes = or(fold(names), "(none)")
		}
		out.Roles = append(out.Roles, role)
	}
	switch {
	case limited:
		out.May = "what your roles allow, and nothing else"
	case q.who.Kind == auth.Administrator:
		out.May = "everything"
	case q.who.Kind == auth.Node:
		out.May = "what an enrolled node asks: its plan, its files, its reports"
	case q.who.User != "":
		out.May = "nothing: you have no role and are no administrator; somebody who may can add you: muster user add " + string(q.who.User) + " roles=ROLE"
	default:
		out.May = "nothing but enrol with a one-time token"
	}
	return q.answer(out)
}
