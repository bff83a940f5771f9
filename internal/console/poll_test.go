package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/model"
)

// Sockets by the hundred are read by one goroutine: nothing of one is lost or taken for another's, and one that ends, or is removed, is missed by none.
func TestSockets_are_read_together(t *testing.T) {
	const n, lines = 300, 40
	sock := filepath.Join(t.TempDir(), "c")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h, stop := startHub(t, Options{Dir: t.TempDir(), ConnectRate: 10 * n, Backoff: time.Millisecond, BackoffMax: 10 * time.Millisecond})
	src := func(ctx context.Context) (Stream, error) {
		return Dial(ctx, model.ConsoleSource{Network: "unix", Address: sock})
	}
	name := func(i int) model.NodeName { return model.NodeName(fmt.Sprint("n", i)) }
	far := make([]net.Conn, n)
	for i := range n { // one after the other, so that we know who is who
		set(t, h, name(i), "k", src)
		if far[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		defer far[i].Close()
	}
	sessions := make([]*Session, n)
	for i := range n {
		sessions[i] = attach(t, h, name(i), AttachOptions{})
	}
	var talk sync.WaitGroup
	for i := range n {
		talk.Go(func() {
			for k := range lines {
				fmt.Fprintf(far[i], "%d says %d.\r\n", i, k)
			}
		})
	}
	for i := range n {
		readUntil(t, sessions[i], fmt.Sprintf("%d says %d.\r\n", i, lines-1))
	}
	talk.Wait()
	for i := range n {
		want := ""
		for k := range lines {
			want += fmt.Sprintf("%d says %d.\r\n", i, k)
		}
		if got := logOf(t, h, name(i), LogOptions{}); !strings.Contains(got, want) {
			t.Fatalf("the record of %d lacks lines, or has others':\n%s", i, got)
		}
	}

	t.Run("one that closes is connected again, the others do not notice", func(t *testing.T) {
		far[7].Close()
		again, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		send(t, again, "7 is back")
		readUntil(t, sessions[7], "7 is back")
		send(t, far[8], "8 never left")
		readUntil(t, sessions[8], "8 never left")
	})
	t.Run("what is typed arrives whole at one that reads slowly", func(t *testing.T) {
		want := strings.Repeat("typed ", 100<<10)
		w := attach(t, h, name(9), AttachOptions{Write: true})
		wrote := make(chan error, 1)
		go func() {
			_, err := w.Write([]byte(want))
			wrote <- err
		}()
		expectBytes(t, far[9], want)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("one that reads nothing does not keep its console from being removed", func(t *testing.T) {
		w := attach(t, h, name(10), AttachOptions{Write: true})
		wrote := make(chan error, 1)
		go func() {
			_, err := w.Write(make([]byte, 4<<20))
			wrote <- err
		}()
		h.Remove(name(10), "it is gone")
		if err := <-wrote; err == nil {
			t.Error("the write is said to be done")
		}
		if err := far[10].SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<20)
		for err == nil {
			_, err = far[10].Read(buf)
		}
		if errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(net.Error)) {
			t.Errorf("the connection stands: %v", err)
		}
	})
	stop()
	for i, s := range far[:7] {
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d is connected still", i)
		}
	}
}
