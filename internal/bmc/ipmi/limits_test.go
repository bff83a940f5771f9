package ipmi

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testAddress(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i%250 + 1)}), Port)
}

func testLimits(most, rate int, patience time.Duration) *limits {
	return &limits{all: gate{most: 1 << 20}, subnet: gate{most: most, rate: float64(rate)}, patience: patience}
}

func TestLimits_as_many_at_once_as_allowed_and_in_order(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLimits(3, 1000, time.Hour)
		var mu sync.Mutex
		at, most, done := 0, 0, 0
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				p, err := l.enter(t.Context(), testAddress(i), false)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				at++
				most = max(most, at)
				mu.Unlock()
				time.Sleep(time.Second) // simulated: the request is on its way
				mu.Lock()
				at--
				done++
				mu.Unlock()
				l.leave(p, false)
			})
		}
		begin := time.Now()
		wg.Wait()
		if most != 3 || done != 30 || time.Since(begin) != 10*time.Second {
			t.Errorf("%d at once, %d done in %v; want 3, 30 in 10 s", most, done, time.Since(begin))
		}
	})
}

func TestLimits_sessions_in_a_second(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLimits(100000, 500, time.Second)
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range 1500 {
			wg.Go(func() {
				p, err := l.enter(t.Context(), testAddress(i%250), true)
				if err != nil {
					t.Error(err)
					return
				}
				l.leave(p, false)
			})
		}
		wg.Wait()
		if took := time.Since(begin); took < 1990*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("1500 sessions of 500 a second, and 500 at once: took %v", took)
		}
		begin = time.Now()
		p, err := l.enter(t.Context(), testAddress(250), true)
		if err != nil || time.Since(begin) != 0 {
			t.Errorf("another subnet waits %v, %v", time.Since(begin), err)
		}
		l.leave(p, false)
	})
}

func TestLimits_the_silent_give_their_place_up(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLimits(2, 1000, 500*time.Millisecond)
		var dead []*pass
		for i := range 2 {
			p, err := l.enter(t.Context(), testAddress(i), false)
			if err != nil {
				t.Fatal(err)
			}
			dead = append(dead, p)
		}
		begin := time.Now()
		live, err := l.enter(t.Context(), testAddress(2), false)
		if err != nil || time.Since(begin) != 500*time.Millisecond {
			t.Errorf("waited %v behind silent ones, %v", time.Since(begin), err)
		}
		for _, p := range dead {
			l.leave(p, true)
		}
		l.leave(live, false)
		// They are known now: asked again they take no place.
		for i := range 2 {
			if _, err := l.enter(t.Context(), testAddress(i), false); err != nil {
				t.Fatal(err)
			}
		}
		begin = time.Now()
		if _, err := l.enter(t.Context(), testAddress(2), false); err != nil || time.Since(begin) != 0 {
			t.Errorf("waited %v behind those known to be silent, %v", time.Since(begin), err)
		}
	})
}

func TestLimits_who_gives_up_waiting_leaves_the_queue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLimits(1, 1000, time.Hour)
		first, _ := l.enter(t.Context(), testAddress(0), false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.enter(ctx, testAddress(1), false); err == nil {
			t.Error("two at once")
		}
		l.leave(first, false)
		begin := time.Now()
		if p, err := l.enter(t.Context(), testAddress(2), false); err != nil || time.Since(begin) != 0 {
			t.Errorf("waited %v, %v", time.Since(begin), err)
		} else {
			l.leave(p, false)
		}
		s := l.subnets[subnetOf(testAddress(0).Addr())]
		for _, g := range []*gate{s, &l.all} {
			if g.queue.Len() != 0 || g.places.Len() != 0 || g.timer != nil {
				t.Errorf("%d wait, %d are in flight, timer %v", g.queue.Len(), g.places.Len(), g.timer)
			}
		}
	})
}

func TestLimits_in_all(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := testLimits(10, 1000, time.Hour)
		l.all.most = 2
		var wg sync.WaitGroup
		for i := range 10 { // each in a subnet of its own
			wg.Go(func() {
				p, err := l.enter(t.Context(), testAddress(i*250), false)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second) // simulated: the request is on its way
				l.leave(p, false)
			})
		}
		begin := time.Now()
		wg.Wait()
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("10 requests of 1 s, two at once, took %v", took)
		}
	})
}
