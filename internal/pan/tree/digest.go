package tree

import (
	"crypto/sha256"
	"encoding/hex"
)

// Digest is the SHA-256, in lower-case hexadecimal, of the profile in the json format: what sha256sum says of the file. Equal trees have
// equal digests, and different ones differ, but for halves of surrogate pairs.
func Digest(root *Dict) (string, error) {
	h := sha256.New()
	f, _ := FormatOf("json")
	err := f.Write(h, root)
	return hex.EncodeToString(h.Sum(nil)), err
}
