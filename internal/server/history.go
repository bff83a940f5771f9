package server

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/model/noderange"
	"muster/internal/store"
)

// newest is how many changes history and audit tell when nobody says.
const newest = 100

func (s *Server) history(q *request) error {
	var in api.History
	if err := q.read(&in); err != nil {
		return err
	}
	kind, names, err := q.touched(in)
	if err != nil {
		return err
	}
	from, err := since(in.Since, time.Now())
	if err != nil {
		return err
	}
	docs := make(map[store.Doc]bool, len(names))
	for _, n := range names {
		docs[store.Doc{Kind: kind, Name: n}] = true
	}
	if err := s.recorded(q, in.Known, docs); err != nil {
		return err
	}
	changes, err := s.store.Changes(store.ChangeQuery{Docs: docs, Since: from, Before: q.snap.Revision + 1, Limit: limited(in.Limit), Touches: true})
	if err != nil {
		return err
	}
	begun := map[*model.Touch][]api.FieldChange{}
	if len(docs) <= mostBegun {
		begun = beginnings(q.snap, changes)
	}
	st := q.stream(len(changes))
	for i := range changes {
		line := changeInfo(&changes[i])
		for j := range changes[i].Touches {
			t := &changes[i].Touches[j]
			line.Fields = slices.Concat(line.Fields, fieldsOf(t), begun[t])
		}
		st.line(line, false)
	}
	return st.end()
}

// mostBegun is of how many documents at once a history says what they began with: each is followed back through all its changes.
const mostBegun = 1000

// beginnings are the values with which documents were added. The record does not have them: they come from what the documents are now, and were
// before each change since. Changes are all of the documents, up to the snapshot.
func beginnings(snap *model.Snapshot, changes []model.Change) map[*model.Touch][]api.FieldChange {
	out := map[*model.Touch][]api.FieldChange{}
	docs := map[store.Doc]any{} // as they were after the change at hand
	for i := range slices.Backward(changes) {
		for j := range changes[i].Touches {
			t := &changes[i].Touches[j]
			of := store.Doc{Kind: t.Kind, Name: t.Name}
			is, seen := docs[of]
			if !seen {
				is = snap.Doc(t.Kind, t.Name)
			}
			if t.Added() {
				if whole, err := model.TouchOf(is, nil); err == nil && whole != nil {
					for _, f := range whole.Fields() {
						if f.Path != "created" {
							out[t] = append(out[t], api.FieldChange{Kind: string(t.Kind), Name: t.Name, Field: f.Path, Now: f.Was})
						}
					}
				}
			}
			was, err := t.Before(is)
			if err != nil {
				was = nil // its record is damaged: then nothing is said of its beginning
			}
			docs[of] = was
		}
	}
	return out
}

// touched is what a history is asked of: documents, and names that none has now.
func (q *request) touched(in api.History) (model.Kind, []string, error) {
	switch kind := model.Kind(in.Kind); kind {
	case "", model.KindNode:
		nodes, err := q.expand(api.Range{Range: in.Range.Range, Known: true})
		if err != nil {
			return "", nil, err
		}
		gone := q.skipped
		q.skipped = nil
		if free, err := noderange.ExpandNames(in.Range.Range); err == nil { // without those that it leaves out
			gone = slices.DeleteFunc(gone, func(n string) bool { return !slices.Contains(free, n) })
		}
		nodes = append(nodes, convert[model.NodeName](gone)...)
		return model.KindNode, convert[string](nodes), q.may(q.snap, "history", nodes)
	case model.KindGroup, model.KindNetwork, model.KindUser, model.KindRole, model.KindImage, model.KindJob:
		return kind, strings.FieldsFunc(in.Range.Range, func(r rune) bool { return r == ',' || r == ' ' }), nil
	}
	return "", nil, &api.Error{Code: api.Usage, What: "history", Why: "no history is kept of " + in.Kind, Do: "Ask for node, group, network, user, role, image or job"}
}

// recorded refuses names that no document has nor ever had, as far as the record goes back; where only those known are asked for, it skips them.
func (s *Server) recorded(q *request, known bool, docs map[store.Doc]bool) error {
	missing := map[store.Doc]bool{}
	for d := range docs {
		if q.snap.Doc(d.Kind, d.Name) == nil {
			missing[d] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	changes, err := s.store.Changes(store.ChangeQuery{Docs: missing, Touches: true})
	if err != nil {
		return err
	}
	for i := range changes {
		for _, t := range changes[i].Touches {
			delete(missing, store.Doc{Kind: t.Kind, Name: t.Name})
		}
	}
	var kind model.Kind
	for d := range missing {
		kind = d.Kind
		delete(docs, d)
		q.skipped = append(q.skipped, d.Name)
	}
	if len(missing) == 0 || known {
		return nil
	}
	return &api.Error{
		Code: api.Failed, What: "history", Why: fmt.Sprintf("there is no %s %s, and the record has none that was removed", kind, fold(q.skipped)),
		Do: "See: muster audit",
	}
}

func limited(n int) int {
	if n == 0 {
		return newest
	}
	return n
}

func (s *Server) audit(q *request) error {
	var in api.Audit
	if err := q.read(&in); err != nil {
		return err
	}
	from, err := since(in.Since, time.Now())
	if err != nil {
		return err
	}
	for _, g := range []string{in.Actor, in.Verb} {
		if _, err := path.Match(g, ""); err != nil {
			return &api.Error{Code: api.Usage, What: "audit", Why: strconv.Quote(g) + " is no glob", Do: "Write name, or na*"}
		}
	}
	changes, err := s.store.Changes(store.ChangeQuery{Actor: in.Actor, Verb: in.Verb, Since: from, Limit: limited(in.Limit)})
	if err != nil {
		return err
	}
	st := q.stream(len(changes))
	for i := range changes {
		st.line(changeInfo(&changes[i]), false)
	}
	return st.end()
}

func changeInfo(c *model.Change) api.ChangeInfo {
	return api.ChangeInfo{
		Change: int64(c.Revision), Time: c.Time, Actor: c.Actor, Verb: c.Verb, Request: c.Request, What: c.What,
	}
}

func fieldsOf(t *model.Touch) []api.FieldChange {
	one := api.FieldChange{Kind: string(t.Kind), Name: t.Name}
	switch {
	case t.Added():
		one.Did = "added"
		return []api.FieldChange{one}
	case t.Removed():
		one.Did = "removed"
		return []api.FieldChange{one}
	}
	var out []api.FieldChange
	for _, f := range t.Fields() {
		c := one
		c.Field, c.Was, c.Now = f.Path, f.Was, f.Now
		out = append(out, c)
	}
	return out
}

func (s *Server) undo(q *request) error {
	var in api.Undo
	if err := q.read(&in); err != nil {
		return err
	}
	what := "undo " + strconv.FormatInt(in.Change, 10)
	old, err := s.store.Change(model.Revision(in.Change))
	switch {
	case err != nil:
		return err
	case old == nil:
		return &api.Error{Code: api.Unknown, What: what, Why: "there is no such change on the record", Do: "See: muster audit, or muster history NODE"}
	case len(old.Touches) == 0:
		return &api.Error{Code: api.Usage, What: what, Why: old.Verb + " changed no description: it cannot be taken back", Do: "See: muster audit"}
	}
	var changes []string
	rev, err := s.commit(q.Context(), q, "undo", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		ops, problems := model.Undo(snap, old.Revision, old.Touches)
		problems = append(problems, s.forgotten(snap, ops)...)
		if len(problems) > 0 {
			e := refused(problems)
			for _, p := range append([]*api.Error{e}, e.More...) {
				p.Code, p.What = api.Conflict, what+": "+p.What
			}
			return nil, "", nil, e
		}
		nodes := 0
		for _, op := range ops {
			if op.Kind == model.KindNode {
				nodes++
			}
		}
		if err := tooMany(what, "it", nodes, in.MaxNodes); err != nil {
			return nil, "", nil, err
		}
		changes = takenBack(old.Touches)
		return ops, "took back change " + strconv.FormatInt(in.Change, 10) + " (" + old.Verb + " by " + old.Actor + ": " + old.What + ")", nil, nil
	})
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Count: len(old.Touches), Changes: changes[:min(1000, len(changes))], Revision: int64(rev), DryRun: in.DryRun})
}

// forgotten finds secrets that would come back and cannot be opened any more.
func (s *Server) forgotten(snap *model.Snapshot, ops []model.Op) (out []model.Problem) {
	_ = s.keys.UseKeys(snap.SealKeys()) // what does not open is told
	kept := map[string]bool{"": true}   // the service itself forgets a key with its next start only
	for k := range snap.SealKeys() {
		kept[k.ID] = true
	}
	look := func(p model.Problem, kind model.Kind, name string, was, now map[model.AttrName]string) {
		for _, a := range slices.Sorted(maps.Keys(now)) {
			v := now[a]
			if v == was[a] || !identity.Sealed(v) {
				continue
			}
			why := "its data key was thrown away by secret rotate --forget"
			if kept[identity.KeyOf(v)] {
				_, err := s.keys.Unseal(v, identity.Place{Kind: kind, Name: name, Attr: a})
				if err == nil {
					continue
				}
				why = err.Error()
			}
			p.Attr, p.What, p.Why = a, "the secret that would come back cannot be opened", why
			p.Do = "Set what else the change did by hand, and the secret anew"
			out = append(out, p)
		}
	}
	for _, op := range ops {
		switch d := op.Doc.(type) {
		case *model.Node:
			var was map[model.AttrName]string
			if old := snap.Node(d.Name); old != nil {
				was = old.Attrs
			}
			look(model.Problem{Node: d.Name}, op.Kind, op.Name, was, d.Attrs)
		case *model.Group:
			var was map[model.AttrName]string
			if old := snap.Group(d.Name); old != nil {
				was = old.Attrs
			}
			look(model.Problem{Group: d.Name}, op.Kind, op.Name, was, d.Attrs)
		}
	}
	return out
}

// takenBack says what taking back does to each document.
func takenBack(touches []model.Touch) []string {
	var out []string
	for i := range touches {
		t := &touches[i]
		name := string(t.Kind) + " " + t.Name
		if t.Kind == model.KindNode {
			name = t.Name
		}
		switch {
		case t.Added():
			out = append(out, name+": removed")
		case t.Removed():
			out = append(out, name+": added again")
		default:
			for _, f := range t.Fields() {
				out = append(out, name+": "+f.Path+": "+f.Now+" -> "+f.Was)
			}
		}
	}
	return out
}
