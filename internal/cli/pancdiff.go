package cli

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/pan/tree"
)

// pancDiff compares two profiles as trees.
func pancDiff(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Compare two compiled profiles as trees",
		Long: `Compare two compiled profiles as trees: files in the formats pan, xml or json, also with .gz, in any mixture.
A line a leaf: + what is new, - what is gone, ~ what has another value. The exit status is 1 when they differ.`,
		Example: "  muster panc diff old/node1.xml new/node1.json\n  muster panc diff --json old/node1.json new/node1.json",
		Args:    args(2, 2),
	}
	c.RunE = func(_ *cobra.Command, a []string) error {
		var roots [2]*tree.Dict
		for i, file := range a {
			var err error
			if roots[i], err = readProfile(file); err != nil {
				return &api.Error{Code: api.Failed, What: file, Why: reason(err), Do: "Give a profile in the format pan, xml or json"}
			}
		}
		changes := tree.Diff(roots[0], roots[1])
		write := tree.WriteDiff
		if s.flags.json {
			write = tree.WriteDiffJSON
		}
		if err := write(s.out, changes); err != nil {
			return err
		}
		if len(changes) > 0 {
			s.failed = true
		}
		return nil
	}
	return c
}

// readProfile reads a profile in the format that its name says.
func readProfile(file string) (*tree.Dict, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	name, zipped := strings.CutSuffix(file, ".gz")
	if zipped {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		if b, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	switch {
	case strings.HasSuffix(name, ".json"):
		return tree.ReadJSON(b)
	case strings.HasSuffix(name, ".xml"):
		return tree.ReadXML(b)
	}
	return nil, fmt.Errorf("the name ends neither in .json nor in .xml")
}
