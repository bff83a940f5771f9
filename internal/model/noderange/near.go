package noderange

import (
	"iter"
	"strings"
)

// Nearest returns the candidate most like name, whatever the case of its letters; "" when none is near enough to be
// what was meant: one typing mistake (a letter wrong, missing, added, or two swapped) for each three letters.
func Nearest(name string, candidates iter.Seq[string]) string {
	const longest = 255
	if name == "" || len(name) > longest {
		return ""
	}
	low := strings.ToLower(name)
	best, most := "", max(1, len(low)/3)+1
	for c := range candidates {
		if c == name || len(c) > longest || len(c)-len(low) >= most || len(low)-len(c) >= most {
			continue
		}
		if d := distance(low, strings.ToLower(c), most); d < most {
			best, most = c, d
			if d == 0 {
				break
			}
		}
	}
	return best
}

// distance counts the typing mistakes between two words (optimal string alignment); it gives up at most. What both begin
// and end with counts nothing.
func distance(a, b string, most int) int {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var rows [3][256]int
	before, above, row := rows[0][:len(b)+1], rows[1][:len(b)+1], rows[2][:len(b)+1]
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
			least = min(least, d)
		}
		if least >= most {
			return most
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
