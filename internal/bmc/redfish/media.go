package redfish

import (
	"context"
	"errors"
	"slices"
	"strings"

	"muster/internal/bmc"
)

// drives reads the virtual drives: of the system, where newer controllers have them, else of the controller.
func (p *peer) drives(ctx context.Context, at *place) ([]virtualMedia, error) {
	all, err := members[virtualMedia](ctx, p, at.first.VirtualMedia.ID)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		_, m, err := p.manager(ctx, at)
		if err != nil {
			return nil, err
		}
		if all, err = members[virtualMedia](ctx, p, m.VirtualMedia.ID); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, &missing{"it has no virtual drives"}
	}
	return all, nil
}

func (v virtualMedia) full() bool {
	return v.Inserted != nil && *v.Inserted || v.Inserted == nil && v.Image != ""
}

// Media lists the virtual drives.
func (d *driver) Media(ctx context.Context) ([]bmc.Drive, error) {
	var out []bmc.Drive
	err := d.with(ctx, "media", func(ctx context.Context, p *peer, at *place) error {
		all, err := p.drives(ctx, at)
		if err != nil {
			return err
		}
		for _, v := range all {
			o := bmc.Drive{Name: string(v.ID)}
			for _, k := range v.MediaTypes {
				o.Kinds = append(o.Kinds, string(k))
			}
			if v.full() {
				o.Image = string(v.Image)
			}
			out = append(out, o)
		}
		return nil
	})
	return out, err
}

// InsertMedia calls VirtualMedia.InsertMedia, or changes the resource where there is no such action.
func (d *driver) InsertMedia(ctx context.Context, name string, m bmc.Medium) error {
	return d.with(ctx, "media insert", func(ctx context.Context, p *peer, at *place) error {
		all, err := p.drives(ctx, at)
		if err != nil {
			return err
		}
		kinds := []string{"CD", "DVD"}
		if strings.HasSuffix(strings.ToLower(m.URL), ".img") {
			kinds = []string{"USBStick", "Floppy"}
		}
		i := slices.IndexFunc(all, func(v virtualMedia) bool {
			if name != "" {
				return strings.EqualFold(string(v.ID), name)
			}
			return contains(v.MediaTypes, kinds[0]) || contains(v.MediaTypes, kinds[1])
		})
		if i < 0 {
			return &wrong{"there is no such virtual drive", "The drives are: " + named(all)}
		}
		v := all[i]
		if v.full() {
			if err := p.eject(ctx, v); err != nil {
				return err
			}
		}
		change := map[string]any{"Image": m.URL, "Inserted": true, "WriteProtected": true}
		if m.User != "" {
			change["UserName"], change["Password"] = m.User, m.Password.Reveal()
		}
		if v.Actions.Insert.Target == "" {
			_, err = p.patch(ctx, v.link.ID, change)
			return err
		}
		_, err = p.post(ctx, v.Actions.Insert.Target, change)
		if s := (*statusError)(nil); errors.As(err, &s) && s.has("ActionParameterUnknown", "ActionParameterNotSupported", "PropertyUnknown") {
			// Both have these values by default (the VirtualMedia schema), and some know them by default only.
			delete(change, "Inserted")
			delete(change, "WriteProtected")
			_, err = p.post(ctx, v.Actions.Insert.Target, change)
		}
		return err
	})
}

func named(all []virtualMedia) string {
	names := make([]string, len(all))
	for i, v := range all {
		names[i] = string(v.ID)
	}
	return strings.Join(names, ", ")
}

func (p *peer) eject(ctx context.Context, v virtualMedia) error {
	if v.Actions.Eject.Target == "" {
		_, err := p.patch(ctx, v.link.ID, map[string]any{"Image": nil, "Inserted": false})
		return err
	}
	_, err := p.post(ctx, v.Actions.Eject.Target, struct{}{})
	return err
}

// EjectMedia empties one drive, or all.
func (d *driver) EjectMedia(ctx context.Context, name string) error {
	return d.with(ctx, "media eject", func(ctx context.Context, p *peer, at *place) error {
		all, err := p.drives(ctx, at)
		if err != nil {
			return err
		}
		found := name == ""
		for _, v := range all {
			if name != "" && !strings.EqualFold(string(v.ID), name) {
				continue
			}
			found = true
			if !v.full() {
				continue
			}
			if err := p.eject(ctx, v); err != nil {
				return err
			}
		}
		if !found {
			return &wrong{"there is no such virtual drive", "The drives are: " + named(all)}
		}
		return nil
	})
}
