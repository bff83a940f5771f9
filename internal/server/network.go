package server

import (
	"fmt"
	"strconv"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
)

var networks = &family[model.Network]{
	kind: model.KindNetwork, noun: "network",
	all:  (*model.Snapshot).Networks,
	name: func(n *model.Network) string { return string(n.Name) },
	make: func(name string) *model.Network { return &model.Network{Name: model.NetworkName(name)} },
	fields: []member[model.Network]{
		text(func(n *model.Network) *string { return &n.Prefix }, "prefix"),
		text(func(n *model.Network) *string { return &n.Gateway }, "gateway"),
		words(func(n *model.Network) *[]string { return &n.DNS }, "dns"),
		text(func(n *model.Network) *string { return &n.Domain }, "domain"),
		number(func(n *model.Network) *int { return &n.VLAN }, "vlan"),
		number(func(n *model.Network) *int { return &n.MTU }, "mtu"),
		text(func(n *model.Network) *string { return &n.Mode }, "mode"),
		text(func(n *model.Network) *string { return &n.Comment }, "comment"),
	},
	usedBy: func(snap *model.Snapshot, name string) string {
		count := 0
		for g := range snap.Groups() {
			count += portsIn(g.Attrs, name)
		}
		for n := range snap.Nodes() {
			count += portsIn(n.Attrs, name)
		}
		if count == 0 {
			return ""
		}
		return fmt.Sprintf("%d ports of nodes and groups name it: muster list 'net.*.network=%s'", count, name)
	},
}

// portsIn counts the ports that are in a network.
func portsIn(attrs map[model.AttrName]string, network string) int {
	count := 0
	for a, v := range attrs {
		if v == network && strings.HasPrefix(string(a), "net.") && strings.HasSuffix(string(a), ".network") {
			count++
		}
	}
	return count
}

// number is a field that counts; 0 is not set.
func number[T any](at func(*T) *int, names ...string) member[T] {
	return member[T]{
		names: names,
		get: func(d *T) []string {
			if v := *at(d); v != 0 {
				return []string{strconv.Itoa(v)}
			}
			return nil
		},
		put: func(d *T, v []string) error {
			*at(d) = 0
			if len(v) == 0 {
				return nil
			}
			n, err := strconv.Atoi(v[0])
			if err != nil || n < 0 {
				return &api.Error{Code: api.Usage, Why: v[0] + " is no number", Do: "Write digits only"}
			}
			*at(d) = n
			return nil
		},
	}
}
