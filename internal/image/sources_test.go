package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const lineSources = `# comment
deb http://archive.example/debian bookworm main contrib
deb-src http://archive.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://archive.example/security bookworm-security main # why
deb http://third.example/apt cloud-sdk-bookworm main
deb http://third.example/apt bookwormish main
deb cdrom
`

const stanzaSources = `Types: deb deb-src
URIs: http://archive.example/debian
# comment
Suites: bookworm bookworm-updates trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: https://third.example/node
Suites: nodistro
Components: main

Enabled: no
Types: deb
URIs: http://archive.example/other
Suites: bookworm
Components: main

Types: deb-src
URIs: http://archive.example/debian
Suites: bookworm
Components: main
`

func TestSourcesKeepTheHostsOwnReleaseOnly(t *testing.T) {
	got := chooseLines(lineSources, "bookworm", "bookworm")
	want := "deb http://archive.example/debian bookworm main contrib\n" +
		"deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://archive.example/security bookworm-security main\n"
	if got != want {
		t.Errorf("lines: got\n%s\nwant\n%s", got, want)
	}
	got = chooseStanzas(stanzaSources, "bookworm", "trixie")
	want = "Types: deb\nURIs: http://archive.example/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By:\n" +
		" -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n -----END PGP PUBLIC KEY BLOCK-----\n"
	if got != want {
		t.Errorf("stanzas: got\n%s\nwant\n%s", got, want)
	}
}

func TestSourcesOfAHostAreReadFromAllItsFiles(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := hostSources(root, "bookworm"); err == nil || !strings.Contains(err.Error(), "--mirror") {
		t.Errorf("no os-release: %v", err)
	}
	put("etc/os-release", "PRETTY_NAME=\"Debian\"\nVERSION_CODENAME=bookworm\n")
	if _, err := hostSources(root, "bookworm"); err == nil || !strings.Contains(err.Error(), "no apt source of this host") {
		t.Errorf("no sources: %v", err)
	}
	put("etc/apt/sources.list", lineSources)
	put("etc/apt/sources.list.d/debian.sources", stanzaSources)
	put("etc/apt/sources.list.d/third.list", "deb http://third.example/apt stable main\n")
	got, err := hostSources(root, "trixie")
	if err != nil || len(got) != 2 || got[0].Name != "sources.list" || got[1].Name != "debian.sources" || !strings.Contains(got[0].Text, " trixie-security ") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzSources(f *testing.F) {
	f.Add(lineSources)
	f.Add(stanzaSources)
	f.Add("deb [ x\n")
	f.Fuzz(func(t *testing.T, text string) {
		// Choosing what was chosen changes nothing.
		once := chooseLines(text, "bookworm", "bookworm")
		if again := chooseLines(once, "bookworm", "bookworm"); again != once {
			t.Errorf("lines of %q: %q, then %q", text, once, again)
		}
		once = chooseStanzas(text, "bookworm", "bookworm")
		if again := chooseStanzas(once, "bookworm", "bookworm"); again != once {
			t.Errorf("stanzas of %q: %q, then %q", text, once, again)
		}
	})
}
