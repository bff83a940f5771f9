package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// mostPartChanges is how many changes are kept of a machine; mostTold how many of one reading are events of their own.
const (
	mostPartChanges = 200
	mostTold        = 20
)

// record is what is kept of a machine's parts: see [model.Hardware].
type record struct {
	Parts   []api.NodePart   `json:"parts"`
	Changes []api.PartChange `json:"changes,omitempty"` // oldest first
}

func (s *Server) inventory(q *request) error {
	var in api.Inventory
	if err := q.read(&in); err != nil {
		return err
	}
	if err := checkGlobs("inventory", in.Kinds); err != nil {
		return err
	}
	if in.Accept && (in.Cached || in.History) {
		return &api.Error{Code: api.Usage, What: "inventory", Why: "accept is about what a reading finds, cached and history are about the record"}
	}
	if in.Since != "" && !in.History {
		return &api.Error{Code: api.Usage, What: "inventory", Why: "since is for the history"}
	}
	from, err := since(in.Since, time.Now())
	if err != nil {
		return err
	}
	verb, reach := "inventory read", q.nodes
	if in.Accept {
		verb, reach = "inventory accept", q.disturbs
	}
	nodes, err := reach(verb, in.Range)
	if err != nil {
		return err
	}
	if in.Cached || in.History {
		return s.recordedInventory(q, in, from, nodes)
	}
	return controllers(s, q, in.Range, nodes, "inventory", readTime, func(l *api.NodeInventory) *api.Result { return &l.Result },
		func(ctx context.Context, n *model.Node, d bmc.Driver, out *api.NodeInventory) error {
			parts, err := d.Inventory(ctx)
			if err != nil {
				return err
			}
			off := false
			if p, err := d.Power(ctx); err == nil {
				off = p == bmc.PowerOff
			}
			return s.tookStock(q, n, parts, off, in, out)
		})
}

// tookStock compares what was read with the record, and keeps it.
func (s *Server) tookStock(q *request, n *model.Node, parts []model.Part, off bool, in api.Inventory, out *api.NodeInventory) error {
	s.stock.Lock()
	defer s.stock.Unlock()
	was, err := s.hardware(n.Name)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	next, changes, unseen := was.compare(parts, now, off)
	if in.Accept {
		changes = append(changes, next.accept(now)...)
	}
	out.Read, out.Parts, out.Changes = now, next.kinds(in.Kinds), changes
	if unseen > 0 {
		out.Note = fmt.Sprintf("it is off: %d parts are not seen, and not taken for missing", unseen)
	}
	if in.DryRun {
		return nil
	}
	next.Changes = append(next.Changes, changes...)
	next.Changes = next.Changes[max(0, len(next.Changes)-mostPartChanges):]
	hw, err := next.pack(now)
	if err != nil {
		return err
	}
	s.seen.putParts(n.Name, hw)
	s.store.Observe(n.Name, func(st *model.State) { st.Hardware = hw })
	for i, c := range changes {
		e := about(n.Name, "inventory."+c.Did, c.String())
		e.Bad = c.Did == "missing"
		if i == mostTold {
			e.Step, e.What = "inventory.changed", fmt.Sprintf("and %d more changes: muster inventory %s --history", len(changes)-i, n.Name)
		}
		s.tell(e)
		if i == mostTold {
			break
		}
	}
	return nil
}

// recordedInventory answers from the record, and asks no controller.
func (s *Server) recordedInventory(q *request, in api.Inventory, from time.Time, nodes []*model.Node) error {
	st := q.stream(len(nodes))
	for _, n := range nodes {
		out := api.NodeInventory{Result: api.Result{Node: string(n.Name)}}
		r, err := s.hardware(n.Name)
		switch {
		case err != nil:
			out.Error = bmcProblem(n.Name, "inventory", err)
		case r.read.IsZero():
			out.Error = &api.Error{Code: api.Failed, What: "inventory", Why: "it was never read", Do: "Read it: muster inventory " + string(n.Name), Node: string(n.Name)}
		case in.History:
			out.Read = r.read
			for _, c := range r.Changes {
				if !c.Time.Before(from) {
					out.Changes = append(out.Changes, c)
				}
			}
		default:
			out.Read, out.Parts = r.read, r.kinds(in.Kinds)
		}
		st.line(out, out.Error != nil)
	}
	return st.end()
}

// stocked is a record and when it was made; the zero time is none.
type stocked struct {
	record
	read time.Time
}

// hardware returns what is kept of a node's parts.
func (s *Server) hardware(n model.NodeName) (stocked, error) {
	var hw *model.Hardware
	snap := s.store.Snapshot()
	if st := snap.State(n); st != nil {
		hw = st.Hardware
	}
	if newer := s.seen.getParts(n); newer != nil && (hw == nil || !newer.Read.Before(hw.Read)) {
		hw = newer
	}
	if node := snap.Node(n); hw != nil && node != nil && hw.Read.Before(node.Created) {
		hw = nil // of one that had the name before: it was on its way to the store when that was removed
	}
	return unpackRecord(hw)
}

func (o *sightings) getParts(n model.NodeName) *model.Hardware {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.parts[n]
}

func (o *sightings) putParts(n model.NodeName, hw *model.Hardware) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.parts == nil {
		o.parts = map[model.NodeName]*model.Hardware{}
	}
	o.parts[n] = hw
}

// mostRecord is the longest record that is unpacked, in bytes.
const mostRecord = 16 << 20

// coder packs and unpacks records, one at a time.
type coder struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

var packer = sync.OnceValue(func() coder {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // of an option that we chose
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(mostRecord))
	if err != nil {
		panic(err)
	}
	return coder{enc, dec}
})

// unpackRecord reads a record; of nil it is empty.
func unpackRecord(hw *model.Hardware) (stocked, error) {
	if hw == nil {
		return stocked{}, nil
	}
	out := stocked{read: hw.Read}
	b, err := packer().dec.DecodeAll(hw.Packed, nil)
	if err == nil {
		err = json.Unmarshal(b, &out.record)
	}
	if err != nil {
		return stocked{}, &api.Error{Code: api.Failed, What: "inventory", Why: "its record cannot be read: " + err.Error()}
	}
	return out, nil
}

func (r *record) pack(now time.Time) (*model.Hardware, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return &model.Hardware{Read: now, Packed: packer().enc.EncodeAll(b, nil)}, nil
}

// kinds are the parts of these kinds.
func (r *record) kinds(globs []string) []api.NodePart {
	out := []api.NodePart{}
	for _, p := range r.Parts {
		if globbed(globs, p.Kind) {
			out = append(out, p)
		}
	}
	return out
}

// accept takes the missing parts for gone.
func (r *record) accept(now time.Time) (changes []api.PartChange) {
	r.Parts = slices.DeleteFunc(r.Parts, func(p api.NodePart) bool {
		if p.Missing.IsZero() {
			return false
		}
		changes = append(changes, api.PartChange{Time: now, Slot: p.Slot, Did: "accepted", Was: p.Part.String(), Before: p.Missing})
		return true
	})
	return changes
}

// compare makes the record of a new reading, and says what changed since the one before. Of a machine that is off many controllers tell only what they
// see themselves: what is not seen then, unseen parts, stays as it was.
func (s *stocked) compare(parts []model.Part, now time.Time, off bool) (next record, changes []api.PartChange, unseen int) {
	next.Changes = s.Changes
	first := s.read.IsZero()
	found := make(map[string]bool, len(parts))
	before := make(map[string]*api.NodePart, len(s.Parts))
	for i := range s.Parts {
		before[s.Parts[i].Slot] = &s.Parts[i]
	}
	change := func(did, slot, was, is string) {
		if !first {
			changes = append(changes, api.PartChange{Time: now, Slot: slot, Did: did, Was: was, Now: is, Before: s.read})
		}
	}
	gone := func(old *api.NodePart) {
		p := *old
		if p.Health != model.HealthAbsent && p.Missing.IsZero() {
			if off {
				unseen++
			} else {
				p.Missing = now
				change("missing", p.Slot, p.Part.String(), "")
			}
		}
		next.Parts = append(next.Parts, p)
	}
	for _, p := range parts {
		if found[p.Slot] {
			continue // not unique, against the contract of drivers: the first one counts
		}
		found[p.Slot] = true
		old := before[p.Slot]
		switch {
		case p.Health == model.HealthAbsent && old != nil:
			gone(old)
			continue
		case p.Health == model.HealthAbsent:
		case old == nil || old.Health == model.HealthAbsent:
			change("added", p.Slot, "", p.String())
		case !samePart(old.Part, p):
			change("replaced", p.Slot, old.Part.String(), p.String())
		default:
			if !old.Missing.IsZero() {
				change("back", p.Slot, "", p.String())
			}
			if was, is := differ(old.Part, &p, off); len(was) > 0 {
				change("changed", p.Slot, strings.Join(was, ", "), strings.Join(is, ", "))
			}
		}
		next.Parts = append(next.Parts, api.NodePart{Part: p})
	}
	for i := range s.Parts {
		if !found[s.Parts[i].Slot] {
			gone(&s.Parts[i])
		}
	}
	slices.SortStableFunc(next.Parts, func(a, b api.NodePart) int { return model.Natural(a.Slot, b.Slot) })
	slices.SortStableFunc(changes, func(a, b api.PartChange) int { return model.Natural(a.Slot, b.Slot) })
	return next, changes, unseen
}

// samePart says that two readings are of one and the same part: what both tell of who it is does not differ.
func samePart(a, b model.Part) bool {
	for _, f := range [][2]string{{a.Kind, b.Kind}, {a.Serial, b.Serial}, {a.Vendor, b.Vendor}, {a.Model, b.Model}, {a.Number, b.Number}, {a.WWN, b.WWN}, {a.MAC, b.MAC}} {
		if f[0] != "" && f[1] != "" && f[0] != f[1] {
			return false
		}
	}
	return true
}

// differ tells what of a part is otherwise, as it was and as it is. Of a machine that is off, what is not told any more is taken over.
func differ(a model.Part, b *model.Part, off bool) (was, is []string) {
	text := func(name, old string, now *string) {
		switch {
		case old == *now:
		case *now == "" && off:
			*now = old
		case old == "":
			// It is told now, and was not before: nothing of the part changed.
		default:
			was, is = append(was, name+" "+old), append(is, name+" "+or(*now, "(not told)"))
		}
	}
	number := func(name string, old int64, now int64, put func(int64)) {
		o, n := "", ""
		if old != 0 {
			o = strconv.FormatInt(old, 10)
		}
		if now != 0 {
			n = strconv.FormatInt(now, 10)
		}
		text(name, o, &n)
		v, _ := strconv.ParseInt(n, 10, 64)
		put(v)
	}
	text("firmware", a.Firmware, &b.Firmware)
	text("mac", a.MAC, &b.MAC)
	number("bytes", a.Bytes, b.Bytes, func(v int64) { b.Bytes = v })
	number("cores", int64(a.Cores), int64(b.Cores), func(v int64) { b.Cores = int(v) })
	number("threads", int64(a.Threads), int64(b.Threads), func(v int64) { b.Threads = int(v) })
	number("mbps", a.Mbps, b.Mbps, func(v int64) { b.Mbps = v })
	if a.Health != b.Health && a.Health != model.HealthUnknown && b.Health != model.HealthUnknown {
		health := string(b.Health)
		text("health", string(a.Health), &health)
		b.Health = model.Health(health)
	}
	return was, is
}
