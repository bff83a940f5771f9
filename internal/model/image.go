package model

// PackageChange is a package that two images do not have alike. Before is "" where it came, After where it went; several versions of one
// name stand with commas.
type PackageChange struct {
	Name   string `json:"name"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// FileChange is a path that two images do not have alike. What says it in words: "added", "removed", or of "type", "content", "target",
// "device", "mode", "owner", "attributes", "time" those that changed.
type FileChange struct {
	Path string   `json:"path"`
	What []string `json:"what"`
}

// ImageDifference is what two images do not have alike.
type ImageDifference struct {
	Before   string          `json:"before"` // release of the kernel
	After    string          `json:"after"`
	Packages []PackageChange `json:"packages"`
	Files    []FileChange    `json:"files"`
	// New is how many bytes of content the second one has that the first has not: what a node that has the first must fetch, unpacked.
	New int64 `json:"new"`
	// NoTree says that one of them is of an older muster: then files are not compared.
	NoTree bool `json:"no_tree,omitempty"`
}

// ImageFinding is one thing that is wrong with an image. Check is its kind: "files", "kernel", "initramfs", "modules", "root", "init",
// "agent", "architecture", "secrets", "chunks", "size", "signature".
type ImageFinding struct {
	Check string `json:"check"`
	What  string `json:"what"`
	Do    string `json:"do,omitempty"`
}

// String is the finding as one line.
func (f ImageFinding) String() string {
	if f.Do == "" {
		return f.Check + ": " + f.What
	}
	return f.Check + ": " + f.What + ". " + f.Do
}
