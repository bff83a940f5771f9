package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/layout"
)

// layout says what a layout would make of nodes, or what their installers are to be told. It changes nothing.
func (s *Server) layout(q *request) error {
	var in api.Layout
	if err := q.read(&in); err != nil {
		return err
	}
	if in.For != "" && !slices.Contains(layout.AnswerKinds(), in.For) {
		return &api.Error{Code: api.Usage, What: "layout", Why: "there is no installer " + in.For, Do: "There are: " + strings.Join(layout.AnswerKinds(), ", ")}
	}
	if in.Text != "" {
		if _, err := layout.Parse(in.Text); err != nil {
			return &api.Error{Code: api.Usage, What: "layout", Why: err.Error()}
		}
	}
	nodes, err := q.nodes("layout", in.Range)
	if err != nil {
		return err
	}
	return each(q, in.Range, nodes, powerFanout, 0, func(_ context.Context, n *model.Node) (api.LayoutResult, *api.Error) {
		out := api.LayoutResult{Result: api.Result{Node: string(n.Name)}}
		var err error
		if out.Text, err = s.layoutOf(q.snap, n, in); err != nil {
			out.Error = &api.Error{Code: api.Failed, What: "layout", Why: err.Error(), Node: string(n.Name)}
			var held *layout.Held
			if errors.As(err, &held) {
				out.Error.Why, out.Error.Do = strings.Join(held.Reasons, "; "), "Change the layout"
			}
		}
		return out, out.Error
	})
}

func (s *Server) layoutOf(snap *model.Snapshot, n *model.Node, in api.Layout) (string, error) {
	text, err := diskLayout(snap, n, in.Text)
	if err != nil {
		return "", err
	}
	l, err := layout.Parse(text)
	if err != nil {
		return "", err
	}
	st := s.seen.get(snap, n.Name)
	if st == nil || st.Facts == nil {
		return "", errors.New("its disks are not known: it has not reported from an image yet. Boot it in memory first: muster deploy " + string(n.Name) + " IMAGE")
	}
	m := layout.Machine{UEFI: st.Facts.UEFI}
	for _, d := range st.Facts.Disks {
		m.Disks = append(m.Disks, layout.BlockDisk{Name: d.Name, Size: d.Size, Model: d.Model, Serial: d.Serial, WWN: d.WWN, Bus: d.Bus, Path: d.Path, Fabric: d.Fabric})
	}
	o := layout.Options{UUID: exampleUUIDs(n.Name)}
	if in.For == "" {
		p, err := layout.Make(l, m, o)
		if err != nil {
			return "", err
		}
		return p.String(), nil
	}
	host := layout.Host{Name: string(n.Name), Keys: []string{s.keys.SSHAuthorizedKey()}, Mirror: in.Mirror, Suite: in.Suite}
	attr := func(a model.AttrName) string {
		v, aerr := snap.Attr(n, a)
		err = errors.Join(err, aerr)
		return v
	}
	host.MAC = attr("net.boot.mac")
	if a, aerr := netip.ParseAddr(attr("net.boot.address")); aerr == nil {
		bits, berr := strconv.Atoi(attr("net.boot.prefix"))
		if berr != nil {
			bits = a.BitLen()
		}
		host.Address = netip.PrefixFrom(a, bits)
	}
	host.Gateway, _ = netip.ParseAddr(attr("net.boot.gateway"))
	for d := range strings.SplitSeq(attr("net.boot.dns"), ",") {
		if a, aerr := netip.ParseAddr(d); aerr == nil {
			host.DNS = append(host.DNS, a)
		}
	}
	if err != nil {
		return "", err
	}
	return layout.Answer(in.For, l, m, o, host)
}

// exampleUUIDs are the same each time that a node is asked about; an installation makes its own.
func exampleUUIDs(n model.NodeName) func() string {
	i := 0
	return func() string {
		i++
		h := sha256.Sum256(fmt.Appendf(nil, "%s %d", n, i))
		return fmt.Sprintf("%x-%x-4%x-8%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])[:36]
	}
}
