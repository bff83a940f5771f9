package server

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

// openAPI is GET /v1/openapi.json. The description is made of the routes, of the Go types of their documents, of the comments in
// their source and of the schema of attributes: there is nothing to keep in step with the code.
func (s *Server) openAPI(q *request) error {
	s.description.Do(func() { s.described, s.undescribed = describe(s.routes(), s.cfg.Version) })
	if s.undescribed != nil {
		return s.undescribed
	}
	return q.send(slices.Clone(s.described))
}

// object is one object of the description.
type object = map[string]any

// apiDocument is an OpenAPI document (version 3.1) as it grows.
type apiDocument struct {
	comments comments
	schemas  object
	types    map[string]reflect.Type // of the schemas
}

func describe(routes []route, version string) ([]byte, error) {
	c, err := readComments(api.Source, model.Source)
	if err != nil {
		return nil, err
	}
	d := &apiDocument{comments: c, schemas: object{}, types: map[string]reflect.Type{}}
	failed := d.schema(reflect.TypeFor[api.Error]())
	paths := object{}
	for _, r := range routes {
		method, path, _ := strings.Cut(r.pattern, " ")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path].(object)[strings.ToLower(method)] = d.operation(method, path, r)
	}
	integer := object{"type": "integer", "format": "int64"}
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "muster", "version": cmp.Or(version, "unknown"),
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Every verb of the command line, by the same name. A verb over a noderange answers a JSON line for each node and ends with a Trailer: without it the answer was cut.",
		},
		"servers":  []any{object{"url": "/", "description": "the manager that this came from: its unix socket, or TLS with a client certificate"}},
		"security": []any{object{"certificate": []any{}}, object{}},
		"paths":    paths,
		"components": object{
			"schemas": d.schemas,
			"responses": object{"Error": object{
				"description": "what happened, why, and what to do about it", "headers": headers(),
				"content": object{"application/json": object{"schema": failed}},
			}},
			"headers": object{
				"Revision": object{"description": "the revision of the store that was answered from, or that was made", "schema": integer},
				"Stale":    object{"description": "since when the manager is cut off from the majority: the answer may be old", "schema": object{"type": "string", "format": "date-time"}},
				"Tag":      object{"description": "of nodes and groups as they are now, for If-None-Match and If-Match", "schema": object{"type": "string"}},
				"Asked":    object{"description": "how many lines will come", "schema": object{"type": "integer"}},
			},
			"parameters": object{
				"AtLeast":   object{"name": api.AtLeastHeader, "in": "header", "description": "answer from this revision or a newer one; waits 5 s at most", "schema": integer},
				"IfMatch":   object{"name": "If-Match", "in": "header", "description": "refuse to change what is newer than the revision in quotes", "schema": object{"type": "string"}},
				"LastEvent": object{"name": "Last-Event-ID", "in": "header", "description": "go on after this event", "schema": integer},
			},
			"securitySchemes": object{"certificate": object{"type": "mutualTLS", "description": "not asked for on the unix socket, where the kernel says who it is"}},
		},
	}
	return json.Marshal(doc)
}

func headers() object {
	return object{
		api.RevisionHeader: object{"$ref": "#/components/headers/Revision"},
		api.StaleHeader:    object{"$ref": "#/components/headers/Stale"},
	}
}

var placeholder = regexp.MustCompile(`\{(\w+)\}`)

func (d *apiDocument) operation(method, path string, r route) object {
	params := []any{object{"$ref": "#/components/parameters/AtLeast"}}
	for _, m := range placeholder.FindAllStringSubmatch(path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	if method != http.MethodGet {
		params = append(params, object{"$ref": "#/components/parameters/IfMatch"})
	}
	if r.out.events != nil {
		params = append(params, object{"$ref": "#/components/parameters/LastEvent"})
	}
	op := object{
		"operationId": operationID(method, path), "summary": "muster " + r.verb, "x-muster-verb": r.verb, "x-muster-who": string(r.may),
		"tags": []any{strings.Split(strings.TrimPrefix(path, "/v1/"), "/")[0]},
	}
	switch {
	case r.in == nil:
	case method == http.MethodPost && r.body == "":
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": d.schema(reflect.TypeOf(r.in))}}}
		op["description"] = d.comments.of(reflect.TypeOf(r.in))
	default:
		params = append(params, d.parameters(reflect.TypeOf(r.in))...)
		op["description"] = d.comments.of(reflect.TypeOf(r.in))
	}
	if r.body != "" {
		op["requestBody"] = object{"required": true, "content": object{r.body: object{"schema": object{}}}}
	}
	if r.may == auth.Nobody {
		op["security"] = []any{object{}}
	}
	op["parameters"] = params
	op["responses"] = d.responses(r)
	return op
}

// operationID is a name made of method and path: "getNodesName".
func operationID(method, path string) string {
	id := strings.ToLower(method)
	for _, w := range strings.FieldsFunc(strings.TrimPrefix(path, "/v1/"), func(r rune) bool { return strings.ContainsRune("/{}._-", r) }) {
		id += strings.ToUpper(w[:1]) + w[1:]
	}
	return id
}

func (d *apiDocument) parameters(t reflect.Type) []any {
	var out []any
	for f := range fields(t) {
		p := object{"name": f.name, "in": "query", "required": !f.optional, "schema": d.schema(f.Type)}
		if f.Type.Kind() == reflect.Slice {
			p["style"], p["explode"] = "form", false // a,b,c
		}
		if text := d.comments.field(f); text != "" {
			p["description"] = text
		}
		out = append(out, p)
	}
	return out
}

func (d *apiDocument) responses(r route) object {
	fault := object{"$ref": "#/components/responses/Error"}
	if r.out.upgrades {
		return object{"101": object{"description": "a web socket"}, "default": fault}
	}
	content, head := object{}, headers()
	if r.out.one != nil {
		content["application/json"] = object{"schema": d.schema(reflect.TypeOf(r.out.one))}
	}
	if r.out.lines != nil {
		line := d.schema(reflect.TypeOf(r.out.lines))
		if r.out.trailer {
			line = object{"anyOf": []any{line, d.schema(reflect.TypeFor[api.Trailer]())}, "description": "one line: of the last one trailer is true"}
			head[api.AskedHeader] = object{"$ref": "#/components/headers/Asked"}
		}
		content["application/x-ndjson"] = object{"schema": line}
	}
	if r.out.events != nil {
		var any []any
		for _, name := range slices.Sorted(maps.Keys(r.out.events)) {
			any = append(any, d.schema(reflect.TypeOf(r.out.events[name])))
		}
		content["text/event-stream"] = object{"schema": object{"anyOf": any, "description": "the data of one event; event names: " + strings.Join(slices.Sorted(maps.Keys(r.out.events)), " ")}}
	}
	if r.out.bytes {
		content["application/octet-stream"] = object{"schema": object{}}
	}
	return object{"200": object{"description": "done", "headers": head, "content": content}, "default": fault}
}

var (
	timeType  = reflect.TypeFor[time.Time]()
	rawType   = reflect.TypeFor[json.RawMessage]()
	attrsType = reflect.TypeFor[api.Attrs]()
)

// schema describes a type as JSON Schema (draft 2020-12); that of a struct with a name is a component.
func (d *apiDocument) schema(t reflect.Type) object {
	switch t {
	case timeType:
		return object{"type": "string", "format": "date-time"}
	case rawType:
		return object{}
	case attrsType:
		return d.component("Attributes", t, func() object { return attributeSchema() })
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "contentEncoding": "base64"}
		}
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return object{"type": "object"}
		}
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Struct:
		if t.Name() == "" {
			return d.structure(t)
		}
		return d.component(t.Name(), t, func() object { return d.structure(t) })
	}
	panic(fmt.Sprintf("no schema for %v", t)) // of a document that we wrote
}

// component describes a type once and refers to it. Of two types with one name the second is named after its room, too.
func (d *apiDocument) component(name string, t reflect.Type, make func() object) object {
	if have := d.types[name]; have != nil && have != t {
		room, _, _ := strings.Cut(t.String(), ".")
		name = room + "." + name
	}
	ref := object{"$ref": "#/components/schemas/" + name}
	if d.types[name] == t {
		return ref
	}
	d.types[name] = t // it may hold itself
	o := make()
	if text := d.comments.of(t); text != "" {
		o["description"] = text
	}
	d.schemas[name] = o
	return ref
}

func (d *apiDocument) structure(t reflect.Type) object {
	properties, required := object{}, []any{}
	for f := range fields(t) {
		p := d.schema(f.Type)
		if !f.optional {
			required = append(required, f.name)
			if k := f.Type.Kind(); k == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8 {
				p["type"] = []any{"array", "null"} // an empty one may be null
			}
		}
		if text := d.comments.field(f); text != "" {
			p["description"] = text
		}
		properties[f.name] = p
	}
	o := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	return o
}

// field is one field of a document as encoding/json writes it.
type field struct {
	reflect.StructField
	owner    reflect.Type
	name     string
	optional bool
}

// fields yields the fields of a struct, with those of embedded ones.
func fields(t reflect.Type) func(func(field) bool) {
	return func(yield func(field) bool) { visit(t, yield) }
}

func visit(t reflect.Type, yield func(field) bool) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, rest, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && name == "":
			if !visit(f.Type, yield) {
				return false
			}
		case name == "-" || !f.IsExported():
		default:
			if !yield(field{f, t, cmp.Or(name, f.Name), strings.Contains(rest, "omit")}) {
				return false
			}
		}
	}
	return true
}

// attributeSchema describes effective values by the names of their attributes. Values are text; a pattern or a format says of what form.
func attributeSchema() object {
	exact, families := object{}, object{}
	for _, a := range model.Schema() {
		v := valueSchema(a)
		before, after, family := strings.Cut(string(a.Name), "<name>")
		if !family {
			exact[string(a.Name)] = v
			continue
		}
		word := `[A-Za-z0-9_-]+`
		if after == "" {
			word = `[A-Za-z0-9_.-]+` // names of one's own may have dots
		}
		families["^"+regexp.QuoteMeta(before)+word+regexp.QuoteMeta(after)+"$"] = v
	}
	return object{"type": "object", "properties": exact, "patternProperties": families, "additionalProperties": false}
}

func valueSchema(a model.Attr) object {
	v := object{"type": "string", "description": a.Help, "x-muster-type": string(a.Type), "x-muster-inherits": a.Inherits}
	form := object{}
	switch a.Type {
	case model.Integer:
		form["pattern"] = `^-?[0-9]+$`
	case model.Boolean:
		form["enum"] = []any{"true", "false"}
	case model.Choice:
		choices := []any{}
		for _, c := range a.Choices {
			choices = append(choices, c)
		}
		form["enum"] = choices
	case model.Address:
		form["anyOf"] = []any{object{"format": "ipv4"}, object{"format": "ipv6"}}
	case model.MAC:
		form["pattern"] = `^([0-9a-f]{2}:)+[0-9a-f]{2}$`
	}
	if len(form) > 0 {
		v["anyOf"] = []any{form, object{"maxLength": 0}} // "": not set
	}
	if a.Default != "" {
		v["default"] = a.Default
	}
	if a.Unit != "" {
		v["x-muster-unit"] = a.Unit
	}
	if a.Min != 0 || a.Max != 0 {
		v["x-muster-minimum"], v["x-muster-maximum"] = a.Min, a.Max
	}
	if a.Of != "" {
		v["x-muster-elements"], v["x-muster-separator"] = string(a.Of), a.Sep
	}
	if a.Secret {
		v["x-muster-secret"] = true
	}
	return v
}

// comments are what the source says of types and of their fields: by "api.Node", and by "api.Node.Groups".
type comments map[string]string

func readComments(sources ...embed.FS) (comments, error) {
	c := comments{}
	for _, fs := range sources {
		entries, err := fs.ReadDir(".")
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			b, err := fs.ReadFile(e.Name())
			if err != nil {
				return nil, err
			}
			f, err := parser.ParseFile(token.NewFileSet(), e.Name(), b, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			c.read(f)
		}
	}
	return c, nil
}

func (c comments) read(f *ast.File) {
	for _, decl := range f.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			t := spec.(*ast.TypeSpec)
			name := f.Name.Name + "." + t.Name.Name
			c[name] = plainText(cmp.Or(t.Doc, g.Doc))
			st, ok := t.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range st.Fields.List {
				for _, n := range field.Names {
					c[name+"."+n.Name] = plainText(cmp.Or(field.Doc, field.Comment))
				}
			}
		}
	}
}

func plainText(g *ast.CommentGroup) string {
	if g == nil {
		return ""
	}
	var p doc.Package
	text := strings.Join(strings.Fields(string(p.Text(g.Text()))), " ")
	return strings.NewReplacer("[", "", "]", "").Replace(text)
}

// of is what the source says of a type.
func (c comments) of(t reflect.Type) string { return c[t.String()] }

func (c comments) field(f field) string { return c[f.owner.String()+"."+f.Name] }
