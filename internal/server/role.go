package server

import (
	"slices"
	"strings"

	"muster/internal/model"
)

var roles = &family[model.Role]{
	kind: model.KindRole, noun: "role",
	all:  (*model.Snapshot).Roles,
	name: func(r *model.Role) string { return string(r.Name) },
	make: func(name string) *model.Role { return &model.Role{Name: model.RoleName(name)} },
	fields: []member[model.Role]{
		words(func(r *model.Role) *[]string { return &r.Verbs }, "verbs", "verb"),
		text(func(r *model.Role) *string { return &r.Range }, "range"),
		text(func(r *model.Role) *string { return &r.Comment }, "comment"),
	},
	usedBy: func(snap *model.Snapshot, name string) string {
		var who []string
		for u := range snap.Users() {
			if slices.Contains(u.Roles, model.RoleName(name)) {
				who = append(who, string(u.Name))
			}
		}
		if len(who) == 0 {
			return ""
		}
		return "users have it: " + strings.Join(who, ", ")
	},
}
