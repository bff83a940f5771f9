package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"muster/internal/model"
)

func export(t testing.TB, a *Authority) []byte {
	t.Helper()
	b, err := a.Export()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestImport_makes_a_manager_of_the_same_pool(t *testing.T) {
	a, _ := open(t)
	w := newWorld(t)
	w.set(a, "r1n1", "calvin")
	for what, src := range map[string]Source{"plain": {}, "passphrase": passphrase("x"), "file": credential(t, 0)} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "keys")
			if _, _, err := ManagerRequest(dir, "m2"); err != nil { // it has its own key already
				t.Fatal(err)
			}
			o := Options{Dir: dir, SiteKey: src}
			if err := Import(export(t, a), o); err != nil {
				t.Fatal(err)
			}
			b, made, err := Open(o)
			if err != nil || made {
				t.Fatalf("made %v, %v", made, err)
			}
			if a.CA() != b.CA() || a.Pin() != b.Pin() || a.SSHAuthorizedKey() != b.SSHAuthorizedKey() || a.TicketKey().Reveal() != b.TicketKey().Reveal() {
				t.Error("the managers differ")
			}
			w.reads("the new manager", b, "r1n1", "calvin")
			if err := Import(export(t, a), o); err != nil {
				t.Errorf("repeated: %v", err)
			}
			if !bytes.Equal(export(t, a), export(t, b)) {
				t.Error("the new manager exports something else")
			}
			for _, n := range append(slices.Clone(names), complete, managerKey) {
				if info, err := os.Stat(filepath.Join(dir, n)); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v, %v", n, info, err)
				}
			}
		})
	}
}

func TestImport_refuses_a_directory_with_other_keys(t *testing.T) {
	a, _ := open(t)
	bundle := export(t, a)
	for _, n := range append(slices.Clone(names), sealPlain, sealLocked, complete) {
		dir := filepath.Join(t.TempDir(), "keys")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, n), []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Import(bundle, Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), n) {
			t.Errorf("%s: %v", n, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("%s: it wrote %v", n, left)
		}
	}
	_, dir := open(t)
	if err := Import(bundle, Options{Dir: dir, SiteKey: Source{}}); err == nil {
		t.Error("whole other keys were replaced")
	}
}

// The import is killed after each file; it is not usable before it is repeated.
func TestImport_is_repeated_after_a_kill(t *testing.T) {
	a, _ := open(t)
	bundle := export(t, a)
	for _, src := range []Source{{}, credential(t, 0)} {
		whole := filepath.Join(t.TempDir(), "keys")
		o := Options{Dir: whole, SiteKey: src}
		if err := Import(bundle, o); err != nil {
			t.Fatal(err)
		}
		written := append(slices.Clone(names), fileOf(src.by()), complete)
		for done := range written {
			dir := copyDir(t, whole)
			for _, n := range written[done:] {
				if err := os.Remove(filepath.Join(dir, n)); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := Open(Options{Dir: dir, SiteKey: src}); err == nil && done < len(written)-1 {
				t.Errorf("%d files: opened", done)
			}
			if err := Import(bundle, Options{Dir: dir, SiteKey: src}); err != nil {
				t.Errorf("%d files: %v", done, err)
			}
			if b, _, err := Open(Options{Dir: dir, SiteKey: src}); err != nil || b.Pin() != a.Pin() {
				t.Errorf("%d files: %v", done, err)
			}
		}
	}
}

func TestImport_refuses_every_altered_byte_and_writes_nothing(t *testing.T) {
	a, _ := open(t)
	good := export(t, a)
	dir := filepath.Join(t.TempDir(), "keys")
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 1
		if err := Import(bad, Options{Dir: dir}); err == nil {
			t.Fatalf("byte %d (%q) altered: imported", i, good[i])
		}
		if err := Import(good[:i], Options{Dir: dir}); err == nil {
			t.Fatalf("cut to %d bytes: imported", i)
		}
	}
	if err := Import(append(slices.Clone(good), '\n'), Options{Dir: dir}); err == nil {
		t.Error("with more behind it: imported")
	}
	if exists(dir, ".") {
		t.Error("it wrote something")
	}
}

func TestEncryptBundle(t *testing.T) {
	a, _ := open(t)
	bundle := export(t, a)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := func(k *age.X25519Identity) BundleKey {
		return BundleKey{Identities: model.NewSecret("# created by age-keygen\n" + k.String() + "\n")}
	}
	words := func(s string) BundleKey { return BundleKey{Passphrase: model.NewSecret(s)} }
	const work = 10
	for what, c := range map[string]struct {
		lock  BundleLock
		opens []BundleKey
		not   map[string]BundleKey
	}{
		"recipients": {
			BundleLock{Recipients: []string{key.Recipient().String(), other.Recipient().String() + "\n"}},
			[]BundleKey{file(key), file(other)},
			map[string]BundleKey{"a key and no passphrase": words("x")},
		},
		"one recipient": {BundleLock{Recipients: []string{key.Recipient().String()}}, []BundleKey{file(key)}, map[string]BundleKey{"none of the keys": file(other)}},
		"passphrase": {
			BundleLock{Passphrase: model.NewSecret("correct horse")},
			[]BundleKey{words("correct horse")},
			map[string]BundleKey{"the passphrase is wrong": words("Correct horse"), "none of the keys": file(key), "Give its passphrase": {}, "age-keygen": {Identities: model.NewSecret("correct horse")}},
		},
	} {
		t.Run(what, func(t *testing.T) {
			b, err := encryptBundle(bundle, c.lock, work)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("PRIVATE KEY")) {
				t.Error("it is readable")
			}
			for _, k := range c.opens {
				if got, err := DecryptBundle(b, k); err != nil || !bytes.Equal(got, bundle) {
					t.Errorf("DecryptBundle: %v", err)
				}
			}
			for say, k := range c.not {
				if _, err := DecryptBundle(b, k); err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "horse") {
					t.Errorf("with another key: %v, want %q", err, say)
				}
			}
			for i := 0; i < len(b); i += 1 + i/200 { // each byte of the header, then fewer
				bad := slices.Clone(b)
				bad[i] ^= 1
				if _, err := DecryptBundle(bad, c.opens[0]); err == nil {
					t.Fatalf("byte %d altered: opened", i)
				}
			}
			if _, err := DecryptBundle(b[:len(b)-1], c.opens[0]); err == nil {
				t.Error("cut off: opened")
			}
		})
	}
	for say, l := range map[string]BundleLock{"nobody": {}, "age2": {Recipients: []string{"age2xyz"}}} {
		if _, err := EncryptBundle(bundle, l); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("EncryptBundle: %v, want %q", err, say)
		}
	}
}

func FuzzBundle(f *testing.F) {
	a, _, err := Open(Options{Dir: filepath.Join(f.TempDir(), "keys"), Fresh: true})
	if err != nil {
		f.Fatal(err)
	}
	good := export(f, a)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("-----BEGIN MUSTER KEYS END-----\n-----END MUSTER KEYS END-----\n"))
	f.Add([]byte("-----BEGIN X-----\nMuster-Key: seal.key\n\n-----END X-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if b, err := parseBundle(text); err == nil && (b.site == nil || len(b.files) != len(names)) {
			t.Errorf("half a bundle of %q", text)
		}
		_, _ = DecryptBundle(text, BundleKey{Identities: model.NewSecret("x")})
	})
}
