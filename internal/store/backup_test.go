package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// backup takes one into memory.
func backup(t testing.TB, s *Store, keys []byte) (BackupInfo, []byte) {
	t.Helper()
	var b bytes.Buffer
	info, err := s.Backup(t.Context(), &b, keys)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != int64(b.Len()) {
		t.Errorf("size %d, the file has %d", info.Size, b.Len())
	}
	return info, b.Bytes()
}

// restored is an open store made of a backup.
func restored(t testing.TB, file []byte) *Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(t.Context(), Options{Dir: dir}, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	return open(t, Options{Dir: dir})
}

// recordsOf are all change records of a store.
func recordsOf(t testing.TB, s *Store) []*record {
	t.Helper()
	_, records, err := s.load(t.Context(), lacks{})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// What is restored is the store of one revision, whatever was written while the backup was read.
func TestBackupUnderWriteLoad(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Program: "muster test"})
	base := make([]model.Op, 0, 2*page)
	for i := range cap(base) {
		base = append(base, node(fmt.Sprintf("n%05d", i), "a", "0"))
	}
	var mu sync.Mutex
	var changes []*model.Change
	write := func(c *model.Change) {
		if _, err := s.Commit(context.Background(), c); err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		changes = append(changes, c)
		mu.Unlock()
	}
	write(change("node add", base...))
	for _, c := range fixtureChanges() {
		write(c)
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				first, last := fmt.Sprintf("n%05d", i%7), fmt.Sprintf("n%05d", 2*page-1-i%5)
				write(change("set", node(first, "a", fmt.Sprint(w, i)), node(last, "a", fmt.Sprint(w, i)), node(fmt.Sprintf("new%d-%d", w, i))))
				if i%3 == 2 {
					write(change("node remove", model.Op{Kind: model.KindNode, Name: fmt.Sprintf("new%d-%d", w, i)}))
				}
			}
		})
	}
	files := map[string]BackupInfo{}
	times := 1
	if long {
		times = 5
	}
	for range times {
		info, file := backup(t, s, nil)
		files[string(file)] = info
		before := s.Snapshot().Revision
		if err := s.Wait(t.Context(), func(n *model.Snapshot) bool { return n.Revision > before+20 }); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	writers.Wait()
	slices.SortFunc(changes, func(a, b *model.Change) int { return int(a.Revision - b.Revision) })
	for file, info := range files {
		want := model.Empty()
		var records []model.Revision
		for _, c := range changes {
			if c.Revision <= info.Revision {
				records = append(records, c.Revision)
				again := *c // Apply stamps the documents, which the store has, too
				var err error
				if want, err = model.Apply(want, &again); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := restored(t, []byte(file))
		if d := differ(want, got.Snapshot()); d != "" {
			t.Errorf("revision %d, -want +got:\n%s", info.Revision, d)
		}
		var have []model.Revision
		for _, r := range recordsOf(t, got) {
			have = append(have, r.Revision)
		}
		if !slices.Equal(records, have) {
			t.Errorf("revision %d: %d change records, want %d", info.Revision, len(have), len(records))
		}
		if info.Keys != len(documents(want))+len(records) || info.Nodes != want.Len() || info.Program != "muster test" {
			t.Errorf("%+v, want %d nodes, %d documents, %d records", info, want.Len(), len(documents(want)), len(records))
		}
		t.Logf("revision %d of %d: %d keys, %d bytes", info.Revision, s.Snapshot().Revision, info.Keys, info.Size)
	}
}

// What a backup was reading may be compacted away: it begins again, and writes nothing of what it had.
func TestBackupWhileTheHistoryIsCompacted(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	ops := make([]model.Op, page+5)
	for i := range ops {
		ops[i] = node(fmt.Sprintf("n%06d", i))
	}
	commit(t, s, change("node add", ops...))
	gets := 0
	kv := s.engine.client.KV
	s.engine.client.KV = &interposed{KV: kv, afterGet: func() {
		if gets++; gets == 1 {
			rev := commit(t, s, change("set", node("n000000", "a", "new"), node(fmt.Sprintf("n%06d", page+4), "a", "new")))
			if _, err := kv.Compact(t.Context(), int64(rev), clientv3.WithCompactPhysical()); err != nil {
				t.Error(err)
			}
		}
	}}
	info, file := backup(t, s, nil)
	if gets < 3 || info.Revision != s.Snapshot().Revision {
		t.Errorf("%d reads, revision %d, want a second beginning at %d", gets, info.Revision, s.Snapshot().Revision)
	}
	got := restored(t, file)
	if d := differ(s.Snapshot(), got.Snapshot()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestBackupIsLinesThatZstdReads(t *testing.T) {
	s := open(t, Options{Program: "muster test"})
	for _, c := range fixtureChanges() {
		commit(t, s, c)
	}
	info, file := backup(t, s, []byte("opaque"))
	z, err := zstd.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	stamp := info.Time.Format(time.RFC3339)
	for i, want := range map[int]string{
		0:              fmt.Sprintf(`{"format":"muster backup","version":1,"schema":%d,"revision":%d,"time":"%s","program":"muster test"}`, Schema, info.Revision, stamp),
		len(lines) - 2: `{"keys":"b3BhcXVl"}`,
		len(lines) - 1: fmt.Sprintf(`{"end":%d}`, info.Keys),
	} {
		if lines[i] != want {
			t.Errorf("line %d: got %s\nwant %s", i+1, lines[i], want)
		}
	}
	node := `{"key":"/muster/1/node/r1n2","rev":4,"value":"{\"name\":\"r1n2\",\"groups\":[\"compute\"]}"}`
	if !slices.Contains(lines, node) {
		t.Errorf("no line %s in\n%s", node, b)
	}
	checked, keys, err := CheckBackup(iotest.OneByteReader(bytes.NewReader(file)))
	if err != nil || string(keys) != "opaque" {
		t.Errorf("keys %q, %v", keys, err)
	}
	if d := cmp.Diff(info, checked); d != "" {
		t.Errorf("-written +checked:\n%s", d)
	}
	_, file = backup(t, s, nil)
	if _, keys, err := CheckBackup(bytes.NewReader(file)); err != nil || keys != nil {
		t.Errorf("keys %q, %v, want none", keys, err)
	}
}

// What belongs to a living process is not backed up.
func TestBackupLeavesOutWhatALeaseKeeps(t *testing.T) {
	s := open(t, Options{})
	lease, err := s.engine.client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.engine.client.Put(t.Context(), root+"live/m1", "{}"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.engine.client.Put(t.Context(), prefix+"node/held", `{"name":"held"}`, clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	commit(t, s, change("node add", node("a")))
	info, file := backup(t, s, nil)
	got := restored(t, file)
	if info.Nodes != 1 || got.Snapshot().Node("a") == nil || got.Snapshot().Node("held") != nil {
		t.Errorf("%+v, %v, want node a only", info, documents(got.Snapshot()))
	}
}

// sealed is a backup of these lines.
func sealed(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, strings.Join(lines, "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return seal(b.Bytes())
}

// seal ends a file.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(append(b, sealHead...), sum[:]...)
}

const (
	goodHeader = `{"format":"muster backup","version":1,"schema":2,"revision":9,"time":"2026-11-01T12:00:00Z","program":"muster 7"}`
	goodNode   = `{"key":"/muster/1/node/a","rev":3,"value":"{\"name\":\"a\"}"}`
)

func TestCheckBackupRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		kind Kind
		says string
	}{
		"nothing":                 {nil, Damaged, "cut off"},
		"another file":            {seal([]byte("just a text\n")), Damaged, "no backup of muster"},
		"another format":          {sealed(t, `{"format":"tar"}`, `{"end":0}`), Damaged, "no backup of muster"},
		"a newer format":          {sealed(t, strings.Replace(goodHeader, `"version":1`, `"version":2`, 1), `{"of":"the future"}`), Newer, "muster 7"},
		"a newer schema":          {sealed(t, strings.Replace(goodHeader, `"schema":2`, fmt.Sprintf(`"schema":%d`, Schema+1), 1), `{"end":0}`), Newer, fmt.Sprint("schema ", Schema+1)},
		"an unknown family":       {sealed(t, goodHeader, `{"key":"/muster/1/unicorn/a","rev":3,"value":"{}"}`, `{"end":1}`), Newer, "unicorn"},
		"no end":                  {sealed(t, goodHeader, goodNode), Damaged, "cut off"},
		"another number of keys":  {sealed(t, goodHeader, goodNode, `{"end":2}`), Damaged, "1 keys"},
		"more after the end":      {sealed(t, goodHeader, goodNode, `{"end":1}`, `{"end":1}`), Damaged, "after the end"},
		"a key twice":             {sealed(t, goodHeader, goodNode, goodNode, `{"end":2}`), Damaged, "line 3"},
		"a key outside":           {sealed(t, goodHeader, `{"key":"/muster/schema","rev":3,"value":"7"}`, `{"end":1}`), Damaged, "/muster/schema"},
		"a later revision":        {sealed(t, goodHeader, strings.Replace(goodNode, `3`, `10`, 1), `{"end":1}`), Damaged, "revision 10"},
		"no revision":             {sealed(t, goodHeader, strings.Replace(goodNode, `3`, `0`, 1), `{"end":1}`), Damaged, "revision 0"},
		"a document without JSON": {sealed(t, goodHeader, `{"key":"/muster/1/node/a","rev":3,"value":"{"}`, `{"end":1}`), Damaged, "node/a"},
		"a record without JSON":   {sealed(t, goodHeader, `{"key":"/muster/1/change/0000000000000001","rev":3,"value":"{"}`, `{"end":1}`), Damaged, "change/0"},
		"a record without number": {sealed(t, goodHeader, `{"key":"/muster/1/change/x","rev":3,"value":"{}"}`, `{"end":1}`), Damaged, "change/x"},
		"keys before a document":  {sealed(t, goodHeader, `{"keys":"b3Bh"}`, goodNode, `{"end":1}`), Damaged, "section of keys"},
		"no seal":                 {sealed(t, goodHeader, goodNode, `{"end":1}`)[:50], Damaged, "cut off"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := CheckBackup(bytes.NewReader(c.file))
			if !IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v\nwant kind %q and %q", err, c.kind, c.says)
			}
		})
	}
	good := sealed(t, goodHeader, goodNode, `{"end":1}`)
	if info, _, err := CheckBackup(bytes.NewReader(good)); err != nil || info.Keys != 1 || info.Revision != 9 {
		t.Errorf("the good one: %+v, %v", info, err)
	}
	broken := errors.New("broken disk")
	_, _, err := CheckBackup(io.MultiReader(bytes.NewReader(good[:70]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || IsKind(err, Damaged) {
		t.Errorf("a file that cannot be read: got %v, want the reason", err)
	}
}

// Whatever is cut off or changed is refused before anything is made.
func TestRestoreRefusesEveryTruncationAndEveryFlippedByte(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	for _, c := range fixtureChanges() {
		commit(t, s, c)
	}
	_, file := backup(t, s, []byte("opaque"))
	dir := filepath.Join(t.TempDir(), "none", "new")
	refused := func(b []byte, how string) {
		t.Helper()
		_, err := Restore(t.Context(), Options{Dir: dir}, bytes.NewReader(b))
		if !IsKind(err, Damaged) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v, want that it is damaged", how, err)
		}
	}
	for n := range file {
		refused(file[:n], fmt.Sprint("cut off at ", n))
	}
	for n := range file {
		for _, flip := range []byte{0xff, 1 << (n % 8)} {
			b := slices.Clone(file)
			b[n] ^= flip
			refused(b, fmt.Sprintf("byte %d flipped by %#x", n, flip))
		}
	}
	refused(append(slices.Clone(file), 0), "one byte more")
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
	t.Logf("%d bytes", len(file))
}

func FuzzCheckBackup(f *testing.F) {
	good := sealed(f, goodHeader, goodNode, `{"keys":"b3Bh"}`, `{"end":1}`)
	f.Add(good[:len(good)-sealSize], true)
	f.Add(good, false)
	f.Add([]byte(goodHeader+"\n"+goodNode+"\n{\"end\":1}\n"), true)
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		if whole { // what a seal is no help against
			if !bytes.HasPrefix(b, good[:4]) {
				b = sealed(t, string(b))
			} else {
				b = seal(slices.Clone(b))
			}
		}
		info, _, err := CheckBackup(bytes.NewReader(b))
		if err == nil && (info.Version != backupVersion || info.Size != int64(len(b)) || info.Revision < 1) {
			t.Errorf("taken as %+v", info)
		}
		if err != nil && !IsKind(err, Damaged) && !IsKind(err, Newer) {
			t.Errorf("refused without a kind: %v", err)
		}
	})
}
