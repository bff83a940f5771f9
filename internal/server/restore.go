package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/store"
)

// RestoreCommand is `muster restore`: it works on a data directory that no service uses.
func RestoreCommand() *cobra.Command {
	var data, phrase, identityFile string
	var check bool
	var external func() (*store.External, error)
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data directory of a backup",
		Long: `Read the whole backup and verify it, then make the store of a data directory of it, which must have none. Where the backup has the keys in it, they are
restored, too; else put the keys/ of the old data directory there first, or every node has to enrol again and secrets have to be set again.

The restored service is a lone manager: invite the others again. With --etcd the documents go into an etcd of the site's own, which must have none of
muster's; changes get new numbers there. With --check nothing is written.`,
		Example: `  muster restore /backup/muster-2026-11-20 --check
  muster restore /backup/muster-2026-11-20 --data /var/lib/muster
  muster restore /backup/muster-2026-11-20 --etcd https://db1:2379 --etcd-ca ca.pem --etcd-cert me.pem --etcd-key me.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, a []string) error {
			etcd, err := external()
			if err != nil {
				return err
			}
			return restore(c, a[0], store.Options{Dir: data, External: etcd}, phrase, identityFile, check)
		},
	}
	external = etcdFlags(c)
	f := c.Flags()
	f.StringVar(&data, "data", "/var/lib/muster", "`directory` of all state, without a store")
	f.StringVar(&phrase, "passphrase-file", "", "`file` with the passphrase of the keys; asked for without")
	f.StringVar(&identityFile, "age-identity", "", "`file` with the age identity (AGE-SECRET-KEY-…) that the keys are encrypted for")
	f.BoolVar(&check, "check", false, "verify the file and say what is in it; write nothing")
	return c
}

// restore makes what o names of a backup; o.Dir is the directory of all state.
func restore(c *cobra.Command, path string, o store.Options, phrase, identityFile string, check bool) error {
	f, err := os.Open(path)
	if err != nil {
		return &api.Error{Code: api.Usage, What: "restore " + path, Why: err.Error()}
	}
	defer f.Close()
	info, sealed, err := store.CheckBackup(f)
	if err != nil {
		return problem(err)
	}
	w := c.OutOrStdout()
	with := "without keys"
	if len(sealed) > 0 {
		with = "with keys, encrypted"
	}
	fmt.Fprintf(w, "%s: whole; of %s, revision %d, schema %d, %d documents, %s\n", path, info.Time.Local().Format(time.DateTime), info.Revision, info.Schema, info.Keys, with)
	if check {
		return nil
	}
	data, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = filepath.Join(data, "store")
	keys := filepath.Join(data, "keys")
	var bundle []byte
	if len(sealed) > 0 && !identity.Whole(keys) {
		if bundle, err = openKeys(c, sealed, phrase, identityFile); err != nil {
			return err
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	// The keys come first: a store without them is refused by the service.
	if bundle != nil {
		if err := identity.Import(bundle, identity.Options{Dir: keys}); err != nil {
			return problem(err)
		}
	}
	if _, err := store.Restore(c.Context(), o, f); err != nil {
		return problem(err)
	}
	to, etcd := data, ""
	if o.External != nil {
		addresses := strings.Join(o.External.Endpoints, ",")
		to, etcd = "etcd at "+addresses, " --etcd "+addresses
	}
	fmt.Fprintf(w, "restored to %s. Start it: muster serve --data %s%s\n", to, data, etcd)
	if bundle == nil && !identity.Whole(keys) {
		fmt.Fprintf(c.ErrOrStderr(), "muster: the backup has no keys in it, and %s has none. Put those of the old data directory there before you start it\n", keys)
	}
	return nil
}

func openKeys(c *cobra.Command, sealed []byte, phrase, identityFile string) ([]byte, error) {
	wrong := func(err error) error {
		return &api.Error{Code: api.Usage, What: "restore: the keys", Why: err.Error(), Do: "Give their passphrase (--passphrase-file) or age identity (--age-identity), or put the old keys/ into the data directory"}
	}
	if identityFile != "" {
		b, err := os.ReadFile(identityFile)
		if err != nil {
			return nil, wrong(err)
		}
		out, err := identity.DecryptBundle(sealed, identity.BundleKey{Identities: model.NewSecret(string(b))})
		if err != nil {
			return nil, wrong(err)
		}
		return out, nil
	}
	var text string
	switch {
	case phrase != "":
		b, err := os.ReadFile(phrase)
		if err != nil {
			return nil, wrong(err)
		}
		text, _, _ = strings.Cut(string(b), "\n")
	case term.IsTerminal(int(os.Stdin.Fd())):
		fmt.Fprint(c.ErrOrStderr(), "passphrase of the keys: ")
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(c.ErrOrStderr())
		if err != nil {
			return nil, wrong(err)
		}
		text = string(b)
	default:
		return nil, wrong(errors.New("they are encrypted"))
	}
	out, err := identity.DecryptBundle(sealed, identity.BundleKey{Passphrase: model.NewSecret(text)})
	if err != nil {
		return nil, wrong(err)
	}
	return out, nil
}
