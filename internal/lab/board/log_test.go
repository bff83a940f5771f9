package board

import (
	"testing"
	"time"
)

func TestEventLog(t *testing.T) {
	l := &EventLog{Now: func() time.Time { return time.Unix(1700000000, 0) }}
	for range MaxRecords + 2 {
		l.Add(EventACPI, 0)
	}
	first, next, ok := l.Get(0)
	if !ok || first[0] != 3 || next != 4 {
		t.Errorf("first record of a full log is %d, next %d, want 3 and 4", first[0], next)
	}
	if _, next, ok := l.Get(0xffff); !ok || next != 0xffff {
		t.Errorf("last record: next %#x, %v", next, ok)
	}
	if !l.remove(3) || l.remove(3) {
		t.Error("a record is deleted once")
	}
	l.Clear()
	if _, _, ok := l.Get(0); ok {
		t.Error("a record is left after clear")
	}
}
