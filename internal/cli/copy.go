package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func copyFiles(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:        "copy NODERANGE FILE… DIRECTORY",
		SuggestFor: []string{"xdcp", "pscp", "nodersync", "cp"},
		GroupID:    JobNodes,
		Short:      "Copy files and directories into a directory of nodes",
		Long: `Copy files and directories into a directory of nodes, which is made when it is not there. Directories are copied
with all they hold. Modes, times and symbolic links are kept; owner is who the service logs in as. Read once here, sent
to the service once.`,
		Example: `  muster copy compute /etc/hosts /etc
  muster copy r1n[1-3] site.conf modules/ /opt/site`,
		Args: args(3, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		dest, sources := a[len(a)-1], a[1:len(a)-1]
		if !filepath.IsAbs(dest) {
			return usage("copy", fmt.Sprintf("the directory %q is not absolute", dest), "Give it from / on")
		}
		if err := checkSources(sources); err != nil {
			return err
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		if s.flags.dryRun {
			return s.wouldReach(c, r, fmt.Sprintf("copy %q to %s", sources, dest))
		}
		q := url.Values{"range": {r.Range}, "dest": {dest}}
		set := func(name string, v int64) {
			if v > 0 {
				q.Set(name, strconv.FormatInt(v, 10))
			}
		}
		set("timeout_ms", r.TimeoutMS)
		set("fanout", int64(r.Fanout))
		set("max_nodes", int64(r.MaxNodes))
		if r.Known {
			q.Set("known", "true")
		}
		read, write := io.Pipe()
		packed := make(chan struct{})
		go func() {
			defer close(packed)
			write.CloseWithError(pack(write, sources))
		}()
		err = ask(c.Context(), s, question[api.CopyResult]{
			what: "copy", path: "/v1/copy?" + q.Encode(), in: read,
			node: func(r *api.CopyResult) *api.Result { return &r.Result },
			text: func(r *api.CopyResult) []string {
				return []string{fmt.Sprintf("%d files, %s", r.Files, size(r.Bytes))}
			},
		})
		read.Close() // where nobody read it to its end
		<-packed
		return err
	}
	c.ValidArgsFunction = s.completeNodesThenFiles
	return s.changesNodes(c)
}

// checkSources says all that is wrong with the files before anything is sent.
func checkSources(sources []string) error {
	var bad *api.Error
	for _, src := range sources {
		_, err := os.Stat(src)
		if err == nil {
			continue
		}
		e := &api.Error{Code: api.Usage, What: "copy", Why: reason(err)}
		if bad == nil {
			bad = e
		} else {
			bad.More = append(bad.More, e)
		}
	}
	if bad != nil {
		return bad
	}
	return nil
}

// pack writes the files as a tar stream, each source under its base name. Errors are [*api.Error].
func pack(w io.Writer, sources []string) error {
	t := tar.NewWriter(w)
	for _, src := range sources {
		src = filepath.Clean(src)
		if base := filepath.Base(src); base == "." || base == ".." {
			abs, err := filepath.Abs(src)
			if err != nil {
				return packError(err)
			}
			src = abs
		}
		parent := filepath.Dir(src)
		err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(parent, path)
			if err != nil {
				return err
			}
			return packOne(t, path, filepath.ToSlash(name), path == src)
		})
		if err != nil {
			return packError(err)
		}
	}
	return packError(t.Close())
}

func packError(err error) error {
	var e *api.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &api.Error{Code: api.Usage, What: "copy", Why: reason(err)}
}

// packOne adds one entry. A source that is a symbolic link is followed, those inside directories are kept.
func packOne(t *tar.Writer, path, name string, follow bool) error {
	stat := os.Lstat
	if follow {
		stat = os.Stat
	}
	info, err := stat(path)
	if err != nil {
		return err
	}
	link := ""
	switch mode := info.Mode(); {
	case mode.IsRegular(), mode.IsDir():
	case mode&fs.ModeSymlink != 0:
		if link, err = os.Readlink(path); err != nil {
			return err
		}
	default:
		return usage("copy", path+" is neither a file, a directory nor a symbolic link", "Leave it out")
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name = name
	if info.IsDir() {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(t, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		return usage("copy", path+" became shorter while it was read", "Copy it again")
	}
	return err
}
