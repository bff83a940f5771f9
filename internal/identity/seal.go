package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"muster/internal/model"
)

// sealPrefix begins every sealed envelope: "sealed:v1:" and base64 of nonce and ciphertext.
const sealPrefix = "sealed:v1:"

type sealer struct {
	gcm cipher.AEAD
	key []byte
}

func newSealer(key []byte) (sealer, error) {
	if len(key) != 32 {
		return sealer{}, fmt.Errorf("the sealing key has %d bytes, not 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, err
	}
	gcm, err := cipher.NewGCM(block)
	return sealer{gcm, key}, err
}

// Seal wraps a secret with AES-256-GCM under the site's sealing key, a fresh nonce each time.
func (a *Authority) Seal(s model.Secret) (string, error) {
	nonce := make([]byte, a.seal.gcm.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	box := a.seal.gcm.Seal(nonce, nonce, []byte(s.Reveal()), []byte(sealPrefix))
	return sealPrefix + base64.RawStdEncoding.EncodeToString(box), nil
}

// Sealed says whether a text is a sealed envelope.
func Sealed(text string) bool { return strings.HasPrefix(text, sealPrefix) }

// Unseal opens what Seal made. A text that was altered, or sealed under another key, is an error.
func (a *Authority) Unseal(text string) (model.Secret, error) {
	if text == "" {
		return model.Secret{}, nil
	}
	body, ok := strings.CutPrefix(text, sealPrefix)
	if !ok {
		return model.Secret{}, errors.New("secret: not a sealed envelope. Set it again")
	}
	box, err := base64.RawStdEncoding.DecodeString(body)
	n := a.seal.gcm.NonceSize()
	if err != nil || len(box) < n {
		return model.Secret{}, errors.New("secret: the sealed envelope is damaged. Set it again")
	}
	plain, err := a.seal.gcm.Open(nil, box[:n], box[n:], []byte(sealPrefix))
	if err != nil {
		return model.Secret{}, errors.New("secret: sealed under another key, or damaged. Put keys/seal.key back from a backup, or set it again")
	}
	return model.NewSecret(string(plain)), nil
}
