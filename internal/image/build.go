package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/image/chunk"
	"muster/internal/image/rootfs"
)

// build is one run of Build.
type build struct {
	o      Options
	recipe Recipe
	work   string // becomes the image directory
	log    *os.File
	cache  cache
	now    func() time.Time

	store    *chunk.Store
	writer   *chunk.Writer // open until the image is in its place
	full     rootfs.Tree   // as the packages, or an import, brought it
	made     time.Time     // when that was
	tree     rootfs.Tree   // of the image
	contents *contents
}

var (
	nameForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	packageForm = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?$`) // NAME[:ARCH][=VERSION]
	mirrorForm  = regexp.MustCompile(`^[a-z][a-z0-9+]*:/[^\s]+$`)
)

// check tells all that is wrong with the wishes themselves.
func (o Options) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !nameForm.MatchString(string(o.Name)) {
		wrong("image name %q: take letters, digits, dots, dashes and underscores, at most 63, beginning with a letter or digit", o.Name)
	}
	for _, p := range o.Packages {
		if !packageForm.MatchString(p) {
			wrong("package %q: want NAME, NAME:ARCH or NAME=VERSION", p)
		}
	}
	if u, err := url.Parse(o.Mirror); err == nil && u.User != nil {
		wrong("mirror %s: its user and password would be read by all in the process list, the log and the image: take an archive that asks for none", u.Redacted())
	} else if o.Mirror != "" && !mirrorForm.MatchString(o.Mirror) {
		wrong("mirror %q: want the address of a package archive, as in apt's sources", o.Mirror)
	}
	for i, k := range o.RootKeys {
		// The key itself is not shown: it may be the wrong half.
		if len(strings.Fields(k)) < 2 || strings.ContainsAny(k, "\r\n") || strings.Contains(k, "PRIVATE KEY") {
			wrong("root key %d is no line of authorized_keys", i+1)
		}
	}
	if len(o.NodeProgram) == 0 {
		wrong("no node program was given: build it with: make")
	}
	return errors.Join(errs...)
}

// OptionsError says all that is wrong with the wishes of a build; nothing was begun.
type OptionsError struct{ Err error }

func (e *OptionsError) Error() string { return e.Err.Error() }

func (e *OptionsError) Unwrap() error { return e.Err }

// start makes what a build or an import needs.
func (o Options) start(r Recipe) (*build, error) {
	b := &build{o: o, recipe: r, now: o.Now}
	if b.now == nil {
		b.now = time.Now
	}
	if b.o.Command == nil {
		b.o.Command = exec.CommandContext
	}
	if b.o.Progress == nil {
		b.o.Progress = func(Step) {}
	}
	b.cache = cache{dir: o.Cache, now: b.now}
	for _, dir := range []string{o.Dir, o.Cache} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	b.store, err = chunk.Open(o.Chunks)
	return b, err
}

// Build makes an image and returns its manifest. When it returns an error, what was there before is unchanged. The error
// is an [*OptionsError] where the options are wrong, and a [*StepError] where a step is.
func Build(ctx context.Context, o Options) (_ *Manifest, err error) {
	recipe, err := findRecipe(o.Source)
	if err := errors.Join(err, o.check()); err != nil {
		return nil, &OptionsError{err}
	}
	b, err := o.start(recipe.with(o.Packages))
	if err != nil {
		return nil, err
	}
	return b.all(ctx, []step{
		{"packages", b.packages},
		{"kernel", b.kernel},
		{"initramfs", b.initramfs},
		{"root", b.root},
	})
}

// begin makes the working directory, locked, after removing those that killed builds left.
func (b *build) begin() (done func() error, err error) {
	const prefix = ".build-"
	for _, dir := range []string{b.o.Dir, b.o.Cache} {
		old, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
		if err != nil {
			return nil, err
		}
		for _, o := range old {
			if unlock, err := lock(o); err == nil {
				err = os.RemoveAll(o)
				unlock()
				if err != nil {
					return nil, fmt.Errorf("what an ended build left: %w", err)
				}
			}
		}
	}
	if b.work, err = os.MkdirTemp(b.o.Dir, prefix+string(b.o.Name)+"-"); err != nil {
		return nil, err
	}
	unlock, err := lock(b.work)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.work))
	}
	sweep := func() error {
		defer unlock()
		return os.RemoveAll(b.work)
	}
	if err := os.Chmod(b.work, 0o755); err != nil {
		return nil, errors.Join(err, sweep())
	}
	if b.log, err = os.OpenFile(b.file(logFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return nil, errors.Join(err, sweep())
	}
	return func() error { return errors.Join(b.log.Close(), sweep()) }, nil
}

// lock takes the lock of a directory; it is free when no process holds it, also after kill -9.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// step is one of the steps of a build.
type step struct {
	name string
	do   func(context.Context, *Step) error
}

// all goes through the steps, and through the last one of all: the manifest.
func (b *build) all(ctx context.Context, steps []step) (_ *Manifest, err error) {
	done, err := b.begin()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	defer func() {
		if b.writer != nil {
			err = errors.Join(err, b.writer.Close())
		}
	}()
	m := &Manifest{Format: manifestFormat, Name: b.o.Name, Built: b.now().UTC().Truncate(time.Second), Tool: Tool, Recipe: b.recipe.Name, Suite: b.recipe.Suite}
	for _, s := range append(steps, step{"manifest", func(_ context.Context, s *Step) error { return b.manifest(m, s) }}) {
		if err := b.step(ctx, s.name, s.do); err != nil {
			return nil, err
		}
	}
	_ = b.cache.sweep() // what it cannot remove now it removes another time
	return m, nil
}

// step tells of a step's begin and end, and names it in its error.
func (b *build) step(ctx context.Context, name string, do func(context.Context, *Step) error) error {
	start := time.Now()
	s := Step{Name: name}
	b.o.Progress(s)
	fmt.Fprintf(b.log, "== %s\n", name)
	if err := ctx.Err(); err != nil {
		return &StepError{Step: name, Err: context.Cause(ctx)}
	}
	if err := do(ctx, &s); err != nil {
		var se *StepError
		if errors.As(err, &se) {
			se.Step = name
			return se
		}
		return &StepError{Step: name, Err: err}
	}
	s.Done, s.MS = true, time.Since(start).Milliseconds()
	b.o.Progress(s)
	return nil
}

// packages gets the package tree, from the cache or from the archive.
func (b *build) packages(ctx context.Context, s *Step) error {
	var sources []sourceFile
	var err error
	if b.o.Mirror == "" && b.recipe.Family == familyDebian {
		if sources, err = hostSources("/", b.recipe.Suite); err != nil {
			return err
		}
	}
	k, err := key(Tool, b.recipe.Suite, b.recipe.Packages, b.recipe.Exclude, b.recipe.Include, b.o.Mirror, sources)
	if len(b.o.Hooks)+len(b.recipe.Components)+len(b.recipe.Repositories) > 0 {
		k, err = key(k, b.recipe.Name, b.o.Hooks, b.recipe.Components, b.recipe.Repositories)
	}
	if err != nil {
		return err
	}
	name := "tree-" + k + ".tar"
	if !b.o.Refresh {
		if path, made := b.cache.find(name); path != "" {
			s.Cached, s.Text = true, "taken from the cache, fetched "+made.UTC().Format("2006-01-02 15:04 MST")
			return b.takeTar(ctx, s, path, made)
		}
	}
	start := time.Now()
	// The archive's tools work as another user: the place must be open to it, which the images need not be.
	work, err := os.MkdirTemp(b.o.Cache, ".build-tree-")
	if err != nil {
		return err
	}
	unlock, err := lock(work)
	if err != nil {
		return err
	}
	defer unlock()
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	todo, err := b.recipe.script(work, b.o.Mirror, sources, b.o.Hooks)
	if err != nil {
		return err
	}
	for _, p := range todo.Programs {
		if _, err := exec.LookPath(p[0]); err != nil {
			return fmt.Errorf("%s is not installed, which %s is made with. Install it: apt-get install %s", p[0], b.recipe.Name, p[1])
		}
	}
	for _, f := range todo.Files {
		file := filepath.Join(work, f.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(f.Content), os.FileMode(f.Mode))); err != nil {
			return err
		}
	}
	tell := func(line string) {
		if text, ok := strings.CutPrefix(line, "I: "); ok && !strings.Contains(text, "/") {
			b.o.Progress(Step{Name: s.Name, Text: text, MS: time.Since(start).Milliseconds()})
		}
	}
	for _, c := range todo.Commands {
		if err := b.run(ctx, nil, tell, []string{"TMPDIR=" + work}, c[0], c[1:]...); err != nil {
			return err
		}
	}
	path, err := b.cache.keep(filepath.Join(work, "tree.tar"), name)
	if err != nil {
		return err
	}
	_, made := b.cache.find(name)
	return b.takeTar(ctx, s, path, made)
}

// takeTar takes a package tree into the chunks. What the build adds to it carries the time when it was made, so that the same tree and
// the same additions are the same root.
func (b *build) takeTar(ctx context.Context, s *Step, path string, made time.Time) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.take(ctx, s, made, func() (rootfs.Tree, error) { return rootfs.PutTar(ctx, b.writer, f) })
}

// take begins to write chunks: from here on nothing is collected until the build ends.
func (b *build) take(ctx context.Context, s *Step, made time.Time, put func() (rootfs.Tree, error)) (err error) {
	if b.writer, err = b.store.Write(ctx); err != nil {
		return err
	}
	b.made = made.UTC().Truncate(time.Second)
	if b.full, err = put(); err != nil {
		return err
	}
	if err := b.writer.Flush(); err != nil {
		return err
	}
	return b.inspect(ctx, s)
}

func (b *build) inspect(ctx context.Context, s *Step) error {
	c, err := inspect(ctx, b.full, b.store)
	if err != nil {
		return err
	}
	if c.Packages, err = b.packageList(ctx); err != nil {
		return err
	}
	b.contents = c
	if s.Text == "" {
		s.Text = "fetched and unpacked"
	}
	s.Text = fmt.Sprintf("%d packages, kernel %s, %s", len(c.Packages), c.Release, s.Text)
	return writeFile(b.file(packagesFile), func(w io.Writer) error {
		for _, p := range c.Packages {
			if _, err := fmt.Fprintln(w, p.Name, p.Version); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *build) kernel(_ context.Context, s *Step) error {
	s.Text = fmt.Sprintf("%s, %s", b.contents.Release, size(int64(len(b.contents.Kernel))))
	return writeFile(b.file(KernelFile), func(w io.Writer) error {
		_, err := w.Write(b.contents.Kernel)
		return err
	})
}

func (b *build) initramfs(ctx context.Context, s *Step) error {
	sub, missing, err := bootDeps(b.recipe, b.contents)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		fmt.Fprintf(b.log, "not in kernel %s, left out: %s\n", b.contents.Release, strings.Join(missing, " "))
	}
	paths := make([]string, 0, len(sub))
	for f := range sub {
		paths = append(paths, b.contents.Modules+"/"+f)
	}
	modules, err := files(ctx, b.full, b.store, paths)
	if err != nil {
		return err
	}
	for name, m := range modules {
		if modules[name], err = unpackModule(ctx, b.o.Command, name, m); err != nil {
			return err
		}
	}
	err = writeFile(b.file(InitrdFile), func(w io.Writer) error {
		return writeInitramfs(w, b.recipe, b.contents, modules, b.o.NodeProgram)
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(b.file(InitrdFile))
	if err != nil {
		return err
	}
	s.Text = fmt.Sprintf("init and %d modules, %s", len(modules), size(info.Size()))
	return nil
}

// root makes the tree of the image, and of it the compressed root: from the cache, when there is one of the same tree.
func (b *build) root(ctx context.Context, s *Step) (err error) {
	if b.tree, err = amend(b.writer, b.full, b.recipe.Drop, additions(b.recipe, b.o.RootKeys, b.o.NodeProgram), b.made); err != nil {
		return err
	}
	if err := b.writer.Flush(); err != nil {
		return err
	}
	packed, err := b.tree.Pack()
	if err != nil {
		return err
	}
	err = writeFile(b.file(TreeFile), func(w io.Writer) error {
		_, err := w.Write(packed)
		return err
	})
	if err != nil {
		return err
	}
	// A node without disk gets its kernel beside the root.
	root := b.tree.Without(dropped(bootDrop))
	k, err := key(Tool, root.Digest().String(), b.recipe.Squashfs)
	if err != nil {
		return err
	}
	name := "root-" + k + ".squashfs"
	path, _ := b.cache.find(name)
	if s.Cached = path != ""; !s.Cached {
		work, err := os.MkdirTemp(b.o.Cache, ".build-root-")
		if err != nil {
			return err
		}
		unlock, err := lock(work)
		if err != nil {
			return err
		}
		defer unlock()
		defer os.RemoveAll(work)
		out := filepath.Join(work, RootFile)
		if err := b.squash(ctx, out, root); err != nil {
			return err
		}
		if path, err = b.cache.keep(out, name); err != nil {
			return err
		}
	}
	if err := copyFile(b.file(RootFile), path); err != nil {
		return err
	}
	info, err := os.Stat(b.file(RootFile))
	if err != nil {
		return err
	}
	added := b.writer.Added()
	s.Text = fmt.Sprintf("%s; %d files, %s new in the chunks", size(info.Size()), len(b.tree), size(added.Packed))
	return nil
}

// squash streams a tree into mksquashfs.
func (b *build) squash(ctx context.Context, out string, t rootfs.Tree) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := rootfs.WriteTar(ctx, w, t, b.store)
		w.CloseWithError(err)
		written <- err
	}()
	args := append([]string{"-", out, "-tar", "-no-progress", "-quiet"}, b.recipe.Squashfs...)
	err := b.run(ctx, r, nil, nil, "mksquashfs", args...)
	r.CloseWithError(errors.New("mksquashfs ended early"))
	if werr := <-written; err == nil {
		return werr
	}
	return err
}

// manifest describes all files and puts the directory into its place.
func (b *build) manifest(m *Manifest, s *Step) error {
	recipe, err := json.MarshalIndent(b.recipe, "", "  ")
	if err != nil {
		return err
	}
	write := func(name string, content []byte) error {
		return writeFile(b.file(name), func(w io.Writer) error {
			_, err := w.Write(append(content, '\n'))
			return err
		})
	}
	if err := write(recipeFile, recipe); err != nil {
		return err
	}
	if err := b.log.Sync(); err != nil { // the other files are synced when they are written
		return err
	}
	if m.Files, err = modelFiles(b.work, KernelFile, InitrdFile, RootFile, TreeFile, packagesFile, recipeFile, logFile); err != nil {
		return err
	}
	m.Kernel, m.Packages = b.contents.Release, b.contents.Packages
	if m.Digest, err = m.digest(); err != nil {
		return err
	}
	if b.o.Key != nil {
		m.sign(b.o.Key)
	}
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := write(ManifestFile, manifest); err != nil {
		return err
	}
	s.Text = m.Digest
	return b.install()
}

// install exchanges the finished directory with the image of the same name; the old one is then removed under its
// temporary name. Its files stay with those who have them open.
func (b *build) install() error {
	if err := syncDir(b.work); err != nil {
		return err
	}
	target := filepath.Join(b.o.Dir, string(b.o.Name))
	err := unix.Renameat2(unix.AT_FDCWD, b.work, unix.AT_FDCWD, target, unix.RENAME_EXCHANGE)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(b.work, target)
	}
	if err != nil {
		return fmt.Errorf("putting the image in its place %s: %w", target, err)
	}
	return syncDir(b.o.Dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (b *build) file(name string) string { return filepath.Join(b.work, name) }

// size prints a number of bytes for people.
func size(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
