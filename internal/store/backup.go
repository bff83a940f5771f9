package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"muster/internal/model"
)

// A backup is one file. zstd -dc shows its lines:
//
//	{"format":"muster backup","version":1,"schema":2,"revision":77,"time":"…","program":"muster 1.0"}
//	{"key":"/muster/1/node/r1n1","rev":12,"value":"{…}"}   one for each document and change record, in the order of keys
//	{"keys":"…"}                                           the caller's own bytes, when it gave some
//	{"end":2}                                              how many lines with a key there are
//
// rev is the revision in which the document was written last. A value that is no text has "base64" in place of "value".
// The file ends with a frame that zstd passes over, the seal: SHA-256 of all bytes before it. So a file that lacks an
// end or has one byte changed is known as such before anything of it is used.
const (
	backupFormat  = "muster backup"
	backupVersion = 1
)

// sealHead begins the seal: a skippable frame of 32 bytes (RFC 8878, 3.1.2).
const (
	sealHead = "\x50\x2a\x4d\x18\x20\x00\x00\x00"
	sealSize = len(sealHead) + sha256.Size
)

// maxLine is the longest line of a backup: a change record of a full commit, with its quotes escaped.
const maxLine = 2*maxBytes + 1<<20

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Version  int            `json:"version"` // of the file's format
	Schema   int            `json:"schema"`  // of the store
	Revision model.Revision `json:"revision"`
	Time     time.Time      `json:"time"`
	Program  string         `json:"program,omitempty"` // that wrote it, with its version

	Keys    int   `json:"-"` // documents and change records
	Nodes   int   `json:"-"`
	Size    int64 `json:"-"` // bytes of the file
	Content int64 `json:"-"` // bytes of its lines
}

type backupHeader struct {
	Format string `json:"format"`
	BackupInfo
}

// backupLine is any line but the first.
type backupLine struct {
	Key    string `json:"key,omitempty"`
	Rev    int64  `json:"rev,omitempty"`
	Value  string `json:"value,omitempty"`
	Base64 []byte `json:"base64,omitempty"`
	Keys   []byte `json:"keys,omitempty"`
	End    *int   `json:"end,omitempty"`
}

// Backup writes all documents and change records to w as they are in the newest snapshot, whatever is written meanwhile. keys are the
// caller's, kept beside them: what opens the sealed secrets, itself encrypted; nil is none. Nothing is written to w before all was
// read, so a slow w holds nobody up; until then the file is in memory, about a tenth of what the documents take there. The events of the timeline are
// not in it, but for those of the change records.
func (s *Store) Backup(ctx context.Context, w io.Writer, keys []byte) (BackupInfo, error) {
	if err := s.Err(); err != nil {
		return BackupInfo{}, err
	}
	for {
		var file bytes.Buffer
		info, err := s.backup(ctx, &file, keys)
		if errors.Is(err, rpctypes.ErrCompacted) { // the revision that it was reading is gone: begin again with a newer one
			err = s.reach(ctx, info.Revision+1)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return BackupInfo{}, fmt.Errorf("backup: %w", err)
		}
		if info.Size, err = file.WriteTo(w); err != nil {
			return BackupInfo{}, fmt.Errorf("backup: %w", err)
		}
		if info.Content > large {
			wake(s.swollen)
		}
		return info, nil
	}
}

func (s *Store) backup(ctx context.Context, file io.Writer, keys []byte) (BackupInfo, error) {
	sum := sha256.New()
	z, err := zstd.NewWriter(io.MultiWriter(file, sum), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return BackupInfo{}, err
	}
	defer z.Close()
	info := BackupInfo{
		Version: backupVersion, Schema: int(s.schema.Load()), Revision: s.Snapshot().Revision,
		Time: time.Now().UTC().Truncate(time.Second), Program: s.opt.Program,
	}
	lines := &lineWriter{w: z}
	lines.write(&backupHeader{backupFormat, info})
	from := prefix
	for more := true; more; {
		res, err := s.engine.client.Get(ctx, from, append([]clientv3.OpOption{
			clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithRev(int64(info.Revision)), clientv3.WithLimit(page),
		}, s.engine.reads...)...)
		if err != nil {
			return info, err
		}
		for _, kv := range res.Kvs {
			if kv.Lease != 0 { // of a living process
				continue
			}
			info.count(kv)
			value, err := unpack(kv.Value, nil)
			if err != nil {
				return BackupInfo{}, fmt.Errorf("document %s: %w", kv.Key, err)
			}
			l := backupLine{Key: string(kv.Key), Rev: kv.ModRevision}
			if utf8.Valid(value) {
				l.Value = string(value)
			} else {
				l.Base64 = value
			}
			lines.write(&l)
		}
		more = res.More
		if n := len(res.Kvs); n > 0 {
			from = string(res.Kvs[n-1].Key) + "\x00"
		}
	}
	if keys != nil {
		lines.write(&backupLine{Keys: keys})
	}
	lines.write(&backupLine{End: &info.Keys})
	info.Content = lines.n
	if err := errors.Join(lines.err, z.Close()); err != nil {
		return BackupInfo{}, err
	}
	_, err = file.Write(sum.Sum([]byte(sealHead)))
	return info, err
}

func (i *BackupInfo) count(kv *mvccpb.KeyValue) {
	i.Keys++
	if strings.HasPrefix(string(kv.Key), nodePrefix) {
		i.Nodes++
	}
}

const nodePrefix = prefix + string(model.KindNode) + "/"

// lineWriter writes JSON lines until one fails.
type lineWriter struct {
	w   io.Writer
	n   int64
	err error
}

func (l *lineWriter) write(v any) {
	if l.err != nil {
		return
	}
	var b []byte
	if b, l.err = json.Marshal(v); l.err == nil {
		_, l.err = l.w.Write(append(b, '\n'))
		l.n += int64(len(b)) + 1
	}
}

// CheckBackup reads a whole backup and returns what it holds and the caller's keys, nil when it has none. When the error is nil, nothing of the
// file is missing or changed, and this program can restore it. The error is of kind Newer when a newer muster wrote it, else of kind Damaged.
func CheckBackup(r io.Reader) (info BackupInfo, keys []byte, err error) {
	var d decoders
	info, keys, err = readBackup(r, func(kvs []*mvccpb.KeyValue) error {
		ops, err := d.decode(kvs)
		if err != nil {
			return err
		}
		for i, kv := range kvs {
			if ops[i].Doc != nil {
				continue
			}
			if _, err := readRecord(kv); err != nil {
				return err
			}
		}
		return nil
	})
	newer, unread := (*model.UnknownKindError)(nil), (*readError)(nil)
	switch {
	case err == nil:
		return info, keys, nil
	case IsKind(err, Newer), errors.As(err, &unread):
		return BackupInfo{}, nil, err
	case errors.As(err, &newer):
		err = &Error{Kind: Newer, What: readWhat, Why: newer.Error(), Err: err, Do: "Use the muster that wrote it, or a newer one"}
	default:
		err = &Error{
			Kind: Damaged, What: readWhat, Why: err.Error(), Err: err,
			Do: "Nothing of it was used. Take another copy of the file, or another backup",
		}
	}
	return BackupInfo{}, nil, err
}

const readWhat = "read backup"

// readError is that of the file, not of what is in it.
type readError struct{ err error }

func (e *readError) Error() string { return readWhat + ": " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// readBackup reads a whole backup and calls see for the keys in it, up to a page of them at a time.
func readBackup(r io.Reader, see func([]*mvccpb.KeyValue) error) (BackupInfo, []byte, error) {
	u := &unsealer{r: bufio.NewReaderSize(r, 128<<10), sum: sha256.New()}
	p := backupParser{see: see}
	if err := p.parse(u); err != nil {
		return BackupInfo{}, nil, err
	}
	p.info.Size = u.n
	return p.info, p.keys, nil
}

// backupParser reads the lines of a backup.
type backupParser struct {
	see  func([]*mvccpb.KeyValue) error
	info BackupInfo
	keys []byte
	page []*mvccpb.KeyValue
	last string // key
	end  bool
}

var errCut = errors.New("the file is cut off or was changed: its end is not the seal of what is before")

func (p *backupParser) parse(u *unsealer) error {
	z, err := zstd.NewReader(u, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(32<<20))
	if err != nil {
		return fmt.Errorf("it is no backup of muster: %w", err)
	}
	defer z.Close()
	lines := bufio.NewScanner(z)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			err = p.header(lines.Bytes())
		} else {
			err = p.line(lines.Bytes())
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		p.info.Content += int64(len(lines.Bytes())) + 1
	}
	unread := (*readError)(nil)
	switch err := lines.Err(); {
	case errors.Is(err, errCut):
		return errCut
	case errors.As(err, &unread):
		return unread
	case errors.Is(err, zstd.ErrMagicMismatch) && p.info.Content == 0:
		return errors.New("it is no backup of muster")
	case err != nil:
		return fmt.Errorf("the file is cut off or was changed: %w", err)
	case !p.end || !u.sealed:
		return errCut
	}
	return p.flush()
}

func (p *backupParser) header(b []byte) error {
	var h backupHeader
	if err := json.Unmarshal(b, &h); err != nil || h.Format != backupFormat {
		return errors.New("it is no backup of muster")
	}
	switch {
	case h.Version > backupVersion:
		return &Error{
			Kind: Newer, What: readWhat, Why: fmt.Sprintf("it has format %d, this program knows formats up to %d", h.Version, backupVersion),
			Do: "Use the muster that wrote it (" + h.Program + "), or a newer one",
		}
	case h.Schema > Schema:
		return newerSchema(readWhat, h.Schema)
	case h.Version < 1 || h.Schema < 1 || h.Revision < 1 || h.Revision > maxRevision:
		return fmt.Errorf("format %d, schema %d, revision %d", h.Version, h.Schema, h.Revision)
	}
	p.info = h.BackupInfo
	return nil
}

// maxRevision is far beyond what a store comes to, and leaves room above: a sequence number of an event is a revision and 16 bits.
const maxRevision = 1 << 45

func (p *backupParser) line(b []byte) error {
	var l backupLine
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	switch {
	case p.end:
		return errors.New("something comes after the end")
	case l.End != nil:
		if *l.End != p.info.Keys {
			return fmt.Errorf("%d keys, and the end says %d", p.info.Keys, *l.End)
		}
		p.end = true
	case p.keys != nil:
		return errors.New("not the end after the section of keys")
	case l.Keys != nil:
		p.keys = l.Keys
	case !strings.HasPrefix(l.Key, prefix) || l.Key <= p.last:
		return fmt.Errorf("key %q after %q", l.Key, p.last)
	case l.Rev < 1 || l.Rev > int64(p.info.Revision):
		return fmt.Errorf("key %s is of revision %d, the backup of %d", l.Key, l.Rev, p.info.Revision)
	default:
		kv := &mvccpb.KeyValue{Key: []byte(l.Key), ModRevision: l.Rev, Value: l.Base64}
		if kv.Value == nil {
			kv.Value = []byte(l.Value)
		}
		p.last = l.Key
		p.info.count(kv)
		if p.page = append(p.page, kv); len(p.page) == page {
			return p.flush()
		}
	}
	return nil
}

func (p *backupParser) flush() error {
	full := p.page
	p.page = p.page[:0]
	return p.see(full)
}

// unsealer reads a file up to its seal, and ends with errCut when there is none or it is that of another content.
type unsealer struct {
	r      *bufio.Reader
	sum    hash.Hash
	n      int64 // bytes, the seal included
	sealed bool
}

func (u *unsealer) Read(p []byte) (int, error) {
	b, err := u.r.Peek(min(len(p), u.r.Size()-sealSize) + sealSize)
	if err != nil && err != io.EOF {
		return 0, &readError{err}
	}
	if len(b) > sealSize {
		n := copy(p, b[:len(b)-sealSize])
		u.sum.Write(p[:n])
		u.n += int64(n)
		_, err := u.r.Discard(n)
		return n, err
	}
	if !bytes.Equal(b, u.sum.Sum([]byte(sealHead))) {
		return 0, errCut
	}
	if !u.sealed {
		u.sealed, u.n = true, u.n+int64(sealSize)
	}
	return 0, io.EOF
}
