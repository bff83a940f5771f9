package ipmi

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestRecorded replays what ipmitool and a BMC once said to each other: every code of the setup is what we compute, every
// packet of the session opens, every message in it parses.
func TestRecorded(t *testing.T) {
	for suite, file := range map[Suite]string{Suite3: "testdata/ipmitool-suite3.txt", Suite17: "testdata/ipmitool-suite17.txt"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		alg, _ := suite.algorithms()
		x := exchange{suite: alg, user: "admin", password: "secret"}
		var sik []byte
		var to, from *channel
		var commands []byte
		same := func(what string, got, want []byte) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("suite %d %s: got %x, want %x", suite, what, got, want)
			}
		}
		for line := range strings.Lines(string(text)) {
			direction, digits, ok := strings.Cut(strings.TrimSpace(line), " ")
			if !ok || direction == "#" {
				continue
			}
			p, err := parsePacket(unhex(t, digits))
			if err != nil { // Get Channel Authentication Capabilities, of IPMI 1.5
				continue
			}
			m := p.payload
			switch p.kind {
			case payloadOpenRequest:
				x.console = binary.LittleEndian.Uint32(m[4:])
				s := setup{exchange: x, tag: m[0] - 1}
				s.open()
				same("open session", s.packet[headerSize+8:], m[8:])
			case payloadOpenResponse:
				x.bmc = binary.LittleEndian.Uint32(m[8:])
			case payloadRAKP1:
				x.consoleRand, x.role = [16]byte(m[8:]), m[24]
				s := setup{exchange: x, tag: m[0] - 1}
				s.sendRAKP1()
				same("RAKP 1", s.packet[headerSize:], m)
			case payloadRAKP2:
				x.bmcRand, x.guid = [16]byte(m[8:]), [16]byte(m[24:])
				same("RAKP 2", x.rakp2(), m[40:])
			case payloadRAKP3:
				s := setup{exchange: x, tag: m[0] - 1}
				s.sendRAKP3(0)
				same("RAKP 3", s.packet[headerSize:], m)
			case payloadRAKP4:
				sik = x.integrityKey()
				same("RAKP 4", x.rakp4(sik), m[8:])
				to, from = newChannel(&x, suite, sik, nil), newChannel(&x, suite, sik, nil)
			case payloadMessage:
				c := map[string]*channel{">": to, "<": from}[direction]
				m, err := c.open(p)
				if err != nil {
					t.Errorf("suite %d, packet %d %s: %v", suite, p.sequence, direction, err)
					continue
				}
				if direction == "<" {
					a, ok := parseAnswer(m)
					if !ok {
						t.Errorf("suite %d: answer %x does not parse", suite, m)
					}
					commands = append(commands, a.netFn<<4|a.command&0x0f)
					continue
				}
				same("message", appendMessage(nil, Request{NetFn: m[1] >> 2, Command: m[5], Data: m[6 : len(m)-1]}, m[4]>>2), m)
			}
		}
		if len(commands) < 4 {
			t.Errorf("suite %d: answers to %s only", suite, hex.EncodeToString(commands))
		}
	}
}
