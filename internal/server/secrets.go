package server

import (
	"context"
	"slices"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
)

const masked = "********"

// hidden are the secrets that a request assigns.
type hidden map[model.AttrName]model.Secret

// hide takes the readable secrets out of a request and leaves masks. What names a secret attribute without being sent as a secret is
// taken, too; nothing readable goes on from here but in what it returns.
func hide(set []api.Assignment) hidden {
	out := hidden{}
	for i, a := range set {
		attr, known := model.Lookup(model.AttrName(a.Attr))
		plain, given := a.Value, a.Secret != nil
		if given {
			plain = a.Secret.Plain
		}
		if known && attr.Secret && plain != "" && plain != model.Masking {
			out[model.AttrName(a.Attr)] = model.NewSecret(plain)
			plain = masked
		}
		set[i].Value, set[i].Secret = plain, nil
	}
	return out
}

// sealing seals the secrets of one request for one change.
type sealing struct {
	secrets hidden
	under   *identity.Sealer
}

// sealing takes the data keys of the snapshot that the change is built on. The change has to carry its ops.
func (s *Server) sealing(snap *model.Snapshot, secrets hidden) (sealing, error) {
	if len(secrets) == 0 {
		return sealing{}, nil
	}
	z, err := s.keys.Sealer(snap.SealKeys(), time.Now())
	return sealing{secrets, z}, err
}

// fill puts envelopes where the masks are, for the node or group whose attributes they are.
func (z sealing) fill(attrs map[model.AttrName]string, kind model.Kind, name string) {
	for a, secret := range z.secrets {
		if attrs[a] == masked {
			attrs[a] = z.under.Seal(secret, identity.Place{Kind: kind, Name: name, Attr: a})
		}
	}
}

// ops is the data key that was made for the change, if one was.
func (z sealing) ops() []model.Op {
	if z.under == nil {
		return nil
	}
	return z.under.Ops()
}

// unseal opens the effective value of a secret attribute of a node.
func (s *Server) unseal(snap *model.Snapshot, n *model.Node, a model.AttrName, text string) (model.Secret, error) {
	_ = s.keys.UseKeys(snap.SealKeys()) // what does not open is told with the secret that is under it
	kind, name := snap.Owner(n, a)
	return s.keys.Unseal(text, identity.Place{Kind: kind, Name: name, Attr: a})
}

// followKeys takes the data keys and a changed site key from the store as they come.
func (s *Server) followKeys(ctx context.Context) error {
	for {
		snap := s.store.Snapshot()
		if err := s.keys.UseKeys(snap.SealKeys()); err != nil {
			s.log.Error("data keys", "err", err)
		}
		if changed, err := s.keys.SettleSiteKey(snap); err != nil {
			s.log.Error("site key", "err", err)
		} else if changed {
			s.log.Info("the site key was changed")
		}
		have := slices.Collect(snap.SealKeys())
		err := s.store.Wait(ctx, func(now *model.Snapshot) bool { return !slices.Equal(have, slices.Collect(now.SealKeys())) })
		if err != nil {
			return err
		}
	}
}
