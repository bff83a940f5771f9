// Package image builds bootable operating system trees and says all about them.
//
// A build takes a recipe ("debian12"), the packages of a distribution and the node program, and leaves one directory:
//
//	DIR/NAME/kernel         as the distribution's package brought it
//	         initramfs      our init, the modules it may need from that kernel: cpio, zstd
//	         root.squashfs  the tree, read-only; the node program and its unit are in it, no secret is
//	         tree.zst       every file of the tree, its content by digest: see [rootfs]
//	         packages.txt   one "NAME VERSION" a line
//	         recipe.json    the recipe as it was used
//	         build.log      what every step printed
//	         manifest.json  all of the above by digest, written last
//
// How it goes:
//
//	apt sources ─▶ mmdebstrap ─▶ tree.tar ─▶ chunks and tree ─┬─▶ amended ─▶ tree.zst ─▶ mksquashfs ─▶ root.squashfs
//	               (cached by recipe)                         ├─▶ kernel                (cached by content)
//	import: tar, OCI layout, squashfs ─────▶                  └─▶ modules ─▶ cpio ─▶ initramfs
//
// The tree never lies unpacked on the disk: it is a list of files whose contents are chunks, which all images share. A build happens in a hidden directory
// beside the result and is exchanged with it in one rename, so an image is there as a whole or not at all, also after
// kill -9; whoever has a file of the old image open goes on reading it. What a killed build left is removed by the
// next one.
package image

import (
	"context"
	"crypto/ed25519"
	"os/exec"
	"time"

	"muster/internal/model"
)

// Tool names the version of the builder in manifests; it is part of what cached content depends on.
const Tool = "muster image 1"

// The names of the files of an image directory.
const (
	KernelFile   = "kernel"
	InitrdFile   = "initramfs"
	RootFile     = "root.squashfs"
	TreeFile     = "tree.zst"
	packagesFile = "packages.txt"
	recipeFile   = "recipe.json"
	logFile      = "build.log"
	ManifestFile = "manifest.json"
)

// Options is what a build needs to know.
type Options struct {
	// Dir holds the images, one directory each. It is made when missing.
	Dir string
	// Cache holds package trees and compressed roots by digest, for the next build. It may be removed at any time.
	Cache string
	// Chunks is the store of content that all images share: see [chunk.Store].
	Chunks string
	// Source is the name of a recipe: see [Recipes].
	Source string
	// Name is the image's name; an image that has it already is replaced when, and only when, the build succeeds.
	Name model.ImageName
	// Mirror is the address of a package archive. Empty means the host's own apt sources.
	Mirror string
	// Packages are installed besides those of the recipe.
	Packages []string
	// Hooks are programs in any language (a script with its "#!") that change the tree before it is packed: each is run as root with the
	// tree's path as its argument, in their order.
	Hooks [][]byte
	// RootKeys are lines for root's authorized_keys.
	RootKeys []string
	// Key signs the manifest: the site's key for images. Nil leaves it unsigned.
	Key ed25519.PrivateKey
	// NodeProgram is the statically linked muster-node, for the initramfs and the tree.
	NodeProgram []byte
	// Refresh takes the packages from the archive again, though a tree of the same recipe is cached.
	Refresh bool
	// Command makes the commands of the build; the caller may wrap them, as in "nsenter --net=… mmdebstrap …".
	// Nil is exec.CommandContext.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
	// Progress is told of every step when it begins, when it has news, and when it is done. Nil is silence. It is called
	// from one goroutine at a time.
	Progress func(Step)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Step is news of one step of a build.
type Step struct {
	Name   string `json:"name"`             // "packages", "root", "kernel", "initramfs", "manifest"
	Text   string `json:"text,omitempty"`   // one line for people
	Done   bool   `json:"done,omitempty"`   // the step has ended well
	Cached bool   `json:"cached,omitempty"` // it was taken from the cache
	MS     int64  `json:"ms,omitempty"`     // milliseconds since the step began
}
