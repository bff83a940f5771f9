package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

// ownAttrs are what each node of a real site has of its own.
func ownAttrs(i int) map[model.AttrName]string {
	a, b, c := i>>16, i>>8&255, i&255
	return map[model.AttrName]string{
		"bmc.address":      fmt.Sprintf("10.%d.%d.%d", a, b, c),
		"bmc.password":     fmt.Sprintf("sealed:v1:%048d", i),
		"net.boot.mac":     fmt.Sprintf("52:54:00:%02x:%02x:%02x", a, b, c),
		"net.boot.address": fmt.Sprintf("10.%d.%d.%d", 100+a, b, c),
		"net.ib0.mac":      fmt.Sprintf("52:54:01:%02x:%02x:%02x", a, b, c),
		"net.ib0.address":  fmt.Sprintf("10.%d.%d.%d", 200+a, b, c),
		"location.rack":    strconv.Itoa(i / 40),
		"location.unit":    strconv.Itoa(i%40 + 1),
		"custom.serial":    fmt.Sprintf("CZ%08X", i*2654435761&0xffffffff),
		"custom.asset":     strconv.Itoa(700_000 + i),
		"custom.guid":      fmt.Sprintf("0x%016x", i*0x9e3779b9),
		"custom.switch":    fmt.Sprintf("sw%d", i/48),
		"custom.port":      strconv.Itoa(i % 48),
		"custom.owner":     fmt.Sprintf("project%d", i%97),
	}
}

// restAttrs are the other 26: 22 values and 4 expressions.
func restAttrs() map[model.AttrName]string {
	m := map[model.AttrName]string{
		"bmc.user": "admin", "bmc.driver": "ipmi", "console.speed": "115200", "net.boot.prefix": "16", "net.ib0.prefix": "16",
		"location.site": "main", "location.room": "hall2", "boot.count": "3",
		"custom.row": "{n1/40}", "custom.bmcname": "{nodename}-bmc", "custom.ibname": "{nodename}-ib", "net.boot.gateway": "10.{n1/65536+100}.0.1",
	}
	for i := range 26 - len(m) {
		m[model.AttrName(fmt.Sprintf("custom.setting%d", i))] = fmt.Sprintf("value of setting %d", i)
	}
	return m
}

func largeGroups() []model.GroupName {
	var g []model.GroupName
	for i := range 9 {
		g = append(g, model.GroupName(fmt.Sprintf("group%d", i)))
	}
	return g
}

// site is n nodes of 40 attributes: 14 of their own, 26 through ten groups, everything among these.
func site(n int) []model.Op {
	groups := largeGroups()
	ops := largeNodes(n, nil)
	rest := restAttrs()
	names := slices.Sorted(maps.Keys(rest))
	for g, name := range append(groups, model.Everything) {
		ops = append(ops, largeGroup(name))
		attrs := ops[len(ops)-1].Doc.(*model.Group).Attrs
		for i := g; i < len(names); i += 10 {
			attrs[names[i]] = rest[names[i]]
		}
	}
	return ops
}

// strict is n nodes of 40 attributes of their own, in ten groups.
func strict(n int) []model.Op {
	ops := largeNodes(n, restAttrs())
	for _, name := range append(largeGroups(), model.Everything) {
		ops = append(ops, largeGroup(name))
	}
	return ops
}

func largeGroup(name model.GroupName) model.Op {
	return model.Op{Kind: model.KindGroup, Name: string(name), Doc: &model.Group{Name: name, Attrs: map[model.AttrName]string{}}}
}

func largeNodes(n int, rest map[model.AttrName]string) []model.Op {
	ops := make([]model.Op, n, n+10)
	for i := range ops {
		name := fmt.Sprintf("r%dn%d", i/1000+1, i%1000+1)
		attrs := ownAttrs(i)
		for k, v := range rest {
			attrs[k] = v
		}
		ops[i] = model.Op{Kind: model.KindNode, Name: name, Doc: &model.Node{
			Name: model.NodeName(name), Groups: largeGroups(), Attrs: attrs, Created: fixtureTime,
		}}
	}
	return ops
}

const largeEnv = "MUSTER_STORE_LARGE"

// largeServer is a process with a store in dir, that does what its standard input says, a word a line, and answers each with the wall time
// and processor time in milliseconds.
func largeServer(dir string) {
	var s *Store
	n := 0
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var word string
		fmt.Sscan(in.Text(), &word, &n)
		start, used := time.Now(), cpu()
		err := largeStep(&s, dir, word, n)
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(time.Since(start).Microseconds(), (cpu() - used).Microseconds())
	}
}

func largeStep(s **Store, dir, word string, n int) (err error) {
	ctx := context.Background()
	switch word {
	case "open":
		*s, err = Open(ctx, Options{Dir: dir})
	case "site", "strict":
		make := map[string]func(int) []model.Op{"site": site, "strict": strict}[word]
		_, err = (*s).Commit(ctx, change("node add", make(n)...))
	case "group":
		_, err = (*s).Update(ctx, func(snap *model.Snapshot) (*model.Change, error) {
			g := *snap.Group("group1")
			g.Attrs = maps.Collect(maps.All(g.Attrs))
			g.Attrs["custom.of"] = strconv.Itoa(n)
			return change("set", model.Op{Kind: model.KindGroup, Name: "group1", Doc: &g}), nil
		})
	case "each":
		_, err = (*s).Update(ctx, func(snap *model.Snapshot) (*model.Change, error) {
			ops := make([]model.Op, 0, snap.Len())
			for old := range snap.Nodes() {
				d := *old
				d.Attrs = maps.Clone(d.Attrs)
				d.Attrs["custom.owner"] = "everybody"
				ops = append(ops, model.Op{Kind: model.KindNode, Name: string(d.Name), Doc: &d})
			}
			return change("set", ops...), nil
		})
	case "backup":
		f, err := os.Create(dir + ".backup")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = (*s).Backup(ctx, f, nil)
		return err
	case "restore":
		f, err := os.Open(dir + ".backup")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = Restore(ctx, Options{Dir: dir + ".restored"}, f)
		return err
	case "heap": // what is in use, for a person
		runtime.GC()
		debug.FreeOSMemory()
		f, err := os.Create(os.Getenv(largeEnv) + ".heap")
		if err != nil {
			return err
		}
		defer f.Close()
		return pprof.WriteHeapProfile(f)
	case "close":
		err = (*s).Close()
	}
	return err
}

// largeProcess runs a largeServer.
type largeProcess struct {
	b   *testing.B
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startLarge(b *testing.B, dir string) *largeProcess {
	p := &largeProcess{b: b, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), largeEnv+"="+dir)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return p
}

// do has a step done and reports its time and the memory after it, which is what stays some seconds later.
func (p *largeProcess) do(word string, n int, rest time.Duration) {
	fmt.Fprintln(p.in, word, n)
	line, err := p.out.ReadString('\n')
	var wall, used float64
	if _, scan := fmt.Sscan(line, &wall, &used); err != nil || scan != nil {
		p.b.Fatalf("%s: %s %v", word, line, err)
	}
	p.b.ReportMetric(wall/1e3, "ms-"+word)
	p.b.ReportMetric(used/1e3, "cpu-ms-"+word)
	time.Sleep(rest)
	p.b.ReportMetric(memory(p.b, p.cmd.Process.Pid, "VmRSS"), "MB-"+word)
	p.b.ReportMetric(memory(p.b, p.cmd.Process.Pid, "RssAnon"), "MB-anon-"+word)
	p.b.ReportMetric(memory(p.b, p.cmd.Process.Pid, "VmHWM"), "MB-peak-"+word)
}

func (p *largeProcess) end() {
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		p.b.Fatal(err)
	}
}

// BenchmarkLarge is a site that is defined in one commit, changed through a group and on each node, started again, backed up and restored, in processes of
// their own. Memory is that of the whole process eight seconds after the step, when nothing more happens.
func BenchmarkLarge(b *testing.B) {
	for _, kind := range []string{"site", "strict"} {
		for _, n := range scales {
			b.Run(kind+"/"+strconv.Itoa(n), func(b *testing.B) {
				const rest = 8 * time.Second
				dir := b.TempDir() + "/store"
				p := startLarge(b, dir)
				p.do("open", 0, 0)
				p.do(kind, n, rest)
				p.do("group", n, 0)
				p.do("each", n, rest)
				p.end()
				p = startLarge(b, dir)
				p.do("open", 0, rest)
				p.do("backup", 0, rest)
				if fi, err := os.Stat(dir + ".backup"); err == nil {
					b.ReportMetric(float64(fi.Size()), "B-backup")
				}
				p.end()
				p = startLarge(b, dir)
				p.do("restore", 0, 0)
				p.end()
			})
		}
	}
}

// firstValue is how a document lies in etcd.
func firstValue(t *testing.T, s *Store, key string) []byte {
	t.Helper()
	res, err := s.engine.client.Get(t.Context(), prefix+key)
	if err != nil || len(res.Kvs) != 1 {
		t.Fatal(key, err)
	}
	return res.Kvs[0].Value
}

// The documents of a large change are compressed, and nobody who reads the store sees a difference.
func TestLargeChangeIsCompressed(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	const n = large/1_000 + 1
	commit(t, s, change("node add", strict(n)...))
	small := node("small", "custom.text", strings.Repeat("x", 2*worthPacking))
	commit(t, s, change("node add", small))
	for key, packed := range map[string]bool{"node/r1n1": true, "node/r1n2": true, "group/group1": false, "node/small": false} {
		if v := firstValue(t, s, key); bytes.HasPrefix(v, frame) != packed || !packed && v[0] != '{' {
			t.Errorf("%s lies there as %.40q, want it compressed: %v", key, v, packed)
		}
	}
	want := model.Empty()
	for _, c := range []*model.Change{{Revision: 3, Ops: strict(n)}, {Revision: 4, Ops: []model.Op{small}}} {
		var err error
		if want, err = model.Apply(want, c); err != nil {
			t.Fatal(err)
		}
	}
	_, file := backup(t, s, nil)
	for name, s := range map[string]*Store{"of the watch": s, "restored": restored(t, file)} {
		if d := differ(want, s.Snapshot()); d != "" {
			t.Errorf("the snapshot %s, -want +got:\n%s", name, d)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Dir: s.opt.Dir})
	if d := differ(want, s.Snapshot()); d != "" {
		t.Errorf("after a restart, -want +got:\n%s", d)
	}

	s.schema.Store(1) // an older manager of the pool reads it, too
	commit(t, s, change("set", strict(n)...))
	if v := firstValue(t, s, "node/r1n1"); v[0] != '{' {
		t.Errorf("schema 1 has a compressed document: %.40q", v)
	}
	if _, err := s.engine.client.Put(t.Context(), prefix+"node/r1n1", string(frame)+"torn"); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	s.Close()
	if _, err := Open(t.Context(), Options{Dir: s.opt.Dir}); !IsKind(err, Damaged) || !strings.Contains(err.Error(), "node/r1n1") {
		t.Errorf("a torn document: %v, want it named", err)
	}
}

// What a large change left in memory is given back soon after it.
func TestMemoryOfALargeChangeIsGivenBack(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	before := s.engine.etcd.Server.AppliedIndex()
	commit(t, s, change("node add", strict(4*large/1_000)...))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for s.engine.etcd.Server.AppliedIndex() < before+100 { // the entries that make raft let go of it
		select {
		case <-time.After(restAfterLarge / 20):
		case <-ctx.Done():
			t.Fatalf("%d entries after the change, want a hundred", s.engine.etcd.Server.AppliedIndex()-before)
		}
	}
	if got := s.Snapshot().Revision; got != 3 {
		t.Errorf("revision %d: the entries wrote something", got)
	}
}

func FuzzUnpack(f *testing.F) {
	docs := [][]byte{[]byte(`{"name":"` + strings.Repeat("a", worthPacking) + `"}`)}
	if err := packDocs(docs); err != nil {
		f.Fatal(err)
	}
	f.Add(docs[0])
	f.Add([]byte(`{"name":"a"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := unpack(b, nil)
		if err == nil && !bytes.HasPrefix(b, frame) && !bytes.Equal(b, doc) {
			t.Errorf("%q became %q", b, doc)
		}
		again := [][]byte{bytes.Clone(b)}
		if err := packDocs(again); err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, frame) {
			return // no document begins so
		}
		if got, err := unpack(again[0], nil); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%q became %q, %v", b, got, err)
		}
	})
}
