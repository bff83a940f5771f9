// Package cpio writes and reads the archives that a kernel unpacks as its initramfs: the image build makes them for network boots, the agent for boots
// from a disk.
package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Writer writes the "newc" form of cpio that the kernel unpacks as its initramfs (kernel:
// Documentation/driver-api/early-userspace/buffer-format.rst).
//
//	"070701" then 13 fields of 8 hex digits, the name with its NUL, padded to 4; the content, padded to 4
//
// The same entries in the same order give the same bytes: inode numbers count up, the owner is root, all times are 0.
type Writer struct {
	w   io.Writer
	ino uint32
	n   int64
	err error
}

// The file types of stat(2), which cpio shares.
const (
	typeDir  = 0o040000
	typeFile = 0o100000
	typeLink = 0o120000
	typeChar = 0o020000
)

// New makes a writer of an archive.
func New(w io.Writer) *Writer { return &Writer{w: w} }

// Dir adds a folder. Parents are added before their children by the caller, as the kernel wants it.
func (c *Writer) Dir(name string, perm uint32) { c.entry(name, typeDir|perm, 2, 0, 0, nil) }

// File adds a regular file.
func (c *Writer) File(name string, perm uint32, content []byte) {
	c.entry(name, typeFile|perm, 1, 0, 0, content)
}

// Link adds a symbolic link to target.
func (c *Writer) Link(name, target string) {
	c.entry(name, typeLink|0o777, 1, 0, 0, []byte(target))
}

// Char adds a character device.
func (c *Writer) Char(name string, perm, major, minor uint32) {
	c.entry(name, typeChar|perm, 1, major, minor, nil)
}

// Close ends the archive and returns the first error of all calls.
func (c *Writer) Close() error {
	c.header("TRAILER!!!", 0, 0, 1, 0, 0, 0)
	return c.err
}

func (c *Writer) entry(name string, mode, nlink, major, minor uint32, content []byte) {
	c.ino++
	c.header(name, c.ino, mode, nlink, major, minor, len(content))
	c.write(content)
	c.pad()
}

func (c *Writer) header(name string, ino, mode, nlink, major, minor uint32, size int) {
	if int64(size) > 0xffffffff && c.err == nil {
		c.err = fmt.Errorf("cpio entry %s: %d bytes are more than the format holds", name, size)
	}
	h := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		ino, mode, 0, 0, nlink, 0, size, 0, 0, major, minor, len(name)+1, 0)
	c.write([]byte(h + name + "\x00"))
	c.pad()
}

func (c *Writer) pad() { c.write(make([]byte, -c.n&3)) }

func (c *Writer) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.err = err
}

// Read returns the plain files of an archive in the form that [Writer] writes.
func Read(b []byte) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for {
		const headLength = 110
		if len(b) < headLength || string(b[:6]) != "070701" {
			return nil, errors.New("the archive is no cpio of the newc form, or is cut off")
		}
		var field [13]uint32
		for i := range field {
			n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				return nil, fmt.Errorf("the archive has a damaged header: %w", err)
			}
			field[i] = uint32(n)
		}
		name, content := int(field[11]), int(field[6])
		begin := (headLength + name + 3) &^ 3
		end := begin + (content+3)&^3
		if name == 0 || begin > len(b) || begin+content > len(b) {
			return nil, errors.New("the archive is cut off")
		}
		path := string(bytes.TrimRight(b[headLength:headLength+name], "\x00"))
		if path == "TRAILER!!!" {
			return files, nil
		}
		if field[1]&0o170000 == typeFile {
			files[path] = b[begin : begin+content]
		}
		b = b[min(end, len(b)):]
	}
}
