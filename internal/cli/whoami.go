package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func whoami(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "whoami",
		GroupID: JobPeople,
		Short:   "Show as whom the service knows you, and what you may do",
		Example: "  muster whoami",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var v api.WhoAmI
		if err := s.do(c.Context(), "GET", "/v1/whoami", nil, &v); err != nil {
			return err
		}
		s.document(v, func() {
			fmt.Fprintf(s.out, "%s\nmay       %s\n", v.Who, v.May)
			for _, r := range v.Roles {
				nodes := "everything"
				if r.Range != "" {
					nodes = fmt.Sprintf("%s: %s", r.Range, r.Nodes)
				}
				fmt.Fprintf(s.out, "role      %s: %s on %s\n", r.Name, strings.Join(r.Verbs, ", "), nodes)
			}
		})
		return nil
	}
	return c
}
