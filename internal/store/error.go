package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"muster/internal/model"
)

// Kind sorts the store's errors for callers that branch on them.
type Kind string

// The kinds of [Error].
const (
	Locked    Kind = "locked"    // another process has the directory open
	Damaged   Kind = "damaged"   // what lies in the directory cannot be read; nothing was changed
	Newer     Kind = "newer"     // written by a newer muster
	NoSpace   Kind = "no space"  // the file system or the store's quota is full; reads go on
	Forbidden Kind = "forbidden" // read-only file system, or not our directory
	TooLarge  Kind = "too large" // more documents or bytes than one commit takes
	Uncertain Kind = "uncertain" // the commit may have been made or not: read to know
	Closed    Kind = "closed"    // the store was closed, or its engine stopped

	NoMajority Kind = "no majority" // cut off from the majority of the pool, or from etcd; nothing was written, reads go on
	Removed    Kind = "removed"     // this manager is no member of the pool any more
	Occupied   Kind = "occupied"    // there is something where a store is to be made or restored; the name or address is taken
	NoMember   Kind = "no member"   // the pool has no such manager
)

// Error says what the store could not do, why, and what a person does about it.
type Error struct {
	Kind          Kind
	What, Why, Do string
	Err           error // cause, may be nil
}

func (e *Error) Error() string {
	s := e.What + ": " + e.Why
	if e.Do != "" {
		s += ". " + e.Do
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// IsKind says whether err is, or wraps, a store error of that kind.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// ConflictError says that somebody else changed a document between the snapshot that a change was built on and its
// commit. Nothing of the change was written.
type ConflictError struct {
	Kind     model.Kind
	Name     string
	Revision model.Revision // of the other change
	Removed  bool           // the other change removed the document
	Actor    string         // who made the other change; empty when it was observed state
	Verb     string
	Request  string
	Time     time.Time
}

func (e *ConflictError) Error() string {
	did := "changed"
	if e.Removed {
		did = "removed"
	}
	s := fmt.Sprintf("%s %s was %s meanwhile, in revision %d", e.Kind, e.Name, did, e.Revision)
	if e.Actor != "" {
		s += fmt.Sprintf(", by %s (%s, request %s, %s)", e.Actor, e.Verb, e.Request, e.Time.Format(time.RFC3339))
	}
	return s + ". Look at it and ask again"
}

// GapError says that events between After and Oldest are no longer kept; Oldest is not the larger one when the timeline was begun
// anew meanwhile. A sequence of [Store.Follow] goes on after it.
type GapError struct{ After, Oldest int64 }

func (e *GapError) Error() string {
	if e.Oldest <= e.After {
		return fmt.Sprintf("events after %d are of a timeline that is gone; this one begins with %d. Read the nodes again: what came between is not told", e.After, e.Oldest)
	}
	return fmt.Sprintf("events after %d and before %d are no longer kept. Read the nodes again: what came between is not told", e.After, e.Oldest)
}

// fileError gives the errors of the file system that a person can mend their own words.
func fileError(what, path string, err error) error {
	e := &Error{Err: err, What: what}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind, e.Why = NoSpace, "no space left for "+path
		e.Do = "Make room on that file system; nothing that was acknowledged is lost"
	case errors.Is(err, syscall.EROFS):
		e.Kind, e.Why = Forbidden, path+" is on a read-only file system"
		e.Do = "Mount it writable (a file system that turned read-only by itself has found errors: see dmesg), then start again"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Why = Forbidden, path+": permission denied"
		e.Do = "Run as the user that owns the directory, or give it to the user that runs muster"
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return e
}
