package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// Schema is the newest schema of the store that this program reads and writes. A store says in /muster/schema which one it has:
//
//	1  one manager; events are numbered by the manager's own file
//	2  pools; events are numbered by their revision; large commits hold compressed documents; documents of networks, users, roles, managers and data keys
//	3  documents of rollouts, claims, jobs and work; deployments to disk
//
// A program opens the schemas up to its own. It raises an older one when nobody else would be shut out by that: in a pool, when
// every manager's document says that it knows the newer one. A newer one is refused, at open and later.
const (
	Schema    = 3
	schemaKey = root + "schema"
)

const managerPrefix = prefix + string(model.KindManager) + "/"

// Version is the schema that the store has now: an older one as long as a manager of the pool knows no newer. What belongs to a newer one must not be
// written.
func (s *Store) Version() int { return int(s.schema.Load()) }

// setSchema writes the version of the schema into a new store.
func setSchema(ctx context.Context, c *clientv3.Client) error {
	_, err := c.Put(ctx, schemaKey, strconv.Itoa(Schema))
	return err
}

// readSchema reads the version of the schema, and refuses a newer one.
func (s *Store) readSchema(ctx context.Context) error {
	res, err := s.engine.client.Get(ctx, schemaKey, s.engine.reads...)
	if err != nil {
		return &brokenError{err}
	}
	if len(res.Kvs) == 0 {
		return fmt.Errorf("document %s is not there", schemaKey)
	}
	return s.noteSchema(res.Kvs[0])
}

// noteSchema takes the version of the schema from its document; a newer one is an error of kind Newer.
func (s *Store) noteSchema(kv *mvccpb.KeyValue) error {
	n, err := strconv.Atoi(string(kv.Value))
	switch {
	case err != nil || n < 1:
		return fmt.Errorf("document %s: %q is no version", schemaKey, kv.Value)
	case n > Schema:
		return newerSchema("store "+s.opt.Dir, n)
	}
	s.schema.Store(int64(n))
	return nil
}

func newerSchema(what string, n int) error {
	return &Error{
		Kind: Newer, What: what,
		Why: fmt.Sprintf("it has schema %d, this program knows schemas up to %d", n, Schema),
		Do:  "Use the muster that wrote it, or a newer one",
	}
}

// raiseLimit is how long a start may wait for the schema to be raised: the older one serves as well.
const raiseLimit = 2 * time.Second

// raiseSchema raises an older store to the schema of this program, when all managers of the pool know it. What keeps it from doing so
// is no error: the older schema serves as well, and it is tried again when a manager's document changes and at the next start.
func (s *Store) raiseSchema(ctx context.Context) {
	have := s.schema.Load()
	if have >= Schema {
		return
	}
	if m := s.engine.member; m != nil && m.Lead() == 0 { // nobody to ask, and a start must not wait for that
		s.log.Warn("store: the schema is not raised yet", "err", "there is no leader")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, raiseLimit)
	defer cancel()
	res, err := s.engine.client.Get(ctx, managerPrefix, clientv3.WithPrefix())
	if err != nil {
		s.log.Warn("store: the schema is not raised yet", "err", err)
		return
	}
	for _, kv := range res.Kvs {
		op, _, err := decodeOne(kv, new(model.Decoder), nil)
		if m, ok := op.Doc.(*model.Manager); !ok || m.Schema < Schema {
			s.log.Info("store: the schema stays as it is until every manager knows the newer one", "schema", have, "manager", string(kv.Key), "err", err)
			return
		}
	}
	// Not when one came or changed meanwhile.
	same := clientv3.Compare(clientv3.ModRevision(managerPrefix), "<", res.Header.Revision+1).WithPrefix()
	old := clientv3.Compare(clientv3.Value(schemaKey), "=", strconv.FormatInt(have, 10))
	done, err := s.engine.client.Txn(ctx).If(same, old).Then(clientv3.OpPut(schemaKey, strconv.Itoa(Schema))).Commit()
	switch {
	case err != nil:
		s.log.Warn("store: the schema is not raised yet", "err", err)
	case done.Succeeded:
		s.schema.Store(Schema)
		s.log.Info("store: raised the schema; an older muster refuses this store from now on", "from", have, "to", Schema)
	default:
		wake(s.raise)
	}
}
