package tftpd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// The packets of RFC 1350 §5 and RFC 2347.
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opAck   = 4
	opError = 5
	opOAck  = 6
)

// request is a read request. Options that were not sent are 0.
type request struct {
	name    string
	block   int           // octets in a block, 512 without the option
	window  int           // blocks; 0 without the option
	timeout time.Duration // 0 without the option
	size    bool          // the size is asked for
	options bool          // there is something to acknowledge
}

// The limits of RFC 2348, 2349 and 7440. Window is bounded by us: more only fills buffers on the way.
const (
	minBlock, maxBlock = 8, 65464
	maxWindow          = 64
)

// refusal is an error with its code (RFC 1350 appendix).
type refusal struct {
	code uint16
	text string
}

func (r *refusal) Error() string { return r.text }

// parse reads a request. An option that cannot be is left out, as RFC 2347 has it.
func parse(b []byte) (request, error) {
	r := request{block: 512}
	if len(b) < 4 {
		return r, &refusal{4, "the request is cut"}
	}
	switch binary.BigEndian.Uint16(b) {
	case opRead:
	case opWrite:
		return r, &refusal{2, "this server does not support write requests"}
	default:
		return r, &refusal{4, "port 69 takes read requests"}
	}
	if b[len(b)-1] != 0 {
		return r, &refusal{4, "the request has no final zero"}
	}
	f := strings.Split(string(b[2:len(b)-1]), "\x00")
	if len(f) < 2 {
		return r, &refusal{4, "the request has no mode"}
	}
	r.name = f[0]
	if mode := strings.ToLower(f[1]); mode != "octet" && mode != "netascii" {
		return r, &refusal{4, "there is no mode but octet"}
	}
	for f = f[2:]; len(f) >= 2; f = f[2:] {
		v, err := strconv.Atoi(f[1])
		if err != nil {
			continue
		}
		switch strings.ToLower(f[0]) {
		case "blksize":
			if v >= minBlock {
				r.block, r.options = min(v, maxBlock), true
			}
		case "timeout":
			if v >= 1 && v <= 255 {
				r.timeout, r.options = time.Duration(v)*time.Second, true
			}
		case "tsize":
			r.size, r.options = true, true
		case "windowsize":
			if v >= 1 && v <= 65535 {
				r.window, r.options = min(v, maxWindow), true
			}
		}
	}
	return r, nil
}

// acknowledge makes the OACK, which has the options that were taken.
func (r request) acknowledge(size int64) []byte {
	b := []byte{0, opOAck}
	put := func(name string, v int64) { b = append(b, name+"\x00"+strconv.FormatInt(v, 10)+"\x00"...) }
	if r.block != 512 {
		put("blksize", int64(r.block))
	}
	if r.timeout > 0 {
		put("timeout", int64(r.timeout/time.Second))
	}
	if r.size {
		put("tsize", size)
	}
	if r.window > 0 {
		put("windowsize", int64(r.window))
	}
	return b
}

func errorPacket(err error) []byte {
	code := uint16(0)
	if r := (*refusal)(nil); errors.As(err, &r) {
		code = r.code
	}
	b := binary.BigEndian.AppendUint16([]byte{0, opError}, code)
	return append(b, strings.ReplaceAll(fmt.Sprintf("%.400s", err), "\x00", "")+"\x00"...)
}

var (
	errSilent = errors.New("the client stopped acknowledging")
	errEnded  = errors.New("the client ended the transfer")
)

// transfer sends one file. Blocks are counted from 1; on the wire the number is modulo 65,536.
type transfer struct {
	conn    *net.UDPConn
	request request
	content Content
	packet  []byte
}

// run sends it all. Acknowledgements count for all blocks up to theirs. A client with a window acknowledges its end, or the last block before
// a gap, from where it goes on (RFC 7440 §4); any other one each block, and only silence means loss (RFC 1350 §2, and RFC 1123
// §4.2.3.1: a second acknowledgement of the same block is no reason to send).
func (t *transfer) run() error {
	r := t.request
	wait, window := resend, int64(ahead)
	if r.timeout > 0 {
		wait = r.timeout
	}
	if r.window > 0 {
		window = int64(r.window)
	}
	t.packet = make([]byte, 4+r.block)
	last := t.content.Size/int64(r.block) + 1 // it is shorter than the others, maybe empty
	acked, sent := int64(0), int64(0)
	if r.options {
		acked = -1
	}
	buf := make([]byte, 1024)
	for silent := 0; acked < last; {
		if acked < 0 {
			if _, err := t.conn.Write(r.acknowledge(t.content.Size)); err != nil {
				return err
			}
		}
		for acked >= 0 && sent < min(acked+window, last) {
			if err := t.send(sent + 1); err != nil {
				return err
			}
			sent++
		}
		n, err := t.await(buf, acked, sent, wait)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if silent++; silent > tries {
				return errSilent
			}
			sent = max(acked, 0) // all of the window again
			continue
		case err != nil:
			return err
		}
		acked, silent = n, 0
		if r.window > 0 {
			sent = acked // a gap begins there, or the next window
		}
	}
	return nil
}

// await waits for the acknowledgement of something new.
func (t *transfer) await(buf []byte, acked, sent int64, wait time.Duration) (int64, error) {
	if err := t.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return 0, err
	}
	for {
		n, err := t.conn.Read(buf)
		if err != nil {
			return 0, err
		}
		if n < 4 {
			continue
		}
		switch binary.BigEndian.Uint16(buf) {
		case opError:
			return 0, errEnded
		case opAck:
			// The number is of one of the blocks under way: at most a window after the last one that was acknowledged.
			is := acked + int64(binary.BigEndian.Uint16(buf[2:])-uint16(acked))
			if is > acked && is <= sent || acked < 0 && is == 0 {
				return is, nil
			}
			if t.request.window > 0 && is == acked && acked >= 0 {
				return is, nil // the first block of the window was lost
			}
		}
	}
}

func (t *transfer) send(block int64) error {
	binary.BigEndian.PutUint16(t.packet, opData)
	binary.BigEndian.PutUint16(t.packet[2:], uint16(block))
	at := (block - 1) * int64(t.request.block)
	n := min(int64(t.request.block), t.content.Size-at)
	if m, err := t.content.Data.ReadAt(t.packet[4:4+n], at); int64(m) < n {
		_, _ = t.conn.Write(errorPacket(fmt.Errorf("%s cannot be read", t.content.Name)))
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	_, err := t.conn.Write(t.packet[:4+n])
	return err
}
