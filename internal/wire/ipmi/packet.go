package ipmi

import (
	"encoding/binary"
	"errors"
)

// payloadType says what a packet carries (§13.27.3).
type payloadType byte

const (
	payloadMessage      payloadType = 0x00
	payloadSerial       payloadType = 0x01
	payloadOpenRequest  payloadType = 0x10
	payloadOpenResponse payloadType = 0x11
	payloadRAKP1        payloadType = 0x12
	payloadRAKP2        payloadType = 0x13
	payloadRAKP3        payloadType = 0x14
	payloadRAKP4        payloadType = 0x15
	payloadNone         payloadType = 0xff // of no packet
)

// Sizes of the fixed parts, in octets.
const (
	rmcpSize   = 4
	headerSize = rmcpSize + 12
)

// packet is one RMCP+ datagram taken apart (§13.6). The slices point into the datagram.
type packet struct {
	kind          payloadType
	encrypted     bool
	authenticated bool
	session       uint32 // of the receiver; 0 before there is a session
	sequence      uint32 // 0 outside of a session
	payload       []byte
	signed        []byte // all that the authentication code covers; nil when not authenticated
	code          []byte // trailer after the next-header octet: the authentication code
}

var errMalformed = errors.New("not an RMCP+ packet")

// parsePacket takes a datagram apart. It does not check the authentication code: only the session knows its length.
func parsePacket(b []byte) (packet, error) {
	// Version 6, class IPMI without the acknowledge bit, authentication type RMCP+.
	if len(b) < headerSize || b[0] != 0x06 || b[3] != 0x07 || b[4] != 0x06 {
		return packet{}, errMalformed
	}
	n := int(binary.LittleEndian.Uint16(b[14:]))
	if len(b) < headerSize+n {
		return packet{}, errMalformed
	}
	p := packet{
		kind:          payloadType(b[5] & 0x3f),
		encrypted:     b[5]&0x80 != 0,
		authenticated: b[5]&0x40 != 0,
		session:       binary.LittleEndian.Uint32(b[6:]),
		sequence:      binary.LittleEndian.Uint32(b[10:]),
		payload:       b[headerSize : headerSize+n],
	}
	if p.kind == 0x02 { // OEM explicit: six more header octets, and nobody to read them
		return packet{}, errMalformed
	}
	if !p.authenticated {
		return p, nil
	}
	end := headerSize + n
	end += pad(end-rmcpSize) + 2
	if len(b) < end || b[end-1] != 0x07 {
		return packet{}, errMalformed
	}
	p.signed, p.code = b[rmcpSize:end], b[end:]
	return p, nil
}

// pad is how many ff octets follow n octets so that they, the pad length and the next header fill whole words (§13.28.4).
func pad(n int) int { return -(n + 2) & 3 }

// appendHeader starts a datagram whose payload of n octets is to follow.
func appendHeader(b []byte, kind payloadType, flags byte, session, sequence uint32, n int) []byte {
	b = append(b, 0x06, 0x00, 0xff, 0x07, 0x06, byte(kind)|flags)
	b = binary.LittleEndian.AppendUint32(b, session)
	b = binary.LittleEndian.AppendUint32(b, sequence)
	return binary.LittleEndian.AppendUint16(b, uint16(n))
}

// setupPacket wraps a message of the session setup, which has no session, sequence or protection.
func setupPacket(kind payloadType, message []byte) []byte {
	return append(appendHeader(make([]byte, 0, headerSize+len(message)), kind, 0, 0, 0, len(message)), message...)
}

// Addressee returns the session id, chosen by us (in IPMI 1.5 by the BMC), that a packet of a BMC is for; ok is false for packets that are not
// IPMI. It reads only the header: nothing is proved by it. Zero is for whichever peer sets a session up: there are
// BMCs (ipmi_sim is one) whose refusal is two octets, tag and status, without any id.
func Addressee(b []byte) (id uint32, ok bool) {
	if isOld(b) {
		return binary.LittleEndian.Uint32(b[9:]), true
	}
	if len(b) < headerSize || b[0] != 0x06 || b[3] != 0x07 || b[4] != 0x06 {
		return 0, false
	}
	if payloadType(b[5]&0x3f) < payloadOpenRequest {
		return binary.LittleEndian.Uint32(b[6:]), true
	}
	if len(b) < headerSize+8 {
		return 0, true
	}
	return binary.LittleEndian.Uint32(b[headerSize+4:]), true
}

// window tells packets that were seen before from new ones (§6.12.13): the newest sequence number and one bit for each
// of the 64 up to it. The zero value has seen nothing.
type window struct {
	newest uint32
	seen   uint64 // bit i: newest-i was seen
}

// take records a sequence number and says whether it is new. Zero is never valid inside a session.
func (w *window) take(n uint32) bool {
	if n == 0 {
		return false
	}
	if ahead := int32(n - w.newest); w.seen == 0 || ahead > 0 {
		if w.seen == 0 || ahead >= 64 {
			w.seen = 0
		} else {
			w.seen <<= uint(ahead)
		}
		w.newest, w.seen = n, w.seen|1
		return true
	}
	bit := uint64(1) << (w.newest - n)
	if w.newest-n >= 64 || w.seen&bit != 0 {
		return false
	}
	w.seen |= bit
	return true
}
