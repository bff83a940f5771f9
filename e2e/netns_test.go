package e2e

import (
	"context"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

type netConn = net.Conn

// dialIn connects inside a network namespace from a source address: a socket belongs to the namespace in which it was made.
func dialIn(ctx context.Context, netns, source, addr string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is not given back to the scheduler: it ends with this goroutine.
		runtime.LockOSThread()
		f, err := os.Open("/run/netns/" + netns)
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, err}
			return
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		c, err := d.DialContext(ctx, "tcp", addr)
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}
