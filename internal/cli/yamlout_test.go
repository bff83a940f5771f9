package cli

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"muster/internal/api"
)

// What is written by hand is what the library writes.
func TestYAML_rows_are_those_of_the_library(t *testing.T) {
	text := rapid.OneOf(
		rapid.StringMatching(`[a-z0-9.-]{1,8}`), rapid.StringMatching(`[0-9.:_xoe+-]{1,8}`), rapid.StringMatching(`[ -~]{1,20}`), rapid.String(),
		rapid.StringMatching(`[yYnNoOtTfF][a-zA-Z]{0,4}`), rapid.StringMatching(`[0-9]{1,25}`),
		rapid.SampledFrom([]string{
			"10.1.2.3", "1.2.3", "52:54:00:12:34:56", "52:54:00:ab:cd:ef", "115200", "0755", "0x1f", "1e3", ".inf", "2026-11-20", "~", masking, "{n1/40}",
			"{nodename}-bmc", "value of it", "a: b", "a #b", "- a", "two\nlines", " a", "a ", "NULL", "Off", "=", "<<", "tab\there", "12e03", "1.2.3.e4",
		}),
	)
	name := rapid.OneOf(rapid.StringMatching(`[a-z0-9]([a-z0-9.-]{0,140}[a-z0-9])?`), text)
	rapid.Check(t, func(t *rapid.T) {
		y := yamlWriter{known: map[string]string{}}
		r := sheetRow{name: name.Draw(t, "name")}
		for range rapid.IntRange(0, 6).Draw(t, "values") {
			attr := rapid.OneOf(rapid.SampledFrom(listFields), name).Draw(t, "attr")
			r.values = append(r.values, api.AttrValue{Attr: attr, Value: rapid.OneOf(text, rapid.Just("")).Draw(t, "value")})
		}
		want, err := yamlRow(r)
		if err != nil {
			t.Skip("the library does not write it")
		}
		for range 2 {
			if got, plain := y.row(nil, r); plain && !bytes.Equal(got, want) {
				t.Fatalf("got  %q\nwant %q", got, want)
			}
		}
	})
}

// The usual values need no library: they are most of the text of a site.
func TestYAML_usual_values_are_written_by_hand(t *testing.T) {
	y := yamlWriter{known: map[string]string{}}
	for _, s := range []string{"admin", "10.1.2.3", "115200", "CZ0012AB", "r1n1", "sw-7.hall2"} {
		if y.text(s) == "" || len(y.known) > 0 {
			t.Errorf("%q went to the library", s)
		}
	}
}
