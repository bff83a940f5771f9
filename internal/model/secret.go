package model

import (
	"fmt"
	"log/slog"
)

// Secret is a value that no printer, log, JSON encoder or dump can render. The zero value is an empty secret.
//
// It points to its value: fmt calls no methods of a field that is not exported, and would print the text in it. Two secrets are
// therefore not compared with ==.
type Secret struct{ value *string }

const masked = "********"

// NewSecret makes a secret of a readable value.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the readable value. It is called only where the value is used: to seal it, to log in to a BMC.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty says that there is no value.
func (s Secret) Empty() bool { return s.value == nil }

func (Secret) String() string               { return masked }
func (Secret) GoString() string             { return masked }
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + masked + `"`), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(masked) }

// Format keeps every verb of fmt, %#v and %x included, from printing the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(masked)) }
