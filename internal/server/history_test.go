package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

func (s *service) lines(path string, in any) (out []string) {
	s.t.Helper()
	for line, err := range s.client.Lines(context.Background(), "POST", path, in, nil) {
		if err != nil {
			s.t.Fatalf("%s: %v", path, err)
		}
		out = append(out, string(line))
	}
	return out
}

// set sets attributes and answers the number of the change.
func (s *service) set(nodes string, set ...api.Assignment) int64 {
	s.t.Helper()
	var c api.Changed
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: nodes}, Set: set}, &c)
	return c.Revision
}

func (s *service) history(nodes string) (out []string) {
	s.t.Helper()
	in := api.History{Range: api.Range{Range: nodes}}
	for c, err := range api.Stream[api.ChangeInfo](context.Background(), s.client, "POST", "/v1/history", in, nil) {
		if err != nil {
			s.t.Fatal(err)
		}
		for _, f := range c.Fields {
			out = append(out, c.Verb+": "+f.Name+" "+f.Did+f.Field+" "+f.Was+" -> "+f.Now)
		}
	}
	return out
}

func TestHistory_has_the_values_that_a_node_was_added_with(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n1", attr("custom.x", "1"), secret("bmc.password", "calvin"))
	s.set("n1", attr("custom.x", "2"), attr("custom.y", "new"))
	var c api.Changed
	s.must("/v1/nodes/rename", api.RenameNodes{Range: api.Range{Range: "n1"}, To: "n2"}, &c)
	s.must("/v1/nodes/remove", api.RemoveNodes{Range: api.Range{Range: "n2"}}, &c)
	s.add("n1", attr("custom.x", "3"))
	want := []string{
		"node add: n1 added  -> ",
		"node add: n1 bmc.password  -> ********",
		"node add: n1 custom.x  -> 1",
		"node add: n1 groups  -> compute",
		"set: n1 custom.x 1 -> 2",
		"set: n1 custom.y  -> new",
		"node rename: n1 removed  -> ",
		"node add: n1 added  -> ",
		"node add: n1 custom.x  -> 3",
		"node add: n1 groups  -> compute",
	}
	if got := s.history("n1"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	want = []string{
		"node rename: n2 added  -> ", "node rename: n2 bmc.password  -> ********", "node rename: n2 custom.x  -> 2",
		"node rename: n2 custom.y  -> new", "node rename: n2 groups  -> compute", "node remove: n2 removed  -> ",
	}
	if got := s.history("n2"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUndo_names_what_was_changed_since(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n[1-3]", attr("custom.x", "1"))
	first := s.set("n[1-3]", attr("custom.x", "2"), attr("custom.y", "2"))
	second := s.set("n2", attr("custom.x", "3"))
	var c api.Changed
	err := s.post("/v1/undo", api.Undo{Change: first}, &c)
	wants(t, err, api.Conflict, "n2: undo "+strconv.FormatInt(first, 10)+": custom.x was changed since: it is 3 now")
	if got := s.srv.store.Snapshot().Node("n1").Attrs["custom.x"]; got != "2" {
		t.Errorf("refused, it has set n1 to %q", got)
	}
	s.must("/v1/undo", api.Undo{Change: second}, &c)
	wants(t, s.post("/v1/undo", api.Undo{Change: first, MaxNodes: 2}, &c), api.Usage, "names 3 nodes")
	s.must("/v1/undo", api.Undo{Change: first}, &c)
	if n := s.srv.store.Snapshot().Node("n2"); n.Attrs["custom.x"] != "1" || n.Attrs["custom.y"] != "" {
		t.Errorf("after both are taken back n2 has %v", n.Attrs)
	}
	s.must("/v1/undo", api.Undo{Change: c.Revision}, &c) // of the undo
	if n := s.srv.store.Snapshot().Node("n2"); n.Attrs["custom.x"] != "2" {
		t.Errorf("after the undo of the undo n2 has %v", n.Attrs)
	}
	wants(t, s.post("/v1/undo", api.Undo{Change: 999}, &c), api.Unknown, "no such change")
}

func TestUndo_leaves_locked_nodes_alone(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n[1-2]")
	change := s.set("n[1-2]", attr("custom.x", "1"))
	var c api.Changed
	s.must("/v1/lock", api.LockNodes{Range: api.Range{Range: "n2"}, Reason: "memory"}, &c)
	wants(t, s.post("/v1/undo", api.Undo{Change: change}, &c), api.Conflict, "n2 is locked", "memory", "muster unlock n2")
	wants(t, s.post("/v1/undo", api.Undo{Change: c.Revision}, &c), api.Conflict, "n2 is locked") // its lock is no way around it
	s.must("/v1/unlock", api.UnlockNodes{Range: api.Range{Range: "n2"}}, &c)
	s.must("/v1/undo", api.Undo{Change: change}, &c)
}

func TestUndo_says_that_a_secret_cannot_come_back(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n1", secret("bmc.password", "calvin"))
	var c api.Changed
	s.must("/v1/nodes/remove", api.RemoveNodes{Range: api.Range{Range: "n1"}}, &c)
	removed := c.Revision
	s.add("n2", secret("bmc.password", "hobbes"))
	s.must("/v1/secret/rotate", api.RotateSecrets{}, &c)
	s.must("/v1/undo", api.Undo{Change: removed, DryRun: true}, &c) // the key is kept
	s.must("/v1/secret/rotate", api.RotateSecrets{Forget: true}, &c)
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "ten minutes are kept, for changes on their way: 2.") {
		t.Errorf("keys just retired: %q", c.Warnings)
	}
	var hourLater []model.Op
	for k := range s.srv.store.Snapshot().SealKeys() {
		if !k.Retired.IsZero() {
			old := *k
			old.Retired = old.Retired.Add(-time.Hour)
			hourLater = append(hourLater, model.Op{Kind: model.KindSealKey, Name: k.ID, Doc: &old})
		}
	}
	s.commit(hourLater...)
	s.must("/v1/secret/rotate", api.RotateSecrets{Forget: true}, &c)
	wants(t, s.post("/v1/undo", api.Undo{Change: removed}, &c), api.Conflict, "n1: undo", "bmc.password: the secret that would come back cannot be opened", "the secret anew")
	if got := s.password("n2"); got != "hobbes" {
		t.Errorf("after the rotation n2 has the password %q", got)
	}
}

func TestReveal_shows_nothing_that_cannot_be_put_on_record(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n1", secret("bmc.password", "calvin"))
	out := strings.Join(s.lines("/v1/secret/reveal", api.Reveal{Range: api.Range{Range: "n1"}, Attr: "bmc.password"}), "\n")
	if !strings.Contains(out, "calvin") {
		t.Errorf("revealed: %s", out)
	}
	if got := strings.Join(s.lines("/v1/audit", api.Audit{Verb: "secret reveal"}), "\n"); !strings.Contains(got, `"what":"bmc.password of n1 shown"`) || strings.Contains(got, "calvin") {
		t.Errorf("the record says %s", got)
	}
	// The store takes no write of a request that has ended.
	ended, end := context.WithCancel(t.Context())
	end()
	for _, in := range []api.Reveal{{Range: api.Range{Range: "n1"}, Attr: "bmc.password"}, {Range: api.Range{Range: "compute"}, Group: true, Attr: "bmc.password"}} {
		body, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		q := &request{
			Request: httptest.NewRequestWithContext(ended, "POST", "/v1/secret/reveal", bytes.NewReader(body)),
			w:       w, who: auth.Who{Kind: auth.Administrator, Name: "root"}, snap: s.srv.store.Snapshot(), id: requestID(),
		}
		if err := s.srv.reveal(q); err == nil || w.Body.Len() > 0 {
			t.Errorf("without a record it answers %s, %v", w.Body, err)
		}
	}
}

// as is a client that an administrator's certificate makes the user "admin", who has one role.
func (s *service) as(role model.Role) *service {
	s.t.Helper()
	role.Name = "one"
	s.commit(
		model.Op{Kind: model.KindRole, Name: "one", Doc: &role},
		model.Op{Kind: model.KindUser, Name: "admin", Doc: &model.User{Name: "admin", Roles: []model.RoleName{"one"}}},
	)
	c, err := api.NewClient(api.Options{Server: s.srv.APIs()[0], Identity: s.srv.keys.AdminBundle()})
	if err != nil {
		s.t.Fatal(err)
	}
	o := *s
	o.client = c
	return &o
}

func (s *service) asks(path string, in any) error {
	s.t.Helper()
	if path == "/v1/undo" {
		return s.post(path, in, nil)
	}
	for _, err := range s.client.Lines(context.Background(), "POST", path, in, nil) {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestRoles_on_the_record_and_what_takes_it_back(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("n[1-2]", secret("bmc.password", "calvin"))
	s.add("n3")
	var c api.Changed
	s.must("/v1/groups/add", api.GroupAction{Name: "rack", Members: "n[1-2]", Set: []api.Assignment{secret("bmc.password", "susie")}}, &c)
	s.must("/v1/groups/add", api.GroupAction{Name: "hollow", Set: []api.Assignment{secret("bmc.password", "moe")}}, &c)
	inside, outside := s.set("n1", attr("custom.x", "1")), s.set("n3", attr("custom.x", "1"))
	s.must("/v1/roles/add", api.DocAction{Name: "other", Set: []api.Assignment{attr("verbs", "get")}}, &c)
	role := c.Revision
	s.must("/v1/networks/add", api.DocAction{Name: "lan", Set: []api.Assignment{attr("prefix", "10.0.0.0/8")}}, &c)
	network := c.Revision

	reveal := func(of string, group bool) api.Reveal {
		return api.Reveal{Range: api.Range{Range: of}, Group: group, Attr: "bmc.password"}
	}
	undo := func(c int64) api.Undo { return api.Undo{Change: c, DryRun: true} }
	history := func(of string) api.History { return api.History{Range: api.Range{Range: of}} }
	for _, tt := range []struct {
		role model.Role
		path string
		in   any
		ok   bool
	}{
		{model.Role{Verbs: []string{"get"}}, "/v1/history", history("n1"), false},
		{model.Role{Verbs: []string{"get"}}, "/v1/audit", api.Audit{}, false},
		{model.Role{Verbs: []string{"get"}}, "/v1/undo", undo(inside), false},
		{model.Role{Verbs: []string{"get"}}, "/v1/secret/reveal", reveal("n1", false), false},
		{model.Role{Verbs: []string{"get"}}, "/v1/secret/rotate", api.RotateSecrets{DryRun: true}, false},
		{model.Role{Verbs: []string{"get"}}, "/v1/backup", api.Backup{}, false},
		{model.Role{Verbs: []string{"get"}}, "/v1/managers/add", api.AddManager{Name: "m2", DryRun: true}, false},
		{model.Role{Verbs: []string{"get"}}, "/v1/managers/remove", api.RemoveManager{Name: "m2", DryRun: true}, false},
		{model.Role{Verbs: []string{"history"}, Range: "rack"}, "/v1/history", history("n[1-2]"), true},
		{model.Role{Verbs: []string{"history"}, Range: "rack"}, "/v1/history", history("n[1-3]"), false},
		{model.Role{Verbs: []string{"*"}, Range: "rack"}, "/v1/audit", api.Audit{}, false}, // it is about everything
		{model.Role{Verbs: []string{"audit"}}, "/v1/audit", api.Audit{}, true},
		{model.Role{Verbs: []string{"*"}, Range: "rack"}, "/v1/backup", api.Backup{}, false},
		{model.Role{Verbs: []string{"*"}, Range: "rack"}, "/v1/secret/rotate", api.RotateSecrets{DryRun: true}, false},

		{model.Role{Verbs: []string{"secret reveal"}, Range: "rack"}, "/v1/secret/reveal", reveal("n1", false), true},
		{model.Role{Verbs: []string{"secret reveal"}, Range: "rack"}, "/v1/secret/reveal", reveal("n3", false), false},
		{model.Role{Verbs: []string{"secret reveal"}, Range: "rack"}, "/v1/secret/reveal", reveal("rack", true), true},
		{model.Role{Verbs: []string{"secret reveal"}, Range: "n1"}, "/v1/secret/reveal", reveal("rack", true), false}, // n2 has it, too
		{model.Role{Verbs: []string{"secret reveal"}, Range: "rack"}, "/v1/secret/reveal", reveal("hollow", true), false},
		{model.Role{Verbs: []string{"secret reveal"}}, "/v1/secret/reveal", reveal("hollow", true), true},

		{model.Role{Verbs: []string{"undo", "set"}, Range: "rack"}, "/v1/undo", undo(inside), true},
		{model.Role{Verbs: []string{"undo", "set"}, Range: "rack"}, "/v1/undo", undo(outside), false},
		{model.Role{Verbs: []string{"undo"}}, "/v1/undo", undo(inside), false}, // who may not set may not set back
		{model.Role{Verbs: []string{"undo", "set"}}, "/v1/undo", undo(role), false},
		{model.Role{Verbs: []string{"undo", "role"}}, "/v1/undo", undo(role), true},
		{model.Role{Verbs: []string{"*"}, Range: "rack"}, "/v1/undo", undo(network), false},
		{model.Role{Verbs: []string{"*"}}, "/v1/undo", undo(network), true},
	} {
		err := s.as(tt.role).asks(tt.path, tt.in)
		if tt.ok && err != nil {
			t.Errorf("%v over %q: %s %+v: %v", tt.role.Verbs, tt.role.Range, tt.path, tt.in, err)
		} else if !tt.ok {
			if err == nil {
				t.Errorf("%v over %q: %s %+v is allowed", tt.role.Verbs, tt.role.Range, tt.path, tt.in)
				continue
			}
			wants(t, err, api.Denied)
		}
	}
}
