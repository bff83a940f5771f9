package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A sourceFile is one file of apt's sources: in one-line form (*.list) or in deb822 form (*.sources); see sources.list(5).
type sourceFile struct {
	Name string
	Text string
}

// hostSources reads the apt sources of a host whose root is given, "/" for this one, and keeps what belongs to the
// host's own release; the name of the release is replaced by the wanted one. The host's other sources (third parties')
// have no place in an image.
func hostSources(root, suite string) ([]sourceFile, error) {
	release, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return nil, fmt.Errorf("which release this host runs: %w. Name a package archive with --mirror", err)
	}
	host := osRelease(string(release), "VERSION_CODENAME")
	if host == "" {
		return nil, errors.New("/etc/os-release has no VERSION_CODENAME: the host's apt sources cannot be told. Name a package archive with --mirror")
	}
	var paths []string
	for _, glob := range []string{"etc/apt/sources.list", "etc/apt/sources.list.d/*.list", "etc/apt/sources.list.d/*.sources"} {
		found, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	var kept []sourceFile
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("apt sources: %w", err)
		}
		choose := chooseLines
		if strings.HasSuffix(p, ".sources") {
			choose = chooseStanzas
		}
		if text := choose(string(b), host, suite); text != "" {
			kept = append(kept, sourceFile{Name: filepath.Base(p), Text: text})
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("no apt source of this host is for its own release %s. Name a package archive with --mirror", host)
	}
	return kept, nil
}

// osRelease returns a value of os-release(5).
func osRelease(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && k == key {
			return strings.Trim(v, `"'`)
		}
	}
	return ""
}

// chooseLines keeps the binary-package lines of a release: "deb [options] URI SUITE COMPONENT…".
func chooseLines(text, host, suite string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "deb" {
			continue
		}
		at := 1
		if strings.HasPrefix(f[1], "[") {
			for at < len(f) && !strings.HasSuffix(f[at], "]") {
				at++
			}
			at++
		}
		if at+1 >= len(f) || !strings.Contains(f[at], ":/") {
			continue
		}
		s, ok := release(f[at+1], host, suite)
		if !ok {
			continue
		}
		f[at+1] = s
		out.WriteString(strings.Join(f, " ") + "\n")
	}
	return out.String()
}

// chooseStanzas keeps the stanzas of a deb822 file that are for a release, each with the suites of that release only.
func chooseStanzas(text, host, suite string) string {
	var out []string
	for stanza := range strings.SplitSeq(strings.ReplaceAll(text, "\r", ""), "\n\n") {
		if s := chooseStanza(stanza, host, suite); s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, "\n")
}

func chooseStanza(stanza, host, suite string) string {
	var out strings.Builder
	var binary, matches bool
	for line := range strings.Lines(stanza) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		folded := line[0] == ' ' || line[0] == '\t'
		switch key = strings.ToLower(strings.TrimSpace(key)); {
		case folded:
		case key == "types":
			binary = slices.Contains(strings.Fields(value), "deb")
			line = "Types: deb"
		case key == "enabled" && strings.EqualFold(strings.TrimSpace(value), "no"):
			return ""
		case key == "suites":
			var suites []string
			for _, f := range strings.Fields(value) {
				if s, ok := release(f, host, suite); ok {
					suites = append(suites, s)
				}
			}
			matches = len(suites) > 0
			line = "Suites: " + strings.Join(suites, " ")
		}
		out.WriteString(line + "\n")
	}
	if !binary || !matches {
		return ""
	}
	return out.String()
}

// release turns a suite of the host's release ("bookworm", "bookworm-updates", "bookworm/updates") into the wanted one's.
func release(s, host, suite string) (string, bool) {
	rest, ok := strings.CutPrefix(s, host)
	if !ok || (rest != "" && rest[0] != '-' && rest[0] != '/') {
		return "", false
	}
	return suite + rest, true
}
