package tree

// Iterator goes over the children of a resource while the program may change it. A list is read by index, so that what is appended
// meanwhile is reached and what is taken out shifts the rest; a dict with a key more or less is an error at the next step, unless
// the step before had reached the last key (java.util.TreeMap). Values may be replaced. The zero Iterator has nothing.
type Iterator struct {
	dict      *dict
	list      *list
	at        int
	changes   uint32
	protected bool
	more      bool
}

// More says whether Next has something to give.
func (i *Iterator) More() bool {
	if i.list != nil {
		return i.at < len(i.list.items)
	}
	return i.more
}

// Next is the next key and value; the key of a list is its index as a Long. Call it only if More. The error is of class Evaluation.
func (i *Iterator) Next() (key, value Value, err error) {
	if i.list != nil {
		key, value = Long(i.at), i.list.items[i.at]
	} else {
		if i.changes != i.dict.changes {
			return nil, nil, errConcurrent
		}
		e := &i.dict.entries[i.at]
		key, value = String(e.key), e.value
		i.more = i.at+1 < len(i.dict.entries)
	}
	i.at++
	if i.protected {
		value = Protect(value)
	}
	return key, value, nil
}
