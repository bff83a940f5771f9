package identity

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

// passphrase is one that takes next to no work.
func passphrase(s string) Source {
	return Source{Passphrase: model.NewSecret(s), cost: argon{Time: 1, Memory: 8, Threads: 1}}
}

// credential is a file as systemd lays it down.
func credential(t testing.TB, fill byte) Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sitekey")
	if err := os.WriteFile(path, []byte(strings.Repeat(string(rune('a'+fill)), keySize)), 0o400); err != nil {
		t.Fatal(err)
	}
	return Source{File: path}
}

func openBy(t testing.TB, dir string, src Source) *Authority {
	t.Helper()
	a, _, err := Open(Options{Dir: dir, Fresh: true, SiteKey: src})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names { // CopyFS opens them to all
		if err := os.Chmod(filepath.Join(to, n.Name()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func TestOpen_takes_the_site_key_from_what_it_is_told(t *testing.T) {
	file := credential(t, 0)
	for what, c := range map[string]struct {
		src        Source
		have, none string
		wrong      map[string]Source // by what the error has to say
	}{
		"plain":      {Source{}, sealPlain, sealLocked, map[string]Source{"a passphrase": passphrase("x"), "--site-key-file": file}},
		"file":       {file, sealLocked, sealPlain, map[string]Source{"is not the one": credential(t, 1), "by a file": {}, "a passphrase": passphrase("x")}},
		"passphrase": {passphrase("correct horse"), sealLocked, sealPlain, map[string]Source{"the passphrase is wrong": passphrase("correct horsE"), "by a passphrase": {}}},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			a := openBy(t, dir, c.src)
			if !exists(dir, c.have) || exists(dir, c.none) {
				t.Errorf("%s there: %v, %s there: %v", c.have, exists(dir, c.have), c.none, exists(dir, c.none))
			}
			w := newWorld(t)
			w.set(a, "r1n1", "calvin")
			w.reads("after a restart", openBy(t, dir, c.src), "r1n1", "calvin")
			for say, src := range c.wrong {
				_, _, err := Open(Options{Dir: dir, Fresh: true, SiteKey: src})
				if err == nil || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), c.have) {
					t.Errorf("opened by another source: %v, want %q", err, say)
				} else if strings.Contains(err.Error(), "horse") {
					t.Errorf("the error shows the passphrase: %v", err)
				}
			}
			if !exists(dir, c.have) || exists(dir, c.none) {
				t.Error("a refused start changed the files")
			}
		})
	}
}

func TestOpen_makes_nothing_anew_for_a_wrong_passphrase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a := openBy(t, dir, passphrase("correct horse"))
	if err := os.Remove(a.AdminBundle()); err != nil {
		t.Fatal(err)
	}
	if _, made, err := Open(Options{Dir: dir, Fresh: true, SiteKey: passphrase("x")}); err == nil || made || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("made %v, %v", made, err)
	}
	if b := openBy(t, dir, passphrase("correct horse")); b.CA() != a.CA() {
		t.Error("there is another CA")
	}
}

// Who has the keys directory and not what opens it learns nothing.
func TestOpen_locked_keeps_the_site_key_out_of_the_directory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	a := openBy(t, dir, Source{Passphrase: model.NewSecret("correct horse")}) // with the work that a service takes
	b, err := os.ReadFile(filepath.Join(dir, sealLocked))
	if err != nil {
		t.Fatal(err)
	}
	var l lock
	if err := json.Unmarshal(b, &l); err != nil {
		t.Fatal(err)
	}
	if l.Key != nil || l.Argon2id == nil || l.Argon2id.Memory < 19<<10 { // OWASP's least
		t.Errorf("the lock is %s", b)
	}
	if strings.Contains(string(b), "horse") || strings.Contains(string(b), a.site.stored.key.Reveal()) {
		t.Error("the file shows a secret")
	}
}

func TestOpen_refuses_a_site_key_that_others_may_use(t *testing.T) {
	_, dir := open(t)
	path := filepath.Join(dir, sealPlain)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	if err := os.Chown(path, 4711, -1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "4711") || !strings.Contains(err.Error(), "chown 0 ") {
		t.Errorf("another owner: %v", err)
	}
}

func TestOpen_says_what_is_wrong_with_the_file_of_a_source(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, say := range map[string]string{
		filepath.Join(dir, "none"):                        "LoadCredential",
		file("short", "0123456789", 0o400):                "10 bytes",
		file("open", strings.Repeat("x", keySize), 0o444): "chmod o= ",
	} {
		_, _, err := Open(Options{Dir: filepath.Join(t.TempDir(), "keys"), Fresh: true, SiteKey: Source{File: path}})
		if err == nil || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// systemd's access list shows as bits of the group; a key in PEM form is taken as well.
	openBy(t, filepath.Join(t.TempDir(), "keys"), Source{File: file("acl", strings.Repeat("x", keySize), 0o440)})
	openBy(t, filepath.Join(t.TempDir(), "keys"), Source{File: file("pem", string(randomSiteKey().pem()), 0o400)})
}

func TestOpen_refuses_every_altered_byte_of_the_lock(t *testing.T) {
	src := credential(t, 0)
	dir := filepath.Join(t.TempDir(), "keys")
	a := openBy(t, dir, src)
	path := filepath.Join(dir, sealLocked)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		// A line end or blank that became another one is still the same document.
		if b, _, err := Open(Options{Dir: dir, SiteKey: src}); err == nil && b.site.stored.id != a.site.stored.id {
			t.Errorf("byte %d altered: opened another site key", i)
		}
	}
}

// The service is killed at every point of a change of the site key, and started with the old and the new source.
func TestChangeSiteKey_survives_a_kill_at_every_point(t *testing.T) {
	type pair struct{ from, to Source }
	file1, file2 := credential(t, 0), credential(t, 1)
	for what, c := range map[string]pair{
		"plain to plain":           {},
		"plain to passphrase":      {Source{}, passphrase("new")},
		"file to plain":            {file1, Source{}},
		"passphrase to passphrase": {passphrase("old"), passphrase("new")},
		"file to file":             {file1, file2},
		"plain to file":            {Source{}, file1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "keys")
			a := openBy(t, dir, c.from)
			w := newWorld(t)
			w.set(a, "r1n1", "calvin")
			w.commit(nodeOp("r1n2", sealV1(a, "hobbes")))
			before := w.snap
			old := a.site.stored.id
			ops, err := a.ChangeSiteKey(w.snap, c.to, noon)
			if err != nil {
				t.Fatal(err)
			}
			proposed := copyDir(t, dir)
			w.commit(ops...)
			after := w.snap
			var p pending
			b, err := os.ReadFile(filepath.Join(proposed, sealNext))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(b, &p); err != nil {
				t.Fatal(err)
			}
			placed := copyDir(t, proposed) // the new file is there, the old one not yet removed
			keep := map[string][]byte{}
			for _, n := range []string{sealPlain, sealLocked} {
				if b, err := os.ReadFile(filepath.Join(placed, n)); err == nil && n != fileOf(p.Lock.By) {
					keep[n] = b
				}
			}
			if err := writeLock(placed, &p.Lock); err != nil {
				t.Fatal(err)
			}
			replaced := copyDir(t, placed) // the old one is removed, the pending one not yet
			for n, b := range keep {
				if err := os.WriteFile(filepath.Join(placed, n), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, state := range []struct {
				name string
				dir  string
				snap *model.Snapshot
				with []Source
			}{
				{"written, not committed", proposed, before, []Source{c.from, c.to}},
				{"committed", proposed, after, []Source{c.from, c.to}},
				{"put in place", placed, after, []Source{c.to}},
				{"old one removed", replaced, after, []Source{c.to}},
			} {
				for i, src := range state.with {
					name := fmt.Sprintf("%s, source %d", state.name, i)
					dir := copyDir(t, state.dir)
					w := &world{t, state.snap}
					a, made, err := Open(Options{Dir: dir, SiteKey: src})
					if err != nil || made {
						t.Errorf("%s: made %v, %v", name, made, err)
						continue
					}
					w.reads(name, a, "r1n1", "calvin")
					w.reads(name+", v1", a, "r1n2", "hobbes")
					changed, err := a.SettleSiteKey(w.snap)
					if err != nil || changed != (state.snap == after) {
						t.Errorf("%s: settled %v, %v", name, changed, err)
					}
					w.set(a, "r1n3", "susie")
					if !changed {
						continue
					}
					if exists(dir, sealNext) || !exists(dir, fileOf(p.Lock.By)) || exists(dir, sealPlain) && exists(dir, sealLocked) {
						t.Errorf("%s: old files are left", name)
					}
					a, _, err = Open(Options{Dir: dir, SiteKey: c.to})
					if err != nil || a.site.stored.id == old {
						t.Errorf("%s: after it was settled: %v", name, err)
						continue
					}
					w.reads(name+", settled", a, "r1n1", "calvin")
					w.reads(name+", settled, v1", a, "r1n2", "hobbes")
					w.reads(name+", settled", a, "r1n3", "susie")
				}
			}
		})
	}
}

func fileOf(by string) string {
	if by == byNothing {
		return sealPlain
	}
	return sealLocked
}

func TestChangeSiteKey_the_old_key_alone_opens_nothing_new(t *testing.T) {
	a, dir := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	thief := copyDir(t, dir)
	to := passphrase("new")
	ops, err := a.ChangeSiteKey(w.snap, to, noon)
	if err != nil {
		t.Fatal(err)
	}
	w.commit(ops...)
	if changed, err := a.SettleSiteKey(w.snap); !changed || err != nil {
		t.Fatalf("settled %v, %v", changed, err)
	}
	for _, build := range []func(*model.Snapshot, time.Time) ([]model.Op, error){a.Rotate, a.Forget} {
		if ops, err = build(w.snap, noon.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		w.commit(ops...)
	}
	if ops, err = a.Forget(w.snap, noon.Add(2*time.Hour)); err != nil { // the keys that Rotate retired
		t.Fatal(err)
	}
	w.commit(ops...)
	b := openBy(t, dir, to)
	w.reads("the service", b, "r1n1", "calvin")
	c := openBy(t, thief, Source{})
	if err := c.UseKeys(w.snap.SealKeys()); err == nil {
		t.Error("the old site key opens the data keys")
	}
	if got, err := c.Unseal(w.snap.Node("r1n1").Attrs["bmc.password"], here); err == nil {
		t.Errorf("the old site key opens %q", got.Reveal())
	}
	if _, err := c.SettleSiteKey(w.snap); err == nil || !strings.Contains(err.Error(), "Join") {
		t.Errorf("a manager that slept through it: %v", err)
	}
}

// Every manager of a pool has a source of its own; a change on one reaches all.
func TestSettleSiteKey_on_the_other_managers(t *testing.T) {
	a, _ := open(t)
	bundle, err := a.Export()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	sources := []Source{{}, credential(t, 0), passphrase("mine")}
	var dirs []string
	var managers []*Authority
	for _, src := range sources {
		dir := filepath.Join(t.TempDir(), "keys")
		if err := Import(bundle, Options{Dir: dir, SiteKey: src}); err != nil {
			t.Fatal(err)
		}
		dirs, managers = append(dirs, dir), append(managers, openBy(t, dir, src))
	}
	w.set(managers[1], "r1n1", "calvin")
	for round := range 3 {
		sources[0] = []Source{{}, passphrase("first"), {}}[round]
		ops, err := managers[0].ChangeSiteKey(w.snap, sources[0], noon.Add(time.Duration(round)*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		stale := w.snap
		w.commit(ops...)
		// A manager that does not know of it yet makes a data key, under the site key so far.
		if ops, err = managers[2].Rotate(w.snap, noon); err != nil {
			t.Fatal(err)
		}
		w.commit(ops...)
		if w.key().Site != managers[2].site.stored.id {
			t.Fatal("this test tests nothing")
		}
		for i, m := range managers {
			w.reads("before it is settled", m, "r1n1", "calvin")
			if changed, err := m.SettleSiteKey(w.snap); !changed || err != nil {
				t.Errorf("round %d: manager %d settled %v, %v", round, i, changed, err)
			}
			for _, snap := range []*model.Snapshot{w.snap, stale} { // an older snapshot takes nothing back
				if changed, err := m.SettleSiteKey(snap); changed || err != nil {
					t.Errorf("round %d: manager %d settled again: %v, %v", round, i, changed, err)
				}
			}
			managers[i] = openBy(t, dirs[i], sources[i])
			w.reads("after a restart", managers[i], "r1n1", "calvin")
		}
		if managers[0].site.stored.id != managers[1].site.stored.id || managers[1].site.stored.id != managers[2].site.stored.id {
			t.Error("the managers have different site keys")
		}
	}
}

// A manager that finished a change at a start with the old source does not know the new one: it must not put a later key under the old.
func TestSettleSiteKey_never_goes_back_to_an_old_source(t *testing.T) {
	from, to := credential(t, 0), credential(t, 1)
	dir := filepath.Join(t.TempDir(), "keys")
	a := openBy(t, dir, from)
	otherDir := filepath.Join(t.TempDir(), "keys")
	if err := Import(export(t, a), Options{Dir: otherDir}); err != nil {
		t.Fatal(err)
	}
	other := openBy(t, otherDir, Source{})
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	ops, err := a.ChangeSiteKey(w.snap, to, noon)
	if err != nil {
		t.Fatal(err)
	}
	w.commit(ops...)
	a = openBy(t, dir, from) // killed before it was settled
	for _, m := range []*Authority{a, other} {
		if changed, err := m.SettleSiteKey(w.snap); !changed || err != nil {
			t.Fatalf("settled %v, %v", changed, err)
		}
	}
	if ops, err = other.ChangeSiteKey(w.snap, Source{}, noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.commit(ops...)
	if changed, err := a.SettleSiteKey(w.snap); changed || err == nil || !strings.Contains(err.Error(), "Start the service anew") {
		t.Errorf("settled without its source: %v, %v", changed, err)
	}
	w.reads("meanwhile", a, "r1n1", "calvin")
	a = openBy(t, dir, to)
	if changed, err := a.SettleSiteKey(w.snap); !changed || err != nil {
		t.Errorf("after a start: %v, %v", changed, err)
	}
	w.reads("in the end", openBy(t, dir, to), "r1n1", "calvin")
}

func TestRotateSiteKey_keeps_what_opens_it(t *testing.T) {
	for what, src := range map[string]Source{"plain": {}, "file": credential(t, 0), "passphrase": passphrase("x")} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			a := openBy(t, dir, src)
			w := newWorld(t)
			w.set(a, "r1n1", "calvin")
			for round := range 2 {
				old := a.site.stored.id
				ops, err := a.RotateSiteKey(w.snap, noon.Add(time.Duration(round)*time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				w.commit(ops...)
				if changed, err := a.SettleSiteKey(w.snap); !changed || err != nil {
					t.Fatalf("settled %v, %v", changed, err)
				}
				if a = openBy(t, dir, src); a.site.stored.id == old {
					t.Error("it is the same site key")
				}
				w.reads("after a start", a, "r1n1", "calvin")
			}
		})
	}
}

func TestKeepSiteKey_takes_a_refused_change_back(t *testing.T) {
	a, dir := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	if _, err := a.ChangeSiteKey(w.snap, passphrase("new"), noon); err != nil {
		t.Fatal(err)
	}
	if err := a.KeepSiteKey(); err != nil {
		t.Fatal(err)
	}
	w.reads("kept", openBy(t, dir, Source{}), "r1n1", "calvin")
	if _, _, err := Open(Options{Dir: dir, SiteKey: passphrase("new")}); err == nil {
		t.Error("the new passphrase opens it")
	}
}

// A second attempt, while the first may still be committed, is for the same site key: whichever is committed is the one that is there.
func TestChangeSiteKey_again_is_for_the_same_key(t *testing.T) {
	a, dir := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	first, err := a.ChangeSiteKey(w.snap, passphrase("one"), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ChangeSiteKey(w.snap, passphrase("two"), noon); err != nil {
		t.Fatal(err)
	}
	w.commit(first...)
	if changed, err := a.SettleSiteKey(w.snap); !changed || err != nil {
		t.Fatalf("settled %v, %v", changed, err)
	}
	w.reads("the last source", openBy(t, dir, passphrase("two")), "r1n1", "calvin")
}

func FuzzLock(f *testing.F) {
	k, err := newSiteKey([]byte("the same in every process of it!")) // 32 bytes
	if err != nil {
		f.Fatal(err)
	}
	src := credential(f, 0)
	o, err := src.opener(nil)
	if err != nil {
		f.Fatal(err)
	}
	l, err := o.lock(k)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(&l)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"by":"file","argon2id":{}}`))
	f.Add([]byte(`{"lock":{"by":"key"},"keys":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if l, err := parseLock(b); err == nil {
			if got, _, err := l.open(src); err == nil && got.id != k.id {
				t.Errorf("%q opened to another key", b)
			}
		}
		if p, err := parsePending(b); err == nil {
			(&ring{}).with(p.Keys)
		}
	})
}
