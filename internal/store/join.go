package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/rafthttp"

	"muster/internal/durable"
)

// joining is what a new member of a pool has to know until it has it from the pool's log.
type joining struct {
	fresh   bool   // it has no files yet
	name    string // its own
	cluster string // all members, as "name=URL,…"
	self    []url.URL
	urls    map[string]string // of the others, by their numbers in hex: where to answer them
}

// joinFile has the JSON of the [Join] that is under way.
const joinFile = "join.json"

// join begins or goes on with becoming a member of a pool. What is to be joined stands in join.json before etcd's directory is made, and goes
// away after store.json says that all is there: a process killed in between goes on where it was, and may do so without Options.Join. It returns nil
// when there is nothing to join.
func (s *Store) join(ctx context.Context, dir string) (j *Join, how *joining, err error) {
	path := filepath.Join(s.opt.Dir, joinFile)
	what := "open store " + s.opt.Dir
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		j = new(Join)
		if err := json.Unmarshal(b, j); err != nil {
			return nil, nil, s.damaged(fmt.Errorf("%s: %w", path, err))
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, nil, fileError(what, path, err)
	}
	if want := s.opt.Join; want != nil && (j == nil || j.ID != want.ID) {
		if j == nil && (hasFiles(dir) || hasFiles(filepath.Join(s.opt.Dir, "events"))) {
			return nil, nil, s.occupied()
		}
		if err := s.room(what, firstStart); err != nil {
			return nil, nil, err
		}
		if b, err = json.Marshal(want); err != nil {
			return nil, nil, err
		}
		// The files of a join that was given up go first: they are of a member with another number.
		if err := os.RemoveAll(dir); err != nil {
			return nil, nil, fileError(what, dir, err)
		}
		if err := durable.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			return nil, nil, fileError(what, path, err)
		}
		j = want
	}
	if j == nil {
		return nil, nil, nil
	}
	how = &joining{name: string(j.Name), fresh: !hasLog(dir), urls: make(map[string]string)}
	if how.fresh {
		if err := os.RemoveAll(dir); err != nil { // it never had a log, so it never told the others anything
			return nil, nil, fileError(what, dir, err)
		}
	}
	all, err := membersWith(ctx, j.ID, j.Peers, s.opt.Peer)
	if err != nil {
		return nil, nil, &Error{
			Kind: NoMajority, What: what, Err: err,
			Why: "no manager of the pool answers at " + strings.Join(j.Peers, ", ") + ": " + err.Error(),
			Do:  "See that they run and that this host reaches them, then start again",
		}
	}
	var cluster []string
	for _, m := range all {
		name := m.ID.String()
		if name == j.ID {
			name = how.name
			for _, at := range m.PeerURLs {
				u, err := url.Parse(at)
				if err != nil {
					return nil, nil, fmt.Errorf("%s: %w", what, err)
				}
				how.self = append(how.self, *u)
			}
		}
		how.urls[m.ID.String()] = strings.Join(m.PeerURLs, ",")
		for _, u := range m.PeerURLs {
			cluster = append(cluster, name+"="+u)
		}
	}
	if how.self == nil {
		return nil, nil, removed(what, s.opt.Dir)
	}
	how.cluster = strings.Join(cluster, ",")
	return j, how, nil
}

// Joining is the place in a pool that a directory's store is on its way to; the zero value when it is on its way to none.
func Joining(dir string) (j Join) {
	b, err := os.ReadFile(filepath.Join(dir, "join.json"))
	if err != nil || json.Unmarshal(b, &j) != nil { // what cannot be read is told by Open
		return Join{}
	}
	return j
}

// joined notes that the new member has all that it needs to start by itself.
func (s *Store) joined(j *Join) error {
	if err := s.writeMark(mark{Store: "muster", Name: j.Name, Schema: Schema, Created: time.Now().UTC().Truncate(time.Second), Member: j.ID, URL: j.URL}); err != nil {
		return err
	}
	path := filepath.Join(s.opt.Dir, joinFile)
	if err := os.Remove(path); err != nil {
		return fileError("open store "+s.opt.Dir, path, err)
	}
	return nil
}

func (s *Store) occupied() error {
	return &Error{
		Kind: Occupied, What: "open store " + s.opt.Dir,
		Why: "it holds a store already, and is to become another: a member of a pool, or a client of etcd elsewhere",
		Do:  "Start without --join and --etcd to use what is there; to begin anew give another directory, or move this one away",
	}
}

func removed(what, dir string) error {
	return &Error{
		Kind: Removed, What: what, Why: "the other managers say that this one was removed from the pool",
		Do: "To make it a manager again: move " + dir + " away, run muster manager add on another manager, and start here with the --join that it prints",
	}
}

func hasLog(dir string) bool {
	entries, err := os.ReadDir(filepath.Join(dir, "member", "wal"))
	return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return filepath.Ext(e.Name()) == ".wal" })
}

// whyStopped asks the others whether this member was removed while it did not run; etcd stops then, and says so in its log only.
func (g *engine) whyStopped() error {
	self := g.member.MemberID()
	gone := removed("store "+g.dir, g.dir)
	if g.member.IsIDRemoved(uint64(self)) {
		return gone
	}
	var urls []string
	for _, m := range g.member.Cluster().Members() {
		if m.ID != self {
			urls = append(urls, m.PeerURLs...)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*knownLimit)
	defer cancel()
	all, err := membersWith(ctx, self.String(), urls, g.files)
	if err == nil && !slices.ContainsFunc(all, func(m *membership.Member) bool { return m.ID == self }) {
		return gone
	}
	return errors.New("etcd stopped by itself")
}

// knownLimit is how long a new member waits until those that it asks have heard of it: one may be behind the others.
const knownLimit = 5 * time.Second

// membersWith asks the members at the URLs, each, until one of them knows that member, and returns what it, or the last one, says.
func membersWith(ctx context.Context, id string, urls []string, f PeerFiles) (all []*membership.Member, err error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for begin := time.Now(); ; {
		var problems []error
		for _, u := range urls {
			says, err := membersAt(ctx, []string{u}, f)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			if all = says; slices.ContainsFunc(all, func(m *membership.Member) bool { return m.ID.String() == id }) {
				return all, nil
			}
		}
		if len(problems) == len(urls) {
			return nil, errors.Join(problems...)
		}
		if time.Since(begin) > knownLimit {
			return all, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// membersAt asks the members at the URLs, one after the other, who the members are.
func membersAt(ctx context.Context, urls []string, f PeerFiles) ([]*membership.Member, error) {
	rt, err := rafthttp.NewRoundTripper(transport.TLSInfo{CertFile: f.Cert, KeyFile: f.Key, TrustedCAFile: f.CA}, 2*time.Second)
	if err != nil {
		return nil, err
	}
	defer rt.(*http.Transport).CloseIdleConnections()
	err = errors.New("no address of another manager is known")
	for _, u := range urls {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var c *membership.RaftCluster
		if c, err = etcdserver.GetClusterFromRemotePeers(nil, []string{u}, rt); err == nil {
			return c.Members(), nil
		}
	}
	return nil, err
}
