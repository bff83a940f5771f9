package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func layoutVerb(s *session) *cobra.Command {
	var q api.Layout
	c := &cobra.Command{
		Use:     "layout NODERANGE [FILE]",
		GroupID: JobDeploy,
		Short:   "Show what a disk layout would do on nodes, or as an installer is told",
		Long: `Show what deploy --disk would do with the disks that the nodes last reported, as if these were empty: every command, or why nothing
may be done. FILE is a layout (- is standard input); without one it is the node's disk.layout. The language: muster deploy -h.

With --for the same plan is written as the answers of an installer: preseed (Debian), kickstart (EL), autoinstall (Ubuntu), autoyast
(SUSE), cloud-init, ignition. What an installer cannot do is refused with the reason. They are printed as they are, one node's after the other's. Nothing is changed.`,
		Example: "  muster layout r1n1\n  muster layout rack1 disks.txt --fold\n  muster layout r1n1 --for kickstart --mirror http://mirror.example.org/el9 > ks.cfg",
		Args:    args(1, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) (err error) {
		if len(a) > 1 {
			if q.Text, err = s.readLayout(a[1]); err != nil {
				return err
			}
		}
		if q.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		return ask(c.Context(), s, question[api.LayoutResult]{
			what: "layout", path: "/v1/layout", in: q,
			node: func(r *api.LayoutResult) *api.Result { return &r.Result },
			text: func(r *api.LayoutResult) []string {
				if q.For != "" && !s.flags.json { // as it goes into a file
					fmt.Fprint(s.out, r.Text)
					return nil
				}
				return []string{strings.TrimSuffix(r.Text, "\n")}
			},
		})
	}
	f := c.Flags()
	f.StringVar(&q.For, "for", "", "write the answers of an `installer`")
	f.StringVar(&q.Mirror, "mirror", "", "`URL` where the installer finds packages")
	f.StringVar(&q.Suite, "suite", "", "`name` of the Debian release that is installed")
	return s.rangeFlags(c)
}
