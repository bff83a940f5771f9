package model

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"muster/internal/model/noderange"
)

// Grant is on which nodes a user may use a verb. It belongs to one snapshot. The zero value allows nothing.
type Grant struct {
	All   bool       // on every node, those that are still to be added too, and where no node is concerned
	Roles []RoleName // that allow the verb, on these nodes or others; none: the verb is not allowed at all

	// Broken are roles that allow the verb, whose ranges have no answer: they allow nothing until they are mended.
	Broken []Problem

	names *noderange.Names
	nodes *noderange.Set // nil for none
}

// Allows says on which nodes a user may use a verb ("power", "image build"). ruled is false when the user is not known, or has no role: the
// model does not say then what the user may do. The nodes of a role are found once for all users and verbs, and kept until
// something changes on which they may depend.
func (s *Snapshot) Allows(user UserName, verb string) (g Grant, ruled bool) {
	u := s.User(user)
	if u == nil || len(u.Roles) == 0 {
		return Grant{}, false
	}
	var sets []*noderange.Set
	for _, name := range u.Roles {
		r := s.Role(name)
		if r == nil || !r.has(verb) {
			continue
		}
		g.Roles = append(g.Roles, name)
		if r.Range == "" {
			g.All = true
			continue
		}
		set, err := s.nodesOf(r)
		if err != nil {
			g.Broken = append(g.Broken, Problem{Of: "role " + string(name), What: "its range " + quoted(r.Range) + " has no answer", Why: err.Error(), Do: "Set another range of the role"})
			continue
		}
		sets = append(sets, set)
	}
	g.names = s.Names()
	switch {
	case g.All || len(sets) == 0:
	case len(sets) == 1:
		g.nodes = sets[0]
	default:
		g.nodes = sets[0].Clone()
		for _, o := range sets[1:] {
			g.nodes.Or(o)
		}
	}
	return g, true
}

// Node says that the verb is allowed on a node of the snapshot.
func (g *Grant) Node(n NodeName) bool {
	if g.All {
		return true
	}
	if g.nodes == nil {
		return false
	}
	id, ok := g.names.Find(string(n))
	return ok && g.nodes.Has(id)
}

// Denied returns those of the nodes on which the verb is not allowed, in the order given; nil when it is on all.
func (g *Grant) Denied(nodes []NodeName) []NodeName {
	if g.All {
		return nil
	}
	var out []NodeName
	for _, n := range nodes {
		if !g.Node(n) {
			out = append(out, n)
		}
	}
	return out
}

// has says that a role allows a verb.
func (r *Role) has(verb string) bool {
	return slices.ContainsFunc(r.Verbs, func(glob string) bool {
		ok, err := path.Match(glob, verb)
		return ok && err == nil
	})
}

// excludes finds what may be an exclusion in a noderange.
var excludes = regexp.MustCompile(`(^|[,(\s])-|[!^]`)

// nodesOf are the nodes of a role. Names that are unknown by now are left out, as a role outlives its nodes; but not where they may be
// excluded: without them the role would allow more.
func (s *Snapshot) nodesOf(r *Role) (*noderange.Set, error) {
	if set, ok := s.found.roles.Load(r.Range); ok {
		return set.(*noderange.Set), nil
	}
	nodes, err := noderange.Expand(s.World(), r.Range, noderange.Options{Known: !excludes.MatchString(r.Range)})
	if err != nil {
		return nil, err
	}
	names := s.Names()
	set := noderange.NewSet(names.Len())
	for _, n := range nodes {
		if id, ok := names.Find(n); ok {
			set.Add(id)
		}
	}
	s.found.roles.Store(r.Range, set)
	return set, nil
}

// checkUserName says why s cannot be the name of a user: those of useradd(8), and the common names of certificates.
func checkUserName(s string) *Problem {
	bad := func(why string) *Problem {
		return &Problem{What: quoted(s) + " cannot be the name of a user", Why: why, Do: "Use letters, digits and . _ - @ inside"}
	}
	switch {
	case s == "":
		return bad("it is empty")
	case len(s) > 253:
		return bad(fmt.Sprintf("it has %d octets, of at most 253", len(s)))
	case s[0] == '-' || s[0] == '.' || s[0] == '@':
		return bad(fmt.Sprintf("it begins with %c", s[0]))
	}
	for _, r := range s {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-@", r)) {
			return bad(fmt.Sprintf("it holds %q", r))
		}
	}
	return nil
}

func (c *checker) user(name string, u *User) {
	tell := c.teller("user " + name)
	if string(u.Name) != name {
		tell(&Problem{What: "its document is put under another name than " + quoted(string(u.Name))})
		return
	}
	tell(checkUserName(name))
	for i, r := range u.Roles {
		switch {
		case c.s.Role(r) == nil:
			p := &Problem{What: "no role " + quoted(string(r)), Do: "muster role add " + string(r)}
			if near := noderange.Nearest(string(r), func(yield func(string) bool) {
				for r := range c.s.Roles() {
					if !yield(string(r.Name)) {
						return
					}
				}
			}); near != "" {
				p.Do = "Did you mean " + near + "? A new one is made by: muster role add " + string(r)
			}
			tell(p)
		case slices.Contains(u.Roles[:i], r):
			tell(&Problem{What: "it has the role " + string(r) + " twice", Do: "Leave one out"})
		}
	}
	tell(checkComment(u.Comment))
}

func (c *checker) role(name string, r *Role) {
	tell := c.teller("role " + name)
	if string(r.Name) != name {
		tell(&Problem{What: "its document is put under another name than " + quoted(string(r.Name))})
		return
	}
	tell(CheckName(name))
	if len(r.Verbs) == 0 {
		tell(&Problem{What: "it allows no verb", Do: "Name some, or globs of them: power 'image *'"})
	}
	for _, v := range r.Verbs {
		if _, err := path.Match(v, ""); err != nil || !verbLetters(v) {
			tell(&Problem{What: quoted(v) + " is no verb", Do: "Write power, 'image build', 'image *' or '*'"})
		}
	}
	if r.Range != "" {
		p, err := noderange.Parse(r.Range)
		if err != nil {
			tell(&Problem{What: "the range " + quoted(r.Range) + " is wrong", Why: err.Error()})
		} else {
			for _, q := range p.Queries() {
				if _, _, err := c.s.prepare(q); err != nil {
					tell(&Problem{What: "the range " + quoted(r.Range) + " is wrong", Why: strings.TrimPrefix(err.Error(), "noderange: ")})
				}
			}
			c.unknownNames(r, tell)
		}
	}
	tell(checkComment(r.Comment))
}

// unknownNames tells the names in a role's range that there are not: later they may go, but who writes them means something.
func (c *checker) unknownNames(r *Role, tell func(*Problem)) {
	_, err := noderange.Expand(c.s.World(), r.Range, noderange.Options{})
	if e := (*noderange.Error)(nil); errors.As(err, &e) && len(e.Unknown) > 0 {
		tell(&Problem{What: "the range " + quoted(r.Range) + " is wrong", Why: e.Error()})
	}
}

// roleRemoved checks that no user has a role that is gone.
func (c *checker) roleRemoved(name RoleName) {
	var users []string
	for u := range c.s.Users() {
		if slices.Contains(u.Roles, name) {
			users = append(users, string(u.Name))
		}
	}
	if len(users) > 0 {
		c.tell(Problem{Of: "role " + string(name), What: fmt.Sprintf("%d users have it", len(users)), Why: cut(strings.Join(users, ", ")), Do: "Take it away from them first"})
	}
}

// verbLetters says that text is words of small letters, or globs of them.
func verbLetters(s string) bool {
	for _, word := range strings.Split(s, " ") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz-*?") != "" {
			return false
		}
	}
	return true
}

func checkComment(s string) *Problem {
	if !readable(s) {
		return &Problem{What: "comment: " + quoted(s) + " is not readable text", Do: "Leave control characters out"}
	}
	return nil
}

// teller tells problems of one document.
func (c *checker) teller(of string) func(*Problem) {
	return func(p *Problem) {
		if p != nil {
			q := *p
			q.Of = of
			c.tell(q)
		}
	}
}

func (c *checker) manager(name string, m *Manager) {
	tell := c.teller("manager " + name)
	if string(m.Name) != name {
		tell(&Problem{What: "its document is put under another name than " + quoted(string(m.Name))})
	}
	tell(CheckName(name))
}

func (c *checker) sealKey(name string, k *SealKey) {
	tell := c.teller("data key " + name)
	if k.ID != name {
		tell(&Problem{What: "its document is put under another name than " + quoted(k.ID)})
	}
	if len(name) != 8 || strings.Trim(name, "0123456789abcdef") != "" {
		tell(&Problem{What: quoted(name) + " cannot name a data key", Why: "that takes 8 hex digits"})
	}
	if k.Wrapped == "" {
		tell(&Problem{What: "it holds no key"})
	}
}
