package identity

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

var (
	noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	here = Place{model.KindNode, "r1n1", "bmc.password"}
)

// world is a snapshot that changes are committed to, as the store does it.
type world struct {
	t    testing.TB
	snap *model.Snapshot
}

func newWorld(t testing.TB) *world { return &world{t, model.Empty()} }

func (w *world) commit(ops ...model.Op) {
	w.t.Helper()
	next, err := model.Apply(w.snap, &model.Change{Revision: w.snap.Revision + 1, Ops: ops})
	if err != nil {
		w.t.Fatal(err)
	}
	w.snap = next
}

func (w *world) sealer(a *Authority, now time.Time) *Sealer {
	w.t.Helper()
	z, err := a.Sealer(w.snap.SealKeys(), now)
	if err != nil {
		w.t.Fatal(err)
	}
	return z
}

// set gives a node a BMC password, as the server does it.
func (w *world) set(a *Authority, node, password string) {
	w.t.Helper()
	z := w.sealer(a, noon)
	text := z.Seal(model.NewSecret(password), Place{model.KindNode, node, "bmc.password"})
	w.commit(append(z.Ops(), nodeOp(node, text))...)
}

func nodeOp(name, password string) model.Op {
	return model.Op{Kind: model.KindNode, Name: name, Doc: &model.Node{Name: model.NodeName(name), Attrs: map[model.AttrName]string{"bmc.password": password}}}
}

// reads checks that a manager reads a node's password.
func (w *world) reads(what string, a *Authority, node, want string) {
	w.t.Helper()
	if err := a.UseKeys(w.snap.SealKeys()); err != nil {
		w.t.Errorf("%s: UseKeys: %v", what, err)
	}
	got, err := a.Unseal(w.snap.Node(model.NodeName(node)).Attrs["bmc.password"], Place{model.KindNode, node, "bmc.password"})
	if err != nil || got.Reveal() != want {
		w.t.Errorf("%s: %s has %q, %v; want %q", what, node, got.Reveal(), err, want)
	}
}

func (w *world) key() *model.SealKey {
	for k := range w.snap.SealKeys() {
		if !k.SiteKey && k.Retired.IsZero() {
			return k
		}
	}
	return nil
}

// sealV1 makes an envelope as the first version did.
func sealV1(a *Authority, plain string) string {
	return prefixV1 + box(a.site.stored.gcm, plain, prefixV1)
}

func TestSealer_makes_one_data_key_at_the_first_need(t *testing.T) {
	a, _ := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	w.set(a, "r1n2", "hobbes")
	if n := len(slices.Collect(w.snap.SealKeys())); n != 1 {
		t.Errorf("%d data keys, want 1", n)
	}
	w.reads("same start", a, "r1n1", "calvin")
	w.reads("same start", a, "r1n2", "hobbes")
	if text := w.snap.Node("r1n1").Attrs["bmc.password"]; !Sealed(text) || strings.Contains(text, "calvin") || !strings.HasPrefix(text, "sealed:v2:"+w.key().ID+":") {
		t.Errorf("the envelope is %s", text)
	}
	if text := w.sealer(a, noon).Seal(model.Secret{}, here); text != "" {
		t.Errorf("the envelope of nothing is %q", text)
	}
}

// A change that is not committed leaves no data key behind that a later one would rely on.
func TestSealer_relies_on_committed_data_keys_only(t *testing.T) {
	a, _ := open(t)
	w := newWorld(t)
	w.sealer(a, noon).Seal(model.NewSecret("lost"), here)
	z := w.sealer(a, noon)
	if len(z.Ops()) != 1 {
		t.Errorf("the second change carries %d keys, want its own", len(z.Ops()))
	}
}

func TestUnseal_refuses_an_envelope_of_another_place_and_says_so(t *testing.T) {
	a, _ := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	text := w.snap.Node("r1n1").Attrs["bmc.password"]
	w.reads("in place", a, "r1n1", "calvin")
	for _, at := range []Place{{model.KindNode, "r1n2", "bmc.password"}, {model.KindGroup, "r1n1", "bmc.password"}, {model.KindNode, "r1n1", "custom.x"}, {}} {
		if got, err := a.Unseal(text, at); err == nil || !strings.Contains(err.Error(), "moved") || !strings.Contains(err.Error(), at.String()) {
			t.Errorf("%s: opened as %q, %v", at, got.Reveal(), err)
		}
	}
	moved, err := w.sealer(a, noon).Reseal(text, here, Place{model.KindNode, "r9", "bmc.password"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Unseal(moved, Place{model.KindNode, "r9", "bmc.password"}); err != nil || got.Reveal() != "calvin" {
		t.Errorf("after Reseal: %q, %v", got.Reveal(), err)
	}
	if _, err := a.Unseal(moved, here); err == nil {
		t.Error("after Reseal it opens at the old place")
	}
}

func TestUnseal_refuses_every_altered_byte(t *testing.T) {
	a, _ := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	w.reads("unaltered", a, "r1n1", "calvin")
	for _, good := range []string{w.snap.Node("r1n1").Attrs["bmc.password"], sealV1(a, "calvin")} {
		for i := range good {
			for _, flip := range []byte{1, 0x20, 0x80} {
				bad := []byte(good)
				bad[i] ^= flip
				got, err := a.Unseal(string(bad), here)
				if err == nil {
					t.Errorf("byte %d of %s: opened as %q", i, good, got.Reveal())
				} else if strings.Contains(err.Error(), "calvin") {
					t.Errorf("the error shows the secret: %v", err)
				}
			}
			if _, err := a.Unseal(good[:i], here); err == nil && i > 0 {
				t.Errorf("opened when cut to %d bytes", i)
			}
			if _, err := a.Unseal(good[:i]+"\n"+good[i:], here); err == nil {
				t.Errorf("opened with a line end at %d", i)
			}
		}
	}
}

func TestUnseal_with_another_site_key_says_what_is_missing(t *testing.T) {
	a, _ := open(t)
	b, _ := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	id := w.key().ID
	if err := b.UseKeys(w.snap.SealKeys()); err == nil || !strings.Contains(err.Error(), id) || !strings.Contains(err.Error(), w.key().Site) {
		t.Errorf("UseKeys of foreign keys: %v", err)
	}
	if _, err := b.Unseal(w.snap.Node("r1n1").Attrs["bmc.password"], here); err == nil || !strings.Contains(err.Error(), id) {
		t.Errorf("v2: %v", err)
	}
	if _, err := b.Unseal(sealV1(a, "calvin"), here); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("v1: %v", err)
	}
	// It does not go on with a key of its own beside those that it cannot open.
	if _, err := b.Sealer(w.snap.SealKeys(), noon); err == nil {
		t.Error("a sealer without the site key")
	}
}

func TestUseKeys_names_a_damaged_document_and_takes_the_others(t *testing.T) {
	a, dir := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	bad := *w.key()
	bad.ID = "00000001" // the number is bound to what is in it
	w.commit(model.Op{Kind: model.KindSealKey, Name: bad.ID, Doc: &bad})
	b, _, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // also when nothing changed
		if err := b.UseKeys(w.snap.SealKeys()); err == nil || !strings.Contains(err.Error(), "00000001") {
			t.Errorf("a damaged document: %v", err)
		}
	}
	if got, err := b.Unseal(w.snap.Node("r1n1").Attrs["bmc.password"], here); err != nil || got.Reveal() != "calvin" {
		t.Errorf("the others: %v", err)
	}
}

// The keys directory of the first version: seal.key, no data keys, envelopes of v1.
// Who can write to the store must not make the site key seal by itself.
func TestUseKeys_takes_no_site_key_for_a_data_key(t *testing.T) {
	a, _ := open(t)
	other := randomSiteKey()
	doc := &model.SealKey{ID: other.id, Created: noon}
	a.site.stored.wrap(doc, other.key)
	w := newWorld(t)
	w.commit(model.Op{Kind: model.KindSealKey, Name: doc.ID, Doc: doc})
	if _, err := a.Sealer(w.snap.SealKeys(), noon); err == nil || !strings.Contains(err.Error(), doc.ID) {
		t.Errorf("Sealer: %v", err)
	}
}

func TestUnseal_reads_what_the_first_version_sealed(t *testing.T) {
	a, dir := open(t)
	text := sealV1(a, "calvin")
	b, made, err := Open(Options{Dir: dir})
	if err != nil || made {
		t.Fatalf("made %v, %v", made, err)
	}
	w := newWorld(t)
	w.commit(nodeOp("r1n1", text))
	w.reads("v1", b, "r1n1", "calvin")
	w.set(b, "r1n2", "hobbes")
	w.reads("v1 beside v2", b, "r1n1", "calvin")
	ops, err := b.Rotate(w.snap, noon)
	if err != nil {
		t.Fatal(err)
	}
	w.commit(ops...)
	if text := w.snap.Node("r1n1").Attrs["bmc.password"]; !strings.HasPrefix(text, prefixV2) {
		t.Errorf("after Rotate: %s", text)
	}
	w.reads("rotated", b, "r1n1", "calvin")
}

// The site key file and an envelope that the code of the first version wrote.
func TestUnseal_of_an_envelope_that_the_first_version_wrote(t *testing.T) {
	_, dir := open(t)
	const file = "-----BEGIN MUSTER SEALING KEY-----\n8+NekK5voc8ecUltHX38MvOrhHBLAM3N2o4vM4m/wgk=\n-----END MUSTER SEALING KEY-----\n"
	if err := os.WriteFile(filepath.Join(dir, "seal.key"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Unseal("sealed:v1:tCSvUXIVsTKCWVyuVwh3uCUlzc/iqYtJ05fBeLUigmPQEg", here)
	if err != nil || got.Reveal() != "calvin" {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
}

func TestRotate_puts_every_secret_under_a_new_key(t *testing.T) {
	a, dir := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	w.set(a, "r1n2", "hobbes")
	z := w.sealer(a, noon)
	w.commit(model.Op{Kind: model.KindNode, Name: "r1n3", Doc: &model.Node{Name: "r1n3", Attrs: map[model.AttrName]string{"custom.x": "sealed:v1:no secret"}}},
		model.Op{Kind: model.KindGroup, Name: "g", Doc: &model.Group{Name: "g", Attrs: map[model.AttrName]string{
			"bmc.password": z.Seal(model.NewSecret("susie"), Place{model.KindGroup, "g", "bmc.password"}), "bmc.user": "admin",
		}}})
	before, old := w.snap, w.key()
	ops, err := a.Rotate(w.snap, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w.commit(ops...)
	if w.key().ID == old.ID || w.snap.SealKey(old.ID).Retired.IsZero() {
		t.Errorf("the key in use is %+v, the old one %+v", w.key(), w.snap.SealKey(old.ID))
	}
	b, _, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	w.reads("after a restart", b, "r1n1", "calvin")
	w.reads("after a restart", b, "r1n2", "hobbes")
	if got, err := b.Unseal(w.snap.Group("g").Attrs["bmc.password"], Place{model.KindGroup, "g", "bmc.password"}); err != nil || got.Reveal() != "susie" {
		t.Errorf("group: %q, %v", got.Reveal(), err)
	}
	for n := range before.Nodes() {
		if now := w.snap.Node(n.Name); n.Attrs["bmc.password"] != "" && n.Attrs["bmc.password"] == now.Attrs["bmc.password"] {
			t.Errorf("%s still has its old envelope", n.Name)
		}
	}
	if w.snap.Node("r1n3") != before.Node("r1n3") {
		t.Error("a node without secrets was changed")
	}
	if w.snap.Group("g").Attrs["bmc.user"] != "admin" {
		t.Error("another attribute is gone")
	}
}

func TestRotate_names_every_secret_that_does_not_open(t *testing.T) {
	a, _ := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	good := w.snap.Node("r1n1").Attrs["bmc.password"]
	w.commit(nodeOp("r1n2", good), nodeOp("r1n3", good))
	if _, err := a.Rotate(w.snap, noon); err == nil || !strings.Contains(err.Error(), "r1n2") || !strings.Contains(err.Error(), "r1n3") || strings.Contains(err.Error(), "r1n1") {
		t.Errorf("Rotate: %v", err)
	}
}

func TestForget_removes_retired_keys_that_nothing_is_under(t *testing.T) {
	a, dir := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	w.set(a, "r1n2", "hobbes")
	old, history := w.key(), w.snap.Node("r1n1").Attrs["bmc.password"]
	ops, err := a.Rotate(w.snap, noon)
	if err != nil {
		t.Fatal(err)
	}
	// A change that was built before the rotation and committed after it.
	late := w.sealer(a, noon).Seal(model.NewSecret("late"), Place{model.KindNode, "r1n3", "bmc.password"})
	w.commit(ops...)
	forget := func(now time.Time) {
		t.Helper()
		ops, err := a.Forget(w.snap, now)
		if err != nil {
			t.Fatal(err)
		}
		w.commit(ops...)
	}
	forget(noon.Add(grace - time.Second))
	if w.snap.SealKey(old.ID) == nil {
		t.Fatal("a key is gone while changes may be on their way")
	}
	w.commit(nodeOp("r1n3", late))
	forget(noon.Add(grace))
	if w.snap.SealKey(old.ID) == nil {
		t.Fatal("a key is gone that a secret is under")
	}
	w.commit(model.Op{Kind: model.KindNode, Name: "r1n3"})
	forget(noon.Add(grace))
	if w.snap.SealKey(old.ID) != nil {
		t.Error("the retired key is still there")
	}
	b, _, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	w.reads("after Forget", b, "r1n1", "calvin")
	if _, err := b.Unseal(history, here); err == nil || !strings.Contains(err.Error(), "forgotten") {
		t.Errorf("an envelope of the history: %v", err)
	}
}

func FuzzUnseal(f *testing.F) {
	a, _, err := Open(Options{Dir: filepath.Join(f.TempDir(), "keys"), Fresh: true})
	if err != nil {
		f.Fatal(err)
	}
	w := newWorld(f)
	w.set(a, "r1n1", "x")
	good := []string{w.snap.Node("r1n1").Attrs["bmc.password"], sealV1(a, "x")}
	if err := a.UseKeys(w.snap.SealKeys()); err != nil {
		f.Fatal(err)
	}
	for _, s := range append(good, prefixV1, prefixV1+"AAAA", prefixV2, prefixV2+"00000000:", prefixV2+w.key().ID+":AAAA", "") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := a.Unseal(text, here); err == nil && !s.Empty() && !slices.Contains(good, text) {
			t.Errorf("opened %q", text)
		}
	})
}

func BenchmarkSeal_100k_nodes(b *testing.B) {
	a, _, err := Open(Options{Dir: filepath.Join(b.TempDir(), "keys"), Fresh: true})
	if err != nil {
		b.Fatal(err)
	}
	w := newWorld(b)
	z := w.sealer(a, noon)
	secret := model.NewSecret("a password of 24 letters")
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("r%dn%d", i/40, i%40)
	}
	for b.Loop() {
		for _, n := range names {
			z.Seal(secret, Place{model.KindNode, n, "bmc.password"})
		}
	}
}

func BenchmarkRotate_100k_nodes(b *testing.B) {
	a, _, err := Open(Options{Dir: filepath.Join(b.TempDir(), "keys"), Fresh: true})
	if err != nil {
		b.Fatal(err)
	}
	w := newWorld(b)
	z := w.sealer(a, noon)
	ops := z.Ops()
	for i := range 100_000 {
		n := fmt.Sprintf("r%dn%d", i/40, i%40)
		op := nodeOp(n, z.Seal(model.NewSecret("a password of 24 letters"), Place{model.KindNode, n, "bmc.password"}))
		for j := range 39 {
			op.Doc.(*model.Node).Attrs[model.AttrName(fmt.Sprintf("custom.x%d", j))] = "some value"
		}
		ops = append(ops, op)
	}
	w.commit(ops...)
	for b.Loop() {
		if _, err := a.Rotate(w.snap, noon); err != nil {
			b.Fatal(err)
		}
	}
}
