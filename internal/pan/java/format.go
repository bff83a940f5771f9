package java

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// A FormatError is one of Java's IllegalFormatExceptions; its text is the message of that.
type FormatError struct{ What string }

func (e *FormatError) Error() string { return e.What }

func formatError(format string, args ...any) *FormatError {
	return &FormatError{fmt.Sprintf(format, args...)}
}

// formatLimit bounds widths and precisions; Java would take as much memory as they say.
const formatLimit = 1 << 20

// Format is String.format for the locale US with arguments that are string, int64, float64 or bool. Dates (%t) are in UTC.
// Everything in format is checked before the first argument is looked at. The error is a [*FormatError].
func Format(format string, args ...any) (string, error) {
	specs, err := parseFormat(format)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	ordinary, last := -1, -1
	for i := range specs {
		s := &specs[i]
		var arg any
		switch {
		case s.index == noArgument:
		case s.index == previousArgument:
			if last < 0 || last >= len(args) {
				return "", s.missing()
			}
			arg = args[last]
		default:
			if s.index == 0 {
				ordinary++
				last = ordinary
			} else {
				last = s.index - 1
			}
			if last >= len(args) {
				return "", s.missing()
			}
			arg = args[last]
		}
		if b.WriteString(s.text); s.conversion == 0 {
			continue
		}
		text, err := s.print(arg)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// The places of an argument that are none.
const (
	previousArgument = -1 // %<s
	noArgument       = -2
)

// The flags of a format specifier, in the order in which messages name them.
type formatFlags uint16

const (
	left formatFlags = 1 << iota
	upper
	alternate
	plus
	space
	zeros
	grouped
	parentheses
	previous
)

const flagLetters = "-^#+ 0,(<"

func (f formatFlags) String() string {
	var b strings.Builder
	for i, c := range flagLetters {
		if f&(1<<i) != 0 {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// spec is a format specifier, or (conversion 0) text.
type spec struct {
	text             string
	index            int // from 1; 0: the next
	flags            formatFlags
	width, precision int // -1: none
	date             bool
	conversion       rune // in lower case
}

func parseFormat(s string) ([]spec, error) {
	var all []spec
	for s != "" {
		n := strings.IndexByte(s, '%')
		if n < 0 {
			n = len(s)
		}
		if n > 0 {
			all = append(all, spec{text: s[:n], index: noArgument})
			s = s[n:]
			continue
		}
		x, rest, err := parseSpec(s[1:])
		if err != nil {
			return nil, err
		}
		all = append(all, x)
		s = rest
	}
	return all, nil
}

// parseSpec reads [index$][flags][width][.precision][t]conversion.
func parseSpec(s string) (x spec, rest string, err error) {
	x.width, x.precision = -1, -1
	if s == "" {
		return x, "", formatError("Conversion = '%%'")
	}
	whole := s
	digits := func() string {
		n := 0
		for n < len(s) && isDigit(rune(s[n])) {
			n++
		}
		d := s[:n]
		s = s[n:]
		return d
	}
	index, flags, width, precision := "", "", "", ""
	if index = digits(); index != "" && strings.HasPrefix(s, "$") {
		s = s[1:]
	} else {
		index, s = "", whole
	}
	n := len(s) - len(strings.TrimLeft(s, "-#+ 0,(<"))
	flags, s = s[:n], s[n:]
	width = digits()
	if len(s) > 1 && s[0] == '.' && isDigit(rune(s[1])) {
		s = s[1:]
		precision = digits()
	}
	if len(s) > 1 && s[0]|0x20 == 't' && isLetter(rune(s[1])) {
		x.date = true
		if s[0] == 'T' {
			x.flags |= upper
		}
		s = s[1:]
	}
	if s == "" || s[0] != '%' && !isLetter(rune(s[0])) {
		return x, "", formatError("Conversion = '%s'", FromUnits(Units(whole[:min(4, len(whole))])[:1]))
	}
	x.conversion = rune(s[0])
	rest = s[1:]
	if index != "" {
		if x.index, err = strconv.Atoi(index); err != nil || x.index > math.MaxInt32 {
			return x, "", formatError("Format argument index: (not representable as int)")
		}
		if x.index <= 0 {
			return x, "", formatError("Illegal format argument index = %d", x.index)
		}
	}
	for i := range len(flags) {
		f := formatFlags(1) << strings.IndexByte(flagLetters, flags[i])
		if x.flags&f != 0 && f != upper {
			return x, "", formatError("Flags = '%s'", f)
		}
		x.flags |= f
	}
	if x.flags&previous != 0 {
		x.index = previousArgument
	}
	for _, number := range []struct {
		text string
		to   *int
	}{{width, &x.width}, {precision, &x.precision}} {
		if number.text == "" {
			continue
		}
		if *number.to, err = strconv.Atoi(number.text); err != nil || *number.to > math.MaxInt32 {
			return x, "", formatError("%d", math.MinInt32)
		}
	}
	if err := x.check(); err != nil {
		return x, "", err
	}
	if x.width > formatLimit || x.precision > formatLimit && strings.ContainsRune("efga", x.conversion) {
		return x, "", formatError("%s is too large; the largest width and precision is %d", &x, formatLimit)
	}
	return x, rest, nil
}

// check is what Java checks of a specifier before it sees an argument.
func (x *spec) check() error {
	if !x.date {
		if !strings.ContainsRune("bBsShHcCdoxXeEgGfaAn%", x.conversion) {
			return formatError("Conversion = '%c'", x.conversion)
		}
		if unicode.IsUpper(x.conversion) {
			x.flags |= upper
			x.conversion = unicode.ToLower(x.conversion)
		}
		if x.conversion == 'n' || x.conversion == '%' {
			x.index = noArgument
		}
	}
	bad := formatFlags(0)
	precise := false
	switch {
	case x.date:
		if x.precision != -1 {
			return formatError("%d", x.precision)
		}
		if !strings.ContainsRune("HIklMNLQpsSTzZaAbBCdehjmyYrRcDF", x.conversion) {
			return formatError("Conversion = 't%c'", x.conversion)
		}
		bad = alternate | plus | space | zeros | grouped | parentheses
		if err := x.mismatch(bad); err != nil {
			return err
		}
		return x.needWidth(left)
	case strings.ContainsRune("bsh", x.conversion):
		if x.conversion != 's' && x.flags&alternate != 0 {
			return x.mismatch(alternate)
		}
		if err := x.needWidth(left); err != nil {
			return err
		}
		return x.mismatch(plus | space | zeros | grouped | parentheses)
	case x.conversion == 'c':
		if x.precision != -1 {
			return formatError("%d", x.precision)
		}
		if err := x.mismatch(alternate | plus | space | zeros | grouped | parentheses); err != nil {
			return err
		}
		return x.needWidth(left)
	case x.conversion == '%' || x.conversion == 'n':
		switch {
		case x.precision != -1:
			return formatError("%d", x.precision)
		case x.conversion == 'n' && x.width != -1:
			return formatError("%d", x.width)
		case x.flags != 0 && (x.conversion == 'n' || x.flags != left):
			return formatError("Flags = '%s'", x.flags)
		}
		return x.needWidth(left)
	case x.conversion == 'd':
		bad = alternate
	case x.conversion == 'o', x.conversion == 'x':
		bad = grouped
	default:
		precise = true
		bad = map[rune]formatFlags{'a': parentheses | grouped, 'e': grouped, 'g': alternate}[x.conversion]
	}
	if err := x.needWidth(left | zeros); err != nil {
		return err
	}
	if x.flags&(plus|space) == plus|space || x.flags&(left|zeros) == left|zeros {
		return formatError("Flags = '%s'", x.flags)
	}
	if !precise && x.precision != -1 {
		return formatError("%d", x.precision)
	}
	return x.mismatch(bad)
}

// mismatchOrder is the order in which Java looks for flags that do not fit a conversion.
var mismatchOrder = []formatFlags{alternate, plus, space, zeros}

// mismatch is an error for the first of bad that is set.
func (x *spec) mismatch(bad formatFlags) error {
	order := append(mismatchOrder[:4:4], grouped, parentheses)
	if !x.date && (x.conversion == 'a' || x.conversion == 'o' || x.conversion == 'x') {
		order = append(mismatchOrder[:1:1], parentheses, space, plus, zeros, grouped)
	}
	for _, f := range order {
		if x.flags&bad&f != 0 {
			return formatError("Conversion = %c, Flags = %s", x.conversion, f)
		}
	}
	return nil
}

func (x *spec) needWidth(f formatFlags) error {
	if x.width == -1 && x.flags&f != 0 {
		return formatError("%s", x)
	}
	return nil
}

// String is the specifier as Java's messages have it.
func (x *spec) String() string {
	s := "%" + (x.flags &^ upper).String()
	if x.index > 0 {
		s += strconv.Itoa(x.index) + "$"
	}
	if x.width != -1 {
		s += strconv.Itoa(x.width)
	}
	if x.precision != -1 {
		s += "." + strconv.Itoa(x.precision)
	}
	letters := string(x.conversion)
	if x.date {
		letters = "t" + letters
	}
	if x.flags&upper != 0 {
		letters = strings.ToUpper(letters[:1]) + letters[1:]
		if x.date {
			letters = strings.ToUpper(letters)
		}
	}
	return s + letters
}

func (x *spec) missing() error { return formatError("Format specifier '%s'", x) }

func (x *spec) print(arg any) (string, error) {
	if x.date {
		return x.printDate(arg)
	}
	switch x.conversion {
	case 'n':
		return "\n", nil
	case '%':
		return x.printText("%"), nil
	case 's':
		if x.flags&alternate != 0 {
			return "", x.mismatch(alternate)
		}
		return x.printText(text(arg)), nil
	case 'b':
		if b, ok := arg.(bool); ok {
			return x.printText(strconv.FormatBool(b)), nil
		}
		return x.printText("true"), nil
	case 'h':
		return x.printText(strconv.FormatUint(uint64(hashCode(arg)), 16)), nil
	case 'd', 'o', 'x':
		if n, ok := arg.(int64); ok {
			return x.printLong(n)
		}
	case 'e', 'f', 'g', 'a':
		if d, ok := arg.(float64); ok {
			return x.printDouble(d), nil
		}
	}
	return "", x.unfit(arg)
}

// unfit is the error for an argument of the wrong type.
func (x *spec) unfit(arg any) error {
	class := map[string]string{"string": "String", "int64": "Long", "float64": "Double", "bool": "Boolean"}[fmt.Sprintf("%T", arg)]
	return formatError("%c != java.lang.%s", x.conversion, class)
}

// text is String.valueOf.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return Double(v)
	case bool:
		return strconv.FormatBool(v)
	}
	return fmt.Sprint(v)
}

// printText cuts s to the precision and fits it into the width.
func (x *spec) printText(s string) string {
	if x.precision != -1 && x.precision < Length(s) {
		s = Substring(s, 0, x.precision)
	}
	if x.flags&upper != 0 {
		s = ToUpper(s)
	}
	return x.justify(s)
}

func (x *spec) justify(s string) string {
	pad := x.width - Length(s)
	if pad <= 0 {
		return s
	}
	if x.flags&left != 0 {
		return s + strings.Repeat(" ", pad)
	}
	return strings.Repeat(" ", pad) + s
}

func (x *spec) printLong(n int64) (string, error) {
	if x.conversion == 'd' {
		digits := strings.TrimPrefix(strconv.FormatInt(n, 10), "-")
		return x.justify(x.signed(n < 0, func(b string) string { return x.magnitude(b, digits, x.inside(x.width, n < 0)) })), nil
	}
	if err := x.mismatch(parentheses | space | plus); err != nil {
		return "", err
	}
	digits, front := strconv.FormatUint(uint64(n), 8), "0"
	if x.conversion == 'x' {
		digits, front = strconv.FormatUint(uint64(n), 16), "0x"
	}
	if x.flags&alternate == 0 {
		front = ""
	}
	if x.flags&zeros != 0 {
		front += strings.Repeat("0", max(0, x.width-len(front)-len(digits)))
	}
	s := front + digits
	if x.flags&upper != 0 {
		s = strings.ToUpper(s)
	}
	return x.justify(s), nil
}

// inside is the width without the parenthesis that closes.
func (x *spec) inside(width int, negative bool) int {
	if width != -1 && negative && x.flags&parentheses != 0 {
		width--
	}
	return width
}

// signed puts the sign, or parentheses, around what body makes behind it.
func (x *spec) signed(negative bool, body func(sign string) string) string {
	switch {
	case negative && x.flags&parentheses != 0:
		return body("(") + ")"
	case negative:
		return body("-")
	case x.flags&plus != 0:
		return body("+")
	case x.flags&space != 0:
		return body(" ")
	}
	return body("")
}

// magnitude is sign, zeros up to the width, and the digits in groups of three if the flags say so.
func (x *spec) magnitude(sign, digits string, width int) string {
	whole, fraction, hasPoint := strings.Cut(digits, ".")
	if x.flags&grouped != 0 {
		for i := len(whole) - 3; i > 0; i -= 3 {
			whole = whole[:i] + "," + whole[i:]
		}
	}
	if hasPoint {
		whole += "." + fraction
	}
	if n := width - len(sign) - len(whole); n > 0 && x.flags&zeros != 0 {
		sign += strings.Repeat("0", n)
	}
	return sign + whole
}

func (x *spec) printDouble(d float64) string {
	if math.IsNaN(d) {
		return x.justify(x.cased("NaN"))
	}
	negative := math.Signbit(d)
	return x.justify(x.signed(negative, func(sign string) string {
		switch d = math.Abs(d); {
		case math.IsInf(d, 0):
			return sign + x.cased("Infinity")
		case x.conversion == 'a':
			return x.hexDouble(sign, d)
		}
		return x.decimalDouble(sign, d, negative)
	}))
}

func (x *spec) cased(s string) string {
	if x.flags&upper != 0 {
		return strings.ToUpper(s)
	}
	return s
}

func (x *spec) decimalDouble(sign string, d float64, negative bool) string {
	precision := x.precision
	if precision == -1 {
		precision = 6
	}
	var f decimal
	f.of(d)
	var mantissa, exponent string
	switch x.conversion {
	case 'f':
		f.cut(f.exponent + precision)
		mantissa = addZeros(f.plain(precision), precision)
	case 'e':
		f.cut(precision + 1)
		mantissa, exponent = f.scientific(precision)
		if d == 0 {
			exponent = "+00"
		}
		mantissa = addZeros(mantissa, precision)
	case 'g':
		precision = max(precision, 1)
		if d == 0 {
			mantissa = addZeros("0", precision-1)
			break
		}
		f.cut(precision)
		if e := f.exponent - 1; e < -4 || e >= precision {
			mantissa, exponent = f.scientific(precision - 1)
			mantissa = addZeros(mantissa, precision-1)
		} else {
			mantissa = addZeros(f.plain(precision-f.exponent), precision-f.exponent)
		}
	}
	if precision == 0 && x.flags&alternate != 0 {
		mantissa += "."
	}
	width := x.width
	if exponent == "" {
		return x.magnitude(sign, mantissa, x.inside(width, negative))
	}
	if width != -1 {
		width = x.inside(width-len(exponent)-1, negative)
	}
	return x.magnitude(sign, mantissa, width) + x.cased("e") + exponent
}

// addZeros fills the fraction of s to n digits.
func addZeros(s string, n int) string {
	_, fraction, ok := strings.Cut(s, ".")
	if len(fraction) >= n {
		return s
	}
	if !ok {
		s += "."
	}
	return s + strings.Repeat("0", n-len(fraction))
}

// cut rounds f, half up, to n digits; the others become zeros.
func (f *decimal) cut(n int) {
	if n < 0 || n >= f.n {
		return
	}
	digits := f.digits[:f.n]
	up := digits[n] >= '5'
	for i := n; i < f.n; i++ {
		digits[i] = '0'
	}
	if !up {
		return
	}
	i := n - 1
	for ; i >= 0 && digits[i] == '9'; i-- {
		digits[i] = '0'
	}
	if i < 0 {
		digits[0] = '1'
		f.exponent++
		return
	}
	digits[i]++
}

// plain is f without an exponent and with at most n digits behind the point.
func (f *decimal) plain(n int) string {
	digits := string(f.digits[:f.n])
	if e := f.exponent; e > 0 {
		if f.n <= e {
			return digits + strings.Repeat("0", e-f.n)
		}
		if n = min(f.n-e, n); n > 0 {
			return digits[:e] + "." + digits[e:e+n]
		}
		return digits[:e]
	}
	front := max(0, min(-f.exponent, n))
	n = max(0, min(f.n, n+f.exponent))
	if front == 0 && n == 0 {
		return "0"
	}
	return "0." + strings.Repeat("0", front) + digits[:n]
}

// scientific is f with one digit in front of the point, at most n behind it, and the exponent of two or three digits.
func (f *decimal) scientific(n int) (mantissa, exponent string) {
	digits := string(f.digits[:f.n])
	mantissa = digits[:1]
	if n = max(0, min(f.n-1, n)); n > 0 {
		mantissa += "." + digits[1:1+n]
	}
	return mantissa, fmt.Sprintf("%+03d", f.exponent-1)
}

// hexDouble is %a: Double.toHexString, rounded to the precision.
func (x *spec) hexDouble(sign string, d float64) string {
	precision := x.precision
	if precision == 0 {
		precision = 1
	}
	mantissa, exponent := hexDigits(d, precision)
	digits := mantissa + "p" + exponent
	front := "0x"
	if x.flags&zeros != 0 {
		front += strings.Repeat("0", max(0, x.width-len(digits)-2-min(1, len(sign))))
	}
	if precision > 0 {
		mantissa = addZeros(mantissa, precision)
	}
	return sign + x.cased(front+mantissa+"p"+exponent)
}

// hexDigits are the parts of Double.toHexString, rounded half to even to n digits if n is 1 to 12.
func hexDigits(d float64, n int) (mantissa, exponent string) {
	shift := 0
	if 1 <= n && n <= 12 && d != 0 {
		if d < 0x1p-1022 {
			d *= 0x1p54
			shift = 54
		}
		drop := 52 - 4*n
		b := math.Float64bits(d)
		rest, half := b&(1<<drop-1), uint64(1)<<(drop-1)
		b >>= drop
		if rest > half || rest == half && b&1 == 1 {
			b++
		}
		if d = math.Float64frombits(b << drop); math.IsInf(d, 0) {
			return "1.0", "1024"
		}
	}
	b := math.Float64bits(d)
	e, lead := int(b>>52)-1023, "1."
	if b>>52 == 0 {
		e, lead = -1022, "0."
	}
	if d == 0 {
		e = 0
	}
	digits := strings.TrimRight(fmt.Sprintf("%013x", b&(1<<52-1)), "0")
	if digits == "" {
		digits = "0"
	}
	return lead + digits, strconv.Itoa(e - shift)
}

// printDate is %t for milliseconds since 1970.
func (x *spec) printDate(arg any) (string, error) {
	n, ok := arg.(int64)
	if !ok {
		return "", x.unfit(arg)
	}
	s := dateText(time.UnixMilli(n).UTC(), n, x.conversion)
	if x.flags&upper != 0 {
		s = strings.ToUpper(s)
	}
	return x.justify(s), nil
}

func dateText(t time.Time, n int64, conversion rune) string {
	hour := (t.Hour()+11)%12 + 1
	switch conversion {
	case 'H':
		return t.Format("15")
	case 'I':
		return fmt.Sprintf("%02d", hour)
	case 'k':
		return strconv.Itoa(t.Hour())
	case 'l':
		return strconv.Itoa(hour)
	case 'M':
		return t.Format("04")
	case 'S':
		return t.Format("05")
	case 'L':
		return t.Format(".000")[1:]
	case 'N':
		return t.Format(".000000000")[1:]
	case 'p':
		return t.Format("pm")
	case 'z':
		return "+0000"
	case 'Z':
		return "UTC"
	case 's':
		return strconv.FormatInt(n/1000, 10)
	case 'Q':
		return strconv.FormatInt(n, 10)
	case 'B':
		return t.Month().String()
	case 'b', 'h':
		return t.Month().String()[:3]
	case 'A':
		return t.Weekday().String()
	case 'a':
		return t.Weekday().String()[:3]
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100)
	case 'Y':
		return fmt.Sprintf("%04d", t.Year())
	case 'y':
		return fmt.Sprintf("%02d", t.Year()%100)
	case 'j':
		return fmt.Sprintf("%03d", t.YearDay())
	case 'm':
		return t.Format("01")
	case 'd':
		return t.Format("02")
	case 'e':
		return strconv.Itoa(t.Day())
	case 'R':
		return t.Format("15:04")
	case 'T':
		return t.Format("15:04:05")
	case 'r':
		return t.Format("03:04:05 PM")
	case 'D':
		return t.Format("01/02/06")
	case 'F':
		return t.Format("2006-01-02")
	}
	return t.Format("Mon Jan 02 15:04:05 UTC 2006")
}
