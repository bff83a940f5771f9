package server

import (
	"context"
	"slices"
	"time"

	"muster/internal/identity"
	"muster/internal/model"
)

// unseal opens the effective value of a secret attribute of a node.
func (s *Server) unseal(snap *model.Snapshot, n *model.Node, a model.AttrName, text string) (model.Secret, error) {
	_ = s.keys.UseKeys(snap.SealKeys()) // what does not open is told with the secret that is under it
	kind, name := snap.Owner(n, a)
	return s.keys.Unseal(text, identity.Place{Kind: kind, Name: name, Attr: a})
}

// followKeys takes the data keys and a changed site key from the store as they come. A site key that could not be put in place, as on a full
// disk, is tried again after a second, and later every five minutes.
func (s *Server) followKeys(ctx context.Context) error {
	const soon, most = time.Second, 5 * time.Minute
	again := time.Duration(0)
	for {
		snap := s.store.Snapshot()
		if err := s.keys.UseKeys(snap.SealKeys()); err != nil {
			s.log.Error("data keys", "err", err)
		}
		changed, err := s.keys.SettleSiteKey(snap)
		switch {
		case err != nil:
			again = min(max(2*again, soon), most)
			s.log.Error("site key", "err", err, "again in", again)
		case changed:
			s.log.Info("the site key was changed")
			fallthrough
		default:
			again = 0
		}
		have := slices.Collect(snap.SealKeys())
		if err := s.waitFor(ctx, again, func(now *model.Snapshot) bool { return !slices.Equal(have, slices.Collect(now.SealKeys())) }); err != nil {
			return err
		}
	}
}

// waitFor waits for a snapshot, no longer than limit when that is not 0.
func (s *Server) waitFor(ctx context.Context, limit time.Duration, cond func(*model.Snapshot) bool) error {
	if limit == 0 {
		return s.store.Wait(ctx, cond)
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := s.store.Wait(short, cond); err != nil && short.Err() == nil {
		return err
	}
	return ctx.Err()
}
