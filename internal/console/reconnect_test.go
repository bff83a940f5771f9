package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/internal/model"
)

// bubbleHub runs a hub on virtual time.
func bubbleHub(t *testing.T, o Options) (h *Hub, stop func()) {
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	synctest.Wait()
	return h, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestReconnect_backs_off_and_says_why(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := bubbleHub(t, Options{})
		defer stop()
		m := newMachine()
		set(t, h, "r1n1", "k", m.source)
		<-m.up
		s := attach(t, h, "r1n1", AttachOptions{})
		waitEvent(t, s, Event{Type: StateEvent, Text: "connected"})

		m.setDown(errors.New("BMC 10.1.7.7 does not answer"))
		waitEvent(t, s, Event{Type: StateEvent, Text: "reconnecting: closed by the other side"})
		waitEvent(t, s, Event{Type: StateEvent, Text: "reconnecting: BMC 10.1.7.7 does not answer"})
		time.Sleep(time.Hour)
		synctest.Wait()
		// 1+2+4+8+16+32 s, then one a minute: 63 s and 59 attempts on average; jitter is ±50 %.
		if n, _ := m.count(); n < 40 || n > 130 {
			t.Errorf("%d attempts in an hour", n)
		}
		m.setDown(nil)
		waitEvent(t, s, Event{Type: StateEvent, Text: "connected"})
		send(t, <-m.up, "back\r\n")
		got := readUntil(t, s, "back\r\n")
		for _, want := range []string{"console lost: closed by the other side]", "console still lost: BMC 10.1.7.7 does not answer]", "console connected again after 1h"} {
			if n := strings.Count(got, want); n != 1 {
				t.Errorf("%d × %q in %q", n, want, got)
			}
		}
	})
}

type refusal struct{ error }

func (refusal) Refused() bool { return true }

func TestReconnect_does_not_insist_on_a_refused_login(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := bubbleHub(t, Options{})
		defer stop()
		m := newMachine()
		m.setDown(errors.Join(refusal{errors.New("BMC 10.1.7.7 refused user admin")}, nil))
		set(t, h, "r1n1", "k", m.source)
		time.Sleep(time.Hour)
		synctest.Wait()
		// 5+10+20+40 min on average; jitter is ±50 %.
		if n, _ := m.count(); n < 3 || n > 6 {
			t.Errorf("%d attempts in an hour", n)
		}
		time.Sleep(24 * time.Hour)
		if n, _ := m.count(); n < 15 || n > 60 {
			t.Errorf("%d attempts in a day", n)
		}
		m.setDown(nil)
		set(t, h, "r1n1", "another password", m.source)
		synctest.Wait()
		if i, _ := h.Info("r1n1"); i.State != Connected {
			t.Errorf("after the password was changed: %+v", i)
		}
	})
}

func TestReconnect_when_the_key_changes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := bubbleHub(t, Options{})
		defer stop()
		old, same, next := newMachine(), newMachine(), newMachine()
		set(t, h, "r1n1", "10.1.1.1 admin a", old.source)
		<-old.up
		set(t, h, "r1n1", "10.1.1.1 admin a", same.source)
		time.Sleep(time.Hour)
		if n, _ := same.count(); n != 0 {
			t.Errorf("the same key made %d new connections", n)
		}
		set(t, h, "r1n1", "10.1.1.2 admin b", next.source)
		start := time.Now()
		<-next.up
		synctest.Wait()
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("the new address took effect after %v", d)
		}
		if _, err := old.line.Write([]byte("x")); err == nil {
			t.Error("the old connection is still open")
		}

		// Also in the middle of a long back-off, and while a connection is being made.
		next.setDown(errors.New("down"))
		time.Sleep(10 * time.Minute)
		set(t, h, "r1n1", "hangs", func(ctx context.Context) (Stream, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		synctest.Wait()
		again := newMachine()
		start = time.Now()
		set(t, h, "r1n1", "again", again.source)
		<-again.up
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("the new address took effect after %v", d)
		}
	})
}

func TestConnect_that_hangs_is_ended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := bubbleHub(t, Options{})
		defer stop()
		set(t, h, "r1n1", "k", func(ctx context.Context) (Stream, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if i, _ := h.Info("r1n1"); i.State != Reconnecting || i.Reason != "no answer in time" {
			t.Errorf("%+v", i)
		}
	})
}

// A switch goes down and takes all consoles with it: they come back within 60 s, and never more than the rate at a time.
func TestReconnect_storm_is_limited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const consoles, rate = 10000, 500
		h, stop := bubbleHub(t, Options{ConnectRate: rate})
		defer stop()
		m := newMachine()
		m.up = make(chan net.Conn, 3*consoles)
		for i := range consoles {
			set(t, h, model.NodeName(fmt.Sprintf("n%d", i)), "k", m.source)
		}
		time.Sleep(time.Minute)
		if n, _ := m.count(); n != consoles {
			t.Fatalf("%d of %d connected in a minute", n, consoles)
		}
		for range consoles {
			(<-m.up).Close()
		}
		before, peak := consoles, 0
		start := time.Now()
		for before < 2*consoles {
			time.Sleep(time.Second)
			n, _ := m.count()
			peak = max(peak, n-before)
			before = n
			if time.Since(start) > 2*time.Minute {
				t.Fatalf("%d of %d are back after %v", n-consoles, consoles, time.Since(start))
			}
		}
		took := time.Since(start)
		t.Logf("%d consoles are back after %v, at most %d in a second", consoles, took, peak)
		if took > time.Minute {
			t.Errorf("took %v", took)
		}
		if peak > rate+rate/10+1 {
			t.Errorf("%d attempts in one second", peak)
		}
	})
}
