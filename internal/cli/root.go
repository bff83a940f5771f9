package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// root is the tree of verbs, as a list someone wrote.
func (s *session) root() *cobra.Command {
	r := &cobra.Command{
		Use:           "muster VERB NODERANGE [ARGUMENTS] [FLAGS]",
		Short:         "Turn racks of bare metal into running nodes",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
	}
	own := r.Flags().Bool("version", false, "the version of this program; that of the service too: muster version")
	r.RunE = func(c *cobra.Command, a []string) error {
		if *own {
			fmt.Fprintln(s.out, "muster", api.BuildVersion())
			return nil
		}
		if len(a) == 0 {
			overview(s.out, r)
			return nil
		}
		return noSuchVerb(c, a)
	}
	r.PersistentPreRunE = func(*cobra.Command, []string) error {
		if err := s.flags.check(); err != nil {
			return err
		}
		s.running = true
		return nil
	}
	r.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(c.Name(), err.Error(), see(c))
	})
	for _, j := range jobs {
		r.AddGroup(&cobra.Group{ID: j.id, Title: j.title})
	}
	r.SetHelpCommandGroupID(JobOther)
	r.SetCompletionCommandGroupID(JobOther)
	help := r.HelpFunc()
	r.SetHelpFunc(func(c *cobra.Command, a []string) {
		if c == r {
			overview(c.OutOrStdout(), r)
			return
		}
		help(c, a)
	})
	s.commonFlags(r)
	r.AddCommand(
		nodes(s), set(s), get(s), list(s), expand(s), fold(s), groups(s), networks(s), attributes(s), lock(s), unlock(s), undo(s), secrets(s),
		status(s), why(s), events(s), history(s), audit(s), discover(s),
		power(s), bootdev(s), sensors(s), eventlog(s), inventory(s), identify(s), controllers(s), firmware(s), consoles(s),
		images(s), deploy(s), layoutVerb(s), take(s), release(s),
		run(s), copyFiles(s), jobVerbs(s),
		users(s), roles(s), whoami(s), managers(s), backup(s),
		plugins(s), version(s), man(s), panc(s),
	)
	plainUsage(r)
	r.InitDefaultHelpCmd()
	if h, _, err := r.Find([]string{"help"}); err == nil {
		h.Args = func(_ *cobra.Command, a []string) error {
			if v, rest, _ := r.Find(a); len(rest) > 0 && v.HasSubCommands() {
				return noSuchVerb(v, rest)
			}
			return nil
		}
	}
	return r
}

// plainUsage keeps "[flags]" out of the usage lines, and has typing errors recognised.
func plainUsage(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	c.SuggestionsMinimumDistance = 2
	for _, v := range c.Commands() {
		plainUsage(v)
	}
}

// jobs are the parts of the overview, in its order.
var jobs = []struct{ id, title string }{
	{JobService, "run the service"},
	{JobDescribe, "describe"},
	{JobSee, "see"},
	{JobHardware, "hardware"},
	{JobImages, "images"},
	{JobDeploy, "deploy"},
	{JobNodes, "on the nodes"},
	{JobPeople, "people"},
	{JobTry, "try it"},
	{JobOther, "other"},
}

// overview is the one page of muster help: what there is, by job.
func overview(w io.Writer, root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	fmt.Fprint(w, "muster turns racks of bare metal into running nodes.\n\n  muster VERB NODERANGE [ARGUMENTS] [FLAGS]\n\n")
	for _, j := range jobs {
		titled := false
		for _, c := range root.Commands() {
			if c.GroupID != j.id || c.Hidden {
				continue
			}
			if !titled {
				fmt.Fprintf(w, "%s\n", j.title)
				titled = true
			}
			line := fmt.Sprintf("  %-11s %s", c.Name(), c.Short)
			if v := verbsOf(c); v != "" {
				const width = 120
				between := ": "
				if len(line)+len(between)+len(v) > width {
					between = fmt.Sprintf("\n  %-11s ", "")
				}
				line += between + v
			}
			fmt.Fprintln(w, line)
		}
	}
	fmt.Fprint(w, `
a noderange names nodes: n1,n3  n[1-20]  n1-n20  compute (a group)  ~regex  bmc.driver=ipmi  a,-b  a@b  ^/file
each verb explains itself: muster power -h        exit: 0 all, 1 some nodes failed, 2 usage, 3 no service, 4 not allowed
`)
}

// verbsOf lists what a noun holds, "add | list | remove".
func verbsOf(c *cobra.Command) string {
	if c.Name() == "completion" {
		return ""
	}
	var names []string
	for _, v := range c.Commands() {
		if v.IsAvailableCommand() {
			names = append(names, v.Name())
		}
	}
	return strings.Join(names, " | ")
}
