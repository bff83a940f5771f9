package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"muster/internal/api"
	"muster/internal/job"
	"muster/internal/model"
)

// get asks as any HTTP client would and returns the answer, read to its end.
func (s *service) get(path string, header ...string) (*http.Response, []byte) {
	s.t.Helper()
	res := s.open(context.Background(), path, header...)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res, b
}

// open asks and leaves the answer to be read.
func (s *service) open(ctx context.Context, path string, header ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", s.client.URL(path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.client.HTTP().Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

// strict makes the description refuse what it does not name: else a forgotten field would pass.
func strict(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, x := range v {
			strict(x)
		}
	case []any:
		for _, x := range v {
			strict(x)
		}
	}
}

// described reads the service's description with a validator that nobody here wrote.
func (s *service) described(t *testing.T) (*openapi3.T, map[string]any) {
	t.Helper()
	res, b := s.get("/v1/openapi.json")
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", res.Status, b)
	}
	var raw map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	strict(raw)
	b, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("the description is not valid: %v", err)
	}
	return doc, raw
}

func TestOpenAPI_describes_every_route(t *testing.T) {
	s := start(t, shortDir(t))
	doc, _ := s.described(t)
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("version %s", doc.OpenAPI)
	}
	described := 0
	for _, r := range s.srv.routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		item := doc.Paths.Find(path)
		if item == nil || item.GetOperation(method) == nil {
			t.Errorf("%s is not described", r.pattern)
			continue
		}
		described++
		op := item.GetOperation(method)
		if op.Responses.Default() == nil || op.Summary == "" {
			t.Errorf("%s: no error, or no summary", r.pattern)
		}
		if (r.in != nil && r.body == "" && method == "POST") != (op.RequestBody != nil && op.RequestBody.Value.Content["application/json"] != nil) {
			t.Errorf("%s: request document %T, described %v", r.pattern, r.in, op.RequestBody)
		}
	}
	var total int
	for _, p := range doc.Paths.Map() {
		total += len(p.Operations())
	}
	if total != described {
		t.Errorf("%d operations are described, the mux has %d", total, described)
	}
}

func TestOpenAPI_has_the_schema_of_attributes(t *testing.T) {
	s := start(t, shortDir(t))
	doc, _ := s.described(t)
	attrs := doc.Components.Schemas["Attributes"]
	if attrs == nil {
		t.Fatal("no schema Attributes")
	}
	for _, a := range model.Schema() {
		name := strings.ReplaceAll(string(a.Name), "<name>", "eth0")
		value := a.Default
		switch a.Type {
		case model.Integer:
			value = "7"
		case model.Address:
			value = "10.77.1.1"
		case model.MAC:
			value = "52:54:00:77:00:01"
		case model.Choice:
			value = a.Choices[0]
		}
		if err := attrs.Value.VisitJSON(map[string]any{name: value}, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	for name, value := range map[string]string{"bmc.adress": "10.1.1.1", "bmc.port": "many", "bmc.driver": "ssh", "net.eth0.mac": "no"} {
		if attrs.Value.VisitJSON(map[string]any{name: value}, openapi3.EnableJSONSchema2020()) == nil {
			t.Errorf("%s=%s fits the schema", name, value)
		}
	}
}

// Every GET is asked, and many of the POSTs; what they answer is what the description says, with nothing that it does not name.
func TestOpenAPI_answers_are_as_described(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-3]", attr("net.boot.address", "10.77.1.{n0}"), attr("net.boot.mac", "52:54:00:77:00:0{n0}"),
		api.Assignment{Attr: "bmc.password", Op: "=", Secret: &api.SecretValue{Plain: "x"}})
	s.add("h[1-2]", attr("bmc.driver", "redfish"), attr("bmc.address", "10.78.0.1"), attr("console.record", "false"))
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "h2"}, Set: []api.Assignment{attr("power.after", "h1"), attr("power.delay", "1s")}}, nil)
	s.must("/v1/groups/add", api.GroupAction{Name: "rack1", Dynamic: "r1n[1-2]", Set: []api.Assignment{attr("location.rack", "1")}}, nil)
	s.srv.tell(model.Event{Node: "r1n1", Step: "power.on", What: "power on"})
	s.srv.unknown.note([]model.Event{{MAC: "52:54:00:00:00:99", Step: "dhcp.ignore", Reason: "unknown"}})
	s.importImage("compute")
	s.importImage("second")
	s.commit(model.Op{Kind: model.KindRollout, Name: "compute-1", Doc: &model.Rollout{
		Name: "compute-1", Image: "compute", Nodes: []model.NodeName{"r1n3"}, StopAt: 10, Begun: time.Now(), Ended: time.Now(), Code: model.ByPerson, Reason: "r",
	}})
	s.commit(model.Op{Kind: model.KindDeployment, Name: "r1n1", Doc: &model.Deployment{Node: "r1n1", Image: "compute", Phase: model.Armed, Boots: 3, Left: 3}})
	doc, _ := s.described(t)

	check := func(what, path, method, kind string, body []byte) {
		t.Helper()
		media := doc.Paths.Find(path).GetOperation(method).Responses.Status(200).Value.Content[kind]
		if media == nil {
			t.Errorf("%s: an answer of type %s is not described", what, kind)
			return
		}
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			t.Errorf("%s: %v: %s", what, err, body)
			return
		}
		if err := doc.ValidateSchemaJSON(media.Schema.Value, v, openapi3.EnableFormatValidation(), openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("%s: %s\n%v", what, body, err)
		}
	}
	s.job("base", model.JobStep{Name: "a", Script: "true"})
	if err := s.srv.beginLog("r1n1", "x", []api.JobLine{told("base", "a", job.Printed, "hello"), {Time: time.Now(), Note: "a note"}}); err != nil {
		t.Fatal(err)
	}
	s.srv.does("r1n1", &model.Doing{ID: "x", Phase: model.WorkDone, Jobs: []model.JobName{"base"}, Began: time.Now(), Manager: s.srv.name()})
	asked := map[string]bool{}
	for _, tt := range []struct{ path, url, accept string }{
		{"/v1/version", "", ""},
		{"/v1/openapi.json", "", ""},
		{"/v1/nodes", "?limit=2&blame=true", ""},
		{"/v1/nodes", "?attrs=bmc.*", "application/x-ndjson"},
		{"/v1/nodes/{name}", "/v1/nodes/r1n1?blame=true", ""},
		{"/v1/nodes/{name}", "/v1/nodes/r1n1?attrs=bmc.password,net.boot.*", ""},
		{"/v1/groups", "", ""},
		{"/v1/groups/{name}", "/v1/groups/rack1", ""},
		{"/v1/attributes", "", ""},
		{"/v1/attributes", "?glob=net.*", ""},
		{"/v1/why/{name}", "/v1/why/r1n1", ""},
		{"/v1/why/{name}", "/v1/why/r1n3", ""},
		{"/v1/events", "", ""},
		{"/v1/discovered", "", ""},
		{"/v1/rollouts", "", ""},
		{"/v1/rollouts/{name}", "/v1/rollouts/compute-1", ""},
		{"/v1/images", "", ""},
		{"/v1/images/{name}", "/v1/images/compute", ""},
		{"/v1/images/{name}/check", "/v1/images/compute/check", ""},
		{"/v1/images/{name}/diff/{other}", "/v1/images/compute/diff/second", ""},
		{"/v1/consoles", "", ""},
		{"/v1/managers", "", ""},
		{"/v1/networks", "", ""},
		{"/v1/users", "", ""},
		{"/v1/roles", "", ""},
		{"/v1/whoami", "", ""},
		{"/v1/plugins", "", ""},
		{"/v1/jobs", "", ""},
		{"/v1/jobs/log/{node}", "/v1/jobs/log/r1n1", ""},
	} {
		url := tt.url
		if !strings.HasPrefix(url, "/") {
			url = tt.path + tt.url
		}
		res, b := s.get(url, "Accept", tt.accept)
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s: %s", url, res.Status, b)
			continue
		}
		asked["GET "+tt.path] = true
		if kind := res.Header.Get("Content-Type"); kind == "application/json" {
			check(url, tt.path, "GET", kind, b)
		} else {
			for line := range bytes.Lines(b) {
				check(url, tt.path, "GET", kind, line)
			}
		}
	}
	for _, tt := range []struct {
		path string
		in   any
	}{
		{"/v1/get", api.GetAttrs{Range: api.Range{Range: "everything"}, Blame: true}},
		{"/v1/list", api.ListNodes{Limit: 2}},
		{"/v1/expand", api.Expand{Range: api.Range{Range: "a[1-3]"}}},
		{"/v1/fold", api.Fold{Names: []string{"a1", "a2"}}},
		{"/v1/fold", api.Fold{}},
		{"/v1/status", api.StatusQuery{}},
		{"/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("custom.x", "1")}}},
		{"/v1/power", api.Power{Range: api.Range{Range: "everything"}, Action: "status"}},
		{"/v1/power", api.Power{Range: api.Range{Range: "h1"}, Action: "status"}},
		{"/v1/power", api.Power{Range: api.Range{Range: "h1"}, Action: "status", Cached: true}},
		{"/v1/power", api.Power{Range: api.Range{Range: "h[1-2]", DryRun: true}, Action: "on"}},
		{"/v1/sensors", api.Sensors{Range: api.Range{Range: "everything"}}},
		{"/v1/eventlog", api.EventLog{Range: api.Range{Range: "h1"}, Clear: true}},
		{"/v1/inventory", api.Inventory{Range: api.Range{Range: "h1"}}},
		{"/v1/inventory", api.Inventory{Range: api.Range{Range: "h1"}}},
		{"/v1/inventory", api.Inventory{Range: api.Range{Range: "h1"}, History: true}},
		{"/v1/identify", api.Identify{Range: api.Range{Range: "h1"}, On: true, ForMS: 1000}},
		{"/v1/bmc/info", api.BMCInfo{Range: api.Range{Range: "h1"}}},
		{"/v1/bmc/test", api.BMCTest{Range: api.Range{Range: "h1,r1n1"}}},
		{"/v1/bmc/get", api.BMCGet{Range: api.Range{Range: "h1"}}},
		{"/v1/bmc/set", api.BMCSet{Range: api.Range{Range: "h1"}, Set: []api.Assignment{attr("lan.gateway", "10.0.0.1")}}},
		{"/v1/bmc/reset", api.BMCReset{Range: api.Range{Range: "h1"}}},
		{"/v1/bmc/raw", api.BMCRaw{Range: api.Range{Range: "h1"}, Request: "0x06 0x01"}},
		{"/v1/firmware/list", api.FirmwareList{Range: api.Range{Range: "h1"}}},
		{"/v1/networks/add", api.DocAction{Name: "lan", Set: []api.Assignment{attr("prefix", "10.77.0.0/16")}}},
		{"/v1/roles/add", api.DocAction{Name: "look", Set: []api.Assignment{attr("verbs", "status")}}},
		{"/v1/users/add", api.DocAction{Name: "alice", Set: []api.Assignment{attr("roles", "look")}}},
		{"/v1/jobs/set", api.SetJob{Name: "mounts", Steps: []model.JobStep{{Name: "a", Script: "true", Policy: "once", TimeoutMS: 1000, Retries: 1}}}},
		{"/v1/jobs/status", api.JobStatus{}},
		{"/v1/jobs/run", api.RunJob{Range: api.Range{Range: "r1n1"}, Jobs: []string{"base"}}},
		{"/v1/lock", api.LockNodes{Range: api.Range{Range: "r1n2"}}},
		{"/v1/list", api.ListNodes{Detail: true}},
		{"/v1/unlock", api.UnlockNodes{Range: api.Range{Range: "r1n2"}}},
		{"/v1/nodes/rename", api.RenameNodes{Range: api.Range{Range: "r1n2"}, To: "r1n4"}},
		{"/v1/nodes/remove", api.RemoveNodes{Range: api.Range{Range: "r1n3"}}},
		{"/v1/groups/remove", api.GroupAction{Name: "rack1"}},
	} {
		b, err := json.Marshal(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		res, err := s.client.HTTP().Post(s.client.URL(tt.path), "application/json", bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(res.Body)
		for {
			line, err := in.ReadBytes('\n')
			if err == io.EOF {
				break
			}
			check(tt.path, tt.path, "POST", res.Header.Get("Content-Type"), line)
		}
		res.Body.Close()
	}
	// Errors are described once for all.
	_, b := s.get("/v1/nodes/nosuch")
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if err := doc.ValidateSchemaJSON(doc.Components.Schemas["Error"].Value, v, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("%s\n%v", b, err)
	}
	// The validator does refuse.
	if doc.ValidateSchemaJSON(doc.Components.Schemas["Node"].Value, map[string]any{"name": "r1n1", "colour": "red"}, openapi3.EnableJSONSchema2020()) == nil {
		t.Error("a field that is not described is taken")
	}
	// What is no document, or is asked by nodes, is tested where it is made.
	for _, r := range s.srv.routes() {
		bytes := r.out.bytes || r.out.upgrades || r.out.events != nil && r.out.lines == nil
		if strings.HasPrefix(r.pattern, "GET /v1/") && !strings.HasPrefix(r.pattern, "GET /v1/node/") && !bytes && !asked[r.pattern] {
			t.Errorf("%s is not asked here", r.pattern)
		}
	}
}
