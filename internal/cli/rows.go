package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// rowsOf reads a file of nodes, "-" being standard input: CSV or YAML, by its name, else by its first line. All problems are told at once.
func (s *session) rowsOf(path string) ([]api.Row, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(s.in)
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, usage("-f "+path, reason(err), "Give a file of nodes, or - for standard input")
	}
	if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return nil, usage("-f "+path, "it is UTF-16", "Save it as UTF-8")
	}
	text := string(b)
	parse := parseYAML
	if isCSV(path, text) {
		parse = parseCSV
	}
	rows, problems := parse(text)
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b *api.Error) int { return a.Line - b.Line })
		const most = 200
		first := *problems[0]
		first.More = problems[1:min(most, len(problems))]
		if more := len(problems) - most; more > 0 {
			first.More = append(first.More, &api.Error{Code: api.Usage, What: fmt.Sprintf("and %d more problems", more)})
		}
		return nil, inFile(path, &first)
	}
	if len(rows) == 0 {
		return nil, usage("-f "+path, "it describes no nodes", "Below the header each line is a node")
	}
	return rows, nil
}

// inFile says of problems with lines which file these are of.
func inFile(path string, e *api.Error) error {
	c := *e
	c.More = nil
	name := path
	if path == "-" {
		name = "standard input"
	}
	return &api.Error{Code: e.Code, What: name, Why: "nothing was done", More: append([]*api.Error{&c}, e.More...)}
}

// isCSV tells the two kinds of files apart: the first line of a table names a column node.
func isCSV(path, text string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv", ".tsv":
		return true
	case ".yaml", ".yml":
		return false
	}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		for _, name := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(",;\t\" ", r) }) {
			if name = strings.ToLower(name); name == "node" || name == "name" {
				return !strings.Contains(line, "{")
			}
		}
		return false
	}
	return false
}

// changeFile sends the rows of a file as one change. The person is asked where --max-nodes says so: how many there are, a
// dry run tells.
func (s *session) changeFile(ctx context.Context, file, path string, in func(api.Range, []api.Row) any, did string) error {
	rows, err := s.rowsOf(file)
	if err != nil {
		return err
	}
	r := api.Range{DryRun: s.flags.dryRun, Known: s.flags.known, MaxNodes: s.flags.maxNodes}
	if s.flags.yes || s.flags.dryRun {
		r.MaxNodes = 0
	}
	if r.MaxNodes > 0 && s.canAsk() {
		var would api.Changed
		if err := s.do(ctx, "POST", path, in(api.Range{DryRun: true, Known: r.Known}, rows), &would); err != nil {
			return fileError(file, err)
		}
		if would.Count > r.MaxNodes {
			if err := s.ask(ctx, fmt.Sprintf("touch %d nodes: %s", would.Count, would.Nodes)); err != nil {
				return err
			}
			r.MaxNodes = would.Count
		}
	}
	return fileError(file, s.change(ctx, path, in(r, rows), nodesDid(did)))
}

// fileError names the file in what the service refused.
func fileError(file string, err error) error {
	if e, ok := err.(*api.Error); ok && e.Line > 0 {
		return inFile(file, e)
	}
	return err
}

// fileFlag is -f FILE of verbs that take nodes from a file as well as from the arguments.
func fileFlag(c *cobra.Command, file *string, least int) {
	c.Flags().StringVarP(file, "file", "f", "", "take nodes and attributes from this CSV or YAML `file`; - is standard input")
	_ = c.MarkFlagFilename("file", "csv", "tsv", "yaml", "yml")
	c.Args = func(c *cobra.Command, a []string) error {
		switch {
		case *file != "" && len(a) > 0:
			return usage(strings.TrimPrefix(c.CommandPath(), "muster ")+" -f", fmt.Sprintf("%q stands beside the file", a[0]), "The file says which nodes get what; give one of them")
		case *file != "":
			return nil
		}
		return args(least, -1)(c, a)
	}
}
