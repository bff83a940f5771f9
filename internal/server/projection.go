package server

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"muster/internal/api"
	"muster/internal/model"
)

// projection is what a client wants to know of nodes: it is read once, and costs each node only what is in it. Documents are
// appended as JSON by hand: they are most of what the API sends.
type projection struct {
	snap  *model.Snapshot
	want  uint        // fields of api.Node
	attrs []string    // as asked for: names and globs
	plain []plainAttr // the same, sorted, when there are neither globs nor unknown names among them
	blame bool
}

type plainAttr struct {
	name   model.AttrName
	secret bool
}

// nodeFields are the fields of api.Node that can be asked for; the name is always there.
var nodeFields = []string{"aliases", "groups", "lock", "created", "revision", "attrs", "name"}

// The same as bits.
const (
	wantAliases uint = 1 << iota
	wantGroups
	wantLock
	wantCreated
	wantRevision
	wantAttrs
)

func newProjection(snap *model.Snapshot, in api.NodeQuery) (*projection, error) {
	p := &projection{snap: snap, attrs: in.Attrs, blame: in.Blame}
	for _, f := range in.Fields {
		i := slices.Index(nodeFields, f)
		if i < 0 {
			return nil, noField("node", f, nodeFields)
		}
		p.want |= 1 << i
	}
	switch {
	case len(in.Attrs) > 0:
		p.want |= wantAttrs
	case len(in.Fields) == 0:
		p.want = ^uint(0)
	}
	p.plan()
	return p, nil
}

// plan finds out whether the attributes can be looked up one by one.
func (p *projection) plan() {
	if len(p.attrs) > 0 {
		p.plain = make([]plainAttr, 0, len(p.attrs))
	}
	for _, a := range p.attrs {
		doc, known := model.Lookup(model.AttrName(a))
		if !known {
			p.plain = nil
			return
		}
		p.plain = append(p.plain, plainAttr{model.AttrName(a), doc.Secret})
	}
	if len(p.plain) < 2 {
		return
	}
	slices.SortFunc(p.plain, func(a, b plainAttr) int { return model.Natural(string(a.name), string(b.name)) })
	p.plain = slices.Compact(p.plain)
}

// values are the effective values of a node's attributes, sorted, secrets masked. What cannot be worked out is told.
func (p *projection) values(to []model.Value, n *model.Node) ([]model.Value, error) {
	if len(p.plain) == 0 || p.blame {
		return p.snap.Attrs(n, p.attrs)
	}
	for _, a := range p.plain {
		v, err := p.snap.Attr(n, a.name)
		if err != nil {
			return p.snap.Attrs(n, p.attrs) // tells all that is wrong
		}
		if a.secret && v != "" {
			v = mask
		}
		to = append(to, model.Value{Name: a.name, Value: v, Secret: a.secret})
	}
	return to, nil
}

// mask is what is shown of a secret.
const mask = "********"

// node appends an api.Node. failed says that some attribute could not be worked out.
func (p *projection) node(b []byte, n *model.Node) (_ []byte, failed bool) {
	b = append(b, `{"name":`...)
	b = appendString(b, string(n.Name))
	if p.want&wantAliases != 0 && len(n.Aliases) > 0 {
		b = appendStrings(append(b, `,"aliases":`...), n.Aliases)
	}
	if p.want&wantGroups != 0 && len(n.Groups) > 0 {
		b = appendStrings(append(b, `,"groups":`...), n.Groups)
	}
	if p.want&wantLock != 0 && n.Lock != nil {
		b = appendJSON(append(b, `,"lock":`...), n.Lock)
	}
	if p.want&wantCreated != 0 && !n.Created.IsZero() {
		b = append(b, `,"created":"`...)
		b = append(n.Created.AppendFormat(b, time.RFC3339Nano), '"')
	}
	if p.want&wantRevision != 0 {
		b = strconv.AppendInt(append(b, `,"revision":`...), int64(n.Revision), 10)
	}
	if p.want&wantAttrs != 0 {
		b, failed = p.effective(b, n)
	}
	return append(b, '}'), failed
}

func (p *projection) effective(b []byte, n *model.Node) ([]byte, bool) {
	var room [8]model.Value
	values, err := p.values(room[:0], n)
	for i, v := range values {
		b = append(b, either(i == 0, `,"attrs":{`, `,`)...)
		b = append(appendString(b, string(v.Name)), ':')
		b = appendString(b, v.Value)
	}
	if len(values) > 0 {
		b = append(b, '}')
	}
	if p.blame && len(values) > 0 {
		for i, v := range values {
			b = append(b, either(i == 0, `,"blame":{`, `,`)...)
			b = append(appendString(b, string(v.Name)), `:{"from":`...)
			b = appendString(b, v.From)
			if v.Written != "" && !v.Secret {
				b = appendString(append(b, `,"written":`...), v.Written)
			}
			b = append(b, '}')
		}
		b = append(b, '}')
	}
	if err != nil {
		b = appendJSON(append(b, `,"error":`...), cannotTell(n, err))
	}
	return b, err != nil
}

// line appends an api.NodeAttrs with its newline.
func (p *projection) line(b []byte, n *model.Node) (_ []byte, failed bool) {
	var room [8]model.Value
	values, err := p.values(room[:0], n)
	b = appendString(append(b, `{"node":`...), string(n.Name))
	if err != nil {
		b = appendJSON(append(b, `,"error":`...), cannotTell(n, err))
	}
	b = append(b, `,"attrs":[`...)
	for i, v := range values {
		b = append(b, either(i == 0, `{"attr":`, `,{"attr":`)...)
		b = append(appendString(b, string(v.Name)), `,"value":`...)
		b = appendString(b, v.Value)
		if v.Secret && v.Value != "" {
			b = append(b, `,"secret":true`...)
		}
		if p.blame {
			if v.From != "" {
				b = appendString(append(b, `,"from":`...), v.From)
			}
			if v.Written != "" && !v.Secret {
				b = appendString(append(b, `,"written":`...), v.Written)
			}
		}
		b = append(b, '}')
	}
	return append(b, "]}\n"...), err != nil
}

// appendAttrs appends an api.NodeAttrs with its newline, as encoding/json does.
func appendAttrs(b []byte, line *api.NodeAttrs) []byte {
	b = appendString(append(b, `{"node":`...), line.Node)
	if line.Error != nil {
		b = appendJSON(append(b, `,"error":`...), line.Error)
	}
	b = append(b, `,"attrs":[`...)
	for i, v := range line.Attrs {
		b = append(b, either(i == 0, `{"attr":`, `,{"attr":`)...)
		b = append(appendString(b, v.Attr), `,"value":`...)
		b = appendString(b, v.Value)
		if v.From != "" {
			b = appendString(append(b, `,"from":`...), v.From)
		}
		if v.Written != "" {
			b = appendString(append(b, `,"written":`...), v.Written)
		}
		if v.Secret {
			b = append(b, `,"secret":true`...)
		}
		b = append(b, '}')
	}
	return append(b, "]}\n"...)
}

func cannotTell(n *model.Node, err error) *api.Error {
	return &api.Error{Code: api.Failed, What: "get", Why: err.Error(), Node: string(n.Name)}
}

func either(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

// appendString appends a JSON string. Names and values are plain ASCII but for a few.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return appendJSON(b, strings.ToValidUTF8(s, "\uFFFD"))
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendStrings[S ~string](b []byte, list []S) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, string(s))
	}
	return append(b, ']')
}

func appendJSON(b []byte, v any) []byte {
	j, err := json.Marshal(v)
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, j...)
}
