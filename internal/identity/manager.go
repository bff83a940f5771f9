package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"muster/internal/durable"
	"muster/internal/model"
)

// ManagerLife is how long a manager's certificate holds; it is renewed when a third of that is left.
const ManagerLife = 365 * 24 * time.Hour

const (
	managerKey  = "manager.key"
	managerCert = "manager.crt"
)

// PeerFiles are the paths of a certificate, its key, and the CA of the other side, in PEM form.
type PeerFiles struct{ Cert, Key, CA string }

// Manager gives the files with which this manager shows itself to the others of its pool, for both ends of a connection. hosts are
// its DNS names and IP addresses. The certificate is made when there is none, when less than a third of its life is left, and when
// name or hosts are others; the key stays, so that a reader of both always finds two that belong together. To be
// called at every start, when the addresses change, and once a day.
func (a *Authority) Manager(name model.ManagerName, hosts []string, now time.Time) (PeerFiles, error) {
	f := PeerFiles{filepath.Join(a.dir, managerCert), filepath.Join(a.dir, managerKey), filepath.Join(a.dir, "ca.crt")}
	a.mu.Lock()
	defer a.mu.Unlock()
	key, err := ownKey(a.dir)
	if err != nil {
		return PeerFiles{}, err
	}
	want := a.managerTemplate(name, hosts, now)
	if b, err := os.ReadFile(f.Cert); err == nil && a.holds(b, key.Public(), want, now) {
		return f, nil
	}
	der, err := a.issue(key.Public(), want)
	if err != nil {
		return PeerFiles{}, fmt.Errorf("certificate of manager %s: %w", name, err)
	}
	if err := durable.WriteFile(f.Cert, certPEM(der), 0o600); err != nil {
		return PeerFiles{}, fmt.Errorf("certificate of manager %s: %w", name, err)
	}
	return f, nil
}

func (a *Authority) managerTemplate(name model.ManagerName, hosts []string, now time.Time) *x509.Certificate {
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: string(name), OrganizationalUnit: []string{UnitManager}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ManagerLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	setHosts(t, hosts)
	return t
}

// holds says that a certificate can stay.
func (a *Authority) holds(certText []byte, key crypto.PublicKey, want *x509.Certificate, now time.Time) bool {
	block, _ := pem.Decode(certText)
	if block == nil {
		return false
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || c.CheckSignatureFrom(a.ca) != nil || Fingerprint(c.PublicKey) != Fingerprint(key) {
		return false
	}
	ips := func(c *x509.Certificate) (out []string) {
		for _, ip := range c.IPAddresses {
			out = append(out, ip.String())
		}
		return out
	}
	return c.Subject.CommonName == want.Subject.CommonName && slices.Equal(c.Subject.OrganizationalUnit, want.Subject.OrganizationalUnit) &&
		slices.Equal(c.DNSNames, want.DNSNames) && slices.Equal(ips(c), ips(want)) &&
		now.After(c.NotBefore) && c.NotAfter.Sub(now) > ManagerLife/3
}

// ownKey reads the manager's own key; where there is none it makes one.
func ownKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, managerKey)
	b, err := readPrivate(dir, managerKey)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	if b != nil {
		k, err := parseKey(b)
		if err != nil {
			return nil, fmt.Errorf("key file %s cannot be used: %w. Remove it; another one is made", path, err)
		}
		return k, nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(path, keyPEM(k), 0o600); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// ManagerRequest makes the key of a manager that is to join a pool, in its empty keys directory, and the certificate request that it
// shows with its join string, in PEM form. Asked again it is for the same key. key is the path of the private key.
func ManagerRequest(dir string, name model.ManagerName) (csr, key string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("keys: %w", err)
	}
	k, err := ownKey(dir)
	if err != nil {
		return "", "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(name)}}, k)
	if err != nil {
		return "", "", fmt.Errorf("certificate request of manager %s: %w", name, err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: requestPEM, Bytes: der})), filepath.Join(dir, managerKey), nil
}

// SignManager makes a certificate for the public key of a joining manager's request, in PEM form, and says that key's fingerprint. The names
// in the request are ignored.
func (a *Authority) SignManager(csrPEM string, name model.ManagerName, hosts []string, now time.Time) (cert, key string, err error) {
	if p := model.CheckName(string(name)); p != nil {
		return "", "", p
	}
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return "", "", err
	}
	der, err := a.issue(csr.PublicKey, a.managerTemplate(name, hosts, now))
	if err != nil {
		return "", "", fmt.Errorf("certificate of manager %s: %w", name, err)
	}
	return string(certPEM(der)), Fingerprint(csr.PublicKey), nil
}
