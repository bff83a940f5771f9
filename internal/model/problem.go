package model

import (
	"strconv"
	"strings"
)

// Problem is one thing wrong with a value or a document: what, why, what to do. It is an error, too.
type Problem struct {
	Node  NodeName  // the node it is about; empty for groups and expressions by themselves
	Group GroupName // the group it is about
	Of    string    // any other document it is about: "network compute"
	Attr  AttrName
	What  string
	Why   string
	Do    string
}

func (p *Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Node != "":
		b.WriteString(string(p.Node) + ": ")
	case p.Group != "":
		b.WriteString("group " + string(p.Group) + ": ")
	case p.Of != "":
		b.WriteString(p.Of + ": ")
	}
	if p.Attr != "" && !strings.Contains(p.What, string(p.Attr)) {
		b.WriteString(string(p.Attr) + ": ")
	}
	b.WriteString(p.What)
	if p.Why != "" {
		b.WriteString(": " + p.Why)
	}
	if p.Do != "" {
		b.WriteString(". " + p.Do)
	}
	return b.String()
}

// quoted shows a value in a message: as it is when it is plain, quoted and cut when it is not.
func quoted(s string) string {
	const longest = 80
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == '"' || !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}
