package store

import (
	"bytes"
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// large is the size in bytes from which a change's documents are compressed, and what it left in memory is given back.
const large = 1 << 20

// worthPacking is the size in bytes from which a document of a large change is compressed.
const worthPacking = 256

// frame is what a compressed document begins with: the magic number of zstd (RFC 8878, 3.1.1). One that is not begins with a brace.
var frame = []byte{0x28, 0xb5, 0x2f, 0xfd}

// encoder compresses documents, for any number of goroutines: a change of 100,000 nodes with 40 attributes each has 170 MB
// of JSON, which etcd and raft would hold several times. Schema 1 has none of it.
var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithWindowSize(32<<10), zstd.WithLowerEncoderMem(true))
})

// pack returns the document compressed where that is worth it, else as it is; one that is compressed stays so. room is used again and again.
func pack(doc []byte, room *[]byte) ([]byte, error) {
	if len(doc) < worthPacking || bytes.HasPrefix(doc, frame) {
		return doc, nil
	}
	z, err := encoder()
	if err != nil {
		return nil, err
	}
	if *room = z.EncodeAll(doc, (*room)[:0]); len(*room) >= len(doc) {
		return doc, nil
	}
	return bytes.Clone(*room), nil
}

// packDocs compresses documents in place.
func packDocs(docs [][]byte) error {
	return parallel(len(docs), func(from, to int) (err error) {
		var room []byte
		for i := from; i < to && err == nil; i++ {
			docs[i], err = pack(docs[i], &room)
		}
		return err
	})
}

var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBytes))
})

// unpack returns the JSON of a document as it lies in etcd. When it was compressed, that is appended to room.
func unpack(doc, room []byte) ([]byte, error) {
	if !bytes.HasPrefix(doc, frame) {
		return doc, nil
	}
	z, err := decoder()
	if err != nil {
		return nil, err
	}
	return z.DecodeAll(doc, room)
}

// parallel calls do for parts of the numbers from 0 to n, on all processors when there are many, and returns the error of the first part that
// has one.
func parallel(n int, do func(from, to int) error) error {
	errs := make([]error, runtime.GOMAXPROCS(0))
	share := max(500, (n+len(errs)-1)/len(errs))
	if n <= share {
		return do(0, n)
	}
	var parts sync.WaitGroup
	for i := range errs {
		if i*share < n {
			parts.Go(func() { errs[i] = do(i*share, min(n, (i+1)*share)) })
		}
	}
	parts.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// restAfterLarge is how long after a large change its memory is given back: by then its writer has let go of it, too.
const restAfterLarge = 2 * time.Second

// rest gives the memory of large changes back, some time after the last of them. It sleeps as long as there are none.
func (s *Store) rest(ctx context.Context) {
	var rested <-chan time.Time
	for {
		select {
		case <-s.swollen:
			wait := restAfterLarge
			if !s.leads() { // the leader's entries push the large one out here, too: let them come first
				wait *= 5
			}
			rested = time.After(wait)
		case <-rested:
			rested = nil
			s.giveBack(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// leads says that the member in this process is the leader.
func (s *Store) leads() bool {
	m := s.engine.member
	return m != nil && m.Lead() == uint64(m.MemberID())
}

// giveBack gives the memory of large changes back to the system. Three keep it: raft the entry, until a hundred further ones are there (etcd's
// memorySnapshotCount), and those that other members may ask for, one after another, for of those that come together it keeps the batch; the buffers of etcd's database every value, until it was committed twice without a key being written;
// the garbage collector all the rest, for minutes when little happens.
func (s *Store) giveBack(ctx context.Context) {
	if s.engine.member == nil { // etcd elsewhere
		debug.FreeOSMemory()
		return
	}
	for range 102 + catchUp + 1 {
		if !s.leads() { // one in a pool is enough
			break
		}
		if _, err := s.engine.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(schemaKey), "=", 0)).
			Then(clientv3.OpPut(schemaKey, "0")).Commit(); err != nil {
			break // there is nobody to commit with: the next large change gives its memory back, too
		}
	}
	for range 3 {
		s.engine.member.Backend().ForceCommit()
	}
	_, _ = s.engine.client.Get(ctx, schemaKey, clientv3.WithSerializable()) // has the copy of the buffers made again
	debug.FreeOSMemory()
}
