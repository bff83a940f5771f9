package chunk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Remote is a place that serves chunks over HTTP: a manager, or another node. GET URL/v1/chunks/DIGEST answers the zstd frame.
type Remote struct {
	URL  string // "https://10.0.0.1:7443"
	HTTP *http.Client
}

// Fetcher gets chunks from several places, each verified before anybody sees it. A place that is slow, away or lying costs time only: the
// next one is asked at once when one fails, and besides when one is slow; those that failed are asked last. The fields are set before the
// first call; all calls may be made by any number of goroutines at once.
type Fetcher struct {
	Remotes []Remote
	// Slow is how long a chunk may take before another place is asked for it as well. Zero is two seconds.
	Slow time.Duration
	// Failed is told of every answer that was of no use, from any goroutine; nil is silence. The error is a [*DamagedError] where the
	// place sent what it should not have.
	Failed func(from Remote, err error)

	mu     sync.Mutex
	faults []int // by the index in Remotes: how often it failed since it last did not
	turn   int
}

const (
	slow       = 2 * time.Second
	badRepeats = 5 // more failures than that count no more
)

// order is in which order the places are asked: those without faults take turns.
func (f *Fetcher) order() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.faults == nil {
		f.faults = make([]int, len(f.Remotes))
	}
	all := make([]int, len(f.Remotes))
	for i := range all {
		all[i] = (f.turn + i) % len(all)
	}
	f.turn++
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(f.faults[a], f.faults[b]) })
	return all
}

func (f *Fetcher) note(i int, err error) {
	f.mu.Lock()
	if err == nil {
		f.faults[i] = 0
	} else {
		f.faults[i] = min(f.faults[i]+1, badRepeats)
	}
	f.mu.Unlock()
	if err != nil && f.Failed != nil {
		f.Failed(f.Remotes[i], err)
	}
}

// Get returns the plain content of a chunk, in buf's room if that is enough. The error names what was wrong with each place.
func (f *Fetcher) Get(ctx context.Context, d Digest, buf []byte) ([]byte, error) {
	if len(f.Remotes) == 0 {
		return nil, errors.New("no place to fetch chunks from is known")
	}
	type answer struct {
		from   int
		packed []byte
		err    error
	}
	asked, cancel := context.WithCancel(ctx)
	defer cancel()
	order := f.order()
	answers := make(chan answer, len(order)) // none of them waits for us
	next := func() {
		i := order[0]
		order = order[1:]
		go func() {
			b, err := f.Remotes[i].get(asked, d)
			answers <- answer{i, b, err}
		}()
	}
	patience := time.NewTicker(cmp.Or(f.Slow, slow))
	defer patience.Stop()
	next()
	var wrong []error
	for waiting := 1; waiting > 0; {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-patience.C:
			if len(order) > 0 {
				next()
				waiting++
			}
		case a := <-answers:
			waiting--
			err := a.err
			if err == nil {
				var plain []byte
				if plain, err = Unpack(d, a.packed, buf, f.Remotes[a.from].URL); err == nil {
					f.note(a.from, nil)
					return plain, nil
				}
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			f.note(a.from, err)
			wrong = append(wrong, err)
			if len(order) > 0 {
				next()
				waiting++
			}
		}
	}
	return nil, fmt.Errorf("chunk %s: no place gave it: %w", d, errors.Join(wrong...))
}

// maxPacked is the longest frame of a chunk that is believed: zstd adds little to what it cannot compress.
const maxPacked = MaxSize + 64<<10

func (r Remote) get(ctx context.Context, d Digest) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+"/v1/chunks/"+d.String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := r.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 512))
		return nil, fmt.Errorf("%s answered %s: %s", r.URL, res.Status, strings.TrimSpace(string(text)))
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxPacked+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.URL, err)
	}
	if len(b) > maxPacked {
		return nil, &DamagedError{Digest: d, Where: r.URL, Why: "it is longer than a chunk may be"}
	}
	return b, nil
}

// Missing returns those of the chunks that a store does not have, each once.
func (s *Store) Missing(chunks []Digest) []Digest {
	seen := make(map[Digest]bool, len(chunks))
	var out []Digest
	for _, d := range chunks {
		if !seen[d] && !s.Has(d) {
			out = append(out, d)
		}
		seen[d] = true
	}
	return out
}

// Fetch gets chunks into a store, parallel at once (0: 16). Done is told how many are there, from one goroutine at a time; nil is silence.
func (f *Fetcher) Fetch(ctx context.Context, chunks []Digest, to *Writer, parallel int, done func(n int)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(parallel, 16))
	var mu sync.Mutex
	n := 0
	for _, d := range chunks {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			plain, err := f.Get(ctx, d, nil)
			if err != nil {
				return err
			}
			if _, err := to.Put(plain); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if n++; done != nil {
				done(n)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return to.Flush()
}
