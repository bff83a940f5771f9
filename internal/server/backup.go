package server

import (
	"net/http"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/store"
)

// backup answers the bytes of a backup file. When it cannot go on, the answer is cut, and the file has no end that anybody would take.
func (s *Server) backup(q *request) error {
	var in api.Backup
	if err := q.read(&in); err != nil {
		return err
	}
	var keys []byte
	if in.Keys {
		bundle, err := s.keys.Export()
		if err != nil {
			return err
		}
		lock := identity.BundleLock{Recipients: in.Recipients}
		if in.Passphrase != nil {
			lock.Passphrase = model.NewSecret(in.Passphrase.Plain)
		}
		if keys, err = identity.EncryptBundle(bundle, lock); err != nil {
			return &api.Error{Code: api.Usage, What: "backup --keys", Why: err.Error(), Do: "Give a passphrase, or recipients as age-keygen prints them (age1…)"}
		}
	}
	what := "backup without keys"
	if in.Keys {
		what = "backup with the keys, encrypted"
	}
	_, err := s.store.Commit(q.Context(), &model.Change{Actor: q.who.Name, Verb: "backup", Request: q.id, What: what})
	switch {
	case err != nil && !in.Keys && store.IsKind(err, store.NoMajority):
		// When the others never come back, what this one has is all that there is. It holds no secret that opens.
		s.log.Warn("backup without the majority: it is not on record, and what was written since is not in it", "by", q.who.Name, "since", s.cutOff())
	case err != nil:
		return err
	}
	q.w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := s.store.Backup(q.Context(), q.w, keys); err != nil {
		s.log.Error("backup", "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}
