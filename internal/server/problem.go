package server

import (
	"errors"
	"fmt"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/model"
	"muster/internal/model/noderange"
	"muster/internal/store"
)

// translate gives the rooms' errors the form that leaves the service; nil when the error is of no room that it knows.
func translate(err error) *api.Error {
	var nr *noderange.Error
	if errors.As(err, &nr) {
		e := &api.Error{Code: api.Usage, What: nr.What, Why: nr.Why, Do: nr.Do}
		if len(nr.Unknown) > 0 {
			e.Code = api.Unknown
		} else if nr.Column > 0 {
			e.What = fmt.Sprintf("noderange, column %d: %s", nr.Column, nr.What)
		}
		return e
	}
	var mp *model.Problem
	if errors.As(err, &mp) {
		return described(mp)
	}
	var conflict *store.ConflictError
	if errors.As(err, &conflict) {
		return &api.Error{Code: api.Conflict, What: "conflict", Why: conflict.Error()}
	}
	var st *store.Error
	if errors.As(err, &st) {
		e := &api.Error{Code: api.Failed, What: st.What, Why: st.Why, Do: st.Do}
		switch st.Kind {
		case store.Occupied, store.Forbidden:
			e.Code = api.Conflict
		case store.NoMajority:
			e.Code = api.Minority
		case store.NoMember:
			e.Code = api.Unknown
		}
		return e
	}
	var b *boot.Error
	if errors.As(err, &b) {
		return &api.Error{Code: api.Failed, What: b.What, Why: b.Why, Do: b.Do}
	}
	return nil
}

func described(p *model.Problem) *api.Error {
	e := &api.Error{Code: api.Usage, What: p.What, Why: p.Why, Do: p.Do, Node: string(p.Node)}
	if p.Attr != "" {
		e.What = string(p.Attr) + ": " + p.What
	}
	if p.Group != "" {
		e.What = "group " + string(p.Group) + ": " + e.What
	} else if p.Of != "" {
		e.What = p.Of + ": " + e.What
	}
	return e
}

// refused makes one error of all problems of an input.
func refused(problems []model.Problem) *api.Error {
	const most = 20
	var all []*api.Error
	for i := range problems[:min(most, len(problems))] {
		all = append(all, described(&problems[i]))
	}
	if rest := len(problems) - most; rest > 0 {
		all = append(all, &api.Error{Code: api.Usage, What: fmt.Sprintf("and %d more problems", rest)})
	}
	all[0].More = all[1:]
	return all[0]
}
