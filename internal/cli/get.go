package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func get(s *session) *cobra.Command {
	var blame, own bool
	c := &cobra.Command{
		Use:        "get NODERANGE [attr …]",
		SuggestFor: []string{"lsdef", "nodeattrib", "show"},
		GroupID:    JobDescribe,
		Short:      "Show effective attributes of nodes; --blame says where each comes from",
		Long: `Show the effective attributes of nodes: their own, or inherited from their groups, or defaults.
Attributes may be globs; without any, all that are set are shown. Secrets are masked.

--own shows what the nodes have themselves, as it was written: expressions, and "" where
something inherited is masked. Printed with --csv or --yaml it is what muster node add -f and
muster set -f read, but for secrets, which are left out.`,
		Example: `  muster get r1n7
  muster get compute bmc.address net.*.mac --table
  muster get r1n7 'bmc.*' --blame
  muster get compute --own --yaml > compute.yaml`,
		Args: args(1, -1),
	}
	format := s.formatFlags(c)
	c.RunE = func(c *cobra.Command, a []string) error {
		as, err := format()
		if err != nil {
			return err
		}
		if as != "" && (blame || s.flags.fold) {
			return usage("get --"+as, "it goes neither with --blame nor with --fold", "Leave one of them out")
		}
		if blame && own {
			return usage("get --own", "it goes not with --blame: it all comes from the node", "Leave one of them out")
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		q := question[api.NodeAttrs]{
			what: "get", path: "/v1/get",
			in:   api.GetAttrs{Range: r, Attrs: a[1:], Blame: blame, Own: own},
			node: func(n *api.NodeAttrs) *api.Result { return &n.Result },
			text: func(n *api.NodeAttrs) []string {
				lines := make([]string, len(n.Attrs))
				for i, v := range n.Attrs {
					lines[i] = attrText(v)
				}
				return lines
			},
		}
		if as == "" {
			return ask(c.Context(), s, q)
		}
		t := sheet{key: "node"}
		q.text = func(n *api.NodeAttrs) []string {
			t.rows = append(t.rows, sheetRow{n.Node, n.Attrs})
			return nil
		}
		if err := ask(c.Context(), s, q); err != nil {
			return err
		}
		return s.print(as, t)
	}
	c.Flags().BoolVar(&blame, "blame", false, "say where each value comes from, and how it was written")
	c.Flags().BoolVar(&own, "own", false, "what the nodes have themselves, as it was written")
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
