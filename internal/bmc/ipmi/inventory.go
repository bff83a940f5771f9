package ipmi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// fru reads one device of the inventory. Data that make no sense are none.
func fru(ask wire.Ask, device byte) (wire.FRU, error) {
	b, err := wire.ReadFRU(ask, device)
	if err != nil {
		return wire.FRU{}, err
	}
	f, _ := wire.ParseFRU(b)
	return f, nil
}

// kinds of parts by entity (table 43-13).
var kinds = map[byte]string{
	3: "cpu", 4: "disk", 5: "storage", 6: "bmc", 7: "board", 8: "memory", 9: "cpu", 10: "power", 11: "pcie", 15: "storage", 16: "pcie", 20: "power", 21: "power", 22: "chassis",
	23: "chassis", 24: "storage", 26: "storage", 28: "storage", 29: "fan", 30: "fan", 32: "memory", 44: "nic", 46: "bmc",
}

// Inventory reads the inventory data of the machine and of all devices that the repository points at. A device that is not there now is left out.
func (d *driver) Inventory(ctx context.Context) (parts []bmc.Part, err error) {
	err = d.talk(ctx, "inventory", func(p *peer, ask wire.Ask) error {
		v, err := device(ask)
		if err != nil {
			return err
		}
		parts = append(parts, bmc.Part{Slot: "bmc", Kind: "bmc", Vendor: wire.Vendor(v.Manufacturer), Firmware: v.Firmware})
		main, err := fru(ask, 0)
		if err != nil && !answered(err) {
			return err
		}
		parts = append(parts, mainParts(main)...)
		k, err := d.repository(p, ask)
		if err != nil {
			if answered(err) { // no repository: the machine's own data are all there is
				return nil
			}
			return err
		}
		slots := map[string]int{}
		for _, l := range k.all.FRUs {
			if !l.Logical || l.Owner != ownController || l.Device == 0 {
				continue
			}
			f, err := fru(ask, l.Device)
			if err != nil && !answered(err) {
				return err
			}
			part, ok := devicePart(f)
			if !ok {
				continue
			}
			part.Slot, part.Kind = l.Name, kinds[l.Entity]
			if part.Slot == "" {
				part.Slot = "FRU " + strconv.Itoa(int(l.Device))
			}
			if n := slots[part.Slot]; n > 0 { // the order of the repository stays the same
				slots[part.Slot]++
				part.Slot = fmt.Sprintf("%s #%d", part.Slot, n+1)
			} else {
				slots[part.Slot] = 1
			}
			if f.Memory != nil {
				part.Kind = "memory"
			}
			if part.Kind == "" {
				part.Kind = "board"
			}
			parts = append(parts, part)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(parts, func(a, b bmc.Part) int { return cmp.Compare(a.Slot, b.Slot) })
	return parts, nil
}

// mainParts are the machine, its board and its chassis.
func mainParts(f wire.FRU) (parts []bmc.Part) {
	for _, a := range []struct {
		kind string
		area *wire.FRUArea
	}{{"machine", f.Product}, {"board", f.Board}, {"chassis", f.Chassis}} {
		if a.area == nil {
			continue
		}
		p := bmc.Part{Slot: a.kind, Kind: a.kind}
		fill(&p, a.area)
		parts = append(parts, p)
	}
	return parts
}

// devicePart is the part that a further device describes: by its product area, and by that of its board where that says more.
func devicePart(f wire.FRU) (p bmc.Part, ok bool) {
	for _, a := range []*wire.FRUArea{f.Board, f.Chassis, f.Product} {
		if a != nil {
			fill(&p, a)
			ok = true
		}
	}
	if f.Supply != nil && f.Supply.Watts > 0 {
		other(&p, "capacity", strconv.Itoa(f.Supply.Watts)+" W")
		ok = true
	}
	if m := f.Memory; m != nil {
		p.Vendor, p.Number, p.Serial, p.Bytes = m.Vendor, m.Number, m.Serial, m.Bytes
		p.Model = m.Kind
		if m.Speed > 0 {
			other(&p, "speed", strconv.Itoa(m.Speed)+" MT/s")
		}
		ok = true
	}
	return p, ok
}

// fill takes over what an area says; what it does not say stays.
func fill(p *bmc.Part, a *wire.FRUArea) {
	for _, v := range []struct {
		to   *string
		from string
	}{{&p.Vendor, a.Vendor}, {&p.Model, a.Name}, {&p.Serial, a.Serial}, {&p.Number, a.Number}} {
		if v.from != "" {
			*v.to = v.from
		}
	}
	other(p, "version", a.Version)
	other(p, "asset tag", a.Asset)
	if !a.Made.IsZero() {
		other(p, "made", a.Made.Format(time.DateOnly))
	}
	if a.Type != 0 {
		other(p, "chassis type", chassisType(a.Type))
	}
	for i, c := range a.Custom {
		other(p, fmt.Sprintf("custom %d", i+1), c)
	}
}

func other(p *bmc.Part, name, value string) {
	if value == "" {
		return
	}
	if p.Other == nil {
		p.Other = map[string]string{}
	}
	p.Other[name] = value
}

// chassisType names what SMBIOS 3.7 §7.4.1 lists and machines in racks are.
func chassisType(t byte) string {
	names := map[byte]string{3: "desktop", 7: "tower", 17: "main server chassis", 23: "rack mount chassis", 25: "multi-system chassis", 28: "blade", 29: "blade enclosure"}
	if n, ok := names[t]; ok {
		return n
	}
	return strconv.Itoa(int(t))
}
