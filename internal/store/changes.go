package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"muster/internal/model"
)

// Doc names a document.
type Doc struct {
	Kind model.Kind `json:"kind"`
	Name string     `json:"name"`
}

func (d Doc) compare(o Doc) int {
	return cmp.Or(cmp.Compare(d.Kind, o.Kind), cmp.Compare(d.Name, o.Name))
}

// ChangeQuery says which changes of the audit trail are wanted; the zero value wants all.
type ChangeQuery struct {
	// Nodes and Docs want the changes that touched one of these nodes, or one of these documents of other families (group, network, user, role, image).
	// Both nil means all changes.
	Nodes  map[model.NodeName]bool
	Docs   map[Doc]bool
	Actor  string    // by this actor, or by those that the glob matches (path.Match); empty means by any
	Verb   string    // of this verb, or of those that the glob matches; empty means of any
	Since  time.Time // of this time or later
	After  model.Revision
	Before model.Revision // zero means no bound
	Limit  int            // how many at most, the newest ones; zero means no limit
	// Touches wants Change.Touches filled in: of the wanted nodes and documents, of all when both are nil.
	Touches bool
}

// ChangesLost is the verb of what Changes returns in the place of changes that this manager never had: they were no longer kept when it was back after a long
// time. Of what they touched nothing is known.
const ChangesLost = "changes.lost"

// Changes returns the wanted changes that have a verb, the newest last, without their events (see Events: those of revision r have the Seq r<<16+1 and
// following) and documents. Everything that was committed before the call is there, back to what Options.ChangeBytes keeps, or [ChangesLost].
func (s *Store) Changes(q ChangeQuery) ([]model.Change, error) {
	out, _, err := s.changesOf(q)
	return out, err
}

// ChangesAfter is Changes, and says whether these are all after q.After: older ones are no longer kept, and a manager that was away for long lacks
// some in between.
func (s *Store) ChangesAfter(q ChangeQuery) (_ []model.Change, all bool, err error) {
	if s.audit.oldest()>>partBits > int64(q.After)+1 {
		return nil, false, nil
	}
	return s.changesOf(q)
}

func (s *Store) changesOf(q ChangeQuery) (_ []model.Change, all bool, err error) {
	to, err := s.audit.now()
	if err != nil {
		return nil, false, err
	}
	all = true
	w := newWanted(&q)
	defer w.unpack.close()
	var out []model.Change
	in := span{since: q.Since, before: int64(q.Before) << partBits}
	if q.After > 0 {
		in.after = int64(q.After)<<partBits | maxPart
	}
	err = s.audit.back(to, in, func(seq int64, b []byte) bool {
		all = all && !isGap(b)
		if c, ok := w.want(seq, b); ok {
			out = append(out, c)
		}
		if q.Limit > 0 && len(out) >= q.Limit {
			all = false
			return false
		}
		return true
	})
	slices.Reverse(out)
	return out, all, err
}

// Change returns the change of a revision with all its touches, and without its events and documents; nil when there is none, or it is not kept any more.
func (s *Store) Change(rev model.Revision) (*model.Change, error) {
	found, err := s.Changes(ChangeQuery{After: rev - 1, Before: rev + 1, Touches: true})
	if err != nil || len(found) == 0 || found[0].Verb == ChangesLost {
		return nil, err
	}
	return &found[0], nil
}

// wanted is a query, prepared for looking at the bytes of lines before they are decoded.
type wanted struct {
	*ChangeQuery
	set         map[Doc]bool // nil means all
	docs        []Doc        // the set in order
	actor, verb []byte       // as they stand in a line
	unpack      touchReader
}

func newWanted(q *ChangeQuery) *wanted {
	w := &wanted{ChangeQuery: q}
	if q.Nodes != nil || q.Docs != nil {
		w.set = make(map[Doc]bool, len(q.Nodes)+len(q.Docs))
		for n, in := range q.Nodes {
			if in {
				w.set[Doc{model.KindNode, string(n)}] = true
			}
		}
		for d, in := range q.Docs {
			if in {
				w.set[d] = true
			}
		}
		w.docs = slices.SortedFunc(maps.Keys(w.set), Doc.compare)
		if w.docs == nil {
			w.docs = []Doc{}
		}
	}
	member := func(name, value string) []byte {
		if value == "" || strings.ContainsAny(value, `*?[\\`) {
			return nil // a glob is looked at when the line is decoded
		}
		b, _ := json.Marshal(value)
		return append([]byte(`,"`+name+`":`), b...)
	}
	w.actor, w.verb = member("actor", q.Actor), member("verb", q.Verb)
	return w
}

// means says that a name, a glob or nothing asks for the value.
func means(asked, value string) bool {
	ok, err := path.Match(asked, value)
	return asked == "" || asked == value || ok && err == nil
}

// want decodes a line when it is a change that is wanted. What can be told from the bytes is told from them: most lines of a
// long journal are never decoded.
func (w *wanted) want(seq int64, b []byte) (model.Change, bool) {
	if isGap(b) {
		return w.lost(seq, b)
	}
	head := b
	for _, mark := range [][]byte{plainMark, packsMark} {
		if i := bytes.Index(b, mark); i >= 0 {
			head = append(b[:i:i], '}')
			break
		}
	}
	var touches []model.Touch
	var err error
	if !bytes.Contains(head, w.actor) || !bytes.Contains(head, w.verb) {
		return model.Change{}, false
	}
	if w.set != nil {
		if touches, err = w.unpack.of(b, w.docs, w.set); err != nil || len(touches) == 0 {
			return model.Change{}, false
		}
	}
	var c model.Change
	if json.Unmarshal(head, &c) != nil || c.Time.Before(w.Since) || !means(w.Actor, c.Actor) || !means(w.Verb, c.Verb) {
		return model.Change{}, false
	}
	if w.Touches && w.set == nil {
		if touches, err = w.unpack.all(b); err != nil {
			return model.Change{}, false
		}
	}
	if w.Touches {
		c.Touches = touches
	}
	return c, true
}

// lost is what stands for a gap.
func (w *wanted) lost(seq int64, b []byte) (model.Change, bool) {
	var l gapLine
	if json.Unmarshal(b, &l) != nil || l.Time.Before(w.Since) || !means(w.Actor, "") || !means(w.Verb, ChangesLost) {
		return model.Change{}, false
	}
	next := model.Revision(seq>>partBits) + 1
	return model.Change{
		Revision: next - 1, Time: l.Time, Verb: ChangesLost,
		What: fmt.Sprintf("changes before revision %d are not all here: they were no longer kept when this manager asked for them; another may have them", next),
	}, true
}
