package agent

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestHostKeyIsWhatSshReads(t *testing.T) {
	private, public, err := newHostKey("root@r1n1")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	key, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil || comment != "root@r1n1" || !reflect.DeepEqual(key.Marshal(), signer.PublicKey().Marshal()) {
		t.Errorf("public half %q: %v", public, err)
	}
	sig, err := signer.Sign(nil, []byte("x"))
	if err != nil || key.Verify([]byte("x"), sig) != nil {
		t.Errorf("signature: %v", err)
	}
}

func TestRequestIsForTheNodesOwnKey(t *testing.T) {
	key, csr, err := newKey("r1n1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := csrOf(key, "r1n1")
	if err != nil {
		t.Fatal(err)
	}
	var publics [][]byte
	for _, text := range []string{csr, again} {
		block, _ := pem.Decode([]byte(text))
		r, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || r.CheckSignature() != nil || r.Subject.CommonName != "r1n1" {
			t.Fatalf("request: %+v, %v", r, err)
		}
		publics = append(publics, r.RawSubjectPublicKeyInfo)
	}
	if !reflect.DeepEqual(publics[0], publics[1]) {
		t.Error("the second request is for another key")
	}
}

func TestIdentityIsKeptFromOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "muster", "node.json")
	id := &identity{Server: "https://x", Node: "r1n1", Key: "k"}
	if err := id.save(path); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if i, err := os.Stat(p); err != nil || i.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", p, i.Mode(), err)
		}
	}
	got, err := loadIdentity(path)
	if err != nil || !reflect.DeepEqual(got, id) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := loadIdentity(path + "x"); err == nil || !strings.Contains(err.Error(), "not booted by muster") {
		t.Errorf("got %v", err)
	}
}

func TestMachineIDIsStableAndWellFormed(t *testing.T) {
	a, b := machineID("9338014E-d678", "r1n1"), machineID("9338014e-D678", "r1n1")
	if a != b || len(a) != 32 || a[12] != '4' || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("%s, %s", a, b)
	}
	if a == machineID("9338014e-d678", "r1n2") {
		t.Error("two nodes have one id")
	}
}

func TestLongHostNameFitsTheKernel(t *testing.T) {
	for host, want := range map[string]string{
		"r1n1":             "r1n1",
		"r1n1.example.org": "r1n1.example.org",
		strings.Repeat("a", 60) + ".b.example.org": strings.Repeat("a", 60),
		strings.Repeat("a", 70):                    strings.Repeat("a", 64),
	} {
		if got := kernelName(host); got != want {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
}
