package store

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// A member that is behind the others has not heard of a new one yet: that is no removal.
func TestMembersWith_asks_until_one_knows_the_member(t *testing.T) {
	says := func(ids ...types.ID) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			var all []*membership.Member
			for _, id := range ids {
				all = append(all, &membership.Member{ID: id, RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"https://" + id.String()}}})
			}
			w.Header().Set("X-Etcd-Cluster-Id", "1")
			_ = json.NewEncoder(w).Encode(all)
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	behind, knows := says(1, 2), says(1, 2, 3)
	all, err := membersWith(t.Context(), types.ID(3).String(), []string{behind, "http://127.0.0.1:1", knows}, PeerFiles{})
	if err != nil || len(all) != 3 {
		t.Errorf("%d members, %v", len(all), err)
	}
	if _, err := membersWith(t.Context(), types.ID(3).String(), []string{"http://127.0.0.1:1"}, PeerFiles{}); err == nil {
		t.Error("nobody answers, and there is no error")
	}
}
