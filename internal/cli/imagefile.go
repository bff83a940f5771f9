package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model"
)

func imageImport(s *session) *cobra.Command {
	var name string
	var keys []string
	c := &cobra.Command{
		Use:   "import SOURCE --name NAME",
		Short: "Make an image of a system that is there already",
		Long: `Make an image of a system that is there already: a directory with it, a tar (plain, gzip, zstd, xz, bzip2), an OCI layout (a directory,
or in a tar), or a squashfs. - is a tar on standard input. It must have its kernel and modules. What machines must not share (host keys, machine-id, leases)
is left out, and muster's agent is put in. Extended attributes and ACLs come along when the tar was made with --xattrs --xattrs-include='*'.

Of a disk or an ISO, import what is on it: mount it and give the directory.`,
		Example: `  muster image import golden.tar.zst --name golden
  muster image import /mnt/root --name golden
  skopeo copy docker://registry/os:9 oci:layout && muster image import layout --name os9`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		if name == "" {
			return usage("image import", "the image has no name", "Give one: --name golden")
		}
		lines, err := rootKeys(keys)
		if err != nil {
			return err
		}
		from, err := s.system(c.Context(), a[0])
		if err != nil {
			return err
		}
		defer from.Close()
		q := url.Values{"name": {name}, "source": {filepath.Base(a[0])}}
		if len(lines) > 0 {
			q["root_keys"] = lines
		}
		return s.build(c.Context(), "image import", name, "/v1/images/import?"+q.Encode(), io.Reader(from))
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "`name` of the image")
	f.StringArrayVar(&keys, "root-key", nil, "`file` with ssh public keys for root, besides the service's own")
	return c
}

// system opens what is to be imported: a file, standard input, or a directory, which tar packs on its way.
func (s *session) system(ctx context.Context, source string) (io.ReadCloser, error) {
	if source == "-" {
		return io.NopCloser(s.in), nil
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, usage("image import", reason(err), "Give a file or a directory")
	}
	if !info.IsDir() {
		return os.Open(source)
	}
	r, w := io.Pipe()
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "tar", "--format=posix", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--one-file-system", "-cf", "-", "-C", source, ".")
	cmd.Stdout, cmd.Stderr = w, &said
	if err := cmd.Start(); err != nil {
		return nil, usage("image import "+source, reason(err), "tar packs a directory: install it")
	}
	go func() {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("tar could not read %s: %s", source, strings.TrimSpace(said.String()))
		}
		w.CloseWithError(err)
	}()
	return r, nil
}

func imageExport(s *session) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "export IMAGE FILE",
		Short: "Write an image to a file, for elsewhere",
		Long: `Write an image's tree to a file: a tar with owners, extended attributes and devices, an OCI layout of one layer in a tar, or the squashfs that
disk-less nodes get. FILE - is standard output. The file is complete or not there. Unpack a tar with tar --xattrs --xattrs-include='*' -xf FILE.`,
		Example: `  muster image export golden golden.tar
  muster image export golden golden-oci.tar --format oci
  muster image export golden - | zstd > golden.tar.zst`,
		Args: args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		if a[1] == "-" && s.outTerminal {
			return usage("image export", "standard output is a terminal", "Give a file, or a pipe")
		}
		cl, err := s.client()
		if err != nil {
			return err
		}
		body, err := cl.Open(c.Context(), "/v1/images/"+url.PathEscape(a[0])+"/export?"+url.Values{"format": {format}}.Encode())
		if err != nil {
			return err
		}
		defer body.Close()
		if a[1] == "-" {
			if _, err := io.Copy(s.out, body); err != nil {
				return &api.Error{Code: api.Failed, What: "image export", Why: "it was cut: " + reason(err), Do: "What was written is not whole: try again"}
			}
			return nil
		}
		n, err := writeWhole(a[1], body)
		if err != nil {
			return err
		}
		s.document(map[string]any{"file": a[1], "bytes": n}, func() {
			if !s.flags.quiet {
				fmt.Fprintf(s.out, "wrote %s, %s\n", a[1], size(n))
			}
		})
		return nil
	}
	c.Flags().StringVar(&format, "format", "tar", "`format`: tar, oci or squashfs")
	c.ValidArgsFunction = s.completeImages
	return c
}

func imageCheck(s *session) *cobra.Command {
	var memory string
	var modules []string
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Find out what is wrong with an image before a boot does",
		Long: `Look at an image from all sides: its files against their digests, kernel and initramfs as the loader sees them, drivers of network cards,
init, agent, architecture, secrets left inside (host keys, private keys, machine-id, passwords), the content of every file, its size for the nodes' memory, the
signature. The exit status is 1 when something is wrong.

Without --memory the smallest node counts on which it is deployed.`,
		Example: `  muster image check compute
  muster image check compute --memory 2GB --module mlx5_core,nvme`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		q := url.Values{}
		if memory != "" {
			n, err := parseSize(memory)
			if err != nil {
				return usage("--memory "+memory, err.Error(), "Give it as 512MB, 2GB or 2GiB")
			}
			q.Set("memory", fmt.Sprint(n))
		}
		if len(modules) > 0 {
			q["modules"] = modules
		}
		var out api.ImageCheck
		if err := s.do(c.Context(), "GET", "/v1/images/"+url.PathEscape(a[0])+"/check?"+q.Encode(), nil, &out); err != nil {
			return err
		}
		s.failed = len(out.Findings) > 0
		s.document(out, func() {
			for _, f := range out.Findings {
				fmt.Fprintf(s.out, "%s: %s\n", out.Name, printable(f.String()))
			}
			if len(out.Findings) == 0 && !s.flags.quiet {
				fmt.Fprintf(s.out, "%s: nothing is wrong\n", out.Name)
			}
		})
		return nil
	}
	c.Flags().StringVar(&memory, "memory", "", "`size` of the smallest node's memory")
	c.Flags().StringSliceVar(&modules, "module", nil, "kernel `modules` that the hardware needs to reach the network, with commas")
	c.ValidArgsFunction = s.completeImages
	return c
}

// parseSize reads a number of bytes with a unit.
func parseSize(text string) (int64, error) {
	var n float64
	var unit string
	if _, err := fmt.Sscanf(text+" B", "%f%s", &n, &unit); err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	scale, ok := map[string]float64{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[strings.ToUpper(unit)]
	if !ok || n*scale >= 1<<62 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return int64(n * scale), nil
}

func imageDiff(s *session) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Show what two images do not have alike: packages, files",
		Long: `Show what two images do not have alike: the kernel, packages with their versions, and the files that no package list tells of (in /etc, /root and
the like); --files shows all.`,
		Example: "  muster image diff compute-1 compute-2\n  muster image diff compute-1 compute-2 --files",
		Args:    args(2, 2),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		var d model.ImageDifference
		if err := s.do(c.Context(), "GET", "/v1/images/"+url.PathEscape(a[0])+"/diff/"+url.PathEscape(a[1]), nil, &d); err != nil {
			return err
		}
		s.document(d, func() { s.imageDifference(&d, all) })
		return nil
	}
	c.Flags().BoolVar(&all, "files", false, "show all files")
	c.ValidArgsFunction = s.completeImages
	return c
}

func (s *session) imageDifference(d *model.ImageDifference, all bool) {
	if d.Before != d.After {
		fmt.Fprintf(s.out, "kernel   %s -> %s\n", d.Before, d.After)
	}
	for _, p := range d.Packages {
		fmt.Fprintf(s.out, "package  %s %s -> %s\n", p.Name, or(p.Before, "none"), or(p.After, "none"))
	}
	hidden := 0
	for _, f := range d.Files {
		if !all && len(d.Packages) > 0 && (strings.HasPrefix(f.Path, "/usr/") || strings.HasPrefix(f.Path, "/var/") || strings.HasPrefix(f.Path, "/boot/")) {
			hidden++
			continue
		}
		fmt.Fprintf(s.out, "file     %s: %s\n", printable(f.Path), strings.Join(f.What, ", "))
	}
	if hidden > 0 {
		fmt.Fprintf(s.out, "and %d files in /usr, /var and /boot: --files shows them\n", hidden)
	}
	switch {
	case d.NoTree:
		fmt.Fprintln(s.err, "one of them is of an older muster: files are not compared")
	case d.Before == d.After && len(d.Packages)+len(d.Files) == 0:
		fmt.Fprintln(s.out, "no difference")
	default:
		fmt.Fprintf(s.out, "new content: %s\n", size(d.New))
	}
}
