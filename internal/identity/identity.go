// Package identity is who is who: the certificate authority, the service's own keys, node enrolment, and the sealing of
// secrets.
//
// All of it lies in one directory that only the service can read:
//
//	ca.key  ca.crt          signs the service's, the nodes' and the administrators' certificates
//	server.key              the service's TLS key; its fingerprint is the pin that boot scripts carry
//	seal.key                32 random bytes: secrets in the store are sealed under it (AES-256-GCM)
//	ssh.key  ssh.pub        the key with which the service logs in to nodes
//	admin.pem               certificate, key and CA of the first administrator, for muster --identity
//
// The first [Open] makes them all, admin.pem last; when only that one is missing, it alone is made again. A directory that holds some of
// the keys but not all, or a damaged one, is an error that names the file: keys are never silently made anew, since every enrolled
// node and every sealed secret hangs on them.
package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
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
	UnitNode  = "muster node"
	UnitAdmin = "muster administrator"
)

// Authority holds the keys of one site. It is safe for concurrent use.
type Authority struct {
	dir    string
	caKey  *ecdsa.PrivateKey
	ca     *x509.Certificate
	caPEM  string
	server *ecdsa.PrivateKey
	seal   sealer
	ssh    ssh.Signer
}

// Open reads the keys in dir. Where they are missing it makes them, if fresh says that nothing was ever signed or sealed
// with others; made says so.
func Open(dir string, fresh bool) (a *Authority, made bool, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	_, err = os.Stat(filepath.Join(dir, complete))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if a, err := load(dir); err == nil { // the keys are whole: somebody took the administrator's file, or a first start ended before it
			return a, false, a.writeAdmin(time.Now())
		}
		if !fresh {
			return nil, false, fmt.Errorf("keys: %s is missing although the store is not empty. Put the directory back from a backup; new keys would lock out every node and make the secrets unreadable",
				filepath.Join(dir, complete))
		}
		if err := create(dir, time.Now()); err != nil {
			return nil, false, fmt.Errorf("keys: %w", err)
		}
		made = true
	case err != nil:
		return nil, false, fmt.Errorf("keys: %w", err)
	}
	a, err = load(dir)
	return a, made, err
}

// complete is written last: its presence says that the first start made everything.
const complete = "admin.pem"

var names = []string{"ca.key", "ca.crt", "server.key", "seal.key", "ssh.key", "ssh.pub"}

func create(dir string, now time.Time) error {
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
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		return err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	sealKey := make([]byte, 32)
	_, _ = rand.Read(sealKey)
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
	caPEM := certPEM(caDER)
	files := map[string][]byte{
		"ca.key": keyPEM(caKey), "ca.crt": caPEM, "server.key": keyPEM(serverKey),
		"seal.key": pem.EncodeToMemory(&pem.Block{Type: "MUSTER SEALING KEY", Bytes: sealKey}),
		"ssh.key":  pem.EncodeToMemory(sshPEM), "ssh.pub": authorizedKey(signer),
	}
	for _, n := range names {
		if err := durable.WriteFile(filepath.Join(dir, n), files[n], 0o600); err != nil {
			return err
		}
	}
	a := &Authority{dir: dir, caKey: caKey, ca: ca, caPEM: string(caPEM)}
	return a.writeAdmin(now)
}

func load(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	var problems []error
	read := func(name string, use func([]byte) error) {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err == nil {
			err = use(b)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("key file %s cannot be used: %w. Put it back from a backup", path, err))
		}
	}
	read("ca.key", func(b []byte) (err error) { a.caKey, err = parseKey(b); return err })
	read("ca.crt", func(b []byte) (err error) {
		block, _ := pem.Decode(b)
		if block == nil {
			return errors.New("no PEM block in it")
		}
		a.caPEM = string(b)
		a.ca, err = x509.ParseCertificate(block.Bytes)
		return err
	})
	read("server.key", func(b []byte) (err error) { a.server, err = parseKey(b); return err })
	read("seal.key", func(b []byte) (err error) {
		block, _ := pem.Decode(b)
		if block == nil {
			return errors.New("no PEM block in it")
		}
		a.seal, err = newSealer(block.Bytes)
		return err
	})
	read("ssh.key", func(b []byte) (err error) { a.ssh, err = ssh.ParsePrivateKey(b); return err })
	read("ssh.pub", func([]byte) error { return nil }) // for people; written last of the keys
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if !a.caKey.PublicKey.Equal(a.ca.PublicKey) {
		return nil, fmt.Errorf("key files %s: ca.key and ca.crt do not belong together. Put both back from one backup", dir)
	}
	return a, nil
}

// ServerTLS makes the service's TLS settings with a certificate for the given DNS names and IP addresses. Only
// TLS 1.3; a client certificate is asked for and, where one is given, must be of this CA.
func (a *Authority) ServerTLS(hosts []string) (*tls.Config, error) {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "muster"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, a.server.Public(), a.caKey)
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
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: name, OrganizationalUnit: []string{unit}},
		NotBefore:    now.Add(-time.Hour), NotAfter: expires,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return x509.CreateCertificate(rand.Reader, template, a.ca, pub, a.caKey)
}

// KeyOfCSR is the fingerprint of the public key in a PEM certificate request whose signature holds.
func KeyOfCSR(csrPEM string) (string, error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return "", err
	}
	return Fingerprint(csr.PublicKey), nil
}

func parseCSR(csrPEM string) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode([]byte(csrPEM))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("certificate request: no PEM block CERTIFICATE REQUEST in it")
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

// TicketKey makes the tickets in the URLs of boot scripts (boot.ScriptURL). It comes from the sealing key: the same for as
// long as that is the same, so that a boot goes on over a restart, and telling nothing of it.
func (a *Authority) TicketKey() model.Secret {
	h := hmac.New(sha256.New, a.seal.key)
	h.Write([]byte("boot script ticket"))
	return model.NewSecret(string(h.Sum(nil)))
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
