package cli

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func attributes(s *session) *cobra.Command {
	var markdown bool
	c := &cobra.Command{
		Use:     "attributes [GLOB]",
		GroupID: JobDescribe,
		Short:   "Explain the attributes that nodes and groups can have",
		Example: "  muster attributes\n  muster attributes 'bmc.*' -v\n  muster attributes --markdown > attributes.md",
		Args:    args(0, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		glob := ""
		if len(a) == 1 {
			glob = a[0]
		}
		var all []api.AttrDoc
		if err := s.do(c.Context(), "GET", "/v1/attributes?"+url.Values{"glob": {glob}}.Encode(), nil, &all); err != nil {
			return err
		}
		if len(all) == 0 {
			return &api.Error{Code: api.Unknown, What: "attributes " + glob, Why: "no attribute has such a name", Do: "See: muster attributes"}
		}
		documents(s, all, func() {
			if markdown {
				fmt.Fprintln(s.out, "| attribute | type | inherits | meaning |\n|---|---|---|---|")
				for _, d := range all {
					inherits := "yes"
					if !d.Inherits {
						inherits = "no"
					}
					fmt.Fprintf(s.out, "| `%s` | %s | %s | %s |\n", d.Name, strings.ReplaceAll(attrType(d), "|", `\|`), inherits, strings.ReplaceAll(d.Help, "|", `\|`))
				}
				return
			}
			if s.flags.verbose {
				for _, d := range all {
					fmt.Fprintf(s.out, "%s\n    %s\n    %s\n", d.Name, attrType(d), d.Help)
				}
				return
			}
			rows := [][]string{{"ATTRIBUTE", "TYPE", "MEANING"}}
			for _, d := range all {
				if len(d.Default) > 40 {
					d.Default = "see -v"
				}
				rows = append(rows, []string{d.Name, attrType(d), d.Help})
			}
			s.table(rows)
		})
		return nil
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "a table in Markdown")
	return c
}

// attrType is type, choices, unit and default in a few words.
func attrType(d api.AttrDoc) string {
	t := d.Type
	if len(d.Choices) > 0 {
		t = strings.Join(d.Choices, "|")
	}
	if d.Of != "" {
		t += " of " + d.Of
	}
	if d.Min != 0 || d.Max != 0 {
		t += fmt.Sprintf(" %d–%d", d.Min, d.Max)
	}
	if d.Unit != "" {
		t += " (" + d.Unit + ")"
	}
	if d.Default != "" {
		t += ", default " + d.Default
	}
	return t
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
