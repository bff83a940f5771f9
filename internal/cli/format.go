package cli

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// formats are the forms in which nodes and groups can be printed besides lines for people. What csv and yaml print, node add -f and set -f
// read.
var formats = []string{"csv", "json", "stanza", "table", "yaml"}

// formatFlags are -o FORMAT and one flag for each format (but --json, which all verbs have). The result is "" for lines.
func (s *session) formatFlags(c *cobra.Command) func() (string, error) {
	f := c.Flags()
	out := f.StringP("output", "o", "", "print as `FORMAT`: "+strings.Join(formats, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, noFiles))
	each := map[string]*bool{}
	for name, text := range map[string]string{
		"csv": "a table that spreadsheets, node add -f and set -f read", "yaml": "a file that node add -f and set -f read",
		"stanza": "each under its name, as lsdef prints them", "table": "a table for people",
	} {
		each[name] = f.Bool(name, false, "print "+text)
	}
	return func() (string, error) {
		var asked []string
		if *out != "" {
			asked = append(asked, *out)
		}
		for _, name := range formats {
			if on := each[name]; on != nil && *on {
				asked = append(asked, name)
			}
		}
		if s.flags.json {
			asked = append(asked, "json")
		}
		slices.Sort(asked)
		asked = slices.Compact(asked)
		switch {
		case len(asked) == 0:
			return "", nil
		case len(asked) > 1:
			return "", usage("-o", "it cannot be printed as "+strings.Join(asked, " and as ")+" at once", "Choose one")
		case !slices.Contains(formats, asked[0]):
			return "", usage("-o "+asked[0], "there is no such format", "One of: "+strings.Join(formats, ", "))
		}
		s.flags.json = asked[0] == "json"
		if s.flags.json {
			return "", nil
		}
		return asked[0], nil
	}
}

// sheet is what is printed in a format: things with values.
type sheet struct {
	key  string // what they are: "node"
	rows []sheetRow
}

type sheetRow struct {
	name   string
	values []api.AttrValue
}

// The fields that are lists of names and come before all attributes.
var listFields = []string{"aliases", "groups"}

// print writes the sheet. Secrets, which are masked, are left out of what is read again.
func (s *session) print(format string, t sheet) error {
	w := bufio.NewWriter(s.out)
	switch format {
	case "csv":
		t.csv(w, s.noSecrets(&t))
	case "yaml":
		s.noSecrets(&t)
		if err := t.yaml(w); err != nil {
			return err
		}
	case "stanza":
		t.stanza(w)
	case "table":
		s.table(t.cells())
		return nil
	}
	return w.Flush()
}

// noSecrets takes them out and says so. It returns the columns that are left.
func (s *session) noSecrets(t *sheet) []string {
	names := map[string]bool{}
	left := map[string]bool{}
	for i := range t.rows {
		t.rows[i].values = slices.DeleteFunc(t.rows[i].values, func(v api.AttrValue) bool {
			if v.Secret {
				left[v.Attr] = true
			} else {
				names[v.Attr] = true
			}
			return v.Secret
		})
	}
	if len(left) > 0 {
		s.warn("secrets are left out: %s", strings.Join(sortedKeys(left), ", "))
	}
	return columnOrder(names)
}

// columnOrder puts the lists of names first.
func columnOrder(names map[string]bool) []string {
	var out []string
	for _, f := range listFields {
		if names[f] {
			out = append(out, f)
		}
	}
	for _, n := range sortedKeys(names) {
		if !slices.Contains(listFields, n) {
			out = append(out, n)
		}
	}
	return out
}

func (t *sheet) csv(w io.Writer, columns []string) {
	fmt.Fprintln(w, strings.Join(append([]string{t.key}, columns...), ","))
	at := map[string]int{}
	for i, c := range columns {
		at[c] = i + 1
	}
	for _, r := range t.rows {
		cells := make([]string, len(columns)+1)
		cells[0] = quoteCSV(r.name)
		for _, v := range r.values {
			cells[at[v.Attr]] = quoteCSV(v.Value)
		}
		fmt.Fprintln(w, strings.Join(cells, ","))
	}
}

func (t *sheet) stanza(w io.Writer) {
	for i, r := range t.rows {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s:\n", r.name)
		for _, v := range r.values {
			fmt.Fprintf(w, "    %s=%s\n", v.Attr, printable(v.Value))
		}
	}
}

// cells are the sheet for people: what is not set is a dash.
func (t *sheet) cells() [][]string {
	names := map[string]bool{}
	for _, r := range t.rows {
		for _, v := range r.values {
			names[v.Attr] = true
		}
	}
	columns := columnOrder(names)
	head := []string{strings.ToUpper(t.key)}
	for _, c := range columns {
		head = append(head, strings.ToUpper(c))
	}
	rows := [][]string{head}
	for _, r := range t.rows {
		values := map[string]string{}
		for _, v := range r.values {
			values[v.Attr] = printable(v.Value)
		}
		cells := []string{r.name}
		for _, c := range columns {
			cells = append(cells, or(values[c], "-"))
		}
		rows = append(rows, cells)
	}
	return rows
}
