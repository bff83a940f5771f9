package boot

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/internal/model"
)

// decideEnrol says whether a node may have a certificate for the key it sent. The token of the newest boot script is good for one
// key; the same key may ask again while the token lives, as the answer may have been lost with a killed service. The caller
// signs, and commits the identity together with the operations.
func decideEnrol(s *model.Snapshot, r Request, now time.Time) Decision {
	n, d := nodeAt(s, r)
	if c := s.Node(r.Claim); c != nil && (n == nil || n != c) && proxied(s, c) {
		n, d = c, Decision{Node: c.Name} // the token is the proof
	}
	if n == nil {
		return d.warn(StepDenied, fmt.Sprintf("an enrolment from %s was refused", r.Source))
	}
	d.Status = http.StatusForbidden
	dep := deployed(s, n.Name)
	switch {
	case dep == nil:
		d.Reason = fmt.Sprintf("nothing is deployed; muster deploy %s IMAGE", n.Name)
	case r.TokenHash == "" || r.Key == "":
		d.Reason = "the request has no token or no key"
	case dep.Phase == model.Held:
		d.Reason = "the deployment is held: " + dep.Reason
	case dep.TokenHash != r.TokenHash:
		d.Reason = "the token is not of the newest boot script; a token is made for one boot"
	case now.After(dep.TokenExpires):
		d.Reason = fmt.Sprintf("the token ended at %s, %s after its boot script", dep.TokenExpires.UTC().Format(time.RFC3339), TokenLife)
	case dep.TokenKey != "" && dep.TokenKey != r.Key:
		d.Reason = "the token was used already, with another key"
	}
	if d.Reason != "" {
		return d.warn(StepDenied, fmt.Sprintf("an enrolment from %s was refused", r.Source))
	}
	d.Status = http.StatusOK
	if dep.TokenKey == r.Key {
		d.Reason = "the same key asked again with its token; the first answer may have been lost"
		return d.tell(StepEnrolled, "the node was given its certificate again")
	}
	next := *dep
	if dep.Phase == model.Booting {
		next, _ = dep.To(model.Enrolled, now, s.Limit(n, model.Enrolled)) // booting is always followed by it
	}
	next.TokenKey = r.Key
	d.Reason = "it sent the token of the newest boot script, the first time"
	return d.put(next).tell(StepEnrolled, "the node was given its certificate")
}

// proxied says that a node's address is another DHCP server's.
func proxied(s *model.Snapshot, n *model.Node) bool {
	macs, _ := s.Attrs(n, []string{"net.*.mac"})
	return slices.ContainsFunc(macs, func(v model.Value) bool {
		mode, _ := s.Attr(n, model.AttrName(strings.TrimSuffix(string(v.Name), "mac")+"mode"))
		return mode == model.ModeProxy
	})
}
