package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"muster/internal/durable"
	"muster/internal/model"
)

// grace is how long a change may be on its way that was built before a key was retired.
const grace = 10 * time.Minute

// Rotate builds the change that puts every secret of all nodes and groups under a new data key and retires the keys so far. Envelopes of v1 become
// v2. The error names every secret that does not open; then nothing is to be changed.
func (a *Authority) Rotate(s *model.Snapshot, now time.Time) ([]model.Op, error) {
	// Keys that do not open matter only if a secret is under them; that one says so.
	_ = a.UseKeys(s.SealKeys())
	z, err := a.newSealer(now)
	if err != nil {
		return nil, err
	}
	ops := z.Ops()
	for k := range s.SealKeys() {
		if !k.SiteKey && k.Retired.IsZero() {
			old := *k
			old.Retired = now.UTC()
			ops = append(ops, model.Op{Kind: model.KindSealKey, Name: k.ID, Doc: &old})
		}
	}
	var problems []error
	reseal := func(kind model.Kind, name string, attrs map[model.AttrName]string) map[model.AttrName]string {
		var out map[model.AttrName]string
		for attr, text := range secrets(attrs) {
			at := Place{kind, name, attr}
			text, err := z.Reseal(text, at, at)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			if out == nil {
				out = maps.Clone(attrs)
			}
			out[attr] = text
		}
		return out
	}
	for n := range s.Nodes() {
		if attrs := reseal(model.KindNode, string(n.Name), n.Attrs); attrs != nil {
			c := *n
			c.Attrs = attrs
			ops = append(ops, model.Op{Kind: model.KindNode, Name: string(n.Name), Doc: &c})
		}
	}
	for g := range s.Groups() {
		if attrs := reseal(model.KindGroup, string(g.Name), g.Attrs); attrs != nil {
			c := *g
			c.Attrs = attrs
			ops = append(ops, model.Op{Kind: model.KindGroup, Name: string(g.Name), Doc: &c})
		}
	}
	return ops, few(problems)
}

// secrets yields the attributes that hold envelopes.
func secrets(attrs map[model.AttrName]string) func(func(model.AttrName, string) bool) {
	return func(yield func(model.AttrName, string) bool) {
		for attr, text := range attrs {
			if !Sealed(text) {
				continue
			}
			if doc, ok := model.Lookup(attr); ok && doc.Secret && !yield(attr, text) {
				return
			}
		}
	}
}

// few joins errors, the first of them when there are many.
func few(problems []error) error {
	const most = 20
	if n := len(problems) - most; n > 0 {
		problems = append(problems[:most:most], fmt.Errorf("and %d more", n))
	}
	return errors.Join(problems...)
}

// Forget builds the change that removes the retired keys that no secret of the snapshot is under; keys that were retired in the
// last ten minutes stay, for changes that are on their way. Old envelopes, in the history of changes and in backups, become
// unreadable: an undo can then not bring them back. A manager that was not running since the site key changed
// cannot open the data keys any more and has to join the pool again.
func (a *Authority) Forget(s *model.Snapshot, now time.Time) ([]model.Op, error) {
	_ = a.UseKeys(s.SealKeys())
	site := currentSite(s)
	used, v1 := map[string]bool{}, false
	note := func(attrs map[model.AttrName]string) {
		for _, text := range secrets(attrs) {
			if id := KeyOf(text); id != "" {
				used[id] = true
			} else {
				v1 = true
			}
		}
	}
	for n := range s.Nodes() {
		note(n.Attrs)
	}
	for g := range s.Groups() {
		note(g.Attrs)
	}
	var ops []model.Op
	for k := range s.SealKeys() {
		inUse := k.Retired.IsZero() || now.Sub(k.Retired) < grace || used[k.ID] || k.SiteKey && v1
		switch {
		case !inUse:
			ops = append(ops, model.Op{Kind: model.KindSealKey, Name: k.ID})
		case site == nil || k.Site == site.ID || now.Sub(site.Created) < grace:
		default: // under an older site key: a manager made it before it knew of the new one, or it is the new one itself
			op, err := a.rewrapped(k, a.ring.Load().site(site.ID))
			if err != nil {
				return nil, err
			}
			ops = append(ops, op)
		}
	}
	return ops, nil
}

// KeyOf is the number of the data key that an envelope is under; "" of v1.
func KeyOf(text string) string {
	if len(text) < len(prefixV2)+8 || text[:len(prefixV2)] != prefixV2 {
		return ""
	}
	return text[len(prefixV2):][:8]
}

// rewrapped puts the document of a key under another site key.
func (a *Authority) rewrapped(k *model.SealKey, under *siteKey) (model.Op, error) {
	ring := a.ring.Load()
	have := ring.site(k.Site)
	if have == nil || under == nil {
		return model.Op{}, fmt.Errorf("data key %s is under the site key %s, which this manager has not. Join the pool again", k.ID, k.Site)
	}
	key, err := have.unwrap(k)
	if err != nil {
		return model.Op{}, err
	}
	c := *k
	c.Revision = 0
	under.wrap(&c, key)
	return model.Op{Kind: model.KindSealKey, Name: k.ID, Doc: &c}, nil
}

// currentSite is the document of the site key in use; nil when it was never changed.
func currentSite(s *model.Snapshot) *model.SealKey {
	var site *model.SealKey
	for k := range s.SealKeys() {
		if k.SiteKey && k.Retired.IsZero() && (site == nil || k.Created.After(site.Created)) {
			site = k
		}
	}
	return site
}

// ChangeSiteKey makes a new site key, opened by a source, and the change that puts the data keys under it. The caller commits the
// change and gives the snapshot that has it to [Authority.SettleSiteKey]. Until then the service starts with the source so far as well as with
// the new one, whether or not the change was committed: both site keys open each other. The other managers of a pool learn
// the new key from the change and keep it under their own sources; one that misses two such changes has to join again. When the commit was refused for certain, call
// [Authority.KeepSiteKey], or ChangeSiteKey again.
//
// Who had the old site key and a copy of the store of that time can still read that copy; rotate the data keys as well.
func (a *Authority) ChangeSiteKey(s *model.Snapshot, to Source, now time.Time) ([]model.Op, error) {
	o, err := to.opener(nil)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changeSiteKey(s, o, now)
}

// RotateSiteKey is ChangeSiteKey with the source so far.
func (a *Authority) RotateSiteKey(s *model.Snapshot, now time.Time) ([]model.Op, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.site.source == nil {
		return nil, errors.New("change of the site key: what opens it here was changed, and is not known since. Start the service anew with what opens it now")
	}
	return a.changeSiteKey(s, a.site.source, now)
}

// changeSiteKey is called with mu held.
func (a *Authority) changeSiteKey(s *model.Snapshot, o *opener, now time.Time) ([]model.Op, error) {
	if err := a.UseKeys(s.SealKeys()); err != nil {
		return nil, fmt.Errorf("change of the site key: %w", err)
	}
	if site := currentSite(s); site != nil && site.ID != a.site.stored.id {
		return nil, errors.New("change of the site key: another one is not finished on this manager. Try again in a moment")
	}
	old, next := a.site.stored, randomSiteKey()
	if p := a.site.pending; p != nil { // its commit may still be on its way
		if k := a.ring.Load().site(p.Lock.Site); k != nil {
			next = k
		}
	}
	p, err := &pending{}, error(nil)
	if p.Lock, err = o.lock(next); err != nil {
		return nil, err
	}
	was := &model.SealKey{ID: old.id, SiteKey: true, Created: now.UTC(), Retired: now.UTC()}
	is := &model.SealKey{ID: next.id, SiteKey: true, Created: now.UTC()}
	next.wrap(was, old.key)
	old.wrap(is, next.key)
	p.Keys = []*model.SealKey{was, is}
	var ops []model.Op
	for k := range s.SealKeys() {
		if k.ID == old.id || k.ID == next.id {
			continue
		}
		op, err := a.rewrapped(k, next)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	for _, k := range p.Keys {
		c := *k // the store stamps what it is given
		ops = append(ops, model.Op{Kind: model.KindSealKey, Name: k.ID, Doc: &c})
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(a.dir, sealNext), b, 0o600); err != nil {
		return nil, fmt.Errorf("change of the site key: %w. Nothing was changed", err)
	}
	a.site.pending, a.site.next = p, o
	a.learn(p.Keys)
	return ops, nil
}

// learn takes site keys from documents that are not in the store.
func (a *Authority) learn(keys []*model.SealKey) {
	for {
		r := a.ring.Load()
		next := r.with(keys)
		next.docs, next.err = r.docs, r.err
		if a.ring.CompareAndSwap(r, next) {
			return
		}
	}
}

// KeepSiteKey takes back a ChangeSiteKey whose change was refused for certain.
func (a *Authority) KeepSiteKey() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.site.pending, a.site.next = nil, nil
	return remove(a.dir, sealNext)
}

// SettleSiteKey puts the site key that the snapshot has in use in the place of the one so far, after ChangeSiteKey on
// this manager or another. It is called with the newest snapshot at the start and whenever the data keys changed; it costs
// next to nothing when there is nothing to do. changed says that it did; an error says that the old files are still there.
func (a *Authority) SettleSiteKey(s *model.Snapshot) (changed bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	site := currentSite(s)
	if site == nil || s.Revision < a.settled {
		return false, nil
	}
	a.settled = s.Revision
	p := a.site.pending
	mine := p != nil && p.Lock.Site == site.ID
	if site.ID == a.site.stored.id && !mine {
		return false, nil
	}
	_ = a.UseKeys(s.SealKeys())
	key := a.ring.Load().site(site.ID)
	if key == nil {
		return false, fmt.Errorf("the site key is %s now, and this manager has only %s. Join the pool again", site.ID, a.site.stored.id)
	}
	l, source := lock{}, a.site.source
	switch {
	case mine:
		l = p.Lock
		if a.site.next != nil {
			source = a.site.next
		} else if source != nil && !l.opens(source) {
			source = nil // started with the source so far: the new one is not known
		}
	case source == nil:
		return false, errors.New("the site key was changed, and what opens it here as well. Start the service anew with what opens it now")
	default:
		if l, err = source.lock(key); err != nil {
			return false, err
		}
	}
	if err := writeLock(a.dir, &l); err != nil {
		return false, fmt.Errorf("site key: %w", err)
	}
	if err := remove(a.dir, sealNext); err != nil {
		return false, fmt.Errorf("site key: %w", err)
	}
	a.site.stored, a.site.source, a.site.pending, a.site.next = key, source, nil, nil
	return true, nil
}
