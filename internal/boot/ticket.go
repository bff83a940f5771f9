package boot

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"muster/internal/model"
)

// A boot script holds a token that makes its bearer the node, and uses up one of its network boots. The source address alone does
// not prove that the machine is booting: any user of a running node has it. So the URL of the script carries a ticket, which only
// a DHCP answer tells, and DHCP answers reach only who may open port 68: firmware, iPXE, root.

const (
	ticketArg  = "&ticket="
	ticketTime = time.Hour // a ticket holds for this hour and the next
	ticketLen  = 16        // octets
)

// ScriptURL is where iPXE on the machine with that Ethernet address gets its boot script.
func ScriptURL(srv Server, mac string, now time.Time) string {
	url := srv.url("/boot/script?mac=" + mac)
	if !srv.TicketKey.Empty() {
		url += ticketArg + ticket(srv.TicketKey, mac, now)
	}
	return url
}

func ticket(key model.Secret, mac string, now time.Time) string {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	fmt.Fprintf(h, "%s %d", mac, now.Unix()/int64(ticketTime/time.Second))
	return hex.EncodeToString(h.Sum(nil)[:ticketLen])
}

// ticketHolds says whether the request carries a ticket of this hour or the last.
func (r Request) ticketHolds(now time.Time) bool {
	key := r.Server.TicketKey
	return key.Empty() || hmac.Equal([]byte(r.Ticket), []byte(ticket(key, r.MAC, now))) ||
		hmac.Equal([]byte(r.Ticket), []byte(ticket(key, r.MAC, now.Add(-ticketTime))))
}

// who is the directory of a name by which a machine asks for a file when its address does not tell who it is, or does not prove
// enough: its Ethernet address and a ticket, "525400770001-0123456789abcdef0123456789abcdef".
func (r Request) who() string {
	return strings.ReplaceAll(r.MAC, ":", "") + "-" + ticket(r.Server.TicketKey, r.MAC, r.at)
}

// cutWho takes that directory off a name, and reads it. The shim puts two slashes between it and GRUB's name.
func (r Request) cutWho() Request {
	dir, rest, ok := strings.Cut(r.Path, "/")
	mac, ticket, dash := strings.Cut(dir, "-")
	if !ok || !dash || len(mac) != 12 || len(ticket) != 2*ticketLen || !isHex(mac) || !isHex(ticket) {
		return r
	}
	r.MAC = mac[0:2] + ":" + mac[2:4] + ":" + mac[4:6] + ":" + mac[6:8] + ":" + mac[8:10] + ":" + mac[10:12]
	r.Ticket, r.Path = ticket, strings.TrimLeft(rest, "/")
	return r
}

func isHex(text string) bool { return strings.Trim(text, "0123456789abcdef") == "" }
