package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"muster/internal/model"
)

// Times and counts of fetching.
const (
	patience  = 10 * time.Minute // for a server that is away
	stalled   = 20 * time.Second // without a byte: the connection is given up and resumed
	maxWrong  = 3                // times that a wrong digest is fetched again
	fetchStep = 1 << 20          // bytes read, hashed and written at once: each call costs
)

// digestError says that content came whole and is not what was asked for.
type digestError struct {
	File      model.File
	Got       string
	GotLength int64
}

func (e *digestError) Error() string {
	return fmt.Sprintf("%s has digest %s and %d bytes, wanted are %s and %d", e.File.Name, e.Got, e.GotLength, e.File.Digest, e.File.Size)
}

// fetch gets a file by digest into path. It is hashed while it streams; a broken connection is resumed where it broke; the
// content is right when fetch returns without error, and path is empty otherwise. progress hears the share that came,
// in percent, each time that it grew.
func (c *client) fetch(ctx context.Context, file model.File, path string, progress func(percent int)) error {
	var err error
	for range maxWrong {
		err = c.fetchOnce(ctx, file, path, progress)
		var de *digestError
		if !errors.As(err, &de) {
			return err
		}
		if c.say != nil {
			c.say("refused: %v", err)
		}
	}
	return fmt.Errorf("fetched %d times: %w", maxWrong, err)
}

func (c *client) fetchOnce(ctx context.Context, file model.File, path string, progress func(int)) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Truncate(0))
		}
		err = errors.Join(err, out.Close())
	}()
	d := &download{client: c, file: file, out: out, hash: sha256.New(), progress: progress}
	err = c.patiently(ctx, "fetching "+file.Name, patience, func() error {
		before := d.have
		err := d.attempt(ctx)
		if err != nil && d.have > before {
			return &progressed{err}
		}
		return err
	})
	if err != nil {
		return err
	}
	got := "sha256:" + hex.EncodeToString(d.hash.Sum(nil))
	if got != file.Digest || d.have != file.Size {
		return &digestError{File: file, Got: got, GotLength: d.have}
	}
	return nil
}

// download is a file on its way.
type download struct {
	client   *client
	file     model.File
	out      io.Writer
	hash     hash.Hash
	have     int64
	percent  int
	progress func(int)
}

// attempt goes on from what is there, to the end or to the break of the connection.
func (d *download) attempt(ctx context.Context) error {
	if d.have == d.file.Size {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stalled, func() { cancel(fmt.Errorf("no byte came for %s", stalled)) })
	defer watch.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.client.server()+"/v1/node/file/"+strings.TrimPrefix(d.file.Digest, "sha256:"), nil)
	if err != nil {
		return err
	}
	if d.have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.have))
	}
	res, err := d.client.http.Do(req)
	if err != nil {
		return cause(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return &digestError{File: d.file, Got: "of a shorter file", GotLength: d.have}
	}
	if err := checkStatus(res); err != nil {
		return err
	}
	skip := int64(0)
	if d.have > 0 && res.StatusCode != http.StatusPartialContent {
		skip = d.have // the server does not know ranges
	}
	buf := make([]byte, fetchStep)
	body := &heard{r: res.Body, tell: func() { watch.Reset(stalled) }}
	for d.have < d.file.Size {
		// Full buffers: each write to memory and each hash call costs.
		n, err := io.ReadFull(body, buf[:min(int64(len(buf)), skip+d.file.Size-d.have)])
		b := buf[:n]
		if cut := min(skip, int64(n)); cut > 0 {
			b, skip = b[cut:], skip-cut
		}
		d.hash.Write(b)
		if _, err := d.out.Write(b); err != nil {
			return &failure{What: "the root image does not fit into memory", Do: "Give the node more memory, or build a smaller image.", Err: err}
		}
		d.have += int64(len(b))
		if p := int(d.have * 100 / max(1, d.file.Size)); p > d.percent {
			d.percent = p
			d.progress(p)
		}
		switch {
		case d.have == d.file.Size:
			return nil
		case err != nil:
			return fmt.Errorf("after %d of %d bytes: %w", d.have, d.file.Size, cause(ctx, err))
		}
	}
	return nil
}

// heard tells of every read that brings something: a full buffer may take minutes where a thousand nodes share one line.
type heard struct {
	r    io.Reader
	tell func()
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if n > 0 {
		h.tell()
	}
	return n, err
}

// cause prefers the reason why a context ended to the bare fact.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}
