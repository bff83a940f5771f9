package server

import (
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"muster/internal/api"
	"muster/internal/model"
)

// query decodes the parameters of the request's URL into a document, by the names that its fields have in JSON. A parameter that is
// not known is refused, as a field of a document is.
func (q *request) query(doc any) error {
	v, err := url.ParseQuery(q.URL.RawQuery)
	if err == nil {
		err = readQuery(v, doc)
	}
	if err != nil {
		return &api.Error{Code: api.Usage, What: q.URL.Path, Why: "the request cannot be read: " + err.Error()}
	}
	if c, ok := doc.(conditional); ok && c.Condition() != 0 {
		q.base = model.Revision(c.Condition())
	}
	return nil
}

// readQuery sets the fields of the struct that doc points to. A list is one parameter with commas, or several.
func readQuery(v url.Values, doc any) error {
	to := reflect.ValueOf(doc).Elem()
	for name, values := range v {
		f := parameter(to, name)
		if !f.IsValid() {
			return &unknownParameter{name, parameterNames(to.Type())}
		}
		for _, text := range values {
			if err := setParameter(f, text); err != nil {
				return &badParameter{name, text, f.Kind()}
			}
		}
	}
	return nil
}

// parameter finds a field, also of an embedded struct, by its name in JSON; the zero value is none.
func parameter(v reflect.Value, name string) reflect.Value {
	t := v.Type()
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			if f := parameter(v.Field(i), name); f.IsValid() {
				return f
			}
		} else if have, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); have == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

func parameterNames(t reflect.Type) []string {
	var out []string
	for f := range fields(t) {
		out = append(out, f.name)
	}
	slices.Sort(out)
	return out
}

func setParameter(f reflect.Value, text string) error {
	switch f.Kind() {
	case reflect.String:
		f.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return err
		}
		f.SetBool(b)
	case reflect.Slice:
		list := f.Addr().Interface().(*[]string)
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*list = append(*list, part)
			}
		}
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || f.OverflowInt(n) {
			return strconv.ErrRange
		}
		f.SetInt(n)
	}
	return nil
}

type unknownParameter struct {
	name string
	have []string
}

func (e *unknownParameter) Error() string {
	return "there is no parameter " + strconv.Quote(e.name) + "; there are " + strings.Join(e.have, ", ")
}

type badParameter struct {
	name, text string
	kind       reflect.Kind
}

func (e *badParameter) Error() string {
	want := "a number of 0 or more"
	if e.kind == reflect.Bool {
		want = "true or false"
	}
	return "parameter " + e.name + " is " + strconv.Quote(e.text) + ", not " + want
}
