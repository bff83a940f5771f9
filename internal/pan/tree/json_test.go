package tree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"muster/internal/pan/java"
)

// The cases are pairs of lines, each a Go string: what json_decode was given, then what json_encode made of the result, or the error
// after "! ".
const decodeCases = "testdata/decode.txt"

func TestDecodeJSON_reads_what_panc_reads(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(string(read(t, decodeCases)), "\n"), "\n")
	var out bytes.Buffer
	for i := 0; i+1 < len(lines); i += 2 {
		in, err := strconv.Unquote(lines[i])
		if err != nil {
			t.Fatalf("%s:%d: %v", decodeCases, i+1, err)
		}
		want := lines[i+1]
		if *update {
			want = decodeByPanc(t, in)
		}
		if got := decodeAndEncode(in); got != want {
			t.Errorf("%s:%d: %q\n got %s\nwant %s", decodeCases, i+1, in, got, want)
		}
		fmt.Fprintf(&out, "%+q\n%s\n", in, want)
	}
	if *update {
		write(t, decodeCases, out.Bytes())
	}
}

func decodeAndEncode(in string) string {
	v, err := DecodeJSON(in)
	if err != nil {
		return fmt.Sprintf("! %+q", err.Error())
	}
	b, err := AppendJSON(nil, v)
	if err != nil {
		return fmt.Sprintf("! %+q", err.Error())
	}
	return fmt.Sprintf("%+q", java.Output(string(b)))
}

func decodeByPanc(t *testing.T, in string) string {
	program := os.Getenv("PANC")
	if program == "" {
		t.Skip("PANC names no reference compiler")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "x.in"), []byte(in))
	write(t, filepath.Join(dir, "x.pan"), []byte("object template x;\n'/a' = json_encode(json_decode(file_contents('x.in')));\n"))
	out, err := exec.Command(program, "--formats", "json", "--include-path", dir, "--output-dir", dir, filepath.Join(dir, "x.pan")).CombinedOutput()
	if err != nil {
		message := strings.TrimSuffix(string(out), "\n\n")
		if rest, ok := strings.CutPrefix(message, "evaluation error ["); ok {
			_, message, _ = strings.Cut(rest, "\n")
			message, _, _ = strings.Cut(message, "\n>>> call stack trace")
		}
		return fmt.Sprintf("! %+q", strings.TrimSuffix(message, "\n"))
	}
	var result struct{ A string }
	if err := json.Unmarshal(read(t, filepath.Join(dir, "x.json")), &result); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%+q", result.A)
}

func TestDecodeJSON_of_nothing_is_null(t *testing.T) {
	for _, s := range []string{"", " \n", "# comment", "/* */ // "} {
		if v, err := DecodeJSON(s); v != (Null{}) || err != nil {
			t.Errorf("%q: %v, %v", s, v, err)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	lines := strings.Split(string(read(f, decodeCases)), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if s, err := strconv.Unquote(lines[i]); err == nil {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := DecodeJSON(s)
		if err != nil {
			return
		}
		b, err := AppendJSON(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("Infinity")) {
			return // which is read back as a string
		}
		if again, err := DecodeJSON(string(b)); err != nil || !Equal(v, again) {
			t.Errorf("%q became %q and that %v, %v", s, b, again, err)
		}
	})
}
