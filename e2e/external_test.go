package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/need"
)

const hubAddr = "10.99.0.100" // of what the managers reach beside each other

// etcd is Debian's, on an address that all hosts of a pool reach, with TLS both ways.
type etcd struct {
	p    *pool
	dir  string
	proc *exec.Cmd
}

func (p *pool) etcd() *etcd {
	p.t.Helper()
	need.Programs(p.t, "etcd-server", "etcd")
	e := &etcd{p: p, dir: p.t.TempDir()}
	e.certificates()
	p.ip("-n", p.hub(), "address", "add", hubAddr+"/24", "dev", "br0")
	p.ip("-n", p.hub(), "link", "set", "lo", "up")
	e.start()
	p.t.Cleanup(e.kill)
	return e
}

func (e *etcd) file(name string) string { return filepath.Join(e.dir, name) }

func (e *etcd) start() {
	e.p.t.Helper()
	log, err := os.OpenFile(e.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		e.p.t.Fatal(err)
	}
	defer log.Close()
	e.proc = exec.Command("ip", "netns", "exec", e.p.hub(), "etcd", "--data-dir", e.file("data"), "--listen-client-urls", e.url(), "--advertise-client-urls", e.url(),
		"--listen-peer-urls", "http://127.0.0.1:2380", "--cert-file", e.file("server.crt"), "--key-file", e.file("server.key"), "--trusted-ca-file", e.file("ca.crt"), "--client-cert-auth")
	e.proc.Stdout, e.proc.Stderr = log, log
	if err := e.proc.Start(); err != nil {
		e.p.t.Fatal(err)
	}
}

func (e *etcd) kill() {
	if e.proc != nil {
		_ = e.proc.Process.Kill()
		_ = e.proc.Wait()
		e.proc = nil
	}
}

func (e *etcd) url() string { return "https://" + hubAddr + ":2379" }

func (e *etcd) flags() []string {
	return []string{"--etcd", e.url(), "--etcd-ca", e.file("ca.crt"), "--etcd-cert", e.file("client.crt"), "--etcd-key", e.file("client.key")}
}

// certificates makes a CA, a certificate for etcd and one for its clients.
func (e *etcd) certificates() {
	t := e.p.t
	t.Helper()
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for n, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(n + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: n == 0, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.ParseIP(hubAddr)},
		}
		if ca == nil {
			ca, caKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for suffix, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: private}} {
			if err := os.WriteFile(e.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPool_external is two managers on an etcd of the site's own.
func TestPool_external(t *testing.T) {
	p := newHosts(t, 2)
	e := p.etcd()
	a, b := p.managers[0], p.managers[1]
	p.launch(0, append(e.flags(), "--name", "m1")...)
	a.must("node", "add", "w[1-40]", "group=load", "bmc.password=of-the-pool", "--yes")

	p.run("a second manager wants the keys of the first", func(t *testing.T) {
		a.refused(2, []string{"manager", "add", "m2"}, "an etcd of its own", "keys/", "--etcd")
		p.fails(1, 2, p.serve(1, append(e.flags(), "--name", "m2")...), "keys", "copy keys/ of another manager")
		p.wipe(1)
		run1(t, "cp", "-r", filepath.Join(a.data, "keys"), b.data)
		for _, own := range []string{"manager.key", "manager.crt"} {
			_ = os.Remove(filepath.Join(b.data, "keys", own))
		}
		p.launch(1, append(e.flags(), "--name", "m2")...)
		if got := b.must("secret", "reveal", "w1", "bmc.password"); !strings.Contains(got, "of-the-pool") {
			t.Errorf("m2 cannot open what m1 sealed: %s", got)
		}
		rev, err := write(t.Context(), b.client(), "w1,w2", "of m2")
		if err != nil {
			t.Fatal(err)
		}
		if out := a.must("get", "w1", "custom.w", "--at-least", fmt.Sprint(rev)); !strings.Contains(out, "of m2") {
			t.Errorf("m1 reads %s", out)
		}
		a.until(10*time.Second, "both are listed", func() (bool, string) {
			list, err := a.listManagers()
			ok := err == nil && len(list) == 2
			for _, m := range list {
				ok = ok && m.Role == "equal" && m.State == "alive"
			}
			return ok, fmt.Sprintf("%v %+v", err, list)
		})
	})

	p.run("a change beyond etcd's limits names its flags", func(t *testing.T) {
		a.refused(1, []string{"node", "add", "big[1-500]", "--yes"}, "--max-txn-ops", "--max-request-bytes", e.url())
		if out, err := b.try("get", "big1"); err == nil {
			t.Errorf("a part of it is there: %s", out)
		}
	})

	p.run("etcd is killed and comes back", func(t *testing.T) {
		e.kill()
		var out string
		a.until(60*time.Second, "m1 notices", func() (bool, string) {
			out, _ = a.try("get", "w1", "custom.w")
			return strings.Contains(out, "stale"), out
		})
		if !strings.Contains(out, "of m2") {
			t.Errorf("reading does not go on: %s", out)
		}
		said := a.refused(1, []string{"set", "w1", "custom.w=lost"}, "etcd at "+e.url(), "etcdctl endpoint health", "Nothing was written")
		t.Logf("without etcd: %s", said)
		if out, err := a.try("manager", "list"); err != nil {
			t.Errorf("manager list without etcd: %v %s", err, out)
		}
		p.fails(1, 1, []string{"serve", "--data", t.TempDir(), "--netns", p.ns(1), "--listen", p.addr(1) + ":7444", "--etcd", e.url(), "--etcd-ca", e.file("ca.crt")}, "does not answer", "etcdctl endpoint health")
		e.start()
		for _, m := range p.managers {
			t.Logf("%s writes %v after etcd was started", m.lab, nextWrite(t, m, "w1,w2", "back "+m.lab, 60*time.Second).Round(time.Millisecond))
			m.until(20*time.Second, "reads are not stale", func() (bool, string) {
				out, err := m.try("get", "w1", "custom.w")
				return err == nil && !strings.Contains(out, "stale"), out
			})
		}
		if out := a.must("get", "w[1-2]", "custom.w", "--no-fold"); strings.Contains(out, "lost") {
			t.Errorf("a refused write was made: %s", out)
		}
	})

	p.run("a manager that is removed stops, and may come back", func(t *testing.T) {
		a.must("manager", "remove", "m2", "--yes")
		b.ended("removed", "muster manager remove m2")
		p.launch(1, append(e.flags(), "--name", "m2")...)
		b.stop()
	})

	p.run("a backup goes on in another etcd", func(t *testing.T) {
		file, phrase := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "phrase")
		if err := os.WriteFile(phrase, []byte("of the backup\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.must("set", "w1", "custom.w=of the backup")
		a.must("backup", file, "--keys", "--passphrase-file", phrase)
		a.stop()
		restore := func() (string, error) {
			args := append([]string{"netns", "exec", p.ns(0), muster, "restore", file, "--data", a.data, "--passphrase-file", phrase}, e.flags()...)
			out, err := exec.Command("ip", args...).CombinedOutput()
			return string(out), err
		}
		p.wipe(0)
		if out, err := restore(); err == nil || !strings.Contains(out, "a store of muster is in it") {
			t.Errorf("into one that has something: %v %s", err, out)
		}
		e.kill()
		if err := os.RemoveAll(e.file("data")); err != nil {
			t.Fatal(err)
		}
		e.start()
		p.wipe(0)
		if out, err := restore(); err != nil || !strings.Contains(out, "restored to etcd at "+e.url()) {
			t.Fatalf("%v %s", err, out)
		}
		p.launch(0, append(e.flags(), "--name", "m1")...)
		if got := a.must("get", "w1", "custom.w"); !strings.Contains(got, "of the backup") {
			t.Errorf("got %s", got)
		}
		if got := a.must("secret", "reveal", "w40", "bmc.password"); !strings.Contains(got, "of-the-pool") {
			t.Errorf("it cannot open what was sealed: %s", got)
		}
		if got := a.must("history", "w1", "--last", "1"); !strings.Contains(got, "of the backup") {
			t.Errorf("its history is %s", got)
		}
		a.stop()
	})
}
