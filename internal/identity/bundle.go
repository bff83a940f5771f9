package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"muster/internal/model"
)

// A bundle is PEM: one block for each shared key, which has the file's name as its header, and a last one with the SHA-256 of all
// that comes before it.
const (
	bundleHeader = "Muster-Key"
	bundleEnd    = "MUSTER KEYS END"
	bundleMost   = 1 << 20 // bytes
)

// Export is all that the managers of a pool share: the CA, the service's TLS key, the ssh key and the site key, readable, for a joining
// manager over mutual TLS, or for a backup after [EncryptBundle]. For a backup it is taken before the store is read: then it
// opens what is read.
func (a *Authority) Export() ([]byte, error) {
	var b bytes.Buffer
	add := func(name string, text []byte) error {
		block, _ := pem.Decode(text)
		if block == nil {
			return fmt.Errorf("key file %s: no PEM block in it. Put it back from a backup", filepath.Join(a.dir, name))
		}
		block.Headers = map[string]string{bundleHeader: name}
		return pem.Encode(&b, block)
	}
	for _, n := range names {
		if n == "ssh.pub" { // found from ssh.key
			continue
		}
		text, err := os.ReadFile(filepath.Join(a.dir, n))
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		if err := add(n, text); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	site := a.site.stored
	a.mu.Unlock()
	if err := add(sealPlain, site.pem()); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Bytes())
	err := pem.Encode(&b, &pem.Block{Type: bundleEnd, Bytes: sum[:]})
	return b.Bytes(), err
}

// bundle is what an exported bundle holds, checked.
type bundle struct {
	files map[string][]byte
	site  *siteKey
}

// parseBundle checks a bundle as a whole.
func parseBundle(text []byte) (*bundle, error) {
	bad := func(why string) (*bundle, error) {
		return nil, fmt.Errorf("key bundle: %s. Export it anew", why)
	}
	if len(text) > bundleMost {
		return bad("it is too large for one")
	}
	b := &bundle{files: map[string][]byte{}}
	a := new(Authority)
	for rest := text; ; {
		before := text[:len(text)-len(rest)]
		block, after := pem.Decode(rest)
		if block == nil {
			return bad("it is cut off, or is none")
		}
		if block.Type == bundleEnd {
			if sum := sha256.Sum256(before); !bytes.Equal(block.Bytes, sum[:]) || !bytes.Equal(pem.EncodeToMemory(block), rest) {
				return bad("it was altered")
			}
			break
		}
		name := block.Headers[bundleHeader]
		block.Headers = nil
		plain := pem.EncodeToMemory(block)
		var err error
		if name == sealPlain {
			b.site, err = parseSiteKey(plain)
		} else {
			if b.files[name] = plain; !known(name) {
				return bad("it holds a key that this version does not know, or was altered")
			}
			err = a.take(name, plain)
		}
		if err != nil {
			return bad(name + " in it: " + err.Error())
		}
		rest = after
	}
	if a.ssh == nil || a.caKey == nil || a.ca == nil || a.server == nil || b.site == nil {
		return bad("keys are missing in it")
	}
	if err := a.pair(); err != nil {
		return bad(err.Error())
	}
	b.files["ssh.pub"] = authorizedKey(a.ssh)
	return b, nil
}

func known(name string) bool {
	return name == "ca.key" || name == "ca.crt" || name == "server.key" || name == "ssh.key"
}

// Import writes the keys of a bundle into an empty keys directory, the site key locked by o.SiteKey, and makes an administrator for
// this manager. The directory is usable when all is written and not before: after a crash the same Import is repeated. A directory that
// holds other keys is refused; one that has a manager's own key ([ManagerRequest]) is empty in this sense.
func Import(bundle []byte, o Options) error {
	b, err := parseBundle(bundle)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	same := false
	for _, n := range names {
		have, err := os.ReadFile(filepath.Join(o.Dir, n))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("keys: %w", err)
		case !bytes.Equal(have, b.files[n]):
			return otherKeys(o.Dir, n)
		default:
			same = true
		}
	}
	for _, n := range []string{sealPlain, sealLocked, sealNext, complete} {
		if _, err := os.Lstat(filepath.Join(o.Dir, n)); err == nil && !same {
			return otherKeys(o.Dir, n)
		}
	}
	if _, err := os.Stat(filepath.Join(o.Dir, complete)); err == nil {
		a, err := load(o) // an Import that was finished, or this bundle's own directory
		if err == nil && a.ring.Load().site(b.site.id) == nil {
			err = otherKeys(o.Dir, sealPlain)
		}
		return err
	}
	if err := write(o, b.files, b.site, time.Now()); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

func otherKeys(dir, name string) error {
	return fmt.Errorf("keys: %s is of other keys than the bundle. Name a directory without keys; if these are of no use any more, move %s away", filepath.Join(dir, name), dir)
}

// BundleLock says who can open an encrypted bundle: the holders of X25519 keys ("age1…" of age-keygen), or who knows a passphrase.
type BundleLock struct {
	Recipients []string
	Passphrase model.Secret // counts when there are no recipients
}

// EncryptBundle encrypts a bundle in the format of age (age-encryption.org/v1), which the program age opens as well.
func EncryptBundle(bundle []byte, l BundleLock) ([]byte, error) {
	return encryptBundle(bundle, l, 0)
}

// encryptBundle takes the work of a passphrase as a power of two; 0 is age's own, about a second.
func encryptBundle(bundle []byte, l BundleLock, work int) ([]byte, error) {
	var to []age.Recipient
	var problems []error
	for _, r := range l.Recipients {
		x, err := age.ParseX25519Recipient(strings.TrimSpace(r))
		if err != nil {
			problems = append(problems, fmt.Errorf("%q is no recipient. Write the public key that age-keygen prints, age1…", r))
			continue
		}
		to = append(to, x)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("key bundle: %w", errors.Join(problems...))
	}
	if len(to) == 0 {
		if l.Passphrase.Empty() {
			return nil, errors.New("key bundle: nobody could open it. Give recipients (age1…) or a passphrase")
		}
		x, err := age.NewScryptRecipient(l.Passphrase.Reveal())
		if err != nil {
			return nil, fmt.Errorf("key bundle: %w", err)
		}
		if work > 0 {
			x.SetWorkFactor(work)
		}
		to = append(to, x)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err == nil {
		_, err = w.Write(bundle)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("key bundle: encryption: %w", err)
	}
	return out.Bytes(), nil
}

// BundleKey opens an encrypted bundle: the text of a key file of age-keygen ("AGE-SECRET-KEY-1…" on a line), or the passphrase.
type BundleKey struct {
	Identities model.Secret
	Passphrase model.Secret // counts when there are no identities
}

// maxWork keeps an altered header from asking for hours: 2²² is 16 times age's own.
const maxWork = 22

// DecryptBundle opens what EncryptBundle made, whole or not at all. The bundle in it is checked as well.
func DecryptBundle(b []byte, k BundleKey) ([]byte, error) {
	var with []age.Identity
	what := "the passphrase is wrong, or a key and no passphrase opens it"
	if !k.Identities.Empty() {
		what = "none of the keys given opens it"
		ids, err := age.ParseIdentities(strings.NewReader(k.Identities.Reveal()))
		if err != nil { // the error may quote what was given
			return nil, errors.New("key bundle: the key file is not in its form. Give the file that age-keygen wrote")
		}
		with = ids
	} else {
		if k.Passphrase.Empty() {
			return nil, errors.New("key bundle: it is encrypted. Give its passphrase, or the file of the age key that opens it")
		}
		id, err := age.NewScryptIdentity(k.Passphrase.Reveal())
		if err != nil {
			return nil, fmt.Errorf("key bundle: %w", err)
		}
		id.SetMaxWorkFactor(maxWork)
		with = append(with, id)
	}
	r, err := age.Decrypt(bytes.NewReader(b), with...)
	if no := (*age.NoIdentityMatchError)(nil); errors.As(err, &no) {
		return nil, fmt.Errorf("key bundle: %s", what)
	}
	damaged := errors.New("key bundle: it is damaged or cut off. Take another backup")
	if err != nil {
		return nil, damaged
	}
	out, err := io.ReadAll(io.LimitReader(r, bundleMost+1))
	if err != nil {
		return nil, damaged
	}
	if _, err := parseBundle(out); err != nil {
		return nil, err
	}
	return out, nil
}
