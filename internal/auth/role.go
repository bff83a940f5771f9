package auth

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"muster/internal/model"
	"muster/internal/model/noderange"
)

// Free are verbs that tell nothing of nodes: whoever is known may use them.
var free = []string{"version", "whoami", "attributes", "expand", "fold", "openapi"}

// looks are verbs that only look, and not at single nodes: a role allows them whatever its range.
var looks = []string{"group list", "network list", "image list", "image show", "image check", "image diff", "console list", "discover list", "events", "group get", "plugin list"}

// scoped are the verbs over nodes: a role with a range allows them on its nodes, and they are asked about again when the nodes are known
// (see [Allow]). A verb that is in none of these lists takes a role without a range.
var scoped = []string{
	"node add", "node remove", "node rename", "set", "get", "list", "lock", "unlock", "take", "release", "group add", "group remove", "group set", "group rename",
	"status", "why", "history", "undo", "secret reveal", "power", "bootdev", "deploy", "run", "copy", "console",
	"sensors", "eventlog", "inventory", "identify", "bmc info", "bmc test", "bmc trust", "bmc reset", "bmc get", "bmc set", "bmc raw", "firmware list", "firmware update",
}

// Roles are those that a party has; limited says that it may do what they allow and nothing else. Root at the socket is not limited: the
// files of the store are its own, and so it is who can put right what roles shut out.
func Roles(s *model.Snapshot, w Who) (_ []*model.Role, limited bool) {
	if w.User == "" || w.Root {
		return nil, false
	}
	u := s.User(w.User)
	if u == nil || len(u.Roles) == 0 {
		return nil, false
	}
	var out []*model.Role
	for _, r := range u.Roles {
		if role := s.Role(r); role != nil {
			out = append(out, role)
		}
	}
	return out, true
}

// Allow says whether a party may use a verb of the administration. Nodes nil asks about the verb by itself, before it is known which nodes
// it is about; then the verb may be the first words of what is asked later: "power" of "power off".
//
// A user whose document has roles may do what one of these allows, on the nodes that the role's range names. Else administrators may
// do everything and others nothing. The error is a [*DeniedError].
func Allow(s *model.Snapshot, w Who, verb string, nodes []model.NodeName) error {
	mine, limited := Roles(s, w)
	if !limited {
		if w.Kind == Administrator || w.User != "" && slices.Contains(free, verb) {
			return nil
		}
		return &DeniedError{Who: w, Verb: verb}
	}
	if slices.Contains(free, verb) {
		return nil
	}
	asked := nodes == nil
	left := nodes // no role allows the verb on these
	granted := false
	for _, v := range forms(verb) {
		g, _ := s.Allows(w.User, v)
		granted = granted || len(g.Roles) > 0
		if g.All {
			return nil
		}
		left = g.Denied(left)
	}
	switch {
	case !asked && granted && len(left) == 0:
		return nil
	case asked && slices.Contains(scoped, verb) && (granted || slices.ContainsFunc(mine, func(r *model.Role) bool { return begins(r, verb) })):
		return nil
	case asked && slices.Contains(looks, verb) && granted:
		return nil
	}
	d := &DeniedError{Who: w, Verb: verb, Nodes: left}
	for _, r := range mine {
		d.Roles = append(d.Roles, r.Name)
	}
	for r := range s.Roles() {
		if covers(r, verb) && (r.Range == "" || asked && slices.Contains(scoped, verb) || !asked && within(s, r, left)) {
			d.Needed = append(d.Needed, r.Name)
		}
	}
	return d
}

// Nodes are those that a party may use a verb on; all says that no role keeps it from any.
func Nodes(s *model.Snapshot, w Who, verb string) (_ map[model.NodeName]bool, all bool) {
	if _, limited := Roles(s, w); !limited {
		return nil, true
	}
	out := map[model.NodeName]bool{}
	for _, v := range forms(verb) {
		g, _ := s.Allows(w.User, v)
		if g.All {
			return nil, true
		}
		if len(g.Roles) == 0 {
			continue
		}
		for n := range s.Nodes() {
			if g.Node(n.Name) {
				out[n.Name] = true
			}
		}
	}
	return out, false
}

// forms are the names that allow a verb: "power" allows "power on", too.
func forms(verb string) []string {
	out := []string{verb}
	for {
		i := strings.LastIndexByte(verb, ' ')
		if i < 0 {
			return out
		}
		verb = verb[:i]
		out = append(out, verb)
	}
}

// covers says that a role names one of the forms of a verb, or matches it.
func covers(r *model.Role, verb string) bool {
	return slices.ContainsFunc(r.Verbs, func(glob string) bool {
		return slices.ContainsFunc(forms(verb), func(v string) bool { ok, _ := path.Match(glob, v); return ok })
	})
}

// begins says that a role allows some form of a verb that is only begun: "power status" of "power".
func begins(r *model.Role, verb string) bool {
	return slices.ContainsFunc(r.Verbs, func(v string) bool { return strings.HasPrefix(v, verb+" ") })
}

// within says that all of the nodes are in a role's range, as far as it is known: it is for advice only.
func within(s *model.Snapshot, r *model.Role, nodes []model.NodeName) bool {
	has, err := s.Expand(r.Range, noderange.Options{})
	return err == nil && !slices.ContainsFunc(nodes, func(n model.NodeName) bool { return !slices.Contains(has, n) })
}

// DeniedError says who may not do what, where, and which roles would allow it.
type DeniedError struct {
	Who    Who
	Verb   string
	Nodes  []model.NodeName // on which of the nodes not; none where it is about the verb
	Roles  []model.RoleName // those that they have
	Needed []model.RoleName // each of which would do
}

func (e *DeniedError) Error() string {
	text := fmt.Sprintf("%s may not use %s", e.Who.Name, e.Verb)
	if len(e.Nodes) > 0 {
		text += " on " + e.folded()
	}
	switch len(e.Roles) {
	case 0:
	case 1:
		text += ": the role " + string(e.Roles[0]) + " does not allow it"
	default:
		text += ": the roles " + join(e.Roles) + " do not allow it"
	}
	return text
}

func (e *DeniedError) folded() string {
	names := make([]string, len(e.Nodes))
	for i, n := range e.Nodes {
		names[i] = string(n)
	}
	return noderange.Fold(names)
}

func join(r []model.RoleName) string {
	names := make([]string, len(r))
	for i, n := range r {
		names[i] = string(n)
	}
	return strings.Join(names, ", ")
}

// Do says what would help.
func (e *DeniedError) Do() string {
	switch {
	case len(e.Needed) > 0:
		which := "the role "
		if len(e.Needed) > 1 {
			which = "one of the roles "
		}
		return fmt.Sprintf("It takes "+which+"%s; somebody who may gives it: muster user set %s roles+=%s", join(e.Needed), e.Who.User, e.Needed[0])
	case len(e.Roles) > 0:
		made := "muster role add NAME verbs='" + e.Verb + "'"
		if len(e.Nodes) > 0 {
			made += " range=" + e.folded()
		}
		return "It takes a role that nobody has made yet; somebody who may makes it: " + made
	case e.Who.Kind == Other:
		return "Run it as root, become a member of the group " + Group + ", or have somebody give you a role: muster user add " + string(e.Who.User) + " roles=ROLE"
	}
	return "Show an administrator's certificate: --identity FILE"
}
