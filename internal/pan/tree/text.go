package tree

import "strconv"

// Text is v as Pan's to_string() and Java's messages have it: a string as it is, [ 1, x ], { key, value }, 1.0E10, undef. A circular
// structure is an Evaluation error.
func Text(v Value) (string, error) {
	switch v := v.(type) {
	case String:
		return string(v), nil
	case Long:
		return strconv.FormatInt(int64(v), 10), nil
	}
	b, err := appendText(nil, v, 0)
	return string(b), err
}

func appendText(b []byte, v Value, depth int) ([]byte, error) {
	if depth > maxDepth {
		return b, errCircular
	}
	var err error
	switch v := v.(type) {
	case *Dict:
		b = append(b, "{ "...)
		for i, c := range v.s.entries {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(append(b, c.key...), ", "...)
			if b, err = appendText(b, c.value, depth+1); err != nil {
				return b, err
			}
		}
		return append(b, " }"...), nil
	case *List:
		b = append(b, "[ "...)
		for i, child := range v.s.items {
			if i > 0 {
				b = append(b, ", "...)
			}
			if b, err = appendText(b, child, depth+1); err != nil {
				return b, err
			}
		}
		return append(b, " ]"...), nil
	case String:
		return append(b, v...), nil
	}
	return appendProperty(b, v), nil
}
