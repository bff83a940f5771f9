package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"muster/internal/api"
	"muster/internal/model"
)

func (s *service) node(query string, out any) {
	s.t.Helper()
	res, b := s.get("/v1/nodes" + query)
	if res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s: %s", query, res.Status, b)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		s.t.Fatalf("%s: %v: %s", query, err, b)
	}
}

func TestNode_document_has_only_what_was_asked_for(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1", attr("net.boot.address", "10.77.1.{n0}"), attr("custom.note", "quotes \" and \\ and é\n"),
		api.Assignment{Attr: "bmc.password", Op: "=", Secret: &api.SecretValue{Plain: "secret"}})
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "compute"}, Groups: true, Set: []api.Assignment{attr("location.rack", "7")}}, nil)
	n := s.srv.store.Snapshot().Node("r1n1")
	for _, tt := range []struct {
		query string
		want  api.Node
	}{
		{"", api.Node{
			Name: "r1n1", Groups: []string{"compute"}, Created: n.Created, Revision: int64(n.Revision),
			Attrs: api.Attrs{"bmc.password": "********", "custom.note": "quotes \" and \\ and é\n", "location.rack": "7", "net.boot.address": "10.77.1.1"},
		}},
		{"?attrs=location.rack", api.Node{Name: "r1n1", Attrs: api.Attrs{"location.rack": "7"}}},
		{"?attrs=net.*.address,location.rack,bmc.user", api.Node{Name: "r1n1", Attrs: api.Attrs{"location.rack": "7", "net.boot.address": "10.77.1.1", "bmc.user": ""}}},
		{"?attrs=location.rack&attrs=location.rack", api.Node{Name: "r1n1", Attrs: api.Attrs{"location.rack": "7"}}},
		{"?attrs=bmc.password,ssh.port", api.Node{Name: "r1n1", Attrs: api.Attrs{"bmc.password": "********", "ssh.port": "22"}}},
		{"?fields=groups", api.Node{Name: "r1n1", Groups: []string{"compute"}}},
		{"?fields=revision&attrs=location.rack", api.Node{Name: "r1n1", Revision: int64(n.Revision), Attrs: api.Attrs{"location.rack": "7"}}},
		{"?attrs=net.boot.address,location.rack,bmc.password&blame=true", api.Node{
			Name: "r1n1", Attrs: api.Attrs{"location.rack": "7", "net.boot.address": "10.77.1.1", "bmc.password": "********"},
			Blame: map[string]api.Origin{"location.rack": {From: "group compute"}, "net.boot.address": {From: "node", Written: "10.77.1.{n0}"}, "bmc.password": {From: "node"}},
		}},
	} {
		var got api.Node
		s.node("/r1n1"+tt.query, &got)
		if got.Created.Equal(tt.want.Created) {
			got.Created = tt.want.Created
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.query, got, tt.want)
		}
	}
	for query, word := range map[string]string{
		"/r1n1?fields=colour": "there are: aliases", "/r1n2": "r1n2", "/r1n1?attr=x": "attrs, blame, fields", "?limit=-1": "limit", "?limit=20000": "x-ndjson", "?blame=perhaps": "true or false",
	} {
		res, b := s.get("/v1/nodes" + query)
		if res.StatusCode/100 != 4 || !strings.Contains(strings.ToLower(string(b)), word) {
			t.Errorf("%s: %s %s", query, res.Status, b)
		}
	}
	var broken api.Node
	s.node("/r1n1?attrs=locaton.rack,location.rack", &broken)
	if broken.Error == nil || !strings.Contains(broken.Error.Why, "location.rack") || broken.Attrs["location.rack"] != "7" {
		t.Errorf("an attribute that there is not: %+v", broken)
	}
}

// The lines of get and the documents are appended by hand: both say what the model says.
func TestProjection_agrees_with_the_model(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-3]", attr("net.boot.address", "10.77.1.{n0}"), attr("custom.a", "<&>\u2028 é"), attr("image.kernelargs", "quiet a=\"b\""))
	snap := s.srv.store.Snapshot()
	for _, asked := range [][]string{nil, {"net.boot.address"}, {"ssh.port", "custom.*"}, {"bmc.user", "custom.a", "net.boot.mac"}} {
		p, err := newProjection(snap, api.NodeQuery{Attrs: asked, Blame: true})
		if err != nil {
			t.Fatal(err)
		}
		plain, err := newProjection(snap, api.NodeQuery{Attrs: asked})
		if err != nil {
			t.Fatal(err)
		}
		for n := range snap.Nodes() {
			values, err := snap.Attrs(n, asked)
			if err != nil {
				t.Fatal(err)
			}
			want := api.NodeAttrs{Result: api.Result{Node: string(n.Name)}, Attrs: []api.AttrValue{}}
			bare := want
			for _, v := range values {
				want.Attrs = append(want.Attrs, api.AttrValue{Attr: string(v.Name), Value: v.Value, From: v.From, Written: v.Written})
				bare.Attrs = append(bare.Attrs, api.AttrValue{Attr: string(v.Name), Value: v.Value})
			}
			for _, x := range []struct {
				p    *projection
				want api.NodeAttrs
			}{{p, want}, {plain, bare}} {
				b, _ := x.p.line(nil, n)
				var got api.NodeAttrs
				if err := json.Unmarshal(b, &got); err != nil {
					t.Fatalf("%v: %s", err, b)
				}
				if !reflect.DeepEqual(got, x.want) {
					t.Errorf("%v:\ngot  %+v\nwant %+v", asked, got, x.want)
				}
			}
		}
	}
}

func TestNodes_pages_are_stable_while_nodes_come_and_go(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-12]")
	var names []string
	after := ""
	for pages := 0; ; pages++ {
		var page api.Nodes
		s.node("?limit=5&fields=name&after="+url.QueryEscape(after), &page)
		for _, n := range page.Nodes {
			names = append(names, n.Name)
		}
		if after = page.Next; after == "" {
			break
		}
		if pages == 0 { // r1n5 was the last one of the page, and vanishes; r1n0 comes before it, r1n13 behind
			s.must("/v1/nodes/remove", api.RemoveNodes{Range: api.Range{Range: "r1n5"}}, nil)
			s.add("r1n0,r1n13")
		}
	}
	var want []string
	for i := range 13 {
		want = append(want, fmt.Sprintf("r1n%d", i+1))
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	var page api.Nodes
	s.node("?range=r1n[1-3]&attrs=ssh.port", &page)
	if len(page.Nodes) != 3 || page.Total != 3 || page.Next != "" || page.Revision == 0 || page.Nodes[0].Attrs["ssh.port"] != "22" {
		t.Errorf("a range: %+v", page)
	}
	var list api.Names
	s.must("/v1/list", api.ListNodes{Limit: 2, After: "r1n9"}, &list)
	if list.Folded != "r1n[10-11]" || list.Next != "r1n11" {
		t.Errorf("list: %+v", list)
	}
	res, b := s.get("/v1/nodes?attrs=ssh.port", "Accept", "application/x-ndjson")
	if n := bytes.Count(b, []byte("\n")); n != 14 || !strings.Contains(string(b), `"asked":13,"answered":13,"failed":0,"trailer":true`) || res.Header.Get(api.AskedHeader) != "13" {
		t.Errorf("a stream of 13 nodes has %d lines: %s", n, b)
	}
}

func TestStatus_has_only_the_fields_asked_for(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n1")
	s.commit(model.Op{Kind: model.KindState, Name: "r1n1", Doc: &model.State{Node: "r1n1", Power: "on", Facts: &model.Facts{Kernel: "6.1"}}})
	for line, err := range s.client.Lines(t.Context(), "POST", "/v1/status", api.StatusQuery{Fields: []string{"power"}}, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if string(line) != `{"node":"r1n1","status":"defined","power":"on"}` {
			t.Errorf("%s", line)
		}
	}
	err := s.post("/v1/status", api.StatusQuery{Fields: []string{"pwoer"}}, nil)
	wants(t, err, api.Usage, "pwoer", "power_at")
}

// FuzzQuery: never panics, and what is taken has nothing negative in it.
func FuzzQuery(f *testing.F) {
	f.Add("range=r1n1&attrs=a,b&attrs=c&limit=5&blame=true&after=x")
	f.Add("limit=-1")
	f.Add("limit=99999999999999999999")
	f.Add("blame")
	f.Add("a=%zz;b")
	f.Fuzz(func(t *testing.T, raw string) {
		v, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		var in api.NodesQuery
		if err := readQuery(v, &in); err == nil && (in.Limit < 0 || slices.Contains(in.Attrs, "")) {
			t.Errorf("%q: %+v", raw, in)
		}
	})
}

// FuzzAppendString: what is appended is JSON, and reads as what was given.
func FuzzAppendString(f *testing.F) {
	f.Add("r1n1")
	f.Add("a\"b\\c\n\x00\x7f é \u2028 \xff")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
