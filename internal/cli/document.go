package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// family is a kind of documents with verbs of its own: networks, users, roles.
type family[T any] struct {
	noun, job, short string
	fields           []string // that can be set, for help and completion
	example          string   // of fields: "prefix=10.77.0.0/16"
	remove           string   // what goes with one, for the help
	name             func(*T) string
	head             []string // of the table
	row              func(*T) []string
}

func (f *family[T]) command(s *session) *cobra.Command {
	return noun(f.noun, f.job, f.short, f.add(s), f.set(s), f.list(s), f.show(s), f.removing(s))
}

func (f *family[T]) path(verb string) string { return "/v1/" + f.noun + "s" + verb }

func (f *family[T]) all(ctx context.Context, s *session) ([]T, error) {
	var all []T
	return all, s.do(ctx, "GET", f.path(""), nil, &all)
}

// describing is add or set.
func (f *family[T]) describing(s *session, verb, did, short string, least int) *cobra.Command {
	c := &cobra.Command{
		Use:     verb + " NAME field=value …",
		Short:   short,
		Long:    short + ". Fields: " + strings.Join(f.fields, ", ") + ".\nfield= takes a value away; lists take field+=value and field-=value.",
		Example: "  muster " + f.noun + " " + verb + " " + f.example,
		Args:    args(least, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		set, err := s.assignments(c.Context(), a[1:])
		if err != nil {
			return err
		}
		q := api.DocAction{Name: a[0], Set: set, DryRun: s.flags.dryRun}
		return s.change(c.Context(), f.path("/"+verb), q, func(r api.Changed) string { return did + " " + f.noun + " " + r.Nodes })
	}
	c.ValidArgsFunction = func(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(a) > 0 {
			var out []string
			for _, name := range f.fields {
				out = append(out, name+"=")
			}
			return out, noFiles | cobra.ShellCompDirectiveNoSpace
		}
		if verb == "add" {
			return nil, noFiles
		}
		return f.complete(s)(c, a, typed)
	}
	return s.changeFlags(c)
}

func (f *family[T]) add(s *session) *cobra.Command {
	return f.describing(s, "add", "added", "Add a "+f.noun, 1)
}

func (f *family[T]) set(s *session) *cobra.Command {
	return f.describing(s, "set", "set", "Change a "+f.noun, 2)
}

func (f *family[T]) removing(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "remove NAME …",
		Short:   "Remove a " + f.noun,
		Long:    "Remove a " + f.noun + ". " + f.remove + " On a terminal it asks first.",
		Example: "  muster " + f.noun + " remove old --dry-run",
		Args:    args(1, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		name := strings.Join(commaSeparated(a), ",")
		if err := s.ask(c.Context(), "remove "+f.noun+" "+name); err != nil {
			return err
		}
		return s.change(c.Context(), f.path("/remove"), api.DocAction{Name: name, DryRun: s.flags.dryRun},
			func(r api.Changed) string { return "removed " + f.noun + " " + r.Nodes })
	}
	c.ValidArgsFunction = f.complete(s)
	return s.changeFlags(c)
}

func (f *family[T]) list(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List " + f.noun + "s",
		Example: "  muster " + f.noun + " list",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		all, err := f.all(c.Context(), s)
		if err != nil {
			return err
		}
		documents(s, all, func() {
			rows := [][]string{f.head}
			for i := range all {
				cells := f.row(&all[i])
				for j := range cells {
					cells[j] = printable(or(cells[j], "-"))
				}
				rows = append(rows, cells)
			}
			s.table(rows)
		})
		return nil
	}
	return c
}

func (f *family[T]) show(s *session) *cobra.Command {
	name, _, _ := strings.Cut(f.example, " ")
	c := &cobra.Command{
		Use:     "show NAME …",
		Short:   "Show all that a " + f.noun + " is",
		Example: "  muster " + f.noun + " show " + name,
		Args:    args(1, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		all, err := f.all(c.Context(), s)
		if err != nil {
			return err
		}
		var some []T
		for _, name := range commaSeparated(a) {
			i := slices.IndexFunc(all, func(d T) bool { return f.name(&d) == name })
			if i < 0 {
				return &api.Error{Code: api.Unknown, What: f.noun + " " + name, Why: "there is no such " + f.noun, Do: "See: muster " + f.noun + " list"}
			}
			some = append(some, all[i])
		}
		documents(s, some, func() {
			for i := range some {
				fmt.Fprintf(s.out, "%s:\n%s", f.name(&some[i]), fieldsOf(&some[i]))
			}
		})
		return nil
	}
	c.ValidArgsFunction = f.complete(s)
	return c
}

// fieldsOf are the fields of a document but its name, as in its JSON form: it is the API's own.
func fieldsOf(doc any) string {
	var b strings.Builder
	var fields map[string]any
	text, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(text, &fields)
	}
	if err != nil {
		return ""
	}
	for _, name := range sortedKeys(fields) {
		if name == "name" {
			continue
		}
		value := fmt.Sprint(fields[name])
		if list, ok := fields[name].([]any); ok {
			parts := make([]string, len(list))
			for i, v := range list {
				parts[i] = fmt.Sprint(v)
			}
			value = strings.Join(parts, ",")
		}
		fmt.Fprintf(&b, "    %s=%s\n", name, printable(value))
	}
	return b.String()
}

func (f *family[T]) complete(s *session) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		out, _ := s.completing(func(ctx context.Context) []string {
			all, _ := f.all(ctx, s)
			var names []string
			for i := range all {
				names = append(names, f.name(&all[i]))
			}
			return names
		})
		return out, noFiles
	}
}
