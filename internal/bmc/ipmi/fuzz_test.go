package ipmi

import (
	"errors"
	"strings"
	"testing"

	"muster/internal/bmc"
	wire "muster/internal/wire/ipmi"
)

// FuzzSettings reads all settings of a controller that answers everything with the same octets: what can be read can be set again, and is the same then.
func FuzzSettings(f *testing.F) {
	f.Add([]byte{0x11, 10, 0, 0, 5})
	f.Add([]byte{0x11, 70, 0x80, 0, 0, 0, 0, 0})
	f.Add([]byte{0x02, 0x42, 0x01, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ask := func(wire.Request) ([]byte, error) { return b, nil }
		for name, v := range lanValues {
			s, err := v.read(ask, 1)
			if err != nil || v.parse == nil {
				continue
			}
			if data, err := v.parse(s); err == nil && v.text(data) != s {
				t.Errorf("%s=%q is %q when set", name, s, v.text(data))
			}
		}
		for name, v := range solValues {
			data, err := readSOL(ask, 1, v)
			if err != nil {
				continue
			}
			if s := v.text(data); v.set(data, s) == nil && v.text(data) != s {
				t.Errorf("%s=%q is %q when set", name, s, v.text(data))
			}
		}
		if w, err := readWatchdog(ask); err == nil {
			for name, v := range watchdogValues {
				if s, now := v.text(w), w; v.set(&now, s) == nil && v.text(now) != s {
					t.Errorf("%s=%q is %q when set", name, s, v.text(now))
				}
			}
		}
		if err := readUsers(ask, 1, func(name, value string, _ bool) {
			if !strings.HasPrefix(name, "user.") {
				t.Errorf("%s=%s", name, value)
			}
		}); err != nil {
			var w *wire.Error
			if !errors.As(err, &w) {
				t.Error(err)
			}
		}
	})
}

// FuzzSet checks settings of any names and values: a password is never told again.
func FuzzSet(f *testing.F) {
	f.Add("lan.address", "10.0.0.1")
	f.Add("user.2.password", "in the clear")
	f.Add("user.70.name", "x")
	f.Add("sol.rate", "9600")
	f.Add("watchdog.seconds", "1e3")
	f.Fuzz(func(t *testing.T, name, value string) {
		all, err := check([]bmc.Setting{{Name: name, Value: value}})
		if err == nil && len(all) != 1 {
			t.Fatalf("%d changes", len(all))
		}
		if err != nil && strings.HasSuffix(name, ".password") && len(value) > 12 && !strings.Contains(name, value) && strings.Contains(err.Error(), value) {
			t.Errorf("%v tells a password", err)
		}
		if value == "" {
			return
		}
		secret := []bmc.Setting{{Name: name, Secret: secret(value)}}
		if _, err := check(secret); err != nil && len(value) > 12 && !strings.Contains(name, value) && strings.Contains(err.Error(), value) {
			t.Errorf("%v tells a secret", err)
		}
	})
}
