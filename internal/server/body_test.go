package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"muster/internal/api"
)

// plainAdd is AddNodes read as one document, which is what reading rows one by one is held against.
func plainAdd(text []byte) (in api.AddNodes, err error) {
	return in, readDocument(bytes.NewReader(text), &in)
}

func rowsAdd(text []byte) (in api.AddNodes, err error) {
	q := &request{Request: httptest.NewRequest("POST", "/v1/nodes/add", bytes.NewReader(text))}
	return in, q.readRows(&in, &in.Rows)
}

func sameAsDocument(t interface{ Fatalf(string, ...any) }, text []byte) {
	want, wrong := plainAdd(text)
	got, err := rowsAdd(text)
	if (wrong != nil) != (err != nil) {
		t.Fatalf("%q: %v, want %v", text, err, wrong)
	}
	if len(got.Rows)+len(want.Rows) == 0 {
		got.Rows, want.Rows = nil, nil
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%q:\ngot  %+v\nwant %+v", text, got, want)
	}
}

var rowsTexts = []string{
	``, `{}`, `null`, `[]`, `{"rows":null}`, `{"rows":[]}`, `{"rows":{}}`, `{"rows":[null]}`, `{"rows":[{}]}`, `{"rows":[{"range":"a"}],"dry_run":true}`,
	`{"range":"a","rows":[{"line":2,"range":"r1n1","set":[{"attr":"bmc.user","value":"admin"},{"attr":"groups","op":"+=","value":"a"}]}]}`,
	`{"rows":[{"range":"a","set":[{"attr":"bmc.password","secret":{"plain":"x"}},{"attr":"b"}]}]}`,
	`{"rows":[{"range":"a","set":[{"attr":"x","value":"\u00e9 \"q\" \\"}]}]}`, `{"rows":[{"range":"a","set":[{"value":"x","attr":"y"}]}]}`,
	`{"rows":[{"range":"a","sets":[]}]}`, `{"rows":[{"range":"a"}`, `{"rows":[{"line":1e3,"range":"a"}]}`, `{"rows":[{"line":"2","range":"a"}]}`,
	`{"rows":[{"range":"a"}],"what":1}`, `{"rows" : [ {"range": "a"} , {"range":"b","set":[]} ] }`, `{"Rows":[{"range":"a"}]}`, `{"rows":[{"line":02,"range":"a"}]}`,
}

func TestRows_are_read_as_the_whole_document_is(t *testing.T) {
	for _, text := range rowsTexts {
		sameAsDocument(t, []byte(text))
	}
	text := rapid.OneOf(rapid.StringMatching(`[a-z0-9.]{0,4}`), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		in := api.AddNodes{Range: api.Range{DryRun: rapid.Bool().Draw(t, "dry")}}
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			r := api.Row{Line: rapid.IntRange(0, 9).Draw(t, "line"), Range: text.Draw(t, "range")}
			for range rapid.IntRange(0, 3).Draw(t, "set") {
				a := api.Assignment{Attr: text.Draw(t, "attr"), Op: text.Draw(t, "op"), Value: text.Draw(t, "value")}
				if rapid.Bool().Draw(t, "is secret") {
					a.Secret = &api.SecretValue{Plain: text.Draw(t, "secret")}
				}
				r.Set = append(r.Set, a)
			}
			in.Rows = append(in.Rows, r)
		}
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		sameAsDocument(t, b)
	})
}

func FuzzRows(f *testing.F) {
	for _, text := range rowsTexts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var doc map[string]json.RawMessage
		if json.Unmarshal(text, &doc) != nil {
			return
		}
		for k := range doc { // a document that says rows twice, or by another spelling, is read otherwise
			if k != "rows" && strings.EqualFold(k, "rows") {
				return
			}
		}
		if bytes.Count(bytes.ToLower(text), []byte("ows")) > 1 || bytes.Contains(text, []byte(`\u`)) {
			return
		}
		sameAsDocument(t, text)
	})
}

// A site of 100,000 nodes with 40 attributes has 200 MB as a document: its rows are not held as text, and what they have alike is there once.
func TestRows_hold_once_what_they_have_alike(t *testing.T) {
	r := rowReader{names: map[string]string{}, values: map[string]string{}}
	row := func(i int) json.RawMessage {
		return fmt.Appendf(nil, `{"range":"n%d","set":[{"attr":"bmc.driver","value":"ipmi"},{"attr":"bmc.user","value":"administrator"},{"attr":"custom.serial","value":"CZ%d"}]}`, i, i)
	}
	r.text = row(1)
	if _, err := r.row(); err != nil {
		t.Fatal(err)
	}
	r.text = row(2)
	// The name, the assignments, and the value that no other has, which is remembered now and then in a larger table.
	if n := testing.AllocsPerRun(1, func() { _, _ = r.row() }); n > 4 {
		t.Errorf("%v allocations for one more row, want at most 4", n)
	}
	for i := range 3 * rowShared {
		r.text = row(i)
		if _, err := r.row(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.values) > rowShared || len(r.names) != 3 {
		t.Errorf("%d values and %d names are remembered", len(r.values), len(r.names))
	}
}

func TestRows_too_many_are_refused_with_what_to_do(t *testing.T) {
	q := &request{Request: httptest.NewRequest("POST", "/v1/nodes/add", strings.NewReader(`{"range":"`+strings.Repeat("a", maxBody)+`"}`))}
	var in api.AddNodes
	err := q.readRows(&in, &in.Rows)
	if err == nil || !strings.Contains(err.Error(), "too large: more than 64 MiB") || !strings.Contains(err.Error(), "in parts") {
		t.Error(err)
	}
}

func TestAttrs_are_appended_as_JSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := api.NodeAttrs{Result: api.Result{Node: rapid.String().Draw(t, "node")}, Attrs: []api.AttrValue{}}
		if rapid.Bool().Draw(t, "wrong") {
			want.Error = &api.Error{Code: api.Failed, What: rapid.String().Draw(t, "what")}
		}
		for range rapid.IntRange(0, 3).Draw(t, "attrs") {
			want.Attrs = append(want.Attrs, api.AttrValue{
				Attr: rapid.String().Draw(t, "attr"), Value: rapid.String().Draw(t, "value"), From: rapid.String().Draw(t, "from"),
				Written: rapid.String().Draw(t, "written"), Secret: rapid.Bool().Draw(t, "secret"),
			})
		}
		var got api.NodeAttrs
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &want); err != nil { // what is no UTF-8 becomes it
			t.Fatal(err)
		}
		if err := json.Unmarshal(appendAttrs(nil, &want), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, got, want)
		}
	})
}
