package identity

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"muster/internal/model"
)

// The envelopes. Of v2: "sealed:v2:<id of the data key>:<base64 of nonce and box>", AES-256-GCM with the place as additional data.
// Of v1, which is only read: "sealed:v1:<base64 of nonce and box>", directly under a site key, bound to no place.
const (
	prefixV1 = "sealed:v1:"
	prefixV2 = "sealed:v2:"
)

const (
	keySize   = 32 // bytes
	nonceSize = 12
	tagSize   = 16
)

// encoding is strict: a box has one text only.
var encoding = base64.RawStdEncoding.Strict()

// Place is where a sealed value lies. An envelope opens in its own place only.
type Place struct {
	Kind model.Kind
	Name string
	Attr model.AttrName
}

// String is "node/r1n1/bmc.password"; no name has a slash in it.
func (p Place) String() string { return string(p.Kind) + "/" + p.Name + "/" + string(p.Attr) }

// Sealed says whether a text is a sealed envelope.
func Sealed(text string) bool {
	return strings.HasPrefix(text, prefixV2) || strings.HasPrefix(text, prefixV1)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("the key has %d bytes, not %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// box seals with a fresh nonce. One key takes 2³² boxes before nonces may repeat (NIST SP 800-38D §8.3).
func box(gcm cipher.AEAD, plain, data string) string {
	buf := make([]byte, nonceSize, nonceSize+len(plain)+tagSize)
	_, _ = rand.Read(buf)
	return encoding.EncodeToString(gcm.Seal(buf, buf, []byte(plain), []byte(data)))
}

var (
	errBox  = errors.New("it is not in its form")
	errOpen = errors.New("it does not open")
)

func unbox(gcm cipher.AEAD, text, data string) (model.Secret, error) {
	b, err := encoding.DecodeString(text)
	// The decoder passes over line ends.
	if err != nil || len(b) < nonceSize+tagSize || encoding.EncodedLen(len(b)) != len(text) {
		return model.Secret{}, errBox
	}
	plain, err := gcm.Open(nil, b[:nonceSize], b[nonceSize:], []byte(data))
	if err != nil {
		return model.Secret{}, errOpen
	}
	return model.NewSecret(string(plain)), nil
}

// Sealer seals the secrets of one change under the newest data key in use. It is safe for concurrent use.
type Sealer struct {
	a    *Authority
	id   string
	gcm  cipher.AEAD
	made *model.SealKey // not in the store yet
}

// Sealer takes the data keys of the snapshot that the change is built on. Where none is in use yet it makes one: [Sealer.Ops] has it,
// and the change must carry it.
func (a *Authority) Sealer(keys iter.Seq[*model.SealKey], now time.Time) (*Sealer, error) {
	damaged := a.UseKeys(keys)
	ring := a.ring.Load()
	var newest *model.SealKey
	used := false
	for k := range keys {
		if k.SiteKey || !k.Retired.IsZero() {
			continue
		}
		used = true
		if ring.data[k.ID] != nil && (newest == nil || cmp.Or(k.Created.Compare(newest.Created), strings.Compare(k.ID, newest.ID)) > 0) {
			newest = k
		}
	}
	switch {
	case newest != nil:
		return &Sealer{a: a, id: newest.ID, gcm: ring.data[newest.ID]}, nil
	case used:
		return nil, damaged
	}
	return a.newSealer(now)
}

// newSealer makes a data key, sealed under the site key, and what seals under it.
func (a *Authority) newSealer(now time.Time) (*Sealer, error) {
	id, key := make([]byte, 4), make([]byte, keySize)
	ring := a.ring.Load()
	for taken := true; taken; {
		_, _ = rand.Read(id)
		name := hex.EncodeToString(id)
		taken = ring.data[name] != nil || ring.site(name) != nil
	}
	_, _ = rand.Read(key)
	k := &model.SealKey{ID: hex.EncodeToString(id), Created: now.UTC()}
	a.mu.Lock()
	a.site.stored.wrap(k, model.NewSecret(string(key)))
	a.mu.Unlock()
	gcm, err := newGCM(key)
	return &Sealer{a: a, id: k.ID, gcm: gcm, made: k}, err
}

// Ops puts the data key that was made, if one was.
func (z *Sealer) Ops() []model.Op {
	if z.made == nil {
		return nil
	}
	return []model.Op{{Kind: model.KindSealKey, Name: z.made.ID, Doc: z.made}}
}

// Seal makes the envelope of a secret at a place; "" of an empty one.
func (z *Sealer) Seal(s model.Secret, at Place) string {
	if s.Empty() {
		return ""
	}
	return prefixV2 + z.id + ":" + box(z.gcm, s.Reveal(), at.String())
}

// Reseal makes the envelope of the same secret at another place, or at the same under the newest key. The data key that it
// is under now must have been given to UseKeys.
func (z *Sealer) Reseal(text string, from, to Place) (string, error) {
	s, err := z.a.Unseal(text, from)
	if err != nil {
		return "", err
	}
	return z.Seal(s, to), nil
}

// Unseal opens the envelope at a place; "" is an empty secret. An envelope that was altered, moved here from another place, or
// whose key is not known is an error that says what to do.
func (a *Authority) Unseal(text string, at Place) (model.Secret, error) {
	bad := func(why string) (model.Secret, error) {
		return model.Secret{}, fmt.Errorf("secret at %s: %s", at, why)
	}
	if text == "" {
		return model.Secret{}, nil
	}
	const damaged = "the sealed envelope is damaged. Set it again"
	ring := a.ring.Load()
	if body, ok := strings.CutPrefix(text, prefixV1); ok {
		for _, k := range ring.sites {
			s, err := unbox(k.gcm, body, prefixV1)
			if err == nil {
				return s, nil
			}
			if errors.Is(err, errBox) {
				return bad(damaged)
			}
		}
		return bad("sealed under another site key, or damaged. Put the keys directory back from a backup, or set it again")
	}
	body, ok := strings.CutPrefix(text, prefixV2)
	if !ok {
		return bad("not a sealed envelope. Set it again")
	}
	id, body, ok := strings.Cut(body, ":")
	if !ok || !isID(id) {
		return bad(damaged)
	}
	gcm := ring.data[id]
	if gcm == nil {
		return bad("sealed under the data key " + id + ", which is not there, was forgotten, or is under a site key that this manager has not. Set it again")
	}
	s, err := unbox(gcm, body, at.String())
	switch {
	case errors.Is(err, errBox):
		return bad(damaged)
	case err != nil:
		return bad("the sealed envelope does not open here: it was moved from another node, group or attribute, or altered. Set it again")
	}
	return s, nil
}

// isID says that a text is the number of a key: 8 small hex digits.
func isID(s string) bool {
	return len(s) == 8 && strings.Trim(s, "0123456789abcdef") == ""
}

// ring holds what the documents of the data keys opened to. It is never changed.
type ring struct {
	docs  []*model.SealKey // as they were given last
	err   error            // which of them do not open
	data  map[string]cipher.AEAD
	sites []*siteKey // all that are known
}

func (r *ring) site(id string) *siteKey {
	for _, k := range r.sites {
		if k.id == id {
			return k
		}
	}
	return nil
}

// with is the ring with what documents hold besides. Keys that are in it stay, whether they have a document still or not: a request
// may work on an older snapshot.
func (r *ring) with(docs []*model.SealKey) *ring {
	next := &ring{docs: docs, data: map[string]cipher.AEAD{}, sites: slices.Clone(r.sites)}
	for id, gcm := range r.data {
		next.data[id] = gcm
	}
	open := slices.Clone(docs)
	var problems []error
	for more := true; more; { // a site key found opens others
		more, problems = false, nil
		open = slices.DeleteFunc(open, func(k *model.SealKey) bool {
			if next.data[k.ID] != nil || next.site(k.ID) != nil {
				return true
			}
			err := next.take(k)
			if err != nil {
				problems = append(problems, err)
				return false
			}
			more = more || k.SiteKey
			return true
		})
	}
	next.err = errors.Join(problems...)
	return next
}

func (r *ring) take(k *model.SealKey) error {
	site := r.site(k.Site)
	if site == nil {
		return fmt.Errorf("data key %s is under the site key %s, which this manager has not. Put the keys directory back from a backup of the time when it was made, or join the pool again", k.ID, k.Site)
	}
	key, err := site.unwrap(k)
	if err != nil {
		return err
	}
	if k.SiteKey {
		s, err := newSiteKey([]byte(key.Reveal()))
		if err != nil || s.id != k.ID {
			return fmt.Errorf("site key %s: its document holds another key. Restore the store from a backup", k.ID)
		}
		r.sites = append(r.sites, s)
		return nil
	}
	s, err := newSiteKey([]byte(key.Reveal()))
	if err == nil && s.id == k.ID { // nothing is sealed right under a site key
		err = fmt.Errorf("data key %s: its document says that it is none of the site keys, and it is one. Restore the store from a backup", k.ID)
	}
	if err == nil {
		r.data[k.ID] = s.gcm
	}
	return err
}

// UseKeys takes the data keys of a snapshot; it costs next to nothing when they are those of the last call. Envelopes under
// them open from then on. The error names the keys that do not open; the others are used all the same.
func (a *Authority) UseKeys(keys iter.Seq[*model.SealKey]) error {
	if r := a.ring.Load(); r.has(keys) {
		return r.err
	}
	docs := slices.Collect(keys)
	for {
		r := a.ring.Load()
		next := r.with(docs)
		if a.ring.CompareAndSwap(r, next) {
			return next.err
		}
	}
}

func (r *ring) has(keys iter.Seq[*model.SealKey]) bool {
	i := 0
	for k := range keys {
		if i >= len(r.docs) || r.docs[i] != k {
			return false
		}
		i++
	}
	return i == len(r.docs)
}
