package server

import (
	"context"
	"strings"
	"testing"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/model/layout"
)

// A deployment to disk carries the layout that it was armed with: that of the request, else the node's, else the one disk.
func TestDeploy_to_disk_takes_the_layout_with_it(t *testing.T) {
	const own, other = "disk system: largest\n  root rest ext4 /\n", "disk system: smallest\n  root rest xfs /\n"
	s := start(t, shortDir(t))
	s.add("r1n[1-2]")
	s.must("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n2"}, Set: []api.Assignment{attr("disk.layout", own)}}, nil)
	fakeImage(t, s)
	deploy := func(in api.Deploy) error {
		in.Range, in.Image = api.Range{Range: "r1n[1-2]"}, "compute"
		return s.post("/v1/deploy", in, nil)
	}
	layouts := func() (out [2]string) {
		for i, n := range []model.NodeName{"r1n1", "r1n2"} {
			out[i] = s.srv.store.Snapshot().Deployment(n).Layout
		}
		return out
	}
	for _, c := range []struct {
		in   api.Deploy
		want [2]string
	}{
		{api.Deploy{}, [2]string{}},
		{api.Deploy{Disk: true}, [2]string{layout.Default, own}},
		{api.Deploy{Disk: true, Layout: other}, [2]string{other, other}},
	} {
		if err := deploy(c.in); err != nil {
			t.Fatal(err)
		}
		if got := layouts(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.in, got, c.want)
		}
	}
	p, err := s.srv.planOf(s.srv.store.Snapshot(), "r1n1")
	if err != nil || p.Disk == nil || p.Disk.Layout != other || p.Disk.Kernel.Digest == "" {
		t.Errorf("%+v %v", p, err)
	}
	wants(t, deploy(api.Deploy{Disk: true, Layout: "disk a: locale\n"}), api.Usage, "line 1, column 9", "locale")
	wants(t, deploy(api.Deploy{Layout: other}), api.Usage, "to disk only")
	wants(t, s.post("/v1/set", api.SetAttrs{Range: api.Range{Range: "r1n1"}, Set: []api.Assignment{attr("disk.layout", "disk a: locale")}}, nil), api.Usage, "disk.layout", "line 1, column 9")
}

func TestLayout_plans_for_the_disks_that_a_node_reported(t *testing.T) {
	s := start(t, shortDir(t))
	s.add("r1n[1-3]", attr("net.boot.mac", "52:54:00:77:00:{n0:02x}"), attr("net.boot.address", "10.77.1.{n0}"), attr("net.boot.prefix", "16"))
	disk := model.Disk{Name: "sda", Size: 480103981056, Serial: "S1", Bus: "sata", WWN: "naa.5002538e00000001"}
	second := disk
	second.Name, second.Serial = "sdb", "S2"
	s.commit(model.Op{Kind: model.KindState, Name: "r1n1", Doc: &model.State{Node: "r1n1", Facts: &model.Facts{Disks: []model.Disk{disk}, UEFI: true}}},
		model.Op{Kind: model.KindState, Name: "r1n2", Doc: &model.State{Node: "r1n2", Facts: &model.Facts{Disks: []model.Disk{disk, second}}}})
	got := map[string]api.LayoutResult{}
	ask := func(in api.Layout) {
		t.Helper()
		for line, err := range api.Stream[api.LayoutResult](context.Background(), s.client, "POST", "/v1/layout", in, nil) {
			if line.Node != "" {
				got[line.Node] = line
			}
			_ = err // of the nodes, which their lines have
		}
	}
	ask(api.Layout{Range: api.Range{Range: "r1n[1-3]"}})
	if text := got["r1n1"].Text; !strings.Contains(text, "mkfs.vfat") || !strings.Contains(text, "sfdisk -q --wipe always --wipe-partitions always /dev/sda") {
		t.Errorf("r1n1: %+v", got["r1n1"])
	}
	for n, why := range map[string]string{"r1n2": "2 disks are local", "r1n3": "has not reported"} {
		if e := got[n].Error; e == nil || !strings.Contains(e.Why, why) {
			t.Errorf("%s: %+v, want %q", n, got[n], why)
		}
	}
	ask(api.Layout{Range: api.Range{Range: "r1n1"}, For: "kickstart"})
	if text := got["r1n1"].Text; !strings.Contains(text, "--ip=10.77.1.1 --netmask=255.255.0.0") || !strings.Contains(text, "disk/by-id/wwn-0x5002538e00000001") {
		t.Errorf("r1n1: %+v", got["r1n1"])
	}
	wants(t, s.post("/v1/layout", api.Layout{Range: api.Range{Range: "r1n1"}, For: "anaconda"}, nil), api.Usage, "kickstart")
}
