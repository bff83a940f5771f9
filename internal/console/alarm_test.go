package console

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/internal/model"
)

// rules are those that every console has, unless it says otherwise.
func rules(t testing.TB, more ...string) *Rules {
	t.Helper()
	doc, _ := model.Lookup("console.alarms")
	r, err := Compile(append(doc.Elements(doc.Default), more...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// alarmsOf feeds pieces of output to a lookout and returns "rule: line" of what it found.
func alarmsOf(r *Rules, pieces ...string) (out []string) {
	l := lookout{found: func(rule, line string) { out = append(out, rule+": "+line) }}
	l.watchFor(r)
	for _, p := range pieces {
		l.feed([]byte(p))
	}
	l.end()
	return out
}

func TestAlarm(t *testing.T) {
	for _, tt := range []struct {
		name   string
		more   []string
		pieces []string
		want   []string
	}{
		{"of a line", nil, []string{"[    1.2] Kernel panic - not syncing: VFS\r\n"}, []string{"Kernel panic: [    1.2] Kernel panic - not syncing: VFS"}},
		{"of a line in pieces", nil, []string{"Kern", "el pan", "ic - not", " syncing\r", "\nnext"}, []string{"Kernel panic: Kernel panic - not syncing"}},
		{"of nothing else", nil, []string{"Kernel command line: panic=10\r\nMachine\r\ncheck\r\nlogin: "}, nil},
		{"of a prompt without an end", nil, []string{"grub rescue> "}, []string{"grub rescue>: grub rescue> "}},
		{"of the part of a line that is too long", nil, []string{strings.Repeat("x", lineMax-20), "BUG: bad page\n"}, []string{
			"BUG: : " + strings.Repeat("x", 200) + "…",
		}},
		{"of two rules", nil, []string{"BUG: Machine check\n"}, []string{"Machine check: BUG: Machine check", "BUG: : BUG: Machine check"}},
		{"once for what repeats", nil, []string{"BUG: a\nBUG: b\nBUG: c\n"}, []string{"BUG: : BUG: a"}},
		{"of an expression", nil, []string{"task dd:1 blocked for more than 120 seconds.\n"}, []string{"blocked for more than [0-9]+ seconds: task dd:1 blocked for more than 120 seconds."}},
		{"of own rules", []string{`ib\d: link (down|lost)`}, []string{"ib0: link up\nib0: link lost\n"}, []string{`ib\d: link (down|lost): ib0: link lost`}},
		{"of rules without a text of their own", []string{`a.*z$`}, []string{"abcz\r\n"}, []string{"a.*z$: abcz"}},
		{"without case", []string{`(?i)disk failure`}, []string{"DISK Failure\n"}, []string{"(?i)disk failure: DISK Failure"}},
		{"without control characters", nil, []string{"\x1b[31mOops: 0000\x1b[0m\x07\n"}, []string{"Oops: : Oops: 0000"}},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			if got := alarmsOf(rules(t, tt.more...), tt.pieces...); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestAlarm_reaches_who_runs_the_hub_once_in_ten_minutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Alarm
		h, stop := bubbleHub(t, Options{Alarm: func(a Alarm) { got = append(got, a) }})
		m := newMachine()
		set(t, h, "r1n1", "k", m.source)
		h.SetAlarms("r1n1", rules(t))
		line := <-m.up
		for range 2 * 60 { // for two hours, one a minute
			send(t, line, "Kernel panic - not syncing\r\n")
			time.Sleep(time.Minute)
		}
		send(t, line, "grub rescue> ")
		time.Sleep(partialWait) // nothing more comes
		synctest.Wait()
		h.SetAlarms("r1n1", nil)
		send(t, line, "Kernel panic - not syncing\r\n")
		stop()
		if len(got) != 12+1 || got[0] != (Alarm{"r1n1", "Kernel panic", "Kernel panic - not syncing"}) || got[12].Line != "grub rescue> " {
			t.Errorf("%d alarms: %v", len(got), got)
		}
	})
}

func TestCompile_refuses(t *testing.T) {
	for _, bad := range [][]string{{"a("}, make([]string, maxRules+1)} {
		if _, err := Compile(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

// FuzzAlarm compares with trying each expression on each line.
func FuzzAlarm(f *testing.F) {
	f.Add("Kernel panic|a.*z", "Kernel panic\nabz\n", 7)
	f.Add(`(?i)task|[Ff]oo{2,3}(bar|baz)+`, "TaſK\nfooobaz\r\n", 1)
	f.Add(`ab(abc|abd|)*x?$`, "ababcabd", 2)
	f.Add("", "\r", 1)
	f.Add(`(foo|ba(r|zz))+q|\x00\xff`, "foobarqq\x00\xff", 3)
	f.Fuzz(func(t *testing.T, expressions, text string, piece int) {
		list := model.Alternatives(expressions)
		if len(text) > lineMax || len(expressions) > 200 {
			return
		}
		r, err := Compile(list)
		if err != nil {
			return
		}
		want := map[string]bool{}
		for line := range strings.Lines(text) {
			line = strings.TrimRight(strings.TrimSuffix(line, "\n"), "\r")
			for _, e := range list {
				if line != "" && regexp.MustCompile(e).MatchString(line) {
					want[e] = true
				}
			}
		}
		got := map[string]bool{}
		l := lookout{found: func(rule, _ string) { got[rule] = true }}
		l.watchFor(r)
		for p, n := text, max(1, piece%17); p != ""; p = p[min(n, len(p)):] {
			l.feed([]byte(p[:min(n, len(p))]))
		}
		l.end()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q over %q: got %v, want %v", list, text, got, want)
		}
	})
}

// BenchmarkAlarm is what watching costs a line of 80 bytes in which nothing is.
func BenchmarkAlarm(b *testing.B) {
	l := lookout{}
	l.watchFor(rules(b))
	line := []byte(fmt.Sprintf("%-78s\r\n", "[   12.345678] systemd[1]: Started Machine name service, out of kernel memory"))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		l.feed(line)
	}
}
