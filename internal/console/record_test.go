package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

// childMain is the process that TestRecord_kill kills: it records one talking console and says on standard output which
// line is on stable storage.
func childMain() {
	dir := os.Getenv("MUSTER_CONSOLE_CHILD")
	if dir == "" {
		return
	}
	h, err := New(Options{Dir: dir, Rotate: 64 << 10})
	if err != nil {
		panic(err)
	}
	go h.Run(context.Background())
	m := newMachine()
	if err := h.Set("r1n1", "k", m.source); err != nil {
		panic(err)
	}
	line := <-m.up
	for i := 0; ; {
		for range 100 {
			fmt.Fprintf(line, "line %08d %s\r\n", i, strings.Repeat("x", 60))
			i++
		}
		h.Info("r1n1") // the last line may still be on its way through the pipe: it is not promised
		if err := h.Sync(); err != nil {
			panic(err)
		}
		fmt.Println(i - 2)
	}
}

var lineNumber = regexp.MustCompile(`line (\d{8}) x{60}\r\n`)

func lineNumbers(s string) (out []int) {
	for _, m := range lineNumber.FindAllStringSubmatch(s, -1) {
		n, _ := strconv.Atoi(m[1])
		out = append(out, n)
	}
	return out
}

func TestRecord_kill_9_loses_nothing_that_was_synced(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		// Each round goes on behind the one before.
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), "MUSTER_CONSOLE_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		synced := -1
		sc := bufio.NewScanner(out)
		for range 20 + 17*round {
			if !sc.Scan() {
				t.Fatal("the child ended by itself")
			}
			fmt.Sscan(sc.Text(), &synced)
		}
		cmd.Process.Kill() // kill -9, in the middle of whatever it does
		for sc.Scan() {
			fmt.Sscan(sc.Text(), &synced) // what it had said before it died
		}
		cmd.Wait()

		h, stop := startHub(t, Options{Dir: dir, Rotate: 64 << 10})
		m := newMachine()
		set(t, h, "r1n1", "k", m.source)
		<-m.up
		got := logOf(t, h, "r1n1", LogOptions{})
		stop()
		if n := strings.Count(got, "recording was interrupted: muster did not stop cleanly"); n != round+1 {
			t.Errorf("round %d: %d marks of interruption", round, n)
		}
		run := got[:strings.LastIndex(got, "recording was interrupted")]
		run = run[:strings.LastIndex(run, "[muster: ")]
		nums := lineNumbers(run[strings.LastIndex(run, "[muster: "):]) // of the run that was killed
		for i, n := range nums {
			if i != n {
				t.Fatalf("round %d: line %d follows line %d", round, n, i-1)
			}
		}
		if len(nums) <= synced {
			t.Errorf("round %d: %d lines recorded, %d were acknowledged", round, len(nums), synced+1)
		}
		if strings.Contains(got, "missing") || strings.Contains(got, "checksum") {
			t.Errorf("round %d: the record is damaged", round)
		}
	}
}

// record makes a record of n lines with a hub and leaves it closed.
func record(t testing.TB, o Options, node model.NodeName, n int) {
	t.Helper()
	h, stop := startHub(t, o)
	m := newMachine()
	set(t, h, node, "k", m.source)
	line := <-m.up
	for i := range n {
		send(t, line, fmt.Sprintf("line %08d %s\r\n", i, strings.Repeat("x", 60)))
	}
	send(t, line, ".") // the pipe has handed over every line when this is through
	stop()
}

func TestRecord_every_cut_of_the_journal_gives_a_beginning(t *testing.T) {
	// A hub that is copied while it runs is what kill -9 leaves.
	dir := t.TempDir()
	h, stop := startHub(t, Options{Dir: dir, Batch: time.Hour})
	say := talk(t, h, "r1n1")
	for i := range 6 {
		say(fmt.Sprintf("line %08d %s\r\n", i, strings.Repeat("x", 60)))
		if i == 2 {
			logOf(t, h, "r1n1", LogOptions{}) // brings it into the file
		}
		if err := h.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	image := t.TempDir()
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	stop()
	segs, err := filepath.Glob(filepath.Join(image, journalDir, "0*"))
	if err != nil || len(segs) != 1 {
		t.Fatal(segs, err)
	}
	whole, err := os.ReadFile(segs[0])
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for cut := len(whole) % 7; cut <= len(whole); cut += 7 {
		for _, damage := range []string{"cut", "zeros"} {
			p := slices.Clone(whole)
			if damage == "cut" {
				p = p[:cut]
			} else {
				clear(p[cut:])
			}
			d := filepath.Join(t.TempDir(), "d")
			if err := os.CopyFS(d, os.DirFS(image)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d, journalDir, filepath.Base(segs[0])), p, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := New(Options{Dir: d})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.rec.open(); err != nil {
				t.Fatal(err)
			}
			nums := lineNumbers(logOf(t, r, "r1n1", LogOptions{}))
			for i, n := range nums {
				if i != n {
					t.Fatalf("%s at %d: lines %v", damage, cut, nums)
				}
			}
			if len(nums) < 3 || len(nums) < most && damage == "cut" {
				t.Errorf("%s at %d: %d lines, a shorter journal gave %d", damage, cut, len(nums), most)
			}
			if damage == "cut" {
				most = len(nums)
			}
			r.rec.shut()
			r.root.Close()
		}
	}
	if most != 6 {
		t.Errorf("%d lines out of the whole journal", most)
	}
}

func TestRecord_torn_index_or_text_is_harmless(t *testing.T) {
	for _, ext := range []string{".idx", ".log"} {
		dir := t.TempDir()
		o := Options{Dir: dir}
		record(t, o, "r1n1", 300)
		names, _ := filepath.Glob(filepath.Join(dir, "r1n1", "*"+ext))
		if len(names) != 1 {
			t.Fatal(names)
		}
		info, err := os.Stat(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(names[0], info.Size()-5); err != nil {
			t.Fatal(err)
		}
		h, stop := startHub(t, o)
		m := newMachine()
		set(t, h, "r1n1", "k", m.source)
		send(t, <-m.up, "after\r\n")
		s := attach(t, h, "r1n1", AttachOptions{})
		readUntil(t, s, "after")
		got := logOf(t, h, "r1n1", LogOptions{})
		if n := lineNumbers(got); len(n) != 300 {
			t.Errorf("%s torn: %d lines", ext, len(n))
		}
		if !strings.Contains(got, "recording was interrupted") || !strings.HasSuffix(got, "after\r\n") {
			t.Errorf("%s torn: …%q", ext, got[len(got)-200:])
		}
		stop()
	}
}

func TestRecord_changed_bytes_and_missing_bytes_are_told(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Rotate: 8 << 10}
	for range 3 {
		record(t, o, "r1n1", 200)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	list, err := files(root, "r1n1")
	if err != nil || len(list) < 3 {
		t.Fatal(list, err)
	}
	last := list[len(list)-1]
	name := "r1n1/" + last.name + ".log"
	f, err := root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("XX"), 10); err != nil {
		t.Fatal(err)
	}
	f.Close()
	root.Remove("r1n1/" + list[1].name + list[1].ext())
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.root.Close()
	got := logOf(t, h, "r1n1", LogOptions{})
	for _, want := range []string{"bytes of the record are missing here]", "do not match their checksum"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the log", want)
		}
	}
}

func TestLog(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Rotate: 4 << 10}
	for range 4 {
		record(t, o, "r1n1", 100)
	}
	h, stop := startHub(t, o)
	m := newMachine()
	set(t, h, "r1n1", "k", m.source)
	line := <-m.up
	time.Sleep(30 * time.Millisecond) // a run of output of its own: entries join within 20 ms
	since := time.Now()
	send(t, line, "one\r\ntwo\r\nthree")
	send(t, line, ".")
	s := attach(t, h, "r1n1", AttachOptions{})
	readUntil(t, s, "three.")

	if got := logOf(t, h, "r1n1", LogOptions{Tail: 2}); got != "two\r\nthree." {
		t.Errorf("tail 2: %q", got)
	}
	if got := logOf(t, h, "r1n1", LogOptions{Since: since.Truncate(time.Millisecond)}); got != "one\r\ntwo\r\nthree." {
		t.Errorf("since: %q", got)
	}
	stamped := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z two\r\n\d{4}-\S+Z three\.$`)
	if got := logOf(t, h, "r1n1", LogOptions{Tail: 2, Times: true}); !stamped.MatchString(got) {
		t.Errorf("times: %q", got)
	}
	all := logOf(t, h, "r1n1", LogOptions{})
	if n := len(lineNumbers(all)); n != 400 {
		t.Errorf("%d lines of 400", n)
	}
	if got := logOf(t, h, "r1n1", LogOptions{Until: since.Truncate(time.Millisecond)}); got+"one\r\ntwo\r\nthree." != all {
		t.Errorf("until: %d bytes of %d", len(got), len(all))
	}
	if got := logOf(t, h, "r1n1", LogOptions{Tail: 1 << 30}); got != all {
		t.Errorf("a tail longer than the log: %d bytes of %d", len(got), len(all))
	}
	if got := logOf(t, h, "r1n1", LogOptions{Tail: 250}); strings.Count(got, "\n") != 249 || !strings.HasSuffix(all, got) {
		t.Errorf("tail over several files: %d lines", strings.Count(got, "\n"))
	}

	seq, err := h.Replay("r1n1", time.Time{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var replay []byte
	var at time.Time
	marks := 0
	for c, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		if c.Time.Before(at) {
			t.Fatalf("time goes back from %v to %v", at, c.Time)
		}
		at = c.Time
		replay = append(replay, c.Data...)
		if c.Mark {
			marks++
		}
	}
	if string(replay) != all {
		t.Error("the replay differs from the log")
	}
	if marks != 5*2+4 { // begins or goes on, connected; ends
		t.Errorf("%d marks", marks)
	}
	stop()

	// What the record has, a hub that does not know the node reads as well.
	other, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer other.root.Close()
	if got := logOf(t, other, "r1n1", LogOptions{}); !strings.HasPrefix(got, all) {
		t.Error("the log of a removed node differs")
	}
}

func TestLog_grep(t *testing.T) {
	h, _ := startHub(t, Options{Dir: t.TempDir()})
	say := talk(t, h, "r1n1")
	long := strings.Repeat("x", ringMax+100)
	say("ib0: up\r\n\x1b[31mib1: \x1b[1mdown\x1b[0m\r\n" + strings.Repeat("eth0: down\r\n", 100) + "ib2: down\r\n" + long[:ringMax/2])
	say(long[ringMax/2:] + " ib3: down\r\nib4: down")
	for _, tt := range []struct {
		grep string
		o    LogOptions
		want string
	}{
		{`^ib\d: down$`, LogOptions{}, "\x1b[31mib1: \x1b[1mdown\x1b[0m\r\nib2: down\r\nib4: down"},
		{`^ib\d: down$`, LogOptions{Tail: 2}, "ib2: down\r\nib4: down"},
		{`^eth`, LogOptions{Tail: 3}, strings.Repeat("eth0: down\r\n", 3)},
		{`ib3`, LogOptions{}, strings.Repeat("x", 100) + " ib3: down\r\n"},
		{`nothing`, LogOptions{Tail: 3}, ""},
		{`.`, LogOptions{Until: time.Now().Add(-time.Hour)}, ""},
	} {
		tt.o.Grep = regexp.MustCompile(tt.grep)
		got := logOf(t, h, "r1n1", tt.o)
		if tt.grep == "ib3" {
			got = got[len(got)-len(tt.want):] // of a line without an end, in what parts it is read does not matter
		}
		if got != tt.want {
			t.Errorf("%s of %+v: %q, want %q", tt.grep, tt.o, got, tt.want)
		}
		tt.o.Times = true
		stamped := logOf(t, h, "r1n1", tt.o)
		plain := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT[\d:.]{12}Z `).ReplaceAllString(stamped, "")
		if !strings.HasSuffix(plain, tt.want) || tt.want != "" && tt.grep != "ib3" && plain == stamped {
			t.Errorf("%s of %+v with times: %q, want %q", tt.grep, tt.o, stamped, tt.want)
		}
	}
}

func TestKeep_compresses_and_removes_the_oldest(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Rotate: 4 << 10}.withDefaults()
	for range 5 {
		record(t, o, "r1n1", 100)
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.root.Close()
	before := logOf(t, h, "r1n1", LogOptions{})
	if err := h.retain(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	packed, _ := filepath.Glob(filepath.Join(dir, "r1n1", "*.log.zst"))
	plain, _ := filepath.Glob(filepath.Join(dir, "r1n1", "*.log"))
	if len(packed) < 4 || len(plain) != 1 {
		t.Errorf("%d compressed, %d plain", len(packed), len(plain))
	}
	if got := logOf(t, h, "r1n1", LogOptions{}); got != before {
		t.Error("compression changed the log")
	}
	root := h.root
	end := int64(len(before))
	got, err := readBefore(root, "r1n1", end, ringMax)
	if err != nil || string(got) != before[max(0, len(before)-ringMax):] {
		t.Errorf("readBefore over compressed files: %d bytes, %v", len(got), err)
	}

	set(t, h, "r1n1", "k", newMachine().source) // a node that exists keeps its newest file
	h.o.KeepBytes = 1
	if err := h.retain(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := logOf(t, h, "r1n1", LogOptions{}); got == "" || !strings.HasSuffix(before, got) {
		t.Errorf("after retention %d bytes are left", len(got))
	}
	left, _ := filepath.Glob(filepath.Join(dir, "r1n1", "*"))
	if len(left) != 2 {
		t.Errorf("left: %v", left)
	}
	h.o.KeepBytes = 1 << 40
	h.Remove("r1n1", "the node was removed")
	if err := h.retain(t.Context(), time.Now().Add(h.o.KeepFor+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "r1n1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory of a node that is gone stays: %v", err)
	}
}

func TestRun_refuses_a_directory_in_use(t *testing.T) {
	dir := t.TempDir()
	h, _ := startHub(t, Options{Dir: dir})
	m := newMachine()
	set(t, h, "r1n1", "k", m.source)
	<-m.up // it runs
	other, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var ce *Error
	if err := other.Run(t.Context()); !errors.As(err, &ce) || !strings.Contains(ce.Why, "another process") {
		t.Errorf("got %v", err)
	}
}

func TestRecord_survives_a_disk_that_cannot_be_written(t *testing.T) {
	dir := t.TempDir()
	h, stop := startHub(t, Options{Dir: dir})
	m := newMachine()
	set(t, h, "r1n1", "k", m.source)
	line := <-m.up
	send(t, line, "before\r\n")
	s := attach(t, h, "r1n1", AttachOptions{})
	readUntil(t, s, "before")
	logOf(t, h, "r1n1", LogOptions{})
	// The directory becomes a file: every write fails, also for root.
	away := filepath.Join(dir, "away")
	if err := os.Rename(filepath.Join(dir, "r1n1"), away); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "r1n1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		send(t, line, strings.Repeat("lost ", 400)+"\r\n")
	}
	send(t, line, "gone\r\n")
	readUntil(t, s, "gone")
	if i, _ := h.Info("r1n1"); !strings.HasPrefix(i.Reason, "not recorded: ") {
		t.Errorf("%+v", i)
	}
	os.Remove(filepath.Join(dir, "r1n1"))
	if err := os.Rename(away, filepath.Join(dir, "r1n1")); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		send(t, line, strings.Repeat("kept ", 400)+"\r\n")
	}
	send(t, line, "after\r\n")
	readUntil(t, s, "after")
	got := logOf(t, h, "r1n1", LogOptions{})
	if !regexp.MustCompile(`\d+ bytes are missing here: they could not be recorded: .*not a directory\]`).MatchString(got) {
		t.Error("the gap is not told with its reason")
	}
	if !strings.Contains(got, "bytes of the record are missing here]") || strings.Count(got, "kept") != 40000 || !strings.HasSuffix(got, "after\r\n") {
		t.Errorf("log of %d bytes, %d × kept", len(got), strings.Count(got, "kept"))
	}
	if i, _ := h.Info("r1n1"); i.Reason != "" {
		t.Errorf("%+v", i)
	}
	stop()
}

// killed is what kill -9 leaves of a record now: a copy of its directory, with the console of a node mended.
func killed(t *testing.T, dir string, mend func(dir string)) *Hub {
	t.Helper()
	image := filepath.Join(t.TempDir(), "d")
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if mend != nil {
		mend(image)
	}
	h, err := New(Options{Dir: image})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.rec.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.rec.shut()
		h.root.Close()
	})
	return h
}

// talk connects a console that nothing but Sync brings to the disk, and a watcher of it.
func talk(t *testing.T, h *Hub, node model.NodeName) (say func(string)) {
	t.Helper()
	m := newMachine()
	set(t, h, node, "k", m.source)
	line := <-m.up
	s := attach(t, h, node, AttachOptions{})
	return func(text string) {
		t.Helper()
		send(t, line, text)
		readUntil(t, s, text)
	}
}

func TestRecord_goes_on_after_a_full_disk(t *testing.T) {
	dir := t.TempDir()
	h, _ := startHub(t, Options{Dir: dir, Batch: time.Hour})
	say := talk(t, h, "r1n1")
	say("before\r\n")
	if err := h.Sync(); err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("needs /dev/full: " + err.Error())
	}
	defer full.Close()
	change := func(f *os.File) (old *os.File) {
		h.rec.work.Lock()
		defer h.rec.work.Unlock()
		old, h.rec.seg = h.rec.seg, f
		return old
	}
	seg := change(full)
	say("full\r\n")
	if err := h.Sync(); err == nil {
		t.Fatal("a full disk was not told")
	}
	change(seg)
	if _, err := seg.WriteAt([]byte("torn, and longer than what follows"), h.rec.segSize); err != nil { // as a write leaves it that finds the disk full
		t.Fatal(err)
	}
	say("after\r\n")
	if err := h.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := logOf(t, killed(t, dir, nil), "r1n1", LogOptions{}); !strings.HasSuffix(got, "before\r\nfull\r\nafter\r\n") {
		t.Errorf("after kill -9: %q", got)
	}
}

func TestRecord_one_broken_console_does_not_keep_the_journal(t *testing.T) {
	dir := t.TempDir()
	h, _ := startHub(t, Options{Dir: dir, Batch: time.Hour})
	broken, good := talk(t, h, "broken"), talk(t, h, "good")
	broken("begin\r\n")
	logOf(t, h, "broken", LogOptions{}) // its directory is there
	away, place := filepath.Join(t.TempDir(), "away"), filepath.Join(dir, "broken")
	if err := os.Rename(place, away); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(place, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken("kept\r\n")
	good("fine\r\n")
	for range 3 { // each is a minute
		_ = h.Sync()
		h.rec.work.Lock()
		err := h.rec.leave()
		h.rec.work.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Sync(); err == nil {
			t.Error("nobody is told of the broken console")
		}
		broken("more\r\n")
	}
	segs, err := h.rec.segments()
	if err != nil || len(segs) != 1 {
		t.Errorf("the journal has segments %v, %v", segs, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "good", filesOf(t, h, "good")[0].name+".log")); err != nil || !strings.Contains(string(b), "fine") {
		t.Errorf("the file of the good console: %q, %v", b, err)
	}
	_ = h.Sync()
	after := killed(t, dir, func(image string) {
		if err := os.Remove(filepath.Join(image, "broken")); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(image, "broken"), os.DirFS(away)); err != nil {
			t.Fatal(err)
		}
	})
	if got := logOf(t, after, "broken", LogOptions{}); !strings.HasSuffix(got, "begin\r\nkept\r\nmore\r\nmore\r\nmore\r\n") {
		t.Errorf("after kill -9: %q", got)
	}
	os.Remove(place)
	if err := os.Rename(away, place); err != nil {
		t.Fatal(err)
	}
}

func filesOf(t *testing.T, h *Hub, node string) []file {
	t.Helper()
	list, err := files(h.root, node)
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return list
}

func TestTail_passes_over_what_a_packed_file_has(t *testing.T) {
	end := tail{base: 100} // behind a file that was compressed by hand
	if err := end.add(plainBlock(10, 0, []byte("hello")), []byte("hello")); err != nil || end.name != "" {
		t.Errorf("%v, %+v", err, end)
	}
}

func TestRecord_burst_loses_no_line(t *testing.T) {
	for name, dial := range map[string]func(context.Context, string) (Stream, error){
		"of any stream": func(ctx context.Context, sock string) (Stream, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, "unix", sock)
			return pipe{c, newMachine()}, err
		},
		"of a socket": func(ctx context.Context, sock string) (Stream, error) {
			return Dial(ctx, model.ConsoleSource{Network: "unix", Address: sock})
		},
	} {
		t.Run(name, func(t *testing.T) { recordBurst(t, dial) })
	}
}

func recordBurst(t *testing.T, dial func(ctx context.Context, sock string) (Stream, error)) {
	const size = 100 << 20
	h, stop := startHub(t, Options{Dir: t.TempDir(), Rotate: 16 << 20})
	sock := filepath.Join(t.TempDir(), "c")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	set(t, h, "r1n1", "k", func(ctx context.Context) (Stream, error) { return dial(ctx, sock) })
	h.SetAlarms("r1n1", rules(t))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	w := bufio.NewWriterSize(c, 64<<10)
	lines := size / 76
	for i := range lines {
		fmt.Fprintf(w, "line %08d %s\r\n", i, strings.Repeat("x", 60))
	}
	fmt.Fprint(w, "the end\r\n")
	w.Flush()
	s := attach(t, h, "r1n1", AttachOptions{})
	readUntil(t, s, "the end")
	t.Logf("%d MB in %v", size>>20, time.Since(start).Round(time.Millisecond))
	r, err := h.Log("r1n1", LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := 0
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		if bytes.HasPrefix(sc.Bytes(), []byte("line ")) {
			n, _ := strconv.Atoi(string(sc.Bytes()[5:13]))
			if n != next {
				t.Fatalf("line %d follows line %d", n, next-1)
			}
			next++
		}
	}
	if next != lines {
		t.Errorf("%d of %d lines", next, lines)
	}
	c.Close()
	stop()
}

func FuzzParseIndex(f *testing.F) {
	var p []byte
	p = appendFrame(p, appendBlock(nil, block{pos: 0, n: 12, time: 1700000000000, sum: 7, entries: appendEntry(appendEntry(nil, entry{0, 10, output}), entry{900, 2, mark})}))
	p = appendFrame(p, appendBlock(nil, block{pos: 12, n: 1, time: -5, entries: appendEntry(nil, entry{0, 1, ending})}))
	f.Add(p)
	f.Add(p[:len(p)-3])
	f.Add(append(slices.Clone(p), make([]byte, 100)...))
	f.Add([]byte{})
	// A frame with a good checksum and bad content gets behind the checksum.
	bad := []byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3}
	f.Add(appendFrame(nil, bad))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= 8 { // let the fuzzer past the checksum
			fixed := slices.Clone(p)
			if n := int(binary.LittleEndian.Uint32(fixed)); n > 0 && n <= len(fixed)-8 {
				binary.LittleEndian.PutUint32(fixed[4:], crc32.Checksum(fixed[8:8+n], castagnoli))
			}
			p = fixed
		}
		blocks, valid := parseIndex(p)
		if valid > len(p) {
			t.Fatalf("%d valid bytes of %d", valid, len(p))
		}
		end := int64(0)
		var again []byte
		for _, b := range blocks {
			if b.pos < end || b.n < 0 {
				t.Fatalf("block at %d of %d bytes after %d", b.pos, b.n, end)
			}
			end = b.end()
			var sum int64
			var entries []byte
			for e := range b.all() {
				sum += e.n
				entries = appendEntry(entries, e)
			}
			if sum != b.n {
				t.Fatalf("entries of %d bytes in a block of %d", sum, b.n)
			}
			b.entries = entries
			again = appendFrame(again, appendBlock(nil, b))
		}
		back, n := parseIndex(again)
		if len(back) != len(blocks) || n != len(again) {
			t.Fatalf("%d blocks written, %d read", len(blocks), len(back))
		}
		if len(p) >= 8 {
			if node, b, text, err := decodeJournal(p[8:]); err == nil && (!validName(node) || int64(len(text)) != b.n) {
				t.Fatalf("journal record of %q with %d bytes, %d described", node, len(text), b.n)
			}
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add(fileName(time.UnixMilli(1732083733123), 0x1234) + ".log")
	f.Add("20261120T062213.000Z-0000000000000000.log.zst")
	f.Add("00000110T000000,000Z-0000000000000000.log") // time.Parse takes a comma for a point
	f.Fuzz(func(t *testing.T, s string) {
		g, ok := parseFileName(s)
		if ok && fileName(g.start, g.base)+g.ext() != s {
			t.Fatalf("%q reads as %+v", s, g)
		}
	})
}

func TestJournalRecord(t *testing.T) {
	b := block{pos: 99, n: 5, time: 1700000000000, sum: 3, entries: appendEntry(nil, entry{7, 5, output})}
	p := appendJournal([]byte("before"), "r1n1", b, []byte("hel"), []byte("lo"))[6:]
	payload, rest, ok := nextFrame(p)
	if !ok || len(rest) != 0 {
		t.Fatal("no frame")
	}
	node, got, text, err := decodeJournal(payload)
	if err != nil || node != "r1n1" || string(text) != "hello" || got.pos != 99 || got.time != b.time || got.last() != (entry{7, 5, output}) {
		t.Errorf("%q %+v %q %v", node, got, text, err)
	}
	if _, _, _, err := decodeJournal(appendJournal(nil, "../x", b, []byte("hello"))[8:]); err == nil {
		t.Error("a name that leaves the directory was accepted")
	}
}

var _ io.Reader = (*Session)(nil)
