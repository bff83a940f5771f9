package noderange

import (
	"cmp"
	"slices"
	"strings"
)

// Fold writes names as the shortest ranges that it finds, in natural order: "r1n[01-40],r2n[01-12,14]". Expanding the
// result gives the same set of names, each once.
//
// Names of the same texts and paddings are points, one dimension for each number; they are merged along the last
// dimension into lists, then lists that are equal along the one before it, and so on.
func Fold(names []string) string { return strings.Join(foldWords(names), ",") }

// foldWords is Fold, each range by itself.
func foldWords(names []string) []string {
	var boxes []box
	for _, f := range families(names) {
		boxes = append(boxes, f.boxes()...)
	}
	slices.SortStableFunc(boxes, func(x, y box) int { return Natural(x.first, y.first) })
	out := make([]string, len(boxes))
	for i, x := range boxes {
		out[i] = x.String()
	}
	return out
}

// maxDims is the number of numbers of a name that are folded; those before them count as text.
const maxDims = 8

// family is the names that have the same texts: points, dims numbers each.
type family struct {
	text   []string
	dims   int
	points []number // dims for each name
	alone  string   // the name, when it has no number
}

// box is a product of lists: one word of the result.
type box struct {
	first string // the first name, for the order
	text  []string
	sets  []string // what stands between the texts: "7", or "[1-3,5]"
}

func (x box) String() string {
	if len(x.sets) == 0 {
		return x.text[0]
	}
	var b strings.Builder
	for i, s := range x.sets {
		b.WriteString(x.text[i])
		b.WriteString(s)
	}
	b.WriteString(x.text[len(x.text)-1])
	return b.String()
}

// families sorts the names by their texts. Neighbours mostly have the same ones, which is seen without a map.
func families(names []string) []*family {
	var out []*family
	byText := map[string]*family{}
	var last *family
	var key []byte
	var runs [maxDims][2]int
	for _, s := range names {
		n := scan(s, &runs)
		if last == nil || !last.fits(s, runs[:n]) {
			key = key[:0]
			at := 0
			for _, r := range runs[:n] {
				key = append(append(key, s[at:r[0]]...), 0)
				at = r[1]
			}
			key = append(key, s[at:]...)
			if last = byText[string(key)]; last == nil {
				last = &family{text: strings.Split(string(key), "\x00"), dims: n}
				if n == 0 {
					last.alone = s
				}
				byText[string(key)] = last
				out = append(out, last)
			}
		}
		for _, r := range runs[:n] {
			last.points = append(last.points, number{value(s[r[0]:r[1]]), r[1] - r[0]})
		}
	}
	return out
}

// scan finds the last numbers of a name.
func scan(s string, runs *[maxDims][2]int) int {
	n, at := 0, 0
	for {
		from, to, ok := run(s, at)
		if !ok {
			return n
		}
		if n == maxDims {
			copy(runs[:], runs[1:])
			n--
		}
		runs[n] = [2]int{from, to}
		n++
		at = to
	}
}

func (f *family) fits(s string, runs [][2]int) bool {
	if len(runs) != f.dims {
		return false
	}
	at := 0
	for i, r := range runs {
		if s[at:r[0]] != f.text[i] {
			return false
		}
		at = r[1]
	}
	return s[at:] == f.text[len(f.text)-1]
}

// boxes folds a family.
func (f *family) boxes() []box {
	if f.dims == 0 {
		return []box{{first: f.alone, text: f.text}}
	}
	f.pad()
	var out []box
	for _, points := range f.alike() {
		out = append(out, f.merge(points)...)
	}
	return out
}

// pad turns the digits of every number into the width of the range it can be part of: a number with leading zeros
// asks for its own width; another one joins the widest such range that it fits, as 10 does in 01-10.
func (f *family) pad() {
	for d := range f.dims {
		var asked [maxDigits + 1]bool
		any := false
		for i := d; i < len(f.points); i += f.dims {
			if p := f.points[i]; p.digits > digits(p.value) {
				asked[p.digits] = true
				any = true
			}
		}
		for i := d; i < len(f.points); i += f.dims {
			p := &f.points[i]
			if p.digits > digits(p.value) {
				continue
			}
			w := 0
			for n := p.digits; any && n > 1 && w == 0; n-- {
				if asked[n] {
					w = n
				}
			}
			p.digits = w
		}
	}
}

// alike sorts the points and parts them by the widths of their numbers.
func (f *family) alike() [][][]number {
	n := len(f.points) / f.dims
	points := make([][]number, n)
	for i := range points {
		points[i] = f.points[i*f.dims : (i+1)*f.dims]
	}
	order := func(a, b []number) int {
		for d := range a {
			if a[d].digits != b[d].digits {
				return cmp.Compare(a[d].digits, b[d].digits)
			}
		}
		for d := range a {
			if a[d].value != b[d].value {
				return cmp.Compare(a[d].value, b[d].value)
			}
		}
		return 0
	}
	if !slices.IsSortedFunc(points, order) {
		slices.SortFunc(points, order)
	}
	points = slices.CompactFunc(points, func(a, b []number) bool { return order(a, b) == 0 })
	var out [][][]number
	from := 0
	for i := 1; i <= len(points); i++ {
		if i == len(points) || slices.CompareFunc(points[i-1], points[i], func(a, b number) int { return cmp.Compare(a.digits, b.digits) }) != 0 {
			out = append(out, points[from:i])
			from = i
		}
	}
	return out
}

// part is points that have the first numbers in common and lists for the others.
type part struct {
	point []number // of the first of them
	sets  []string // lists of the dimensions that are merged, first dimension first
	key   string   // the same as one string
}

// merge folds sorted points of equal widths.
func (f *family) merge(points [][]number) []box {
	last := f.dims - 1
	parts := lists(points, last)
	for d := last - 1; d >= 0; d-- {
		parts = along(parts, d)
	}
	out := make([]box, len(parts))
	for i, p := range parts {
		out[i] = f.box(p)
	}
	return out
}

// lists makes the first parts: points that agree in all numbers but the last one.
func lists(points [][]number, last int) []part {
	var out []part
	for from := 0; from < len(points); {
		to := from + 1
		for to < len(points) && sameBefore(points[from], points[to], last) {
			to++
		}
		set := listOf(to-from, func(i int) number { return points[from+i][last] })
		out = append(out, part{point: points[from], sets: []string{set}, key: set})
		from = to
	}
	return out
}

// along merges parts that agree in the numbers before d and in the lists after it: their numbers at d become a list.
func along(parts []part, d int) []part {
	var out []part
	from := 0
	for from < len(parts) {
		to := from + 1
		for to < len(parts) && sameBefore(parts[from].point, parts[to].point, d) {
			to++
		}
		stretch := parts[from:to]
		if len(stretch) > 1 {
			slices.SortStableFunc(stretch, func(a, b part) int { return strings.Compare(a.key, b.key) })
		}
		first := len(out)
		for i := 0; i < len(stretch); {
			j := i + 1
			for j < len(stretch) && stretch[j].key == stretch[i].key {
				j++
			}
			set := listOf(j-i, func(k int) number { return stretch[i+k].point[d] })
			p := stretch[i]
			p.sets = append([]string{set}, p.sets...)
			p.key = set + " " + p.key
			out = append(out, p)
			i = j
		}
		slices.SortFunc(out[first:], func(a, b part) int { return cmp.Compare(a.point[d].value, b.point[d].value) })
		from = to
	}
	return out
}

func sameBefore(a, b []number, d int) bool {
	for i := range d {
		if a[i].value != b[i].value {
			return false
		}
	}
	return true
}

// listOf writes n numbers, which go up: "7" or "[1-3,5]".
func listOf(n int, at func(int) number) string {
	b := make([]byte, 0, 24)
	first := at(0)
	if n == 1 {
		return string(appendNumber(b, first.value, first.digits))
	}
	b = append(b, '[')
	for i := 0; i < n; {
		from := at(i).value
		to := from
		for i++; i < n && at(i).value == to+1; i++ {
			to++
		}
		if from != first.value {
			b = append(b, ',')
		}
		b = appendNumber(b, from, first.digits)
		if to > from {
			b = appendNumber(append(b, '-'), to, first.digits)
		}
	}
	return string(append(b, ']'))
}

func (f *family) box(p part) box {
	x := box{text: f.text, sets: p.sets}
	var name []byte
	plain := true
	for i, n := range p.point {
		name = appendNumber(append(name, f.text[i]...), n.value, n.digits)
		plain = plain && p.sets[i][0] != '['
	}
	x.first = string(append(name, f.text[len(f.text)-1]...))
	if r, wrong := (*pattern)(nil), (*Error)(nil); plain {
		// A name such as a1-a5 reads as a range: brackets say that it is none.
		if r, wrong = readEnds(x.first, 0); r != nil || wrong != nil {
			last := len(x.sets) - 1
			x.sets = append(slices.Clone(x.sets[:last]), "["+x.sets[last]+"]")
		}
	}
	return x
}
