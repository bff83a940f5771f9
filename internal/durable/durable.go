// Package durable writes files that are there whole or not at all, also after a crash: write, sync, rename, sync the directory.
//
// It stands on the ground floor although it touches files, because every room that keeps some needs it and none may be the one
// that the others ask. It keeps nothing itself.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile writes a file so that a reader sees the old content or all of the new, also after a crash: write to a
// temporary file beside it, sync, rename, sync the directory.
func WriteFile(path string, b []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory as durable as its files.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
