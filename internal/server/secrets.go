package server

import (
	"context"
	"slices"

	"muster/internal/identity"
	"muster/internal/model"
)

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
