package console

// ringMax is the most that a console keeps in memory: what is not yet in its file, and for watchers the newest bytes.
const ringMax = 64 << 10

// ring holds the bytes [low, high) of a console's stream; positions count from the first byte ever recorded. It is
// allocated with the first byte and grows in powers of two.
type ring struct {
	buf       []byte
	low, high int64
}

// write appends p and keeps at least everything from position keep on, which with p is at most ringMax bytes.
func (r *ring) write(p []byte, keep int64) {
	need := int(r.high-max(keep, r.low)) + len(p)
	if need > len(r.buf) {
		r.grow(need)
	}
	mask := int64(len(r.buf) - 1)
	for len(p) > 0 {
		n := copy(r.buf[r.high&mask:], p)
		p = p[n:]
		r.high += int64(n)
	}
	r.low = max(r.low, r.high-int64(len(r.buf)))
}

func (r *ring) grow(need int) {
	size := max(1<<10, len(r.buf))
	for size < need {
		size *= 2
	}
	next := ring{buf: make([]byte, size), low: r.low, high: r.low}
	if len(r.buf) > 0 {
		a, b := r.parts(r.low, r.high)
		next.put(a)
		next.put(b)
	}
	next.high = r.high
	*r = next
}

func (r *ring) put(p []byte) {
	mask := int64(len(r.buf) - 1)
	for len(p) > 0 {
		n := copy(r.buf[r.high&mask:], p)
		p = p[n:]
		r.high += int64(n)
	}
}

// parts returns the bytes [from, to), which the ring must hold, as at most two pieces of it.
func (r *ring) parts(from, to int64) (a, b []byte) {
	if from >= to {
		return nil, nil
	}
	mask := int64(len(r.buf) - 1)
	i, n := from&mask, to-from
	if i+n <= int64(len(r.buf)) {
		return r.buf[i : i+n], nil
	}
	first := int64(len(r.buf)) - i
	return r.buf[i:], r.buf[:n-first]
}

// appendTo appends the bytes [from, to) to dst.
func (r *ring) appendTo(dst []byte, from, to int64) []byte {
	a, b := r.parts(from, to)
	return append(append(dst, a...), b...)
}

// forget lets everything before position low go, and the memory with it when nothing is left in a large ring.
func (r *ring) forget(low int64) {
	r.low = max(r.low, min(low, r.high))
	if r.low == r.high && len(r.buf) > 4<<10 {
		r.buf = nil
	}
}
