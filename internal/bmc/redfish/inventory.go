package redfish

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"muster/internal/bmc"
)

// parts gathers the parts of a machine, each under a name of its own.
type parts struct {
	all  []bmc.Part
	used map[string]int
}

// add takes a part, unless there is nothing in its place. A name that is taken gets the next number, in the order of the controller.
func (l *parts) add(slot string, h health, p bmc.Part) {
	if h.State == "Absent" {
		return
	}
	if p.Health = h.plain(); p.Health == bmc.Unknown {
		p.Health = ""
	}
	slot = strings.Join(strings.Fields(slot), " ")
	if l.used[slot]++; l.used[slot] > 1 {
		slot = fmt.Sprintf("%s #%d", slot, l.used[slot])
	}
	for k, v := range p.Other {
		if v == "" {
			delete(p.Other, k)
		}
	}
	if len(p.Other) == 0 {
		p.Other = nil
	}
	p.Slot = slot
	l.all = append(l.all, p)
}

// has says whether a part of a kind is listed, by its serial number.
func (l *parts) has(kind string, serial text) bool {
	return serial != "" && slices.ContainsFunc(l.all, func(p bmc.Part) bool { return p.Kind == kind && p.Serial == string(serial) })
}

// Inventory walks over the parts.
func (d *driver) Inventory(ctx context.Context) ([]bmc.Part, error) {
	l := &parts{used: map[string]int{}}
	err := d.with(ctx, "inventory", func(ctx context.Context, p *peer, at *place) error {
		s, err := p.system(ctx, at)
		if err != nil {
			return err
		}
		l.add("machine", health{}, bmc.Part{
			Kind: "machine", Vendor: string(s.Manufacturer), Model: string(s.Model), Serial: string(s.SerialNumber), Number: string(either(s.PartNumber, s.SKU)),
			Firmware: string(s.BiosVersion), Other: map[string]string{"asset tag": string(s.AssetTag), "uuid": strings.ToLower(string(s.UUID))},
		})
		boxes, err := p.boxes(ctx, at)
		if err != nil {
			return err
		}
		for _, walk := range []func() error{
			func() error { return p.processors(ctx, s, l) },
			func() error { return p.memory(ctx, s, l) },
			func() error { return p.storage(ctx, s, l) },
			func() error { return p.network(ctx, s, boxes, l) },
			func() error { return p.pcie(ctx, s, boxes, l) },
			func() error { return p.boxParts(ctx, boxes, l) },
		} {
			if err := walk(); err != nil {
				return err
			}
		}
		_, m, err := p.manager(ctx, at)
		if err != nil {
			return err
		}
		l.add("BMC", m.Status, bmc.Part{
			Kind: "bmc", Vendor: string(m.Manufacturer), Model: string(m.Model), Serial: string(m.SerialNumber), Number: string(m.PartNumber), Firmware: string(m.FirmwareVersion),
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(l.all, func(a, b bmc.Part) int { return strings.Compare(a.Slot, b.Slot) })
	return l.all, nil
}

// slot names a part by what kind it is and where, without saying the kind twice: "CPU 1", "CPU.Socket.1".
func slot(kind string, where text) string {
	if strings.HasPrefix(strings.ToLower(string(where)), strings.ToLower(kind)) {
		return string(where)
	}
	return kind + " " + string(where)
}

func (p *peer) processors(ctx context.Context, s system, l *parts) error {
	all, err := members[processor](ctx, p, s.Processors.ID)
	if err != nil {
		return err
	}
	for _, c := range all {
		kind, name := "cpu", "CPU"
		switch c.ProcessorType {
		case "CPU", "":
		case "GPU":
			kind, name = "gpu", "GPU"
		case "Core", "Thread":
			continue
		default:
			kind, name = "pcie", string(c.ProcessorType)
		}
		o := map[string]string{}
		if c.MaxSpeedMHz.int() > 0 {
			o["speed"] = fmt.Sprintf("%d MHz", c.MaxSpeedMHz.int())
		}
		l.add(slot(name, either(c.Socket, c.ID)), c.Status, bmc.Part{
			Kind: kind, Vendor: string(c.Manufacturer), Model: string(c.Model), Serial: string(c.SerialNumber), Number: string(c.PartNumber),
			Firmware: string(c.FirmwareVersion), Cores: int(c.TotalCores.int()), Threads: int(c.TotalThreads.int()), Other: o,
		})
	}
	return nil
}

func (p *peer) memory(ctx context.Context, s system, l *parts) error {
	all, err := members[memory](ctx, p, s.Memory.ID)
	if err != nil {
		return err
	}
	for _, m := range all {
		if m.CapacityMiB.int() == 0 && m.SerialNumber == "" {
			continue // an empty slot of those who do not say Absent
		}
		o := map[string]string{"type": string(m.DeviceType)}
		if m.OperatingSpeedMhz.int() > 0 {
			o["speed"] = fmt.Sprintf("%d MHz", m.OperatingSpeedMhz.int())
		}
		l.add(slot("DIMM", either(m.DeviceLocator, m.ID)), m.Status, bmc.Part{
			Kind: "memory", Vendor: string(m.Manufacturer), Serial: string(m.SerialNumber), Number: string(m.PartNumber), Firmware: string(m.FirmwareRevision),
			Bytes: m.CapacityMiB.int() << 20, Other: o,
		})
	}
	return nil
}

func (p *peer) storage(ctx context.Context, s system, l *parts) error {
	all, err := members[storage](ctx, p, s.Storage.ID)
	if err != nil {
		return err
	}
	for _, t := range all {
		controllers, err := members[storageController](ctx, p, t.Controllers.ID)
		if err != nil {
			return err
		}
		for _, c := range append(t.StorageControllers, controllers...) {
			name := slot("storage", t.ID)
			if id := either(c.ID, c.MemberID); id != "" && len(t.StorageControllers)+len(controllers) > 1 {
				name += " " + string(id)
			}
			l.add(name, c.Status, bmc.Part{
				Kind: "storage", Vendor: string(c.Manufacturer), Model: string(either(c.Model, c.Name)), Serial: string(c.SerialNumber), Number: string(c.PartNumber),
				Firmware: string(c.FirmwareVersion),
			})
		}
		drives, err := linked[drive](ctx, p, t.Drives)
		if err != nil {
			return err
		}
		for _, v := range drives {
			part := bmc.Part{
				Kind: "disk", Vendor: string(v.Manufacturer), Model: string(v.Model), Serial: string(v.SerialNumber), Number: string(v.PartNumber),
				Firmware: string(either(v.FirmwareVersion, v.Revision)), Bytes: v.CapacityBytes.int(),
				Other: map[string]string{"type": string(v.MediaType), "protocol": string(v.Protocol)},
			}
			for _, i := range v.Identifiers {
				switch i.DurableNameFormat {
				case "NAA", "EUI", "NGUID", "FC_WWN", "":
					part.WWN = wwn(i.DurableName)
				}
			}
			l.add(slot("Disk", either(v.PhysicalLocation.PartLocation.ServiceLabel, v.ID, v.Name)), v.Status, part)
		}
	}
	if len(all) > 0 {
		return nil
	}
	older, err := members[simpleStorage](ctx, p, s.Simple.ID)
	if err != nil {
		return err
	}
	for _, t := range older {
		for _, v := range t.Devices {
			l.add(slot("Disk", v.Name), v.Status, bmc.Part{Kind: "disk", Vendor: string(v.Manufacturer), Model: string(v.Model), Bytes: v.CapacityBytes.int()})
		}
	}
	return nil
}

// wwn is a name as the kernel writes it in /dev/disk/by-id: hexadecimal digits in lower case, nothing between.
func wwn(t text) string {
	s := strings.ToLower(string(t))
	s = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(s, "naa."), "eui."), "0x")
	return strings.NewReplacer(":", "", "-", "", " ", "").Replace(s)
}

// network lists adapters and their ports, and then the interfaces of the system whose address is of none of them.
func (p *peer) network(ctx context.Context, s system, boxes []chassis, l *parts) error {
	known := map[string]bool{}
	for _, b := range boxes {
		adapters, err := members[adapter](ctx, p, b.NetworkAdapters.ID)
		if err != nil {
			return err
		}
		for _, a := range adapters {
			name, firmware := slot("NIC", either(a.ID, a.Name)), text("")
			for _, c := range a.Controllers {
				firmware = either(firmware, c.FirmwarePackageVersion)
			}
			l.add(name, a.Status, bmc.Part{
				Kind: "nic", Vendor: string(a.Manufacturer), Model: string(either(a.Model, a.Name)), Serial: string(a.SerialNumber), Number: string(a.PartNumber),
				Firmware: string(firmware),
			})
			ports, err := members[port](ctx, p, either(a.Ports.ID, a.NetworkPorts.ID))
			if err != nil {
				return err
			}
			for _, q := range ports {
				part := bmc.Part{Kind: "port", Mbps: q.CurrentLinkSpeedMbps.int(), Other: map[string]string{"link": strings.ToLower(string(q.LinkStatus))}}
				if q.CurrentSpeedGbps.v != nil {
					part.Mbps = int64(*q.CurrentSpeedGbps.v * 1000)
				}
				for _, m := range append(q.Ethernet.AssociatedMACAddresses, q.Addresses...) {
					if part.MAC == "" {
						part.MAC = mac(m)
					}
					known[mac(m)] = true
				}
				l.add(name+" port "+string(either(q.PhysicalPortNumber, q.PortID, q.ID)), q.Status, part)
			}
		}
	}
	all, err := members[ethernet](ctx, p, s.Ethernet.ID)
	if err != nil {
		return err
	}
	for _, e := range all {
		m := mac(either(e.PermanentMACAddress, e.MACAddress))
		if known[m] || known[mac(e.MACAddress)] || m == "" {
			continue
		}
		l.add(slot("NIC", either(e.ID, e.Name)), e.Status, bmc.Part{
			Kind: "port", MAC: m, Mbps: e.SpeedMbps.int(), Other: map[string]string{"link": strings.ToLower(string(e.LinkStatus))},
		})
	}
	return nil
}

func (p *peer) pcie(ctx context.Context, s system, boxes []chassis, l *parts) error {
	all, err := linked[pcieDevice](ctx, p, s.PCIeDevices)
	if err != nil {
		return err
	}
	for _, b := range boxes {
		if len(s.PCIeDevices) > 0 {
			break
		}
		more, err := members[pcieDevice](ctx, p, b.PCIeDevices.ID)
		if err != nil {
			return err
		}
		all = append(all, more...)
	}
	for _, v := range all {
		functions, err := members[pcieFunction](ctx, p, v.Functions.ID)
		if err == nil && len(functions) == 0 {
			functions, err = linked[pcieFunction](ctx, p, v.Links.Functions)
		}
		if err != nil {
			return err
		}
		kind, name := "pcie", "PCIe"
		if slices.ContainsFunc(functions, pcieFunction.gpu) {
			kind, name = "gpu", "GPU"
			if l.has(kind, v.SerialNumber) {
				continue // it is among the processors, too
			}
		}
		l.add(slot(name, either(v.ID, v.Name)), v.Status, bmc.Part{
			Kind: kind, Vendor: string(v.Manufacturer), Model: string(either(v.Model, v.Name)), Serial: string(v.SerialNumber), Number: string(v.PartNumber),
			Firmware: string(v.FirmwareVersion),
		})
	}
	return nil
}

// consoles are makers whose display controllers are part of a BMC (PCI vendor ids of Matrox and ASPEED).
var consoles = []string{"0x102b", "0x1a03"}

// gpu says whether a function computes or shows, and is not just the screen of the BMC.
func (f pcieFunction) gpu() bool {
	return (f.DeviceClass == "DisplayController" || f.DeviceClass == "ProcessingAccelerators") && !slices.Contains(consoles, strings.ToLower(string(f.VendorID)))
}

// boxParts lists the chassis themselves and their power supplies.
func (p *peer) boxParts(ctx context.Context, boxes []chassis, l *parts) error {
	for _, b := range boxes {
		l.add(slot("chassis", either(b.ID, b.Name)), b.Status, bmc.Part{
			Kind: "chassis", Vendor: string(b.Manufacturer), Model: string(b.Model), Serial: string(b.SerialNumber), Number: string(b.PartNumber),
			Other: map[string]string{"asset tag": string(b.AssetTag), "type": string(b.ChassisType)},
		})
		var all []powerSupply
		if b.PowerSubsystem.ID != "" {
			var sub struct{ PowerSupplies link }
			if _, err := p.get(ctx, b.PowerSubsystem.ID, &sub); err != nil && !absent(err) {
				return err
			}
			var err error
			if all, err = members[powerSupply](ctx, p, sub.PowerSupplies.ID); err != nil {
				return err
			}
		}
		if len(all) == 0 && b.Power.ID != "" {
			var w power
			if _, err := p.get(ctx, b.Power.ID, &w); err != nil && !absent(err) {
				return err
			}
			all = w.PowerSupplies
		}
		for _, s := range all {
			o := map[string]string{}
			if s.PowerCapacityWatts.int() > 0 {
				o["capacity"] = fmt.Sprintf("%d W", s.PowerCapacityWatts.int())
			}
			l.add(slot("PSU", either(s.MemberID, s.ID, s.Name)), s.Status, bmc.Part{
				Kind: "power", Vendor: string(s.Manufacturer), Model: string(s.Model), Serial: string(s.SerialNumber), Number: string(either(s.PartNumber, s.SparePartNumber)),
				Firmware: string(s.FirmwareVersion), Other: o,
			})
		}
	}
	return nil
}

// Firmware lists what the update service knows.
func (d *driver) Firmware(ctx context.Context) ([]bmc.Firmware, error) {
	var out []bmc.Firmware
	err := d.with(ctx, "firmware", func(ctx context.Context, p *peer, _ *place) error {
		all, _, err := p.software(ctx)
		if err != nil {
			return err
		}
		for name, s := range all {
			out = append(out, bmc.Firmware{Name: name, Version: string(s.Version), Updatable: s.Updateable != nil && *s.Updateable})
		}
		slices.SortFunc(out, func(a, b bmc.Firmware) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return out, err
}

// software reads the firmware inventory, by names that are unique: that of the controller, with the Id behind it where several have the same.
func (p *peer) software(ctx context.Context) (map[string]software, updateService, error) {
	var u updateService
	if p.root.UpdateService.ID == "" {
		return nil, u, &missing{"it does not know its firmware"}
	}
	if _, err := p.get(ctx, p.root.UpdateService.ID, &u); err != nil {
		return nil, u, err
	}
	all, err := members[software](ctx, p, u.FirmwareInventory.ID)
	if err != nil {
		return nil, u, err
	}
	all = slices.DeleteFunc(all, func(s software) bool {
		return slices.ContainsFunc(p.quirk.notInstalled, func(n string) bool { return strings.HasPrefix(string(s.ID), n) }) || s.Status.State == "Absent"
	})
	count := map[text]int{}
	for _, s := range all {
		count[s.Name]++
	}
	out := map[string]software{}
	for _, s := range all {
		name := string(either(s.Name, s.ID))
		if count[s.Name] > 1 {
			name += " (" + string(s.ID) + ")"
		}
		out[name] = s
	}
	return out, u, nil
}
