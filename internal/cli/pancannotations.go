package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/durable"
	"muster/internal/pan/syntax"
)

// pancAnnotations writes what annotations say, as the command panc-annotations does.
func pancAnnotations(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "annotations FILE…",
		Short: "Write the annotations of templates as XML",
		Long: `Write the annotations of templates as XML, as Quattor's panc-annotations does: of BASE/a/b.pan the file OUTPUT/a/b.pan.annotation.xml.
Files are named relative to the base directory.`,
		Example: "  muster panc annotations --base-dir core --output-dir doc components/ssh/schema.pan",
		Args:    args(1, -1),
	}
	base := c.Flags().String("base-dir", ".", "`directory` of the templates")
	output := c.Flags().String("output-dir", ".", "`directory` for what is written")
	c.Flags().String("java-opts", "", "ignored")
	c.RunE = func(_ *cobra.Command, files []string) error {
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(*base, file))
			if err != nil {
				return &api.Error{Code: api.Failed, What: file, Why: reason(err), Do: "Name it relative to --base-dir"}
			}
			f, errs := syntax.Parse(filepath.Join(*base, file), text)
			if len(errs) == 0 {
				errs = syntax.Check(f)
			}
			for _, e := range errs {
				fmt.Fprintln(s.err, e.Error())
				s.failed = true
			}
			if len(errs) > 0 {
				continue
			}
			to := filepath.Join(*output, file+".annotation.xml")
			if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
				return err
			}
			if err := durable.WriteFile(to, syntax.Annotations(f), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}
