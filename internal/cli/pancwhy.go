package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"muster/internal/pan"
	"muster/internal/pan/syntax"
)

// asks says whether there is something to tell beside errors.
func (o *pancOptions) asks() bool { return len(o.Why) > 0 || o.Vars != "" || o.Includes }

// pancAnswer is what --includes, --vars and --why tell of one object; with --json it is one document on one line.
type pancAnswer struct {
	Object    string         `json:"object"`
	Includes  []pancIncluded `json:"includes,omitempty"`
	Variables []pancVariable `json:"variables,omitempty"`
	Why       []pancHistory  `json:"why,omitempty"`
}

type pancIncluded struct {
	Template string `json:"template"`
	Depth    int    `json:"depth"`
	By       string `json:"by"`
	Ignored  string `json:"ignored,omitempty"` // the kind of the template, which runs once and had run
}

type pancVariable struct {
	Name  string   `json:"name"`
	Value string   `json:"value"`
	Final bool     `json:"final"`
	Sets  []string `json:"sets"`
}

type pancHistory struct {
	Path    string      `json:"path"`
	Touches []pancTouch `json:"touches"`
}

type pancTouch struct {
	At     string   `json:"at"`
	Target string   `json:"target"`
	What   string   `json:"what"`
	Value  *string  `json:"value"` // null: there is none
	Reads  []string `json:"reads,omitempty"`
	By     []string `json:"by,omitempty"`
}

func answerOf(p *pan.Profile, o *pancOptions) *pancAnswer {
	at := func(file string, span syntax.Span) string { return file + ":" + span.String() }
	a := &pancAnswer{Object: p.Name}
	for _, i := range p.Included() {
		ignored := ""
		if i.Ignored {
			ignored = strings.ToLower(i.Kind.String())
		}
		a.Includes = append(a.Includes, pancIncluded{i.Name, i.Depth, at(i.By.File, i.By.Span), ignored})
	}
	for _, v := range p.Variables() {
		sets := []string{}
		for _, s := range v.Sets {
			sets = append(sets, at(s.File, s.Span))
		}
		a.Variables = append(a.Variables, pancVariable{v.Name, v.Value, v.Final, sets})
	}
	for _, path := range o.Why {
		h := pancHistory{Path: path, Touches: []pancTouch{}}
		for _, t := range p.Touches() {
			if t.Path.String() != path {
				continue
			}
			touch := pancTouch{At: at(t.File, t.Span), Target: t.Target.String(), What: t.What, Reads: t.Reads, By: t.Calls}
			if t.Set {
				touch.Value = &t.Value
			}
			h.Touches = append(h.Touches, touch)
		}
		a.Why = append(a.Why, h)
	}
	return a
}

// json is the answer on one line.
func (a *pancAnswer) json() string {
	b, err := json.Marshal(a)
	if err != nil {
		return err.Error() + "\n" // strings and numbers only: cannot be
	}
	return string(b) + "\n"
}

// text is the answer for people:
//
//	/system/cores of node1
//	  hardware/cpu.pan:12.1-12.20   /system/cores =   → 4   reads CPUS
//	    by node1.pan:3.1-3.20
func (a *pancAnswer) text(o *pancOptions) string {
	var b strings.Builder
	if o.Includes {
		fmt.Fprintf(&b, "includes of %s\n", a.Object)
		for _, i := range a.Includes {
			fmt.Fprintf(&b, "%s%s   %s", strings.Repeat("  ", i.Depth), i.Template, i.By)
			if i.Ignored != "" {
				fmt.Fprintf(&b, "   ignored: %s", i.Ignored)
			}
			b.WriteByte('\n')
		}
	}
	if o.Vars != "" {
		fmt.Fprintf(&b, "variables of %s\n", a.Object)
		for _, v := range a.Variables {
			final := ""
			if v.Final {
				final = "final "
			}
			fmt.Fprintf(&b, "  %s%s = %s\n", final, v.Name, v.Value)
			for _, s := range v.Sets {
				fmt.Fprintf(&b, "    %s\n", s)
			}
		}
	}
	for _, h := range a.Why {
		fmt.Fprintf(&b, "%s of %s\n", h.Path, a.Object)
		for _, t := range h.Touches {
			value := "(nothing)"
			if t.Value != nil {
				value = *t.Value
			}
			fmt.Fprintf(&b, "  %s   %s %s   → %s", t.At, t.Target, t.What, value)
			if len(t.Reads) > 0 {
				fmt.Fprintf(&b, "   reads %s", strings.Join(t.Reads, ", "))
			}
			b.WriteByte('\n')
			for _, c := range t.By {
				fmt.Fprintf(&b, "    by %s\n", c)
			}
		}
		if len(h.Touches) == 0 {
			b.WriteString("  no statement has touched it\n")
		}
	}
	return printableLines(b.String())
}
