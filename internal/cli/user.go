package cli

import (
	"github.com/spf13/cobra"

	"muster/internal/model"
)

func users(s *session) *cobra.Command {
	f := &family[model.User]{
		noun: "user", job: JobPeople, short: "People and programs, and the roles that limit them",
		fields:  []string{"roles", "comment"},
		example: "ann roles=operator comment='night shift'",
		remove:  "One who is an administrator may everything then.",
		name:    func(u *model.User) string { return string(u.Name) },
		head:    []string{"USER", "ROLES", "COMMENT"},
		row:     func(u *model.User) []string { return []string{string(u.Name), joined(u.Roles), u.Comment} },
	}
	return f.command(s)
}
