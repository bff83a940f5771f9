package agent

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"muster/internal/api"
	"muster/internal/durable"
	"muster/internal/model"
)

// identity is what the init hands to the agent, in a file of mode 0600 that lives in memory only.
type identity struct {
	Server      string         `json:"server"`
	Pin         string         `json:"pin"`
	Node        model.NodeName `json:"node"`
	Image       string         `json:"image"`  // name
	Digest      string         `json:"digest"` // of the image's manifest
	Key         string         `json:"key"`    // PEM
	Certificate string         `json:"certificate"`
	CA          string         `json:"ca"`
	// Disk says what to write to disk; nil: nothing, or it is written.
	Disk *api.DiskPlan `json:"disk,omitempty"`
}

func (id *identity) tls() (*tls.Certificate, time.Time, error) {
	cert, err := tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("the node's certificate: %w", err)
	}
	return &cert, cert.Leaf.NotAfter, nil
}

// newKey makes the node's TLS key and a certificate request for it.
func newKey(node model.NodeName) (key, csr string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	req, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(node)}}, k)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req})), nil
}

// csrOf makes a request for an existing key.
func csrOf(keyPEM string, node model.NodeName) (string, error) {
	block, _ := pem.Decode([]byte(keyPEM))
	if block == nil {
		return "", errors.New("the node's key is no PEM")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("the node's key: %w", err)
	}
	req, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(node)}}, k)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req})), nil
}

// newHostKey makes an ssh host key: the private half as sshd reads it (openssh: PROTOCOL.key, no passphrase) and the public
// half in the form of authorized_keys.
func newHostKey(comment string) (private, public string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	const kind = "ssh-ed25519"
	text := func(b, s []byte) []byte { return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	blob := text(text(nil, []byte(kind)), pub)

	check := make([]byte, 4)
	if _, err := rand.Read(check); err != nil {
		return "", "", err
	}
	secret := append(check[:4:4], check...)
	secret = text(text(text(text(secret, []byte(kind)), pub), priv), []byte(comment))
	for i := byte(1); len(secret)%8 != 0; i++ {
		secret = append(secret, i)
	}
	b := append([]byte(nil), "openssh-key-v1\x00"...)
	b = text(text(text(b, []byte("none")), []byte("none")), nil)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = text(text(b, blob), secret)
	return string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: b})),
		kind + " " + base64.StdEncoding.EncodeToString(blob) + " " + comment, nil
}

// save writes the identity where the agent finds it.
func (id *identity) save(path string) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(path, b, 0o600)
}

func loadIdentity(path string) (*identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("this machine was not booted by muster: %w", err)
	}
	id := new(identity)
	if err := json.Unmarshal(b, id); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w. Boot the node again", path, err)
	}
	return id, nil
}
