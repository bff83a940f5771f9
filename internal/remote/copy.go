package remote

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"
	"time"

	"muster/internal/model"
)

// CopyResult is what a copy did on one node.
type CopyResult struct {
	Node  model.NodeName
	Files int   // entries of the tar, directories included; 0 when it failed
	Bytes int64 // of the files' content
	Err   error // nil or an *Error: then dest has either nothing or, of Kind Cut and Failed during the last step, a part of it
	Took  time.Duration
}

// Copy unpacks a tar stream under the directory dest of every target, with the node's own tar, keeping modes, times and (for
// root) owners; dest is made when it does not exist. src is read once for each target, from size bytes.
//
// The tar is unpacked into a directory of its own inside dest, and only when it is whole its entries are moved to their places,
// each by one rename: a file is the old one or the new one, never half of one, and a copy that is cut, has no space or meets a
// bad tar changes nothing. Directories that exist are entered and keep their mode and owner; what is in them and not in the tar
// stays. When a move fails (a directory stands where a file should go), those before it have been done, and the error names
// the one. The names in the tar are relative and stay inside dest, or nothing is begun.
func Copy(ctx context.Context, targets []Target, src io.ReaderAt, size int64, dest string, o Options) iter.Seq[CopyResult] {
	o = o.withDefaults()
	sum, bad := inspect(io.NewSectionReader(src, 0, size))
	word, ok := Quote(dest)
	switch {
	case bad != nil:
	case !ok || !path.IsAbs(dest):
		bad = &Error{Kind: Failed, What: "copy", Why: fmt.Sprintf("%q is not an absolute path", dest), Do: "Give the directory on the nodes from / on"}
	}
	return each(ctx, targets, o.Fanout, func(ctx context.Context, t Target) CopyResult {
		start := time.Now()
		r := CopyResult{Node: t.Node, Err: bad}
		if bad == nil {
			r.Err = o.copyTo(ctx, t, io.MultiReader(io.NewSectionReader(src, 0, sum.end), bytes.NewReader(sentinel)), word)
		}
		if r.Err == nil {
			r.Files, r.Bytes = sum.files, sum.bytes
		}
		r.Took = time.Since(start)
		return r
	})
}

func (o Options) copyTo(ctx context.Context, t Target, tar io.Reader, dest string) error {
	o.Limit = 64 << 10
	in := &source{r: tar}
	out, err := o.exec(ctx, t, "copy", "exec /bin/sh -c "+unpackWord+" muster-copy "+dest, in)
	if err != nil || out.exit == 0 {
		return err
	}
	if in.err != nil {
		return &Error{
			Kind: Failed, What: fmt.Sprintf("copy on %s", t.Node), Why: "the tar could not be read again: " + in.err.Error(),
			Do: "Nothing was changed there; copy again", Err: in.err,
		}
	}
	why := strings.TrimSpace(string(out.stderr.kept))
	if lines := strings.Split(why, "\n"); len(lines) > 6 {
		why = strings.Join(lines[:5], "\n") + fmt.Sprintf("\n… and %d lines more", len(lines)-5)
	}
	if why == "" {
		why = fmt.Sprintf("exit status %d", out.exit)
	}
	e := &Error{Kind: Failed, What: fmt.Sprintf("copy on %s", t.Node), Why: why, Do: "Nothing was changed there"}
	if out.exit == exitMoved {
		e.Do = "The entries before it have been replaced, it and those after it have not: mend it and copy again"
	}
	return e
}

// source keeps the error of its reader, so that it is not taken for one of the node.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// exitMoved is the status of the unpacking script when moving had begun.
const exitMoved = 77

// unpack is run by the node's /bin/sh with dest as its first argument. m moves the entries of one directory of the unpacked tree
// (relative to it) into the same directory of dest, and goes down into those that exist there.
const unpack = `set -u
mkdir -p -- "$1" && d=$(cd -- "$1" && pwd -P) || exit 1
t=$(mktemp -d "$d/.muster-copy.XXXXXXXXXX") || exit 1
trap "rm -rf -- \"\$t\"" EXIT
trap "exit 1" HUP INT TERM PIPE
tar -xpf - -C "$t" >&2 || exit 1
[ -e "$t/` + sentinelName + `" ] || { echo "the stream was cut" >&2; exit 1; }
rm -f "$t/` + sentinelName + `"
m() {
	local b="$1" f n
	set --
	for f in "$t/$b"* "$t/$b".[!.]* "$t/$b"..?*; do
		[ -e "$f" ] || [ -L "$f" ] || continue
		n=${f##*/}
		if [ -d "$f" ] && [ ! -L "$f" ] && [ -d "$d/$b$n" ]; then
			m "$b$n/" || return 1
		else
			set -- "$@" "$f"
			if [ $# -ge 200 ]; then mv -f -t "$d/$b." -- "$@" || return 1; set --; fi
		fi
	done
	[ $# -eq 0 ] || mv -f -t "$d/$b." -- "$@"
}
m "" || exit 77
`

var unpackWord, _ = Quote(unpack)

// The sentinel is sent instead of the tar's own end: tar takes a stream that ends between two entries for a whole one.
const sentinelName = ".muster-copy-end"

var sentinel = func() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: sentinelName, Mode: 0o600, Typeflag: tar.TypeReg}), w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}()

// summary is what inspect found in a tar.
type summary struct {
	files int
	bytes int64
	end   int64 // behind the last entry, where the end-of-archive blocks begin
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// inspect reads the tar once: what cannot be unpacked whole, or would leave dest, is not sent to anybody.
func inspect(r io.Reader) (summary, error) {
	bad := func(why string) (summary, error) {
		return summary{}, &Error{Kind: Failed, What: "copy", Why: why, Do: "Make the tar again, with names relative to the destination"}
	}
	c := &counter{r: r}
	tr := tar.NewReader(c)
	var s summary
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return bad("the tar cannot be read: " + err.Error())
		}
		if !inside(h.Name) || h.Typeflag == tar.TypeLink && !inside(h.Linkname) {
			return bad(fmt.Sprintf("the tar has the name %q, which leaves the destination", h.Name))
		}
		if path.Clean(h.Name) == sentinelName {
			return bad(fmt.Sprintf("the tar has the name %q, which marks its end on the nodes", h.Name))
		}
		n, err := io.Copy(io.Discard, tr)
		if err != nil {
			return bad(fmt.Sprintf("the tar is cut within %q: %v", h.Name, err))
		}
		s.files++
		s.bytes += n
		s.end = (c.n + 511) &^ 511
	}
}

func inside(name string) bool {
	c := path.Clean(name)
	return name != "" && !path.IsAbs(name) && c != ".." && !strings.HasPrefix(c, "../")
}
