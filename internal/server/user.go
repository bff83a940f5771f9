package server

import (
	"strings"

	"muster/internal/api"
	"muster/internal/model"
)

var users = &family[model.User]{
	kind: model.KindUser, noun: "user",
	all:  (*model.Snapshot).Users,
	name: func(u *model.User) string { return string(u.Name) },
	make: func(name string) *model.User { return &model.User{Name: model.UserName(name)} },
	fields: []member[model.User]{
		words(func(u *model.User) *[]model.RoleName { return &u.Roles }, "roles", "role"),
		text(func(u *model.User) *string { return &u.Comment }, "comment"),
	},
	refuse: func(u *model.User) error {
		if u.Name == "root" && len(u.Roles) > 0 {
			return &api.Error{
				Code: api.Usage, What: "user root", Why: "roles do not limit root on a manager: the files of the store are its own",
				Do: "Give roles to the others, and keep root to those who need it",
			}
		}
		return nil
	},
	usedBy: func(snap *model.Snapshot, name string) string {
		if u := snap.User(model.UserName(name)); u != nil && len(u.Roles) > 0 {
			return "its roles (" + strings.Join(convert[string](u.Roles), ", ") + ") do not limit it any more: as an administrator it may everything"
		}
		return ""
	},
}
