package console

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"muster/internal/model"
)

const keepRound = 10 * time.Minute

// keep compresses files that the record has left, and removes the oldest ones over the limits, until ctx ends.
func (h *Hub) keep(ctx context.Context) {
	t := time.NewTicker(keepRound)
	defer t.Stop()
	for {
		if err := h.retain(ctx, time.Now()); err != nil && ctx.Err() == nil {
			h.o.Log.Error("console record: old files", "error", err)
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				break wait
			case f := <-h.rec.rotated:
				if err := pack(h.root, f); err != nil {
					h.o.Log.Error("console record: compress", "node", f.node, "file", f.name, "error", err)
				}
			}
		}
	}
}

// retain walks all records once.
func (h *Hub) retain(ctx context.Context, now time.Time) error {
	type aged struct {
		node string
		file
		ended time.Time // when the next file began, or the last write
		size  int64
	}
	var all []aged
	var total int64
	nodes, err := fs.ReadDir(h.root.FS(), ".")
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		if !n.IsDir() || !validName(n.Name()) || ctx.Err() != nil {
			continue
		}
		live := h.lookup(model.NodeName(n.Name())) != nil
		list, err := files(h.root, n.Name())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for i, f := range list {
			newest := i == len(list)-1
			if !f.packed && !newest {
				if err := pack(h.root, closedFile{n.Name(), f.name}); err != nil {
					errs = append(errs, err)
					continue
				}
				f.packed = true
			}
			info, err := h.root.Stat(n.Name() + "/" + f.name + f.ext())
			if err != nil {
				continue
			}
			total += info.Size()
			if newest && live {
				continue
			}
			a := aged{n.Name(), f, info.ModTime(), info.Size()}
			if !newest {
				a.ended = list[i+1].start
			}
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b aged) int { return a.ended.Compare(b.ended) })
	for _, a := range all {
		if total <= h.o.KeepBytes && now.Sub(a.ended) <= h.o.KeepFor {
			break
		}
		// The index goes last: a file without one is read, an index without a file is passed over.
		err := h.root.Remove(a.node + "/" + a.name + a.ext())
		if err == nil {
			err = h.root.Remove(a.node + "/" + a.name + ".idx")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		total -= a.size
		h.root.Remove(a.node) // succeeds only when it is empty
	}
	return errors.Join(errs...)
}

func (f file) ext() string {
	if f.packed {
		return ".log.zst"
	}
	return ".log"
}

// pack compresses one closed file: written beside, synced, renamed, and only then the plain one goes.
func pack(root *os.Root, f closedFile) (err error) {
	name := f.node + "/" + f.name
	in, err := root.Open(name + ".log")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // done before, or taken by retention
	}
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := name + ".tmp"
	out, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		out.Close()
		if err != nil {
			root.Remove(tmp)
		}
	}()
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	if _, err = io.Copy(z, in); err != nil {
		z.Close()
		return err
	}
	if err = errors.Join(z.Close(), out.Sync()); err != nil {
		return err
	}
	if err = root.Rename(tmp, name+".log.zst"); err != nil {
		return err
	}
	return root.Remove(name + ".log")
}
