package ipmi

// Request is a command to the BMC's own controller (slave address 20h).
type Request struct {
	NetFn   byte
	LUN     byte // 0 to 3; sensors may live behind another one than 0
	Command byte
	Data    []byte
	// Once marks a command that must not be done twice (power cycle, reset). It is sent a single time: there are BMCs
	// (ipmi_sim is one) that do a repeated packet again, against §6.12.13.
	Once bool
}

// Addresses of the message layer (§13.8): the BMC, and the software id of a remote console.
const (
	addressBMC     = 0x20
	addressConsole = 0x81
)

func checksum(b []byte) byte {
	var s byte
	for _, c := range b {
		s += c
	}
	return -s
}

// appendMessage wraps a request as a LAN message (table 13-8). Number is 6 bits wide and comes back in the answer.
func appendMessage(b []byte, r Request, number byte) []byte {
	i := len(b)
	b = append(b, addressBMC, r.NetFn<<2|r.LUN&3)
	b = append(b, checksum(b[i:]))
	i = len(b)
	b = append(b, addressConsole, number<<2, r.Command)
	b = append(b, r.Data...)
	return append(b, checksum(b[i:]))
}

// answer is a response message taken apart. Data points into the packet.
type answer struct {
	netFn, number, command byte
	code                   Code
	data                   []byte
}

// parseAnswer reads a LAN message from the BMC; ok is false when it is damaged or no response.
func parseAnswer(b []byte) (a answer, ok bool) {
	if len(b) < 8 || checksum(b[:3]) != 0 || checksum(b[3:]) != 0 || b[1]>>2&1 == 0 {
		return answer{}, false
	}
	return answer{netFn: b[1] >> 2 &^ 1, number: b[4] >> 2, command: b[5], code: Code(b[6]), data: b[7 : len(b)-1]}, true
}
