package chunk

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The coders are shared: their calls for whole frames may be made by any number of goroutines at once.
var coders = sync.OnceValue(func() (c struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
},
) {
	n := runtime.GOMAXPROCS(0)
	var err error
	// A chunk is compressed alone, so no window is longer than it. The checksum would say less than the digest does.
	c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(n), zstd.WithEncoderCRC(false), zstd.WithWindowSize(MaxSize), zstd.WithSingleSegment(true))
	if err != nil {
		panic(err) // the options are constants
	}
	c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderMaxMemory(MaxSize), zstd.WithDecoderMaxWindow(MaxSize))
	if err != nil {
		panic(err)
	}
	return c
})

// Pack compresses a chunk into buf's room.
func Pack(plain, buf []byte) []byte { return coders().enc.EncodeAll(plain, buf[:0]) }

// Unpack gives the plain content of a compressed chunk, in buf's room if that is enough, when it is what d names; where is named in the
// error, which is a [*DamagedError].
func Unpack(d Digest, packed, buf []byte, where string) ([]byte, error) {
	plain, err := coders().dec.DecodeAll(packed, buf[:0])
	if err != nil {
		return nil, &DamagedError{Digest: d, Where: where, Why: fmt.Sprintf("%d bytes do not unpack: %v", len(packed), err)}
	}
	if got := Sum(plain); got != d {
		return nil, &DamagedError{Digest: d, Where: where, Why: "its content has digest " + got.String()}
	}
	return plain, nil
}
