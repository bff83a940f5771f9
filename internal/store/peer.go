package store

import (
	"net/http"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"go.uber.org/zap"
)

// stalled is how long a connection to another member may take no byte. etcd sets the same limit on its own listeners: without it a
// stream to a host that vanished is held until TCP gives up, a quarter of an hour, and the host that came back is not heard.
const stalled = 5 * time.Second

const peerURLs = "X-PeerURLs"

// peerHandler serves the peers of m: raft's messages and streams, the database for one that missed much, membership. Options.Mount has it for
//
//	/raft, /raft/…, /members, /members/promote/…, /leases, /leases/internal, /version, /downgrade/enabled
//
// Requests of /raft/stream/… go on as long as the other member lives, so the server's own time limits must not apply to them: the handler
// takes them off its connection, and gives up a connection that takes nothing for long.
//
// urls say where members are reached that m has not heard of in the pool's log yet, by their numbers in
// hex; nil when m knows all.
func peerHandler(lg *zap.Logger, m *etcdserver.EtcdServer, urls map[string]string) http.Handler {
	etcd := etcdhttp.NewPeerHandler(lg, m)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// etcd answers a member that it does not know yet at the address in this header; the one that has been running since it was
		// alone still says there that it has none.
		if strings.HasPrefix(r.Header.Get(peerURLs), "unix:") {
			r.Header.Del(peerURLs)
		}
		if at := urls[r.Header.Get("X-Server-From")]; at != "" {
			r.Header.Set(peerURLs, at)
		}
		c := http.NewResponseController(w)
		_ = c.SetReadDeadline(time.Time{}) // a database is sent in one request
		_ = c.SetWriteDeadline(time.Time{})
		etcd.ServeHTTP(&peerWriter{w, c}, r)
	})
}

// peerWriter gives every piece of an answer its own time limit: a message may be of a hundred megabytes.
type peerWriter struct {
	http.ResponseWriter
	c *http.ResponseController
}

func (w *peerWriter) Write(b []byte) (n int, err error) {
	const piece = 256 << 10
	for err == nil && n < len(b) {
		var m int
		_ = w.c.SetWriteDeadline(time.Now().Add(stalled))
		m, err = w.ResponseWriter.Write(b[n:min(n+piece, len(b))])
		n += m
	}
	return n, err
}

// Flush is what rafthttp asks of an answer that is a stream.
func (w *peerWriter) Flush() {
	_ = w.c.SetWriteDeadline(time.Now().Add(stalled))
	_ = w.c.Flush()
}

func (w *peerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
