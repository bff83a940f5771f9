package store

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"muster/internal/model"
)

// touched returns the document that an operation replaces, a nil pointer where there is none. ok says whether the family is one whose touches are recorded:
// what people describe is; what is observed, or is a secret's key or a proof of identity, is not.
func touched(s *model.Snapshot, op model.Op) (before any, ok bool) {
	switch op.Kind {
	case model.KindNode:
		return s.Node(model.NodeName(op.Name)), true
	case model.KindGroup:
		return s.Group(model.GroupName(op.Name)), true
	case model.KindNetwork:
		return s.Network(model.NetworkName(op.Name)), true
	case model.KindUser:
		return s.User(model.UserName(op.Name)), true
	case model.KindRole:
		return s.Role(model.RoleName(op.Name)), true
	case model.KindJob:
		return s.Job(model.JobName(op.Name)), true
	case model.KindImage:
		return s.Image(model.ImageName(op.Name)), true
	}
	return nil, false
}

// touchesOf says what operations do to the documents of a snapshot, in the order of families and names. Many are compared on all
// processors.
func touchesOf(s *model.Snapshot, ops []model.Op) ([]model.Touch, error) {
	all := make([]*model.Touch, len(ops))
	errs := make([]error, runtime.GOMAXPROCS(0))
	share := max(500, (len(ops)+len(errs)-1)/len(errs))
	var wg sync.WaitGroup
	for n := 0; n*share < len(ops); n++ {
		wg.Go(func() {
			for i := n * share; i < min(len(ops), (n+1)*share); i++ {
				before, ok := touched(s, ops[i])
				if !ok {
					continue
				}
				t, err := model.TouchOf(before, ops[i].Doc)
				if err != nil {
					errs[n] = fmt.Errorf("%s %s: %w", ops[i].Kind, ops[i].Name, err)
					return
				}
				all[i] = t
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var out []model.Touch
	for _, t := range all {
		if t != nil {
			out = append(out, *t)
		}
	}
	slices.SortFunc(out, func(a, b model.Touch) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// packAbove is how many bytes of touches are written plainly; of more, each pack holds about as many.
const packAbove = 64 << 10

// touchPack is a part of a long list of touches, in the order of families and names: a JSON array, zstd.
type touchPack struct {
	From Doc    `json:"from"` // the first document in it
	Z    []byte `json:"z"`
}

// packTouches writes touches, which are in order, as a JSON array; when that is long, as packs.
func packTouches(touches []model.Touch) (plain, packed []byte, err error) {
	if len(touches) == 0 {
		return nil, nil, nil
	}
	var packs []touchPack
	var z *zstd.Encoder
	list, from := []byte{'['}, 0
	seal := func(to int) error {
		if z == nil {
			if z, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10)); err != nil {
				return err
			}
		}
		list[len(list)-1] = ']'
		packs = append(packs, touchPack{Doc{touches[from].Kind, touches[from].Name}, z.EncodeAll(list, nil)})
		list, from = append(list[:0], '['), to
		return nil
	}
	for i := range touches {
		b, err := json.Marshal(&touches[i])
		if err != nil {
			return nil, nil, fmt.Errorf("touch of %s %s: %w", touches[i].Kind, touches[i].Name, err)
		}
		list = append(append(list, b...), ',')
		if len(list) > packAbove {
			if err := seal(i + 1); err != nil {
				return nil, nil, err
			}
		}
	}
	if packs == nil {
		list[len(list)-1] = ']'
		return list, nil, nil
	}
	if from < len(touches) {
		if err := seal(len(touches)); err != nil {
			return nil, nil, err
		}
	}
	packed, err = json.Marshal(packs)
	return nil, packed, err
}

// The beginnings of the last member of a change's line, and of a pack.
var (
	plainMark = []byte(`,"touches":`)
	packsMark = []byte(`,"touchesz":`)
	packMark  = []byte(`{"from":`)
)

// touchReader reads touches of lines. The zero value is ready; close it after use.
type touchReader struct{ z *zstd.Decoder }

func (u *touchReader) close() {
	if u.z != nil {
		u.z.Close()
	}
}

// pack reads one pack, decompressed.
func (u *touchReader) pack(text []byte) ([]byte, error) {
	if u.z == nil {
		var err error
		if u.z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20)); err != nil {
			return nil, err
		}
	}
	_, text, ok := bytes.Cut(text, []byte(`"z":"`))
	text, _, end := bytes.Cut(text, []byte(`"`))
	if !ok || !end {
		return nil, errors.New("a list of touches is damaged")
	}
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return nil, err
	}
	return u.z.DecodeAll(raw, nil)
}

// lists yields the arrays of touches of a change's line that may hold one of the wanted documents, all of them when wanted is nil. Packs
// that hold none are not decompressed.
func (u *touchReader) lists(line []byte, wanted []Doc, see func(list []byte) error) error {
	if _, list, ok := bytes.Cut(line, plainMark); ok {
		return see(bytes.TrimSuffix(bytes.TrimSpace(list), []byte("}")))
	}
	_, rest, ok := bytes.Cut(line, packsMark)
	if !ok {
		return nil
	}
	i := bytes.Index(rest, packMark)
	if i < 0 {
		return errors.New("a list of touches is damaged")
	}
	for rest = rest[i:]; len(rest) > 0; {
		this := rest
		var to *Doc
		if i := bytes.Index(rest[1:], packMark); i >= 0 { // base64 has no braces
			this = rest[:i+1]
			to = new(Doc)
			if err := firstOf(rest[i+1:], to); err != nil {
				return err
			}
		}
		rest = rest[len(this):]
		if wanted != nil {
			from := new(Doc)
			if err := firstOf(this, from); err != nil {
				return err
			}
			i, _ := slices.BinarySearchFunc(wanted, *from, Doc.compare)
			if i == len(wanted) || to != nil && wanted[i].compare(*to) >= 0 {
				continue
			}
		}
		list, err := u.pack(this)
		if err != nil {
			return err
		}
		if err := see(list); err != nil {
			return err
		}
	}
	return nil
}

// firstOf reads the first document of the pack that text begins with.
func firstOf(text []byte, d *Doc) error {
	return json.NewDecoder(bytes.NewReader(text[len(packMark):])).Decode(d)
}

// all reads all touches of a line.
func (u *touchReader) all(line []byte) (out []model.Touch, err error) {
	err = u.lists(line, nil, func(list []byte) error {
		var part []model.Touch
		err := json.Unmarshal(list, &part)
		out = append(out, part...)
		return err
	})
	return out, err
}

// of reads the touches of the wanted documents, which are in order and also a set.
func (u *touchReader) of(line []byte, wanted []Doc, set map[Doc]bool) (out []model.Touch, err error) {
	err = u.lists(line, wanted, func(list []byte) error {
		found, err := pick(list, set)
		out = append(out, found...)
		return err
	})
	return out, err
}

// touchMark is how the JSON of every touch begins. Inside a JSON string its quotes would be escaped.
var touchMark = []byte(`{"kind":"`)

// pick reads the touches of those documents out of a list. The others are not decoded.
func pick(list []byte, set map[Doc]bool) (out []model.Touch, err error) {
	for {
		i := bytes.Index(list, touchMark)
		if i < 0 {
			return out, nil
		}
		list = list[i:]
		if set[headOf(list)] {
			var t model.Touch
			if err := json.NewDecoder(bytes.NewReader(list)).Decode(&t); err != nil {
				return nil, err
			}
			if set[Doc{t.Kind, t.Name}] {
				out = append(out, t)
			}
		}
		list = list[len(touchMark):]
	}
}

// headOf reads family and name of the touch that text begins with. Names of documents need no escapes in JSON; one that does is
// not found.
func headOf(text []byte) Doc {
	kind, rest, _ := bytes.Cut(text[len(touchMark):], []byte(`"`))
	rest, ok := bytes.CutPrefix(rest, []byte(`,"name":"`))
	if !ok {
		return Doc{}
	}
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return Doc{model.Kind(kind), string(name)}
}
