package server

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
)

func secret(name, value string) api.Assignment {
	return api.Assignment{Attr: name, Op: "=", Secret: &api.SecretValue{Plain: value}}
}

// password is what the service would log in to a node's BMC with.
func (s *service) password(node model.NodeName) string {
	s.t.Helper()
	snap := s.srv.store.Snapshot()
	n := snap.Node(node)
	text, err := snap.Attr(n, "bmc.password")
	if err != nil {
		s.t.Fatal(err)
	}
	got, err := s.srv.unseal(snap, n, "bmc.password", text)
	if err != nil {
		s.t.Errorf("%s: %v", node, err)
	}
	return got.Reveal()
}

func (s *service) written(node model.NodeName) string {
	return s.srv.store.Snapshot().Node(node).Attrs["bmc.password"]
}

func TestSecrets_are_sealed_for_each_node_and_group(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	var c api.Changed
	s.add("r1n[1-3]", secret("bmc.password", "calvin"), attr("bmc.user", "admin"))
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n3"}, Set: []api.Assignment{secret("bmc.password", "hobbes")}}, &c)
	s.add("r2n[1-2]")
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "compute"}, Groups: true, Set: []api.Assignment{attr("bmc.password", "susie")}}, &c)
	s.must("/v1/groups/add", api.GroupAction{Name: "odd", Members: "r2n1", Set: []api.Assignment{attr("bmc.password", "moe")}}, &c)
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r2n1"}, Set: []api.Assignment{attr("group", "odd")}}, &c)
	want := map[model.NodeName]string{"r1n1": "calvin", "r1n2": "calvin", "r1n3": "hobbes", "r2n1": "moe", "r2n2": "susie"}
	check := func() {
		t.Helper()
		for n, w := range want {
			if got := s.password(n); got != w {
				t.Errorf("%s has the password %q, want %q", n, got, w)
			}
		}
	}
	check()
	if s.written("r1n1") == s.written("r1n2") || !strings.HasPrefix(s.written("r1n1"), "sealed:v2:") {
		t.Errorf("the envelopes are %s and %s", s.written("r1n1"), s.written("r1n2"))
	}
	if keys := slices.Collect(s.srv.store.Snapshot().SealKeys()); len(keys) != 1 {
		t.Errorf("%d data keys, want 1", len(keys))
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, data)
	check()

	// The empty value masks what the group has, and is none that is sealed.
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r2n2"}, Set: []api.Assignment{attr("bmc.password", model.Masking)}}, &c)
	if got := s.password("r2n2"); got != "" || s.written("r2n2") != "" {
		t.Errorf("masked it is %q, written %q", got, s.written("r2n2"))
	}
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("bmc.password", "")}}, &c)
	if got := s.password("r1n1"); got != "susie" {
		t.Errorf("unset it is %q, want the group's", got)
	}

	// An envelope in another place does not open.
	n := *s.srv.store.Snapshot().Node("r2n2")
	n.Attrs = map[model.AttrName]string{"bmc.password": s.written("r1n2")}
	s.commit(model.Op{Kind: model.KindNode, Name: "r2n2", Doc: &n})
	snap := s.srv.store.Snapshot()
	if _, err := s.srv.driver(snap, snap.Node("r2n2")); err == nil {
		t.Error("an envelope of r1n2 opened at r2n2")
	}
}

// Not one of a request's secrets is left in it, nor made by a dry run.
func TestSecrets_of_a_dry_run_leave_nothing(t *testing.T) {
	s := start(t, shortDir(t))
	var c api.Changed
	s.must("/v1/nodes/add", api.AddNodes{Range: api.Range{Range: "r1n1", DryRun: true}, Set: []api.Assignment{secret("bmc.password", "calvin")}}, &c)
	if keys := slices.Collect(s.srv.store.Snapshot().SealKeys()); len(keys) != 0 {
		t.Errorf("a dry run made %d data keys", len(keys))
	}
	set := []api.Assignment{secret("bmc.password", "calvin"), attr("bmc.password", "calvin"), attr("bmc.user", "admin")}
	edits := editsOf(set)
	if got := assigned(edits); got != "bmc.password=******** bmc.password=******** bmc.user=admin" || edits[0].value != "" || edits[0].secret.Reveal() != "calvin" {
		t.Errorf("the edits say %s", got)
	}
}

func TestService_follows_a_change_of_the_site_key_and_a_rotation(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n1", secret("bmc.password", "calvin"))
	snap := s.srv.store.Snapshot()
	ops, err := s.srv.keys.ChangeSiteKey(snap, identity.Source{Passphrase: model.NewSecret("correct horse")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.commit(ops...)
	plain := filepath.Join(data, "keys", "seal.key")
	s.until("no site key lies readable in the data directory", func() bool {
		_, err := os.Stat(plain)
		return err != nil
	})
	if ops, err = s.srv.keys.Rotate(s.srv.store.Snapshot(), time.Now()); err != nil {
		t.Fatal(err)
	}
	s.commit(ops...)
	if got := s.password("r1n1"); got != "calvin" {
		t.Errorf("after the rotation the password is %q", got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pass string
		says string
	}{{"", "passphrase"}, {"correct horsE", "the passphrase is wrong"}} {
		err := Run(context.Background(), Config{Data: data, Listen: []string{"127.0.0.1:0"}, SiteKey: identity.Source{Passphrase: model.NewSecret(c.pass)}})
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "horse") {
			t.Errorf("started with the passphrase %q: %v", c.pass, err)
		}
	}
}

// Nothing else changes after a failure: it is tried again by itself.
func TestService_tries_again_to_put_a_site_key_in_its_place(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n1", secret("bmc.password", "calvin"))
	locked, plain := filepath.Join(data, "keys", "seal.json"), filepath.Join(data, "keys", "seal.key")
	if err := os.MkdirAll(filepath.Join(locked, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	var c api.Changed
	in := api.ChangeSiteKey{By: "passphrase", Passphrase: &api.SecretValue{Plain: "correct horse"}}
	s.must("/v1/secret/site-key", in, &c)
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], locked) || !strings.Contains(c.Warnings[0], "tried again") {
		t.Errorf("the warnings are %q", c.Warnings)
	}
	if _, err := os.Stat(plain); err != nil {
		t.Error("the old site key is gone before the new one is in its place")
	}
	if err := os.RemoveAll(locked); err != nil {
		t.Fatal(err)
	}
	s.until("the site key is put in its place", func() bool {
		_, err := os.Stat(plain)
		return err != nil
	})
	if got := s.password("r1n1"); got != "calvin" || strings.Contains(s.log.String(), "horse") {
		t.Errorf("the password is %q\n%s", got, s.log)
	}
}

func TestChangeSiteKey_that_is_refused_leaves_nothing(t *testing.T) {
	data := shortDir(t)
	s := start(t, data)
	s.add("r1n1", secret("bmc.password", "calvin"))
	for _, c := range []struct {
		in   api.ChangeSiteKey
		says string
	}{
		{api.ChangeSiteKey{By: "tpm"}, "key, file or passphrase"},
		{api.ChangeSiteKey{By: "passphrase"}, "empty"},
		{api.ChangeSiteKey{By: "key", File: "/x"}, "a file is given"},
		{api.ChangeSiteKey{Passphrase: &api.SecretValue{Plain: "horse"}}, "a passphrase is given"},
	} {
		err := s.post("/v1/secret/site-key", c.in, &api.Changed{})
		wants(t, err, api.Usage, c.says)
		if strings.Contains(err.Error(), "horse") {
			t.Errorf("the error shows the passphrase: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "keys", "seal.next")); err == nil {
		t.Error("a change is left that nobody made")
	}
	if got := s.password("r1n1"); got != "calvin" {
		t.Errorf("the password is %q", got)
	}
}
