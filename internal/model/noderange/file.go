package noderange

import (
	"fmt"
	"strings"
)

// Files puts the names of files in place of every ^/path of an expression: it is for the client, which may read them.
// read gives the content of a file: names or noderanges, one or several on a line, with commas or spaces between
// them; # begins a comment. An expression without ^/path comes back as it is.
func Files(expr string, read func(path string) (string, error)) (string, error) {
	if !strings.Contains(expr, "^/") {
		return expr, nil
	}
	p := &parser{text: expr}
	plan, err := p.parse()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	at := 0
	for _, t := range plan.terms {
		f, ok := t.(path)
		if !ok {
			continue
		}
		content, err := read(f.file)
		if err != nil {
			return "", fail(f.from+1, "^"+f.file+" cannot be read", err.Error(), "")
		}
		var names []string
		for line := range strings.Lines(content) {
			line, _, _ = strings.Cut(line, "#")
			names = append(names, strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })...)
		}
		if len(names) == 0 {
			return "", fail(f.from+1, "^"+f.file+" holds no names", "", "Write one name on each line")
		}
		within := strings.Join(names, ",")
		if _, err := Parse(within); err != nil {
			return "", fail(f.from+1, "^"+f.file+" holds no noderange", fmt.Sprint(err), "Mend the file")
		}
		b.WriteString(expr[at:f.from] + "(" + within + ")")
		at = f.to
	}
	return b.String() + expr[at:], nil
}
