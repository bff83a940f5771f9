package chunk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"muster/internal/durable"
)

// packFull is the size from which a pack takes no more.
const packFull = 64 << 20

// Writer adds chunks. What Put was told is durable after Flush, and stays until Close even where no manifest names it yet: so write the
// manifest between the two. Put may be called by any number of goroutines at once.
type Writer struct {
	s     *Store
	lock  *os.File
	again bool // chunks are written though they are there: see Store.move

	mu     sync.Mutex
	mine   map[Digest]bool // in packs of this writer that are not sealed yet
	file   *os.File
	end    int64
	index  []byte
	count  int
	sealed errgroup.Group
	added  Size
}

// Write begins to write. It waits while Collect runs.
func (s *Store) Write(ctx context.Context) (*Writer, error) {
	l, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	if err := s.refresh(); err != nil { // another process may have collected
		l.Close()
		return nil, err
	}
	return &Writer{s: s, lock: l, mine: make(map[Digest]bool)}, nil
}

// Put stores a chunk unless it is there, and returns its digest. A chunk longer than [MaxSize] is an error.
func (w *Writer) Put(plain []byte) (Digest, error) {
	if len(plain) > MaxSize {
		return Digest{}, errors.New("a chunk is longer than any may be")
	}
	d := Sum(plain)
	if !w.claim(d) {
		return d, nil
	}
	room := packedBuffers.Get().(*[]byte)
	defer packedBuffers.Put(room)
	*room = Pack(plain, *room)
	return d, w.append(d, *room, len(plain))
}

// claim tells whether the caller is the one that has to store a chunk.
func (w *Writer) claim(d Digest) bool {
	if !w.again && w.s.Has(d) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mine[d] {
		return false
	}
	w.mine[d] = true
	return true
}

// append writes a frame at the end of the pack. The place is given out under the lock, the bytes go there without it.
func (w *Writer) append(d Digest, frame []byte, plain int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		f, err := os.CreateTemp(w.s.dir, newPrefix+"*")
		if err != nil {
			return err
		}
		if _, err := f.WriteString(magic); err != nil {
			return errors.Join(err, f.Close())
		}
		w.file, w.end, w.index, w.count = f, int64(len(magic)), nil, 0
	}
	if _, err := w.file.Write(frame); err != nil {
		return err
	}
	at := place{offset: w.end, packed: uint32(len(frame)), plain: uint32(plain)}
	w.index = appendEntry(w.index, d, at)
	w.count++
	w.end += int64(len(frame))
	w.added.Chunks++
	w.added.Plain += int64(plain)
	w.added.Packed += int64(len(frame)) + entrySize
	if w.end >= packFull {
		w.seal()
	}
	return nil
}

// seal ends the pack and makes it durable while the next one is being filled. w.mu is held.
func (w *Writer) seal() {
	f, index, count, end := w.file, w.index, w.count, w.end
	w.file = nil
	w.added.Packs++
	w.sealed.Go(func() error {
		name := Sum(index).String() + packSuffix
		_, err := f.Write(appendFooter(index, count, end))
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return errors.Join(err, os.Remove(f.Name()))
		}
		if err := os.Rename(f.Name(), filepath.Join(w.s.dir, name)); err != nil {
			return err
		}
		if err := durable.SyncDir(w.s.dir); err != nil {
			return err
		}
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		// The same chunks in the same order had this name before, perhaps damaged.
		delete(w.s.damaged, name)
		if w.s.packs[name] != nil {
			w.s.forget(name)
		}
		return w.s.take(name)
	})
}

// Flush makes everything durable that Put was told before, and readable. After an error nothing is known to be.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		w.seal()
	}
	return w.sealed.Wait()
}

// Added is what was stored anew so far: content that was there costs nothing.
func (w *Writer) Added() Size {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.added
}

// Close lets Collect run again. What was not flushed is thrown away.
func (w *Writer) Close() error {
	return errors.Join(w.discard(), w.lock.Close())
}

func (w *Writer) discard() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.sealed.Wait()
	if w.file != nil {
		err = errors.Join(err, w.file.Close(), os.Remove(w.file.Name()))
		w.file = nil
	}
	return err
}
