package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// man writes the manual pages from the same text as the help. It is for packaging, and hidden.
func man(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write manual pages",
		Hidden: true,
		Args:   args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		if err := os.MkdirAll(a[0], 0o755); err != nil {
			return usage("man", reason(err), "Give a directory")
		}
		return writeManual(c.Root(), a[0])
	}
	return c
}

func writeManual(c *cobra.Command, dir string) error {
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	if err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(manPage(c, name)), 0o644); err != nil {
		return usage("man", reason(err), "Give a directory that can be written")
	}
	for _, v := range c.Commands() {
		if v.IsAvailableCommand() {
			if err := writeManual(v, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// manPage is a page in the man macros (man(7)).
func manPage(c *cobra.Command, name string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	pre := func(text string) { line(".nf\n%s\n.fi", roff(strings.Trim(text, "\n"))) }
	line(`.TH "%s" 1 "" "muster" "muster"`, strings.ToUpper(name))
	line(".SH NAME\n%s \\- %s", roff(name), roff(c.Short))
	line(".SH SYNOPSIS\n.B %s", roff(c.UseLine()))
	line(".SH DESCRIPTION")
	if c.DisableFlagParsing { // the daemon's: it has its own flags, and says all of it
		pre(daemonHelp(c))
		return b.String()
	}
	if c.HasParent() {
		pre(or(c.Long, c.Short))
	} else {
		var page strings.Builder
		overview(&page, c)
		pre(page.String())
	}
	if c.Example != "" {
		line(".SH EXAMPLES")
		pre(c.Example)
	}
	for _, f := range []struct {
		title string
		flags *pflag.FlagSet
	}{{"OPTIONS", c.NonInheritedFlags()}, {"COMMON OPTIONS", c.InheritedFlags()}} {
		if !f.flags.HasAvailableFlags() {
			continue
		}
		line(".SH %s", f.title)
		f.flags.VisitAll(func(f *pflag.Flag) {
			arg, text := pflag.UnquoteUsage(f)
			short := ""
			if f.Shorthand != "" {
				short = "-" + f.Shorthand + ", "
			}
			line(".TP\n.B %s\n%s", roff(strings.TrimSpace(short+"--"+f.Name+" "+arg)), roff(text))
		})
	}
	line(".SH EXIT STATUS\n0 all went well; 1 some nodes failed; 2 wrong usage; 3 the service does not answer; 4 not allowed.")
	return b.String()
}

// daemonHelp is what the daemon says of one of its commands.
func daemonHelp(c *cobra.Command) string {
	text, err := exec.Command("/proc/self/exe", c.Name(), "--help").Output()
	if err != nil {
		return c.Short
	}
	return string(text)
}

// roff keeps text from being taken for requests.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
