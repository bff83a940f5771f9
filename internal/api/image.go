package api

import "muster/internal/model"

// ImportImage are the parameters of POST /v1/images/import; the body is a tar, plain or compressed, an OCI layout in a tar, or a squashfs.
// Streams [BuildStep] and a trailer.
type ImportImage struct {
	Name    string   `json:"name"`
	Source  string   `json:"source,omitempty"`    // where it came from, for people
	RootKey []string `json:"root_keys,omitempty"` // authorized_keys lines besides the service's own
}

// ExportImage are the parameters of GET /v1/images/{name}/export, which answers the bytes of one file.
type ExportImage struct {
	Format string `json:"format,omitempty"` // "tar" (the default), "oci" or "squashfs"
}

// CheckImage are the parameters of GET /v1/images/{name}/check.
type CheckImage struct {
	Memory  int64    `json:"memory,omitempty"`  // bytes of the smallest node; 0: of those on which it is deployed
	Modules []string `json:"modules,omitempty"` // kernel modules that the hardware needs to reach the network
}

// ImageCheck is what is wrong with an image; nothing is an empty list.
type ImageCheck struct {
	Name     model.ImageName      `json:"name"`
	Digest   string               `json:"digest"`
	Memory   int64                `json:"memory,omitempty"` // for which it was looked at
	Findings []model.ImageFinding `json:"findings"`
}
