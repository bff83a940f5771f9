// Package pack makes the tar stream that a copy sends, out of files of this machine. It knows nothing of networks, so that
// the command line can link it without ssh.
package pack

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Pack writes the paths as one tar (PAX) to w: modes, times to the nanosecond, symbolic links as such, hard links as links. A path
// that is itself a symbolic link is followed. The owner of all is root: the numbers of this machine's users mean others on a node;
// what is set-user-ID or set-group-ID for somebody else is not for root.
// Each path appears under its last element: "etc/hosts" as hosts, "conf" as conf/…, while "conf/." gives what is in conf.
// It returns the number of entries and the bytes of content.
//
// A file that changes its length meanwhile, two paths with one name, sockets, pipes and devices are errors: the stream is of no
// use then.
func Pack(w io.Writer, paths ...string) (files int, bytes int64, err error) {
	buffered := bufio.NewWriterSize(w, 256<<10)
	p := &packer{tw: tar.NewWriter(buffered), names: map[string]string{}, links: map[inode]string{}}
	for _, path := range paths {
		if err := p.add(path); err != nil {
			return p.files, p.bytes, err
		}
	}
	return p.files, p.bytes, errors.Join(p.tw.Close(), buffered.Flush())
}

type inode struct{ dev, ino uint64 }

type packer struct {
	tw    *tar.Writer
	names map[string]string // in the tar → the path it came from
	links map[inode]string
	files int
	bytes int64
}

func (p *packer) add(path string) error {
	if path == "" {
		return errors.New("a path is empty. Give the files to copy")
	}
	content := len(path) > 1 && (path[len(path)-2:] == "/.") || path == "." || path == "/"
	clean := filepath.Clean(path)
	base := filepath.Base(clean)
	if base == ".." {
		return fmt.Errorf("%s has no name of its own. Write %s/. for its content", path, path)
	}
	root, err := filepath.EvalSymlinks(clean) // WalkDir does not follow a link at its root
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		name := filepath.Join(base, rel)
		if content {
			if name = rel; rel == "." {
				return nil
			}
		}
		return p.entry(name, at, d)
	})
}

func (p *packer) entry(name, at string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	if other, ok := p.names[name]; ok {
		if info.IsDir() { // two trees with the same directory in them
			return nil
		}
		return fmt.Errorf("%s and %s would both be %s. Copy them one after the other", other, at, name)
	}
	p.names[name] = at
	target := ""
	switch mode := info.Mode(); {
	case mode.IsRegular(), mode.IsDir():
	case mode&fs.ModeSymlink != 0:
		if target, err = os.Readlink(at); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a file, a directory nor a symbolic link. Leave it out", at)
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	h.Name, h.Format = name, tar.FormatPAX
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{} // nobody wants them set
	if info.IsDir() {
		h.Name += "/"
	}
	st, known := info.Sys().(*syscall.Stat_t)
	if !known || st.Uid != 0 {
		h.Mode &^= syscall.S_ISUID
	}
	if !known || st.Gid != 0 {
		h.Mode &^= syscall.S_ISGID
	}
	if known && info.Mode().IsRegular() && st.Nlink > 1 {
		i := inode{uint64(st.Dev), st.Ino}
		if first, ok := p.links[i]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			p.links[i] = name
		}
	}
	if err := p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	p.files++
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	return p.content(at, h.Size) // also of an empty file: one of /proc says 0 and has content
}

func (p *packer) content(at string, size int64) error {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.CopyN(p.tw, f, size)
	p.bytes += n
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s became shorter while it was read. Copy again when nobody writes to it", at)
	}
	if err != nil {
		return err
	}
	if more, _ := f.Read(make([]byte, 1)); more > 0 {
		return fmt.Errorf("%s became longer while it was read. Copy again when nobody writes to it", at)
	}
	return nil
}
