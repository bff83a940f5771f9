package tree

// Get follows terms down from v. It is nil where there is nothing; a property on the way, or a term of the wrong kind, is an error
// (*Error of class Evaluation, *InvalidTermError). Below a view everything is protected.
func Get(v Value, terms []Term) (Value, error) {
	for i, t := range terms {
		switch r := v.(type) {
		case nil:
			return nil, nil
		case *Dict:
			if !t.IsKey() {
				return nil, &InvalidTermError{Term: t.String(), Type: r.Type(), Terms: terms[:i+1]}
			}
			v = r.Lookup(t.key)
		case *List:
			if t.IsKey() {
				return nil, &InvalidTermError{Term: t.key, Type: r.Type(), Terms: terms[:i+1]}
			}
			v = r.Lookup(int(t.index))
		default:
			return nil, evaluationError("element of type '" + v.Type() + "' cannot be dereferenced")
		}
	}
	return v, nil
}

// Lookup is Get for the functions that only ask whether something is there (exists, is_defined, ...): a property on the way means no.
func Lookup(v Value, terms []Term) (Value, error) {
	for i := range terms {
		if v == nil || !IsResource(v) {
			return nil, nil
		}
		child, err := v.(Resource).Get(terms[i])
		if err != nil {
			return nil, at(err, terms, i+1)
		}
		v = child
	}
	return v, nil
}

// Put sets the value below r at terms, at least one; missing or undef parents are made (a dict where the next term is a key, else
// a list) and views on the way are replaced by writable copies. r itself must not be a view.
func Put(r Resource, terms []Term, v Value) error {
	for i := 0; i < len(terms)-1; i++ {
		child, err := descend(r, terms, i)
		if err != nil {
			return err
		}
		next, ok := child.(Resource)
		if !ok {
			return evaluationError("cannot add child to element of type " + child.Type())
		}
		r = next
	}
	return at(r.Put(terms[len(terms)-1], v), terms, len(terms))
}

// GetList is the list below r at terms, at least one, for append and prepend; it and its parents are made as by Put where they are
// missing or undef. The list itself may be a view, of which the caller has to make a copy. Anything else there is an error.
func GetList(r Resource, terms []Term) (*List, error) {
	for i := 0; i < len(terms)-1; i++ {
		child, err := descend(r, terms, i)
		if err != nil {
			return nil, err
		}
		next, ok := child.(Resource)
		if !ok {
			return nil, evaluationError("element of type '" + child.Type() + "' cannot be dereferenced")
		}
		r = next
	}
	last := terms[len(terms)-1]
	v, err := r.Get(last)
	if err != nil {
		return nil, at(err, terms, len(terms))
	}
	switch v := v.(type) {
	case *List:
		return v, nil
	case nil, Undef:
		l := NewList(0)
		return l, at(r.Put(last, l), terms, len(terms))
	}
	return nil, evaluationError("referenced variable of type " + v.Type() + " is not a list")
}

// descend is the child of r at terms[i], made or made writable as needed.
func descend(r Resource, terms []Term, i int) (Value, error) {
	child, err := r.Get(terms[i])
	if err != nil {
		return nil, at(err, terms, i+1)
	}
	switch child.(type) {
	case nil, Undef:
		if terms[i+1].IsKey() {
			child = NewDict(0)
		} else {
			child = NewList(0)
		}
	default:
		if !Protected(child) {
			return child, nil
		}
		child = WritableCopy(child)
	}
	return child, at(r.Put(terms[i], child), terms, i+1)
}

// Undefined is the path, without leading slash, of the first undef or null below v in tree order; ok is false if there is none.
// Of an undef itself the path is empty. A circular structure counts as having none; the writers refuse it.
func Undefined(v Value) (path string, ok bool) {
	var terms []Term
	if !undefined(v, &terms) || len(terms) > maxDepth {
		return "", false
	}
	return Path{Terms: terms}.String(), true
}

// undefined leaves terms at what it found, or too deep.
func undefined(v Value, terms *[]Term) bool {
	if len(*terms) > maxDepth {
		return true
	}
	n := len(*terms)
	switch v := v.(type) {
	case *Dict:
		for _, e := range v.s.entries {
			if *terms = append(*terms, Term{key: e.key}); undefined(e.value, terms) {
				return true
			}
			*terms = (*terms)[:n]
		}
	case *List:
		for i, child := range v.s.items {
			if *terms = append(*terms, Index(i)); undefined(child, terms) {
				return true
			}
			*terms = (*terms)[:n]
		}
	case Undef, Null:
		return true
	}
	return false
}
