package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/model"
)

// written is what lies in a record's directory besides the journal.
func written(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		if e.Name() != journalDir {
			names = append(names, e.Name())
		}
	}
	return names
}

// plain is the newest file of a node's record.
func plain(t *testing.T, dir, node string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, node, "*.log"))
	if err != nil || len(list) == 0 {
		t.Fatalf("no record of %s in %s: %v", node, dir, err)
	}
	b, err := os.ReadFile(list[len(list)-1])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A site's service stops at once although thousands of BMCs never answered: a directory, a file and an index for each take a minute.
func TestRecord_of_consoles_that_never_connected_is_not_written(t *testing.T) {
	dir := t.TempDir()
	record(t, Options{Dir: dir}, "r1n1", 3) // has a record of an earlier run
	before := plain(t, dir, "r1n1")
	h, stop := startHub(t, Options{Dir: dir, ConnectRate: 1 << 20})
	tried := make(chan struct{}, 1000)
	for i := range cap(tried) {
		dead := func(context.Context) (Stream, error) {
			tried <- struct{}{}
			return nil, errors.New("BMC does not answer")
		}
		set(t, h, model.NodeName(fmt.Sprintf("r1n%d", i+1)), "k", dead)
	}
	for range cap(tried) {
		<-tried
	}
	m := newMachine()
	set(t, h, "r2n1", "k", m.source)
	send(t, <-m.up, "login: ")
	if err := h.Sync(); err != nil {
		t.Fatal(err)
	}
	stop()
	if got := written(t, dir); len(got) != 2 {
		t.Errorf("records of %d nodes, want those of r1n1 and r2n1", len(got))
	}
	if got := plain(t, dir, "r1n1"); got != before {
		t.Errorf("the record of a node that never connected again has grown by %q", strings.TrimPrefix(got, before))
	}
}

// Why a console never connected is in its record as soon as somebody asks for that, and for good.
func TestRecord_of_a_console_that_never_connected_says_why_to_who_asks(t *testing.T) {
	dir := t.TempDir()
	h, stop := startHub(t, Options{Dir: dir})
	const down = "reconnecting: BMC does not answer"
	set(t, h, "r1n1", "k", func(context.Context) (Stream, error) { return nil, errors.New("BMC does not answer") })
	waitEvent(t, attach(t, h, "r1n1", AttachOptions{}), Event{Type: StateEvent, Text: down})
	const want = "console not connected: BMC does not answer"
	if got := logOf(t, h, "r1n1", LogOptions{}); !strings.Contains(got, want) {
		t.Errorf("the log is %q, want %q in it", got, want)
	}
	stop()
	if got := plain(t, dir, "r1n1"); !strings.Contains(got, want) || !strings.Contains(got, "recording ends") {
		t.Errorf("the file is %q, want %q and the end of the recording in it", got, want)
	}
}

// What was said of a console before it connected comes before what it says.
func TestRecord_begins_with_the_first_connection(t *testing.T) {
	dir := t.TempDir()
	m := newMachine()
	failed := false
	h, stop := startHub(t, Options{Dir: dir, Backoff: 1})
	set(t, h, "r1n1", "k", func(ctx context.Context) (Stream, error) {
		if !failed {
			failed = true
			return nil, errors.New("BMC does not answer")
		}
		return m.source(ctx)
	})
	send(t, <-m.up, "login: ")
	stop()
	got := plain(t, dir, "r1n1")
	at := 0
	for _, want := range []string{"recording begins", "BMC does not answer", "console connected after", "login: ", "recording ends"} {
		i := strings.Index(got[at:], want)
		if i < 0 {
			t.Fatalf("%q, want %q in it behind byte %d", got, want, at)
		}
		at += i
	}
}
