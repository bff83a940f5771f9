package model

import "embed"

// Source is the Go source of the documents: the API's description takes what it says of them from their comments.
//
//go:embed model.go
var Source embed.FS
