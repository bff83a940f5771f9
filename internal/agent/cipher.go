package agent

import (
	"crypto/aes"
	"crypto/cipher"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// slowAES is the speed of AES-GCM, in bytes per second, below which ChaCha20-Poly1305 is faster: a processor with AES in
// hardware does ten times as much and more; one that emulates the instructions (QEMU without KVM: 24 MB/s, where
// ChaCha20-Poly1305 does 80 to 115 MB/s) does less.
const slowAES = 100e6

// preferFastCipher makes TLS ask for ChaCha20-Poly1305 where AES-GCM is slow. Go decides by the processor's
// instructions, once, when the program starts; so the program starts itself again, told that it lacks the one instruction
// in question.
func preferFastCipher() {
	const without = "cpu.pclmulqdq=off"
	debug := os.Getenv("GODEBUG")
	if strings.Contains(debug, without) || speedOfAES() > slowAES {
		return
	}
	if debug != "" {
		debug += ","
	}
	if err := os.Setenv("GODEBUG", debug+without); err != nil {
		return
	}
	// Without success it goes on with the slower cipher.
	_ = unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

func speedOfAES() float64 {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		return slowAES + 1
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return slowAES + 1
	}
	const record = 16 << 10
	buf := make([]byte, 0, record+gcm.Overhead())
	nonce := make([]byte, gcm.NonceSize())
	text := make([]byte, record)
	gcm.Seal(buf, nonce, text, nil) // once to warm up: an emulator translates on first use
	start := time.Now()
	const rounds = 4
	for range rounds {
		gcm.Seal(buf, nonce, text, nil)
	}
	return rounds * record / max(time.Since(start).Seconds(), 1e-9)
}
