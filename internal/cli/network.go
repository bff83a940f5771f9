package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/model"
)

func networks(s *session) *cobra.Command {
	f := &family[model.Network]{
		noun: "network", job: JobDescribe, short: "Networks: what ports of nodes have in common, written once",
		fields:  []string{"prefix", "gateway", "dns", "domain", "vlan", "mtu", "mode", "comment"},
		example: "compute prefix=10.77.0.0/16 gateway=10.77.0.1 dns=10.77.0.2,10.77.0.3",
		remove:  "Ports that name it are told.",
		name:    func(n *model.Network) string { return string(n.Name) },
		head:    []string{"NETWORK", "PREFIX", "GATEWAY", "DNS", "VLAN", "MODE", "COMMENT"},
		row: func(n *model.Network) []string {
			vlan := ""
			if n.VLAN > 0 {
				vlan = strconv.Itoa(n.VLAN)
			}
			return []string{string(n.Name), n.Prefix, n.Gateway, strings.Join(n.DNS, ","), vlan, n.Mode, n.Comment}
		},
	}
	return f.command(s)
}
