package remote

import "strings"

// Quote makes one word of s for any POSIX shell: within single quotes nothing is special (XCU 2.2.2), and a single
// quote in s ends them, stands escaped, and begins them again. It is not ok with a NUL byte, which no argument can hold.
func Quote(s string) (word string, ok bool) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", false
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", true
}
