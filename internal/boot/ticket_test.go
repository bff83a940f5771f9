package boot

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"muster/internal/model"
)

func TestScript_needs_the_ticket_of_a_DHCP_answer(t *testing.T) {
	srv := here
	srv.TicketKey = model.NewSecret("0123456789abcdef")
	s := snapshot(t, nil, &armed)
	offer := Decide(s, Request{Stage: StageDHCP, Server: srv, MAC: mac1, Type: DHCPDiscover, IPXE: true}, noon)
	if offer.Lease == nil {
		t.Fatalf("no offer: %s", offer.Reason)
	}
	_, good, ok := strings.Cut(offer.Lease.BootFile, ticketArg)
	if !ok || offer.Lease.BootFile != ScriptURL(srv, mac1, noon) {
		t.Fatalf("the offer names %s", offer.Lease.BootFile)
	}
	if len(offer.Lease.BootFile) > 127 {
		t.Errorf("%d octets do not fit into the field file of DHCP", len(offer.Lease.BootFile))
	}
	for _, e := range offer.Events {
		if strings.Contains(e.What+e.Reason, good) {
			t.Errorf("the timeline shows the ticket: %+v", e)
		}
	}
	for _, c := range []struct {
		name, ticket string
		at           time.Time
		want         int
	}{
		{"its own", good, noon, http.StatusOK},
		{"its own, within the hour", good, noon.Add(50 * time.Minute), http.StatusOK},
		{"its own, too late", good, noon.Add(3 * time.Hour), http.StatusForbidden},
		{"none", "", noon, http.StatusForbidden},
		{"another machine's", ticket(srv.TicketKey, "52:54:00:77:00:99", noon), noon, http.StatusForbidden},
		{"of another key", ticket(model.NewSecret("x"), mac1, noon), noon, http.StatusForbidden},
	} {
		d := Decide(s, Request{Stage: StageScript, Server: srv, MAC: mac1, Source: at1, Ticket: c.ticket, Token: model.NewSecret(secret), TokenHash: "h1"}, c.at)
		if d.Status != c.want {
			t.Errorf("%s: status %d, want %d: %s", c.name, d.Status, c.want, d.Reason)
		}
		if c.want != http.StatusOK && len(d.Ops) > 0 {
			t.Errorf("%s: a refused request used up a network boot", c.name)
		}
	}
}
