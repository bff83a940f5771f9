package model

import (
	"bytes"
	"encoding/json"
	"hash/maphash"
	"slices"
	"time"
)

// Documents lie in the store as JSON. A site has hundreds of thousands of nodes, nearly all of their text is alike, and each is written and
// read with every change: nodes are therefore written and read by hand, in the one form that encoding/json gives them; whatever looks
// otherwise is left to encoding/json. The result is the same.

// Encode writes a document as json.Marshal does.
func Encode(doc any) ([]byte, error) {
	n, ok := doc.(*Node)
	if !ok || n == nil || n.Lock != nil {
		return json.Marshal(doc)
	}
	b := append(make([]byte, 0, 256+48*len(n.Attrs)), `{"name":`...)
	b = appendText(b, string(n.Name))
	b = appendTexts(b, `,"aliases":[`, n.Aliases)
	b = appendTexts(b, `,"groups":[`, n.Groups)
	if len(n.Attrs) > 0 {
		var room [64]AttrName
		names := room[:0]
		for a := range n.Attrs {
			names = append(names, a)
		}
		slices.Sort(names)
		for i, a := range names {
			if i == 0 {
				b = append(b, `,"attrs":{`...)
			} else {
				b = append(b, ',')
			}
			b = append(appendText(b, string(a)), ':')
			b = appendText(b, n.Attrs[a])
		}
		b = append(b, '}')
	}
	if !n.Created.IsZero() {
		at, err := n.Created.MarshalJSON()
		if err != nil {
			return json.Marshal(doc)
		}
		b = append(append(b, `,"created":`...), at...)
	}
	return append(b, '}'), nil
}

func appendTexts[S ~string](b []byte, before string, list []S) []byte {
	for i, s := range list {
		if i == 0 {
			b = append(b, before...)
		} else {
			b = append(b, ',')
		}
		b = appendText(b, string(s))
	}
	if len(list) > 0 {
		b = append(b, ']')
	}
	return b
}

// plainText says that a byte stands for itself in the JSON that encoding/json writes.
func plainText(c byte) bool {
	return ' ' <= c && c <= '~' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
}

// Decode reads the document of a family from its JSON form.
func Decode(k Kind, b []byte) (any, error) { return new(Decoder).Decode(k, b) }

// Decoder is Decode for many documents: what many of them have alike is kept once. Its own memory is bounded. The zero value is ready; it is not
// for several goroutines at a time.
type Decoder struct {
	names  map[string]AttrName
	groups map[string][]GroupName // by their JSON
	values []shared               // by the hash of their text
	seed   maphash.Seed
	when   string // JSON of the time that was read last
	time   time.Time
	attrs  []attrText // of the document at hand
	own    []byte     // values that no other document has, as far as is known
}

// shared is a value of attributes. It is kept when it is met for the second time: most of those that are met once are one node's own.
type shared struct {
	hash uint64
	text string
}

// attrText is an attribute that was read: its value is text, or if that is empty own[from:to] of the decoder.
type attrText struct {
	name     AttrName
	text     string
	from, to int
}

// What a decoder keeps at most.
const (
	sharedNames  = 1 << 14
	sharedGroups = 1 << 12
	sharedValues = 1 << 13 // a power of two
	sharedLength = 128     // bytes of a value
)

// Decode reads the document of a family from its JSON form.
func (d *Decoder) Decode(k Kind, b []byte) (any, error) {
	if k == KindNode {
		if n := d.node(b); n != nil {
			return n, nil
		}
	}
	doc, err := NewDoc(k)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// node reads what Encode writes; nil when it is anything else.
func (d *Decoder) node(b []byte) *Node {
	if d.names == nil {
		d.names, d.groups, d.values, d.seed = map[string]AttrName{}, map[string][]GroupName{}, make([]shared, sharedValues), maphash.MakeSeed()
	}
	n := new(Node)
	b, ok := bytes.CutPrefix(b, []byte(`{"name":`))
	if !ok {
		return nil
	}
	name, b, ok := cutText(b)
	if !ok {
		return nil
	}
	n.Name = NodeName(name)
	if rest, is := bytes.CutPrefix(b, []byte(`,"aliases":[`)); is {
		if n.Aliases, b, ok = cutTexts[NodeName](rest); !ok {
			return nil
		}
	}
	if rest, is := bytes.CutPrefix(b, []byte(`,"groups":[`)); is {
		if n.Groups, b, ok = d.cutGroups(rest); !ok {
			return nil
		}
	}
	if rest, is := bytes.CutPrefix(b, []byte(`,"attrs":{`)); is {
		if n.Attrs, b, ok = d.cutAttrs(rest); !ok {
			return nil
		}
	}
	if rest, is := bytes.CutPrefix(b, []byte(`,"created":`)); is {
		at, _, found := cutText(rest)
		if !found {
			return nil
		}
		at, b = rest[:len(at)+2], rest[len(at)+2:]
		if string(at) != d.when {
			if d.time.UnmarshalJSON(at) != nil {
				d.when = ""
				return nil
			}
			d.when = string(at)
		}
		n.Created = d.time
	}
	if string(b) != "}" {
		return nil
	}
	return n
}

// cutText cuts a string off that stands for itself.
func cutText(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for i, c := range b[1:] {
		if !plainText(c) {
			return b[1 : i+1], b[i+2:], c == '"'
		}
	}
	return nil, nil, false
}

// cutTexts cuts a list off that is not empty, and whose bracket is cut off.
func cutTexts[S ~string](b []byte) (list []S, rest []byte, ok bool) {
	for {
		text, rest, ok := cutText(b)
		if !ok || len(rest) == 0 {
			return nil, nil, false
		}
		list = append(list, S(text))
		switch b = rest[1:]; rest[0] {
		case ']':
			return slices.Clip(list), b, true
		case ',':
		default:
			return nil, nil, false
		}
	}
}

// cutGroups is cutTexts; the same groups are one list.
func (d *Decoder) cutGroups(b []byte) (list []GroupName, rest []byte, ok bool) {
	end := bytes.IndexByte(b, ']')
	if end < 0 {
		return nil, nil, false
	}
	if list, ok := d.groups[string(b[:end])]; ok {
		return list, b[end+1:], true
	}
	list, rest, ok = cutTexts[GroupName](b)
	if ok && len(rest) == len(b)-end-1 {
		if len(d.groups) >= sharedGroups {
			clear(d.groups)
		}
		d.groups[string(b[:end])] = list
	}
	return list, rest, ok
}

// cutAttrs cuts a map off that is not empty, and whose brace is cut off.
func (d *Decoder) cutAttrs(b []byte) (attrs map[AttrName]string, rest []byte, ok bool) {
	d.attrs, d.own = d.attrs[:0], d.own[:0]
	for more := true; more; {
		key, rest, ok := cutText(b)
		if !ok || len(rest) == 0 || rest[0] != ':' {
			return nil, nil, false
		}
		a := attrText{name: d.name(key)}
		value, rest, ok := cutText(rest[1:])
		if !ok || len(rest) == 0 || rest[0] != ',' && rest[0] != '}' {
			return nil, nil, false
		}
		if a.text = d.value(value); a.text == "" {
			a.from = len(d.own)
			d.own = append(d.own, value...)
			a.to = len(d.own)
		}
		d.attrs = append(d.attrs, a)
		more, b = rest[0] == ',', rest[1:]
	}
	own := string(d.own)
	attrs = make(map[AttrName]string, len(d.attrs))
	for _, a := range d.attrs {
		if a.text == "" {
			a.text = own[a.from:a.to]
		}
		attrs[a.name] = a.text
	}
	return attrs, b, true
}

func (d *Decoder) name(text []byte) AttrName {
	if a, ok := d.names[string(text)]; ok {
		return a
	}
	if len(d.names) >= sharedNames {
		clear(d.names)
	}
	a := AttrName(text)
	d.names[string(a)] = a
	return a
}

// value returns a value that was met before; "" for another one.
func (d *Decoder) value(text []byte) string {
	if len(text) == 0 || len(text) > sharedLength {
		return ""
	}
	h := maphash.Bytes(d.seed, text)
	v := &d.values[h%sharedValues]
	switch {
	case v.hash != h:
		*v = shared{hash: h}
		return ""
	case v.text == "":
		v.text = string(text)
	case v.text != string(text):
		return ""
	}
	return v.text
}
