package server

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/store"
)

// invitationLife is how long a join string holds.
const invitationLife = 24 * time.Hour

// addManager invites: the new manager's document holds the hash of a one-time token, the join string the token.
func (s *Server) addManager(q *request) error {
	var in api.AddManager
	if err := q.read(&in); err != nil {
		return err
	}
	what := "manager add " + in.Name
	if s.cfg.External != nil {
		return &api.Error{
			Code: api.Usage, What: what, Why: "this pool's store is an etcd of its own: nobody needs an invitation",
			Do: "Copy the data directory's keys/ to the new host and start there: muster serve --name " + in.Name + " --etcd … with the same addresses",
		}
	}
	addr := s.advertised()
	if addr == "" {
		return &api.Error{
			Code: api.Conflict, What: what, Why: "this manager listens on the loopback address only: no other host can reach it",
			Do: "Start it with an address that the others reach: muster serve --listen ADDRESS:" + strconv.Itoa(APIPort),
		}
	}
	if p := model.CheckName(in.Name); p != nil {
		return p
	}
	if !in.DryRun {
		if err := s.store.Advertise(q.Context(), "https://"+addr); err != nil {
			return err
		}
	}
	token, hash := identity.NewToken()
	now := time.Now()
	expires := now.Add(invitationLife)
	_, err := s.commit(q.Context(), q, "manager add", in.DryRun, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		name := model.ManagerName(in.Name)
		if m := snap.Manager(name); m != nil && m.Member != "" {
			return nil, "", nil, &api.Error{Code: api.Conflict, What: what, Why: "it is in the pool", Do: "See: muster manager list. To replace a dead one: muster manager remove " + in.Name}
		}
		doc := &model.Manager{Name: name, Added: now, TokenHash: hash, TokenExpires: expires}
		return []model.Op{{Kind: model.KindManager, Name: in.Name, Doc: doc}}, "invited " + in.Name, nil, nil
	})
	if err != nil {
		return err
	}
	join := Join{Version: 1, Name: in.Name, Token: token, Pin: s.keys.Pin(), Addresses: s.poolAddresses(q.snap)}
	return q.answer(api.Invitation{Name: in.Name, Join: join.String(), Expires: expires})
}

// advertised is the address by which other managers reach this one, "" when none can.
func (s *Server) advertised() string {
	if s.cfg.Advertise != "" {
		return s.cfg.Advertise
	}
	for _, a := range s.apis {
		host, _, err := net.SplitHostPort(strings.TrimPrefix(a, "https://"))
		ip := net.ParseIP(host)
		if err == nil && ip != nil && !ip.IsLoopback() && !ip.IsUnspecified() {
			return strings.TrimPrefix(a, "https://")
		}
	}
	return ""
}

// poolAddresses are where a joining manager asks: here first, then the others.
func (s *Server) poolAddresses(snap *model.Snapshot) []string {
	out := []string{s.advertised()}
	for m := range snap.Managers() {
		if m.Member != "" && len(m.Addresses) > 0 && !slices.Contains(out, m.Addresses[0]) {
			out = append(out, m.Addresses[0])
		}
	}
	return out
}

// joinManager lets a manager in that shows the token of its invitation: it signs its key, adds it to the pool as a learner, which
// [Server.promote] makes a voter when it has caught up, and gives it the keys that all managers share.
func (s *Server) joinManager(q *request) error {
	var in api.JoinManager
	if err := q.read(&in); err != nil {
		return err
	}
	what := "manager join " + in.Name
	denied := func(why string) error {
		s.log.Warn("a manager was refused", "name", in.Name, "from", q.RemoteAddr, "why", why)
		return &api.Error{Code: api.Denied, What: what, Why: why, Do: "Make a new join string on a manager of the pool: muster manager add " + in.Name}
	}
	key, err := identity.KeyOfCSR(in.CSR)
	if err != nil {
		return &api.Error{Code: api.Usage, What: what, Why: err.Error()}
	}
	if len(in.Addresses) == 0 {
		return &api.Error{Code: api.Usage, What: what, Why: "it says no address", Do: "Start it with --listen ADDRESS:" + strconv.Itoa(APIPort)}
	}
	q.who = auth.Who{Kind: auth.Manager, Name: "manager " + in.Name}
	name := model.ManagerName(in.Name)
	_, err = s.commit(q.Context(), q, "manager join", false, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		m := snap.Manager(name)
		switch {
		case m == nil:
			return nil, "", nil, denied("nobody invited it")
		case m.TokenHash == "" || subtle.ConstantTimeCompare([]byte(identity.TokenHash(in.Token)), []byte(m.TokenHash)) != 1:
			return nil, "", nil, denied("its token is not that of the newest invitation")
		case time.Now().After(m.TokenExpires):
			return nil, "", nil, denied("its invitation ended at " + m.TokenExpires.Format(time.RFC3339))
		case m.TokenKey != "" && m.TokenKey != key:
			return nil, "", nil, denied("its token was used, with another key")
		}
		doc := *m
		doc.TokenKey, doc.Addresses, doc.Schema, doc.Version = key, in.Addresses, in.Schema, in.Version
		return []model.Op{{Kind: model.KindManager, Name: in.Name, Doc: &doc}}, in.Name + " joins from " + in.Addresses[0], nil, nil
	})
	if err != nil {
		return err
	}
	if err := s.reaches(q.Context(), what, in.Addresses[0]); err != nil {
		return err
	}
	place, err := s.place(q.Context(), name, "https://"+in.Addresses[0], in.Member)
	if err != nil {
		return err
	}
	bundle, err := s.keys.Export()
	if err != nil {
		return err
	}
	b, err := json.Marshal(place)
	if err != nil {
		return err
	}
	return q.answer(api.Joined{Keys: bundle, Member: b})
}

// reaches sees that the address which a joining manager says of itself is one: it listens there already. Without that it would be let in, and
// the others would wait for it in vain.
func (s *Server) reaches(ctx context.Context, what, addr string) error {
	c, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", addr)
	if err == nil {
		return c.Close()
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return &api.Error{
		Code: api.Conflict, What: what, Why: "manager " + string(s.name()) + " does not reach it at " + addr + ": " + err.Error(),
		Do: "Start it with an address by which the others reach it, --listen or --advertise, and the same --join; see that no firewall is between",
	}
}

// place keeps a place among the members. Who has files of one already gets it again; one who lost them must have another, for the others
// count on what was in them.
func (s *Server) place(ctx context.Context, name model.ManagerName, url, has string) (store.Join, error) {
	members, err := s.store.Members(ctx)
	if err != nil {
		return store.Join{}, err
	}
	out := store.Join{Name: name, URL: url}
	for _, m := range members {
		switch {
		case m.Name != name:
			out.Peers = append(out.Peers, m.URL)
		case m.URL == url && m.ID == has: // it may vote already, when it was killed before it had noted that it has all
			out.ID = m.ID
		case m.Learner:
			if err := s.store.RemoveMember(ctx, name); err != nil {
				return store.Join{}, err
			}
		default:
			return store.Join{}, &api.Error{
				Code: api.Conflict, What: "manager join " + string(name), Why: "it is in the pool, with other files or at another address than it has now: " + m.URL,
				Do: "Start it as it was, or take it out and invite it again: muster manager remove " + string(name),
			}
		}
	}
	if out.ID != "" {
		return out, nil
	}
	return s.store.AddMember(ctx, name, url)
}

func (s *Server) removeManager(q *request) error {
	var in api.RemoveManager
	if err := q.read(&in); err != nil {
		return err
	}
	what, name := "manager remove "+in.Name, model.ManagerName(in.Name)
	m := q.snap.Manager(name)
	members, err := s.ownMembers(q.Context())
	if err != nil {
		return err
	}
	member := slices.IndexFunc(members, func(e store.Member) bool { return e.Name == name })
	if m == nil && member < 0 {
		return &api.Error{Code: api.Unknown, What: what, Why: "there is no such manager", Do: "See: muster manager list"}
	}
	if in.Name == string(s.name()) && s.pooled() {
		return &api.Error{Code: api.Conflict, What: what, Why: "it is the manager that you ask", Do: "Ask another one: --server https://…"}
	}
	alive := s.store.Alive()
	left, voters := 0, 0
	for _, e := range members {
		if e.Name == name || e.Learner {
			continue
		}
		voters++
		if e.Self || slices.Contains(alive, e.Name) { // this one lives, though it may not have told so since it was cut off
			left++
		}
	}
	switch votes := member >= 0 && !members[member].Learner; {
	case votes && voters == 0:
		return &api.Error{Code: api.Conflict, What: what, Why: "it is the only manager"}
	case votes && left <= voters/2 && !in.Force:
		return &api.Error{
			Code: api.Conflict, What: what, Why: "of the " + strconv.Itoa(voters) + " that would be left only " + strconv.Itoa(left) + " are alive: no majority",
			Do: "Start one of the silent ones, or use --force",
		}
	}
	remove := func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		if snap.Manager(name) == nil {
			return nil, "", nil, &api.Error{Code: api.Conflict, What: what, Why: "it was removed meanwhile"}
		}
		return []model.Op{{Kind: model.KindManager, Name: in.Name}}, "removed " + in.Name, nil, nil
	}
	// The document goes first: a member without one is nobody's certificate any more, and removing the member can be asked for again.
	rev := q.snap.Revision
	if m != nil {
		rev, err = s.commit(q.Context(), q, "manager remove", in.DryRun, remove)
	}
	if err == nil && !in.DryRun && member >= 0 {
		err = s.store.RemoveMember(q.Context(), name)
	}
	if err != nil {
		return err
	}
	return q.answer(api.Changed{Count: 1, Changes: []string{"manager " + in.Name + ": removed"}, Revision: int64(rev), DryRun: in.DryRun})
}

// ownMembers are the members that are managers: none with an etcd of the site's own.
func (s *Server) ownMembers(ctx context.Context) ([]store.Member, error) {
	if s.cfg.External != nil {
		return nil, nil
	}
	return s.store.Members(ctx)
}

// listManagers asks every manager how it is, within a second.
func (s *Server) listManagers(q *request) error {
	members, err := s.ownMembers(q.Context())
	if err != nil {
		return err
	}
	alive := s.store.Alive()
	var out []api.ManagerInfo
	all := slices.Collect(q.snap.Managers())
	if q.snap.Manager(s.name()) == nil { // it has just started, and writes its document in a moment
		all = append(all, &model.Manager{Name: s.name(), Member: "?", Version: s.cfg.Version})
	}
	for _, m := range all {
		i := api.ManagerInfo{Name: string(m.Name), Addresses: m.Addresses, Role: "equal", State: "silent", Version: m.Version, Self: m.Name == s.name()}
		if s.cfg.External == nil {
			i.Role, i.State = "invited", "-"
		}
		for _, e := range members {
			if e.Name == m.Name {
				i.Role, i.State = role(e), "silent"
			}
		}
		if slices.Contains(alive, m.Name) {
			i.State = "alive"
		}
		out = append(out, i)
	}
	for _, e := range members {
		if q.snap.Manager(e.Name) == nil && !e.Self {
			out = append(out, api.ManagerInfo{Name: string(e.Name), Role: role(e), State: "silent", Why: "it was removed, but not from the pool yet: muster manager remove " + string(e.Name)})
		}
	}
	ctx, cancel := context.WithTimeout(q.Context(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for n := range out {
		i := &out[n]
		switch {
		case i.Self:
			i.Revision, i.State = int64(q.snap.Revision), "alive"
			if h := s.store.Health(); h.Leader == "" {
				i.Stale = h.Since
			}
		case i.Role != "invited" && len(i.Addresses) > 0:
			wg.Go(func() { s.askManager(ctx, i) })
		}
	}
	wg.Wait()
	return q.answer(out)
}

func role(m store.Member) string {
	switch {
	case m.Learner:
		return "learner"
	case m.Leader:
		return "leader"
	}
	return "follower"
}

// askManager fills in what another manager says of itself.
func (s *Server) askManager(ctx context.Context, i *api.ManagerInfo) {
	var v api.Version
	err := s.peers.get(ctx, i.Addresses[0], "/v1/version", "muster", &v)
	if err != nil {
		i.State, i.Why = "silent", err.Error()
		if ctx.Err() != nil {
			i.Why = "it does not answer"
		}
		return
	}
	i.State, i.Revision, i.Version, i.Stale = "alive", v.Revision, v.Version, v.Stale
}

// peers asks other managers, with this manager's certificate.
type peers struct {
	http *http.Client
}

// get asks another manager for a document, on behalf of somebody.
func (p *peers) get(ctx context.Context, address, path, as string, out any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set(asHeader, as)
	res, err := p.http.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			return op.Err
		}
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return api.ReadError(res)
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// keepPool keeps this manager's own document true, and makes voters of learners that have caught up.
func (s *Server) keepPool(ctx context.Context) error {
	removed := func(m model.ManagerName) bool { return s.members.removed(s.store.Snapshot(), m) }
	s.gate.removed.Store(&removed)
	for {
		s.renewCertificates(s.hosts(), time.Now())
		s.members.see(s.store.Snapshot())
		switch err := s.writeSelf(ctx); {
		case store.IsKind(err, store.Removed):
			return err
		case err != nil && ctx.Err() == nil:
			s.log.Warn("this manager's own document is not written yet", "err", err)
		}
		s.promote(ctx)
		again, cancel := context.WithTimeout(ctx, time.Second)
		seen := s.store.Snapshot()
		_ = s.store.Wait(again, func(now *model.Snapshot) bool { return now.Described != seen.Described })
		cancel()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// poolMembers are the managers that this service has seen in the pool. One that it sees no more was removed. It knows nothing of those that
// were removed before it started; of them etcd knows the members' numbers.
type poolMembers struct {
	mu   sync.Mutex
	once map[model.ManagerName]bool
}

// see remembers who is in the pool now.
func (r *poolMembers) see(snap *model.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.once == nil {
		r.once = map[model.ManagerName]bool{}
	}
	for m := range snap.Managers() {
		r.once[m.Name] = true
	}
}

// removed says that a manager was in the pool and is no more.
func (r *poolMembers) removed(snap *model.Snapshot, name model.ManagerName) bool {
	if snap.Manager(name) != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.once[name]
}

// promote is done by the leader alone.
func (s *Server) promote(ctx context.Context) {
	if s.store.Health().Leader != s.name() {
		return
	}
	members, err := s.store.Members(ctx)
	if err != nil {
		return
	}
	for _, m := range members {
		if !m.Learner || s.store.Snapshot().Manager(m.Name) == nil {
			continue
		}
		limit, cancel := context.WithTimeout(ctx, time.Second) // one that never comes must not keep the next one waiting
		if err := s.store.Promote(limit, m.Name); err != nil {
			s.log.Info("a new manager has not caught up yet", "manager", m.Name, "err", err)
		} else {
			s.log.Info("a new manager has caught up and votes now", "manager", m.Name)
		}
		cancel()
	}
}

// writeSelf keeps the document of this manager true: where it is reached, which member it is, what it understands.
func (s *Server) writeSelf(ctx context.Context) error {
	members, err := s.ownMembers(ctx)
	if err != nil {
		return err
	}
	var id string
	for _, m := range members {
		if m.Self {
			id = m.ID
		}
	}
	if at := "https://" + s.advertised(); len(members) > 1 && at != "https://" { // it may have another address than before
		if err := s.store.Advertise(ctx, at); err != nil {
			return err
		}
	}
	_, err = s.store.Update(ctx, func(snap *model.Snapshot) (*model.Change, error) {
		old := snap.Manager(s.name())
		doc := model.Manager{Name: s.name(), Added: time.Now()}
		if old != nil {
			doc = *old
		} else if s.was.Load() && s.cfg.External != nil {
			return nil, &store.Error{
				Kind: store.Removed, What: "store", Why: "this manager was removed: muster manager remove " + string(s.name()),
				Do: "Start it again to make it a manager again; else remove keys/ of its data directory, or move that away",
			}
		} else if len(members) > 1 && id == "" || s.was.Load() {
			return nil, nil // it was removed from the pool; the store ends soon
		}
		doc.Member, doc.Schema, doc.Version = id, store.Schema, s.cfg.Version
		doc.TokenHash, doc.TokenKey, doc.TokenExpires = "", "", time.Time{}
		doc.Addresses, doc.Boot = nil, s.bootPlaces()
		if a := s.advertised(); a != "" {
			doc.Addresses = []string{a}
		}
		if old != nil && same(old, &doc) {
			return nil, nil
		}
		return &model.Change{
			Time: time.Now(), Actor: "muster", Verb: "manager", Request: requestID(), What: "manager " + string(s.name()) + " serves",
			Ops: []model.Op{{Kind: model.KindManager, Name: string(s.name()), Doc: &doc}},
		}, nil
	})
	if err == nil && s.store.Snapshot().Manager(s.name()) != nil {
		s.was.Store(true) // from now on, that it is not there means that it was removed
	}
	return err
}

func same(a, b *model.Manager) bool {
	return a.Member == b.Member && a.Schema == b.Schema && a.Version == b.Version && a.TokenHash == b.TokenHash && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Boot, b.Boot)
}
