// Package null is the driver of machines that nothing can be asked of: it answers Unsupported to everything, and talks to nobody.
package null

import "muster/internal/bmc"

// Open returns the driver. Nothing of the target is used.
func Open(bmc.Target) bmc.Driver { return bmc.Incapable{Protocol: "null"} }
