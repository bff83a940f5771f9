package model

import "muster/internal/model/noderange"

// Natural compares two names the way people count: n2 before n10. It is a total order; 0 means the same string.
func Natural(a, b string) int { return noderange.Natural(a, b) }
