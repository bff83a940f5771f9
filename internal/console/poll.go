package console

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long sockets are left alone after they were read: what thousands of consoles say in that time is read in one go, without waking anybody for each line.
// It is short when somebody watched one of those that were read last.
const (
	gather        = 10 * time.Millisecond
	gatherForDisk = 100 * time.Millisecond
)

// burst is how much of a socket, in bytes, is more than a person or a slow line says at once: more is about to come.
const burst = 4 << 10

// poller reads the consoles that are sockets, all with one goroutine and one epoll(7) instance. A line costs one read(2) then; a goroutine for each costs two,
// and being woken.
type poller struct {
	ctx     context.Context // ends the reading
	begin   sync.Once       // with the first socket
	running sync.WaitGroup

	fd    int
	epoll *os.File // of fd. It does not block: whether one of the sockets has something is itself waited for without a thread
	raw   syscall.RawConn

	mu    sync.Mutex
	lines map[int32]*polled // by descriptor
}

// polled is a console whose socket is read by the poller.
type polled struct {
	c    *console
	conn *socket
	lost chan error // why it is over, once
	busy sync.Mutex // held while what was read is recorded
}

// open starts the reading.
func (p *poller) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or os.NewFile takes it for one that blocks
		return errors.Join(err, unix.Close(fd))
	}
	epoll := os.NewFile(uintptr(fd), "epoll")
	raw, err := epoll.SyscallConn()
	if err != nil {
		return errors.Join(err, epoll.Close())
	}
	p.fd, p.epoll, p.raw, p.lines = fd, epoll, raw, make(map[int32]*polled)
	p.running.Go(p.run)
	return nil
}

// close waits until the reading has ended, with the context.
func (p *poller) close() {
	p.begin.Do(func() {})
	p.running.Wait()
	if p.epoll != nil {
		_ = p.epoll.Close()
	}
}

// run reads until the context ends.
func (p *poller) run() {
	defer context.AfterFunc(p.ctx, func() { _ = p.epoll.SetReadDeadline(time.Unix(1, 0)) })()
	events := make([]unix.EpollEvent, 512)
	buf := make([]byte, 16<<10)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil { // the context has ended
			return
		}
		more, wait := n == len(events), gatherForDisk
		for _, e := range events[:n] {
			p.mu.Lock()
			l := p.lines[e.Fd]
			p.mu.Unlock()
			if l == nil {
				continue
			}
			if p.read(l, buf) {
				more = true
			}
			if l.c.watched() {
				wait = gather
			}
		}
		if more {
			continue
		}
		pause.Reset(wait)
		select {
		case <-pause.C:
		case <-p.ctx.Done():
			return
		}
	}
}

// read records what a socket has, and says whether there may be more. One with so much that the disk has to be waited for is read apart.
func (p *poller) read(l *polled, buf []byte) (more bool) {
	if l.c.full(len(buf)) {
		l.conn.use(func(fd int) { _ = p.watch(unix.EPOLL_CTL_DEL, fd) })
		p.running.Go(func() { p.readApart(l) })
		return false
	}
	n, _ := p.readOnce(l, buf)
	return n >= burst
}

func (p *poller) readApart(l *polled) {
	buf := make([]byte, ringMax/2)
	for {
		switch n, err := p.readOnce(l, buf); {
		case err != nil:
			return
		case n == 0:
			l.conn.use(func(fd int) { _ = p.watch(unix.EPOLL_CTL_ADD, fd) })
			return
		}
	}
}

// readOnce reads once. An error says that the socket is read no more; nothing read is none.
func (p *poller) readOnce(l *polled, buf []byte) (int, error) {
	l.busy.Lock()
	defer l.busy.Unlock()
	n, err := l.conn.Read(buf)
	if n > 0 {
		l.c.take(buf[:n])
	}
	if errors.Is(err, errNothing) {
		return 0, nil
	}
	if err != nil {
		l.conn.use(func(int) { p.drop(l.conn, err) })
	}
	return n, err
}

func (p *poller) watch(op, fd int) error {
	return unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// pump records what the socket gives until it is lost.
func (p *poller) pump(c *console, conn *socket) error {
	l := &polled{c: c, conn: conn, lost: make(chan error, 1)}
	err := net.ErrClosed
	conn.use(func(fd int) {
		p.mu.Lock()
		p.lines[int32(fd)] = l
		p.mu.Unlock()
		err = p.watch(unix.EPOLL_CTL_ADD, fd)
	})
	if err != nil {
		return err
	}
	err = <-l.lost
	l.busy.Lock() // what was read is recorded
	defer l.busy.Unlock()
	return err
}

// drop ends the reading of a socket that is not closed yet.
func (p *poller) drop(s *socket, why error) {
	p.mu.Lock()
	l := p.lines[int32(s.fd)]
	delete(p.lines, int32(s.fd))
	p.mu.Unlock()
	if l != nil {
		_ = p.watch(unix.EPOLL_CTL_DEL, s.fd)
		l.lost <- why
	}
}

// adopt takes a line that is a plain socket over from the runtime, which would wake somebody for all that comes. Others it gives back as they are. Of telnet a server may ask
// for answers and not take them: what reads it may have to wait.
func (p *poller) adopt(s Stream) (Stream, *socket) {
	line, ok := s.(socketLine)
	if !ok {
		return s, nil
	}
	sc, ok := line.conn.(syscall.Conn)
	if !ok {
		return s, nil
	}
	p.begin.Do(func() { _ = p.open() }) // without it the runtime goes on
	if p.epoll == nil {
		return s, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return s, nil
	}
	fd := -1
	if err := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		return s, nil
	}
	_ = line.conn.Close() // the connection goes on by the other descriptor
	conn := &socket{p: p, fd: fd}
	return socketLine{conn, line.source}, conn
}

// errNothing says that a socket has nothing at this moment.
var errNothing = errors.New("nothing to read")

// socket is a connection outside the runtime's care. Its Read does not wait.
type socket struct {
	p  *poller
	fd int

	mu     sync.RWMutex // held for reading while the descriptor is used
	closed bool
}

// use calls f with the descriptor unless it is closed.
func (s *socket) use(f func(fd int)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed {
		f(s.fd)
	}
}

func (s *socket) Read(b []byte) (n int, err error) {
	err = net.ErrClosed
	s.use(func(fd int) { n, err = retried(unix.Read, fd, b) })
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, errNothing
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all, and waits as long as the other side takes nothing.
func (s *socket) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		k := 0
		err = net.ErrClosed
		s.use(func(fd int) {
			if k, err = retried(unix.Write, fd, b); errors.Is(err, unix.EAGAIN) {
				_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(gather.Milliseconds()))
				k = 0
			}
		})
		if err != nil && !errors.Is(err, unix.EINTR) {
			return n, err
		}
		n, b = n+max(0, k), b[max(0, k):]
	}
	return n, nil
}

func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.p.drop(s, net.ErrClosed)
	s.closed = true
	return unix.Close(s.fd)
}

// retried calls read or write again when a signal came.
func retried(call func(int, []byte) (int, error), fd int, b []byte) (int, error) {
	for {
		n, err := call(fd, b)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
