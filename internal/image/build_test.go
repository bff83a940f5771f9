package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"muster/internal/need"
)

// archive stands in for mmdebstrap, which needs a network: it runs script with OUT naming the tar to write and TREE a small package
// tree. All other commands are the real ones.
func archive(t *testing.T, script string) func(ctx context.Context, name string, args ...string) *exec.Cmd {
	t.Helper()
	need.Programs(t, "mmdebstrap squashfs-tools util-linux", "mmdebstrap", "mksquashfs", "unsquashfs", "unshare")
	small := smallTree(t)
	return func(ctx context.Context, name string, args ...string) *exec.Cmd {
		args = append([]string{name}, args...)
		at := slices.Index(args, "mmdebstrap")
		if at < 0 {
			return exec.CommandContext(ctx, args[0], args[1:]...)
		}
		out := args[slices.IndexFunc(args, func(a string) bool { return strings.HasSuffix(a, "/tree.tar") })]
		args = append(slices.Clone(args[:at]), "sh", "-c", "OUT="+out+"; TREE="+small+"; "+script)
		return exec.CommandContext(ctx, args[0], args[1:]...)
	}
}

func options(t *testing.T, script string) Options {
	t.Helper()
	dir := t.TempDir()
	return Options{
		Dir: filepath.Join(dir, "images"), Cache: filepath.Join(dir, "cache"), Chunks: filepath.Join(dir, "chunks"), Source: "debian12", Name: "compute", Mirror: "http://archive.example/debian",
		RootKeys: []string{"ssh-ed25519 AAAA root@manager"}, NodeProgram: []byte("\x7fELF node"), Command: archive(t, script),
	}
}

const good = `echo "I: fetching"; cp $TREE $OUT`

func TestBuildLeavesAWholeImage(t *testing.T) {
	o := options(t, good)
	var steps []string
	var told []string
	o.Progress = func(s Step) {
		if s.Done {
			steps = append(steps, s.Name)
		} else if s.Text != "" {
			told = append(told, s.Text)
		}
	}
	m, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"packages", "kernel", "initramfs", "root", "manifest"}; !slices.Equal(steps, want) {
		t.Errorf("steps: got %v, want %v", steps, want)
	}
	if !slices.Equal(told, []string{"fetching"}) {
		t.Errorf("news: %v", told)
	}
	dir := filepath.Join(o.Dir, "compute")
	if p := Check(dir); len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	for _, private := range []string{o.Dir, o.Cache} {
		if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v: others can look into it", filepath.Base(private), info.Mode(), err)
		}
	}
	loaded, err := Load(dir)
	if err != nil || loaded.Digest != m.Digest || loaded.Kernel != "6.1.0-56-amd64" {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	img := loaded.Image()
	if img.Name != "compute" || img.Kernelf.Size != int64(len("kernel")) || img.Root.Digest == "" || img.Initrd.Digest == "" || img.Size != img.Root.Size {
		t.Errorf("image: %+v", img)
	}
	if b, err := os.ReadFile(filepath.Join(dir, packagesFile)); err != nil || string(b) != "bash 5.2-1\nzstd 1.5\n" {
		t.Errorf("packages.txt: %q, %v", b, err)
	}
	list, err := exec.Command("unsquashfs", "-lln", filepath.Join(dir, RootFile)).CombinedOutput()
	if err != nil {
		t.Fatalf("unsquashfs: %v: %s", err, list)
	}
	for _, want := range []string{
		"squashfs-root/usr/lib/muster/muster-node", "squashfs-root/root/.ssh/authorized_keys",
		"multi-user.target.wants/muster-agent.service -> /usr/lib/systemd/system/muster-agent.service",
	} {
		if !bytes.Contains(list, []byte(want)) {
			t.Errorf("the root has no %s:\n%s", want, list)
		}
	}
	if bytes.Contains(list, []byte("ssh_host_rsa")) || bytes.Contains(list, []byte("vmlinuz")) {
		t.Errorf("the root has what it must not have:\n%s", list)
	}
	if e, err := os.ReadDir(o.Dir); err != nil || len(e) != 1 {
		t.Errorf("left beside the image: %v, %v", e, err)
	}
}

func TestSecondBuildComesFromTheCacheAndReplacesTheFirst(t *testing.T) {
	o := options(t, good)
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(filepath.Join(o.Dir, "compute", RootFile))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	before, err := describe(filepath.Join(o.Dir, "compute", RootFile))
	if err != nil {
		t.Fatal(err)
	}
	cached := make(map[string]bool)
	o.Progress = func(s Step) {
		if s.Done {
			cached[s.Name] = s.Cached
		}
	}
	o.Command = archive(t, "echo no network; exit 9")
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !cached["packages"] || !cached["root"] {
		t.Errorf("cached: %v", cached)
	}
	// A reader of the first image is not disturbed.
	if b, err := io.ReadAll(open); err != nil || sum(b) != before.Digest {
		t.Errorf("the old file: %d bytes, %v", len(b), err)
	}

	o.Refresh = true
	if _, err := Build(t.Context(), o); err == nil {
		t.Error("refresh did not ask the archive")
	}
	o.Refresh = false
	tree, _ := filepath.Glob(filepath.Join(o.Cache, "tree-*.tar"))
	if err := os.WriteFile(tree[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("a damaged cache was used: %v", err)
	}
	if p := Check(filepath.Join(o.Dir, "compute")); len(p) != 0 {
		t.Errorf("a failed build damaged the image: %v", p)
	}
}

func TestFailingStepShowsItsLastLines(t *testing.T) {
	o := options(t, "for i in $(seq 100); do echo line $i; done; echo 'E: Unable to locate package nonsuch' >&2; exit 25")
	_, err := Build(t.Context(), o)
	var se *StepError
	if !errors.As(err, &se) || se.Step != "packages" || len(se.Tail) != tailLines || se.Tail[tailLines-1] != "E: Unable to locate package nonsuch" {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"image build, step packages: ", "exit status 25", "line 100\n  E: Unable"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if e, _ := os.ReadDir(o.Dir); len(e) != 0 {
		t.Errorf("left behind: %v", e)
	}
}

func TestTreeWithoutKernelIsRefused(t *testing.T) {
	o := options(t, "tar -cf $OUT --files-from /dev/null")
	if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no kernel") {
		t.Errorf("got %v", err)
	}
}

func TestWrongWishesAreAllNamed(t *testing.T) {
	_, err := Build(t.Context(), Options{Source: "debian11", Name: "../etc", Packages: []string{"vim", "--hook-dir=x", "a,b"}, Mirror: "x", RootKeys: []string{"-----BEGIN PRIVATE KEY-----"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"debian11"`, "debian12, debian13, el10", `"../etc"`, `"--hook-dir=x"`, `"a,b"`, `mirror "x"`, "root key 1", "node program"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	var wrong *OptionsError
	if !errors.As(err, &wrong) {
		t.Errorf("got a %T", err)
	}
}

func TestPasswordOfAMirrorIsRefusedAndNotShown(t *testing.T) {
	_, err := Build(t.Context(), Options{Source: "debian12", Name: "x", Mirror: "https://ann:hunter2@archive.example/debian", NodeProgram: []byte("x")})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "mirror https://ann:xxxxx@archive.example/debian") {
		t.Errorf("got %v", err)
	}
}

func TestEndedBuildLeavesNothing(t *testing.T) {
	need.Root(t, "a process namespace ends the children")
	marker := filepath.Join(t.TempDir(), "started") // a pipe: who reads it waits for the writer
	if err := syscall.Mkfifo(marker, 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(t, "sleep 1000 & echo $$ > "+marker+"; wait")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := Build(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	if b, err := os.ReadFile(marker); err != nil || len(b) == 0 {
		t.Fatalf("the command says %q, %v", b, err)
	}
	// What kill -9 would leave: a working directory that nobody holds.
	stale := filepath.Join(o.Dir, ".build-compute-stale")
	if err := os.MkdirAll(filepath.Join(stale, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	o.Command = archive(t, good)
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{o.Dir, o.Cache} {
		if left, _ := filepath.Glob(filepath.Join(dir, ".build-*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestCheckNamesEveryProblem(t *testing.T) {
	o := options(t, good)
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(o.Dir, "compute")
	root := filepath.Join(dir, RootFile)
	b, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	for _, err := range []error{
		os.WriteFile(root, b, 0o644), os.Remove(filepath.Join(dir, KernelFile)), os.Truncate(filepath.Join(dir, InitrdFile), 3),
		os.WriteFile(filepath.Join(dir, "extra"), nil, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(Check(dir), "\n")
	for _, want := range []string{"kernel: the file is missing", "initramfs: has 3 bytes", "root.squashfs: is sha256:", "extra: the manifest does not name"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not name %q", got, want)
		}
	}
	manifest := filepath.Join(dir, ManifestFile)
	b, _ = os.ReadFile(manifest)
	for text, want := range map[string]string{
		strings.Replace(string(b), "debian12", "debian66", 1): "was changed after the build",
		"{":              "is damaged",
		`{"format": 99}`: "has form 99",
	} {
		if err := os.WriteFile(manifest, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if p := Check(dir); len(p) != 1 || !strings.Contains(p[0], want) {
			t.Errorf("got %v, want %q", p, want)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no manifest: %v", err)
	}
}

func TestInitramfsHoldsWhatTheBootNeeds(t *testing.T) {
	tree, store, _ := openTree(t, smallTree(t))
	c, err := inspect(t.Context(), tree, store)
	if err != nil {
		t.Fatal(err)
	}
	r := Recipes()[0]
	modules := make(map[string][]byte)
	sub, missing, err := bootDeps(r, c)
	if err != nil || !slices.Contains(missing, "e1000e") || slices.Contains(missing, "virtio_pci") {
		t.Fatalf("missing %v, %v: built-in modules are not missing", missing, err)
	}
	for f := range sub {
		modules[c.Modules+"/"+f] = []byte(f)
	}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := writeInitramfs(b, r, c, modules, []byte("init program")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two initramfs of the same content differ")
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	archive, err := z.DecodeAll(first.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"init program", "dev/console\x00", "lib/modules/virtio_net.ko\x00", "kernel/net/core/failover.ko",
		"virtio_net.ko: failover.ko\n", "alias virtio:d00000001v* virtio_net\n", "squashfs\noverlay\nloop\n",
	} {
		if !bytes.Contains(archive, []byte(want)) {
			t.Errorf("no %q in the initramfs", want)
		}
	}
	if bytes.Contains(archive, []byte("fs-squashfs")) || bytes.Contains(archive, []byte("absent")) {
		t.Error("aliases that no device has are in the initramfs")
	}
	delete(c.Builtin, "loop")
	if _, _, err := bootDeps(r, c); err == nil || !strings.Contains(err.Error(), "no module loop") {
		t.Errorf("a kernel without loop: %v", err)
	}
}

func TestRecipesAreWholeData(t *testing.T) {
	for _, r := range Recipes() {
		b, err := json.Marshal(r)
		if err != nil || r.Name == "" || r.Suite == "" || len(r.Packages) == 0 || len(r.Modules) == 0 || bytes.Contains(b, []byte("://")) {
			t.Errorf("%s: %s, %v", r.Name, b, err)
		}
		for _, m := range r.Load {
			if !slices.Contains(r.Modules, m) {
				t.Errorf("%s loads %s, which is not in its modules", r.Name, m)
			}
		}
	}
}
