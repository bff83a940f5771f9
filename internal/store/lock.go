package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lock is the hold of one process on a store's directory: flock(2) on the file "lock", which the kernel lets go of
// however the process ends. The file's text, the process id, is for people only.
type lock struct{ f *os.File }

// dying is how long a killed predecessor may need to let go: the kernel frees its memory first, a gigabyte with 100,000
// nodes.
const dying = 3 * time.Second

func acquire(ctx context.Context, dir string) (*lock, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fileError("open store "+dir, path, err)
	}
	if err := flock(ctx, f); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("open store %s: lock %s: %w", dir, path, err)
		}
		holder, hint := "another process", ""
		if b, _ := os.ReadFile(path); len(b) > 0 {
			holder += " (pid " + strings.TrimSpace(string(b)) + ")"
			hint = " (see it: ps " + strings.TrimSpace(string(b)) + ")"
		}
		return nil, &Error{
			Kind: Locked,
			What: "open store " + dir,
			Why:  holder + " has it open",
			Do:   "Stop that process" + hint + ", or give another directory",
		}
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fileError("open store "+dir, path, err)
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		f.Close()
		return nil, fileError("open store "+dir, path, err)
	}
	return &lock{f}, nil
}

func flock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, dying)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

func (l *lock) release() error { return l.f.Close() }
