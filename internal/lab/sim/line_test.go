package sim

import (
	"bytes"
	"io"
	"testing"
	"time"

	engine "muster/internal/bmc/ipmi"
)

// Every octet that is said arrives once and in order at muster's own engine, over a network that loses, repeats and
// reorders packets, and the fleet's count is that of the reader.
func TestSerial_every_octet_is_accounted(t *testing.T) {
	f := startFleet(t, Options{IPMI: 1})
	b := &f.bmcs[0]
	b.turn(true)
	e, err := engine.New(engine.Options{Waits: []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	s, err := b.driver(e).Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := f.Fault("n1", []string{"drop=3%", "duplicate=10%", "reorder=10%"}); err != nil {
		t.Fatal(err)
	}
	const lines = 500
	if _, err := f.Talk("n1", 0, lines); err != nil {
		t.Fatal(err)
	}
	var want []byte
	for i := range int64(lines) {
		want = appendLine(want, "n1", i)
	}
	if len(want) != lines*lineLength {
		t.Fatalf("%d lines have %d octets, want %d each", lines, len(want), lineLength)
	}
	got := make([]byte, len(want))
	timer := time.AfterFunc(time.Minute, func() { _ = s.Close() })
	defer timer.Stop()
	if n, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("seed %d: got %d of %d octets, %v; in order: %v", f.seed, n, len(want), err, bytes.HasPrefix(want, got[:n]))
	}
	if _, err := f.Fault("n1", []string{"none"}); err != nil {
		t.Fatal(err)
	}
	// What is typed comes back, and is counted.
	if _, err := s.Write([]byte("uptime\r")); err != nil {
		t.Fatal(err)
	}
	echo := make([]byte, 7)
	if _, err := io.ReadFull(s, echo); err != nil || string(echo) != "uptime\r" {
		t.Errorf("typed uptime, got %q %v", echo, err)
	}
	if st := f.Status(); st.Spoken != int64(len(want)+7) || st.Typed != 7 || st.Consoles != 1 {
		t.Errorf("%d octets said, %d typed, %d consoles; want %d, 7, 1", st.Spoken, st.Typed, st.Consoles, len(want)+7)
	}
}

// A machine that starts anew begins at the first line, on a line that is open.
func TestSerial_begins_anew_with_the_machine(t *testing.T) {
	b := lone(nil)
	b.machine.on = true
	s := b.logged()
	b.line = &line{owner: s, begin: testTime, next: b.machine.speech.said(testTime), boots: b.machine.boots}
	b.machine.act(testTime.Add(10*time.Second), hardReset, 0)
	s.seen = testTime.Add(11 * time.Second)
	b.tick(testTime.Add(11 * time.Second))
	if got := b.machine.speech.said(testTime.Add(11 * time.Second)); got != 10 || b.line.next != 10 {
		t.Errorf("a second after the reset %d lines were said and %d taken, want 10", got, b.line.next)
	}
	// A clock that was read a little earlier does not let lines be said twice.
	b.tick(testTime.Add(10500 * time.Millisecond))
	if b.line.next != 10 {
		t.Errorf("the next line is %d, want 10", b.line.next)
	}
}
