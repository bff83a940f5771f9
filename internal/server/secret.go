package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/identity"
	"muster/internal/model"
)

// reveal shows secrets. That they were shown is committed before the first is: a record that cannot be written shows nothing.
func (s *Server) reveal(q *request) error {
	var in api.Reveal
	if err := q.read(&in); err != nil {
		return err
	}
	doc, ok := model.Lookup(model.AttrName(in.Attr))
	switch {
	case !ok:
		e := &api.Error{Code: api.Unknown, What: "secret reveal", Why: "there is no attribute " + in.Attr, Do: "See: muster attributes"}
		if near := model.Suggest(model.AttrName(in.Attr)); near != "" {
			e.Do = "Did you mean " + string(near) + "?"
		}
		return e
	case !doc.Secret:
		return &api.Error{Code: api.Usage, What: "secret reveal", Why: in.Attr + " is no secret", Do: "Show it: muster get " + in.Range.Range + " " + in.Attr}
	}
	a := model.AttrName(in.Attr)
	if in.Group {
		g := q.snap.Group(model.GroupName(in.Range.Range))
		if g == nil {
			return &api.Error{Code: api.Unknown, What: "secret reveal", Why: "there is no group " + in.Range.Range, Do: "See: muster group list"}
		}
		if err := q.mayReveal(g.Name); err != nil {
			return err
		}
		if err := s.revealed(q, in.Attr, "group "+string(g.Name)); err != nil {
			return err
		}
		st := q.stream(1)
		line := api.Revealed{Result: api.Result{Node: "group " + string(g.Name)}, Attr: in.Attr}
		if text := g.Attrs[a]; text == "" {
			line.Error = unset(a, "group set "+string(g.Name))
		} else if plain, err := s.keys.Unseal(text, identity.Place{Kind: model.KindGroup, Name: string(g.Name), Attr: a}); err != nil {
			line.Error = &api.Error{Code: api.Failed, What: "secret reveal", Why: err.Error()}
		} else {
			line.Plain = plain.Reveal()
		}
		st.line(line, line.Error != nil)
		return st.end()
	}
	nodes, err := q.nodes("secret reveal", in.Range)
	if err != nil {
		return err
	}
	names := make([]model.NodeName, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	if err := s.revealed(q, in.Attr, fold(names)); err != nil {
		return err
	}
	return each(q, in.Range, nodes, len(nodes), time.Minute, func(_ context.Context, n *model.Node) (api.Revealed, *api.Error) {
		line := api.Revealed{Result: api.Result{Node: string(n.Name)}, Attr: in.Attr}
		text, err := q.snap.Attr(n, a)
		var plain model.Secret
		if err == nil && text != "" {
			plain, err = s.unseal(q.snap, n, a, text)
		}
		line.Plain, line.From = plain.Reveal(), origin(q.snap, n, a)
		switch {
		case err != nil:
			line.Error = &api.Error{Code: api.Failed, What: "secret reveal", Why: err.Error(), Node: string(n.Name)}
		case text == "":
			line.Error = unset(a, "set NODERANGE")
			line.Error.Node = string(n.Name)
		}
		return line, line.Error
	})
}

// unset says that there is no secret to be shown, and the verb that sets it.
func unset(a model.AttrName, by string) *api.Error {
	return &api.Error{Code: api.Failed, What: "secret reveal", Why: string(a) + " is not set", Do: "Set it: muster " + by + " " + string(a) + "=-"}
}

// mayReveal asks for rights on all members of a group; of a group without any, whose secrets are those of members to come, for rights on all
// nodes.
func (q *request) mayReveal(g model.GroupName) error {
	members := q.snap.Members(g)
	if _, all := auth.Nodes(q.snap, q.who, "secret reveal"); len(members) == 0 && !all {
		return &api.Error{
			Code: api.Denied, What: "secret reveal", Why: "group " + string(g) + " has no members, and your roles are for some nodes only",
			Do: "It takes a role without a range",
		}
	}
	return q.may(q.snap, "secret reveal", members)
}

// revealed puts it on record that secrets are about to be shown.
func (s *Server) revealed(q *request, attr, of string) error {
	what := fmt.Sprintf("%s of %s shown", attr, of)
	now := time.Now()
	_, err := s.store.Commit(q.Context(), &model.Change{
		Time: now, Actor: q.who.Name, Verb: "secret reveal", Request: q.id, What: what,
		Events: []model.Event{{Time: now, Step: "secret.reveal", What: what, Actor: q.who.Name}},
	})
	return err
}

func (s *Server) rotateSecrets(q *request) error {
	var in api.RotateSecrets
	if err := q.read(&in); err != nil {
		return err
	}
	n := 0
	out := api.Changed{DryRun: in.DryRun}
	rev, err := s.commit(q.Context(), q, "secret rotate", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		ops, err := s.keys.Rotate(snap, time.Now())
		if err == nil && in.Forget {
			ops, err = s.forgetting(snap, ops)
			out.Warnings = nil
			if left := retiredAfter(snap, ops); err == nil && left > 0 {
				out.Warnings = []string{fmt.Sprintf("data keys that were in use within the last ten minutes are kept, for changes on their way: %d. To throw them away, too, ask again after that", left)}
			}
		}
		n = 0
		for _, op := range ops {
			if op.Kind != model.KindSealKey {
				n++
			}
		}
		return ops, fmt.Sprintf("sealed the secrets of %d nodes and groups anew", n), nil, err
	})
	if err != nil {
		return err
	}
	out.Count, out.Revision = n, int64(rev)
	return q.answer(out)
}

// retiredAfter counts the retired data keys that a change leaves.
func retiredAfter(snap *model.Snapshot, ops []model.Op) (n int) {
	next, err := model.Apply(snap, &model.Change{Revision: snap.Revision + 1, Ops: ops})
	if err != nil {
		return 0
	}
	for k := range next.SealKeys() {
		if !k.Retired.IsZero() && !k.SiteKey {
			n++
		}
	}
	return n
}

// forgetting adds to the ops of a rotation those that throw away the keys which it retires.
func (s *Server) forgetting(snap *model.Snapshot, ops []model.Op) ([]model.Op, error) {
	next, err := model.Apply(snap, &model.Change{Revision: snap.Revision + 1, Ops: ops})
	if err != nil {
		return nil, err
	}
	gone, err := s.keys.Forget(next, time.Now())
	if err != nil {
		return nil, err
	}
	return slices.Concat(slices.DeleteFunc(ops, func(op model.Op) bool { // a document is put once in a change
		return slices.ContainsFunc(gone, func(g model.Op) bool { return g.Kind == op.Kind && g.Name == op.Name })
	}), gone), nil
}

// origin says where a node has an attribute from: "node" or "group compute".
func origin(snap *model.Snapshot, n *model.Node, a model.AttrName) string {
	kind, name := snap.Owner(n, a)
	if kind == model.KindGroup {
		return "group " + name
	}
	return string(kind)
}
