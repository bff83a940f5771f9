package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

// administration is the API: what administrators ask and, on TLS, what nodes ask.
func (s *Server) administration() http.Handler {
	m := http.NewServeMux()
	for _, r := range []struct {
		route string
		name  string
		may   auth.Kind
		h     handler
	}{
		{"GET /v1/version", "version", auth.Administrator, (*Server).version},
		{"POST /v1/nodes/add", "node add", auth.Administrator, (*Server).addNodes},
		{"POST /v1/nodes/remove", "node remove", auth.Administrator, (*Server).removeNodes},
		{"POST /v1/nodes/rename", "node rename", auth.Administrator, (*Server).renameNodes},
		{"POST /v1/lock", "lock", auth.Administrator, (*Server).lock},
		{"POST /v1/unlock", "unlock", auth.Administrator, (*Server).unlock},
		{"POST /v1/set", "set", auth.Administrator, (*Server).setAttrs},
		{"POST /v1/get", "get", auth.Administrator, (*Server).getAttrs},
		{"POST /v1/list", "list", auth.Administrator, (*Server).listNodes},
		{"POST /v1/expand", "expand", auth.Administrator, (*Server).expandRange},
		{"POST /v1/fold", "fold", auth.Administrator, (*Server).foldNames},
		{"GET /v1/groups", "group list", auth.Administrator, (*Server).listGroups},
		{"POST /v1/groups/add", "group add", auth.Administrator, (*Server).addGroup},
		{"POST /v1/groups/remove", "group remove", auth.Administrator, (*Server).removeGroup},
		{"POST /v1/groups/rename", "group rename", auth.Administrator, (*Server).renameGroup},
		{"GET /v1/networks", "network list", auth.Administrator, listDocuments((*model.Snapshot).Networks)},
		{"POST /v1/networks/add", "network add", auth.Administrator, networks.add},
		{"POST /v1/networks/set", "network set", auth.Administrator, networks.set},
		{"POST /v1/networks/remove", "network remove", auth.Administrator, networks.remove},
		{"GET /v1/users", "user list", auth.Administrator, listDocuments((*model.Snapshot).Users)},
		{"POST /v1/users/add", "user add", auth.Administrator, users.add},
		{"POST /v1/users/set", "user set", auth.Administrator, users.set},
		{"POST /v1/users/remove", "user remove", auth.Administrator, users.remove},
		{"GET /v1/roles", "role list", auth.Administrator, listDocuments((*model.Snapshot).Roles)},
		{"POST /v1/roles/add", "role add", auth.Administrator, roles.add},
		{"POST /v1/roles/set", "role set", auth.Administrator, roles.set},
		{"POST /v1/roles/remove", "role remove", auth.Administrator, roles.remove},
		{"GET /v1/whoami", "whoami", auth.Nobody, (*Server).whoami},
		{"GET /v1/attributes", "attributes", auth.Administrator, (*Server).attributes},
		{"POST /v1/status", "status", auth.Administrator, (*Server).status},
		{"GET /v1/why/{name}", "why", auth.Administrator, (*Server).why},
		{"GET /v1/events", "events", auth.Administrator, (*Server).events},
		{"GET /v1/discovered", "discover list", auth.Administrator, (*Server).discovered},
		{"POST /v1/power", "power", auth.Administrator, (*Server).power},
		{"POST /v1/bootdev", "bootdev", auth.Administrator, (*Server).bootdev},
		{"POST /v1/deploy", "deploy", auth.Administrator, (*Server).deploy},
		{"POST /v1/run", "run", auth.Administrator, (*Server).run},
		{"POST /v1/copy", "copy", auth.Administrator, (*Server).copyFiles},
		{"POST /v1/images/build", "image build", auth.Administrator, (*Server).buildImage},
		{"GET /v1/images", "image list", auth.Administrator, (*Server).listImages},
		{"GET /v1/images/{name}", "image show", auth.Administrator, (*Server).showImage},
		{"DELETE /v1/images/{name}", "image remove", auth.Administrator, (*Server).removeImage},
		{"GET /v1/consoles", "console list", auth.Administrator, (*Server).listConsoles},
		{"GET /v1/console/{node}/log", "console", auth.Administrator, (*Server).consoleLog},
		{"GET /v1/console/{node}/attach", "console", auth.Administrator, (*Server).attachConsole},

		{"POST /v1/node/enrol", "enrol", auth.Nobody, (*Server).enrol},
		{"GET /v1/node/plan", "plan", auth.Node, (*Server).plan},
		{"GET /v1/node/file/{digest}", "file", auth.Node, (*Server).nodeFile},
		{"POST /v1/node/progress", "progress", auth.Node, (*Server).progress},
		{"POST /v1/node/up", "up", auth.Node, (*Server).up},
		{"POST /v1/node/heartbeat", "heartbeat", auth.Node, (*Server).heartbeat},
		{"POST /v1/node/renew", "renew", auth.Node, (*Server).renew},
	} {
		m.HandleFunc(r.route, s.verb(r.name, r.may, r.h))
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &api.Error{Code: api.Unknown, What: r.Method + " " + r.URL.Path, Why: "this service has no such verb", Do: "Is the client newer than the service? muster version"})
	})
	return m
}

func (s *Server) webTLS(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler, c *tls.Config) {
	s.serveHTTP(ctx, g, s.newHTTP(ctx, h), "API "+l.Addr().String(), func(srv *http.Server) error {
		return srv.Serve(tls.NewListener(l, c))
	})
}
