package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func get(s *session) *cobra.Command {
	var blame bool
	c := &cobra.Command{
		Use:        "get NODERANGE [attr …]",
		SuggestFor: []string{"lsdef", "nodeattrib", "show"},
		GroupID:    JobDescribe,
		Short:      "Show effective attributes of nodes; --blame says where each comes from",
		Long: `Show the effective attributes of nodes: their own, or inherited from their groups, or defaults.
Attributes may be globs; without any, all that are set are shown. Secrets are masked.`,
		Example: `  muster get r1n7
  muster get compute bmc.address net.*.mac
  muster get r1n7 'bmc.*' --blame`,
		Args: args(1, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.NodeAttrs]{
			what: "get", path: "/v1/get",
			in:   api.GetAttrs{Range: r, Attrs: a[1:], Blame: blame},
			node: func(n *api.NodeAttrs) *api.Result { return &n.Result },
			text: func(n *api.NodeAttrs) []string {
				lines := make([]string, len(n.Attrs))
				for i, v := range n.Attrs {
					lines[i] = attrText(v)
				}
				return lines
			},
		})
	}
	c.Flags().BoolVar(&blame, "blame", false, "say where each value comes from, and how it was written")
	c.ValidArgsFunction = s.completeNodesThenAttributes("")
	return s.rangeFlags(c)
}

func attrText(v api.AttrValue) string {
	text := v.Attr + "=" + v.Value
	switch {
	case v.From != "" && v.Written != "" && v.Written != v.Value:
		return fmt.Sprintf("%s  (%s: %s)", text, v.From, v.Written)
	case v.From != "":
		return fmt.Sprintf("%s  (%s)", text, v.From)
	}
	return text
}
