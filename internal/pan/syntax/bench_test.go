package syntax

import (
	"bytes"
	"fmt"
	"testing"
)

// generated is a template shaped like those of a schema, a service or a table of packages, of about the given number of lines.
func generated(name string, lines int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# generated\n@{ what this one is for }\nunique template %s;\n\ninclude 'pan/functions';\n\n", name)
	for i := 0; i < lines; i += 14 {
		fmt.Fprintf(&b, `@documentation{
    desc = number %d of many
}
type t%[1]d = {
    'name%[1]d' : string with match(SELF, '^[a-z]+$') # all lower
    'list' ? long(0..100)[1..]
} = nlist('name%[1]d', "a\tb");
variable V%[1]d ?= if (is_defined(V%[1]d)) { V%[1]d['a'][%[1]d] } else { list('x', 1.5, true, undef) };
prefix '/software/components/c%[1]d';
'active' ?= true;
'/software/packages/{name-%[1]d}' = nlist('version', '1.2.%[1]d', 'arch', PKG_ARCH_DEFAULT);
function f%[1]d = {
    foreach (k; v; ARGV[0]) { SELF[escape(k)] = v + 2 * %[1]d - length(k); };
};
`, i)
	}
	return b.Bytes()
}

// BenchmarkParse is in bytes of source: 300 templates are what one profile executes.
func BenchmarkParse(b *testing.B) {
	for _, size := range []int{30, 300, 3000} {
		b.Run(fmt.Sprintf("lines=%d", size), func(b *testing.B) {
			src := generated("a/b", size)
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				if _, errs := Parse("a/b.pan", src); len(errs) > 0 {
					b.Fatal(errs[0])
				}
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	src := generated("a/b", 3000)
	f, _ := Parse("a/b.pan", src)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if errs := Check(f); len(errs) > 0 {
			b.Fatal(errs[0])
		}
	}
}

// BenchmarkParse_wrong has an error in each statement: each is read twice.
func BenchmarkParse_wrong(b *testing.B) {
	src := append([]byte("object template t;\n"), bytes.Repeat([]byte("'/a' = { x['a'] = f(1, 2 3) };\n"), 500)...)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, errs := Parse("t.pan", src); len(errs) != 500 {
			b.Fatal(len(errs))
		}
	}
}
