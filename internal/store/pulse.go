package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

const (
	leaderLimit = 3 * time.Second       // how long a write waits for a leader before it is refused, from when there was one
	leaderLook  = 50 * time.Millisecond // how often the leader is looked at
	leaderGrace = 20 * time.Millisecond // how long a transaction that was on its way may go on under a new leader

	leaseTTL   = 5 * time.Second // a manager that was not heard of for that long is dead
	leaseRenew = leaseTTL / 4
	livePrefix = root + "live/" // a key for each manager that lives, under its lease
)

// pulse is what is known of the leader, and of this manager's lease.
type pulse struct {
	mu      sync.Mutex
	leader  uint64             // etcd's number of it; 1 with etcd elsewhere that answers; 0: there is none
	since   time.Time          // without a leader; zero with one
	changed chan struct{}      // closed and replaced when the leader changes
	reign   context.Context    // ends when another leader has come
	end     context.CancelFunc // of reign

	behind atomic.Bool // others may have written while there was no leader here

	alive time.Time // until then this manager's lease holds for certain
}

func newPulse() *pulse {
	p := &pulse{changed: make(chan struct{}), since: time.Now()}
	p.reign, p.end = context.WithCancel(context.Background())
	p.behind.Store(true)
	return p
}

// see notes who the leader is now.
func (p *pulse) see(leader uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if leader == p.leader {
		return
	}
	if leader == 0 {
		p.since = time.Now()
		p.behind.Store(true)
	} else {
		p.since = time.Time{}
		time.AfterFunc(leaderGrace, p.end)
		p.reign, p.end = context.WithCancel(context.Background())
	}
	p.leader = leader
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pulse) now() (leader uint64, since time.Time, changed <-chan struct{}, reign context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader, p.since, p.changed, p.reign
}

// Health says whether there is a leader, as far as this manager knows: one that is cut off knows it within a second and a half.
func (s *Store) Health() Health {
	h := Health{Alone: s.alone()}
	leader, since, _, _ := s.pulse.now()
	h.Since = since
	if m := s.engine.member; m != nil && leader != 0 {
		for _, e := range m.Cluster().Members() {
			if uint64(e.ID) == leader {
				h.Leader = model.ManagerName(e.Name)
			}
		}
	}
	return h
}

// CutOff is the time since when there is no leader, zero with one: [Health.Since], for every request.
func (s *Store) CutOff() time.Time {
	s.pulse.mu.Lock()
	defer s.pulse.mu.Unlock()
	return s.pulse.since
}

// alone says that this manager's member is the only one.
func (s *Store) alone() bool {
	return s.engine.member != nil && len(s.engine.member.Cluster().Members()) == 1
}

// Alive lists the managers that live, in order: those whose lease in the store holds. This manager is not among them when it could
// not renew its own in time, and then must let go of what it serves: another has taken it, or will.
func (s *Store) Alive() []model.ManagerName {
	if s.alone() {
		return []model.ManagerName{s.opt.Name}
	}
	s.pulse.mu.Lock()
	lapsed := !time.Now().Before(s.pulse.alive)
	s.pulse.mu.Unlock()
	all := slices.Sorted(maps.Keys(s.world.Load().live))
	return slices.DeleteFunc(all, func(n model.ManagerName) bool { return n == s.opt.Name && lapsed })
}

// watchLeader keeps the pulse of the member in this process until ctx ends.
func (s *Store) watchLeader(ctx context.Context) {
	look := time.NewTicker(leaderLook)
	defer look.Stop()
	for {
		s.pulse.see(s.engine.member.Lead())
		select {
		case <-look.C:
			if s.alone() { // its leader is itself
				look.Reset(10 * leaderLook)
			} else {
				look.Reset(leaderLook)
			}
		case <-s.engine.member.LeaderChangedNotify():
		case <-ctx.Done():
			return
		}
	}
}

// keepAlive holds this manager's lease until ctx ends. With etcd elsewhere it is also what tells whether etcd answers.
func (s *Store) keepAlive(ctx context.Context) {
	renew := time.NewTicker(leaseRenew)
	defer renew.Stop()
	var id clientv3.LeaseID
	for {
		if leader, _, _, _ := s.pulse.now(); !s.alone() && (leader != 0 || s.engine.member == nil) {
			id = s.renew(ctx, id)
		}
		select {
		case <-renew.C:
		case <-s.beat:
		case <-ctx.Done():
			if leader, _, _, _ := s.pulse.now(); id != 0 && leader != 0 { // the others need not wait for its end
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit/8)
				_, _ = s.engine.client.Revoke(last, id)
				cancel()
			}
			return
		}
	}
}

// renew renews the lease, or makes one, and returns the one to renew next time.
func (s *Store) renew(ctx context.Context, id clientv3.LeaseID) clientv3.LeaseID {
	limit, cancel := context.WithTimeout(ctx, 2*leaseRenew)
	defer cancel()
	begin := time.Now()
	err := error(rpctypes.ErrLeaseNotFound)
	if id != 0 {
		_, err = s.engine.client.KeepAliveOnce(limit, id)
	}
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		begin, id = time.Now(), 0
		var res *clientv3.LeaseGrantResponse
		if res, err = s.engine.client.Grant(limit, int64(leaseTTL/time.Second)); err == nil {
			if _, err = s.engine.client.Put(limit, livePrefix+string(s.opt.Name), "", clientv3.WithLease(res.ID)); err == nil {
				id = res.ID
			}
		}
	}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		s.pulse.mu.Lock()
		s.pulse.alive = begin.Add(leaseTTL)
		s.pulse.mu.Unlock()
		if s.engine.member == nil {
			s.pulse.see(1)
		}
	case s.engine.member == nil:
		if _, since, _, _ := s.pulse.now(); since.IsZero() {
			s.log.Warn("store: etcd does not answer", "etcd", s.opt.External.at(), "err", err)
		}
		s.pulse.see(0)
	}
	return id
}

// liveName is the manager whose life a key stands for.
func liveName(key []byte) (model.ManagerName, bool) {
	name, ok := strings.CutPrefix(string(key), livePrefix)
	return model.ManagerName(name), ok
}

// majority returns nil when there is a leader, or one comes soon; else the write is to be refused.
func (s *Store) majority(ctx context.Context, what string) error {
	var limit <-chan time.Time
	for {
		leader, since, changed, _ := s.pulse.now()
		if leader != 0 {
			return nil
		}
		if limit == nil {
			t := time.NewTimer(max(leaderLimit-time.Since(since), 2*leaderLook)) // who asks a manager that is cut off for long is sent on at once
			defer t.Stop()
			limit = t.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &unsentError{ctx.Err()}
		case <-s.done:
			return s.err
		case <-limit:
			return s.noMajority(what, since)
		}
	}
}

func (s *Store) noMajority(what string, since time.Time) error {
	e := &Error{
		Kind: NoMajority, What: what,
		Why: fmt.Sprintf("this manager has been cut off from the majority of the managers since %s", since.Format(time.RFC3339)),
		Do:  "Nothing was written. Ask another manager, or see that most of them run and reach each other (muster manager list); reads go on and may be stale",
	}
	if s.engine.member == nil {
		e.Why = fmt.Sprintf("etcd at %s has not answered since %s", s.opt.External.at(), since.Format(time.RFC3339))
		e.Do = "Nothing was written. See that it runs with a majority of its members and that this host reaches it (etcdctl endpoint health); reads go on and may be stale"
	}
	return e
}
