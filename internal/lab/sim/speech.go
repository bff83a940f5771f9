package sim

import (
	"fmt"
	"time"
)

// speech is what the machine says on its serial line: numbered lines, so many a second, all of the same length. A line
// is made of its number alone, so nothing is kept for those who listen, and who has all numbers has lost nothing.
type speech struct {
	rate  float64 // lines a second; 0: silent
	since time.Time
	first int64 // the next line when it was since
}

// lineLength is the length of a line in octets, end of line included.
const lineLength = 80

const filler = "the quick brown fox jumps over the lazy dog, and then once more for the numbers"

// appendLine appends line n of a machine: its name, the number in ten digits, filler, CR LF.
func appendLine(b []byte, name string, n int64) []byte {
	start := len(b)
	b = fmt.Appendf(b, "%.40s %010d ", name, n)
	b = append(b, filler[:lineLength-2-(len(b)-start)]...)
	return append(b, '\r', '\n')
}

// restart begins at the first line, as a boot does.
func (s *speech) restart(now time.Time) { s.since, s.first = now, 0 }

// set changes the rate, and adds lines that are said at once.
func (s *speech) set(now time.Time, rate float64, burst int64) {
	s.first, s.since, s.rate = s.said(now)+burst, now, rate
}

// said is how many lines were said until now.
func (s *speech) said(now time.Time) int64 {
	return s.first + int64(now.Sub(s.since).Seconds()*s.rate)
}

// due is when line n is said, zero for never.
func (s *speech) due(n int64) time.Time {
	switch {
	case n < s.first:
		return s.since
	case s.rate <= 0:
		return time.Time{}
	}
	return s.since.Add(time.Duration(float64(n-s.first+1) / s.rate * float64(time.Second)))
}
