package chunk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"muster/internal/durable"
)

// Store is a directory of chunks. All its calls may be made by any number of goroutines at once; several processes may have one
// directory open.
type Store struct {
	dir string

	mu      sync.RWMutex
	packs   map[string]*pack
	index   map[Digest]place
	others  map[Digest][]place // further copies: of a Collect that was killed, or of a chunk that was damaged
	damaged map[string]error   // packs that cannot be read, by name
}

// Open opens the store in dir, which is made when missing. Packs that are damaged are no error: what was in them is missing. See
// [Store.Verify].
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, packs: make(map[string]*pack), index: make(map[Digest]place), others: make(map[Digest][]place), damaged: make(map[string]error)}
	return s, s.refresh()
}

// refresh takes in packs that came, and forgets those that went.
func (s *Store) refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, packSuffix) || strings.HasPrefix(name, ".") {
			continue
		}
		there[name] = true
		if s.packs[name] != nil || s.damaged[name] != nil {
			continue
		}
		if err := s.take(name); errors.Is(err, fs.ErrNotExist) {
			delete(there, name) // collected since
		} else if err != nil {
			s.damaged[name] = err
		}
	}
	for name := range s.packs {
		if !there[name] {
			s.forget(name)
		}
	}
	for name := range s.damaged {
		if !there[name] {
			delete(s.damaged, name)
		}
	}
	return nil
}

// take opens a pack and adds its chunks. s.mu is held.
func (s *Store) take(name string) error {
	found := make(map[Digest]place)
	p, err := openPack(filepath.Join(s.dir, name), name, func(d Digest, at place) { found[d] = at })
	if err != nil {
		return err
	}
	s.packs[name] = p
	for d, at := range found {
		if _, have := s.index[d]; have {
			s.others[d] = append(s.others[d], at)
		} else {
			s.index[d] = at
		}
	}
	return nil
}

// forget drops a pack's chunks. s.mu is held.
func (s *Store) forget(name string) {
	p := s.packs[name]
	delete(s.packs, name)
	for d, at := range s.index {
		if at.pack == p {
			s.drop(d, at)
		}
	}
	for d, all := range s.others {
		if all = slices.DeleteFunc(all, func(at place) bool { return at.pack == p }); len(all) == 0 {
			delete(s.others, d)
		} else {
			s.others[d] = all
		}
	}
}

// drop takes away one copy of a chunk; another one takes its place. s.mu is held.
func (s *Store) drop(d Digest, at place) {
	if s.index[d] != at {
		return
	}
	delete(s.index, d)
	if all := s.others[d]; len(all) > 0 {
		s.index[d], s.others[d] = all[0], all[1:]
		if len(all) == 1 {
			delete(s.others, d)
		}
	}
}

func (s *Store) find(d Digest) (place, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, ok := s.index[d]
	return at, ok
}

// Has tells whether a chunk is there. Only what a [Writer] is told stays there.
func (s *Store) Has(d Digest) bool { _, ok := s.find(d); return ok }

// Packed returns a chunk as it is stored, unchecked: who unpacks it checks it. The error is a [*MissingError], or of reading.
func (s *Store) Packed(d Digest, buf []byte) ([]byte, error) {
	b, _, err := s.packed(d, buf)
	return b, err
}

func (s *Store) packed(d Digest, buf []byte) ([]byte, place, error) {
	at, ok := s.find(d)
	if !ok {
		// Another process may have written or collected.
		if err := s.refresh(); err != nil {
			return nil, place{}, err
		}
		if at, ok = s.find(d); !ok {
			return nil, place{}, &MissingError{Digest: d, Where: s.dir}
		}
	}
	b := slices.Grow(buf[:0], int(at.packed))[:at.packed]
	if _, err := at.pack.file.ReadAt(b, at.offset); err != nil {
		return nil, at, &DamagedError{Digest: d, Where: at.pack.name, Why: err.Error()}
	}
	return b, at, nil
}

// packedBuffers are for what is read only to be unpacked.
var packedBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Get returns the plain content of a chunk, in buf's room if that is enough. A copy that is damaged is forgotten, and another one is
// tried; the next Put of the chunk stores it anew. The error is a [*DamagedError] or a [*MissingError] that names the chunk.
func (s *Store) Get(ctx context.Context, d Digest, buf []byte) ([]byte, error) {
	room := packedBuffers.Get().(*[]byte)
	defer packedBuffers.Put(room)
	var first error
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, at, err := s.packed(d, *room)
		if err == nil {
			*room = b[:0]
			var plain []byte
			if plain, err = Unpack(d, b, buf, at.pack.name); err == nil {
				return plain, nil
			}
		}
		var missing *MissingError
		if errors.As(err, &missing) && first != nil {
			return nil, first
		}
		if at.pack == nil {
			return nil, err
		}
		first = cmp.Or(first, err)
		s.mu.Lock()
		s.drop(d, at)
		s.mu.Unlock()
		if !s.Has(d) {
			return nil, first
		}
	}
}

// Size is what a store holds.
type Size struct {
	Chunks int   `json:"chunks"`
	Packs  int   `json:"packs"`
	Plain  int64 `json:"plain"`  // bytes of content
	Packed int64 `json:"packed"` // bytes on the disk
}

// Size tells what the store holds.
func (s *Store) Size() Size {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := Size{Chunks: len(s.index), Packs: len(s.packs)}
	for _, at := range s.index {
		out.Plain += int64(at.plain)
	}
	for _, p := range s.packs {
		out.Packed += p.size
	}
	return out
}

// Verify reads all chunks, or those that want asks for (nil: all), on all cores, and returns everything that is damaged, in the order
// of its names.
func (s *Store) Verify(ctx context.Context, want func(Digest) bool) ([]error, error) {
	if err := s.refresh(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	type one struct {
		d  Digest
		at place
	}
	var all []one
	for d, at := range s.index {
		if want == nil || want(d) {
			all = append(all, one{d, at})
		}
	}
	var bad []error
	for _, err := range s.damaged {
		bad = append(bad, err)
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b one) int {
		return cmp.Or(strings.Compare(a.at.pack.name, b.at.pack.name), cmp.Compare(a.at.offset, b.at.offset))
	})
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan Digest)
	g.Go(func() error {
		defer close(jobs)
		for _, o := range all {
			select {
			case jobs <- o.d:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			var buf []byte
			for d := range jobs {
				plain, err := s.Get(ctx, d, buf)
				if err == nil {
					buf = plain
					continue
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				mu.Lock()
				bad = append(bad, err)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(bad, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return bad, nil
}

// lock takes the store's lock, shared or not, and waits for it; it is free when its holder is gone, also after kill -9.
func (s *Store) lock(ctx context.Context, how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), how|unix.LOCK_NB) == nil {
		return f, nil
	}
	got := make(chan error, 1)
	go func() { got <- ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), how) }) }()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking the chunks: %w", err)
		}
		return f, nil
	case <-ctx.Done():
		go func() { // the call cannot be broken off: what it still gets is given back
			<-got
			f.Close()
		}()
		return nil, context.Cause(ctx)
	}
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Freed is what a Collect did.
type Freed struct {
	Chunks int   `json:"chunks"` // that nobody marked
	Bytes  int64 `json:"bytes"`  // that the disk has back
	Kept   int   `json:"kept"`   // chunks that are left
}

// rewriteBelow is the live share of a pack, in percent of its bytes, under which Collect writes the rest of it anew.
const rewriteBelow = 75

// Collect removes what nobody needs. It waits for all writers, then asks mark once, which is to call keep for every chunk of every
// manifest there is; an error of it ends Collect with nothing removed. What packs that are mostly unneeded still hold is written anew
// before they go, so a kill at any moment loses nothing that was marked.
func (s *Store) Collect(ctx context.Context, mark func(keep func(Digest)) error) (Freed, error) {
	l, err := s.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return Freed{}, err
	}
	defer l.Close()
	if err := s.refresh(); err != nil {
		return Freed{}, err
	}
	live := make(map[Digest]bool)
	if err := mark(func(d Digest) { live[d] = true }); err != nil {
		return Freed{}, err
	}
	// No writer is there, so no new pack is anybody's.
	left, err := filepath.Glob(filepath.Join(s.dir, newPrefix+"*"))
	if err != nil {
		return Freed{}, err
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return Freed{}, err
		}
	}
	var f Freed
	before := s.Size().Packed
	s.mu.RLock()
	stays := make(map[*pack][]Digest)
	bytes := make(map[*pack]int64)
	for d, at := range s.index {
		if live[d] {
			stays[at.pack] = append(stays[at.pack], d)
			bytes[at.pack] += int64(at.packed)
			f.Kept++
		} else {
			f.Chunks++
		}
	}
	var gone []*pack
	var move []Digest
	for _, p := range s.packs {
		if bytes[p]*100 < p.size*rewriteBelow && !(len(stays[p]) > 0 && bytes[p]+entrySize*int64(len(stays[p]))+int64(len(magic)+footerSize) == p.size) {
			gone = append(gone, p)
			move = append(move, stays[p]...)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(move, Digest.Compare)
	if err := s.move(ctx, move); err != nil {
		return Freed{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range gone {
		if err := os.Remove(filepath.Join(s.dir, p.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Freed{}, err
		}
		s.forget(p.name)
	}
	for name := range s.damaged {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Freed{}, err
		}
		delete(s.damaged, name)
	}
	f.Bytes = before
	for _, p := range s.packs {
		f.Bytes -= p.size
	}
	return f, durable.SyncDir(s.dir)
}

// move writes chunks into new packs, checking each. One that is damaged stays behind and is lost with its pack: it was no chunk.
func (s *Store) move(ctx context.Context, chunks []Digest) error {
	w := &Writer{s: s, again: true, mine: make(map[Digest]bool)}
	defer w.discard()
	var buf []byte
	for _, d := range chunks {
		plain, err := s.Get(ctx, d, buf)
		var damaged *DamagedError
		if errors.As(err, &damaged) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := w.Put(plain); err != nil {
			return err
		}
		buf = plain
	}
	return w.Flush()
}
