package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
)

func (s *service) rename(from, to string) api.Changed {
	s.t.Helper()
	var c api.Changed
	s.must("/v1/nodes/rename", api.RenameNodes{Range: api.Range{Range: from}, To: to}, &c)
	return c
}

// What hangs on a name moves with it, in the same change; and when two nodes exchange their names, each keeps its own.
func TestRename_moves_everything_that_belongs_to_a_node(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n[1-2]", api.Assignment{Attr: "bmc.password", Op: "=", Secret: &api.SecretValue{Plain: "geheim"}}, attr("custom.was", "{nodename}"))
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "n1"}, Set: []api.Assignment{attr("custom.was", "n1")}}, nil)
	now := time.Now().UTC().Truncate(time.Second)
	s.commit(
		model.Op{Kind: model.KindImage, Name: "i", Doc: &model.Image{Name: "i"}},
		model.Op{Kind: model.KindDeployment, Name: "n1", Doc: &model.Deployment{Node: "n1", Image: "i", Boots: 3, Left: 3, Phase: model.Armed, Since: now}},
		model.Op{Kind: model.KindIdentity, Name: "n1", Doc: &model.Identity{Node: "n1", Key: "sha256:1", Enrolled: now}},
		model.Op{Kind: model.KindState, Name: "n1", Doc: &model.State{Node: "n1", Power: "on"}},
	)
	c := s.rename("n[1-2]", "n[2-3]") // n1 becomes n2, and n2 n3
	if c.Count != 2 || strings.Join(c.Changes, " ") != "n1 -> n2 n2 -> n3" {
		t.Errorf("%+v", c)
	}
	if len(c.Warnings) == 0 || !strings.Contains(strings.Join(c.Warnings, " "), "certificates of the old names") {
		t.Errorf("an enrolled node was renamed without a word: %v", c.Warnings)
	}
	snap := s.srv.store.Snapshot()
	if snap.Node("n1") != nil || snap.Node("n2").Attrs["custom.was"] != "n1" {
		t.Errorf("nodes: %v, %v", snap.Node("n1"), snap.Node("n2"))
	}
	for _, n := range []model.NodeName{"n1", "n3"} {
		if snap.Deployment(n) != nil || snap.Identity(n) != nil || snap.State(n) != nil && snap.State(n).Power != "" {
			t.Errorf("%s has what is n2's: %+v %+v %+v", n, snap.Deployment(n), snap.Identity(n), snap.State(n))
		}
	}
	if d, i, st := snap.Deployment("n2"), snap.Identity("n2"), snap.State("n2"); d == nil || d.Node != "n2" || i == nil || i.Node != "n2" || st == nil || st.Node != "n2" || st.Power != "on" {
		t.Errorf("n2: %+v %+v %+v", d, i, st)
	}
	if v := snap.Node("n3").Attrs["bmc.password"]; !identity.Sealed(v) {
		t.Errorf("the password of n3 is %q", v)
	}

	// Back, exchanged: a node that has nothing takes nothing over from who had the name before.
	s.rename("n[2-3]", "n[2-3]")
	s.must("/v1/nodes/rename", api.RenameNodes{Range: api.Range{Range: "n2"}, To: "x"}, nil)
	s.rename("n3", "n2")
	s.rename("x", "n3")
	snap = s.srv.store.Snapshot()
	if snap.Deployment("n3") == nil || snap.Deployment("n2") != nil || snap.Node("n3").Attrs["custom.was"] != "n1" {
		t.Errorf("after an exchange: %+v, %+v", snap.Deployment("n2"), snap.Deployment("n3"))
	}
}

// A lock that comes between the look and the change counts: a change is looked at again on the newest snapshot.
func TestLock_holds_for_every_change_of_a_node(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n[1-2]")
	s.must("/v1/lock", api.LockNodes{Range: api.Range{Range: "n1"}, Reason: "in repair"}, nil)
	before := s.srv.store.Snapshot().Node("n1")
	rg := api.Range{Range: "n[1-2]"}
	for path, in := range map[string]any{
		"/v1/set":           api.SetAttrs{Range: rg, Set: []api.Assignment{attr("custom.a", "b")}},
		"/v1/nodes/remove":  api.RemoveNodes{Range: rg},
		"/v1/nodes/rename":  api.RenameNodes{Range: rg, To: "m[1-2]"},
		"/v1/groups/add":    api.GroupAction{Name: "g", Members: "n[1-2]"},
		"/v1/groups/remove": api.GroupAction{Name: "compute"},
		"/v1/power":         api.Power{Range: rg, Action: "cycle"},
		"/v1/bootdev":       api.BootDev{Range: rg, Device: "disk"},
		"/v1/deploy":        api.Deploy{Range: rg, None: true},
	} {
		wants(t, s.post(path, in, nil), api.Conflict, "n1 is locked", "uid 0", "in repair", "muster unlock n1")
	}
	if s.srv.store.Snapshot().Node("n1") != before || s.srv.store.Snapshot().Node("n2") == nil {
		t.Error("a refused change was made")
	}
	// What the node itself reports, and what is seen of it, goes on.
	s.srv.sawPower("n1", "on")
	var c api.Changed
	s.must("/v1/unlock", api.UnlockNodes{Range: api.Range{Range: "n1"}}, &c)
	if c.Count != 1 || s.srv.store.Snapshot().Node("n1").Lock != nil {
		t.Errorf("%+v", c)
	}
}

// 100,000 nodes of a file are one change.
func TestRows_are_one_change_whatever_their_number(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	s := start(t, shortDir(t))
	const count = 20_000
	rows := make([]api.Row, count)
	for i := range rows {
		rows[i] = api.Row{Line: i + 2, Range: fmt.Sprintf("n%d", i), Set: []api.Assignment{
			{Attr: "groups", Value: "compute"}, {Attr: "net.boot.address", Value: fmt.Sprintf("10.%d.%d.%d", i/65536, i/256%256, i%256)}, {Attr: "location.rack", Value: fmt.Sprint(i / 40)},
		}}
	}
	before := s.srv.store.Snapshot().Revision
	begin := time.Now()
	var c api.Changed
	s.must("/v1/nodes/add", api.AddNodes{Rows: rows}, &c)
	t.Logf("%d nodes added in %s", c.Count, time.Since(begin))
	changes := 0
	for e := range api.Stream[model.Event](context.Background(), s.client, "GET", "/v1/events", nil, nil) {
		if e.Step == "node.add" {
			changes++
		}
	}
	if snap := s.srv.store.Snapshot(); snap.Len() != count || changes != 1 {
		t.Errorf("%d nodes, revisions %d to %d, told %d times", snap.Len(), before, snap.Revision, changes)
	}

	// One wrong row refuses all of them, and says where it stands.
	rows[count-1].Set[1].Value = "not an address"
	err := s.post("/v1/set", api.SetAttrs{Rows: rows}, nil)
	wants(t, err, api.Usage, fmt.Sprintf("line %d: net.boot.address", count+1))
	rows[count-1].Set[1].Value = "10.0.0.0"
	wants(t, s.post("/v1/set", api.SetAttrs{Rows: rows}, nil), api.Usage, fmt.Sprintf("line %d: ", count+1), "10.0.0.0 is taken")
}

func TestRows_refuse_what_stands_beside_them(t *testing.T) {
	s := start(t, shortDir(t))
	row := []api.Row{{Line: 1, Range: "n1"}}
	wants(t, s.post("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: "n2"}, Rows: row}, nil), api.Usage, "beside a file")
	wants(t, s.post("/v1/set", api.SetAttrs{Set: []api.Assignment{attr("custom.a", "b")}, Rows: row}, nil), api.Usage, "beside a file")
	wants(t, s.post("/v1/set", api.SetAttrs{Groups: true, Rows: row}, nil), api.Usage, "group set")
	wants(t, s.post("/v1/nodes/add", api.AddNodes{Rows: append(row, api.Row{Line: 7, Range: "n[1-2]"})}, nil), api.Usage, "line 7: n1", "it stands in line 1 already")
}
