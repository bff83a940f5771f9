package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The daemon's commands are carried by muster, which knows none of their flags; their pages have them all the same.
func TestMan_pages_of_the_daemons_commands_have_their_flags(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command(muster, "man", dir).CombinedOutput(); err != nil {
		t.Fatalf("muster man: %v\n%s", err, out)
	}
	for page, want := range map[string]string{"muster-serve.1": `\-\-site\-key\-file`, "muster-restore.1": `\-\-check`, "muster-lab.1": "BMC"} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %s:\n%s", page, want, text)
		}
	}
}
