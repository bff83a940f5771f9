package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPool_restore goes full circle: a pool's backup with its keys becomes a lone manager on a fresh host, and that a pool again.
func TestPool_restore(t *testing.T) {
	p := newHosts(t, 4)
	p.form(2)
	b, fresh, second := p.managers[1], p.managers[2], p.managers[3]
	b.must("node", "add", "w[1-60]", "group=load", "bmc.password=of-the-pool", "--yes")
	b.must("set", "w1", "custom.w=before")
	history := b.must("history", "w1", "--json")
	dir := t.TempDir()
	file, phrase, wrong := filepath.Join(dir, "b"), filepath.Join(dir, "phrase"), filepath.Join(dir, "wrong")
	for path, text := range map[string]string{phrase: "correct horse\n", wrong: "battery\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.must("backup", file, "--keys", "--passphrase-file", phrase)
	b.must("set", "w1", "custom.w=after")
	for _, m := range p.managers[:2] {
		m.kill()
	}

	fresh.refused(2, []string{"restore", file, "--data", fresh.data, "--passphrase-file", wrong}, "passphrase")
	if out := fresh.must("restore", file, "--data", fresh.data, "--passphrase-file", phrase); !strings.Contains(out, "with keys") || !strings.Contains(out, "muster serve --data") {
		t.Error(out)
	}
	p.launch(2)
	if list, err := fresh.listManagers(); err != nil || len(list) != 1 || !list[0].Self {
		t.Errorf("the restored manager is not alone: %v %+v", err, list)
	}
	join := fresh.invite(p.name(3))
	p.launch(3, "--join", join)
	fresh.votes(p.name(3))
	for _, m := range []*site{fresh, second} {
		if out := m.must("secret", "reveal", "w60", "bmc.password"); !strings.Contains(out, "of-the-pool") {
			t.Errorf("%s cannot open a secret: %s", m.lab, out)
		}
		if out := m.must("get", "w1", "custom.w"); !strings.Contains(out, "before") {
			t.Errorf("%s: %s", m.lab, out)
		}
		if out := m.must("history", "w1", "--json"); out != history {
			t.Errorf("%s has another history:\n%s\nwant\n%s", m.lab, out, history)
		}
	}
	second.must("set", "w1", "custom.w=again")
}
