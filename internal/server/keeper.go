package server

import (
	"hash/fnv"
	"net/http"
	"net/http/httputil"
	"slices"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// asHeader says for whom a manager hands a request on.
const asHeader = "Muster-As"

// keeper is the manager that keeps a node's console and watches its power: of those that are alive, the one with the highest hash of both names,
// so that one which dies hands over only what it kept (rendezvous hashing, Thaler and Ravishankar 1998). A BMC has one serial
// line to give.
func (s *Server) keeper(node model.NodeName) model.ManagerName {
	return keeper(s.keepers(), node)
}

// keepers are the managers among which the nodes are shared.
func (s *Server) keepers() []model.ManagerName {
	if !s.pooled() {
		return []model.ManagerName{s.name()}
	}
	return s.store.Alive()
}

func keeper(alive []model.ManagerName, node model.NodeName) model.ManagerName {
	var best model.ManagerName
	var most uint64
	for _, m := range alive {
		h := fnv.New64a()
		_, _ = h.Write([]byte(m))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(node))
		if v := mix(h.Sum64()); best == "" || v > most {
			best, most = m, v
		}
	}
	return best
}

// mix spreads the bits of FNV, whose high ones hardly depend on the last letters (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// pooled says that there are several managers.
func (s *Server) pooled() bool {
	n := 0
	for m := range s.store.Snapshot().Managers() {
		if m.TokenHash == "" {
			n++
		}
	}
	return n > 1
}

// handOn hands a request about a node's console to the manager that keeps it, and says whether it did. What was handed on is not handed on
// again.
func (s *Server) handOn(q *request, node model.NodeName) (bool, error) {
	return s.handOnTo(q, s.keeper(node), node, "console")
}

// handOnTo hands a request to that manager, which has what is asked for.
func (s *Server) handOnTo(q *request, m model.ManagerName, node model.NodeName, what string) (bool, error) {
	if m == s.name() || q.who.Manager != "" {
		return false, nil
	}
	if since := s.cutOff(); !since.IsZero() { // who lives is not known here any more
		return false, &api.Error{
			Code: api.Minority, What: what, Why: "this manager has been cut off from the majority since " + since.Format(time.RFC3339) + ", and does not know who keeps it",
			Do: "Ask another manager; see: muster manager list", Node: string(node),
		}
	}
	doc := q.snap.Manager(m)
	if doc == nil || len(doc.Addresses) == 0 || !slices.Contains(s.store.Alive(), m) {
		return false, &api.Error{Code: api.Failed, What: what, Why: "no live manager keeps it at the moment", Do: "Ask again in some seconds; see: muster manager list", Node: string(node)}
	}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", doc.Addresses[0], doc.Addresses[0]
			r.Out.Header.Set(asHeader, q.who.Name)
			r.Out.Header.Del("Origin") // it was looked at, and is of this manager
		},
		Transport:     s.peers.http.Transport,
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			fail(w, &api.Error{Code: api.Failed, What: what, Why: "manager " + string(m) + ", which keeps it, does not answer: " + err.Error(), Do: "Ask again in some seconds; see: muster manager list", Node: string(node)})
		},
	}
	p.ServeHTTP(q.w, q.Request)
	return true, nil
}
