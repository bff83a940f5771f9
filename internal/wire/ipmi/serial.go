package ipmi

import "time"

// Octets of a serial payload before its characters (table 15-2): sequence, acknowledged sequence, accepted count, status.
const serialHeader = 4

// Bits of the fourth octet. The first three are sent to the BMC, the others come from it.
const (
	serialNACK        = 0x40 // both ways: not all characters were accepted
	serialBreak       = 0x10 // generate a break
	serialDeactivated = 0x10 // from the BMC: the payload goes down
)

// Times of the line. A packet that nobody acknowledges is sent eight times in less than seven seconds.
var serialWaits = [...]time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, time.Second, time.Second, time.Second, time.Second, time.Second,
}

const (
	serialPause   = 500 * time.Millisecond // after a refusal of characters
	serialAgain   = 20 * time.Millisecond  // between two acknowledges of the same packet
	serialRefused = 10                     // refusals in a row after which characters are dropped: nobody reads there
	serialQueue   = 64 << 10               // octets that wait to be sent, at most
)

// chunk is what goes to the machine: characters, or a break when brk.
type chunk struct {
	data []byte
	brk  bool
}

// serial is the step machine of one activated serial payload (§15.9, §15.11): one packet at a time each way, numbered
// 1 to 15, acknowledged by number and count; number 0 is an acknowledge only.
type serial struct {
	room int // characters that one packet to the BMC may hold

	in       byte      // number of the newest packet of the BMC
	inAt     time.Time // when it was acknowledged
	accepted int       // characters taken from it
	held     bool      // the reader is full: refuse
	refused  bool      // packet in was refused and waits for us to say "go on"

	queue   []chunk
	waiting int // octets in queue and in flight
	out     byte
	flight  *chunk
	sends   int       // of flight, under the present number
	nacks   int       // refusals in a row
	at      time.Time // when to send flight again; zero: nothing in flight
}

// write queues characters and returns how many it took.
func (s *serial) write(b []byte) int {
	n := min(len(b), serialQueue-s.waiting)
	if n <= 0 {
		return 0
	}
	s.waiting += n
	if k := len(s.queue); k > 0 && !s.queue[k-1].brk {
		s.queue[k-1].data = append(s.queue[k-1].data, b[:n]...)
		return n
	}
	s.queue = append(s.queue, chunk{data: append([]byte(nil), b[:n]...)})
	return n
}

// sendBreak queues a break. Breaks with nothing between them are one: the queue stays small.
func (s *serial) sendBreak() {
	if k := len(s.queue); k == 0 || !s.queue[k-1].brk {
		s.queue = append(s.queue, chunk{brk: true})
	}
}

// hold tells whether the reader is full. It returns the packet that lets the BMC go on, nil when none is due.
func (s *serial) hold(full bool) []byte {
	s.held = full
	if full || !s.refused {
		return nil
	}
	s.refused = false
	return []byte{0, s.in, 0, 0} // resume: count 0 without NACK (table 15-3)
}

// input takes a payload of the BMC. reply, when not nil, is to be sent at once; data are new characters and point into b.
func (s *serial) input(now time.Time, b []byte) (reply, data []byte, ended bool) {
	if len(b) < serialHeader {
		return nil, nil, false
	}
	number, acked, count, status, chars := b[0]&0x0f, b[1]&0x0f, int(b[2]), b[3], b[serialHeader:]
	if number != 0 {
		again := number == s.in
		if !again {
			s.in, s.accepted = number, 0
		}
		// A repetition may have grown: only what is past the characters that were taken is new (§15.11).
		if len(chars) > s.accepted && !s.held {
			data, s.accepted = chars[s.accepted:], len(chars)
		}
		s.refused = s.accepted < len(chars)
		// There are BMCs that answer an acknowledge with a packet: two of the same would go on doubling.
		if !again || len(data) > 0 || now.Sub(s.inAt) >= serialAgain {
			reply, s.inAt = []byte{0, number, byte(min(s.accepted, 0xff)), 0}, now
			if s.refused {
				reply[3] = serialNACK
			}
		}
	}
	if acked != 0 && s.flight != nil && acked == s.out {
		s.acknowledged(now, count, status&serialNACK != 0)
	}
	return reply, data, status&serialDeactivated != 0
}

func (s *serial) acknowledged(now time.Time, count int, nack bool) {
	f := s.flight
	if f.brk || count >= len(f.data) {
		s.landed()
		return
	}
	if count > 0 {
		s.waiting -= count
		f.data, s.nacks = f.data[count:], 0
	}
	switch {
	case nack:
		if s.nacks++; s.nacks > serialRefused {
			s.landed()
			return
		}
		// A refused packet is done with for the BMC: what is left goes out under a new number.
		s.renumber()
		s.at = now.Add(serialPause)
	case count > 0:
		s.renumber()
		s.at = now
	default: // resume: send it again, but never in a tight circle
		s.at = now.Add(serialWaits[0] / 4)
	}
}

// landed ends the flight: accepted, or given up.
func (s *serial) landed() {
	s.waiting -= len(s.flight.data)
	s.flight, s.at, s.nacks = nil, time.Time{}, 0
}

func (s *serial) renumber() {
	s.out = s.out%0x0f + 1
	s.sends = 0
}

// output returns the packet that is due, nil when none is; dead says that the BMC does not acknowledge any more.
func (s *serial) output(now time.Time) (packet []byte, dead bool) {
	if s.flight == nil {
		if len(s.queue) == 0 {
			return nil, false
		}
		c := s.queue[0]
		if len(c.data) > s.room {
			s.queue[0].data = c.data[s.room:]
			c.data = c.data[:s.room:s.room]
		} else {
			s.queue[0] = chunk{}
			s.queue = s.queue[1:]
		}
		s.flight = &c
		s.renumber()
		s.at = now
	}
	if now.Before(s.at) {
		return nil, false
	}
	if s.sends == len(serialWaits) {
		return nil, true
	}
	s.at = now.Add(serialWaits[s.sends])
	s.sends++
	packet = append([]byte{s.out, 0, 0, 0}, s.flight.data...)
	if s.flight.brk {
		packet[3] = serialBreak
	}
	return packet, false
}
