package tree

import (
	"bytes"
	"path/filepath"
	"testing"

	"muster/internal/pan/java"
)

// What is written is read back: XML and JSON of one tree give one tree, which is written as before.
func TestReadXML_and_ReadJSON_give_back_what_was_written(t *testing.T) {
	roots := map[string]*Dict{"empty": NewDict(0), "profile": profile(100)}
	in, _ := filepath.Glob("testdata/golden/*.in")
	for _, file := range in {
		roots[file] = decodeRoot(t, read(t, file))
	}
	for i := range 50 {
		roots["random"+Index(i).String()] = decodeRoot(t, newGenerator(*seed+uint64(i)).json(nil, 0))
	}
	for name, root := range roots {
		for key, reader := range map[string]func([]byte) (*Dict, error){"pan": ReadXML, "json": ReadJSON} {
			f, _ := FormatOf(key)
			var first, second bytes.Buffer
			if err := f.Write(&first, root); err != nil {
				t.Fatal(err)
			}
			back, err := reader(first.Bytes())
			if err != nil {
				t.Errorf("%s: %s: %v", name, key, err)
				continue
			}
			if s := text(t, root); s != java.Output(s) {
				continue // a question mark in the file
			}
			if changes := Diff(root, back); len(changes) > 0 {
				t.Errorf("%s: %s: another tree: %v", name, key, changes[0])
			}
			if err := f.Write(&second, back); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Errorf("%s: %s: written again it is another one", name, key)
			}
		}
	}
}

func TestReadXML_says_what_is_wrong_and_where(t *testing.T) {
	const head = `<?xml version="1.0" encoding="UTF-8"?><nlist format="pan" name="profile">`
	for in, want := range map[string]string{
		"":                                "profile in XML: line 1: EOF",
		"<profile/>":                      `profile in XML: line 1: the root is not <nlist format="pan">`,
		head:                              "profile in XML: line 1: XML syntax error on line 1: unexpected EOF",
		head + "\nx\n</nlist>":            `profile in XML: line 3: text "\nx\n" between elements`,
		head + "\n<long>1</long></nlist>": "profile in XML: line 2: empty string cannot be used as a path term or nlist key",
		head + "\n<long name='0'>1</long></nlist>":              `profile in XML: line 2: name "0" cannot stand here or stands here twice`,
		head + "<long name='a'>1</long><long name='a'>1</long>": `profile in XML: line 1: name "a" cannot stand here or stands here twice`,
		head + "<long name='a'>1.0</long></nlist>":              `profile in XML: line 1: strconv.ParseInt: parsing "1.0": invalid syntax`,
		head + "<double name='a'>0x1p1</double></nlist>":        `profile in XML: line 1: "0x1p1" is no double`,
		head + "<boolean name='a'>yes</boolean></nlist>":        `profile in XML: line 1: "yes" is no boolean`,
		head + "<string name='a'><long/></string></nlist>":      "profile in XML: line 1: <long> inside a property",
		head + "<undef name='a'/></nlist>":                      "profile in XML: line 1: <undef> is none of nlist, list, string, long, double, boolean",
		head + "<string name='a' encoding='base64'>?</string>":  "profile in XML: line 1: illegal base64 data at input byte 0",
		head + "</nlist><nlist/>":                               "profile in XML: line 1: a second root, <nlist>",
	} {
		if _, err := ReadXML([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", in, err, want)
		}
	}
}

func TestReadJSON_takes_words_only_for_doubles(t *testing.T) {
	root, err := ReadJSON([]byte(`{"a": -Infinity, "b": NaN}`))
	if err != nil || text(t, root) != "{ a, -Infinity, b, NaN }" {
		t.Errorf("%v, %v", root, err)
	}
	for in, want := range map[string]string{
		`{"a": x}`: "profile in JSON: invalid JSON value {\"a\": x}: com.google.gson.stream.MalformedJsonException: Expected value at line 1 column 8 path $.a",
		`[1]`:      "profile in JSON: the root is of type list, not nlist",
		``:         "profile in JSON: the root is of type null, not nlist",
	} {
		if _, err := ReadJSON([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", in, err, want)
		}
	}
}

func TestDigest_is_that_of_the_json_file(t *testing.T) {
	got, err := Digest(dictOf("a", Long(1)))
	const want = "8164669836e51c324aa26742645b519732d41a60b8047ebdea8e769ef8565d79" // sha256sum of the file
	if err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func FuzzReadXML(f *testing.F) {
	for _, s := range []string{
		`<nlist format="pan"><list name="a"><long>1</long><nlist/></list><boolean name="t">true</boolean></nlist>`,
		`<nlist format="pan"><string name="s" encoding="base64">AQ==</string><string name="u">&#13;&lt;&#128512;</string></nlist>`,
		`<nlist format="pan"><double name="d">-1.0E10</double><double name="n">NaN</double></nlist>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := ReadXML(b)
		if err != nil {
			return
		}
		f, _ := FormatOf("pan")
		var again bytes.Buffer
		if err := f.Write(&again, root); err != nil {
			t.Fatal(err)
		}
		if back, err := ReadXML(again.Bytes()); err != nil || !Equal(root, back) {
			t.Errorf("%q: %v, %v", again.Bytes(), back, err)
		}
	})
}
