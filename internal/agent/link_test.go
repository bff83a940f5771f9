package agent

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// message makes a netlink message as the kernel answers.
func message(kind uint16, seq uint32, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return append(b, body...)
}

func errno(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))) }

func TestNetlinkAcknowledgement(t *testing.T) {
	other := message(unix.NLMSG_ERROR, 6, errno(unix.EPERM)...)
	for name, c := range map[string]struct {
		packet []byte
		done   bool
		err    error
	}{
		"acknowledged":           {message(unix.NLMSG_ERROR, 7, errno(0)...), true, nil},
		"refused":                {message(unix.NLMSG_ERROR, 7, errno(unix.EEXIST)...), true, unix.EEXIST},
		"of another request":     {other, false, nil},
		"after another's":        {append(other, message(unix.NLMSG_ERROR, 7, errno(unix.ENODEV)...)...), true, unix.ENODEV},
		"something else":         {message(unix.RTM_NEWLINK, 7, 1, 2, 3), false, nil},
		"nothing":                {nil, false, nil},
		"shorter than a message": {[]byte{1, 2, 3}, false, nil},
	} {
		done, err := acknowledged(c.packet, 7)
		if done != c.done || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v, want %v, %v", name, done, err, c.done, c.err)
		}
	}
	long := message(unix.NLMSG_ERROR, 7, errno(0)...)
	long[0] = 200
	if done, err := acknowledged(long, 7); !done || err == nil {
		t.Errorf("a length beyond the packet: %v, %v", done, err)
	}
}

func FuzzAcknowledged(f *testing.F) {
	f.Add(message(unix.NLMSG_ERROR, 7, errno(0)...))
	f.Add(message(unix.NLMSG_ERROR, 7))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = acknowledged(b, 7) })
}
