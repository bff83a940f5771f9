package ipmi

import (
	"io"
	"sync"
	"time"

	"muster/internal/bmc"
)

// streamBuffer is how many octets wait for a slow reader before the controller is asked to keep its own.
const streamBuffer = 256 << 10

// stream is the serial line as a reader and writer. All is guarded by the peer's mutex.
type stream struct {
	driver  *driver
	peer    *peer
	changed *sync.Cond    // on peer.mu: data, room or the end
	opened  chan struct{} // closed when open or err is set for the first time
	open    bool
	buf     []byte // not yet read
	held    bool   // the controller was asked to wait
	err     error  // why it has ended
}

var _ bmc.Stream = (*stream)(nil)

// end sets why the line has ended, io.EOF for nil. peer.mu is held.
func (s *stream) end(err error) {
	if s.err != nil {
		return
	}
	if s.err = io.EOF; err != nil {
		e := s.driver.explain("console", err)
		if s.open && e.Kind == bmc.Timeout {
			e.Kind, e.Do = bmc.Lost, ""
			e.Why = "BMC " + s.peer.key.String() + " does not answer any more: it was restarted, or cannot be reached"
		}
		s.err = e
	}
	if !s.open {
		close(s.opened)
	}
	s.changed.Broadcast()
}

// Read returns what the machine has written. What came before the end of the line is read before its error.
func (s *stream) Read(b []byte) (int, error) {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	for len(s.buf) == 0 && s.err == nil {
		s.changed.Wait()
	}
	if len(s.buf) == 0 {
		return 0, s.err
	}
	n := copy(b, s.buf)
	if s.buf = s.buf[n:]; len(s.buf) == 0 {
		s.buf = nil
	}
	if s.held && len(s.buf) < streamBuffer/2 && s.err == nil {
		s.held = false
		s.peer.machine.Hold(false)
		s.peer.flush()
	}
	return n, nil
}

// Write queues characters for the machine; it waits while more than 64 KiB wait already.
func (s *stream) Write(b []byte) (int, error) {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	done := 0
	for s.err == nil {
		done += s.peer.machine.Write(time.Now(), b[done:])
		s.peer.flush()
		if done == len(b) {
			return done, nil
		}
		if s.err == nil {
			s.changed.Wait()
		}
	}
	return done, s.closed()
}

// Break sends a serial break.
func (s *stream) Break() error {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	if s.err != nil {
		return s.closed()
	}
	s.peer.machine.Break(time.Now())
	s.peer.flush()
	return nil
}

// closed is the error of a write after the end.
func (s *stream) closed() error {
	if s.err == io.EOF {
		return io.ErrClosedPipe
	}
	return s.err
}

// Close lets the line go. Those who read get io.EOF.
func (s *stream) Close() error {
	if !s.driver.drop(s) {
		return nil
	}
	s.peer.mu.Lock()
	s.buf = nil
	if s.err == nil {
		s.end(nil)
		s.peer.machine.CloseSerial(time.Now())
		s.peer.flush()
	}
	s.peer.mu.Unlock()
	s.driver.engine.release(s.peer)
	return nil
}
