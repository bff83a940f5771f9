package cli

import (
	"errors"
	"fmt"

	"muster/internal/model/noderange"
)

// withFiles puts the names of files in place of the terms ^/path of a noderange. It is done here and never by the service: the
// file is the person's.
func withFiles(nr string, read func(string) ([]byte, error)) (string, error) {
	text, err := noderange.Files(nr, func(path string) (string, error) {
		b, err := read(path)
		if err != nil {
			return "", errors.New(reason(err))
		}
		return string(b), nil
	})
	return text, wrongRange(err)
}

// wrongRange is the error of a noderange as the service would tell it.
func wrongRange(err error) error {
	if e := (*noderange.Error)(nil); errors.As(err, &e) {
		return usage(fmt.Sprintf("noderange, column %d: %s", e.Column, e.What), e.Why, e.Do)
	}
	return err
}

// checkRange refuses a noderange that cannot be read, before anything is asked; on a terminal it shows the place.
func (s *session) checkRange(nr string) error {
	_, err := noderange.Parse(nr)
	if e := (*noderange.Error)(nil); s.errTerminal && errors.As(err, &e) {
		fmt.Fprintln(s.err, e.Caret(nr))
	}
	return wrongRange(err)
}
