package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"muster/internal/model"
)

// A cache keeps results of slow steps as files, each named by the digest of all that it was made from, with a note of its
// own digest beside it. A file that does not match its note is made again.
type cache struct {
	dir string
	now func() time.Time
}

// unused is how long a result that no build asked for is kept.
const unused = 30 * 24 * time.Hour

// key digests what a result depends on.
func key(parts ...any) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(parts); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// find returns the path of a whole result, and when it was made; "" when there is none.
func (c cache) find(name string) (path string, made time.Time) {
	path = filepath.Join(c.dir, name)
	b, err := os.ReadFile(path + ".json")
	if err != nil {
		return "", time.Time{}
	}
	var note cacheNote
	if json.Unmarshal(b, &note) != nil {
		return "", time.Time{}
	}
	if got, err := describe(path); err != nil || got.Digest != note.Digest {
		return "", time.Time{}
	}
	now := c.now()
	_ = os.Chtimes(path+".json", now, now) // asked for: see sweep
	return path, note.Made
}

type cacheNote struct {
	Digest string    `json:"digest"`
	Made   time.Time `json:"made"`
}

// keep takes a finished file into the cache, moving it; both must be on one file system.
func (c cache) keep(file, name string) (string, error) {
	d, err := describe(file)
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, name)
	if err := os.Rename(file, path); err != nil {
		return "", err
	}
	b, err := json.Marshal(cacheNote{Digest: d.Digest, Made: c.now()})
	if err != nil {
		return "", err
	}
	// A kill between the two leaves a result without its note, which is made again.
	if err := os.WriteFile(path+".json.new", b, 0o600); err != nil {
		return "", err
	}
	return path, os.Rename(path+".json.new", path+".json")
}

// sweep removes results that no build asked for in a month, and results that a killed build left without a note.
func (c cache) sweep() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".json" || e.IsDir() {
			continue
		}
		path := filepath.Join(c.dir, e.Name())
		info, err := os.Stat(path + ".json")
		if errors.Is(err, fs.ErrNotExist) {
			info, err = e.Info()
		}
		if err == nil && c.now().Sub(info.ModTime()) > unused {
			_ = os.Remove(path)
			_ = os.Remove(path + ".json")
		}
	}
	return nil
}

// copyFile copies a file's content to a new file, durably.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return writeFile(to, func(w io.Writer) error {
		_, err := io.Copy(w.(*os.File), src) // os.File to os.File: copied inside the kernel
		return err
	})
}

// writeFile makes a new file with what write writes, and syncs it.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

// modelFile describes files of a folder for the manifest.
func modelFiles(dir string, names ...string) ([]model.File, error) {
	files := make([]model.File, 0, len(names))
	for _, n := range names {
		f, err := describe(filepath.Join(dir, n))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}
