package boot

import (
	"fmt"
	"testing"
	"time"

	"muster/internal/model"
)

func TestSeen(t *testing.T) {
	var s Seen
	ask := func(after time.Duration, e model.Event) string {
		if told := s.Filter([]model.Event{e}, noon.Add(after)); len(told) == 1 {
			return told[0].What
		}
		return ""
	}
	stranger := model.Event{MAC: unknown, Step: StepSilent, What: "asked"}
	known := model.Event{Node: "r1n1", Step: StepOffer, What: "offered"}
	for i, c := range []struct {
		after time.Duration
		e     model.Event
		want  string
	}{
		{0, stranger, "asked"},
		{time.Second, stranger, ""},
		{5 * time.Minute, stranger, ""},
		{5 * time.Minute, model.Event{MAC: mac1, Step: StepSilent, What: "asked"}, "asked"},
		{11 * time.Minute, stranger, "asked (and 2 times since 12:00:00)"},
		{0, known, "offered"},
		{time.Second, known, ""},
		{2 * time.Second, model.Event{Node: "r1n1", Step: StepAck, What: "has"}, "has"},
		{20 * time.Second, known, "offered (and 1 times since 12:00:00)"},
		{40 * time.Second, known, "offered"},
	} {
		if got := ask(c.after, c.e); got != c.want {
			t.Errorf("%d: got %q, want %q", i, got, c.want)
		}
	}
}

func TestSeenStaysSmallWhenSomebodySendsInTheNameOfANode(t *testing.T) {
	var s Seen
	told := 0
	for i := range 3 * seenMost {
		told += len(s.Filter([]model.Event{{Node: "r1n1", Step: StepNak, What: fmt.Sprint(i)}}, noon))
	}
	if told != seenNode || len(s.last) > seenMost {
		t.Errorf("%d told and %d kept, want %d and %d", told, len(s.last), seenNode, seenMost)
	}
	if told := s.Filter([]model.Event{{Node: "r1n2", Step: StepOffer}}, noon); len(told) != 1 {
		t.Error("the event of another node was lost")
	}
	later := s.Filter([]model.Event{{Node: "r1n1", Step: StepOffer, What: "offered"}}, noon.Add(time.Minute))
	if want := fmt.Sprintf("offered (and %d other events of it since 12:00:00)", 3*seenMost-seenNode); len(later) != 1 || later[0].What != want {
		t.Errorf("got %+v, want %q", later, want)
	}
	s.Filter([]model.Event{{MAC: unknown, Step: StepSilent}}, noon.Add(time.Minute))
	if len(s.last) > 5 {
		t.Errorf("%d kept after a minute", len(s.last))
	}
}

func TestSeenStaysSmallWhenAddressesAreMadeUp(t *testing.T) {
	var s Seen
	for i := range 3 * seenMost {
		s.Filter([]model.Event{{MAC: fmt.Sprintf("%d", i), Step: StepSilent}}, noon)
	}
	if len(s.last) != seenMost {
		t.Errorf("%d kept, want %d", len(s.last), seenMost)
	}
	if told := s.Filter([]model.Event{{Node: "r1n1", Step: StepOffer}}, noon); len(told) != 1 {
		t.Errorf("the event of a node was lost")
	}
	told := s.Filter([]model.Event{{MAC: "new", Step: StepSilent, What: "asked"}}, noon.Add(seenUnknown))
	if want := fmt.Sprintf("asked (and %d events of other unknown machines)", 2*seenMost); len(told) != 1 || told[0].What != want {
		t.Errorf("got %+v, want %q", told, want)
	}
}
