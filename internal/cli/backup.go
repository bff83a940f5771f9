package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/durable"
)

func backup(s *session) *cobra.Command {
	var keys bool
	var passphrase string
	var recipients []string
	c := &cobra.Command{
		Use:     "backup FILE",
		GroupID: JobService,
		Short:   "Write all of the store to one file, as it is at one moment",
		Long: `Write everything that is described, the intents, identities and the record of changes to one file, as it is at one moment, while the service
goes on. Secrets in it stay sealed. The keys that they and the nodes' certificates hang on are left out unless --keys is given:
then they are in it, encrypted for a passphrase or for age recipients. FILE - is standard output. The file is complete
or not there; muster restore --check FILE verifies it.

Without the keys in it, keep a copy of the data directory's keys/ elsewhere: a store restored without them has to enrol every node again.`,
		Example: `  muster backup /backup/muster-$(date +%F)
  muster backup - --keys --recipient age1… | ssh vault 'cat > muster.backup'
  muster restore /backup/muster-2026-11-20 --data /var/lib/muster`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		in := api.Backup{Recipients: recipients}
		switch {
		case a[0] == "-" && s.outTerminal: // before it is asked for, and stands on the record
			return usage("backup -", "standard output is a terminal", "Give a file, or a pipe")
		case !keys && (passphrase != "" || len(recipients) > 0):
			return usage("backup", "a passphrase or recipient is for the keys", "Add --keys")
		case keys && len(recipients) == 0:
			p, err := s.backupPassphrase(c.Context(), passphrase)
			if err != nil {
				return err
			}
			in.Passphrase = &api.SecretValue{Plain: p}
		}
		in.Keys = keys
		cl, err := s.client()
		if err != nil {
			return err
		}
		body, err := cl.Post(c.Context(), "/v1/backup", in)
		if err != nil {
			return err
		}
		defer body.Close()
		if a[0] == "-" {
			return whole(io.Copy(s.out, body))
		}
		n, err := writeWhole(a[0], body)
		if err != nil {
			return err
		}
		s.document(map[string]any{"file": a[0], "bytes": n}, func() {
			if !s.flags.quiet {
				fmt.Fprintf(s.out, "wrote %s, %s\n", a[0], size(n))
			}
		})
		return nil
	}
	f := c.Flags()
	f.BoolVar(&keys, "keys", false, "put the keys in, encrypted")
	f.StringVar(&passphrase, "passphrase-file", "", "`file` with the passphrase for the keys; asked for without")
	f.StringArrayVar(&recipients, "recipient", nil, "age `recipient` (age1…) instead of a passphrase; may be repeated")
	return c
}

// whole makes an error of a stream that was cut.
func whole(_ int64, err error) error {
	if err != nil {
		return &api.Error{Code: api.Failed, What: "backup", Why: "it was cut: " + reason(err), Do: "What was written is not whole: make it again"}
	}
	return nil
}

// backupPassphrase reads a passphrase from a file, or asks for it.
func (s *session) backupPassphrase(ctx context.Context, file string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return "", usage("--passphrase-file "+file, reason(err), "Give a file that holds the passphrase on its first line")
		}
		first, _, _ := strings.Cut(string(b), "\n")
		return strings.TrimSuffix(first, "\r"), nil
	}
	return s.readSecret(ctx, "passphrase for the keys")
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, r io.Reader) (int64, error) {
	bad := func(err error) error {
		return &api.Error{Code: api.Failed, What: "backup to " + path, Why: reason(err), Do: "Nothing is left there; make room or choose another place"}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, bad(err)
	}
	defer os.Remove(tmp.Name())
	n, err := io.Copy(tmp, r)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return 0, bad(err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return 0, bad(err)
	}
	return n, durable.SyncDir(filepath.Dir(path))
}
