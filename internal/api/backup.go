package api

// Backup is POST /v1/backup: answers the bytes of a backup file. Keys puts the keys in, encrypted for the passphrase or the recipients
// (age).
type Backup struct {
	Keys       bool         `json:"keys,omitempty"`
	Passphrase *SecretValue `json:"passphrase,omitempty"`
	Recipients []string     `json:"recipients,omitempty"`
}
