package bmc

import (
	"context"
	"fmt"
	"strings"

	"muster/internal/model"
)

// VirtualMedia is what a [Driver] is as well, when its controller can show an image to the machine as if it were in a drive.
type VirtualMedia interface {
	// Media lists the drives, in the order of the controller.
	Media(ctx context.Context) ([]Drive, error)
	// InsertMedia shows an image in the drive of that name; an empty name chooses the first that takes its kind: a CD, unless the URL ends in .img.
	// An image that is in it already is taken out first.
	InsertMedia(ctx context.Context, drive string, m Medium) error
	// EjectMedia empties a drive; an empty name empties all.
	EjectMedia(ctx context.Context, drive string) error
}

// Medium is an image for a virtual drive.
type Medium struct {
	URL string // where the controller gets it: http, https, nfs or cifs
	// User and Password are for the server of the image, where it asks.
	User     string
	Password model.Secret
}

// Drive is a virtual drive.
type Drive struct {
	Name  string   `json:"name"`            // of the controller: "Cd"
	Kinds []string `json:"kinds,omitempty"` // "CD", "DVD", "USBStick", "Floppy"
	Image string   `json:"image,omitempty"` // URL of what is in it; empty: nothing is
}

// CertificateError says that a controller showed another certificate than those that it is known by. It is the Err of an [*Error].
type CertificateError struct {
	Seen string   // "sha256:" and 64 hexadecimal digits: what it showed
	Pins []string // what was expected; empty: the authorities of the system were asked
	Err  error    // what they said
}

func (e *CertificateError) Error() string {
	if len(e.Pins) > 0 {
		return fmt.Sprintf("the certificate is %s and not %s", e.Seen, strings.Join(e.Pins, " or "))
	}
	return fmt.Sprintf("the certificate %s is not trusted: %v", e.Seen, e.Err)
}

func (e *CertificateError) Unwrap() error { return e.Err }
