package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

func images(s *session) *cobra.Command {
	return noun("image", JobImages, "Operating systems that nodes boot from the network", imageBuild(s), imageImport(s), imageExport(s), imageList(s), imageShow(s), imageCheck(s), imageDiff(s), imageRemove(s))
}

func imageBuild(s *session) *cobra.Command {
	var q api.BuildImage
	var keys, hooks []string
	c := &cobra.Command{
		Use:   "build SOURCE --name NAME",
		Short: "Build an image from a distribution",
		Long: `Build an image: packages, kernel, initramfs and compressed root. SOURCE is a distribution: debian12, debian13, ubuntu22.04, ubuntu24.04, el8, el9,
el10, suse15, suse16. Packages come from the apt sources of the service's host unless --mirror says otherwise, and are kept for the next build.
A --hook is a program in any language, run as root on the service's host with the path of the tree, before it is packed.
An image of that name is replaced when the new one is complete; nodes that run the old one keep running.`,
		Example: `  muster image build debian12 --name compute
  muster image build debian12 --name compute --package chrony,nfs-common --root-key ~/.ssh/id_ed25519.pub`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		q.Source = a[0]
		if q.Name == "" {
			return usage("image build", "the image has no name", "Give one: --name compute")
		}
		for _, file := range hooks {
			b, err := os.ReadFile(file)
			if err != nil {
				return usage("--hook", reason(err), "Give a program: a script begins with #!")
			}
			q.Hooks = append(q.Hooks, b)
		}
		var err error
		if q.RootKey, err = rootKeys(keys); err != nil {
			return err
		}
		return s.build(c.Context(), "image build", q.Name, "/v1/images/build", q)
	}
	f := c.Flags()
	f.StringVar(&q.Name, "name", "", "`name` of the image")
	f.StringVar(&q.Mirror, "mirror", "", "`URL` of a package mirror, instead of the host's own apt sources")
	f.StringSliceVar(&q.Package, "package", nil, "`packages` besides those of the source, with commas or repeated")
	f.StringArrayVar(&keys, "root-key", nil, "`file` with ssh public keys for root, besides the service's own")
	f.StringArrayVar(&hooks, "hook", nil, "`program` that changes the tree before it is packed; may be repeated")
	f.BoolVar(&q.Fresh, "fresh", false, "do not use what an earlier build kept")
	return c
}

// rootKeys reads the lines of files with public keys.
func rootKeys(files []string) (keys []string, err error) {
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, usage("--root-key", reason(err), "Give a file with public keys in authorized_keys form")
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSpace(line)
			if strings.Contains(line, "PRIVATE KEY") {
				return nil, usage("--root-key "+file, "it holds a private key", "Give the public one: "+file+".pub")
			}
			if line != "" && line[0] != '#' {
				keys = append(keys, line)
			}
		}
	}
	return keys, nil
}

// build follows the steps in which an image is made: of a build, or of an import.
func (s *session) build(ctx context.Context, verb, name, path string, q any) error {
	cl, err := s.client()
	if err != nil {
		return err
	}
	p := s.newProgress(verb, true)
	defer p.end()
	what := verb + " " + name
	var trailer api.Trailer
	var broken *api.Error
	ended := false
	for line, err := range cl.Lines(ctx, "POST", path, q, &trailer) {
		p.clear()
		var step api.BuildStep
		if err == nil {
			err = json.Unmarshal(line, &step)
		}
		if err != nil {
			if ctx.Err() != nil {
				fmt.Fprintf(s.err, "muster: %s: interrupted\n", what)
				s.brokenOff(what, 1, 0)
				return errSilent
			}
			return err
		}
		ended = ended || step.Image != nil
		if e := step.Error; e != nil {
			e.What = or(e.What, what+": "+step.Step)
			broken = e
		}
		if s.flags.json {
			_, _ = s.out.Write(append(line, '\n'))
			continue
		}
		if step.Error != nil {
			continue // told at the end
		}
		s.buildStep(p, &step)
	}
	switch {
	case broken != nil:
		return broken
	case s.flags.json:
		s.printJSON(trailer)
	case !ended && !s.failed && trailer.Failed == 0:
		return &api.Error{Code: api.Failed, What: what, Why: "the service reported no image", Do: "Look at the service's log"}
	}
	s.failed = s.failed || trailer.Failed > 0
	return nil
}

// buildStep prints a finished step, or shows where it is.
func (s *session) buildStep(p *progress, step *api.BuildStep) {
	switch {
	case step.Done && !s.flags.quiet:
		how := fmt.Sprintf("%6.1f s", float64(step.MS)/1000)
		if step.Cached {
			how += ", kept from before"
		}
		fmt.Fprintf(s.out, "%-12s %s\n", step.Step, how)
	case s.flags.verbose && step.Text != "":
		fmt.Fprintf(s.out, "%-12s | %s\n", step.Step, printable(step.Text))
	default:
		p.say(strings.TrimSpace(step.Step + " " + printable(step.Text)))
	}
	if i := step.Image; i != nil && !s.flags.quiet {
		fmt.Fprintf(s.out, "image %s: kernel %s, root %s, %s\n", i.Name, i.Kernel, size(i.Size), i.Digest)
	}
}

func imageList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List images and where they are deployed",
		Example: "  muster image list",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []api.ImageInfo
		if err := s.do(c.Context(), "GET", "/v1/images", nil, &all); err != nil {
			return err
		}
		documents(s, all, func() {
			if len(all) == 0 {
				fmt.Fprintln(s.err, "no image yet; build one: muster image build debian12 --name compute")
				return
			}
			rows := [][]string{{"IMAGE", "KERNEL", "ROOT", "BUILT", "NODES"}}
			for _, i := range all {
				rows = append(rows, []string{string(i.Name), i.Kernel, size(i.Size), i.Built.Local().Format("2006-01-02 15:04"), or(i.Nodes, "-")})
			}
			s.table(rows)
		})
		return nil
	}
	return c
}

func imageShow(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "show IMAGE",
		Short:   "Show an image, and check its files against their digests",
		Long:    "Show an image, and check its files against their digests. The exit status is 1 when something is wrong with them.",
		Example: "  muster image show compute",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		var i api.ImageInfo
		if err := s.do(c.Context(), "GET", "/v1/images/"+url.PathEscape(a[0]), nil, &i); err != nil {
			return err
		}
		s.failed = len(i.Problems) > 0
		s.document(i, func() {
			fmt.Fprintf(s.out, "image     %s\ndigest    %s\nbuilt     %s\nrecipe    %s\nkernel    %s\npackages  %d\ndirectory %s\nnodes     %s\n",
				i.Name, i.Digest, i.Built.Local().Format(time.DateTime), or(i.Recipe, "-"), i.Kernel, i.Packages, i.Dir, or(i.Nodes, "-"))
			for _, f := range []struct{ name, digest, size string }{
				{i.Kernelf.Name, i.Kernelf.Digest, size(i.Kernelf.Size)}, {i.Initrd.Name, i.Initrd.Digest, size(i.Initrd.Size)}, {i.Root.Name, i.Root.Digest, size(i.Root.Size)},
			} {
				fmt.Fprintf(s.out, "file      %s, %s, %s\n", f.name, f.size, f.digest)
			}
			for _, p := range i.Problems {
				fmt.Fprintf(s.err, "image %s: %s\n", i.Name, p)
			}
		})
		return nil
	}
	c.ValidArgsFunction = s.completeImages
	return c
}

func imageRemove(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "remove IMAGE",
		Short:   "Remove an image and its files",
		Long:    "Remove an image and its files. It is refused while the image is deployed. On a terminal it asks first; --yes does not.",
		Example: "  muster image remove old",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		path := "/v1/images/" + url.PathEscape(a[0])
		if s.flags.dryRun {
			var i api.ImageInfo
			if err := s.do(c.Context(), "GET", path, nil, &i); err != nil {
				return err
			}
			s.document(i, func() {
				fmt.Fprintf(s.out, "dry run, nothing was done: removed image %s, deployed on: %s\n", i.Name, or(i.Nodes, "no node"))
			})
			return nil
		}
		if err := s.ask(c.Context(), "remove image "+a[0]); err != nil {
			return err
		}
		if err := s.do(c.Context(), "DELETE", path, nil, nil); err != nil {
			return err
		}
		s.document(struct {
			Removed string `json:"removed"`
		}{a[0]}, func() {
			if !s.flags.quiet {
				fmt.Fprintf(s.out, "removed image %s\n", a[0])
			}
		})
		return nil
	}
	c.ValidArgsFunction = s.completeImages
	return s.changeFlags(c)
}
