package store

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/model"
)

const crashEnv = "MUSTER_STORE_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		crashWriter(dir)
		return
	}
	if dir := os.Getenv(idleEnv); dir != "" {
		idleServer(dir)
		return
	}
	if dir := os.Getenv(restoreEnv); dir != "" {
		restoreInto(dir)
		return
	}
	if dir := os.Getenv(largeEnv); dir != "" {
		largeServer(dir)
		return
	}
	if cfg := os.Getenv(managerEnv); cfg != "" {
		var p managerProcess
		if err := json.Unmarshal([]byte(cfg), &p); err != nil {
			panic(err)
		}
		p.main()
		return
	}
	// Most of the parallel tests wait: for a disk, a leader, the end of a lease.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	flag.Parse()
	os.Exit(m.Run())
}

const crashWriters = 4

// crashWriter is the process that is killed: each writer w commits changes i = 0, 1, 2 … that put node w<w> and node pair<w> with i, two
// events each, and prints "w i revision" once a commit is acknowledged.
func crashWriter(dir string) {
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	s, err := Open(context.Background(), Options{Dir: dir, EventFile: 20_000, Changes: 1 << 20})
	if err != nil {
		fail(err)
	}
	var out sync.Mutex
	fmt.Println("open")
	for w := range crashWriters {
		go func() {
			first, _ := counts(s.Snapshot(), w)
			for i := first + 1; ; i++ {
				c := change("crash", node(fmt.Sprint("w", w), "i", fmt.Sprint(i)), node(fmt.Sprint("pair", w), "i", fmt.Sprint(i)))
				c.What = fmt.Sprintf("%d.%d", w, i)
				c.Events = []model.Event{{Step: "test", What: fmt.Sprintf("%d.%d.a", w, i)}, {Step: "test", What: fmt.Sprintf("%d.%d.b", w, i)}}
				rev, err := s.Commit(context.Background(), c)
				if err != nil {
					fail(err)
				}
				out.Lock()
				fmt.Println(w, i, int64(rev))
				out.Unlock()
				s.Tell(model.Event{Step: "told", What: fmt.Sprintf("%d.%d", w, i)})
			}
		}()
	}
	select {}
}

func counts(s *model.Snapshot, w int) (i, pair int) {
	for p, prefix := range map[*int]string{&i: "w", &pair: "pair"} {
		if n := s.Node(model.NodeName(fmt.Sprint(prefix, w))); n != nil {
			fmt.Sscan(n.Attrs["i"], p)
		}
	}
	return i, pair
}

// Whenever the process is killed: no acknowledged commit is lost, none is torn, every commit is in the audit trail once and its events are on the
// timeline once, and nothing that was told is there twice.
func TestKill(t *testing.T) {
	t.Parallel()
	stores, rounds := 1, 20
	if testing.Short() {
		rounds = 5
	} else if long { // young stores and older ones
		stores, rounds = 6, 50
	}
	for range stores {
		killRounds(t, rounds)
	}
}

func killRounds(t *testing.T, rounds int) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Skipf("cannot find the test's own program: %v", err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	acked := make([]int, crashWriters)
	total := 0
	for round := range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		kill := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) // from "open" on: at a random time
		for lines.Scan() {
			switch l := lines.Text(); {
			case strings.HasPrefix(l, "error"):
				t.Errorf("round %d: %s", round, l)
			case l == "open":
				kill.Reset(time.Duration(random.IntN(80)) * time.Millisecond)
			default:
				var w, i, rev int
				if n, _ := fmt.Sscan(l, &w, &i, &rev); n == 3 {
					acked[w] = i
					total++
				}
			}
		}
		_ = cmd.Wait()
		kill.Stop()
		if round%5 == 3 { // the start after a kill is killed too
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), crashEnv+"="+dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Duration(random.IntN(300))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			_ = cmd.Wait()
		}
		checkAfterKill(t, dir, acked, round)
		if t.Failed() {
			t.Fatalf("round %d; the files were in %s", round, dir)
		}
	}
	t.Logf("%d rounds, %d acknowledged commits", rounds, total)
}

func checkAfterKill(t *testing.T, dir string, acked []int, round int) {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir, EventFile: 20_000, Changes: 1 << 20})
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	defer s.Close()
	events, err := s.Events(EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	seen, told := map[string]int{}, map[string]int{}
	last := int64(0)
	for _, e := range events {
		if e.Seq <= last {
			t.Errorf("round %d: seq %d after %d", round, e.Seq, last)
		}
		switch last = e.Seq; e.Step {
		case "test":
			seen[e.What]++
		case "told":
			if told[e.What]++; told[e.What] > 1 {
				t.Errorf("round %d: what was told of %s is there twice", round, e.What)
			}
		}
	}
	changes, err := s.Changes(ChangeQuery{Verb: "crash"})
	if err != nil {
		t.Fatal(err)
	}
	audit := map[string]int{}
	for _, c := range changes {
		audit[c.What]++
	}
	for w := range crashWriters {
		i, pair := counts(s.Snapshot(), w)
		if i < acked[w] {
			t.Errorf("round %d: writer %d: %d is there, %d was acknowledged", round, w, i, acked[w])
		}
		if i != pair {
			t.Errorf("round %d: writer %d: torn, %d and %d", round, w, i, pair)
		}
		for n := 1; n <= i; n++ {
			if what := fmt.Sprintf("%d.%d", w, n); audit[what] != 1 {
				t.Errorf("round %d: change %s is in the audit trail %d times", round, what, audit[what])
			}
			for _, part := range "ab" {
				what := fmt.Sprintf("%d.%d.%c", w, n, part)
				if seen[what] != 1 {
					t.Errorf("round %d: event %s is there %d times", round, what, seen[what])
				}
				delete(seen, what)
			}
		}
	}
	for what := range seen {
		t.Errorf("round %d: event %s is of no commit", round, what)
	}
}

// A store killed during its very first start is made anew.
func TestKillDuringTheFirstStart(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Skipf("cannot find the test's own program: %v", err)
	}
	rounds, step := 6, 50*time.Millisecond
	if long {
		rounds, step = 60, 5*time.Millisecond
	}
	for round := range rounds {
		dir := t.TempDir()
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(round)*step, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		s := open(t, Options{Dir: dir})
		commit(t, s, change("node add", node("a")))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
