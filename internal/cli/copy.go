package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/remote/pack"
)

func copyFiles(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:        "copy NODERANGE FILE… DIRECTORY",
		SuggestFor: []string{"xdcp", "pscp", "nodersync", "cp"},
		GroupID:    JobNodes,
		Short:      "Copy files and directories into a directory of nodes",
		Long: `Copy files and directories into a directory of nodes, which is made when it is not there. Directories are copied
with all they hold; DIR/. gives only what DIR holds. Modes, times and links are kept; the owner is root, or who the service
logs in as. Read once here, sent to the service once.`,
		Example: `  muster copy compute /etc/hosts /etc
  muster copy r1n[1-3] site.conf modules/ /opt/site`,
		Args: args(3, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		dest, sources := a[len(a)-1], a[1:len(a)-1]
		if !filepath.IsAbs(dest) {
			return usage("copy", fmt.Sprintf("the directory %q is not absolute", dest), "Give it from / on")
		}
		if err := checkSources(sources); err != nil {
			return err
		}
		r, err := s.over(c.Context(), a[0])
		if err != nil {
			return err
		}
		if s.flags.dryRun {
			return s.wouldReach(c, r, fmt.Sprintf("copy %q to %s", sources, dest))
		}
		q := rangeQuery(r)
		q.Set("dest", dest)
		read, write := io.Pipe()
		packed := make(chan struct{})
		go func() {
			defer close(packed)
			_, _, err := pack.Pack(write, sources...)
			write.CloseWithError(packError(err))
		}()
		err = ask(c.Context(), s, question[api.CopyResult]{
			what: "copy", path: "/v1/copy?" + q.Encode(), in: read,
			node: func(r *api.CopyResult) *api.Result { return &r.Result },
			text: func(r *api.CopyResult) []string {
				return []string{fmt.Sprintf("%d files, %s", r.Files, size(r.Bytes))}
			},
		})
		read.Close() // where nobody read it to its end
		<-packed
		return err
	}
	c.ValidArgsFunction = s.completeNodesThenFiles
	return s.changesNodes(c)
}

// checkSources says all that is wrong with the files before anything is sent.
func checkSources(sources []string) error {
	var bad *api.Error
	for _, src := range sources {
		_, err := os.Stat(src)
		if err == nil {
			continue
		}
		e := &api.Error{Code: api.Usage, What: "copy", Why: reason(err)}
		if bad == nil {
			bad = e
		} else {
			bad.More = append(bad.More, e)
		}
	}
	if bad != nil {
		return bad
	}
	return nil
}

// packError is an error of the files; it ends the request that they are the body of.
func packError(err error) error {
	if err == nil || errors.Is(err, io.ErrClosedPipe) { // nobody reads on: why, the answer says
		return err
	}
	return &api.Error{Code: api.Usage, What: "copy", Why: reason(err)}
}
