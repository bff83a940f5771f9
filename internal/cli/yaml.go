package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"muster/internal/api"
)

// parseYAML reads nodes: a map of nodes or noderanges to their attributes, or a list of entries with node (or name) and attributes; a file
// may have several documents. Everything that is wrong is told.
//
//	r1n[1-40]:
//	  groups: [compute, rack1]
//	  bmc: {address: "10.78.1.{n0}", user: admin}     # or bmc.address: …
//	  image.kernelargs+: nosmt
//
// A list gives the elements of a list; "" makes empty, null and nothing leave alone. Values are as they are written: 0755 stays 0755.
func parseYAML(text string) ([]api.Row, []*api.Error) {
	y := &yamlFile{most: len(text) + yamlAgain}
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			why := strings.TrimPrefix(err.Error(), "yaml: ")
			line := 0
			if _, rest, ok := strings.Cut(why, ": "); ok { // its line is only in its text
				if n, _ := fmt.Sscanf(why, "line %d:", &line); n == 1 {
					why = rest
				}
			}
			y.wrong(line, "YAML", why, "")
			break
		}
		y.document(&doc)
	}
	if len(y.rows) == 0 && len(y.problems) == 0 {
		y.wrong(1, "the file", "it is empty", "Write nodes and their attributes: {r1n1: {bmc.address: 10.78.1.1}}")
	}
	return y.rows, y.problems
}

// yamlFile is a file that is being read.
type yamlFile struct {
	rows     []api.Row
	problems []*api.Error
	seen     int // parts of the file, those that anchors repeat as often as they do
	most     int // of seen
}

// yamlAgain is how many parts anchors may repeat: a file of a kilobyte can stand for a billion. yamlDepth is the most parts of a name.
const (
	yamlAgain = 1_000_000
	yamlDepth = 8
)

func (y *yamlFile) wrong(line int, what, why, do string) {
	y.problems = append(y.problems, &api.Error{Code: api.Usage, Line: line, What: what, Why: why, Do: do})
}

// of follows an alias to what it stands for. False: there is too much of it.
func (y *yamlFile) of(n *yaml.Node) (*yaml.Node, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	y.seen++
	if y.seen == y.most+1 {
		y.wrong(n.Line, "YAML", "its anchors stand for more than this program takes", "Write a noderange in the place of repetitions")
	}
	return n, n != nil && y.seen <= y.most
}

func (y *yamlFile) document(doc *yaml.Node) {
	if len(doc.Content) == 0 {
		return
	}
	top, ok := y.of(doc.Content[0])
	if !ok {
		return
	}
	switch {
	case top.Kind == yaml.MappingNode && entryName(top) != nil:
		y.entry(top)
	case top.Kind == yaml.MappingNode:
		for key, value := range pairs(top) {
			row := api.Row{Line: key.Line, Range: key.Value}
			if key.Kind != yaml.ScalarNode || key.Value == "" {
				y.wrong(key.Line, "the key", "it names no node", "Write a node or a noderange")
				continue
			}
			value, ok := y.of(value)
			switch {
			case !ok:
				return
			case value.Kind == yaml.MappingNode:
				y.attrs(&row, "", value, 0)
			case !isNull(value):
				y.wrong(value.Line, key.Value, "a node has attributes, and this is none", "Write "+key.Value+": {attr: value}")
			}
			y.rows = append(y.rows, row)
		}
	case top.Kind == yaml.SequenceNode:
		for _, e := range top.Content {
			e, ok := y.of(e)
			if !ok {
				return
			}
			y.entry(e)
		}
	case isNull(top):
	default:
		y.wrong(top.Line, "YAML", "it is neither a map of nodes nor a list of them", "Write nodes and their attributes: {r1n1: {bmc.address: 10.78.1.1}}")
	}
}

// pairs yields the keys and values of a map.
func pairs(m *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(m.Content); i += 2 {
			if !yield(m.Content[i], m.Content[i+1]) {
				return
			}
		}
	}
}

// entryName is the value of node or name in an entry of a list; nil when it has none.
func entryName(m *yaml.Node) *yaml.Node {
	for key, value := range pairs(m) {
		if (key.Value == "node" || key.Value == "name") && value.Kind == yaml.ScalarNode {
			return value
		}
	}
	return nil
}

func (y *yamlFile) entry(m *yaml.Node) {
	if m.Kind != yaml.MappingNode {
		y.wrong(m.Line, "the entry", "it is no map", "Write {node: NAME, attr: value}")
		return
	}
	name := entryName(m)
	if name == nil || name.Value == "" {
		y.wrong(m.Line, "the entry", "it names no node", "Write {node: NAME, attr: value}")
		return
	}
	row := api.Row{Line: m.Line, Range: name.Value}
	y.attrs(&row, "", m, 0)
	y.rows = append(y.rows, row)
}

// attrs collects the attributes of a map, those of maps in it with a dot between.
func (y *yamlFile) attrs(row *api.Row, before string, m *yaml.Node, depth int) {
	seen := map[string]bool{}
	for key, value := range pairs(m) {
		value, ok := y.of(value)
		if !ok {
			return
		}
		if before == "" && (key.Value == "node" || key.Value == "name") && value.Kind == yaml.ScalarNode {
			continue
		}
		if key.Tag == "!!merge" { // <<: *anchor
			y.wrong(key.Line, "<<", "maps are not merged here", "Write the attributes out, or give them to a group: muster group set")
			continue
		}
		a := columnName(before + key.Value)
		switch {
		case key.Kind != yaml.ScalarNode || !attrName(a.Attr):
			y.wrong(key.Line, row.Range, fmt.Sprintf("%q is no name of an attribute", key.Value), "Names of attributes: muster attributes")
			continue
		case seen[key.Value]:
			y.wrong(key.Line, row.Range, key.Value+" is there twice", "Leave one out")
			continue
		}
		seen[key.Value] = true
		switch value.Kind {
		case yaml.MappingNode:
			if depth == yamlDepth {
				y.wrong(value.Line, row.Range, "no attribute has so many parts", "Names of attributes: muster attributes")
				continue
			}
			y.attrs(row, before+key.Value+".", value, depth+1)
		case yaml.SequenceNode:
			y.list(row, a, value)
		default:
			if !isNull(value) {
				row.Set = append(row.Set, fileAssignment(a.Attr, a.Op, value.Value))
			}
		}
	}
}

// list sets the first element and adds the others: what stands between them, the service knows.
func (y *yamlFile) list(row *api.Row, a api.Assignment, list *yaml.Node) {
	if len(list.Content) == 0 && a.Op == "" {
		row.Set = append(row.Set, fileAssignment(a.Attr, "", ""))
	}
	for _, e := range list.Content {
		e, ok := y.of(e)
		if !ok {
			return
		}
		if e.Kind != yaml.ScalarNode || e.Value == "" {
			y.wrong(e.Line, row.Range, a.Attr+": an element is no text", "Write "+a.Attr+": [one, two]")
			return
		}
		row.Set = append(row.Set, fileAssignment(a.Attr, a.Op, e.Value))
		if a.Op == "" {
			a.Op = "+="
		}
	}
}

// isNull says that a value is null, or nothing at all; what has quotes is text.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
