package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"muster/internal/api"
)

// masking is what makes an attribute empty, whatever groups say; see model.Masking.
const masking = `""`

// cell is one cell of a table. A quoted one with nothing in it is not the same as an empty one.
type cell struct {
	text   string
	quoted bool
}

// record is one row of a table, and the line that it begins in.
type record struct {
	line  int
	cells []cell
}

// parseCSV reads a table of nodes: a header with a column node (or name), which may hold a noderange, and a column for each
// attribute; "attr+" adds to lists, "attr-" takes away. An empty cell leaves alone, "" makes empty. Everything that is wrong is told.
//
//	node,groups,bmc.address
//	r1n1,"compute,rack1",10.78.1.1
//
// Cells are parted by commas, semicolons or tabs, whichever the header has most of. Quotes are as in RFC 4180; line ends may be those of any
// system, a byte order mark is passed over, and so are empty lines and those that begin with #.
func parseCSV(text string) ([]api.Row, []*api.Error) {
	var problems []*api.Error
	wrong := func(line int, what, why, do string) {
		problems = append(problems, &api.Error{Code: api.Usage, Line: line, What: what, Why: why, Do: do})
	}
	text = strings.TrimPrefix(text, "\ufeff")
	records := splitCSV(text, separatorOf(text), wrong)
	if len(records) == 0 {
		if len(problems) == 0 {
			wrong(1, "the file", "it is empty", "The first line names the columns: node,groups,bmc.address,…")
		}
		return nil, problems
	}
	head := records[0]
	columns, key := headerOf(head, records[1:], wrong)
	if key < 0 {
		return nil, problems
	}
	var rows []api.Row
	for _, r := range records[1:] {
		if len(r.cells) != len(columns) {
			wrong(r.line, "the row", fmt.Sprintf("it has %d cells, and the header %d", len(r.cells), len(columns)), "Leave cells empty, but keep the separators; a separator in a value needs quotes around the value")
			continue
		}
		row := api.Row{Line: r.line, Range: r.cells[key].text}
		if row.Range == "" {
			wrong(r.line, "the row", "it names no node", "Write a node or a noderange into the column "+head.cells[key].text)
			continue
		}
		for i, c := range r.cells {
			if i == key || columns[i].Attr == "" || c.text == "" && !c.quoted {
				continue
			}
			row.Set = append(row.Set, fileAssignment(columns[i].Attr, columns[i].Op, c.text))
		}
		rows = append(rows, row)
	}
	return rows, problems
}

// fileAssignment is an assignment that stands in a file, where nothing means the empty value. What sounds secret travels as one.
func fileAssignment(attr, op, value string) api.Assignment {
	a := api.Assignment{Attr: attr, Op: op, Value: value}
	switch {
	case value == "" && op == "":
		a.Value = masking
	case value != masking && soundsSecret(attr):
		a.Value, a.Secret = "", &api.SecretValue{Plain: value}
	}
	return a
}

// headerOf reads the names of the columns; key is that of the nodes, -1 when there is none.
func headerOf(head record, rest []record, wrong func(line int, what, why, do string)) (columns []api.Assignment, key int) {
	key = -1
	seen := map[string]bool{}
	for i, c := range head.cells {
		name := c.text
		var a api.Assignment
		switch lower := strings.ToLower(name); {
		case (lower == "node" || lower == "name") && key < 0:
			key = i
		case name == "":
			for _, r := range rest {
				if i < len(r.cells) && r.cells[i].text != "" {
					wrong(head.line, fmt.Sprintf("column %d", i+1), "it has no name, and line "+fmt.Sprint(r.line)+" has a value in it", "Write the name of an attribute above it")
					break
				}
			}
		default:
			a = columnName(name)
			if !attrName(a.Attr) {
				wrong(head.line, fmt.Sprintf("column %d", i+1), fmt.Sprintf("%q is no name of an attribute", name), "Names of attributes: muster attributes")
			}
			if seen[name] {
				wrong(head.line, "column "+name, "it is there twice", "Leave one out")
			}
			seen[name] = true
		}
		columns = append(columns, a)
	}
	if key < 0 {
		wrong(head.line, "the header", "no column is called node", "The first line names the columns: node,groups,bmc.address,…")
	}
	return columns, key
}

// columnName is "attr", "attr+" or "attr-" of a file.
func columnName(name string) api.Assignment {
	if n := len(name) - 1; n > 0 && (name[n] == '+' || name[n] == '-') {
		return api.Assignment{Attr: name[:n], Op: name[n:] + "="}
	}
	return api.Assignment{Attr: name}
}

// separatorOf is the one of comma, semicolon and tab that the header has most of.
func separatorOf(text string) byte {
	var count [256]int
	quoted, begun := false, false
	for i := range len(text) {
		c := text[i]
		if c == '\n' || c == '\r' {
			if begun && !quoted {
				break
			}
			continue
		}
		if c == '#' && !begun { // a remark before the header
			end := strings.IndexAny(text[i:], "\r\n")
			if end < 0 {
				return ','
			}
			return separatorOf(text[i+end:])
		}
		begun = begun || c != ' '
		quoted = quoted != (c == '"')
		if !quoted {
			count[c]++
		}
	}
	best := byte(',')
	for _, c := range []byte{';', '\t'} {
		if count[c] > count[best] {
			best = c
		}
	}
	return best
}

// splitCSV cuts a table into records and cells.
func splitCSV(text string, sep byte, wrong func(line int, what, why, do string)) []record {
	var out []record
	line := 1
	for i := 0; i < len(text); {
		r := record{line: line}
		bad := false
		if text[i] == '#' {
			end := strings.IndexAny(text[i:], "\r\n")
			if end < 0 {
				break
			}
			i += end
		} else {
			for more := true; more; {
				var c cell
				var why string
				c, i, line, why = oneCell(text, i, line, sep)
				if why != "" && !bad {
					bad = true
					wrong(r.line, fmt.Sprintf("cell %d", len(r.cells)+1), why, "Put quotes around the whole value, and double those in it")
				}
				r.cells = append(r.cells, c)
				if more = i < len(text) && text[i] == sep; more {
					i++
				}
			}
		}
		if i < len(text) && text[i] == '\r' {
			i++
			if i < len(text) && text[i] == '\n' {
				i++
			}
			line++
		} else if i < len(text) {
			i++
			line++
		}
		if !bad && (len(r.cells) > 1 || len(r.cells) == 1 && (r.cells[0].text != "" || r.cells[0].quoted)) {
			out = append(out, r)
		}
	}
	return out
}

// oneCell reads a cell that begins at i, and says where it ends, in which line, and what is wrong with it.
func oneCell(text string, i, line int, sep byte) (c cell, end, endLine int, why string) {
	space := func(b byte) bool { return b == ' ' || b == '\t' && sep != '\t' }
	ends := func(b byte) bool { return b == sep || b == '\n' || b == '\r' }
	for i < len(text) && space(text[i]) {
		i++
	}
	begin := line
	if i < len(text) && text[i] == '"' {
		var b strings.Builder
		c.quoted = true
		for i++; ; i++ {
			if i >= len(text) {
				return c, i, line, fmt.Sprintf("the quote that begins in line %d has no end", begin)
			}
			switch {
			case text[i] == '"' && i+1 < len(text) && text[i+1] == '"':
				b.WriteByte('"')
				i++
				continue
			case text[i] == '\n', text[i] == '\r' && (i+1 >= len(text) || text[i+1] != '\n'):
				line++
			}
			if text[i] == '"' {
				break
			}
			b.WriteByte(text[i])
		}
		c.text = b.String()
		for i++; i < len(text) && !ends(text[i]); i++ {
			if !space(text[i]) {
				why = "text stands behind the closing quote"
			}
		}
	} else {
		start := i
		for i < len(text) && !ends(text[i]) {
			i++
		}
		c.text = strings.TrimRight(text[start:i], " \t")
		if strings.Contains(c.text, `"`) {
			why = "a quote stands in a value without quotes around it"
		}
	}
	if why == "" && !utf8.ValidString(c.text) {
		why = "it is no UTF-8 text"
	}
	return c, i, line, why
}

// quoteCSV is a cell as it is written: masking, which only quotes can say, included.
func quoteCSV(v string) string {
	if v == masking {
		return masking
	}
	if strings.ContainsAny(v, ",;\t\"\r\n#") || strings.TrimSpace(v) != v {
		return `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
	}
	return v
}
