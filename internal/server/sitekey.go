package server

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/store"
)

// changeSiteKey makes a new site key. This manager keeps it as it is told; the others learn it from the change (followKeys).
func (s *Server) changeSiteKey(q *request) error {
	var in api.ChangeSiteKey
	if err := q.read(&in); err != nil {
		return err
	}
	source, err := sourceOf(&in)
	if err != nil {
		return err
	}
	if err := source.Check(); err != nil {
		return &api.Error{Code: api.Usage, What: "secret rotate", Why: err.Error()}
	}
	s.siteKey.Lock()
	defer s.siteKey.Unlock()
	n := 0
	rev, err := s.commit(q.Context(), q, "secret rotate", in.DryRun, func(snap *model.Snapshot) (ops []model.Op, _ string, _ []model.Event, err error) {
		switch {
		case in.DryRun:
		case in.By == "":
			ops, err = s.keys.RotateSiteKey(snap, time.Now())
		default:
			ops, err = s.keys.ChangeSiteKey(snap, source, time.Now())
		}
		n = 0
		for k := range snap.SealKeys() {
			if !k.SiteKey {
				n++
			}
		}
		return ops, fmt.Sprintf("put %d data keys under a new site key", n), nil, err
	})
	if err != nil {
		s.keepSiteKey(err)
		return err
	}
	out := api.Changed{Count: n, Revision: int64(rev), DryRun: in.DryRun}
	if _, err := s.keys.SettleSiteKey(s.store.Snapshot()); err != nil && !in.DryRun {
		out.Warnings = append(out.Warnings, "the site key is changed, but not yet in its place: "+err.Error()+". It is tried again")
	}
	return q.answer(out)
}

// keepSiteKey takes a change of the site key back that was refused for certain. Else both site keys stay known.
func (s *Server) keepSiteKey(err error) {
	var conflict *store.ConflictError
	var refused *api.Error
	if !errors.As(err, &conflict) && !errors.As(err, &refused) {
		return
	}
	if err := s.keys.KeepSiteKey(); err != nil {
		s.log.Error("site key", "err", err)
	}
}

// sourceOf is what is to unlock the site key. The passphrase is taken out of the request.
func sourceOf(in *api.ChangeSiteKey) (identity.Source, error) {
	bad := func(why, do string) (identity.Source, error) {
		return identity.Source{}, &api.Error{Code: api.Usage, What: "secret rotate", Why: why, Do: do}
	}
	file, pass := in.File, in.Passphrase
	in.Passphrase = nil
	switch {
	case file != "" && in.By != "file":
		return bad("a file is given, and it is not said that it unlocks the site key", `Say by="file", or leave it out`)
	case pass != nil && in.By != "passphrase":
		return bad("a passphrase is given, and it is not said that it unlocks the site key", `Say by="passphrase", or leave it out`)
	}
	switch in.By {
	case "", "key":
		return identity.Source{}, nil
	case "file":
		if !filepath.IsAbs(file) {
			return bad(fmt.Sprintf("%q is no path from / on", file), "Give the path of the file on the manager's host")
		}
		return identity.Source{File: file}, nil
	case "passphrase":
		if pass == nil || pass.Plain == "" {
			return bad("the passphrase is empty", "Give one")
		}
		return identity.Source{Passphrase: model.NewSecret(pass.Plain)}, nil
	}
	return bad(fmt.Sprintf("%q is nothing that unlocks a site key", in.By), "Give key, file or passphrase")
}
