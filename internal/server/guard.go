package server

import (
	"maps"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

// What keeps a request from nodes stands here: roles, and locks. A verb over nodes comes by with the nodes that it was asked for
// ([request.nodes], [request.disturbs]); a change comes by again with the documents that it puts, on the newest snapshot.

// lifts are the verbs that look at locks by themselves, and those that change documents of nodes but nothing about them.
var lifts = []string{"lock", "unlock", "group rename", "secret rotate"}

// may asks whether the roles of the party allow the verb on the nodes.
func (q *request) may(snap *model.Snapshot, verb string, names []model.NodeName) error {
	if len(names) == 0 {
		return nil
	}
	return auth.Allow(snap, q.who, verb, names)
}

// describing are verbs that change what is written of nodes, and nothing at the machines: they work on nodes that are only observed, too.
// A deployment with a reboot looks by itself.
var describing = []string{"node remove", "node rename", "bmc trust", "deploy"}

// disturbs is nodes for a verb that changes or disturbs them: those that are locked, or only observed, refuse all of it.
func (q *request) disturbs(verb string, rg api.Range) ([]*model.Node, error) {
	nodes, err := q.nodes(verb, rg)
	if err != nil {
		return nil, err
	}
	if err := unlocked(q.snap, verb, q.id, namesOf(nodes)); err != nil || slices.Contains(describing, verb) {
		return nodes, err
	}
	return nodes, onlyOurs(q.snap, verb, namesOf(nodes))
}

// unlocked refuses locked nodes, all of them, saying who, why, since when, and how to unlock; and those on which an operation of another request is under
// way that must not be met. Those that were locked together are told together.
func unlocked(snap *model.Snapshot, verb, request string, names []model.NodeName) error {
	now := time.Now()
	all := byReason(model.Locked(snap, names, now), func(nodes, why string, several bool) *api.Error {
		is := " is locked "
		if several {
			is = " are locked "
		}
		return &api.Error{Code: api.Conflict, What: verb, Why: nodes + is + why, Do: "Leave out what is locked, or unlock it: muster unlock " + nodes}
	})
	return together(append(all, byReason(model.Claimed(snap, names, request, now), func(nodes, why string, _ bool) *api.Error {
		return &api.Error{Code: api.Conflict, What: verb, Why: "on " + nodes + " there is under way: " + why, Do: "Leave them out, or ask again when it has ended; see: muster why NODE"}
	})...))
}

// idle refuses nodes whose deployment is under way or waits for its wave, saying whose it is and how to end it.
func idle(snap *model.Snapshot, verb string, names []model.NodeName) error {
	return together(byReason(model.Deploying(snap, names), func(nodes, why string, _ bool) *api.Error {
		return &api.Error{Code: api.Conflict, What: verb, Why: nodes + ": " + why, Do: "Wait for it (muster deploy " + nodes + " --wait), or end it: muster deploy " + nodes + " --cancel"}
	}))
}

// byReason makes one error of the problems that have the same reason.
func byReason(problems []model.Problem, make func(nodes, why string, several bool) *api.Error) []*api.Error {
	var order []string
	held := map[string][]model.NodeName{}
	for _, p := range problems {
		if held[p.Why] == nil {
			order = append(order, p.Why)
		}
		held[p.Why] = append(held[p.Why], p.Node)
	}
	var all []*api.Error
	for _, why := range order {
		all = append(all, make(fold(held[why]), why, len(held[why]) > 1))
	}
	return all
}

// together makes one error of several; nil of none.
func together(all []*api.Error) error {
	if len(all) == 0 {
		return nil
	}
	first := *all[0]
	first.More = slices.Concat(first.More, all[1:])
	return &first
}

// guard looks at the documents that a change puts or removes: the nodes that they are about must be allowed, and not locked.
func (q *request) guard(snap *model.Snapshot, verb string, ops []model.Op) error {
	var names []model.NodeName
	for _, op := range ops {
		if op.Kind == model.KindNode || op.Kind == model.KindDeployment || op.Kind == model.KindWork {
			names = append(names, model.NodeName(op.Name))
		}
	}
	nodes := names
	if _, limited := auth.Roles(snap, q.who); limited {
		for _, op := range ops {
			if op.Kind != model.KindGroup {
				continue
			}
			// What a group says, its members inherit; and a range may take in others.
			names = append(names, snap.Members(model.GroupName(op.Name))...)
			if next, err := model.Apply(snap, &model.Change{Revision: snap.Revision + 1, Ops: ops}); err == nil && op.Doc != nil {
				names = append(names, next.Members(model.GroupName(op.Name))...)
			}
		}
	}
	if err := q.may(snap, verb, names); err != nil {
		return err
	}
	if verb == "undo" {
		if err := q.mayUndo(snap, ops); err != nil {
			return err
		}
	}
	if slices.Contains(lifts, verb) {
		return nil
	}
	return unlocked(snap, verb, q.id, nodes)
}

// undoing says which verb it takes to put a document, for who takes a change back: undo gives nobody more than that.
var undoing = map[model.Kind]string{
	model.KindNode: "set", model.KindDeployment: "deploy", model.KindIdentity: "set", model.KindState: "set", model.KindGroup: "group set",
	model.KindNetwork: "network set", model.KindUser: "user set", model.KindRole: "role set", model.KindImage: "image build",
	model.KindManager: "manager remove", model.KindSealKey: "secret rotate", model.KindJob: "job set", model.KindWork: "job run",
	model.KindRollout: "deploy", model.KindClaim: "deploy",
}

// mayUndo asks whether the roles of the party allow to put what taking a change back puts.
func (q *request) mayUndo(snap *model.Snapshot, ops []model.Op) error {
	if _, limited := auth.Roles(snap, q.who); !limited {
		return nil
	}
	nodes := map[string][]model.NodeName{} // by verb
	for _, op := range ops {
		verb := undoing[op.Kind]
		switch op.Kind {
		case model.KindNode, model.KindDeployment, model.KindIdentity, model.KindState, model.KindWork, model.KindClaim:
			nodes[verb] = append(nodes[verb], model.NodeName(op.Name))
		default:
			if err := auth.Allow(snap, q.who, verb, nil); err != nil {
				return err
			}
		}
	}
	for _, verb := range slices.Sorted(maps.Keys(nodes)) {
		if err := q.may(snap, verb, nodes[verb]); err != nil {
			return err
		}
	}
	return nil
}

// nodesOrAll is nodes, where an empty range is all nodes that the party may use the verb on.
func (q *request) nodesOrAll(verb string, rg api.Range) ([]*model.Node, error) {
	if strings.TrimSpace(rg.Range) != "" {
		return q.nodes(verb, rg)
	}
	some, all := auth.Nodes(q.snap, q.who, verb)
	out := make([]*model.Node, 0, q.snap.Len())
	for n := range q.snap.Nodes() {
		if all || some[n.Name] {
			out = append(out, n)
		}
	}
	return out, tooMany(verb, "everything", len(out), rg.MaxNodes)
}
