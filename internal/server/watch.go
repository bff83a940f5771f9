package server

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/store"
)

// watchKinds are the families of documents that can be watched: those that move Snapshot.Described.
var watchKinds = []string{"node", "group", "network", "user", "role"}

// watch is GET /v1/watch. A watcher that is slow to read keeps nobody waiting: what is committed meanwhile reaches it as one event.
func (s *Server) watch(q *request) error {
	var in api.WatchQuery
	if err := q.query(&in); err != nil {
		return err
	}
	for _, k := range in.Kinds {
		if !slices.Contains(watchKinds, k) {
			return &api.Error{Code: api.Usage, What: "watch", Why: "there is no kind " + k, Do: "There are: " + strings.Join(watchKinds, ", ")}
		}
	}
	id, given, err := q.lastEvent()
	if err != nil {
		return err
	}
	if given {
		in.Since = id
	}
	if err := s.await(q, model.Revision(in.Since)); err != nil {
		return err
	}
	old := q.snap
	missed, known, err := s.missed(model.Revision(in.Since), old, in.Kinds)
	if err != nil {
		return err
	}
	e := q.eventSource()
	defer func() { _ = e.close() }()
	for _, w := range missed {
		if e.event(w.Revision, "change", w) != nil {
			return nil
		}
	}
	if !known {
		why := "what changed since revision " + strconv.FormatInt(in.Since, 10) + " is no longer known one by one"
		if e.event(int64(old.Revision), "reread", api.Reread{Revision: int64(old.Revision), Why: why}) != nil {
			return nil
		}
	}
	for {
		err := s.store.Wait(q.Context(), func(snap *model.Snapshot) bool { return snap.Described > old.Described })
		if err != nil {
			return nil // the client has gone, or the service stops
		}
		now := s.store.Snapshot()
		w := api.Watched{Revision: int64(now.Described), Changed: touched(old, now, in.Kinds)}
		if len(w.Changed) > 0 && e.event(w.Revision, "change", w) != nil {
			return nil
		}
		old = now
	}
}

// mostMissed is how many changes a watcher is told that comes back: of more it is quicker to read all again.
const mostMissed = 10_000

// missed are the changes after a revision up to a snapshot, from the record of changes; known says that the record has all of them. 0 is now.
func (s *Server) missed(since model.Revision, now *model.Snapshot, kinds []string) (out []api.Watched, known bool, err error) {
	if since == 0 || now.Described <= since {
		return nil, true, nil
	}
	changes, all, err := s.store.ChangesAfter(store.ChangeQuery{After: since, Before: now.Revision + 1, Limit: mostMissed, Touches: true})
	if err != nil || !all {
		return nil, false, err
	}
	for i := range changes {
		w := api.Watched{Revision: int64(changes[i].Revision)}
		for j := range changes[i].Touches {
			t := &changes[i].Touches[j]
			if !slices.Contains(watchKinds, string(t.Kind)) || len(kinds) > 0 && !slices.Contains(kinds, string(t.Kind)) {
				continue
			}
			did := "changed"
			switch {
			case t.Added():
				did = "added"
			case t.Removed():
				did = "removed"
			}
			w.Changed = append(w.Changed, api.Touched{Kind: string(t.Kind), Name: t.Name, Did: did})
		}
		if len(w.Changed) > 0 {
			out = append(out, w)
		}
	}
	return out, true, nil
}

// touched compares two snapshots: which documents of these kinds were changed between them. No kinds are all.
func touched(old, now *model.Snapshot, kinds []string) []api.Touched {
	var out []api.Touched
	since := old.Revision
	wanted := func(k string) bool { return len(kinds) == 0 || slices.Contains(kinds, k) }
	if wanted("node") {
		out = compare(out, "node", since, old.Nodes(), now.Nodes(), old.Node, now.Node, func(d *model.Node) (model.NodeName, model.Revision) { return d.Name, d.Revision })
	}
	if wanted("group") {
		out = compare(out, "group", since, old.Groups(), now.Groups(), old.Group, now.Group, func(d *model.Group) (model.GroupName, model.Revision) { return d.Name, d.Revision })
	}
	if wanted("network") {
		out = compare(out, "network", since, old.Networks(), now.Networks(), old.Network, now.Network, func(d *model.Network) (model.NetworkName, model.Revision) { return d.Name, d.Revision })
	}
	if wanted("user") {
		out = compare(out, "user", since, old.Users(), now.Users(), old.User, now.User, func(d *model.User) (model.UserName, model.Revision) { return d.Name, d.Revision })
	}
	if wanted("role") {
		out = compare(out, "role", since, old.Roles(), now.Roles(), old.Role, now.Role, func(d *model.Role) (model.RoleName, model.Revision) { return d.Name, d.Revision })
	}
	return out
}

// compare appends the documents of one kind that were changed after a revision. Where as many are there as must be, it does not look
// for removed ones.
func compare[K ~string, D any](out []api.Touched, kind string, since model.Revision, old, now iter.Seq[*D], was, is func(K) *D, key func(*D) (K, model.Revision)) []api.Touched {
	before, after, added := 0, 0, 0
	for range old {
		before++
	}
	for d := range now {
		after++
		name, rev := key(d)
		if rev <= since {
			continue
		}
		did := "changed"
		if was(name) == nil {
			did = "added"
			added++
		}
		out = append(out, api.Touched{Kind: kind, Name: string(name), Did: did})
	}
	if before+added == after {
		return out
	}
	for d := range old {
		if name, _ := key(d); is(name) == nil {
			out = append(out, api.Touched{Kind: kind, Name: string(name), Did: "removed"})
		}
	}
	return out
}
