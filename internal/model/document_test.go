package model

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// anyText is mostly what names and values are, and now and then what JSON escapes.
func anyText(t *rapid.T, label string) string {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z0-9.]{1,6}`), rapid.StringMatching(`[ -~]{0,40}`), rapid.String(),
		rapid.SampledFrom([]string{"admin", "{n1/40}", "", "\x7f", "\xff", "a<b>&\u2028", "\"\\"}),
	).Draw(t, label)
}

func anyNode(t *rapid.T) *Node {
	n := &Node{Name: NodeName(anyText(t, "name"))}
	for range rapid.IntRange(0, 3).Draw(t, "aliases") {
		n.Aliases = append(n.Aliases, NodeName(anyText(t, "alias")))
	}
	for range rapid.IntRange(0, 3).Draw(t, "groups") {
		n.Groups = append(n.Groups, GroupName(anyText(t, "group")))
	}
	if rapid.Bool().Draw(t, "described") {
		n.Attrs = map[AttrName]string{}
		for range rapid.IntRange(0, 8).Draw(t, "attrs") {
			n.Attrs[AttrName(anyText(t, "attr"))] = anyText(t, "value")
		}
	}
	if rapid.Bool().Draw(t, "made") {
		zone := time.FixedZone("", 60*rapid.IntRange(-12*60, 14*60).Draw(t, "zone"))
		n.Created = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).In(zone)
	}
	if rapid.IntRange(0, 9).Draw(t, "locked") == 0 {
		n.Lock = &Lock{Actor: anyText(t, "actor"), Time: n.Created}
	}
	return n
}

// What is written and read by hand is as encoding/json has it, whatever the decoder has read before.
func TestDocuments_are_those_of_encoding_json(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := new(Decoder)
		for range 4 {
			n := anyNode(t)
			want, err := json.Marshal(n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Encode(n)
			if err != nil || string(got) != string(want) {
				t.Fatalf("Encode: %s, %v\nwant    %s", got, err, want)
			}
			for range 3 { // the third time its values are shared
				sameAsJSON(t, d, want)
			}
		}
	})
}

func sameAsJSON(t interface{ Fatalf(string, ...any) }, d *Decoder, text []byte) {
	want := new(Node)
	wrong := json.Unmarshal(text, want)
	got, err := d.Decode(KindNode, text)
	if (wrong != nil) != (err != nil) || err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("Decode(%q): %+v, %v\nwant %+v, %v", text, got, err, want, wrong)
	}
}

func FuzzDecodeNode(f *testing.F) {
	for _, s := range []string{
		`{"name":"n1","aliases":["a"],"groups":["g","h"],"attrs":{"bmc.user":"admin","custom.a":""},"created":"2026-11-20T06:22:13.5+01:00"}`,
		`{"name":"n1","attrs":{"a":"1","a":"2"}}`, `{"name":"n1","groups":[]}`, `{"name":"n1","attrs":{}}`, `{"name":"n1","lock":null}`, `{"name":"n1"} `,
		`{"name":"n1","groups":["a]","b"]}`, `{"name":"n\u0031"}`, `{"name":"n1","created":"yesterday"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d := new(Decoder)
		for range 3 {
			sameAsJSON(t, d, text)
		}
	})
}

// Of what a hundred nodes have alike there is one copy, and what one has of its own is kept by nobody else.
func TestDecoder_keeps_once_what_nodes_have_alike(t *testing.T) {
	d := new(Decoder)
	text := func(own string) []byte {
		b, err := Encode(&Node{Name: NodeName("n" + own), Groups: []GroupName{"a", "b"}, Attrs: map[AttrName]string{"bmc.user": "administrator", "custom.serial": "CZ" + own}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	read := func(b []byte) func() {
		return func() {
			if _, err := d.Decode(KindNode, b); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 100 {
		read(text(string(rune('A' + i%26))))()
	}
	// The node, its name, its map with two parts, and its own values.
	if got := testing.AllocsPerRun(100, read(text("0"))); got > 6 {
		t.Errorf("%v allocations for one more node, want at most 6", got)
	}
	for i := range 1 << 15 { // values that are new again and again
		b := []byte(`{"name":"n","attrs":{"custom.` + string(rune('a'+i%26)) + `":"` + time.Duration(i).String() + `"}}`)
		read(b)()
	}
	if len(d.values) != sharedValues || len(d.names) > sharedNames {
		t.Errorf("%d values and %d names are kept", len(d.values), len(d.names))
	}
}
