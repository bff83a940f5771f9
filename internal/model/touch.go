package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Touch is what a change did to one document, in a form that can be shown, and taken back: see [Undo].
type Touch struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	// Was is the JSON merge patch (RFC 7386) that makes the old document of the new one; null when there was no old one. Of a removed
	// document it is the whole.
	Was json.RawMessage `json:"was,omitempty"`
	// Now is the merge patch that makes the new document of the old one; null when it was removed, empty when it was added.
	Now json.RawMessage `json:"now,omitempty"`
}

var null = json.RawMessage("null")

// Added says that the change made the document.
func (t *Touch) Added() bool { return bytes.Equal(t.Was, null) }

// Removed says that the change removed the document.
func (t *Touch) Removed() bool { return bytes.Equal(t.Now, null) }

// TouchOf says what a change does to one document. before is nil when the change makes it, after when the change removes it; a nil
// pointer to a document counts as nil. It returns nil when nothing differs. Secrets are in it as the documents hold them: sealed.
func TouchOf(before, after any) (*Touch, error) {
	was, is := head(before), head(after)
	t := &Touch{Kind: is.kind, Name: is.name}
	switch {
	case was.doc == nil && is.doc == nil:
		return nil, nil
	case was.doc == nil:
		t.Was = null
		return t, nil
	case is.doc == nil:
		whole, err := json.Marshal(was.doc)
		return &Touch{was.kind, was.name, whole, null}, err
	case was.kind != is.kind || was.name != is.name:
		return nil, fmt.Errorf("%s %s cannot become %s %s", was.kind, was.name, is.kind, is.name)
	}
	var p patches
	switch d := is.doc.(type) {
	case *Node:
		p.node(was.doc.(*Node), d)
	case *Group:
		o := was.doc.(*Group)
		if o.Range != d.Range {
			p.put("range", text(o.Range), text(d.Range))
		}
		p.attrs(o.Attrs, d.Attrs)
	default:
		x, err := treeOf(was.doc)
		if err != nil {
			return nil, err
		}
		y, err := treeOf(is.doc)
		if err != nil {
			return nil, err
		}
		if to := difference(x, y); len(to) > 0 {
			if t.Now, err = json.Marshal(to); err != nil {
				return nil, err
			}
			t.Was, err = json.Marshal(difference(y, x))
			return t, err
		}
	}
	if len(p.now) == 0 {
		return nil, nil
	}
	t.Was, t.Now = append(p.was, '}'), append(p.now, '}')
	return t, nil
}

// heading is what all documents have.
type heading struct {
	kind Kind
	name string
	rev  Revision
	doc  any // nil when there is none
}

// head reads the heading of a document; that of nil, and of a nil pointer, is empty.
func head(doc any) heading {
	switch d := doc.(type) {
	case *Node:
		if d != nil {
			return heading{KindNode, string(d.Name), d.Revision, d}
		}
	case *Group:
		if d != nil {
			return heading{KindGroup, string(d.Name), d.Revision, d}
		}
	case *Image:
		if d != nil {
			return heading{KindImage, string(d.Name), d.Revision, d}
		}
	case *Deployment:
		if d != nil {
			return heading{KindDeployment, string(d.Node), d.Revision, d}
		}
	case *Identity:
		if d != nil {
			return heading{KindIdentity, string(d.Node), d.Revision, d}
		}
	case *State:
		if d != nil {
			return heading{KindState, string(d.Node), 0, d}
		}
	case *Network:
		if d != nil {
			return heading{KindNetwork, string(d.Name), d.Revision, d}
		}
	case *User:
		if d != nil {
			return heading{KindUser, string(d.Name), d.Revision, d}
		}
	case *Role:
		if d != nil {
			return heading{KindRole, string(d.Name), d.Revision, d}
		}
	case *Manager:
		if d != nil {
			return heading{KindManager, string(d.Name), d.Revision, d}
		}
	case *SealKey:
		if d != nil {
			return heading{KindSealKey, d.ID, d.Revision, d}
		}
	case *Job:
		if d != nil {
			return heading{KindJob, string(d.Name), d.Revision, d}
		}
	case *Work:
		if d != nil {
			return heading{KindWork, string(d.Node), d.Revision, d}
		}
	case *Rollout:
		if d != nil {
			return heading{KindRollout, d.Name, d.Revision, d}
		}
	case *Claim:
		if d != nil {
			return heading{KindClaim, string(d.Node), d.Revision, d}
		}
	}
	return heading{}
}

// Doc returns a document of any family, nil when there is none of that name.
func (s *Snapshot) Doc(k Kind, name string) any {
	var doc any
	switch k {
	case KindNode:
		doc = s.Node(NodeName(name))
	case KindGroup:
		doc = s.Group(GroupName(name))
	case KindImage:
		doc = s.Image(ImageName(name))
	case KindDeployment:
		doc = s.Deployment(NodeName(name))
	case KindIdentity:
		doc = s.Identity(NodeName(name))
	case KindState:
		doc = s.State(NodeName(name))
	case KindNetwork:
		doc = s.Network(NetworkName(name))
	case KindUser:
		doc = s.User(UserName(name))
	case KindRole:
		doc = s.Role(RoleName(name))
	case KindManager:
		doc = s.Manager(ManagerName(name))
	case KindSealKey:
		doc = s.SealKey(name)
	case KindJob:
		doc = s.Job(JobName(name))
	case KindWork:
		doc = s.Work(NodeName(name))
	case KindRollout:
		doc = s.Rollout(name)
	case KindClaim:
		doc = s.Claim(NodeName(name))
	}
	return head(doc).doc
}

// patches are both merge patches of a document, written side by side, without their closing braces. Of 100,000 nodes the way through
// encoding/json would take seconds.
type patches struct{ was, now []byte }

// put sets one member; nil stands for null.
func (p *patches) put(key string, was, now []byte) {
	p.was, p.now = appendMember(p.was, key, was), appendMember(p.now, key, now)
}

func appendMember(b []byte, key string, value []byte) []byte {
	if len(b) == 0 {
		b = append(b, '{')
	} else {
		b = append(b, ',')
	}
	b = append(appendText(b, key), ':')
	if value == nil {
		value = null
	}
	return append(b, value...)
}

func (p *patches) node(was, is *Node) {
	if !slices.Equal(was.Aliases, is.Aliases) {
		p.put("aliases", list(was.Aliases), list(is.Aliases))
	}
	if !slices.Equal(was.Groups, is.Groups) {
		p.put("groups", list(was.Groups), list(is.Groups))
	}
	p.attrs(was.Attrs, is.Attrs)
	if x, y := was.Lock, is.Lock; (x == nil) != (y == nil) || x != nil && (x.Actor != y.Actor || x.Reason != y.Reason || !x.Time.Equal(y.Time) || !x.Expires.Equal(y.Expires)) {
		p.put("lock", x.patch(), y.patch())
	}
	if !was.Created.Equal(is.Created) {
		p.put("created", moment(was.Created), moment(is.Created))
	}
}

func (p *patches) attrs(was, is map[AttrName]string) {
	names := slices.Sorted(differences(was, is))
	if len(names) == 0 {
		return
	}
	var q patches
	for _, a := range names {
		var x, y []byte
		if v, ok := was[a]; ok {
			x = appendText(nil, v)
		}
		if v, ok := is[a]; ok {
			y = appendText(nil, v)
		}
		q.put(string(a), x, y)
	}
	p.put("attrs", append(q.was, '}'), append(q.now, '}'))
}

// patch has every member, so that it makes this lock of any other.
func (l *Lock) patch() []byte {
	if l == nil {
		return nil
	}
	b := appendMember(nil, "actor", appendText(nil, l.Actor))
	b = appendMember(b, "reason", text(l.Reason))
	t, err := l.Time.MarshalJSON()
	if err != nil { // a year beyond 9999: no clock says that
		t = null
	}
	b = appendMember(b, "time", t)
	if until := moment(l.Expires); until != nil {
		b = appendMember(b, "expires", until)
	}
	return append(b, '}')
}

func text(s string) []byte {
	if s == "" {
		return nil
	}
	return appendText(nil, s)
}

func moment(t time.Time) []byte {
	b, err := t.MarshalJSON()
	if err != nil || t.IsZero() {
		return nil
	}
	return b
}

func list[S ~string](in []S) []byte {
	if len(in) == 0 {
		return nil
	}
	b := []byte{'['}
	for i, s := range in {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, string(s))
	}
	return append(b, ']')
}

// appendText writes a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if !plainText(s[i]) {
			q, _ := json.Marshal(s) // of a string it never fails
			return append(b, q...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// treeOf is a document as JSON objects are: without members that are null.
func treeOf(doc any) (map[string]any, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	return readObject(b)
}

func readObject(b []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	return m, nil
}

// difference is the merge patch that makes the second object of the first. Null and absent are the same.
func difference(from, to map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range to {
		x, inside := from[k].(map[string]any)
		y, ok := v.(map[string]any)
		switch {
		case inside && ok:
			if d := difference(x, y); len(d) > 0 {
				out[k] = d
			}
		case !equal(from[k], v):
			out[k] = v
		}
	}
	for k, v := range from {
		if _, ok := to[k]; !ok && v != nil {
			out[k] = nil
		}
	}
	return out
}

// merge applies a merge patch as RFC 7386 §2 says; the target stays as it is.
func merge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, _ := target.(map[string]any)
	out := make(map[string]any, len(t)+len(p))
	maps.Copy(out, t)
	for k, v := range p {
		if v == nil {
			delete(out, k)
			continue
		}
		out[k] = merge(out[k], v)
	}
	return out
}

// equal compares two values of a JSON tree.
func equal(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, equal)
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

// Undo makes the documents that take a change back: of revision rev, whose touches these are, one for each document. It refuses, naming
// each field, where something of it was changed again since. Whether the world is sound with them is for [Check] to say.
func Undo(s *Snapshot, rev Revision, touches []Touch) ([]Op, []Problem) {
	var ops []Op
	var problems []Problem
	for i := range touches {
		t := &touches[i]
		doc, found := t.undo(s, rev)
		if len(found) > 0 {
			problems = append(problems, found...)
			continue
		}
		ops = append(ops, Op{t.Kind, t.Name, doc})
	}
	return ops, problems
}

// undo returns the document as it was before, nil when there was none.
func (t *Touch) undo(s *Snapshot, rev Revision) (any, []Problem) {
	refuse := func(what, why, do string) (any, []Problem) {
		return nil, []Problem{t.problem(what, why, do)}
	}
	is := head(s.Doc(t.Kind, t.Name))
	switch {
	case t.Removed():
		if is.doc != nil {
			return refuse("it is there again", fmt.Sprintf("made anew by change %d", is.rev), "Remove or rename it first")
		}
		doc, err := Decode(t.Kind, t.Was)
		if err != nil {
			return refuse("its record is damaged", err.Error(), "")
		}
		return doc, nil
	case is.doc == nil:
		return refuse("it is not there any more", "a later change removed it", "Undo that one first")
	case t.Added():
		if is.rev != rev {
			return refuse("it was changed since it was made", fmt.Sprintf("by change %d", is.rev), fmt.Sprintf("Undo change %d first, or remove it", is.rev))
		}
		return nil, nil
	}
	now, err := readObject(t.Now)
	if err != nil {
		return refuse("its record is damaged", err.Error(), "")
	}
	was, err := readObject(t.Was)
	if err != nil {
		return refuse("its record is damaged", err.Error(), "")
	}
	doc, tree, err := patched(is.doc, was)
	if err != nil {
		return refuse("its record is damaged", err.Error(), "")
	}
	var found []Problem
	leaves(now, "", func(path string, v any) {
		if is := at(tree, path); !equal(is, v) {
			if strings.HasPrefix(path, "lock\x00") {
				path = "lock"
			}
			why := "it is not set now"
			if is := at(tree, path); is != nil {
				why = "it is " + quoted(t.shown(path, is)) + " now"
			}
			found = append(found, t.problem(t.path(path)+" was changed since", why, "Set it yourself, or undo the later change first"))
		}
	})
	slices.SortFunc(found, func(x, y Problem) int { return strings.Compare(x.What, y.What) })
	return doc, slices.Compact(found)
}

// patched applies a merge patch to a document. It returns what it makes of it, and the members of the given document that the patch
// may touch as a tree. The attributes of nodes and groups, which are many, go no way through JSON; where nothing else changes, nor does the rest.
func patched(doc any, patch map[string]any) (any, map[string]any, error) {
	var attrs *map[AttrName]string // those of the document
	var kept *map[AttrName]string  // those of body
	body := doc
	switch d := doc.(type) {
	case *Node:
		n := *d
		n.Attrs, n.Revision = nil, 0
		body, attrs, kept = &n, &d.Attrs, &n.Attrs
	case *Group:
		g := *d
		g.Attrs, g.Revision = nil, 0
		body, attrs, kept = &g, &d.Attrs, &g.Attrs
	}
	rest := patch
	var own map[AttrName]string
	if attrs != nil {
		rest = maps.Clone(patch)
		delete(rest, "attrs")
		own = maps.Clone(*attrs)
		inside, _ := patch["attrs"].(map[string]any)
		if own == nil && len(inside) > 0 {
			own = map[AttrName]string{}
		}
		for a, v := range inside {
			if v, ok := v.(string); ok {
				own[AttrName(a)] = v
			} else {
				delete(own, AttrName(a))
			}
		}
		if len(rest) == 0 {
			*kept = own
			return body, map[string]any{"attrs": *attrs}, nil
		}
	}
	tree, err := treeOf(body)
	if err != nil {
		return nil, nil, err
	}
	b, err := json.Marshal(merge(tree, rest))
	if err != nil {
		return nil, nil, err
	}
	out, err := Decode(KindOf(doc), b)
	if err != nil {
		return nil, nil, err
	}
	switch d := out.(type) {
	case *Node:
		d.Attrs = own
	case *Group:
		d.Attrs = own
	}
	if attrs != nil {
		tree["attrs"] = *attrs
	}
	return out, tree, nil
}

// leaves yields the members of a patch that are no objects, with their paths; names are parted by "\x00", as those of attributes have dots.
func leaves(patch map[string]any, path string, yield func(path string, v any)) {
	for k, v := range patch {
		if inside, ok := v.(map[string]any); ok && len(inside) > 0 {
			leaves(inside, path+k+"\x00", yield)
			continue
		}
		yield(path+k, v)
	}
}

// at finds a member of a tree, nil when it is not there.
func at(tree map[string]any, path string) any {
	var v any = tree
	for k := range strings.SplitSeq(path, "\x00") {
		switch m := v.(type) {
		case map[string]any:
			v = m[k]
		case map[AttrName]string:
			s, ok := m[AttrName(k)]
			if !ok {
				return nil
			}
			v = s
		default:
			return nil
		}
	}
	return v
}

func (t *Touch) problem(what, why, do string) Problem {
	p := Problem{What: what, Why: why, Do: do}
	switch t.Kind {
	case KindNode:
		p.Node = NodeName(t.Name)
	case KindGroup:
		p.Group = GroupName(t.Name)
	default:
		p.Of = string(t.Kind) + " " + t.Name
	}
	return p
}

// Field is one field that a change touched, for people.
type Field struct {
	Path   string // as it is set: "custom.x", "groups", "alias", "lock", "range", "prefix"
	Was    string // "" when it was not set
	Now    string // "" when it is not set any more
	Secret bool   // Was and Now are masked
}

// Before returns the document as it was before the change, nil where there was none; after is what the change made of it.
func (t *Touch) Before(after any) (any, error) {
	switch {
	case t.Added():
		return nil, nil
	case t.Removed():
		return Decode(t.Kind, t.Was)
	case head(after).doc == nil:
		return nil, fmt.Errorf("%s %s is not there", t.Kind, t.Name)
	}
	was, err := readObject(t.Was)
	if err != nil {
		return nil, err
	}
	doc, _, err := patched(after, was)
	return doc, err
}

// Fields returns what a change did to the document, field by field in natural order; of a removed document all that it had, of an
// added one nothing.
func (t *Touch) Fields() []Field {
	found := map[string]*Field{}
	note := func(patch json.RawMessage, take func(*Field) *string) {
		m, err := readObject(patch)
		if err != nil {
			return
		}
		if l, ok := m["lock"].(map[string]any); ok {
			m["lock"] = lockText(l)
		}
		leaves(m, "", func(path string, v any) {
			if t.Removed() && path == "name" {
				return
			}
			f := found[path]
			if f == nil {
				f = &Field{Path: t.path(path)}
				found[path] = f
			}
			f.Secret = f.Secret || t.secret(path, v)
			*take(f) = t.shown(path, v)
		})
	}
	note(t.Was, func(f *Field) *string { return &f.Was })
	note(t.Now, func(f *Field) *string { return &f.Now })
	out := make([]Field, 0, len(found))
	for _, f := range found {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(x, y Field) int { return Natural(x.Path, y.Path) })
	return out
}

// lockText says who locked, and why.
func lockText(l map[string]any) string {
	if r, ok := l["reason"].(string); ok {
		return fmt.Sprintf("%s: %s", l["actor"], r)
	}
	return fmt.Sprint(l["actor"])
}

// path is the path of a field as people set it.
func (t *Touch) path(path string) string {
	switch {
	case t.Kind == KindNode && path == "aliases":
		return "alias"
	case t.Kind == KindNode || t.Kind == KindGroup:
		path = strings.TrimPrefix(path, "attrs\x00")
	}
	return strings.ReplaceAll(path, "\x00", ".")
}

// shown is the value of a field for people.
func (t *Touch) shown(path string, v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if v != "" && t.secret(path, v) {
			return masked
		}
		if v == "" {
			return Masking
		}
		return v
	case []any:
		out := make([]string, len(v))
		for i := range v {
			out[i] = fmt.Sprint(v[i])
		}
		return strings.Join(out, ",")
	case map[string]any:
		return lockText(v) // the only object that nodes and groups have besides attributes
	}
	return fmt.Sprint(v)
}

func (t *Touch) secret(path string, v any) bool {
	if s, ok := v.(string); ok && strings.HasPrefix(s, "sealed:") {
		return true
	}
	a, ok := strings.CutPrefix(path, "attrs\x00")
	return ok && isSecret(AttrName(a)) || path == "wrapped" || path == "token_hash"
}
