package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
)

// edit is one assignment of a request, understood. A secret is not readable any more from here on.
type edit struct {
	attr      model.AttrName
	op, value string
	secret    model.Secret
}

// The fields of documents that are set as attributes are.
const (
	groupsField  = "groups"
	aliasesField = "aliases"
	rangeField   = "range" // of a group
)

// editsOf reads the assignments of a request.
func editsOf(set []api.Assignment) []edit { return appendEdits(nil, set) }

// appendEdits is editsOf into a list. What names a secret attribute without being sent as a secret is one, too.
func appendEdits(out []edit, set []api.Assignment) []edit {
	out = slices.Grow(out, len(set))
	for _, a := range set {
		e := edit{attr: model.AttrName(a.Attr), op: a.Op, value: a.Value}
		if e.op == "" {
			e.op = "="
		}
		switch a.Attr {
		case "group":
			e.attr = groupsField
		case "alias":
			e.attr = aliasesField
		}
		if a.Secret != nil {
			e.value = a.Secret.Plain
		}
		if doc, ok := model.Lookup(e.attr); ok && doc.Secret && e.value != "" && e.value != model.Masking {
			e.secret, e.value = model.NewSecret(e.value), ""
		}
		out = append(out, e)
	}
	return out
}

// secrets says that one of the edits is secret: then the values of no two documents are the same.
func secrets(set []edit) bool {
	return slices.ContainsFunc(set, func(e edit) bool { return !e.secret.Empty() })
}

// assigned tells edits without their secrets.
func assigned(set []edit) string {
	parts := make([]string, len(set))
	for i, e := range set {
		v := e.value
		if !e.secret.Empty() {
			v = masked
		}
		parts[i] = string(e.attr) + e.op + v
	}
	return strings.Join(parts, " ")
}

const masked = "********"

// writer puts edits into documents, and remembers everything that is wrong.
type writer struct {
	sealer   *identity.Sealer
	problems []*api.Error
	more     int // problems that are not told
	line     int // of the file, which the edits at hand stand in
}

// mostProblems is how many problems of one request are told.
const mostProblems = 200

// writer makes one for a change that is built on the snapshot.
func (s *Server) writer(snap *model.Snapshot) (*writer, error) {
	z, err := s.keys.Sealer(snap.SealKeys(), time.Now())
	return &writer{sealer: z}, err
}

// wrong remembers a problem. One that was told of the same line is not told again of the next node.
func (w *writer) wrong(err error) {
	e := *problem(err)
	e.Line = w.line
	if len(w.problems) == mostProblems {
		w.more++
		return
	}
	for _, have := range w.problems {
		if have.Line == e.Line && have.What == e.What && have.Why == e.Why {
			return
		}
	}
	w.problems = append(w.problems, &e)
}

// attrs returns the attributes of a document with the edits made; the given map stays as it is. Fields of documents are left alone.
func (w *writer) attrs(kind model.Kind, name string, attrs map[model.AttrName]string, set []edit) map[model.AttrName]string {
	out := make(map[model.AttrName]string, max(len(attrs), len(set)))
	maps.Copy(out, attrs)
	for _, e := range set {
		switch {
		case e.attr == groupsField && kind == model.KindNode, e.attr == aliasesField && kind == model.KindNode, e.attr == rangeField && kind == model.KindGroup:
			continue
		}
		v := e.value
		if !e.secret.Empty() {
			v = w.sealer.Seal(e.secret, identity.Place{Kind: kind, Name: name, Attr: e.attr})
		}
		if err := model.Edit(out, e.attr, e.op, v); err != nil {
			w.wrong(err)
		}
	}
	return out
}

// node makes the edits on a node that nobody else has seen yet.
func (w *writer) node(n *model.Node, set []edit) {
	for _, e := range set {
		var err error
		v := e.value
		if v == model.Masking {
			v = ""
		}
		switch e.attr {
		case groupsField:
			var groups []model.GroupName
			if groups, err = model.AssignGroups(n.Groups, e.op, v); err == nil {
				n.Groups = groups
			}
		case aliasesField:
			var aliases []model.NodeName
			if aliases, err = model.AssignAliases(n.Aliases, e.op, v); err == nil {
				n.Aliases = aliases
			}
		}
		if err != nil {
			w.wrong(err)
		}
	}
	n.Attrs = w.attrs(model.KindNode, string(n.Name), n.Attrs, set)
}

// group makes the edits on a group that nobody else has seen yet.
func (w *writer) group(g *model.Group, set []edit) {
	for _, e := range set {
		if e.attr != rangeField {
			continue
		}
		if e.op != "=" {
			w.wrong(&api.Error{Code: api.Usage, What: "range" + e.op + e.value, Why: "a range is one expression", Do: "Write it as a whole: range='" + g.Range + "," + e.value + "'"})
			continue
		}
		g.Range = e.value
	}
	g.Attrs = w.attrs(model.KindGroup, string(g.Name), g.Attrs, set)
}

// moved returns attributes for a document of another name: what is sealed is sealed for its new place.
func (w *writer) moved(kind model.Kind, from, to string, attrs map[model.AttrName]string) map[model.AttrName]string {
	var out map[model.AttrName]string
	for a, v := range attrs {
		if !identity.Sealed(v) {
			continue
		}
		text, err := w.sealer.Reseal(v, identity.Place{Kind: kind, Name: from, Attr: a}, identity.Place{Kind: kind, Name: to, Attr: a})
		if err != nil {
			w.wrong(&api.Error{Code: api.Failed, What: string(a), Node: from, Why: err.Error(), Do: "Set it again, or take it away: muster set " + from + " " + string(a) + "="})
			continue
		}
		if out == nil {
			out = make(map[model.AttrName]string, len(attrs))
			for a, v := range attrs {
				out[a] = v
			}
		}
		out[a] = text
	}
	if out == nil {
		return attrs
	}
	return out
}

// err is all that is wrong, as one error; nil when nothing is.
func (w *writer) err() error {
	if w.more > 0 {
		return together(append(w.problems, &api.Error{Code: api.Usage, What: fmt.Sprintf("and %d more problems", w.more)}))
	}
	return together(w.problems)
}
