package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/image/chunk"
)

// xattrPrefix is how GNU tar, star and mksquashfs write extended attributes (pax records).
const xattrPrefix = "SCHILY.xattr."

// PutTar takes the tree in a tar into the store. A path that comes twice counts as it came last. Directories that the tar does not
// name belong to root and are as old as 1970. The chunks are durable after w.Flush.
func PutTar(ctx context.Context, w *chunk.Writer, from io.Reader) (Tree, error) {
	entries := map[string]*Entry{".": {Path: ".", Type: Directory, Mode: 0o755, Time: time.Unix(0, 0)}}
	g, ctx := errgroup.WithContext(ctx)
	pieces := make(chan piece)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			p := putter{w: w, pieces: pieces}
			return p.store(ctx)
		})
	}
	g.Go(func() error {
		defer close(pieces)
		return readTar(ctx, tar.NewReader(from), entries, pieces)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return assemble(entries)
}

func readTar(ctx context.Context, r *tar.Reader, entries map[string]*Entry, pieces chan<- piece) error {
	var cutter chunk.Cutter
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		name := inside(h.Name)
		e := &Entry{Path: name, Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid), Time: h.ModTime}
		for k, v := range h.PAXRecords {
			if x, ok := strings.CutPrefix(k, xattrPrefix); ok {
				e.Xattrs = append(e.Xattrs, Xattr{x, []byte(v)})
			} else if strings.HasPrefix(k, "SCHILY.acl.") {
				return fmt.Errorf("%s: its ACL stands there as text, as tar --acls writes it: make the tar with --xattrs --xattrs-include='*' instead", name)
			}
		}
		slices.SortFunc(e.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			e.Type, e.Size = File, h.Size
			if err := tarContent(ctx, &cutter, r, e, pieces); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case tar.TypeDir:
			e.Type = Directory
		case tar.TypeSymlink:
			e.Type, e.Target, e.Mode = Link, h.Linkname, 0o777
		case tar.TypeLink:
			e = &Entry{Path: name, Type: HardLink, Target: inside(h.Linkname)}
		case tar.TypeChar, tar.TypeBlock:
			e.Type, e.Major, e.Minor = Char, uint32(h.Devmajor), uint32(h.Devminor)
			if h.Typeflag == tar.TypeBlock {
				e.Type = Block
			}
		case tar.TypeFifo:
			e.Type = Pipe
		default:
			return fmt.Errorf("%s: entries of type %q are not known", name, h.Typeflag)
		}
		if old := entries[name]; old != nil && old.Type == Directory && e.Type != Directory {
			return fmt.Errorf("%s: it is a directory first, and another thing later", name)
		}
		entries[name] = e
	}
}

// inside is a name of a tar as a path of a tree.
func inside(name string) string {
	if p := strings.TrimPrefix(path.Clean("/"+name), "/"); p != "" {
		return p
	}
	return "."
}

// tarContent cuts one file and hands its chunks on. The last of them may be stored after it returns: all are when PutTar does.
func tarContent(ctx context.Context, c *chunk.Cutter, r io.Reader, e *Entry, pieces chan<- piece) error {
	var room *[]byte
	var mu sync.Mutex
	send := func(plain []byte) error {
		mu.Lock()
		i := len(e.Parts)
		e.Parts = append(e.Parts, Part{Size: int64(len(plain))})
		mu.Unlock()
		select {
		case pieces <- piece{plain: room, size: len(plain), to: func(d chunk.Digest) {
			mu.Lock()
			e.Parts[i].Digest = d
			mu.Unlock()
		}}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if e.Size == 0 {
		return nil
	}
	if e.Size <= chunk.MinSize {
		room = buffers.Get().(*[]byte)
		*room = (*room)[:e.Size]
		if _, err := io.ReadFull(r, *room); err != nil {
			return err
		}
		return send(*room)
	}
	return c.Cut(r, func() []byte {
		room = buffers.Get().(*[]byte)
		return (*room)[:cap(*room)]
	}, func(plain []byte) error {
		*room = plain
		return send(plain)
	})
}

// assemble sorts entries, adds the directories that nobody named, and makes the first name of each file the file.
func assemble(entries map[string]*Entry) (Tree, error) {
	for name := range entries {
		for dir := path.Dir(name); entries[dir] == nil; dir = path.Dir(dir) {
			entries[dir] = &Entry{Path: dir, Type: Directory, Mode: 0o755, Time: time.Unix(0, 0)}
		}
	}
	names := make(map[*Entry][]string) // of files with several
	for name, e := range entries {
		if e.Type != HardLink {
			continue
		}
		to := e
		for range len(entries) {
			if to = entries[to.Target]; to == nil || to.Type != HardLink {
				break
			}
		}
		if to == nil || to.Type == HardLink || to.Type == Directory {
			return nil, fmt.Errorf("%s is a hard link to %s, which is no file of the tree", name, e.Target)
		}
		names[to] = append(names[to], name)
	}
	for e, others := range names {
		all := append(others, e.Path)
		slices.SortFunc(all, Compare)
		for _, n := range all[1:] {
			entries[n] = &Entry{Path: n, Type: HardLink, Target: all[0]}
		}
		e.Path = all[0]
		entries[e.Path] = e
	}
	t := make(Tree, 0, len(entries))
	for _, e := range entries {
		t = append(t, *e)
	}
	slices.SortFunc(t, func(a, b Entry) int { return Compare(a.Path, b.Path) })
	return t, t.check()
}

// WriteTar writes a tree as a tar (pax) that GNU tar and mksquashfs read. Holes become zeros. The same tree gives the same bytes.
func WriteTar(ctx context.Context, w io.Writer, t Tree, from Source) error {
	out := tar.NewWriter(w)
	ahead := prefetch(ctx, t, from)
	defer ahead.stop()
	for i := range t {
		e := &t[i]
		h := &tar.Header{
			Name: "./" + e.Path, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), ModTime: e.Time, Format: tar.FormatPAX,
		}
		if e.Path == "." {
			h.Name = "./"
		}
		for _, x := range e.Xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = make(map[string]string)
			}
			h.PAXRecords[xattrPrefix+x.Name] = string(x.Value)
		}
		switch e.Type {
		case File:
			h.Typeflag, h.Size = tar.TypeReg, e.Size
		case Directory:
			h.Typeflag = tar.TypeDir
			if e.Path != "." {
				h.Name += "/"
			}
		case Link:
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
		case HardLink:
			first := t.Find(e.Target)
			h.Typeflag, h.Linkname = tar.TypeLink, "./"+e.Target
			h.Mode, h.Uid, h.Gid, h.ModTime = int64(first.Mode), int(first.UID), int(first.GID), first.Time
		case Char, Block:
			h.Typeflag = tar.TypeChar
			if e.Type == Block {
				h.Typeflag = tar.TypeBlock
			}
			h.Devmajor, h.Devminor = int64(e.Major), int64(e.Minor)
		case Pipe:
			h.Typeflag = tar.TypeFifo
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		if e.Type == File {
			if _, err := io.Copy(out, e.Reader(ahead.get)); err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
		}
	}
	return out.Close()
}

// ahead unpacks the chunks of a tree in their order, some of them before they are asked for.
type ahead struct {
	queue chan chan got
	stop  func() // waits for all that is under way
}

type got struct {
	b   []byte
	err error
}

func prefetch(ctx context.Context, t Tree, from Source) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	n := 4 * runtime.GOMAXPROCS(0)
	var all sync.WaitGroup
	a := &ahead{queue: make(chan chan got, n), stop: func() {
		cancel()
		all.Wait()
	}}
	free := make(chan struct{}, n)
	all.Go(func() {
		defer close(a.queue)
		for i := range t {
			for _, p := range t[i].Parts {
				if p.Hole {
					continue
				}
				select {
				case free <- struct{}{}:
				case <-ctx.Done():
					return
				}
				answer := make(chan got, 1)
				all.Go(func() {
					b, err := from.Get(ctx, p.Digest, nil)
					<-free
					answer <- got{b, err}
				})
				select {
				case a.queue <- answer:
				case <-ctx.Done():
					return
				}
			}
		}
	})
	return a
}

// get gives the next chunk of the tree: they are asked for in its order.
func (a *ahead) get(chunk.Digest, []byte) ([]byte, error) {
	answer, ok := <-a.queue
	if !ok {
		return nil, context.Canceled
	}
	g := <-answer
	return g.b, g.err
}
