package java

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
)

// digestNames are the other names of algorithms that Java's MessageDigest knows.
var digestNames = map[string]string{
	"SHA": "SHA-1", "SHA1": "SHA-1", "1.3.14.3.2.26": "SHA-1",
	"SHA224": "SHA-224", "SHA256": "SHA-256", "SHA384": "SHA-384", "SHA512": "SHA-512", "SHA512/224": "SHA-512/224", "SHA512/256": "SHA-512/256",
	"2.16.840.1.101.3.4.2.1": "SHA-256", "2.16.840.1.101.3.4.2.2": "SHA-384", "2.16.840.1.101.3.4.2.3": "SHA-512", "2.16.840.1.101.3.4.2.4": "SHA-224",
	"2.16.840.1.101.3.4.2.5": "SHA-512/224", "2.16.840.1.101.3.4.2.6": "SHA-512/256", "2.16.840.1.101.3.4.2.7": "SHA3-224",
	"2.16.840.1.101.3.4.2.8": "SHA3-256", "2.16.840.1.101.3.4.2.9": "SHA3-384", "2.16.840.1.101.3.4.2.10": "SHA3-512",
}

// newDigest is a hash by Java's name for it, or nil.
func newDigest(algorithm string) hash.Hash {
	name := strings.ToUpper(algorithm)
	if oid, ok := strings.CutPrefix(name, "OID."); ok && oid != "" && isDigit(rune(oid[0])) {
		name = oid
	}
	if other, ok := digestNames[name]; ok {
		name = other
	}
	switch name {
	case "MD2":
		return new(md2)
	case "MD5":
		return md5.New()
	case "SHA-1":
		return sha1.New()
	case "SHA-224":
		return sha256.New224()
	case "SHA-256":
		return sha256.New()
	case "SHA-384":
		return sha512.New384()
	case "SHA-512":
		return sha512.New()
	case "SHA-512/224":
		return sha512.New512_224()
	case "SHA-512/256":
		return sha512.New512_256()
	case "SHA3-224":
		return sha3.New224()
	case "SHA3-256":
		return sha3.New256()
	case "SHA3-384":
		return sha3.New384()
	case "SHA3-512":
		return sha3.New512()
	}
	return nil
}

// HasDigest says whether there is an algorithm of this name.
func HasDigest(algorithm string) bool { return newDigest(algorithm) != nil }

// Digest is what the built-in digest() gives; ok says whether there is such an algorithm. It has panc's two peculiarities: of the UTF-8 of
// the message only as many bytes count as the message has UTF-16 units, and zeros at the front of the result are left out.
func Digest(algorithm, message string) (hexadecimal string, ok bool) {
	h := newDigest(algorithm)
	if h == nil {
		return "", false
	}
	data := Output(message)
	h.Write([]byte(data[:min(Length(message), len(data))]))
	text := strings.TrimLeft(hex.EncodeToString(h.Sum(nil)), "0")
	if text == "" {
		text = "0"
	}
	return text, true
}

// md2 is MD2 (RFC 1319), which no Go library has. The zero value is ready.
type md2 struct {
	state, sum [16]byte
	rest       []byte
}

func (m *md2) Size() int      { return 16 }
func (m *md2) BlockSize() int { return 16 }
func (m *md2) Reset()         { *m = md2{} }

func (m *md2) Write(p []byte) (int, error) {
	m.rest = append(m.rest, p...)
	for len(m.rest) >= 16 {
		m.block([16]byte(m.rest))
		m.rest = m.rest[16:]
	}
	return len(p), nil
}

// Sum pads with bytes that say how many they are, then adds the checksum.
func (m *md2) Sum(b []byte) []byte {
	last := *m
	var block [16]byte
	n := copy(block[:], m.rest)
	for i := n; i < 16; i++ {
		block[i] = byte(16 - n)
	}
	last.block(block)
	last.block(last.sum)
	return append(b, last.state[:]...)
}

func (m *md2) block(data [16]byte) {
	var x [48]byte
	copy(x[:], m.state[:])
	carry := m.sum[15]
	for i, c := range data {
		x[16+i], x[32+i] = c, c^m.state[i]
		m.sum[i] ^= md2Table[c^carry]
		carry = m.sum[i]
	}
	t := byte(0)
	for round := range 18 {
		for i := range x {
			x[i] ^= md2Table[t]
			t = x[i]
		}
		t += byte(round)
	}
	copy(m.state[:], x[:])
}

// md2Table is a permutation of the bytes made of the digits of pi (RFC 1319, section 3.2).
var md2Table = [256]byte{
	41, 46, 67, 201, 162, 216, 124, 1, 61, 54, 84, 161, 236, 240, 6, 19, 98, 167, 5, 243, 192, 199, 115, 140,
	152, 147, 43, 217, 188, 76, 130, 202, 30, 155, 87, 60, 253, 212, 224, 22, 103, 66, 111, 24, 138, 23, 229, 18,
	190, 78, 196, 214, 218, 158, 222, 73, 160, 251, 245, 142, 187, 47, 238, 122, 169, 104, 121, 145, 21, 178, 7, 63,
	148, 194, 16, 137, 11, 34, 95, 33, 128, 127, 93, 154, 90, 144, 50, 39, 53, 62, 204, 231, 191, 247, 151, 3,
	255, 25, 48, 179, 72, 165, 181, 209, 215, 94, 146, 42, 172, 86, 170, 198, 79, 184, 56, 210, 150, 164, 125, 182,
	118, 252, 107, 226, 156, 116, 4, 241, 69, 157, 112, 89, 100, 113, 135, 32, 134, 91, 207, 101, 230, 45, 168, 2,
	27, 96, 37, 173, 174, 176, 185, 246, 28, 70, 97, 105, 52, 64, 126, 15, 85, 71, 163, 35, 221, 81, 175, 58,
	195, 92, 249, 206, 186, 197, 234, 38, 44, 83, 13, 110, 133, 40, 132, 9, 211, 223, 205, 244, 65, 129, 77, 82,
	106, 220, 55, 200, 108, 193, 171, 250, 36, 225, 123, 8, 12, 189, 177, 74, 120, 136, 149, 139, 227, 99, 232, 109,
	233, 203, 213, 254, 59, 0, 29, 57, 242, 239, 183, 14, 102, 88, 208, 228, 166, 119, 114, 248, 235, 117, 75, 10,
	49, 68, 80, 180, 143, 237, 31, 26, 219, 153, 141, 51, 159, 17, 131, 20,
}
