package ipmi

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"muster/internal/bmc"
	"muster/internal/model"
	"muster/internal/wire/ipmi/ipmitest"
)

// stub is a simulated BMC behind a UDP socket of its own.
type stub struct {
	*ipmitest.BMC
	mu   sync.Mutex
	conn *net.UDPConn
	done sync.WaitGroup
	stop chan struct{}
}

// startStub binds a BMC to an address of the loopback; port 0 takes a free one.
func startStub(tb testing.TB, address string, port int) *stub {
	tb.Helper()
	s, err := newStub(address, port)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.close)
	return s
}

func newStub(address string, port int) (*stub, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))))
	if err != nil {
		return nil, err
	}
	s := &stub{conn: conn, stop: make(chan struct{})}
	s.BMC = &ipmitest.BMC{User: "admin", Password: "secret", Rand: func(b []byte) { _, _ = rand.Read(b) }}
	s.done.Add(1)
	go s.serve()
	return s, nil
}

func (s *stub) serve() {
	defer s.done.Done()
	buf := make([]byte, 2048)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.mu.Lock()
		s.Input(time.Now(), buf[:n])
		for _, b := range s.Output() {
			_, _ = s.conn.WriteToUDPAddrPort(b, from)
		}
		s.mu.Unlock()
	}
}

func (s *stub) close() {
	_ = s.conn.Close()
	s.done.Wait()
}

// with changes or reads the BMC; what it wants to send goes to the console that is given.
func (s *stub) with(f func(b *ipmitest.BMC)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.BMC)
}

func (s *stub) target() bmc.Target {
	a := s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return bmc.Target{Node: "r1n1", Address: a.Addr().Unmap().String(), Port: int(a.Port()), User: "admin", Password: model.NewSecret("secret")}
}

// startEngine makes an engine that is closed with the test.
func startEngine(tb testing.TB, o Options) *Engine {
	tb.Helper()
	e, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = e.Close() })
	return e
}

// hasty are waits for tests in which somebody does not answer.
var hasty = []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond}

// eventually waits for a condition that another goroutine or program brings about.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("no %s in 15 s", what)
		}
	}
}

func fleetAddress(i int) string { return fmt.Sprintf("127.9.%d.%d", i/250, i%250+1) }
