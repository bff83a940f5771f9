package cli

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/pan"
	"muster/internal/pan/lint"
	"muster/internal/pan/syntax"
)

// pancCheck says what is wrong with templates without executing them.
func pancCheck(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "check FILE…",
		Short: "Find errors and doubtful things in templates without executing them",
		Long: `Find errors and doubtful things in templates without executing them: a line each, FILE:LINE:COLUMN: KIND: TEXT, as editors read it.
Errors are what panc refuses. Warnings are what can work in no way, or is old: variables, functions, types and templates that are used and that no
template of the include path has; includes that stand twice in one template, or define names that nobody uses; and forms that are
deprecated. The exit status is 1 when there are errors, or warnings with --warnings fatal.`,
		Example: "  muster panc check $(find . -name '*.pan')\n  muster panc check --include-path site:core --warnings fatal site/node1.pan",
		Args:    args(1, -1),
	}
	include := c.Flags().String("include-path", "", "`directories` with all templates, separated by colons; else the working directory")
	warnings := c.Flags().String("warnings", "on", "on, off or fatal")
	c.RunE = func(c *cobra.Command, files []string) error {
		if !slices.Contains([]string{"on", "off", "fatal"}, *warnings) {
			return usage("check", "--warnings "+*warnings+" is none of on, off, fatal", see(c))
		}
		found, err := checkTemplates(c.Context(), s, *include, files, *warnings != "off")
		if err != nil {
			return err
		}
		for _, p := range found {
			s.failed = s.failed || p.Error || *warnings == "fatal"
		}
		documents(s, found, func() {
			for _, p := range found {
				kind := "warning"
				if p.Error {
					kind = "error"
				}
				fmt.Fprintf(s.out, "%s:%d:%d: %s: %s\n", printable(p.File), max(p.Line, 1), max(p.Column, 1), kind, printable(p.Text))
			}
		})
		return nil
	}
	return c
}

// templateProblem is one line of check.
type templateProblem struct {
	File   string    `json:"file"`
	Line   int       `json:"line"`
	Column int       `json:"column"`
	Error  bool      `json:"error"`
	Rule   lint.Rule `json:"rule,omitempty"` // of a warning
	Text   string    `json:"text"`
}

// checkTemplates compiles the files, and with doubts looks at those that are right beside all templates of the include path.
func checkTemplates(ctx context.Context, s *session, include string, files []string, doubts bool) ([]templateProblem, error) {
	r := &pancRun{session: s}
	o := &pancOptions{}
	if err := r.places(o, include, files); err != nil {
		return nil, &api.Error{Code: api.Failed, What: "check", Why: err.Error()}
	}
	system := os.DirFS("/")
	c, err := pan.NewCompiler(system, o.Options)
	if err != nil {
		return nil, err
	}
	templates, err := c.Files(ctx, o.files)
	if err != nil {
		return nil, err
	}
	var known lint.Library
	parsed := map[string]*syntax.File{}
	if doubts {
		if parsed, err = library(ctx, system, o, &known); err != nil {
			return nil, err
		}
	}
	var found []templateProblem
	for i, t := range templates {
		for _, e := range t.Errors {
			found = append(found, templateProblem{files[i], int(e.Where().Line), int(e.Where().Col), true, "", e.Short()})
		}
		if f := parsed[t.File.Path]; f != nil && len(t.Errors) == 0 {
			for _, w := range known.Check(f) {
				found = append(found, templateProblem{files[i], int(w.Span.Line), int(w.Span.Col), false, w.Rule, w.Message})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b templateProblem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
	return found, nil
}

// library makes the templates of the include path and those to check known, but those that cannot be read, and gives them by their paths.
func library(ctx context.Context, system fs.FS, o *pancOptions, known *lint.Library) (map[string]*syntax.File, error) {
	parsed := map[string]*syntax.File{}
	add := func(path string) {
		if parsed[path] != nil {
			return
		}
		text, err := fs.ReadFile(system, path)
		if err != nil {
			return
		}
		if f, errs := syntax.Parse("/"+path, text); len(errs) == 0 && len(syntax.Check(f)) == 0 {
			known.Add(f)
			parsed[path] = f
		}
	}
	for _, d := range o.Include {
		err := fs.WalkDir(system, d.Path, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && (strings.HasSuffix(path, ".pan") || strings.HasSuffix(path, ".tpl")) {
				add(path)
			}
			return ctx.Err() // a directory that cannot be read has no templates
		})
		if err != nil {
			return nil, err
		}
	}
	for _, f := range o.files {
		add(f.Path)
	}
	return parsed, nil
}
