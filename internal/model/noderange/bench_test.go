package noderange

import (
	"fmt"
	"testing"
)

var sizes = []int{1_000, 10_000, 100_000}

func BenchmarkExpand(b *testing.B) {
	for _, n := range sizes {
		w := newFake(numbered("n%d", 1, n), nil)
		for _, expr := range []string{fmt.Sprintf("n[1-%d]", n), fmt.Sprintf("n1-n%d,-~.*7", n)} {
			b.Run(expr, func(b *testing.B) {
				for b.Loop() {
					if _, err := Expand(w, expr, Options{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkExpandNames(b *testing.B) {
	for _, n := range sizes {
		for _, expr := range []string{fmt.Sprintf("n[1-%d]", n), fmt.Sprintf("r[1-100]n[1-%d]", n/100)} {
			b.Run(expr, func(b *testing.B) {
				for b.Loop() {
					if _, err := ExpandNames(expr); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// None of the names exists.
func BenchmarkExpandAny(b *testing.B) {
	w := newFake(numbered("m%d", 1, 1000), nil)
	for _, n := range sizes {
		expr := fmt.Sprintf("n[1-%d]", n)
		b.Run(expr, func(b *testing.B) {
			for b.Loop() {
				if _, err := ExpandAny(w, expr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewNames(b *testing.B) {
	for _, n := range sizes {
		names := numbered("n%d", 1, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				NewNames(func(yield func(string) bool) {
					for _, n := range names {
						if !yield(n) {
							return
						}
					}
				}, len(names))
			}
		})
	}
}

func BenchmarkFold(b *testing.B) {
	for _, n := range sizes {
		flat := numbered("n%d", 1, n)
		var grid []string
		for r := 1; r <= 100; r++ {
			grid = append(grid, numbered(fmt.Sprintf("r%dn%%d", r), 1, n/100)...)
		}
		for kind, names := range map[string][]string{"1-D": flat, "2-D": grid} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				for b.Loop() {
					Fold(names)
				}
			})
		}
	}
}
