package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Faults is what a controller and the network to it do wrong. The zero value does nothing wrong.
type Faults struct {
	Dead      bool          // answers nothing; over Redfish a connection is taken and never answered
	Drop      float64       // share of packets that is lost, each way; of connections that break in the middle
	Duplicate float64       // share of answers that comes twice; IPMI only
	Reorder   float64       // share of answers that comes after the next one; IPMI only
	Delay     time.Duration // of every answer
	Password  bool          // all passwords are other ones
	Hang      bool          // an update of firmware stops half way; Redfish only
	Renew     int           // times that the certificate was made anew; Redfish only
}

// Slow is the delay of a controller that is slow.
const Slow = 1500 * time.Millisecond

// ParseFaults applies words to faults and returns the outcome. Words: none, dead, slow, drop=30%, duplicate=5%, reorder=10%, delay=200ms,
// password=wrong, firmware=hang, certificate=new; alive, password=right and firmware=ok take theirs back. All that is
// wrong is in the error.
func ParseFaults(f Faults, words []string) (Faults, error) {
	var wrong []string
	for _, w := range words {
		key, value, has := strings.Cut(w, "=")
		err := f.set(key, value, has)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%q: %v", w, err))
		}
	}
	if wrong != nil {
		return Faults{}, fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return f, nil
}

func (f *Faults) set(key, value string, has bool) (err error) {
	choose := func(what ...string) (int, error) {
		i := slices.Index(what, value)
		if i < 0 {
			return 0, fmt.Errorf("%s is %s", key, strings.Join(what, " or "))
		}
		return i, nil
	}
	n := 0
	switch {
	case key == "none" && !has:
		*f = Faults{Renew: f.Renew}
	case key == "dead" && !has:
		f.Dead = true
	case key == "alive" && !has:
		f.Dead = false
	case key == "slow" && !has:
		f.Delay = Slow
	case key == "drop":
		f.Drop, err = share(value)
	case key == "duplicate":
		f.Duplicate, err = share(value)
	case key == "reorder":
		f.Reorder, err = share(value)
	case key == "delay":
		f.Delay, err = time.ParseDuration(value)
		if err == nil && (f.Delay < 0 || f.Delay > time.Minute) {
			err = fmt.Errorf("a delay is between 0s and 1m")
		}
	case key == "password":
		n, err = choose("right", "wrong")
		f.Password = n == 1
	case key == "firmware":
		n, err = choose("ok", "hang")
		f.Hang = n == 1
	case key == "certificate":
		if _, err = choose("new"); err == nil {
			f.Renew++
		}
	default:
		err = fmt.Errorf("no such fault; there are none, dead, alive, slow, drop=, duplicate=, reorder=, delay=, password=, firmware= and certificate=")
	}
	return err
}

// share reads "30%" or "0.3" as 0.3.
func share(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("%q is no share: write 5%% or 0.05", s)
	}
	return v, nil
}
