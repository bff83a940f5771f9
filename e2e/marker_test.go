package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"muster/internal/model"
)

// mark begins every secret of this test: it is looked for in whatever can be read.
const mark = "Mk7Zq9Xw4Vt2"

// forms are the mark as it is, in hex, and in base64 at each of the three places it can have in a text.
var forms = func() map[string][]byte {
	h := hex.EncodeToString([]byte(mark))
	out := map[string][]byte{"plain": []byte(mark), "hex": []byte(h), "HEX": []byte(strings.ToUpper(h))}
	for i := range 3 {
		whole := base64.StdEncoding.EncodeToString(append(make([]byte, i), mark...))
		begin := (i*8 + 5) / 6 // the letters before hold bits of what comes before, the last ones of what comes after
		out[fmt.Sprint("base64 at ", i)] = []byte(whole[begin : (i+len(mark))*8/6])
	}
	return out
}()

// shows says in which forms bytes hold the mark, also inside of zstd frames and of zstd frames in base64.
func shows(b []byte, deep int) (found []string) {
	for name, f := range forms {
		if bytes.Contains(b, f) {
			found = append(found, name)
		}
	}
	if deep == 0 {
		return found
	}
	each := func(begin string, yield func(rest []byte)) {
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], []byte(begin))
			if i < 0 {
				return
			}
			at += i
			yield(b[at:])
		}
	}
	each("\x28\xb5\x2f\xfd", func(rest []byte) {
		d, err := zstd.NewReader(bytes.NewReader(rest), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return
		}
		defer d.Close()
		plain, _ := io.ReadAll(d) // what comes after the frame is none
		found = append(found, shows(plain, deep-1)...)
	})
	each("KLUv/", func(rest []byte) {
		n := bytes.IndexFunc(rest, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '+' && r != '/'
		})
		if n >= 0 {
			rest = rest[:n]
		}
		packed, err := base64.RawStdEncoding.DecodeString(string(rest))
		if err == nil {
			found = append(found, shows(packed, deep-1)...)
		}
	})
	return found
}

func TestShows_finds_the_mark_in_every_form(t *testing.T) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := e.EncodeAll([]byte(strings.Repeat("filling ", 100)+mark), nil)
	for name, b := range map[string]string{
		"plain": "a" + mark + "b", "hex": fmt.Sprintf("%x", "abc"+mark+"d"), "HEX": fmt.Sprintf("%X", mark),
		"base64 at 0": base64.StdEncoding.EncodeToString([]byte(mark + "tail")), "base64 at 1": base64.URLEncoding.EncodeToString([]byte("abcd" + mark)),
		"base64 at 2": base64.StdEncoding.EncodeToString([]byte("ab" + mark)), "in zstd": "head" + string(packed) + "tail",
		"in zstd in base64": `{"packs":["` + base64.StdEncoding.EncodeToString(packed) + `"]}`,
	} {
		if len(shows([]byte(b), 2)) == 0 {
			t.Errorf("it is not found %s", name)
		}
	}
	if found := shows(bytes.Repeat([]byte("MkKLUv/7Zq9Xw4Vt"), 1000), 2); len(found) > 0 {
		t.Errorf("it is found where it is not: %v", found)
	}
}

// markers is a service into which secrets are put.
type markers struct {
	*site
	planted []string // all of them
	ran     int
}

// plant is a secret that was not there before.
func (m *markers) plant() string {
	v := fmt.Sprintf("%s.%02d", mark, len(m.planted))
	m.planted = append(m.planted, v)
	return v
}

// hides runs a command with a standard input, whatever it ends with, and looks at all that it prints.
func (m *markers) hides(stdin string, args ...string) string {
	m.t.Helper()
	c := m.command(args...)
	c.Stdin = strings.NewReader(stdin)
	ctx, cancel := context.WithTimeout(m.t.Context(), 60*time.Second)
	defer cancel()
	out, err := interruptible(ctx, c)
	m.ran++
	if found := shows(out, 2); len(found) > 0 {
		m.t.Errorf("muster %s shows a secret (%v):\n%s", strings.Join(args, " "), found, out)
	}
	if c.ProcessState != nil && c.ProcessState.ExitCode() == 3 {
		m.t.Fatalf("muster %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func interruptible(ctx context.Context, c *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Process.Kill() })
	defer stop()
	err := c.Wait()
	return out.Bytes(), err
}

// asks sends a request to the API as it is. Of an answer without end it reads what comes within a second.
func (m *markers) asks(method, path, body string, header ...string) string {
	m.t.Helper()
	h := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(m.data, "muster.sock"))
	}}}
	limit := 60 * time.Second
	if strings.Contains(strings.Join(header, " ")+path, "event-stream") || strings.Contains(path, "follow") || strings.Contains(path, "/watch") {
		limit = time.Second
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://muster"+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := h.Do(r)
	if err != nil {
		m.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	m.ran++
	if found := shows(append(fmt.Append(nil, res.Header), b...), 2); len(found) > 0 {
		m.t.Errorf("%s %s shows a secret (%v):\n%s", method, path, found, b)
	}
	return string(b)
}

// dark looks at every file under a directory.
func (m *markers) dark(dir string) {
	m.t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		if found := shows(b, 2); len(found) > 0 {
			m.t.Errorf("%s holds a secret (%v)", path, found)
		}
		return err
	})
	if err != nil || files < 8 {
		m.t.Errorf("%s has %d files: %v", dir, files, err)
	}
}

// file writes a file outside of the data directory.
func (m *markers) file(name, text string) string {
	path := filepath.Join(m.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// reads runs every verb that reads, in every format, and what is wrong with them.
func (m *markers) reads(secret string) {
	m.t.Helper()
	for _, f := range [][]string{nil, {"--json"}, {"--csv"}, {"--yaml"}, {"--stanza"}, {"--table"}, {"--blame"}, {"--own"}, {"--own", "--yaml"}, {"--blame", "--json"}, {"--fold"}} {
		m.hides("", append([]string{"get", "everything"}, f...)...)
		m.hides("", append([]string{"get", "everything", secret, "bmc.*"}, f...)...)
	}
	for _, v := range []string{"history", "status", "list", "events"} {
		m.hides("", v, "everything")
		m.hides("", v, "everything", "--json", "-v")
	}
	for _, f := range [][]string{nil, {"--json"}, {"--csv"}, {"--yaml"}, {"--stanza"}, {"--table"}} {
		m.hides("", append([]string{"group", "list"}, f...)...)
		m.hides("", append([]string{"group", "show", "compute", "rack"}, f...)...)
		m.hides("", append([]string{"group", "get", "compute", "rack", secret}, f...)...)
		m.hides("", append([]string{"list", "everything"}, f...)...)
	}
	for _, line := range []string{
		"audit", "audit --json", "audit --last 1000", "events --last 1000", "events --json --last 1000", "history compute --kind group", "history rack --kind group --json",
		"why n1", "why n1 --json", "power n1", "power n1 --json", "attributes", "attributes --json", "whoami", "version --json", "manager list --json", "network list --json",
		"user list --json", "role list --json", "discover list", "image list", "console list", "bootdev n1", "expand n[1-3]", "help", "list " + secret + "=x", "list " + secret + "=~Mk",
	} {
		m.hides("", strings.Fields(line)...)
	}
	for _, path := range []string{
		"/v1/nodes", "/v1/nodes?blame=true", "/v1/nodes/n1", "/v1/nodes/n1?attrs=" + secret, "/v1/nodes/n1?blame=true&attrs=bmc.*", "/v1/groups", "/v1/groups/compute", "/v1/groups/rack",
		"/v1/openapi.json", "/v1/attributes", "/v1/events", "/v1/events?follow=true&limit=1000", "/v1/watch?since=1", "/v1/why/n1", "/v1/managers", "/v1/version", "/v1/whoami", "/v1/users",
		"/v1/roles", "/v1/networks", "/v1/consoles",
	} {
		m.asks("GET", path, "")
	}
	m.asks("GET", "/v1/events?limit=1000", "", "Accept", "text/event-stream", "Last-Event-ID", "1")
	m.asks("GET", "/v1/nodes", "", "Accept", "application/x-ndjson")
	m.asks("GET", "/v1/nodes", "", "Accept-Encoding", "zstd")
}

// A secret is in nothing that can be read but the answer of secret reveal: a marker is put in every way into every secret attribute, and looked
// for in all output, in every file, in the log and in backups.
func TestSecrets_are_nowhere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program, and runs it some hundreds of times")
	}
	if err := build(); err != nil { // where machines cannot be booted, nothing has built it yet
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "mk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &markers{site: &site{t: t, data: filepath.Join(dir, "d")}}
	if err := os.Mkdir(m.data, 0o700); err != nil {
		t.Fatal(err)
	}
	serve := []string{"serve", "--data", m.data, "--listen", "127.0.0.1:0", "--log-level", "debug"}
	m.startWith(serve...)
	t.Cleanup(func() { m.stop() })

	m.must("node", "add", "n[1-4]", "groups=compute", "bmc.user=admin", "bmc.address=127.0.0.1", "bmc.port=9")
	m.must("group", "add", "rack", "--members", "n4")
	var attrs []string
	for _, a := range model.Schema() {
		if a.Secret {
			attrs = append(attrs, string(a.Name))
		}
	}
	if len(attrs) == 0 {
		t.Fatal("the schema has no secret attribute")
	}
	last := map[string]string{} // what is to be revealed at the end, by attribute and node or group
	for _, a := range attrs {
		m.hides(m.plant()+"\n", "set", "n1", a+"=-")
		m.hides(m.plant()+"\n", "set", "n1", a+"=-", "-v")
		m.hides(m.plant()+"\n", "set", "n2", a+"=-", "--json", "-v")
		m.hides("", "set", "n3", a+"=@"+m.file("secret", m.plant()+"\n"), "-v")
		m.hides("", "set", "n3", a+"="+m.plant(), "-v")
		m.hides("", "group", "set", "rack", a+"="+m.plant(), "-v")
		last[a+" rack"] = m.plant()
		m.hides(last[a+" rack"]+"\n", "group", "set", "rack", a+"=-", "-v")
		m.hides(m.plant()+"\n", "group", "add", "made", a+"=-", "-v")
		m.hides(m.plant()+"\n", "node", "add", "m[1-2]", a+"=-", "-v")
		m.hides("", "node", "add", "-f", m.file("add.csv", "node,groups,"+a+"\nc1,compute,"+m.plant()+"\nc2,compute,"+m.plant()+"\n"), "-v")
		m.hides("", "node", "add", "-f", m.file("add.yaml", "y1:\n  "+a+": "+m.plant()+"\ny2: {"+a+": "+m.plant()+"}\n"), "-v")
		m.hides("", "set", "-f", m.file("set.csv", "node,"+a+"\nc1,"+m.plant()+"\n"), "-v")
		m.hides("node,"+a+"\nc2,"+m.plant()+"\n", "set", "-f", "-", "--json")
		m.asks("POST", "/v1/set", `{"range":"n1","set":[{"attr":"`+a+`","op":"=","value":"`+m.plant()+`"}]}`)
		m.asks("POST", "/v1/set", `{"range":"m1","set":[{"attr":"`+a+`","op":"=","secret":{"plain":"`+m.plant()+`"}}]}`)
		last[a+" n1"] = m.plant()
		m.hides(last[a+" n1"]+"\n", "set", "n1", a+"=-")

		// What is refused, and what is only tried.
		m.hides(m.plant()+"\n", "set", "n1", a+"=-", "--dry-run", "-v")
		m.hides(m.plant()+"\n", "set", "n1", a+"=-", "--dry-run", "--json")
		m.hides(m.plant()+"\n", "node", "add", "z1", a+"=-", "--dry-run", "-v")
		m.hides(m.plant()+"\n", "node", "add", "n1", a+"=-")
		m.hides(m.plant()+"\n", "set", "nosuch", a+"=-")
		m.hides(m.plant()+"\n", "set", "n1", a+"=-", "no.such=x", "bmc.port=many")
		m.hides(m.plant()+"\n", "set", "n1", a+"+=-")
		m.hides("", "set", "n1", a+"-="+m.plant())
		m.hides("", "set", "n1", a, m.plant())
		m.hides("", "set", "n1", a+" ="+m.plant())
		m.hides("", "set", "n1", a+": "+m.plant())
		m.hides(m.plant()+"\n", "set", "n1", a+"s=-")
		m.hides("", "set", "n1", "bmc.user={"+a+"}")
		m.hides("", "get", "n1", a+"="+m.plant())
		m.hides("", "get", "n1", a+"="+m.plant(), "--json")
		m.hides("", "group", "get", "rack", a+"="+m.plant())
		m.hides("", "list", a+"="+m.plant())
		m.hides("", "list", a+"=~"+m.plant())
		m.hides("", "network", "add", "lan", a+"="+m.plant())
		m.hides("", "network", "add", "lan", "prefix=10.0.0.0/8", "password="+m.plant())
		m.hides("", "role", "add", "r", "password="+m.plant())
		m.hides("", "set", "-f", m.file("wrong.csv", "node,"+a+",location.rack\nn1,"+m.plant()+"\nn2,"+m.plant()+",a,b\nn2,\""+m.plant()+"\nn3,x,"))
		m.hides("", "set", "-f", m.file("wrong2.csv", "node,"+a+"s\nn1,"+m.plant()+"\nnosuch,"+m.plant()+"\n"))
		m.hides("", "set", "-f", m.file("wrong.yaml", "n3:\n  "+a+": ["+m.plant()+", {x: "+m.plant()+"}]\n"))
		m.hides("", "set", "-f", m.file("wrong2.yaml", "n3:\n  "+a+":\n    "+m.plant()+": "+m.plant()+"\n"))
		m.hides("", "set", "-f", m.file("wrong3.yaml", "n3:\n  "+a+": *"+m.plant()+"\n"))
		m.hides("", "set", "-f", m.file("wrong4.yaml", "n3:\n  "+a+": \""+m.plant()+"\n  x: y\n"))
		m.hides("", "set", "-f", m.file("wrong5.yaml", "n3:\n  "+a+": |\n    "+m.plant()+"\n    x\n"))
		m.hides("", "set", "-f", m.file("wrong6.yaml", "n3:\n  "+a+": !!int "+m.plant()+"\n"))
		for _, body := range []string{
			`{"range":"n1","set":[{"attr":"` + a + `","op":"?","value":"` + m.plant() + `"}]}`,
			`{"range":"n1","set":[{"attr":"` + a + `","op":"?","secret":{"plain":"` + m.plant() + `"}}]}`,
			`{"range":"n1","set":[{"attr":"` + a + `","op":"=","secret":"` + m.plant() + `"}]}`,
			`{"range":"n1","set":[{"attr":"` + a + `s","op":"=","secret":{"plain":"` + m.plant() + `"}}]}`,
			`{"range":"n1","set":{"` + a + `":"` + m.plant() + `"}}`,
			`{"range":"n1","set":[{"attr":"` + a + `","plain":"` + m.plant() + `"}]}`,
			`{"range":"n1","set":[{"attr":"` + a + `","value":"` + m.plant(),
		} {
			m.asks("POST", "/v1/set", body)
			m.asks("POST", "/v1/nodes/add", body)
		}
		for _, path := range []string{"/v1/get", "/v1/status", "/v1/list", "/v1/history", "/v1/power"} {
			m.asks("POST", path, `{"range":"everything"}`)
		}
		m.hides("", "set", "m2", a+`=""`, "-v")
		m.hides("", "set", "c1", a+"=", "-v")
	}
	m.hides("", "node", "rename", "m1", "m9", "-v")
	m.hides("", "node", "rename", "c[1-2]", "d[1-2]", "--dry-run", "-v")
	m.hides("", "group", "rename", "made", "kept", "-v")
	m.hides("", "lock", "n2")
	m.hides("", "unlock", "n2")
	m.hides("", "secret", "rotate", "-v")
	m.hides("", "secret", "rotate", "--json")
	m.hides("", "node", "remove", "y2", "-v")
	m.hides("", "group", "remove", "kept", "-v")

	// Every change is taken back as far as it can be, in play and then in earnest: its answer shows what was and what is.
	var audit []int64
	for _, line := range strings.Split(m.hides("", "audit", "--last", "1000", "--json"), "\n") {
		var c struct {
			Change int64  `json:"change"`
			Actor  string `json:"actor"`
		}
		if json.Unmarshal([]byte(line), &c) == nil && c.Change > 0 && c.Actor != "muster" {
			audit = append(audit, c.Change)
		}
	}
	if len(audit) < 15 {
		t.Errorf("only %d changes are on the record", len(audit))
	}
	for i := len(audit) - 1; i >= 0; i-- {
		m.hides("", "undo", fmt.Sprint(audit[i]), "--dry-run", "-v")
	}
	for _, c := range audit[len(audit)-2:] {
		m.hides("", "undo", fmt.Sprint(c), "-v", "--json")
	}
	secret := attrs[0]
	m.reads(secret)

	// Backups, and what is made of them.
	pass := m.file("pass", "correct horse battery\n")
	backup, keyed := filepath.Join(dir, "backup"), filepath.Join(dir, "keyed")
	m.hides("", "backup", backup)
	m.hides("", "backup", keyed, "--keys", "--passphrase-file", pass)
	for _, f := range []string{backup, keyed} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if found := shows(b, 2); len(found) > 0 {
			t.Errorf("the backup %s holds a secret (%v)", f, found)
		}
		m.hides("", "restore", f, "--check")
	}
	m.hides("", "backup", "-")

	m.kill()
	m.dark(m.data) // what a crash leaves: the log of the service is there, too
	m.startWith(serve...)
	m.reads(secret)
	m.revealed(last)
	m.stop()
	m.dark(m.data)

	m.data = filepath.Join(dir, "r")
	m.hides("", "restore", keyed, "--data", m.data, "--passphrase-file", pass)
	serve[2] = m.data
	m.startWith(serve...)
	m.reads(secret)
	m.revealed(last)
	m.stop()
	m.dark(m.data)
	t.Logf("%d secrets planted, %d answers looked at", len(m.planted), m.ran)
}

// revealed checks that what was looked for is there: secret reveal shows it.
func (m *markers) revealed(want map[string]string) {
	m.t.Helper()
	for at, secret := range want {
		attr, of, _ := strings.Cut(at, " ")
		args := []string{"secret", "reveal", of, attr}
		if of == "rack" {
			args = append(args, "--group")
		}
		if out := m.must(args...); !strings.Contains(out, secret) {
			m.t.Errorf("muster %s does not show it: %s", strings.Join(args, " "), out)
		}
	}
}
