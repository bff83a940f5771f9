package model

// GroupsOf returns the groups of a node in the order of inheritance: those that it lists, the dynamic ones in natural order, and Everything.
func (s *Snapshot) GroupsOf(n *Node) []GroupName { return s.groupsOf(n, false) }
