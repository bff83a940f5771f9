package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"muster/internal/api"
)

// parseAssignment reads "attr=value", "attr+=value", "attr-=value" or "attr=" (take the value away). Errors are [*api.Error].
//
// Two forms keep a secret out of the arguments, where every user of the machine sees it:
//
//	attr=-         one line of standard input; on a terminal it is asked for and not shown
//	attr=@/path    the first line of a file (the path begins with / or ./ or ../)
//
// Other values are as they were typed, "@" included.
func parseAssignment(arg string) (a api.Assignment, err error) {
	i := strings.IndexByte(arg, '=')
	if i <= 0 {
		return a, usage(fmt.Sprintf("argument %q", nameIn(arg)), "it is not attr=value", "Give attr=value, attr+=value, attr-=value, or attr= to take the value away")
	}
	a.Attr, a.Op, a.Value = arg[:i], "=", arg[i+1:]
	if c := a.Attr[len(a.Attr)-1]; c == '+' || c == '-' {
		a.Attr, a.Op = a.Attr[:len(a.Attr)-1], string(c)+"="
	}
	if !attrName(a.Attr) {
		return a, usage(fmt.Sprintf("argument %q", arg[:i+1]+"…"), fmt.Sprintf("%q is no name of an attribute", nameIn(a.Attr)), "Names of attributes: muster attributes")
	}
	return a, nil
}

// nameIn is what of an argument may be told: what comes behind its first word may be a secret.
func nameIn(arg string) string {
	if i := strings.IndexAny(arg, " \t:"); i >= 0 {
		return arg[:i+1] + "…"
	}
	return arg
}

// attrName says whether it can be a name at all; which names there are, the service knows.
func attrName(s string) bool {
	for _, r := range s {
		if r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return s != ""
}

// assignments parses all of them, tells all problems at once, and then reads the secrets.
func (s *session) assignments(ctx context.Context, args []string) ([]api.Assignment, error) {
	all := make([]api.Assignment, 0, len(args))
	var bad *api.Error
	for i, arg := range args {
		a, err := parseAssignment(arg)
		var e *api.Error
		if errors.As(err, &e) {
			if i > 0 && attrName(args[i-1]) && !strings.Contains(arg, "=") { // a value, perhaps a secret, behind a blank
				e.What = "the argument behind " + args[i-1]
			}
			if bad == nil {
				bad = e
			} else {
				bad.More = append(bad.More, e)
			}
			continue
		}
		all = append(all, a)
	}
	if bad != nil {
		return nil, bad
	}
	for i := range all {
		if err := s.secret(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// secret replaces the two forms by what they stand for.
func (s *session) secret(ctx context.Context, a *api.Assignment) error {
	switch {
	case a.Value == "-":
		plain, err := s.readSecret(ctx, a.Attr)
		if err != nil {
			return err
		}
		a.Value, a.Secret = "", &api.SecretValue{Plain: plain}
	case strings.HasPrefix(a.Value, "@/"), strings.HasPrefix(a.Value, "@./"), strings.HasPrefix(a.Value, "@../"):
		b, err := os.ReadFile(a.Value[1:])
		if err != nil {
			return usage(a.Attr, reason(err), "Give attr=@FILE with a file whose first line is the secret")
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		plain := strings.TrimSuffix(string(line), "\r")
		if plain == "" {
			return usage(a.Attr, "the first line of "+a.Value[1:]+" is empty", "To take the value away: "+a.Attr+"=")
		}
		a.Value, a.Secret = "", &api.SecretValue{Plain: plain}
	case a.Value != "" && soundsSecret(a.Attr):
		s.warn("%s: a secret in the arguments is seen by other users of this machine and kept in the shell's history; next time: %s=-", a.Attr, a.Attr)
	}
	return nil
}

// soundsSecret is for the warning only: which attributes are secret, the service knows.
func soundsSecret(attr string) bool {
	switch attr[strings.LastIndexByte(attr, '.')+1:] {
	case "password", "passphrase", "secret", "token":
		return true
	}
	return false
}

// readSecret asks on a terminal without showing what is typed, else takes the next line of standard input.
func (s *session) readSecret(ctx context.Context, name string) (string, error) {
	var line string
	var err error
	if f, ok := s.in.(*os.File); ok && s.inTerminal {
		line, err = s.prompt(ctx, f, name)
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
	} else {
		line, err = readLine(s.in)
	}
	if err != nil {
		return "", usage(name, "no line on standard input: "+reason(err), "Give the secret as one line: printf '%s\\n' … | muster …")
	}
	if line == "" {
		return "", usage(name, "the line on standard input is empty", "To take the value away: "+name+"=")
	}
	return line, nil
}

// prompt reads a line that is not shown. ^C ends it and gives the terminal its echo back.
func (s *session) prompt(ctx context.Context, f *os.File, name string) (string, error) {
	fd := int(f.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(s.err, "%s: ", name)
	defer fmt.Fprintln(s.err)
	return await(ctx, func() (string, error) {
		b, err := term.ReadPassword(fd)
		return string(b), err
	}, func() { _ = term.Restore(fd, state) })
}

// await runs a read that nothing can end, and leaves it behind when the context ends: the program is about to.
func await(ctx context.Context, read func() (string, error), clean func()) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		clean()
		return "", context.Cause(ctx)
	}
}

// readLine reads byte by byte, so that what follows the line is left to whoever reads next.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var b [1]byte
	for {
		n, err := r.Read(b[:])
		if n == 1 {
			if b[0] == '\n' {
				return strings.TrimSuffix(string(line), "\r"), nil
			}
			line = append(line, b[0])
		}
		if err == io.EOF && len(line) > 0 {
			return string(line), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// reason is an error of a file without the operation: "open /x: no such file or directory" keeps path and reason.
func reason(err error) string {
	if errors.Is(err, io.EOF) {
		return "it ended"
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Path + ": " + pe.Err.Error()
	}
	return err.Error()
}
