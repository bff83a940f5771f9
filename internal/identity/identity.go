// Package identity is who is who: the certificate authority, the service's own keys, enrolment of nodes and managers, and the sealing
// of secrets.
//
// All of it lies in one directory that only the service can read:
//
//	ca.key  ca.crt          signs the service's, the nodes', the managers' and the administrators' certificates
//	server.key              the service's TLS key; its fingerprint is the pin that boot scripts carry
//	seal.key                the site key, 32 random bytes, or
//	seal.json               the site key, locked by a file that is kept elsewhere or a passphrase
//	ssh.key  ssh.pub        the key with which the service logs in to nodes
//	admin.pem               certificate, key and CA of the first administrator, for muster --identity
//	manager.key  .crt       this manager's own, for the other managers of a pool
//
// The first [Open] makes them, admin.pem last; when only that one is missing, it alone is made again. A directory that holds some of
// the keys but not all, or a damaged one, is an error that names the file: keys are never silently made anew, since every enrolled
// node and every sealed secret hangs on them. The managers of a pool share all but admin.pem and the manager's own ([Authority.Export],
// [Import]).
//
// Secrets are sealed in two steps:
//
//	file, passphrase ──> site key ──> data keys (model.SealKey, in the store) ──> "sealed:v2:<id>:…" (in nodes and groups)
//
// Without the site key the store and its backups tell nothing of them. An envelope opens only at the place that it was made for.
package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"muster/internal/durable"
	"muster/internal/model"
)

// NodeLife is how long a node's certificate holds; the agent renews it after half of that.
const NodeLife = 24 * time.Hour

// AdminLife is how long an administrator's certificate holds.
const AdminLife = 365 * 24 * time.Hour

const caLife = 20 * 365 * 24 * time.Hour

// OrganizationalUnits of the subject tell the kinds of certificates apart.
const (
	UnitNode    = "muster node"
	UnitAdmin   = "muster administrator"
	UnitManager = "muster manager"
)

// Authority holds the keys of one site. It is safe for concurrent use.
type Authority struct {
	dir    string
	caKey  *ecdsa.PrivateKey
	ca     *x509.Certificate
	caPEM  string
	server *ecdsa.PrivateKey
	ssh    ssh.Signer
	ring   atomic.Pointer[ring]

	// mu guards how the site key is kept.
	mu      sync.Mutex
	site    kept
	settled model.Revision // newest that SettleSiteKey has seen
}

// Options say where the keys are.
type Options struct {
	Dir string // made when it is not there
	// Fresh says that nothing was ever signed or sealed with others, so that missing keys may be made.
	Fresh bool
	// SiteKey opens the site key; where the keys are made, it is locked by that.
	SiteKey Source
}

// Open reads the keys. Where they are missing it makes them, if they may be made; made says so.
func Open(o Options) (a *Authority, made bool, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	_, err = os.Stat(filepath.Join(o.Dir, complete))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if Whole(o.Dir) { // somebody took the administrator's file, or a first start ended before it
			a, err := load(o)
			if err != nil {
				return nil, false, err
			}
			return a, false, a.writeAdmin(time.Now())
		}
		if !o.Fresh {
			return nil, false, fmt.Errorf("keys: %s is missing although the store is not empty. Put the directory back from a backup; new keys would lock out every node and make the secrets unreadable",
				filepath.Join(o.Dir, complete))
		}
		if err := create(o, time.Now()); err != nil {
			return nil, false, fmt.Errorf("keys: %w", err)
		}
		made = true
	case err != nil:
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	a, err = load(o)
	return a, made, err
}

// complete is written last: its presence says that the first start made everything.
const complete = "admin.pem"

// Whole says that a directory has all keys, whatever is in them.
func Whole(dir string) bool {
	there := func(n string) bool {
		_, err := os.Lstat(filepath.Join(dir, n))
		return err == nil
	}
	for _, n := range names {
		if !there(n) {
			return false
		}
	}
	return there(sealPlain) || there(sealLocked)
}

// names are the shared keys but the site key, in the order in which they are written.
var names = []string{"ca.key", "ca.crt", "server.key", "ssh.key", "ssh.pub"}

func create(o Options, now time.Time) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "muster CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	_, sshKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	sshPEM, err := ssh.MarshalPrivateKey(sshKey, "muster")
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(sshKey)
	if err != nil {
		return err
	}
	return write(o, map[string][]byte{
		"ca.key": keyPEM(caKey), "ca.crt": certPEM(caDER), "server.key": keyPEM(serverKey),
		"ssh.key": pem.EncodeToMemory(sshPEM), "ssh.pub": authorizedKey(signer),
	}, randomSiteKey(), now)
}

// write writes keys into the directory, the administrator's file last.
func write(o Options, files map[string][]byte, site *siteKey, now time.Time) error {
	opener, err := o.SiteKey.opener(nil)
	if err != nil {
		return err
	}
	l, err := opener.lock(site)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := durable.WriteFile(filepath.Join(o.Dir, n), files[n], 0o600); err != nil {
			return err
		}
	}
	if err := errors.Join(writeLock(o.Dir, &l), remove(o.Dir, sealNext)); err != nil {
		return err
	}
	a, err := load(o)
	if err != nil {
		return err
	}
	return a.writeAdmin(now)
}

func load(o Options) (*Authority, error) {
	a := &Authority{dir: o.Dir}
	var problems []error
	for _, n := range names {
		path := filepath.Join(o.Dir, n)
		bad := func(err error) { problems = append(problems, fmt.Errorf("key file %s cannot be used: %w", path, err)) }
		read := readPrivate
		if !strings.HasSuffix(n, ".key") { // everybody may have it
			read = readThere
		}
		b, err := read(o.Dir, n)
		switch {
		case err != nil:
			bad(err)
		case b == nil:
			bad(errors.New("it is not there. Put it back from a backup"))
		default:
			if err := a.take(n, b); err != nil {
				bad(fmt.Errorf("%w. Put it back from a backup", err))
			}
		}
	}
	site, r, err := openSite(o.Dir, o.SiteKey)
	if err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if err := a.pair(); err != nil {
		return nil, fmt.Errorf("key files %s: %w. Put both back from one backup", o.Dir, err)
	}
	a.site = *site
	a.ring.Store(r)
	return a, nil
}

// take reads one of the files named in names.
func (a *Authority) take(name string, b []byte) (err error) {
	switch name {
	case "ca.key":
		a.caKey, err = parseKey(b)
	case "ca.crt":
		block, _ := pem.Decode(b)
		if block == nil {
			return errors.New("no PEM block in it")
		}
		a.caPEM = string(b)
		a.ca, err = x509.ParseCertificate(block.Bytes)
	case "server.key":
		a.server, err = parseKey(b)
	case "ssh.key":
		a.ssh, err = ssh.ParsePrivateKey(b)
	}
	return err // ssh.pub is for people
}

func (a *Authority) pair() error {
	if !a.caKey.PublicKey.Equal(a.ca.PublicKey) {
		return errors.New("ca.key and ca.crt do not belong together")
	}
	return nil
}

// ServerTLS makes the service's TLS settings with a certificate for the given DNS names and IP addresses. Only
// TLS 1.3; a client certificate is asked for and, where one is given, must be of this CA.
func (a *Authority) ServerTLS(hosts []string) (*tls.Config, error) {
	now := time.Now()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "muster"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	setHosts(template, hosts)
	der, err := a.issue(a.server.Public(), template)
	if err != nil {
		return nil, fmt.Errorf("service certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.ca)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.ca.Raw}, PrivateKey: a.server}},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    pool,
		NextProtos:   []string{"http/1.1"},
	}, nil
}

// Pin is the fingerprint of the service's public key, "sha256:" and 64 hex digits of its SubjectPublicKeyInfo
// (RFC 7469 §2.4 names the same bytes). It outlives certificates.
func (a *Authority) Pin() string { return Fingerprint(a.server.Public()) }

// CA is the certificate of the authority in PEM form.
func (a *Authority) CA() string { return a.caPEM }

// AdminBundle is the path of the first administrator's certificate, key and CA in one PEM file.
func (a *Authority) AdminBundle() string { return filepath.Join(a.dir, complete) }

// SSHSigner signs in to nodes.
func (a *Authority) SSHSigner() ssh.Signer { return a.ssh }

// SSHAuthorizedKey is the line for a node's authorized_keys.
func (a *Authority) SSHAuthorizedKey() string { return strings.TrimSpace(string(authorizedKey(a.ssh))) }

// SignNode makes a certificate for the public key of a PEM certificate request. The names in the request are ignored:
// the certificate says the node that the caller has proved.
func (a *Authority) SignNode(node model.NodeName, csrPEM string, now time.Time) (cert, key string, expires time.Time, err error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return "", "", time.Time{}, err
	}
	expires = now.Add(NodeLife)
	der, err := a.sign(csr.PublicKey, string(node), UnitNode, now, expires)
	if err != nil {
		return "", "", time.Time{}, fmt.Errorf("certificate of node %s: %w", node, err)
	}
	return string(certPEM(der)), Fingerprint(csr.PublicKey), expires, nil
}

// writeAdmin makes the administrator's certificate and writes it with its key and the CA.
func (a *Authority) writeAdmin(now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := a.sign(key.Public(), "admin", UnitAdmin, now, now.Add(AdminLife))
	if err != nil {
		return err
	}
	bundle := append(append(certPEM(der), keyPEM(key)...), a.caPEM...)
	if err := durable.WriteFile(a.AdminBundle(), bundle, 0o600); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

func (a *Authority) sign(pub crypto.PublicKey, name, unit string, now, expires time.Time) ([]byte, error) {
	return a.issue(pub, &x509.Certificate{
		Subject:   pkix.Name{CommonName: name, OrganizationalUnit: []string{unit}},
		NotBefore: now.Add(-time.Hour), NotAfter: expires,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// issue signs a certificate for a key that signs.
func (a *Authority) issue(pub crypto.PublicKey, template *x509.Certificate) ([]byte, error) {
	template.SerialNumber, template.KeyUsage = serial(), x509.KeyUsageDigitalSignature
	return x509.CreateCertificate(rand.Reader, template, a.ca, pub, a.caKey)
}

// setHosts puts DNS names and IP addresses into a certificate.
func setHosts(template *x509.Certificate, hosts []string) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
}

// KeyOfCSR is the fingerprint of the public key in a PEM certificate request whose signature holds.
func KeyOfCSR(csrPEM string) (string, error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return "", err
	}
	return Fingerprint(csr.PublicKey), nil
}

const requestPEM = "CERTIFICATE REQUEST"

func parseCSR(csrPEM string) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode([]byte(csrPEM))
	if block == nil || block.Type != requestPEM {
		return nil, errors.New("certificate request: no PEM block " + requestPEM + " in it")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return csr, nil
}

// Fingerprint is "sha256:" and the hex digits of the hash of a public key's SubjectPublicKeyInfo; "" for a kind of key
// that has none.
func Fingerprint(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// TicketKey makes the tickets in the URLs of boot scripts (boot.ScriptURL). It comes from the service's TLS key: the same on all managers
// for as long as that is the same, so that a boot goes on over a restart and with another manager, and telling nothing of it.
func (a *Authority) TicketKey() model.Secret {
	return model.NewSecret(string(derive(keyPEM(a.server), "boot script ticket")))
}

// ImageKey signs the manifests of images. It comes from the authority's key: the same on all managers, and telling nothing of it.
func (a *Authority) ImageKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(derive(keyPEM(a.caKey), "image manifests"))
}

// NewToken makes a one-time token of 256 random bits and the hash under which it is stored.
func NewToken() (token, hash string) {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	token = hex.EncodeToString(b)
	return token, TokenHash(token)
}

// TokenHash is SHA-256 of a token in hex. The token has full entropy, so a plain hash hides it.
func TokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return n
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(k *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err) // an ECDSA key of a named curve always has a form
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it holds a %T, not an ECDSA key", k)
	}
	return ec, nil
}

func authorizedKey(s ssh.Signer) []byte {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
	return []byte(line + " muster\n")
}

// HostKey reads an ssh public key in authorized_keys form and returns it bare: type and base64.
func HostKey(line string) (string, error) {
	k, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "", err
	}
	if len(rest) > 0 {
		return "", errors.New("more than one key on it")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))), nil
}
