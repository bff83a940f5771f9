package chunk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// put stores contents and returns their digests.
func put(t testing.TB, s *Store, contents ...[]byte) []Digest {
	t.Helper()
	w, err := s.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var out []Digest
	for _, c := range contents {
		d, err := w.Put(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out
}

func keepAll(ds ...Digest) func(func(Digest)) error {
	return func(keep func(Digest)) error {
		for _, d := range ds {
			keep(d)
		}
		return nil
	}
}

func TestStore_gives_back_what_it_was_given_also_to_another_process(t *testing.T) {
	dir := t.TempDir()
	first, second := open(t, dir), open(t, dir)
	text := bytes.Repeat([]byte("muster "), 1000)
	ds := put(t, first, text, []byte{}, random(1, MaxSize), text)
	if ds[0] != ds[3] || first.Size().Chunks != 3 {
		t.Errorf("the same content twice: %v, %+v", ds, first.Size())
	}
	if p := first.Size().Packed; p > MaxSize+2000 {
		t.Errorf("%d bytes are stored: nothing is compressed", p)
	}
	for i, want := range [][]byte{text, {}, random(1, MaxSize)} {
		if got, err := second.Get(t.Context(), ds[i], nil); err != nil || !bytes.Equal(got, want) {
			t.Errorf("chunk %d: %d bytes, %v", i, len(got), err)
		}
	}
	var missing *MissingError
	if _, err := first.Get(t.Context(), Sum([]byte("never")), nil); !errors.As(err, &missing) || !strings.Contains(err.Error(), Sum([]byte("never")).String()) {
		t.Errorf("a chunk that is not there: %v", err)
	}
	if w, err := first.Write(t.Context()); err != nil {
		t.Error(err)
	} else if _, err := w.Put(make([]byte, MaxSize+1)); err == nil {
		t.Error("a chunk longer than MaxSize was taken")
	} else if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// damage flips one byte of the only pack in dir.
func damage(t *testing.T, dir string, at int64) {
	t.Helper()
	packs, _ := filepath.Glob(filepath.Join(dir, "*"+packSuffix))
	if len(packs) != 1 {
		t.Fatalf("packs: %v", packs)
	}
	f, err := os.OpenFile(packs[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if at < 0 {
		info, _ := f.Stat()
		at += info.Size()
	}
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 0x10}, at); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedChunk_is_named_and_the_next_put_of_it_mends_it(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	a, b := random(1, 5000), random(2, 5000)
	ds := put(t, s, a, b)
	damage(t, dir, int64(len(magic))+100)
	var damaged *DamagedError
	if _, err := s.Get(t.Context(), ds[0], nil); !errors.As(err, &damaged) || damaged.Digest != ds[0] {
		t.Fatalf("got %v", err)
	}
	if got, err := s.Get(t.Context(), ds[1], nil); err != nil || !bytes.Equal(got, b) {
		t.Errorf("its neighbour: %v", err)
	}
	s = open(t, dir)
	bad, err := s.Verify(t.Context(), nil)
	if err != nil || len(bad) != 1 || !strings.Contains(bad[0].Error(), ds[0].String()) {
		t.Fatalf("verify: %v, %v", bad, err)
	}
	put(t, s, a)
	if got, err := s.Get(t.Context(), ds[0], nil); err != nil || !bytes.Equal(got, a) {
		t.Errorf("after it was put again: %v", err)
	}
	// Who opens the store anew meets the damaged copy first or second: it must not matter.
	for range 5 {
		if got, err := open(t, dir).Get(t.Context(), ds[0], nil); err != nil || !bytes.Equal(got, a) {
			t.Errorf("opened anew: %v", err)
		}
	}
}

func TestDamagedPack_is_named_and_its_chunks_are_missing(t *testing.T) {
	for name, at := range map[string]int64{"index": -int64(footerSize) - 3, "footer": -3, "count": -int64(footerSize)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := put(t, open(t, dir), random(1, 5000))[0]
			damage(t, dir, at)
			s := open(t, dir)
			var missing *MissingError
			if _, err := s.Get(t.Context(), d, nil); !errors.As(err, &missing) {
				t.Errorf("got %v", err)
			}
			if bad, err := s.Verify(t.Context(), nil); err != nil || len(bad) != 1 || !strings.Contains(bad[0].Error(), packSuffix+" is damaged") {
				t.Errorf("verify: %v, %v", bad, err)
			}
			put(t, s, random(1, 5000))
			if _, err := s.Collect(t.Context(), keepAll(d)); err != nil {
				t.Fatal(err)
			}
			if bad, err := s.Verify(t.Context(), nil); err != nil || len(bad) != 0 || !s.Has(d) {
				t.Errorf("after it was mended: %v, %v", bad, err)
			}
		})
	}
}

func TestCollect_keeps_what_is_marked_and_gives_the_rest_back(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var contents [][]byte
	for i := range 100 {
		contents = append(contents, random(uint64(i), 10_000))
	}
	ds := put(t, s, contents...)
	if f, err := s.Collect(t.Context(), keepAll(ds...)); err != nil || f != (Freed{Kept: 100}) {
		t.Errorf("all marked: %+v, %v", f, err)
	}
	boom := errors.New("a manifest cannot be read")
	if _, err := s.Collect(t.Context(), func(func(Digest)) error { return boom }); !errors.Is(err, boom) || s.Size().Chunks != 100 {
		t.Errorf("an error of the marks: %v, %+v", err, s.Size())
	}
	if err := os.WriteFile(filepath.Join(dir, newPrefix+"killed"), make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := s.Collect(t.Context(), keepAll(ds[:30]...))
	if err != nil || f.Chunks != 70 || f.Kept != 30 || f.Bytes < 700_000 {
		t.Errorf("30 of 100 marked: %+v, %v", f, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, newPrefix+"*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	for _, s := range []*Store{s, open(t, dir)} {
		for i, d := range ds {
			if got, err := s.Get(t.Context(), d, nil); (err == nil) != (i < 30) || err == nil && !bytes.Equal(got, contents[i]) {
				t.Errorf("chunk %d: %v", i, err)
			}
		}
	}
	if f, err := s.Collect(t.Context(), keepAll()); err != nil || f.Chunks != 30 || s.Size() != (Size{}) {
		t.Errorf("none marked: %+v, %v, %+v", f, err, s.Size())
	}
}

func TestCollect_waits_for_writers_and_takes_nothing_of_theirs(t *testing.T) {
	s := open(t, t.TempDir())
	old := random(1, 5000)
	d := put(t, s, old)[0]
	w, err := s.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Put(old); err != nil { // it is there: nothing is stored, and the writer counts on it
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Collect(ended, keepAll()); !errors.Is(err, context.Canceled) {
		t.Errorf("beside a writer: %v", err)
	}
	var marks sync.Mutex
	var manifest []Digest
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := s.Collect(t.Context(), func(keep func(Digest)) error {
			marks.Lock()
			defer marks.Unlock()
			for _, d := range manifest {
				keep(d)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	marks.Lock()
	manifest = []Digest{d}
	marks.Unlock()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got, err := s.Get(t.Context(), d, nil); err != nil || !bytes.Equal(got, old) {
		t.Errorf("what the writer counted on: %v", err)
	}
}

// TestKill_leaves_whole_packs_only kills a process of its own in the midst of writing and collecting, again and again: what it had said
// to be durable is there.
func TestKill_leaves_whole_packs_only(t *testing.T) {
	if dir := os.Getenv("CHUNK_TEST_WRITE"); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	all := make(map[string]bool)
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill_leaves_whole_packs_only$")
		cmd.Env = append(os.Environ(), "CHUNK_TEST_WRITE="+dir, fmt.Sprint("CHUNK_TEST_ROUND=", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed at another point each time: after some bytes of what it says.
		said := make([]byte, 65*(3+5*round)+30)
		if _, err := io.ReadFull(out, said); err != nil {
			t.Fatalf("the writer ended by itself: %v: %s", err, said)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		s := open(t, dir)
		lines := strings.Split(string(said)+string(rest), "\n")
		for _, line := range lines[:len(lines)-1] {
			all[line] = true
		}
		for line := range all {
			d, err := ParseDigest(line)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(t.Context(), d, nil); err != nil {
				t.Errorf("round %d: it was said to be durable: %v", round, err)
			}
		}
		if bad, err := s.Verify(t.Context(), nil); err != nil || len(bad) != 0 {
			t.Fatalf("round %d: %v, %v", round, bad, err)
		}
	}
	if len(all) < 100 {
		t.Errorf("only %d chunks in all", len(all))
	}
}

func writeUntilKilled(t *testing.T, dir string) {
	s := open(t, dir)
	round := uint64(os.Getenv("CHUNK_TEST_ROUND")[0])
	var stays []Digest // every chunk of earlier rounds
	s.mu.RLock()
	for d := range s.index {
		stays = append(stays, d)
	}
	s.mu.RUnlock()
	for i := uint64(0); ; i++ {
		junk := random(round<<12+i<<1+1<<20, 3000)
		d := put(t, s, random(round<<12+i<<1, 3000), junk)[0]
		stays = append(stays, d)
		fmt.Println(d)
		if _, err := s.Collect(t.Context(), keepAll(stays...)); err != nil {
			t.Error(err)
		}
	}
}

func TestCutter_moves_no_cut_but_that_of_a_change(t *testing.T) {
	cut := func(b []byte) map[Digest]int {
		t.Helper()
		out := make(map[Digest]int)
		var c Cutter
		var all []byte
		err := c.Cut(bytes.NewReader(b), func() []byte { return nil }, func(p []byte) error {
			if len(p) > MaxSize {
				t.Errorf("a chunk of %d bytes", len(p))
			}
			all = append(all, p...)
			out[Sum(p)] = len(p)
			return nil
		})
		if err != nil || !bytes.Equal(all, b) {
			t.Fatalf("%d of %d bytes, %v", len(all), len(b), err)
		}
		return out
	}
	b := random(7, 20<<20)
	before := cut(b)
	if len(before) < 15 || len(before) > 60 {
		t.Errorf("%d chunks of 20 MiB", len(before))
	}
	changed := cut(append(append(bytes.Clone(b[:9<<20]), "an insertion"...), b[9<<20:]...))
	fresh := 0
	for d := range changed {
		if before[d] == 0 {
			fresh++
		}
	}
	if fresh == 0 || fresh > 3 {
		t.Errorf("%d of %d chunks are new after an insertion", fresh, len(changed))
	}
}

// TestCutter_cuts_where_it_always_did holds the polynomial and the sizes fast: other cuts would make every stored image new.
func TestCutter_cuts_where_it_always_did(t *testing.T) {
	var got []int
	var c Cutter
	if err := c.Cut(bytes.NewReader(random(9, 3<<20)), func() []byte { return nil }, func(p []byte) error { got = append(got, len(p)); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := "[617934 608970 657614 1015894 245316]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add(appendEntry(nil, Sum(nil), place{offset: 8, packed: 3, plain: 4}), int64(100))
	f.Add([]byte{1}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, end int64) {
		var again []byte
		if parseIndex(b, end, func(d Digest, at place) { again = appendEntry(again, d, at) }) == nil && !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	f.Add(Sum(nil).String())
	f.Add("ABCDEF")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDigest(s); err == nil && d.String() != s {
			t.Errorf("%q became %q", s, d)
		}
	})
}
