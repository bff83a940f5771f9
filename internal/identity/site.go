package identity

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/argon2"

	"muster/internal/durable"
	"muster/internal/model"
)

// Files of the site key in the keys directory.
const (
	sealPlain  = "seal.key"  // the site key itself, in PEM form
	sealLocked = "seal.json" // the site key, locked by a file that somebody else keeps, or a passphrase: a [lock]
	sealNext   = "seal.next" // what takes their place when a change of the site key is known to be committed: a [pending]
)

const sealPEM = "MUSTER SEALING KEY"

// Source says what the site key is unlocked with. The zero value is nothing: it lies readable in keys/seal.key. The site key is
// the same on all managers of a pool; each has a source of its own.
type Source struct {
	// File is the path of a file with 32 random bytes that somebody else keeps, such as $CREDENTIALS_DIRECTORY/NAME of
	// systemd. It is never written.
	File string
	// Passphrase counts when File is empty.
	Passphrase model.Secret

	// cost is what a passphrase is worked with where a lock is made; zero is newArgon's. It is for tests of this room: nobody else can set it.
	cost argon
}

// How a lock is opened.
const (
	byNothing    = "key" // only in seal.next; in place it is seal.key
	byFile       = "file"
	byPassphrase = "passphrase"
)

func (s Source) by() string {
	switch {
	case s.File != "":
		return byFile
	case !s.Passphrase.Empty():
		return byPassphrase
	}
	return byNothing
}

// siteKey is a site key that is open.
type siteKey struct {
	id  string // 8 hex digits, found from the key
	key model.Secret
	gcm cipher.AEAD
}

func newSiteKey(key []byte) (*siteKey, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return &siteKey{hex.EncodeToString(derive(key, "site key number")[:4]), model.NewSecret(string(key)), gcm}, nil
}

func randomSiteKey() *siteKey {
	b := make([]byte, keySize)
	_, _ = rand.Read(b)
	k, err := newSiteKey(b)
	if err != nil {
		panic(err) // 32 bytes always are a key
	}
	return k
}

// derive makes 32 bytes of a key for one use, telling nothing of the key.
func derive(key []byte, use string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(use))
	return h.Sum(nil)
}

// wrap seals a key into its document.
func (k *siteKey) wrap(doc *model.SealKey, key model.Secret) {
	doc.Site, doc.Wrapped = k.id, box(k.gcm, key.Reveal(), doc.ID)
}

func (k *siteKey) unwrap(doc *model.SealKey) (model.Secret, error) {
	s, err := unbox(k.gcm, doc.Wrapped, doc.ID)
	if err != nil {
		return s, fmt.Errorf("data key %s: its document is damaged: %w. Restore the store from a backup", doc.ID, err)
	}
	return s, nil
}

func (k *siteKey) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: sealPEM, Bytes: []byte(k.key.Reveal())})
}

func parseSiteKey(b []byte) (*siteKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	return newSiteKey(block.Bytes)
}

// lock is a site key under the key that a source gives.
type lock struct {
	Site     string `json:"site"` // number of the site key
	By       string `json:"by"`   // "file", "passphrase"
	Argon2id *argon `json:"argon2id,omitempty"`
	Check    []byte `json:"check,omitempty"` // tells a wrong passphrase from damage
	Box      string `json:"box,omitempty"`
	Key      []byte `json:"key,omitempty"` // of byNothing
}

// argon are the parameters by which a passphrase becomes a key (RFC 9106).
type argon struct {
	Time    uint32 `json:"time"`   // passes
	Memory  uint32 `json:"memory"` // KiB
	Threads uint8  `json:"threads"`
	Salt    []byte `json:"salt"`
}

// newArgon is the second recommended option of RFC 9106 §4, about 0.1 s, or the cost given, with a fresh salt.
func newArgon(cost argon) *argon {
	if cost.Time == 0 {
		cost = argon{Time: 3, Memory: 64 << 10, Threads: 4}
	}
	cost.Salt = make([]byte, 16)
	_, _ = rand.Read(cost.Salt)
	return &cost
}

// check keeps a damaged file from taking all memory.
func (a *argon) check() error {
	if a == nil || a.Time < 1 || a.Time > 64 || a.Memory < 8 || a.Memory > 2<<20 || a.Threads < 1 || len(a.Salt) < 8 || len(a.Salt) > 64 {
		return errors.New("its argon2id parameters are out of range")
	}
	return nil
}

// opener is what a source gives: the key to a lock. It is kept so that another site key can be put under the same.
type opener struct {
	by    string
	argon *argon
	key   model.Secret
}

// opener reads the file, or works the passphrase. a is nil for a new lock.
func (s Source) opener(a *argon) (*opener, error) {
	o := &opener{by: s.by(), argon: a}
	switch o.by {
	case byFile:
		b, err := readSource(s.File)
		if err != nil {
			return nil, err
		}
		o.key, o.argon = model.NewSecret(string(b)), nil
	case byPassphrase:
		if a == nil {
			o.argon = newArgon(s.cost)
		} else if err := a.check(); err != nil {
			return nil, err
		}
		o.key = model.NewSecret(string(argon2.IDKey([]byte(s.Passphrase.Reveal()), o.argon.Salt, o.argon.Time, o.argon.Memory, o.argon.Threads, keySize)))
	}
	return o, nil
}

// Check says what is wrong with a source.
func (s Source) Check() error {
	if s.by() != byFile {
		return nil
	}
	_, err := readSource(s.File)
	return err
}

// readSource reads the file of a source: 32 bytes as they are, or in PEM form.
func readSource(path string) ([]byte, error) {
	bad := func(why, do string) ([]byte, error) {
		return nil, fmt.Errorf("site key file %s: %s. %s", path, why, do)
	}
	f, err := os.Open(path)
	if err != nil {
		return bad(reason(err), "See that the unit has LoadCredential= or LoadCredentialEncrypted= for it")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return bad(reason(err), "Look at the file")
	}
	// systemd lets the service in by an access list, which shows as bits of the group.
	if info.Mode().Perm()&0o007 != 0 {
		return bad(fmt.Sprintf("everybody may use it (mode %04o)", info.Mode().Perm()), "chmod o= "+path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return bad(reason(err), "Look at the file")
	}
	if len(b) == keySize {
		return b, nil
	}
	if block, _ := pem.Decode(b); block != nil && len(block.Bytes) == keySize {
		return block.Bytes, nil
	}
	return bad(fmt.Sprintf("it has %d bytes, not 32, and is no key in PEM form", len(b)), "Make one with: head -c 32 /dev/urandom")
}

func reason(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// lock puts a site key under the key of a source.
func (o *opener) lock(k *siteKey) (lock, error) {
	l := lock{Site: k.id, By: o.by, Argon2id: o.argon}
	if o.by == byNothing {
		l.Key = []byte(k.key.Reveal())
		return l, nil
	}
	gcm, err := newGCM([]byte(o.key.Reveal()))
	if err != nil {
		return l, err
	}
	l.Check = derive([]byte(o.key.Reveal()), "check")
	l.Box = box(gcm, k.key.Reveal(), l.Site)
	return l, nil
}

// errSource says that a lock is opened by something else than what was given.
var errSource = errors.New("the site key is locked otherwise")

// open opens a lock with a source.
func (l *lock) open(s Source) (*siteKey, *opener, error) {
	if s.by() != l.By {
		return nil, nil, fmt.Errorf("%w, %s", errSource, mismatch(l.By, s.by()))
	}
	if l.By == byNothing {
		k, err := newSiteKey(l.Key)
		return k, &opener{by: byNothing}, err
	}
	if l.By == byPassphrase {
		if err := l.Argon2id.check(); err != nil {
			return nil, nil, err
		}
	}
	o, err := s.opener(l.Argon2id)
	if err != nil {
		return nil, nil, err
	}
	if !l.opens(o) {
		if l.By == byFile {
			return nil, nil, fmt.Errorf("the key in %s is not the one that it is locked with. Give the file that belongs to it", s.File)
		}
		return nil, nil, errors.New("the passphrase is wrong. Give the one that was set last")
	}
	gcm, err := newGCM([]byte(o.key.Reveal()))
	if err != nil {
		return nil, nil, err
	}
	key, err := unbox(gcm, l.Box, l.Site)
	if err != nil {
		return nil, nil, fmt.Errorf("it is damaged: %w. Put it back from a backup", err)
	}
	k, err := newSiteKey([]byte(key.Reveal()))
	if err == nil && k.id != l.Site {
		err = errors.New("it holds another key than it says. Put it back from a backup")
	}
	return k, o, err
}

// opens says that an opener is the one of the lock.
func (l *lock) opens(o *opener) bool {
	return o.by == l.By && (l.By == byNothing || hmac.Equal(l.Check, derive([]byte(o.key.Reveal()), "check")))
}

// parseLock reads seal.json.
func parseLock(b []byte) (*lock, error) {
	l := new(lock)
	if err := decode(b, l); err != nil {
		return nil, err
	}
	if l.By != byFile && l.By != byPassphrase {
		return nil, errors.New("it does not say what opens it: it is damaged, or of a newer muster")
	}
	return l, nil
}

// pending is a change of the site key that may or may not be committed. The old and the new site key open each other: Keys holds
// each under the other, so that the service starts with the old source as well as with the new one.
type pending struct {
	Lock lock             `json:"lock"` // the new site key under the new source
	Keys []*model.SealKey `json:"keys"`
}

func parsePending(b []byte) (*pending, error) {
	p := new(pending)
	if err := decode(b, p); err != nil {
		return nil, err
	}
	for _, k := range p.Keys {
		if k == nil {
			return nil, errors.New("it is damaged")
		}
	}
	return p, nil
}

// decode reads JSON and tells nothing of what is in it.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New("it is damaged, or of a newer muster")
	}
	return nil
}

// kept is how the site key is kept in the keys directory.
type kept struct {
	stored  *siteKey // of seal.key or seal.json
	source  *opener  // what opened it; nil when that is not known any more
	pending *pending // a change that may or may not be committed
	next    *opener  // of pending; nil when it was found at the start
}

// readThere reads a file; nil when it is not there.
func readThere(dir, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// readPrivate is readThere for a file that only the service may use.
func readPrivate(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		do := "chmod 600 " + path
		if strings.HasPrefix(name, "seal.") {
			do += "; if somebody may have read it: muster secret rotate --site-key"
		}
		return nil, fmt.Errorf("others may use it (mode %04o). Forbid it: %s", mode, do)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("it belongs to user %d, the service is user %d. Give it to the service: chown %d %s", st.Uid, os.Geteuid(), os.Geteuid(), path)
	}
	return io.ReadAll(f)
}

// openSite opens the site key with a source. The error names the file.
func openSite(dir string, src Source) (*kept, *ring, error) {
	bad := func(name string, err error) (*kept, *ring, error) {
		return nil, nil, fmt.Errorf("key file %s cannot be used: %w", filepath.Join(dir, name), err)
	}
	const backup = ". Put it back from a backup"
	found := map[string]*lock{}
	k := &kept{}
	for name, parse := range map[string]func([]byte) (*lock, error){
		sealPlain: func(b []byte) (*lock, error) {
			plain, err := parseSiteKey(b)
			if err != nil {
				return nil, err
			}
			l, err := (&opener{by: byNothing}).lock(plain)
			return &l, err
		},
		sealLocked: parseLock,
		sealNext: func(b []byte) (_ *lock, err error) {
			if k.pending, err = parsePending(b); err != nil {
				return nil, err
			}
			return &k.pending.Lock, nil
		},
	} {
		b, err := readPrivate(dir, name)
		if err != nil {
			return bad(name, err)
		}
		if b == nil {
			continue
		}
		if found[name], err = parse(b); err != nil {
			return bad(name, fmt.Errorf("%w"+backup, err))
		}
	}
	plain, locked := found[sealPlain], found[sealLocked]
	switch {
	case plain == nil && locked == nil:
		return bad(sealPlain, errors.New("it is not there"+backup))
	case plain != nil && locked != nil && k.pending == nil:
		return bad(sealLocked, errors.New(sealPlain+" is there as well, and one of them is old. Put both back from one backup"))
	}
	// Either may open it while a change is on its way.
	r := &ring{}
	var problem error
	for _, name := range []string{sealPlain, sealLocked, sealNext} {
		l := found[name]
		if l == nil {
			continue
		}
		site, o, err := l.open(src)
		if err != nil {
			if problem == nil || errors.Is(problem, errSource) {
				_, _, problem = bad(name, err)
			}
			continue
		}
		r.sites = append(r.sites, site)
		if k.source == nil {
			k.source = o
		}
	}
	if k.source == nil {
		return nil, nil, problem
	}
	stored := plain
	if k.pending != nil {
		if r = r.with(k.pending.Keys); r.err != nil {
			return bad(sealNext, r.err)
		}
		r.docs = nil
		// Where both are there, one was just put in place and the other was not yet removed.
		if plain == nil || locked != nil && locked.Site == k.pending.Lock.Site {
			stored = locked
		}
	} else if plain == nil {
		stored = locked
	}
	if k.stored = r.site(stored.Site); k.stored == nil {
		return bad(sealNext, errors.New("it does not belong to the site key beside it"+backup))
	}
	return k, r, nil
}

// mismatch says what opens a lock, and what was given.
func mismatch(want, given string) string {
	say := map[string]string{
		byNothing: "nothing", byFile: "a file that is kept elsewhere (--site-key-file)", byPassphrase: "a passphrase (--passphrase)",
	}
	flag := map[string]string{byNothing: "--readable", byFile: "--site-key-file FILE", byPassphrase: "--passphrase"}
	start := "Start it with " + flag[want]
	if want == byNothing {
		start = "Start it without " + flag[given]
	}
	return "by " + say[want] + ", and " + say[given] + " was given. " + start + "; to change that while it runs: muster secret rotate --site-key " + flag[given]
}

// writeLock puts a lock in its place, instead of what is there.
func writeLock(dir string, l *lock) error {
	name, old := sealLocked, sealPlain
	var b []byte
	if l.By == byNothing {
		name, old = old, name
		k, err := newSiteKey(l.Key)
		if err != nil {
			return err
		}
		b = k.pem()
	} else {
		var err error
		if b, err = json.MarshalIndent(l, "", "  "); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		return err
	}
	return remove(dir, old)
}

// remove removes a file for good; it may be gone.
func remove(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(dir)
}
