package lab

import (
	"net"
	"os"
	"sync"
	"time"
)

// backlog is how many bytes of serial output wait for an attached reader before the guest is made to wait.
const backlog = 1 << 20

// serialPort is the serial port of a machine, which exists also while the machine is off. Everything that a guest sends
// goes to the log and, while a reader is attached, to that reader; when the reader is more than [backlog] behind, the
// guest waits (QEMU's UART holds the byte until the socket takes it).
type serialPort struct {
	log *os.File

	mu     sync.Mutex
	room   *sync.Cond    // signalled when the reader took bytes, or left
	reader *reader       // nil: none is attached
	conn   net.Conn      // to the running guest; nil when off
	last   chan struct{} // closed when the guest before has been read to its end
}

// reader gets what the port receives from its attachment on. After another reader has attached it gets nothing.
type reader struct {
	port *serialPort
	wake chan struct{} // capacity 1: bytes came
	out  []byte        // bytes not taken. Guarded by port.mu
}

func newSerialPort(log *os.File) *serialPort {
	p := &serialPort{log: log, last: make(chan struct{})}
	p.room = sync.NewCond(&p.mu)
	close(p.last)
	return p
}

// plug connects a new guest. Its output is read in the background until it ends, after all of the guest before.
func (p *serialPort) plug(conn net.Conn) {
	p.mu.Lock()
	before, done := p.last, make(chan struct{})
	p.conn, p.last = conn, done
	p.mu.Unlock()
	go func() {
		defer close(done)
		<-before
		p.pump(conn)
	}()
}

func (p *serialPort) pump(conn net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := conn.Read(buf)
		_, _ = p.log.Write(buf[:n]) // a full disk must not stop the console
		p.mu.Lock()
		if p.reader != nil && n > 0 {
			p.reader.out = append(p.reader.out, buf[:n]...)
			select {
			case p.reader.wake <- struct{}{}:
			default:
			}
		}
		for p.reader != nil && len(p.reader.out) >= backlog {
			p.room.Wait()
		}
		if err != nil && p.conn == conn {
			p.conn = nil
		}
		p.mu.Unlock()
		if err != nil {
			_ = conn.Close()
			return
		}
	}
}

// wait returns when the output of all guests so far has been read.
func (p *serialPort) wait() {
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	<-last
}

// attach makes a new reader, from the next byte on, in place of the one before.
func (p *serialPort) attach() *reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reader = &reader{port: p, wake: make(chan struct{}, 1)}
	p.room.Broadcast()
	return p.reader
}

// detach ends reading: what was not taken is only in the log.
func (r *reader) detach() {
	r.port.mu.Lock()
	defer r.port.mu.Unlock()
	r.out = nil
	if r.port.reader == r {
		r.port.reader = nil
		r.port.room.Broadcast()
	}
}

// waiting is the number of bytes that there are to take.
func (r *reader) waiting() int {
	r.port.mu.Lock()
	defer r.port.mu.Unlock()
	return len(r.out)
}

// take removes and returns up to n waiting bytes.
func (r *reader) take(n int) []byte {
	r.port.mu.Lock()
	defer r.port.mu.Unlock()
	n = min(n, len(r.out))
	b := append([]byte(nil), r.out[:n]...)
	r.out = r.out[n:]
	r.port.room.Broadcast()
	return b
}

// write gives keystrokes to the guest and returns how many it took; a guest that does not read takes fewer. With the
// machine off there is nobody at the other end of the line, and they are gone, as on a real one.
func (p *serialPort) write(b []byte) int {
	p.mu.Lock()
	conn := p.conn
	p.mu.Unlock()
	if conn == nil || len(b) == 0 {
		return len(b)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := conn.Write(b)
	if err != nil && !isTimeout(err) {
		return len(b) // the machine went off under our hands
	}
	return n
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}
