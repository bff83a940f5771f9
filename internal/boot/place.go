package boot

import (
	"fmt"
	"net/netip"
	"strings"

	"muster/internal/model"
)

// mostPlaces is how many managers a node is told of: enough that one may be dead and another restarted.
const mostPlaces = 3

// places are the managers that serve the node, this one first. Those that its network reaches without a router come before others,
// which it is told of only where it has a gateway.
func places(s *model.Snapshot, r Request, port nic) []Server {
	out := []Server{r.Server}
	var far []Server
	for m := range s.Managers() {
		if m.Name == r.Server.Manager {
			continue
		}
		for _, b := range m.Boot {
			p, err := netip.ParsePrefix(b.Address)
			switch {
			case err != nil || p.Addr().Is4() != r.Server.Address.Is4() || p.Addr() == r.Server.Address:
				continue
			case r.Server.Network.Contains(p.Addr()):
				out = append(out, Server{Address: p.Addr(), HTTPPort: b.HTTP, APIPort: b.API})
			case port.gateway.IsValid():
				far = append(far, Server{Address: p.Addr(), HTTPPort: b.HTTP, APIPort: b.API})
			}
		}
	}
	out = append(out, far...)
	return out[:min(len(out), mostPlaces)]
}

// ours says that an address is that of a manager of this pool.
func ours(s *model.Snapshot, a netip.Addr) bool {
	for m := range s.Managers() {
		for _, b := range m.Boot {
			if p, err := netip.ParsePrefix(b.Address); err == nil && p.Addr() == a {
				return true
			}
		}
	}
	return false
}

// serverArg is where nodes enrol, at several managers: "https://10.77.0.1:7443,https://10.77.0.2:7443".
func serverArg(at []Server) string {
	urls := make([]string, len(at))
	for i, p := range at {
		urls[i] = fmt.Sprintf("https://%s", netip.AddrPortFrom(p.Address, uint16(p.APIPort)))
	}
	return strings.Join(urls, ",")
}
