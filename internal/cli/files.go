package cli

import (
	"fmt"
	"strings"
)

// withFiles replaces the terms "^/path/file" of a noderange by the names in the files, as "(n1,n2)". A term begins at the
// start, behind a comma, an opening parenthesis or an operator; elsewhere ^ is the symmetric difference and stays. A path
// ends before , ) & or !. In a file, names (or noderanges) are parted by white space or commas, and # begins a remark.
//
// It is done here and never by the service: the file is the person's.
func withFiles(nr string, read func(string) ([]byte, error)) (string, error) {
	if !strings.Contains(nr, "^/") {
		return nr, nil
	}
	var b strings.Builder
	depth := 0 // of brackets: a class of a regular expression may hold anything
	for i := 0; i < len(nr); i++ {
		switch nr[i] {
		case '[':
			depth++
		case ']':
			depth = max(depth-1, 0)
		}
		if depth > 0 || !strings.HasPrefix(nr[i:], "^/") || i > 0 && !strings.ContainsRune(",(@&!-", rune(nr[i-1])) {
			b.WriteByte(nr[i])
			continue
		}
		end := len(nr)
		if n := strings.IndexAny(nr[i:], ",)&!"); n >= 0 {
			end = i + n
		}
		names, err := readNames(nr[i+1:end], read)
		if err != nil {
			return "", err
		}
		b.WriteString("(" + strings.Join(names, ",") + ")")
		i = end - 1
	}
	return b.String(), nil
}

func readNames(path string, read func(string) ([]byte, error)) ([]string, error) {
	text, err := read(path)
	if err != nil {
		return nil, usage("noderange ^"+path, reason(err), "Give a file with names of nodes")
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		names = append(names, strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n' })...)
	}
	for _, n := range names {
		if strings.HasPrefix(n, "^") {
			return nil, usage("noderange ^"+path, fmt.Sprintf("it names another file, %s", n), "Name both files: ^"+path+","+n)
		}
	}
	if len(names) == 0 {
		return nil, usage("noderange ^"+path, "the file holds no names", "Give a file with names of nodes")
	}
	return names, nil
}
