package chunk

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve answers as a manager does, changed by what a place does wrong.
func serve(t *testing.T, s *Store, wrong func(w http.ResponseWriter, frame []byte) bool) Remote {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := ParseDigest(strings.TrimPrefix(r.URL.Path, "/v1/chunks/"))
		if err != nil {
			t.Errorf("asked for %s", r.URL.Path)
		}
		b, err := s.Packed(d, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		if wrong == nil || !wrong(w, b) {
			_, _ = w.Write(b)
		}
	}))
	t.Cleanup(srv.Close)
	return Remote{URL: srv.URL, HTTP: srv.Client()}
}

func TestFetcher_asks_another_place_when_one_lies_is_away_or_is_slow(t *testing.T) {
	s := open(t, t.TempDir())
	var contents [][]byte
	for i := range 40 {
		contents = append(contents, random(uint64(i), 20_000))
	}
	ds := put(t, s, contents...)
	release := make(chan struct{})
	var lies atomic.Int32
	places := map[string]Remote{
		"flips a bit": serve(t, s, func(w http.ResponseWriter, b []byte) bool {
			lies.Add(1)
			b[len(b)/2] ^= 1
			_, _ = w.Write(b)
			return true
		}),
		"sends another chunk": serve(t, s, func(w http.ResponseWriter, _ []byte) bool {
			_, _ = w.Write(Pack([]byte("something else"), nil))
			return true
		}),
		"sends a bomb": serve(t, s, func(w http.ResponseWriter, _ []byte) bool {
			_, _ = w.Write(Pack(make([]byte, 3*MaxSize), nil))
			return true
		}),
		"never ends": serve(t, s, func(w http.ResponseWriter, _ []byte) bool {
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					break
				}
			}
			return true
		}),
		"breaks off": serve(t, s, func(w http.ResponseWriter, b []byte) bool {
			w.Header().Set("Content-Length", "20000")
			_, _ = w.Write(b[:100])
			return true
		}),
		"has nothing": serve(t, open(t, t.TempDir()), nil),
		"is slow":     serve(t, s, func(http.ResponseWriter, []byte) bool { <-release; return true }),
		"is away":     {URL: "http://127.0.0.1:1", HTTP: http.DefaultClient},
	}
	t.Cleanup(func() { close(release) }) // before the places are closed, which wait for their answers
	sound := serve(t, s, nil)
	for name, bad := range places {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			told := 0
			f := &Fetcher{Remotes: []Remote{bad, sound}, Slow: 20 * time.Millisecond, Failed: func(from Remote, err error) {
				mu.Lock()
				defer mu.Unlock()
				if told++; from.URL != bad.URL || err == nil {
					t.Errorf("%s is said to have failed: %v", from.URL, err)
				}
			}}
			to := open(t, t.TempDir())
			w, err := to.Write(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			n := 0
			if err := f.Fetch(t.Context(), to.Missing(append(ds, ds...)), w, 4, func(done int) { n = done }); err != nil || n != len(ds) {
				t.Fatalf("%d chunks, %v", n, err)
			}
			for i, d := range ds {
				if got, err := to.Get(t.Context(), d, nil); err != nil || !bytes.Equal(got, contents[i]) {
					t.Errorf("chunk %d: %v", i, err)
				}
			}
			if name != "is slow" && (told == 0 || told > len(ds)/2) {
				t.Errorf("it failed %d times: want more than none, and that it is asked last then", told)
			}
		})
	}
	if lies.Load() == 0 {
		t.Error("nobody lied")
	}
	f := &Fetcher{Remotes: []Remote{places["flips a bit"], places["has nothing"]}}
	var damaged *DamagedError
	if _, err := f.Get(t.Context(), ds[0], nil); !errors.As(err, &damaged) || !strings.Contains(err.Error(), ds[0].String()) || !strings.Contains(err.Error(), "404") {
		t.Errorf("nobody has it: %v", err)
	}
}
