package boot

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"muster/internal/model"
)

// A boot script holds a token that makes its bearer the node, and uses up one of its network boots. The source address alone does
// not prove that the machine is booting: any user of a running node has it. So the URL of the script carries a ticket, which only
// a DHCP answer tells, and DHCP answers reach only who may open port 68: firmware, iPXE, root.

const (
	ticketArg  = "&ticket="
	ticketTime = time.Hour // a ticket holds for this hour and the next
)

// ScriptURL is where iPXE on the machine with that Ethernet address gets its boot script.
func ScriptURL(srv Server, mac string, now time.Time) string {
	url := fmt.Sprintf("http://%s:%d/boot/script?mac=%s", srv.Address, srv.HTTPPort, mac)
	if !srv.TicketKey.Empty() {
		url += ticketArg + ticket(srv.TicketKey, mac, now)
	}
	return url
}

func ticket(key model.Secret, mac string, now time.Time) string {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	fmt.Fprintf(h, "%s %d", mac, now.Unix()/int64(ticketTime/time.Second))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// ticketHolds says whether the request carries a ticket of this hour or the last.
func (r Request) ticketHolds(now time.Time) bool {
	key := r.Server.TicketKey
	return key.Empty() || hmac.Equal([]byte(r.Ticket), []byte(ticket(key, r.MAC, now))) ||
		hmac.Equal([]byte(r.Ticket), []byte(ticket(key, r.MAC, now.Add(-ticketTime))))
}
