package identity

import (
	"iter"
	"time"

	"muster/internal/model"
)

// Place is where a sealed value lies.
type Place struct {
	Kind model.Kind
	Name string
	Attr model.AttrName
}

// Sealer seals the secrets of one change.
type Sealer struct{ a *Authority }

// Sealer takes the data keys of the snapshot that the change is built on.
func (a *Authority) Sealer(iter.Seq[*model.SealKey], time.Time) (*Sealer, error) {
	return &Sealer{a}, nil
}

// Ops puts the data key that was made, if one was.
func (z *Sealer) Ops() []model.Op { return nil }

// Seal makes the envelope of a secret at a place; "" of an empty one.
func (z *Sealer) Seal(s model.Secret, _ Place) string {
	if s.Empty() {
		return ""
	}
	text, _ := z.a.Seal(s) // only the random source can fail, and that ends the program
	return text
}

// Reseal makes the envelope of the same secret at another place.
func (z *Sealer) Reseal(text string, _, to Place) (string, error) {
	s, err := z.a.Unseal(text)
	return z.Seal(s, to), err
}
