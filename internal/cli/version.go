package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func version(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		GroupID: JobOther,
		Short:   "Show the version of this program and of the service",
		Long:    "Show the version of this program, and of the service where one answers.",
		Example: "  muster version\n  muster version --json",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !s.flags.json {
			fmt.Fprintf(s.out, "muster    %s\n", api.BuildVersion())
		}
		var v api.Version
		if err := s.do(c.Context(), "GET", "/v1/version", nil, &v); err != nil {
			return err
		}
		s.document(struct {
			Program string      `json:"program"`
			Service api.Version `json:"service"`
		}{api.BuildVersion(), v}, func() {
			fmt.Fprintf(s.out, "service   %s\nsince     %s (%s)\nrevision  %d\ndata      %s\nAPI       %s\nboot on   %s\nkey       %s\n",
				v.Version, v.Started.Local().Format(time.DateTime), ago(v.Started, time.Now()), v.Revision, v.Data,
				or(strings.Join(v.API, " "), "-"), or(strings.Join(v.Boot, " "), "no interface"), v.Pin)
		})
		return nil
	}
	return c
}
