package model

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"
	"muster/internal/model/noderange"
)

// Snapshot is the world at one revision. It is immutable and safe for any number of readers. [Empty] and [Apply] make
// them; the zero value is none.
type Snapshot struct {
	Revision Revision
	// Described is the revision of the last change to a document that people write: to any but those of the kinds deployment,
	// identity, state, rollout and claim. What does not depend on these need only look again when it moved.
	Described Revision
	// Ordered is the revision of the last change to what nodes are to run: to a document of the kind work.
	Ordered Revision

	// copying is held while Apply copies the tables: the copy stamps the original, which readers do not look at, but
	// another Apply of the same snapshot does.
	copying sync.Mutex

	nodes       table[NodeName, Node]
	groups      table[GroupName, Group]
	images      table[ImageName, Image]
	deployments table[NodeName, Deployment]
	identities  table[NodeName, Identity]
	states      table[NodeName, State]
	networks    table[NetworkName, Network]
	users       table[UserName, User]
	roles       table[RoleName, Role]
	jobs        table[JobName, Job]
	works       table[NodeName, Work]
	managers    table[ManagerName, Manager]
	sealKeys    table[string, SealKey]
	rollouts    table[string, Rollout]
	claims      table[NodeName, Claim]

	// What is found from the documents, kept with every change.
	members *btree.BTreeG[membership] // nodes by the groups they list
	byGroup map[GroupName]*grouping   // never changed once the snapshot is out
	dynamic []*grouping               // those with a range, in natural order
	used    map[AttrName]bool         // attributes and families that some expression or range uses, or has used
	aliases *btree.BTreeG[holder]
	macs    *btree.BTreeG[holder]
	addrs   *btree.BTreeG[holder]
	inNet   *btree.BTreeG[holder]
	ports   table[NodeName, ports] // what a node has in macs, addrs and inNet
	names   *nameIndex             // the same as long as no node comes or goes
	history history                // what the archive needs to know
	archive *archive               // the same for ever
	found   *found                 // the same as long as Described is
	memo    *memo                  // the same for ever
}

// membership is a node's listing of a group.
type membership struct {
	group GroupName
	node  NodeName
}

// nameIndex is made when first asked for.
type nameIndex struct {
	once  sync.Once
	made  atomic.Bool
	names *noderange.Names
}

// Empty is the world before the first change.
func Empty() *Snapshot {
	byKey := func(a, b holder) bool {
		if a.key != b.key {
			return a.key < b.key
		}
		return Natural(string(a.node), string(b.node)) < 0
	}
	return &Snapshot{
		nodes:       newTable[NodeName, Node](),
		groups:      newTable[GroupName, Group](),
		images:      newTable[ImageName, Image](),
		deployments: newTable[NodeName, Deployment](),
		identities:  newTable[NodeName, Identity](),
		states:      newTable[NodeName, State](),
		networks:    newTable[NetworkName, Network](),
		users:       newTable[UserName, User](),
		roles:       newTable[RoleName, Role](),
		jobs:        newTable[JobName, Job](),
		works:       newTable[NodeName, Work](),
		managers:    newTable[ManagerName, Manager](),
		sealKeys:    newTable[string, SealKey](),
		rollouts:    newTable[string, Rollout](),
		claims:      newTable[NodeName, Claim](),
		members: newTree(func(a, b membership) bool {
			if a.group != b.group {
				return a.group < b.group
			}
			return Natural(string(a.node), string(b.node)) < 0
		}),
		byGroup: map[GroupName]*grouping{},
		used:    map[AttrName]bool{},
		aliases: newTree(byKey),
		macs:    newTree(byKey),
		addrs:   newTree(byKey),
		inNet:   newTree(byKey),
		ports:   newTable[NodeName, ports](),
		names:   &nameIndex{},
		history: history{&step{}},
		archive: &archive{},
		found:   &found{},
		memo:    &memo{},
	}
}

// Len is how many nodes there are.
func (s *Snapshot) Len() int { return s.nodes.tree.Len() }

// Node returns the node of that name, nil when there is none.
func (s *Snapshot) Node(n NodeName) *Node { return s.nodes.get(n) }

// Find returns the node of that name, or else the one that has it as an alias; nil when there is none.
func (s *Snapshot) Find(name string) *Node {
	if n := s.Node(NodeName(name)); n != nil {
		return n
	}
	return s.firstHolder(s.aliases, name)
}

// Nodes yields all nodes in the natural order of their names.
func (s *Snapshot) Nodes() iter.Seq[*Node] { return s.nodes.all() }

// Group returns the group of that name, nil when there is none.
func (s *Snapshot) Group(n GroupName) *Group {
	if g := s.byGroup[n]; g != nil {
		return g.Group
	}
	return nil
}

// Groups yields all groups in natural order. Everything is among them only when it was put, to carry attributes.
func (s *Snapshot) Groups() iter.Seq[*Group] { return s.groups.all() }

// Image returns the image of that name, nil when there is none.
func (s *Snapshot) Image(n ImageName) *Image { return s.images.get(n) }

// Images yields all images in natural order.
func (s *Snapshot) Images() iter.Seq[*Image] { return s.images.all() }

// Deployment returns the deployment of a node, nil when there is none.
func (s *Snapshot) Deployment(n NodeName) *Deployment { return s.deployments.get(n) }

// Deployments yields all deployments in the natural order of their nodes.
func (s *Snapshot) Deployments() iter.Seq[*Deployment] { return s.deployments.all() }

// Identity returns what a node proved when it enrolled, nil when it never did.
func (s *Snapshot) Identity(n NodeName) *Identity { return s.identities.get(n) }

// State returns what was observed of a node, nil when nothing was.
func (s *Snapshot) State(n NodeName) *State { return s.states.get(n) }

// Network returns the network of that name, nil when there is none.
func (s *Snapshot) Network(n NetworkName) *Network { return s.networks.get(n) }

// Networks yields all networks in natural order.
func (s *Snapshot) Networks() iter.Seq[*Network] { return s.networks.all() }

// User returns the user of that name, nil when there is none.
func (s *Snapshot) User(n UserName) *User { return s.users.get(n) }

// Users yields all users in natural order.
func (s *Snapshot) Users() iter.Seq[*User] { return s.users.all() }

// Role returns the role of that name, nil when there is none.
func (s *Snapshot) Role(n RoleName) *Role { return s.roles.get(n) }

// Roles yields all roles in natural order.
func (s *Snapshot) Roles() iter.Seq[*Role] { return s.roles.all() }

// Manager returns the manager of that name, nil when there is none.
func (s *Snapshot) Manager(n ManagerName) *Manager { return s.managers.get(n) }

// Managers yields all managers in natural order.
func (s *Snapshot) Managers() iter.Seq[*Manager] { return s.managers.all() }

// Job returns a job, nil when there is none of that name.
func (s *Snapshot) Job(n JobName) *Job { return s.jobs.get(n) }

// Jobs yields all jobs in natural order.
func (s *Snapshot) Jobs() iter.Seq[*Job] { return s.jobs.all() }

// Work returns what a node was last told to run, nil when it was nothing.
func (s *Snapshot) Work(n NodeName) *Work { return s.works.get(n) }

// SealKey returns the data key with that number, nil when there is none.
func (s *Snapshot) SealKey(id string) *SealKey { return s.sealKeys.get(id) }

// SealKeys yields all data keys.
func (s *Snapshot) SealKeys() iter.Seq[*SealKey] { return s.sealKeys.all() }

// Names is the index of all node names, for noderanges. The first reader after a node came or went waits while it is made.
func (s *Snapshot) Names() *noderange.Names {
	s.names.once.Do(func() {
		s.names.names = noderange.NewNames(func(yield func(string) bool) {
			for n := range s.Nodes() {
				if !yield(string(n.Name)) {
					return
				}
			}
		}, s.Len())
		s.names.made.Store(true)
	})
	return s.names.names
}

// Apply returns the world after the change. It does not judge the change: that is Check's. It stamps the documents with
// the change's revision. Its cost follows what the change touches, not how large the world is; attributes of a
// group that the index of ports depends on touch every member.
func Apply(s *Snapshot, c *Change) (*Snapshot, error) {
	b, err := build(s, c)
	if err != nil {
		return nil, err
	}
	return b.s, nil
}

// builder makes the next snapshot.
type builder struct {
	old, s *Snapshot
	dirty  []NodeName // to be indexed again
	step   step       // what the change does to views
	named  []string   // names of nodes and groups, and aliases, that came or went
	were   []*Group   // group documents before and after, in pairs
	all    bool       // all nodes are
	shared bool       // byGroup still belongs to old
	spared bool       // used still belongs to old
}

func build(old *Snapshot, c *Change) (*builder, error) {
	b := &builder{old: old, s: old.clone(c.Revision), shared: true, spared: true}
	for _, op := range c.Ops {
		if err := b.put(op, c.Revision); err != nil {
			return nil, err
		}
	}
	if !b.shared {
		b.regroup()
	}
	meant := b.meant()
	// Who is in a dynamic group may hang on what a name stands for, and on a network that the node would be in without it.
	b.all = b.all || (meant || b.step.all) && b.rangesGivePorts()
	b.record(meant)
	if b.all {
		for n := range b.s.Nodes() {
			b.dirty = append(b.dirty, n.Name)
		}
	}
	if len(b.dirty) > 1 {
		seen := make(map[NodeName]bool, len(b.dirty))
		b.dirty = slices.DeleteFunc(b.dirty, func(n NodeName) bool {
			was := seen[n]
			seen[n] = true
			return was
		})
	}
	for _, n := range b.dirty {
		b.s.indexPorts(n)
	}
	return b, nil
}

func (s *Snapshot) clone(rev Revision) *Snapshot {
	s.copying.Lock()
	defer s.copying.Unlock()
	return &Snapshot{
		Revision:    rev,
		Described:   s.Described,
		Ordered:     s.Ordered,
		nodes:       s.nodes.copy(),
		groups:      s.groups.copy(),
		images:      s.images.copy(),
		deployments: s.deployments.copy(),
		identities:  s.identities.copy(),
		states:      s.states.copy(),
		networks:    s.networks.copy(),
		users:       s.users.copy(),
		roles:       s.roles.copy(),
		jobs:        s.jobs.copy(),
		works:       s.works.copy(),
		managers:    s.managers.copy(),
		sealKeys:    s.sealKeys.copy(),
		rollouts:    s.rollouts.copy(),
		claims:      s.claims.copy(),
		members:     s.members.Copy(),
		byGroup:     s.byGroup,
		dynamic:     s.dynamic,
		used:        s.used,
		aliases:     s.aliases.Copy(),
		macs:        s.macs.Copy(),
		addrs:       s.addrs.Copy(),
		inNet:       s.inNet.Copy(),
		ports:       s.ports.copy(),
		names:       s.names,
		history:     s.history,
		archive:     s.archive,
		found:       s.found,
		memo:        s.memo,
	}
}

func (b *builder) put(op Op, rev Revision) error {
	s := b.s
	switch op.Kind {
	case KindDeployment, KindIdentity, KindState, KindWork, KindRollout, KindClaim:
	default:
		s.Described = rev
		if s.found == b.old.found {
			s.found = &found{}
		}
	}
	switch op.Kind {
	case KindNode:
		was := s.Node(NodeName(op.Name))
		err := set(s.nodes, NodeName(op.Name), op.Doc, func(d *Node) { d.Revision = rev })
		if err == nil {
			b.node(NodeName(op.Name), was, s.Node(NodeName(op.Name)))
		}
		return err
	case KindGroup:
		was := s.Group(GroupName(op.Name))
		err := set(s.groups, GroupName(op.Name), op.Doc, func(d *Group) { d.Revision = rev })
		if err == nil {
			b.group(GroupName(op.Name), was, s.groups.get(GroupName(op.Name)))
		}
		return err
	case KindImage:
		return set(s.images, ImageName(op.Name), op.Doc, func(d *Image) { d.Revision = rev })
	case KindDeployment:
		return set(s.deployments, NodeName(op.Name), op.Doc, func(d *Deployment) { d.Revision = rev })
	case KindIdentity:
		return set(s.identities, NodeName(op.Name), op.Doc, func(d *Identity) { d.Revision = rev })
	case KindState:
		return set(s.states, NodeName(op.Name), op.Doc, func(*State) {})
	case KindNetwork:
		b.step.all = true
		for n := range holding(s.inNet, op.Name) {
			b.dirty = append(b.dirty, n)
		}
		return set(s.networks, NetworkName(op.Name), op.Doc, func(d *Network) { d.Revision = rev })
	case KindUser:
		return set(s.users, UserName(op.Name), op.Doc, func(d *User) { d.Revision = rev })
	case KindRole:
		return set(s.roles, RoleName(op.Name), op.Doc, func(d *Role) { d.Revision = rev })
	case KindManager:
		return set(s.managers, ManagerName(op.Name), op.Doc, func(d *Manager) { d.Revision = rev })
	case KindJob:
		return set(s.jobs, JobName(op.Name), op.Doc, func(d *Job) { d.Revision = rev })
	case KindWork:
		s.Ordered = rev
		return set(s.works, NodeName(op.Name), op.Doc, func(d *Work) { d.Revision = rev })
	case KindSealKey:
		return set(s.sealKeys, op.Name, op.Doc, func(d *SealKey) { d.Revision = rev })
	case KindRollout:
		return set(s.rollouts, op.Name, op.Doc, func(d *Rollout) { d.Revision = rev })
	case KindClaim:
		return set(s.claims, NodeName(op.Name), op.Doc, func(d *Claim) { d.Revision = rev })
	}
	return &UnknownKindError{op.Kind}
}

func set[K ~string, V any](t table[K, V], k K, doc any, stamp func(*V)) error {
	if doc == nil {
		t.remove(k)
		return nil
	}
	v, ok := doc.(*V)
	if !ok {
		return fmt.Errorf("document %s: %T is not %T", k, doc, v)
	}
	if v == nil { // a typed nil removes, too
		t.remove(k)
		return nil
	}
	stamp(v)
	t.set(k, v)
	return nil
}

// node keeps what is found from a node in step. Either document may be nil.
func (b *builder) node(name NodeName, was, is *Node) {
	b.dirty = append(b.dirty, name)
	b.step.nodes = append(b.step.nodes, name)
	if (was == nil) != (is == nil) {
		b.named = append(b.named, string(name))
	}
	b.aliases(was, is)
	if (was == nil) != (is == nil) && b.s.names == b.old.names {
		b.s.names = &nameIndex{}
	}
	var before, after []GroupName
	var called, calls []NodeName
	if was != nil {
		before, called = was.Groups, was.Aliases
	}
	if is != nil {
		after, calls = is.Groups, is.Aliases
		b.uses(is.Attrs)
	}
	exchange(b.s.aliases, name, called, calls)
	if slices.Equal(before, after) {
		return
	}
	for _, g := range before {
		b.s.members.Delete(membership{g, name})
	}
	for _, g := range after {
		b.s.members.Set(membership{g, name})
	}
}

// group keeps what is found from a group in step. Either document may be nil.
func (b *builder) group(name GroupName, was, is *Group) {
	b.were = append(b.were, was, is)
	if (was == nil) != (is == nil) {
		b.named = append(b.named, string(name))
	}
	if b.shared {
		b.s.byGroup = maps.Clone(b.s.byGroup)
		b.shared = false
	}
	if is == nil {
		delete(b.s.byGroup, name)
	} else {
		b.s.byGroup[name] = newGrouping(is)
		b.uses(is.Attrs)
		b.usesOf(b.s.byGroup[name].plan)
	}
	if !b.movesPorts(was, is) {
		return
	}
	if name == Everything || was != nil && was.Range != "" || is != nil && is.Range != "" {
		b.all = true
		return
	}
	for n := range b.s.listing(name) {
		b.dirty = append(b.dirty, n)
	}
}

// movesPorts says whether the ports of members can be others after the change of a group.
func (b *builder) movesPorts(was, is *Group) bool {
	var x, y map[AttrName]string
	moved := false
	if was != nil {
		x = was.Attrs
		moved = was.Range != ""
	}
	if is != nil {
		y = is.Attrs
		moved = moved || is.Range != ""
	}
	if moved && !(was != nil && is != nil && was.Range == is.Range) {
		return true
	}
	for a := range differences(x, y) {
		if isPort(a) || isRef(a) || b.s.isUsed(a) {
			return true
		}
	}
	return false
}

// aliases keeps the count of aliases.
func (b *builder) aliases(was, is *Node) {
	var before, after []NodeName
	if was != nil {
		before = was.Aliases
	}
	if is != nil {
		after = is.Aliases
	}
	if slices.Equal(before, after) {
		return
	}
	for _, a := range slices.Concat(before, after) {
		b.named = append(b.named, string(a))
	}
}

// rangesGivePorts says that the ports of a node may hang on the dynamic groups that it is in.
func (b *builder) rangesGivePorts() bool {
	for _, g := range b.s.dynamic {
		for a := range g.Attrs {
			if isPort(a) || isRef(a) || b.s.isUsed(a) {
				return true
			}
		}
	}
	return false
}

// record adds the step of the change to the history. meant is what the method says.
func (b *builder) record(meant bool) {
	st := &b.step
	for pair := range slices.Chunk(b.were, 2) {
		was, is := pair[0], pair[1]
		var x, y Group
		if was != nil {
			x = *was
		}
		if is != nil {
			y = *is
		}
		changed := differences(x.Attrs, y.Attrs)
		if x.Range != y.Range { // who has its attributes may be others
			put(&st.groups, x.Name, y.Name)
			changed = func(yield func(AttrName) bool) {
				for _, attrs := range []map[AttrName]string{x.Attrs, y.Attrs} {
					for a := range attrs {
						if !yield(a) {
							return
						}
					}
				}
			}
		}
		for a := range changed {
			put(&st.attrs, a)
			st.linked = st.linked || b.s.isUsed(a)
		}
	}
	st.linked = st.linked || meant
	if st.all || len(st.nodes) > 0 || len(b.were) > 0 {
		if len(st.nodes) > 64+b.s.Len()/64 { // its names would be kept for long
			st.nodes, st.all = nil, true
		}
		b.s.history = b.old.history.and(st)
	}
}

func put[K comparable](m *map[K]bool, keys ...K) {
	if *m == nil {
		*m = map[K]bool{}
	}
	for _, k := range keys {
		(*m)[k] = true
	}
}

// meant says that a range may mean another thing by a name that came or went.
func (b *builder) meant() bool {
	if len(b.named) == 0 {
		return false
	}
	words := map[string]bool{}
	for _, g := range slices.Concat(b.old.dynamic, b.s.dynamic) {
		for _, w := range g.plan.Groups() {
			words[w] = true
		}
	}
	return len(words) > 0 && slices.ContainsFunc(b.named, func(n string) bool {
		g := GroupName(n)
		return words[n] || b.s.byGroup[g] != nil || b.old.byGroup[g] != nil
	})
}

// differences yields the attributes that are not the same in both.
func differences(x, y map[AttrName]string) iter.Seq[AttrName] {
	return func(yield func(AttrName) bool) {
		for a, v := range x {
			if w, ok := y[a]; (!ok || w != v) && !yield(a) {
				return
			}
		}
		for a := range y {
			if _, ok := x[a]; !ok && !yield(a) {
				return
			}
		}
	}
}

// uses notes the attributes that expressions of a document refer to.
func (b *builder) uses(attrs map[AttrName]string) {
	for a, v := range attrs {
		if !hasExpression(v) || isSecret(a) {
			continue
		}
		if e, err := b.s.memo.parse(v); err == nil {
			for _, a := range e.attrs {
				b.use(a)
			}
		}
	}
}

func (b *builder) usesOf(p *noderange.Plan) {
	if p == nil {
		return
	}
	for _, q := range p.Queries() {
		if isGlob(q.Attr) {
			for i := range known.all {
				b.use(known.all[i].Name)
			}
			continue
		}
		b.use(AttrName(q.Attr))
	}
}

func (b *builder) use(a AttrName) {
	if b.s.used[a] {
		return
	}
	if b.spared {
		b.s.used = maps.Clone(b.s.used)
		b.spared = false
	}
	b.s.used[a] = true
	if doc, ok := Lookup(a); ok && doc.common != nil {
		b.use(refOf(a))
	}
}

// isUsed says that an expression or range may depend on the attribute.
func (s *Snapshot) isUsed(a AttrName) bool {
	if s.used[a] {
		return true
	}
	doc, ok := Lookup(a)
	return ok && s.used[doc.Name] // a glob uses whole families
}

// regroup lists the dynamic groups anew.
func (b *builder) regroup() {
	b.s.dynamic = nil
	for _, g := range b.s.byGroup {
		if g.plan != nil {
			b.s.dynamic = append(b.s.dynamic, g)
		}
	}
	slices.SortFunc(b.s.dynamic, func(x, y *grouping) int { return Natural(string(x.Name), string(y.Name)) })
}
