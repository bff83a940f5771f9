package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"muster/internal/api"
)

// talkers are consoles as unix sockets DIR/c0 …, each with a line of 80 bytes so many times a second for whoever is connected: "console 7 line 42 xxx…". A
// line has its number once, also when another connection gets it.
type talkers struct {
	dir  string
	sent []atomic.Int64 // by console: the number of lines that were written
}

// newTalkers begins to listen. With once, a console takes one connection, and needs one descriptor at a time.
func newTalkers(t testing.TB, n, rate int, once bool) *talkers {
	t.Helper()
	dir, err := os.MkdirTemp("", "talk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	k := &talkers{dir: dir, sent: make([]atomic.Int64, n)}
	for i := range n {
		l, err := net.Listen("unix", k.socket(i))
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				if once {
					_ = l.Close()
				}
				k.talk(i, c, time.Second/time.Duration(rate))
			}
		}()
	}
	return k
}

func (k *talkers) socket(i int) string { return filepath.Join(k.dir, "c"+strconv.Itoa(i)) }

// talk writes until the connection is gone. Consoles begin apart from each other.
func (k *talkers) talk(i int, c net.Conn, pause time.Duration) {
	defer c.Close()
	tick := time.NewTimer(pause * time.Duration(i%100) / 100)
	defer tick.Stop()
	for range tick.C {
		tick.Reset(pause)
		s := fmt.Sprintf("console %d line %d ", i, k.sent[i].Load())
		if _, err := fmt.Fprintf(c, "%s%s\r\n", s, strings.Repeat("x", 78-len(s))); err != nil {
			return
		}
		k.sent[i].Add(1)
	}
}

// lines is how many were written by all of them.
func (k *talkers) lines() (n int64) {
	for i := range k.sent {
		n += k.sent[i].Load()
	}
	return n
}

var talked = regexp.MustCompile(`console (\d+) line (\d+) x+\r\n`)

// onDisk are the newest line of each console that stands anywhere under a directory, -1 for none.
func (k *talkers) onDisk(dir string) []int64 {
	newest := make([]int64, len(k.sent))
	for i := range newest {
		newest[i] = -1
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".idx") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil // a segment of the journal that was removed meanwhile: what it had is in the files
		}
		for _, m := range talked.FindAllSubmatch(b, -1) {
			i, _ := strconv.Atoi(string(m[1]))
			n, _ := strconv.ParseInt(string(m[2]), 10, 64)
			newest[i] = max(newest[i], n)
		}
		return nil
	})
	return newest
}

// recording waits until all consoles are.
func (s *site) recording(n int) {
	s.t.Helper()
	s.until(90*time.Second, fmt.Sprintf("%d consoles are recorded", n), func() (bool, string) {
		var all []api.ConsoleInfo
		if err := s.client().Do(s.t.Context(), "GET", "/v1/consoles", nil, &all); err != nil {
			return false, err.Error()
		}
		up, why := 0, ""
		for _, c := range all {
			if c.State == "recording" {
				up++
			} else {
				why = c.Node + ": " + c.State
			}
		}
		return up == n, fmt.Sprintf("%d of %d; %s", up, len(all), why)
	})
}

// record is all that was recorded of a console.
func (s *site) record(c *api.Client, node string) []byte {
	s.t.Helper()
	r, err := c.Open(s.t.Context(), "/v1/console/"+url.PathEscape(node)+"/log")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// The service is killed, three times, while 1,000 consoles talk: what was on the disk is there afterwards, byte for byte and in order, and each gap is
// marked.
func TestConsoles_survive_kill_9(t *testing.T) {
	if muster == "" {
		t.Skip("nothing was built")
	}
	const n, rounds = 1000, 3
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	talk := newTalkers(t, n, 10, false)
	s := &site{t: t, data: dir}
	run := func() { s.startWith("serve", "--data", s.data, "--listen", "127.0.0.1:0") }
	run()
	defer func() { s.stop() }()
	s.must("node", "add", fmt.Sprintf("n[0-%d]", n-1), "bmc.driver=null", "console.source=unix:"+talk.dir+"/c{n0}")
	s.recording(n)
	was := make([][]byte, n)
	for round := range rounds {
		c := s.client()
		for i := range n {
			was[i] = s.record(c, fmt.Sprint("n", i))
		}
		// Now more, which is in the journal only. What is seen on the disk was written for good when something later is seen there, too.
		var written []int64
		for range 2 {
			next := make([]int64, n)
			for i := range n {
				next[i] = talk.sent[i].Load()
			}
			s.until(60*time.Second, "what the consoles say next is on the disk", func() (bool, string) {
				missing := 0
				for i, line := range talk.onDisk(filepath.Join(s.data, "console")) {
					if line < next[i] {
						missing++
					}
				}
				return missing == 0, fmt.Sprintf("of %d consoles it is not", missing)
			})
			if written == nil {
				written = next
			}
		}
		s.kill()
		run()
		s.recording(n)
		c = s.client()
		for i := range n {
			got := s.record(c, fmt.Sprint("n", i))
			if !bytes.HasPrefix(got, was[i]) {
				t.Fatalf("round %d: the record of n%d does not begin with what it was before", round, i)
			}
			check(t, i, got, written[i], round)
			if t.Failed() {
				t.Fatalf("round %d, n%d: %s", round, i, got)
			}
		}
	}
}

// check looks through a record: lines are in order, whole, and follow each other but where a mark says that the recording was interrupted; before the
// last such mark is at least the line that was written.
func check(t *testing.T, console int, record []byte, written int64, round int) {
	next, interrupted, marks, last := int64(0), true, 0, int64(-1)
	in := bufio.NewScanner(bytes.NewReader(record))
	for in.Scan() {
		line := in.Text()
		switch {
		case strings.HasPrefix(line, "[muster: "):
			if strings.Contains(line, "recording was interrupted: muster did not stop cleanly") {
				interrupted = true
				marks++
				if marks == round+1 && last < written {
					t.Errorf("line %d of console %d was on the disk, the record goes to %d", written, console, last)
				}
			}
			if strings.Contains(line, "missing") || strings.Contains(line, "checksum") {
				t.Error(line)
			}
		case len(line) == 78 && talked.MatchString(line+"\r\n"):
			m := talked.FindStringSubmatch(line + "\r\n")
			k, _ := strconv.ParseInt(m[2], 10, 64)
			if m[1] != strconv.Itoa(console) || k != next && !(interrupted && k > next) {
				t.Errorf("%q follows line %d", line, next-1)
			}
			next, last, interrupted = k+1, k, false
		}
	}
	if marks != round+1 {
		t.Errorf("%d marks of %d interruptions", marks, round+1)
	}
}
