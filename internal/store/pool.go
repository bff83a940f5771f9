package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"

	"muster/internal/model"
)

// PeerFiles are the paths of what a member shows and trusts when it calls the others: PEM files, the certificate and the key are read again
// at each handshake. The zero value is for a manager that will stay alone.
type PeerFiles struct{ Cert, Key, CA string }

// Join is what a new manager needs to become a member of a pool; AddMember makes it.
type Join struct {
	Name  model.ManagerName `json:"name"`
	ID    string            `json:"id"`    // of the member that is kept for it, in hex
	URL   string            `json:"url"`   // by which the others reach it
	Peers []string          `json:"peers"` // by which it reaches the others
}

// Member is one etcd member of the pool.
type Member struct {
	Name    model.ManagerName
	ID      string // in hex
	URL     string // by which the others reach it; "unix://muster" before it has an address
	Learner bool   // it does not count for the majority yet, see Promote
	Leader  bool
	Self    bool
}

// Health is how this manager stands to the others.
type Health struct {
	Leader model.ManagerName // empty when there is none, and with etcd elsewhere
	Since  time.Time         // without a leader since then, as far as this manager knows: reads may be stale, writes are refused; zero with one
	Alone  bool              // the pool is this manager
}

const (
	// maxLearners is how many managers may be on their way into the pool at once.
	maxLearners = 4
	// catchUp is how many entries a member may have missed before it gets the whole database.
	catchUp = 100
	// settled is how long etcd wants members to have been connected before it lets the pool change (its HealthInterval), and a little more.
	settled = 7 * time.Second
)

// Members lists the members as this manager knows them, in the order of their names. With etcd elsewhere it asks there, for the newest.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	var all []Member
	if m := s.engine.member; m != nil {
		for _, e := range m.Cluster().Members() {
			all = append(all, Member{
				Name: model.ManagerName(e.Name), ID: e.ID.String(), URL: strings.Join(e.PeerURLs, ","), Learner: e.IsLearner,
				Leader: e.ID == m.Leader(), Self: e.ID == m.MemberID(),
			})
		}
	} else {
		res, err := s.engine.client.MemberList(ctx)
		if err != nil {
			return nil, fmt.Errorf("members of etcd at %s: %w", s.opt.External.at(), err)
		}
		for _, e := range res.Members {
			all = append(all, Member{
				Name: model.ManagerName(e.Name), ID: types.ID(e.ID).String(), URL: strings.Join(e.PeerURLs, ","), Learner: e.IsLearner,
			})
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

// Advertise tells the pool by which URL the others reach this manager, "https://host:port": the handler of Options.Mount is served there.
func (s *Store) Advertise(ctx context.Context, at string) error {
	what := "advertise " + at
	m, err := s.ownMember(what)
	if err != nil {
		return err
	}
	if err := checkURL(what, at); err != nil {
		return err
	}
	self := m.Cluster().Member(m.MemberID())
	if self == nil {
		return removed(what, s.opt.Dir)
	}
	s.marking.Lock()
	defer s.marking.Unlock()
	if s.mark.URL != at { // etcd tells it to members that do not know this one yet, from the next start on
		next := s.mark
		next.URL = at
		if err := s.writeMark(next); err != nil {
			return err
		}
	}
	if slices.Equal(self.PeerURLs, []string{at}) {
		return nil
	}
	return s.reconfigure(ctx, what, func(ctx context.Context) error {
		_, err := m.UpdateMember(ctx, membership.Member{
			ID:             self.ID,
			RaftAttributes: membership.RaftAttributes{PeerURLs: []string{at}, IsLearner: self.IsLearner},
		})
		return err
	})
}

// AddMember keeps a place in the pool for a manager that will be reached by that URL. It is a learner, which gets all documents but does not
// count for the majority, until Promote. What it returns is for Options.Join of the new manager.
func (s *Store) AddMember(ctx context.Context, name model.ManagerName, at string) (Join, error) {
	what := "add manager " + string(name)
	m, err := s.ownMember(what)
	if err != nil {
		return Join{}, err
	}
	if err := checkURL(what, at); err != nil {
		return Join{}, err
	}
	if s.opt.Peer == (PeerFiles{}) {
		return Join{}, &Error{Kind: Forbidden, What: what, Why: "this manager has no certificate to show to another", Do: "Start it with one"}
	}
	for _, e := range m.Cluster().Members() {
		switch {
		case e.ID == m.MemberID() && !strings.HasPrefix(strings.Join(e.PeerURLs, ","), "https:"):
			return Join{}, &Error{
				Kind: Forbidden, What: what, Why: "this manager has not told by which address the others reach it",
				Do: "Start it with an address that is not of this host only, then ask again",
			}
		case e.Name == string(name):
			return Join{}, &Error{
				Kind: Occupied, What: what, Why: fmt.Sprintf("%s is a manager of the pool already, at %s", name, strings.Join(e.PeerURLs, ",")),
				Do: "Take another name, or remove that one first: muster manager remove " + string(name),
			}
		case slices.Contains(e.PeerURLs, at):
			return Join{}, &Error{
				Kind: Occupied, What: what, Why: fmt.Sprintf("%s is the address of manager %s", at, e.Name),
				Do: "Take another address, or remove that one first: muster manager remove " + e.Name,
			}
		}
	}
	urls, err := types.NewURLs([]string{at})
	if err != nil {
		return Join{}, fmt.Errorf("%s: %w", what, err)
	}
	// The number is made of the address and the second; one that was removed in this second cannot come back.
	now := time.Now()
	add := membership.NewMemberAsLearner(string(name), urls, m.Cluster().ID().String(), &now)
	for m.IsIDRemoved(uint64(add.ID)) {
		now = now.Add(time.Second)
		add = membership.NewMemberAsLearner(string(name), urls, m.Cluster().ID().String(), &now)
	}
	join := Join{Name: name, ID: add.ID.String(), URL: at}
	err = s.reconfigure(ctx, what, func(ctx context.Context) error {
		all, err := m.AddMember(ctx, *add)
		for _, e := range all {
			if e.ID != add.ID {
				join.Peers = append(join.Peers, e.PeerURLs...)
			}
		}
		return err
	})
	wake(s.beat)
	return join, err
}

// Promote makes a learner a full member as soon as it has caught up with the leader, and waits for that until ctx ends. It does nothing to
// one that is a full member.
func (s *Store) Promote(ctx context.Context, name model.ManagerName) error {
	what := "promote manager " + string(name)
	m, err := s.ownMember(what)
	if err != nil {
		return err
	}
	for {
		e := memberNamed(m, name)
		if e == nil {
			return noMember(what, name)
		}
		if !e.IsLearner {
			return nil
		}
		err := s.reconfigure(ctx, what, func(ctx context.Context) error {
			_, err := m.PromoteMember(ctx, uint64(e.ID))
			return err
		})
		if err == nil || !errors.Is(err, etcderrors.ErrLearnerNotReady) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: it has not caught up yet: %w", what, ctx.Err())
		}
	}
}

// RemoveMember takes a manager out of the pool for ever, alive or dead, this one included. Its name and address may be given to another.
func (s *Store) RemoveMember(ctx context.Context, name model.ManagerName) error {
	what := "remove manager " + string(name)
	m, err := s.ownMember(what)
	if err != nil {
		return err
	}
	e := memberNamed(m, name)
	if e == nil {
		return noMember(what, name)
	}
	if others := voters(m, e.ID); len(others) == 0 && !e.IsLearner {
		return &Error{
			Kind: Forbidden, What: what, Why: "it is the only manager that has the documents",
			Do: "To end the installation stop it and move its directory away; to replace it, add another first",
		}
	} else if e.ID == m.Leader() && e.ID == m.MemberID() {
		s.handOver(ctx, m, others)
	}
	err = s.reconfigure(ctx, what, func(ctx context.Context) error {
		_, err := m.RemoveMember(ctx, uint64(e.ID))
		return err
	})
	if errors.Is(err, membership.ErrIDNotFound) || errors.Is(err, membership.ErrIDRemoved) {
		return nil
	}
	return err
}

// handOver gives the leadership away, so that writes do not wait for an election. That it could not is no error: the others elect one.
func (s *Store) handOver(ctx context.Context, m *etcdserver.EtcdServer, to []*membership.Member) {
	for _, e := range to {
		ctx, cancel := context.WithTimeout(ctx, election)
		err := m.MoveLeader(ctx, uint64(m.MemberID()), uint64(e.ID))
		cancel()
		if err == nil {
			return
		}
	}
}

// AtLeast waits until Snapshot is of that revision or a later one: a client sees so on any manager what it wrote on another. A revision that
// nobody has committed is waited for, too, until ctx ends.
func (s *Store) AtLeast(ctx context.Context, rev model.Revision) error { return s.reach(ctx, rev) }

// reconfigure asks etcd to change the pool. etcd refuses while members have not been connected for some seconds, which after a start or
// another change is a matter of waiting.
func (s *Store) reconfigure(ctx context.Context, what string, do func(context.Context) error) error {
	if err := s.majority(ctx, what); err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, settled)
	defer cancel()
	for {
		err := do(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, etcderrors.ErrUnhealthy) || errors.Is(err, etcderrors.ErrNotEnoughStartedMembers):
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-limit.Done():
			}
			return &Error{
				Kind: NoMajority, What: what, Err: err,
				Why: "with the managers that answer now the pool would be left without a majority",
				Do:  "Start the ones that do not answer, or remove those that will not come back: muster manager list",
			}
		case errors.Is(err, membership.ErrTooManyLearners):
			return &Error{
				Kind: Forbidden, What: what, Err: err, Why: fmt.Sprintf("%d managers are on their way into the pool already", maxLearners),
				Do: "Wait until they have joined, or remove those that will not: muster manager list",
			}
		case ctx.Err() == nil && (errors.Is(err, etcderrors.ErrTimeout) || errors.Is(err, etcderrors.ErrTimeoutDueToLeaderFail)):
			return &Error{
				Kind: Uncertain, What: what, Err: err, Why: "the leader did not answer in time",
				Do: "It may have been done or not: look with muster manager list, then ask again",
			}
		}
		return fmt.Errorf("%s: %w", what, err)
	}
}

// ownMember is the member in this process, or says that there is none.
func (s *Store) ownMember(what string) (*etcdserver.EtcdServer, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	if s.engine.member == nil {
		return nil, &Error{
			Kind: Forbidden, What: what, Why: "the documents are kept by etcd at " + s.opt.External.at() + ", not by the managers",
			Do: "Start further managers with the same --etcd; change etcd's own members with etcdctl member",
		}
	}
	return s.engine.member, nil
}

func memberNamed(m *etcdserver.EtcdServer, name model.ManagerName) *membership.Member {
	for _, e := range m.Cluster().Members() {
		if e.Name == string(name) || e.ID.String() == string(name) {
			return e
		}
	}
	return nil
}

// voters are the members that count for the majority, but for that one.
func voters(m *etcdserver.EtcdServer, but types.ID) []*membership.Member {
	return slices.DeleteFunc(m.Cluster().Members(), func(e *membership.Member) bool { return e.IsLearner || e.ID == but })
}

func noMember(what string, name model.ManagerName) error {
	return &Error{Kind: NoMember, What: what, Why: fmt.Sprintf("the pool has no manager %s", name), Do: "See which it has: muster manager list"}
}

func checkURL(what, at string) error {
	u, err := url.Parse(at)
	if err == nil && u.Scheme == "https" && u.Hostname() != "" && u.Port() != "" && u.Path == "" && u.RawQuery == "" && u.User == nil {
		return nil
	}
	return &Error{Kind: Forbidden, What: what, Why: fmt.Sprintf("%q is no address of a manager", at), Do: `Write it as "https://host:port"`, Err: err}
}
