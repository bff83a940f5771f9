package ipmi

// units are those of table 43-15, in the signs that people write.
var units = [...]string{
	"", "°C", "°F", "K", "V", "A", "W", "J", "C", "VA", "nit", "lm", "lx", "cd", "kPa", "psi", "N", "CFM", "RPM", "Hz",
	"µs", "ms", "s", "min", "h", "d", "weeks", "mil", "in", "ft", "in³", "ft³", "mm", "cm", "m", "cm³", "m³", "l", "fl oz", "rad",
	"sr", "revolutions", "cycles", "g", "oz", "lb", "ft-lb", "oz-in", "G", "Gb", "H", "mH", "F", "µF", "Ω", "S", "mol", "Bq", "ppm", "",
	"dB", "dBA", "dBC", "Gy", "Sv", "K", "bit", "kbit", "Mbit", "Gbit", "B", "kB", "MB", "GB", "words", "dwords", "qwords", "lines", "hits", "misses",
	"retries", "resets", "overruns", "underruns", "collisions", "packets", "messages", "characters", "errors", "correctable errors", "uncorrectable errors",
	"fatal errors", "grams",
}

var rates = [...]string{"", "µs", "ms", "s", "min", "h", "d", ""}

// unitText names the unit of a sensor by the three octets of its record (§43.1, octets 21 to 23).
func unitText(flags, base, modifier byte) string {
	at := func(i byte) string {
		if int(i) < len(units) {
			return units[i]
		}
		return ""
	}
	s := at(base)
	switch flags >> 1 & 3 {
	case 1:
		s += "/" + at(modifier)
	case 2:
		s += "·" + at(modifier)
	}
	if r := rates[flags>>3&7]; r != "" && base != 18 && base != 17 && base != 19 { // those are rates by themselves
		s += "/" + r
	}
	if flags&1 != 0 {
		s = "%" + s
	}
	return s
}
