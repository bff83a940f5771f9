package cli

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muster/internal/api"
	"muster/internal/durable"
	"muster/internal/pan"
	"muster/internal/pan/tree"
)

// panc is the compiler of Pan with the command line of Quattor's panc 10.9: its options, its files under its names, its exit status, and its
// messages, which go to standard error.
func panc(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "panc FILE…",
		GroupID: JobOther,
		Short:   "Compile Pan templates into profiles, as Quattor's panc does",
		Long: `Compile Pan templates into profiles: the same files, byte for byte, and the same messages as Quattor's panc 10.9,
for all objects that have errors and not only for some. A link to this program that is called panc is this command.

--why PATH tells for each object which statements have set the path, in which order, with which global variables.
--vars REGEXP tells which global variables there are at the end, and where they were set.
--includes tells what was included, and what was not because it runs only once.
With one of these and no --formats nothing is written.`,
		Example: "  muster panc --include-path cluster:site:core --formats json,dep --output-dir out cluster/profiles/*.pan\n" +
			"  muster panc --why /system/network/hostname node1.pan\n" +
			"  muster panc --formats none *.pan",
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.Bool("debug", false, "debug() and traceback() print")
	f.String("debug-ns-include", "", "they print in templates whose names are this `regex`")
	f.String("debug-ns-exclude", "", "they do not in those, before that (`regex`)")
	f.String("initial-data", "", "every profile begins with this `dict`")
	f.String("include-path", "", "where templates are looked for: `directories` with colons (default: here)")
	f.String("output-dir", "", "`directory` for what is written (default: here)")
	f.String("formats", "pan,dep", "what is written: "+strings.Join(tree.FormatKeys(), ", ")+", none")
	f.String("java-opts", "", "ignored")
	f.String("max-iteration", "10000", "most rounds of a while or for loop")
	f.String("max-recursion", "50", "depth of includes and calls")
	f.String("nthread", "0", "objects at a time (0: one per processor)")
	f.String("logging", "", "ignored, as panc does")
	f.String("log-file", "", "ignored, as panc does")
	f.String("warnings", "on", "what deprecated() does: on (print), off, fatal")
	f.Bool("version", false, "the version")
	f.StringArray("why", nil, "tell which statements have touched this `path`; may be given more than once")
	f.String("vars", "", "tell the global variables whose names hold this `regex`")
	f.Bool("includes", false, "tell what was included")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		fmt.Fprintln(s.err, "OPTIONS ERROR: "+pancFlagError(err))
		return errSilent
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		r := &pancRun{session: s, now: time.Now}
		if v, _ := c.Flags().GetBool("version"); v {
			fmt.Fprintln(s.out, "pan compiler version: 10.9 (muster "+api.BuildVersion()+")")
			return nil
		}
		o, err := r.parse(c.Flags(), args)
		if err != nil {
			fmt.Fprintln(s.err, "OPTIONS ERROR: "+err.Error())
			return errSilent
		}
		return r.run(c.Context(), o)
	}
	c.AddCommand(pancAnnotations(s), pancCheck(s), pancDiff(s))
	return c
}

// pancOptions are the arguments, understood.
type pancOptions struct {
	pan.Options
	files   []pan.Dir
	output  string
	formats []tree.Format
	verbose bool
}

// pancRun is one run of panc.
type pancRun struct {
	*session
	now func() time.Time

	mu      sync.Mutex
	told    []told
	written int
}

// told is what there is to tell of a file or object: what it printed, and what is wrong with it.
type told struct {
	name    string
	printed []string
	errors  []*pan.Error
	answer  string // to --why, --vars and --includes
}

// parse reads the arguments as panc does. Its messages are panc's.
func (r *pancRun) parse(f *pflag.FlagSet, args []string) (*pancOptions, error) {
	text := func(name string) string {
		v, _ := f.GetString(name)
		return v
	}
	o := &pancOptions{output: text("output-dir"), verbose: r.flags.verbose}
	o.DebugInclude, o.DebugExclude, o.InitialData = text("debug-ns-include"), text("debug-ns-exclude"), text("initial-data")
	if debug, _ := f.GetBool("debug"); debug {
		o.DebugInclude, o.DebugExclude = ".*", ""
	}
	o.Why, _ = f.GetStringArray("why")
	o.Vars = text("vars")
	o.Includes, _ = f.GetBool("includes")
	formats, warnings, include := text("formats"), text("warnings"), text("include-path")
	if !f.Changed("formats") && (len(o.Why) > 0 || o.Vars != "" || o.Includes) {
		formats = "none"
	}
	for _, n := range []struct {
		name  string
		zero  bool
		value *int
	}{{"max-iteration", false, &o.Iteration}, {"max-recursion", false, &o.Recursion}, {"nthread", true, &o.Workers}} {
		var err error
		if *n.value, err = pancNumber(n.name, text(n.name), n.zero); err != nil {
			return nil, err
		}
	}
	var ok bool
	if o.Warnings, ok = map[string]pan.Warnings{"on": pan.WarningsOn, "off": pan.WarningsOff, "fatal": pan.WarningsFatal}[warnings]; !ok {
		return nil, errors.New(":warnings value must be off, on, or fatal")
	}
	for _, name := range regexp.MustCompile(`\s*,\s*`).Split(formats, -1) {
		if name == "none" {
			continue
		}
		format, ok := tree.FormatOf(name)
		if !ok {
			return nil, fmt.Errorf("unknown formatter: %s", name)
		}
		if !slices.ContainsFunc(o.formats, func(f tree.Format) bool { return f.Suffix == format.Suffix }) {
			o.formats = append(o.formats, format)
		}
	}
	return o, r.places(o, include, args)
}

// pancFlagError is an error of the options in the words of panc.
func pancFlagError(err error) string {
	var unknown *pflag.NotExistError
	var noValue *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		name := "-" + unknown.GetSpecifiedName()
		if unknown.GetSpecifiedShortnames() == "" {
			name = "-" + name
		}
		return fmt.Sprintf("Unknown option: %q", name)
	case errors.As(err, &noValue):
		return fmt.Sprintf("Missing required argument for %q", "--"+noValue.GetSpecifiedName())
	}
	return err.Error()
}

func pancNumber(name, text string, zero bool) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	switch {
	case err != nil:
		return 0, fmt.Errorf("invalid integer value (%s) for %s", text, name)
	case n < 0 && zero:
		return 0, fmt.Errorf("only non-negative values for %s are allowed", name)
	case n <= 0 && !zero:
		return 0, fmt.Errorf("only postive values for %s are allowed", name)
	}
	return int(n), nil
}

// places makes directories and files absolute, as messages have them. The file system that the compiler sees begins at /.
func (r *pancRun) places(o *pancOptions, include string, files []string) error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	absolute := func(p string) pan.Dir {
		if !filepath.IsAbs(p) {
			p = here + "/" + p
		}
		clean := strings.TrimPrefix(filepath.Clean(p), "/")
		if clean == "" {
			clean = "."
		}
		return pan.Dir{Path: clean, Shown: p}
	}
	dirs := slices.DeleteFunc(strings.Split(include, ":"), func(d string) bool { return strings.TrimSpace(d) == "" })
	if len(dirs) == 0 {
		dirs = []string{here}
	}
	var bad []string
	for _, d := range dirs {
		at := absolute(strings.TrimSuffix(d, "/"))
		if d == "/" {
			at = pan.Dir{Path: ".", Shown: "/"}
		}
		if i, err := os.Stat(at.Shown); err != nil || !i.IsDir() {
			bad = append(bad, at.Shown)
		}
		o.Include = append(o.Include, at)
	}
	if len(bad) > 0 {
		return errors.New("include path must contain only existing directories: " + strings.Join(bad, " "))
	}
	if o.output == "" {
		o.output = here
	}
	if i, err := os.Stat(o.output); err != nil || !i.IsDir() {
		return errors.New(o.output + " must be an existing directory")
	}
	for _, f := range files {
		o.files = append(o.files, absolute(f))
	}
	return nil
}

// run compiles, writes what is good and prints what is not.
func (r *pancRun) run(ctx context.Context, o *pancOptions) error {
	begin := r.now()
	// Profiles come and go, and few are there at a time: memory that is collected more rarely saves a third of the processor time.
	if r.env("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	c, err := pan.NewCompiler(os.DirFS("/"), o.Options)
	if err != nil {
		fmt.Fprintln(r.err, strings.TrimSuffix(err.Error(), "\n"))
		return errSilent
	}
	templates, err := c.Files(ctx, o.files)
	if err != nil {
		return err
	}
	var objects []string
	for _, t := range templates {
		r.told = append(r.told, told{name: t.Name, errors: t.Errors})
		if t.Object {
			objects = append(objects, t.Name)
		}
	}
	if len(o.formats) > 0 || o.asks() {
		if err := r.compile(ctx, c, o, objects); err != nil {
			return err
		}
	}
	n := r.report()
	if o.verbose {
		fmt.Fprintf(r.out, "%d templates\n%d written\n%d errors, %d ms\n\n", len(o.files), r.written, n, r.now().Sub(begin).Milliseconds())
	}
	if n > 0 {
		return errSilent
	}
	return nil
}

// compile makes the profiles, those of the command line first in what is told.
func (r *pancRun) compile(ctx context.Context, c *pan.Compiler, o *pancOptions, objects []string) error {
	order := map[string]int{}
	for i, name := range objects {
		order[name] = i - len(objects)
	}
	var results []told
	err := c.Compile(ctx, objects, func(p *pan.Profile) error {
		t := told{p.Name, p.Printed, p.Errors, ""}
		switch {
		case o.asks() && r.flags.json:
			t.answer = answerOf(p, o).json()
		case o.asks():
			t.answer = answerOf(p, o).text(o)
		}
		r.mu.Lock()
		results = append(results, t)
		r.mu.Unlock()
		if len(p.Errors) > 0 {
			return nil
		}
		return r.write(o, p)
	})
	slices.SortFunc(results, func(a, b told) int {
		return cmp.Or(order[a.name]-order[b.name], strings.Compare(a.name, b.name))
	})
	r.told = append(r.told, results...)
	return err
}

// report prints what was printed and asked, then all errors in panc's form, each once, and counts them.
func (r *pancRun) report() int {
	seen := map[string]bool{}
	var b, hints strings.Builder
	for _, p := range r.told {
		fmt.Fprint(r.out, p.answer)
		for _, line := range p.printed {
			fmt.Fprintln(r.err, line)
		}
	}
	for _, p := range r.told {
		for _, e := range p.errors {
			m := e.Error()
			if seen[m] {
				continue
			}
			seen[m] = true
			b.WriteString(m + "\n")
			hint(&hints, e)
		}
	}
	if b.Len() > 0 {
		fmt.Fprintln(r.err, b.String()+hints.String())
	}
	return len(seen)
}

// hint tells what panc's message does not: where it is when that has no place or the wrong one, and what may have been meant.
func hint(b *strings.Builder, e *pan.Error) {
	for c := e; c != nil; c = c.Cause {
		at, text := c, c.Hint
		switch {
		case c.Origin != nil && c.Origin.Class == pan.Evaluation:
			at, text = c.Origin, "it is here"
		case text == "" && c.Span.IsZero() && !c.Near.IsZero():
			text = "it is here"
		}
		if text != "" {
			fmt.Fprintf(b, "hint: %s:%s: %s\n", or(at.File, e.File), at.Where(), text)
		}
	}
}

// write writes one profile in all formats. All files of a profile have one time, because tools compare the times.
func (r *pancRun) write(o *pancOptions, p *pan.Profile) error {
	now := r.now()
	for _, f := range o.formats {
		file := filepath.Join(o.output, filepath.FromSlash(p.Name)+"."+f.Suffix)
		b, err := encodeProfile(f, p)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			return err
		}
		if err := durable.WriteFile(file, b, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(file, now, now); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written++
	return nil
}

func encodeProfile(f tree.Format, p *pan.Profile) ([]byte, error) {
	var b bytes.Buffer
	var w io.Writer = &b
	var z *gzip.Writer
	if f.Gzip {
		z = gzip.NewWriter(&b)
		w = z
	}
	var err error
	if f.IsDeps() {
		err = tree.WriteDeps(w, p.Deps())
	} else {
		err = f.Write(w, p.Root)
	}
	if z != nil {
		err = errors.Join(err, z.Close())
	}
	return b.Bytes(), err
}
