package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"muster/internal/image/chunk"
)

// Source gives chunks: a [chunk.Store], or one over the network. Get is called by many goroutines at once; what it returns is verified.
type Source interface {
	Get(ctx context.Context, d chunk.Digest, buf []byte) ([]byte, error)
}

// RestoreOptions is how a tree is written. The zero value writes everything as it was.
type RestoreOptions struct {
	// Done is told the bytes of content written so far, after every file, from one goroutine at a time; nil is silence.
	Done func(bytes int64)
	// Ahead is how many files are worked on at once: 0 is one a core. More are good where chunks come from afar.
	Ahead int
}

// Restore writes a tree into dir, which is made when missing and must be empty otherwise: with owners, modes, times, extended
// attributes, hard links, holes and devices, on all cores. It is not synced. After an error dir holds a part of the tree.
func Restore(ctx context.Context, t Tree, from Source, dir string, o RestoreOptions) error {
	if err := t.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	// A file system that was just made has this.
	if left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return e.Name() == "lost+found" && e.IsDir() }); len(left) > 0 {
		return fmt.Errorf("%s is not empty: it has %s. Take another directory, or empty it", dir, left[0].Name())
	}
	r := &restorer{dir: dir, from: from, root: os.Geteuid() == 0}
	// Directories are open to us until all is in them. All parents are directories of this tree: no path leads through a link.
	for i := range t {
		if e := &t[i]; e.Type == Directory && i > 0 {
			if err := os.Mkdir(r.path(e), 0o700); err != nil && !(e.Path == "lost+found" && errors.Is(err, os.ErrExist)) {
				return err
			}
		}
	}
	if err := r.files(ctx, t, o); err != nil {
		return err
	}
	for i := range t {
		if e := &t[i]; e.Type == HardLink {
			if err := os.Link(filepath.Join(dir, e.Target), r.path(e)); err != nil {
				return err
			}
		}
	}
	for _, e := range slices.Backward(t) {
		if e.Type == Directory {
			if err := r.finish(&e); err != nil {
				return err
			}
		}
	}
	return nil
}

type restorer struct {
	dir  string
	from Source
	root bool
}

func (r *restorer) path(e *Entry) string { return filepath.Join(r.dir, e.Path) }

// files writes all that has no names besides its first.
func (r *restorer) files(ctx context.Context, t Tree, o RestoreOptions) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan *Entry, 256)
	done := make(chan int64, 256)
	// The largest come first, or the last one would keep one core busy and the others not.
	const large = 8 << 20
	g.Go(func() error {
		defer close(jobs)
		for _, first := range []bool{true, false} {
			for i := range t {
				e := &t[i]
				if e.Type == Directory || e.Type == HardLink || (e.Type == File && e.Size >= large) != first {
					continue
				}
				select {
				case jobs <- e:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	n := o.Ahead
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	for range n {
		g.Go(func() error {
			var buf []byte
			for e := range jobs {
				var err error
				if buf, err = r.write(ctx, e, buf); err != nil {
					return fmt.Errorf("%s: %w", e.Path, err)
				}
				done <- e.Size
			}
			return nil
		})
	}
	var err error
	go func() {
		err = g.Wait()
		close(done)
	}()
	var sum int64
	for size := range done {
		if sum += size; o.Done != nil && size > 0 {
			o.Done(sum)
		}
	}
	return err
}

// write makes one entry.
func (r *restorer) write(ctx context.Context, e *Entry, buf []byte) ([]byte, error) {
	path := r.path(e)
	switch e.Type {
	case File:
		return r.file(ctx, e, path, buf)
	case Link:
		if err := os.Symlink(e.Target, path); err != nil {
			return buf, err
		}
	case Char, Block, Pipe:
		kind := map[Type]uint32{Char: unix.S_IFCHR, Block: unix.S_IFBLK, Pipe: unix.S_IFIFO}[e.Type]
		if err := unix.Mknod(path, kind|0o600, int(unix.Mkdev(e.Major, e.Minor))); err != nil {
			return buf, err
		}
	}
	return buf, r.finish(e)
}

// file writes a regular file: everything goes through one open file, since each path costs.
func (r *restorer) file(ctx context.Context, e *Entry, path string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return buf, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var at int64
	for _, p := range e.Parts {
		if !p.Hole {
			b, err := r.from.Get(ctx, p.Digest, buf)
			if err != nil {
				return buf, err
			}
			if buf = b; int64(len(b)) != p.Size {
				return buf, fmt.Errorf("chunk %s has %d bytes, the tree says %d", p.Digest, len(b), p.Size)
			}
			if _, err := f.WriteAt(b, at); err != nil {
				return buf, err
			}
		}
		at += p.Size
	}
	if n := len(e.Parts); n > 0 && e.Parts[n-1].Hole {
		if err := f.Truncate(e.Size); err != nil {
			return buf, err
		}
	}
	if r.root {
		if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
			return buf, err
		}
	}
	// After the owner, whose change takes set-user-id and capabilities away.
	if err := unix.Fchmod(fd, e.Mode); err != nil {
		return buf, err
	}
	for _, x := range e.Xattrs {
		if err := unix.Fsetxattr(fd, x.Name, x.Value, 0); err != nil {
			return buf, fmt.Errorf("attribute %s: %w", x.Name, err)
		}
	}
	ts, err := unix.TimeToTimespec(e.Time)
	if err != nil {
		return buf, err
	}
	return buf, futimens(fd, ts)
}

// finish gives owner, mode, attributes and time to what is no regular file.
func (r *restorer) finish(e *Entry) error {
	path := r.path(e)
	fail := func(what string, err error) error { return fmt.Errorf("%s: %s: %w", e.Path, what, err) }
	if r.root {
		if err := unix.Lchown(path, int(e.UID), int(e.GID)); err != nil {
			return fail("owner", err)
		}
	}
	if e.Type != Link {
		if err := unix.Chmod(path, e.Mode); err != nil {
			return fail("mode", err)
		}
	}
	for _, x := range e.Xattrs {
		if err := unix.Lsetxattr(path, x.Name, x.Value, 0); err != nil {
			return fail("attribute "+x.Name, err)
		}
	}
	ts, err := unix.TimeToTimespec(e.Time)
	if err != nil {
		return fail("time", err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fail("time", err)
	}
	return nil
}
