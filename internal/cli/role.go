package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/model"
)

func roles(s *session) *cobra.Command {
	f := &family[model.Role]{
		noun: "role", job: JobPeople, short: "Roles: which verbs on which nodes",
		fields:  []string{"verbs", "range", "comment"},
		example: "operator verbs='power,status,console' range=rack1",
		remove:  "Users who have it are told.",
		name:    func(r *model.Role) string { return string(r.Name) },
		head:    []string{"ROLE", "VERBS", "ON", "COMMENT"},
		row: func(r *model.Role) []string {
			return []string{string(r.Name), strings.Join(r.Verbs, ","), or(r.Range, "everything"), r.Comment}
		},
	}
	return f.command(s)
}

func joined[S ~string](in []S) string {
	parts := make([]string, len(in))
	for i, v := range in {
		parts[i] = string(v)
	}
	return strings.Join(parts, ",")
}
