package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func secrets(s *session) *cobra.Command {
	return noun("secret", JobPeople, "Show secrets, which is put on record, and seal them anew", secretReveal(s), secretRotate(s))
}

func secretReveal(s *session) *cobra.Command {
	var group bool
	c := &cobra.Command{
		Use:   "reveal NODERANGE ATTR",
		Short: "Show a secret in readable form; this is put on record",
		Long: `Show a secret attribute of nodes in readable form. That it was shown, to whom and of which nodes, is on the audit trail before
it is. With --group the name is that of a group, and the secret the one written on it.`,
		Example: "  muster secret reveal r1n7 bmc.password\n  muster secret reveal compute bmc.password --group",
		Args:    args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		in := api.Reveal{Attr: a[1], Group: group}
		in.Range.Range = a[0]
		if !group {
			r, err := s.over(c.Context(), a[0])
			if err != nil {
				return err
			}
			in.Range = r
		}
		return ask(c.Context(), s, question[api.Revealed]{
			what: "secret reveal", path: "/v1/secret/reveal", in: in,
			node: func(n *api.Revealed) *api.Result { return &n.Result },
			text: func(n *api.Revealed) []string { return []string{n.Attr + "=" + n.Plain} },
		})
	}
	c.ValidArgsFunction = s.completeNodesThenAttributes("")
	s.rangeFlags(c).Flags().BoolVar(&group, "group", false, "the name is that of a group")
	return s.maxFlag(c)
}

func secretRotate(s *session) *cobra.Command {
	var forget bool
	var site siteKeyFlags
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Seal every secret anew under a fresh data key",
		Long: `Make a fresh data key and seal every secret of every node and group anew under it, in one change. The keys before are kept, so that
undo can bring old secrets back; with --forget those are thrown away that were not in use for ten minutes, and what history
holds of old secrets cannot be opened any more. So to be rid of all, rotate, and rotate --forget a quarter of an hour later.

With --site-key it is the site key that is made anew, under which the data keys are; every manager learns the new one. What unlocks it is as
before, unless --passphrase, --site-key-file or --readable says otherwise: then the manager that is asked has to be started with that from its
next start on, and the others as before.`,
		Example: `  muster secret rotate
  muster secret rotate --forget
  muster secret rotate --site-key
  muster secret rotate --site-key --passphrase        # from now on: muster serve --passphrase
  muster secret rotate --site-key --site-key-file /run/credentials/muster.service/sitekey`,
		Args: args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		if site.given() {
			if forget {
				return usage("secret rotate --forget", "it throws data keys away, and the site key is no data key", "Change the site key first, then: muster secret rotate --forget")
			}
			return s.rotateSiteKey(c.Context(), &site)
		}
		if forget {
			if err := s.ask(c.Context(), "throw the old data keys away"); err != nil {
				return err
			}
		}
		return s.change(c.Context(), "/v1/secret/rotate", api.RotateSecrets{Forget: forget, DryRun: s.flags.dryRun}, func(r api.Changed) string {
			return fmt.Sprintf("sealed the secrets of %d nodes and groups anew", r.Count)
		})
	}
	f := c.Flags()
	f.BoolVar(&forget, "forget", false, "throw the keys away that were retired more than ten minutes ago")
	f.BoolVar(&site.site, "site-key", false, "make a new site key instead")
	f.BoolVar(&site.passphrase, "passphrase", false, "with --site-key: a passphrase unlocks it; asked for on a terminal, else one line of standard input")
	f.StringVar(&site.file, "site-key-file", "", "with --site-key: this `file` of 32 random bytes on the manager's host unlocks it")
	f.BoolVar(&site.readable, "readable", false, "with --site-key: it lies readable in the manager's data directory")
	return s.changeFlags(c)
}

// siteKeyFlags are those of rotate that are about the site key.
type siteKeyFlags struct {
	site, passphrase, readable bool
	file                       string
}

func (f *siteKeyFlags) given() bool { return f.site || f.passphrase || f.readable || f.file != "" }

// rotateSiteKey makes a new site key.
func (s *session) rotateSiteKey(ctx context.Context, f *siteKeyFlags) error {
	if !f.site {
		return usage("secret rotate", "it is not said that the site key is to be changed", "Add --site-key")
	}
	if f.passphrase && f.file != "" || f.readable && (f.passphrase || f.file != "") {
		return usage("secret rotate", "more than one way to unlock the site key", "Give one of --passphrase, --site-key-file and --readable")
	}
	in := api.ChangeSiteKey{File: f.file, DryRun: s.flags.dryRun}
	next := "start the services as before"
	switch {
	case f.passphrase:
		p, err := s.newPassphrase(ctx)
		if err != nil {
			return err
		}
		in.By, in.Passphrase = "passphrase", &api.SecretValue{Plain: p}
		next = "start this manager's service with --passphrase from now on"
	case f.file != "":
		in.By = "file"
		next = "start this manager's service with --site-key-file " + f.file + " from now on"
	case f.readable:
		in.By = "key"
		next = "it lies readable in the data directory: start this manager's service without --passphrase and --site-key-file from now on"
	}
	return s.change(ctx, "/v1/secret/site-key", in, func(r api.Changed) string {
		return fmt.Sprintf("put %d data keys under a new site key; %s", r.Count, next)
	})
}

// newPassphrase asks for a passphrase, twice on a terminal.
func (s *session) newPassphrase(ctx context.Context) (string, error) {
	first, err := s.readSecret(ctx, "new passphrase")
	if err != nil || !s.inTerminal {
		return first, err
	}
	again, err := s.readSecret(ctx, "again")
	if err == nil && again != first {
		err = usage("secret rotate --passphrase", "the two are not the same", "Type it again")
	}
	return first, err
}
