// Package pan compiles Pan, the configuration language of Quattor, into profiles, byte for byte as panc does.
//
//	templates ──syntax──▶ tree of the text ──eval──▶ operations, once per template
//	                                                     │  executed per object template
//	                                                     ▼
//	                              tree: the profile ── defaults ── validation ──▶ XML, JSON, …
//
// Compile is the whole of it for one time. A Compiler keeps what it has compiled, and with changed files does again only the objects
// whose templates, files or futile look-ups have changed. Both take sources from any fs.FS and write nothing: who calls gets each
// profile once and it is dropped afterwards, so that a thousand of them need the memory of a few.
package pan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"muster/internal/pan/eval"
	"muster/internal/pan/java"
	"muster/internal/pan/syntax"
	"muster/internal/pan/tree"
)

// Dir is a directory of the include path.
type Dir = eval.Dir

// Error is one problem; its Error is panc's message.
type Error = eval.Error

// Evaluation is the class of an Error that panc calls an EvaluationException.
const Evaluation = eval.Evaluation

// Profile is what became of one object template.
type Profile struct {
	*eval.Result
	// Unchanged says that nothing it depends on has changed since it was last compiled, so it was not compiled again: there is no Root, and
	// what was written of it then is still right.
	Unchanged bool
}

// Warnings says what deprecated() does.
type Warnings = eval.Warnings

// What deprecated() does: print, nothing, or fail.
const (
	WarningsOn    = eval.WarningsOn
	WarningsOff   = eval.WarningsOff
	WarningsFatal = eval.WarningsFatal
)

// Options are those of panc. The zero value is panc's default, with the root of the file system as the include path.
type Options struct {
	Include      []Dir  // in order; none: the root
	Iteration    int    // the most rounds of a while or for loop; 0: 10,000
	Recursion    int    // the depth of includes, function calls and create(); 0: 50
	Steps        int64  // the most work of one object, for input that is not trusted; 0: no limit
	Workers      int    // objects worked on at the same time; 0: one per processor
	InitialData  string // DML of a constant dict that each profile starts with
	Warnings     Warnings
	DebugInclude string   // regular expression of the names of templates in which debug() and traceback() work
	DebugExclude string   // and of those in which they do not
	Why          []string // absolute paths: their history is in Profile.Touches
	Vars         string   // regular expression: the global variables whose names hold it are in Profile.Variables
	Includes     bool     // what was included is in Profile.Included
}

// Compile compiles the object templates named and those that they refer to. It calls done with each as it is finished, from several
// goroutines and in any order; the profile must not be used after done has returned. What is wrong with templates is in the profiles; the error
// is one of the options, of done, or the end of ctx.
func Compile(ctx context.Context, fsys fs.FS, objects []string, o Options, done func(*Profile) error) error {
	c, err := NewCompiler(fsys, o)
	if err != nil {
		return err
	}
	return c.Compile(ctx, objects, done)
}

// Compiler keeps compiled templates between compilations. Its methods may not be called at the same time.
type Compiler struct {
	build   *eval.Build
	workers int

	mu    sync.Mutex
	known map[string]*eval.Result // of each object the last result, without its profile
}

// NewCompiler makes a Compiler; the error is one of the options.
func NewCompiler(fsys fs.FS, o Options) (*Compiler, error) {
	c := eval.Config{
		FS: fsys, Include: o.Include, Limits: eval.Limits{Iteration: o.Iteration, Recursion: o.Recursion, Steps: o.Steps},
		Warnings: o.Warnings, Initial: o.InitialData, Asked: eval.Asked{Includes: o.Includes},
	}
	if len(c.Include) == 0 {
		c.Include = []Dir{{Path: "."}}
	}
	for _, p := range []struct {
		text string
		at   **java.Pattern
	}{{o.DebugInclude, &c.DebugInclude}, {o.DebugExclude, &c.DebugExclude}, {o.Vars, &c.Asked.Vars}} {
		if p.text == "" {
			continue
		}
		var err error
		if *p.at, err = java.Compile(p.text, 0); err != nil {
			return nil, fmt.Errorf("regular expression %q: %w", p.text, err)
		}
	}
	for _, text := range o.Why {
		p, err := tree.ParsePath(text)
		if err == nil && p.Kind != tree.Absolute {
			err = errors.New("it has to begin with /")
		}
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", text, err)
		}
		c.Asked.Why = append(c.Asked.Why, p)
	}
	b, bad := eval.New(c)
	if bad != nil {
		return nil, bad
	}
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	return &Compiler{build: b, workers: workers, known: map[string]*eval.Result{}}, nil
}

// Compile is the function Compile, with what this compiler knows already: an object of which nothing has changed, as far as Changed or
// Rescan have been told or seen, is given to done Unchanged.
func (c *Compiler) Compile(ctx context.Context, objects []string, done func(*Profile) error) error {
	q := newQueue(objects)
	for _, name := range slices.Sorted(maps.Keys(c.known)) {
		if c.build.Located(name) {
			q.add(name)
		}
	}
	c.build.Found(q.add)
	circles, err := c.all(ctx, q, done)
	if err != nil {
		c.build.Reset()
		return err
	}
	// Where a circle is met depends on the object that was begun with, and so does the message: each of these once more, for itself.
	slices.Sort(circles)
	met := slices.Clone(circles)
	for name, r := range c.known {
		if r.Cycle {
			met = append(met, name)
		}
	}
	for _, name := range circles {
		for _, other := range met {
			c.build.Drop(other)
		}
		if err := c.finish(ctx, c.build.Run(ctx, name), done); err != nil {
			return err
		}
	}
	return nil
}

// all works on the queue until it is empty, and tells which objects refer to each other in a circle.
func (c *Compiler) all(ctx context.Context, q *queue, done func(*Profile) error) (circles []string, _ error) {
	g, ctx := errgroup.WithContext(ctx)
	for range c.workers {
		g.Go(func() error {
			defer q.stop()
			for {
				name, ok := q.next()
				if !ok {
					return nil
				}
				if err := c.one(ctx, name, done, &circles); err != nil {
					return err
				}
				q.done()
			}
		})
	}
	err := g.Wait()
	return circles, err
}

func (c *Compiler) one(ctx context.Context, name string, done func(*Profile) error, circles *[]string) error {
	c.mu.Lock()
	known := c.known[name]
	c.mu.Unlock()
	if known != nil {
		return done(&Profile{known, true})
	}
	r := c.build.Run(ctx, name)
	if r.Cycle {
		c.mu.Lock()
		defer c.mu.Unlock()
		*circles = append(*circles, name)
		return context.Cause(ctx)
	}
	return c.finish(ctx, r, done)
}

// finish hands a result over and lets go of its profile.
func (c *Compiler) finish(ctx context.Context, r *eval.Result, done func(*Profile) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	err := done(&Profile{r, false})
	c.build.Release(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[r.Name] = r
	return err
}

// Changed tells that these files of the file system have changed, have come or have gone. It is quick; a file whose content is the same
// as before does not count. It returns the objects that the next Compile will compile again.
func (c *Compiler) Changed(files ...string) []string {
	changed := map[string]bool{}
	for _, f := range files {
		if !c.build.Same(f) {
			changed[f] = true
		}
	}
	return c.forget(changed)
}

// Rescan looks itself what has changed: it reads all files again that were read, and repeats all look-ups.
func (c *Compiler) Rescan() []string { return c.forget(c.build.Changed()) }

// forget drops all that depends on these files.
func (c *Compiler) forget(changed map[string]bool) []string {
	if len(changed) == 0 {
		return nil
	}
	gone := c.build.Forget(changed)
	again := map[string]bool{}
	for name, r := range c.known {
		if slices.ContainsFunc(r.Sources, func(s *eval.Source) bool { return gone[s] }) {
			again[name] = true
		}
	}
	for more := true; more; {
		more = false
		for name, r := range c.known {
			if !again[name] && slices.ContainsFunc(r.Objects, func(o string) bool { return again[o] || c.known[o] == nil }) {
				again[name], more = true, true
			}
		}
	}
	for name := range again {
		c.build.Drop(name)
		delete(c.known, name)
	}
	return slices.Sorted(maps.Keys(again))
}

// Template is what became of one file that is compiled for itself.
type Template struct {
	File   Dir
	Name   string // "" when it could not be read
	Object bool   // it is an object template without errors: Compile can make its profile
	Errors []*Error
}

// Files compiles files, as the command line names them, and executes nothing. A name on the include path may lead to another file.
func (c *Compiler) Files(ctx context.Context, files []Dir) ([]Template, error) {
	all := make([]Template, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.workers)
	for i, f := range files {
		g.Go(func() error {
			t, errs := c.build.File(f)
			all[i] = Template{File: f, Errors: errs}
			if t != nil {
				all[i].Name, all[i].Object = t.Name, t.Kind == syntax.Object && len(errs) == 0
			}
			return context.Cause(ctx)
		})
	}
	return all, g.Wait()
}

// queue is the objects to do. It grows while they are done, by those that they refer to.
type queue struct {
	mu      sync.Mutex
	more    *sync.Cond
	seen    map[string]bool
	names   []string
	working int
	stopped bool
}

func newQueue(names []string) *queue {
	q := &queue{seen: map[string]bool{}}
	q.more = sync.NewCond(&q.mu)
	for _, n := range names {
		if !q.seen[n] {
			q.seen[n] = true
			q.names = append(q.names, n)
		}
	}
	return q
}

func (q *queue) add(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.seen[name] {
		q.seen[name] = true
		q.names = append(q.names, name)
		q.more.Signal()
	}
}

// next is the next object; it waits as long as others are worked on, which may find more.
func (q *queue) next() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.names) == 0 && q.working > 0 && !q.stopped {
		q.more.Wait()
	}
	if len(q.names) == 0 || q.stopped {
		return "", false
	}
	name := q.names[0]
	q.names = q.names[1:]
	q.working++
	return name, true
}

func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.working--
	if q.working == 0 {
		q.more.Broadcast()
	}
}

// stop ends all workers, when one of them has.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.more.Broadcast()
}
