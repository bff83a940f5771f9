package syntax

import "iter"

// Nearest is the candidate that somebody may have meant who wrote word: the one with the fewest typing mistakes, of which there may be
// one for each three characters, and two at most; of several the first in the order of the alphabet; "" when there is none.
func Nearest(word string, candidates ...iter.Seq[string]) string {
	best, least := "", 1+min(2, len(word)/3)
	for _, all := range candidates {
		for c := range all {
			d := distance(word, c, least+1)
			if d < least || d == least && best != "" && c < best {
				best, least = c, d
			}
		}
	}
	return best
}

// distance is the number of characters to put in, take out, replace or swap to make b of a; most when it is more.
func distance(a, b string, most int) int {
	if a == b || len(a)-len(b) >= most || len(b)-len(a) >= most {
		return most
	}
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return min(last[len(b)], most)
}
