package ipmi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"strconv"
)

// Suite is a cipher suite by its number in table 22-20.
type Suite int

// The suites that this room knows.
const (
	Suite3  Suite = 3  // RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128
	Suite17 Suite = 17 // RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128
)

func (s Suite) String() string {
	if s == IPMI15 {
		return "IPMI 1.5, MD5"
	}
	return "suite " + strconv.Itoa(int(s))
}

// algorithms of a suite: their numbers on the wire (§13.28) and what they are.
type algorithms struct {
	authentication, integrity, confidentiality byte
	new                                        func() hash.Hash
	code                                       int // octets of a packet's authentication code and of RAKP 4's check value
}

func (s Suite) algorithms() (algorithms, bool) {
	switch s {
	case Suite3:
		return algorithms{1, 1, 1, sha1.New, 12}, true
	case Suite17:
		return algorithms{3, 4, 1, sha256.New, 16}, true
	}
	return algorithms{}, false
}

// exchange is what both sides know when the keys are made (§13.31).
type exchange struct {
	suite                algorithms
	console, bmc         uint32 // session ids
	consoleRand, bmcRand [16]byte
	guid                 [16]byte
	role                 byte // as sent in RAKP 1, name-only bit included
	user, password       string
}

func (x *exchange) mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(x.suite.new, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// name is the tail of every code of the exchange: role, length of the user's name, the name.
func (x *exchange) name() []byte {
	return append([]byte{x.role, byte(len(x.user))}, x.user...)
}

// rakp2 is the code by which the BMC proves that it knows the password.
func (x *exchange) rakp2() []byte {
	return x.mac([]byte(x.password), le32(x.console), le32(x.bmc), x.consoleRand[:], x.bmcRand[:], x.guid[:], x.name())
}

// rakp3 is the code by which we prove it.
func (x *exchange) rakp3() []byte {
	return x.mac([]byte(x.password), x.bmcRand[:], le32(x.console), x.name())
}

// integrityKey is the session integrity key, of which all others are made. A BMC with a key of its own (K_G) would use
// that in place of the password; we have none, so such a BMC fails at RAKP 4.
func (x *exchange) integrityKey() []byte {
	return x.mac([]byte(x.password), x.consoleRand[:], x.bmcRand[:], x.name())
}

// rakp4 is the check value with which the BMC shows that it made the same integrity key.
func (x *exchange) rakp4(sik []byte) []byte {
	return x.mac(sik, x.consoleRand[:], le32(x.bmc), x.guid[:])[:x.suite.code]
}

// constant is the n-th constant of §13.32: 20 times the octet n.
func constant(n byte) []byte {
	var c [20]byte
	for i := range c {
		c[i] = n
	}
	return c[:]
}

// channel is an open session: it makes packets and opens them.
type channel struct {
	console, bmc uint32
	suite        Suite
	size         int       // octets of an authentication code
	mac          hash.Hash // keyed with K1
	aes          cipher.Block
	rand         func([]byte)
	out          uint32 // sequence number of the newest packet sent
	in           window
	old          *oldSession // not nil: a session of IPMI 1.5, that has none of the above but ids, sequence and window
}

func newChannel(x *exchange, suite Suite, sik []byte, rand func([]byte)) *channel {
	block, err := aes.NewCipher(x.mac(sik, constant(2))[:16])
	if err != nil {
		panic("ipmi: 16 octets are an AES key: " + err.Error())
	}
	return &channel{
		console: x.console, bmc: x.bmc, suite: suite, size: x.suite.code, rand: rand,
		mac: hmac.New(x.suite.new, x.mac(sik, constant(1))), aes: block,
	}
}

// seal makes the next packet of the session.
func (c *channel) seal(kind payloadType, encrypt bool, payload []byte) []byte {
	if c.out++; c.out == 0 {
		c.out = 1
	}
	if c.old != nil {
		return appendOld(c.old.authentication, c.old.password, c.bmc, c.out, payload)
	}
	const block = aes.BlockSize
	flags, n := byte(0x40), len(payload)
	if encrypt {
		flags |= 0x80
		n = block + (len(payload)+1+block-1)/block*block
	}
	b := make([]byte, 0, headerSize+n+5+sha256.Size)
	b = appendHeader(b, kind, flags, c.bmc, c.out, n)
	if encrypt {
		iv := b[len(b) : len(b)+block]
		c.rand(iv)
		b = append(b[:len(b)+block], payload...)
		fill := n - block - len(payload) - 1
		for i := range fill {
			b = append(b, byte(i+1))
		}
		b = append(b, byte(fill))
		text := b[headerSize+block:]
		cipher.NewCBCEncrypter(c.aes, iv).CryptBlocks(text, text)
	} else {
		b = append(b, payload...)
	}
	fill := pad(len(b) - rmcpSize)
	for range fill {
		b = append(b, 0xff)
	}
	b = append(b, byte(fill), 0x07)
	c.mac.Reset()
	c.mac.Write(b[rmcpSize:])
	end := len(b) + c.size
	return c.mac.Sum(b)[:end]
}

var (
	errForged = errors.New("authentication code does not fit")
	errReplay = errors.New("sequence number was seen before")
	errCipher = errors.New("cannot be decrypted")
)

// open proves a packet of the session and returns its payload in the clear. The packet is changed by it.
func (c *channel) open(p packet) ([]byte, error) {
	if !p.authenticated || len(p.code) != c.size {
		return nil, errForged
	}
	c.mac.Reset()
	c.mac.Write(p.signed)
	var sum [sha256.Size]byte
	if !hmac.Equal(c.mac.Sum(sum[:0])[:c.size], p.code) {
		return nil, errForged
	}
	if !c.in.take(p.sequence) {
		return nil, errReplay
	}
	if !p.encrypted {
		return p.payload, nil
	}
	const block = aes.BlockSize
	if len(p.payload) < 2*block || len(p.payload)%block != 0 {
		return nil, errCipher
	}
	text := p.payload[block:]
	cipher.NewCBCDecrypter(c.aes, p.payload[:block]).CryptBlocks(text, text)
	// Some controllers fill with other octets than 01 02 03…: only the count is used.
	fill := int(text[len(text)-1])
	if fill >= len(text) || fill > block {
		return nil, errCipher
	}
	return text[:len(text)-1-fill], nil
}
