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

// route is one verb of the API. The mux and the API's description are both made of the list of them.
type route struct {
	pattern string // method and path
	verb    string
	may     auth.Kind
	do      handler
	// in is the request's document; of GET and DELETE, and where body is set, the parameters of its URL. Nil: none.
	in any
	// out is how it is answered.
	out reply
	// body is the media type of a request's body that is no document.
	body string
}

// reply is what a route answers: one document, JSON lines of a document, server-sent events with documents, bytes, a web socket. Several
// are the client's choice, by Accept or by a parameter.
type reply struct {
	one      any
	lines    any
	trailer  bool           // the lines end with an api.Trailer
	events   map[string]any // documents by the name of the event; "" is any other name
	bytes    bool
	upgrades bool
}

func one(doc any) reply   { return reply{one: doc} }
func lines(doc any) reply { return reply{lines: doc, trailer: true} }

func (s *Server) routes() []route {
	const (
		admin  = auth.Administrator
		node   = auth.Node
		nobody = auth.Nobody
	)
	return []route{
		{"GET /v1/openapi.json", "openapi", admin, (*Server).openAPI, nil, one(map[string]any{}), ""},
		{"GET /v1/version", "version", admin, (*Server).version, nil, one(api.Version{}), ""},
		{"GET /v1/nodes", "get", admin, (*Server).showNodes, api.NodesQuery{}, reply{one: api.Nodes{}, lines: api.Node{}, trailer: true}, ""},
		{"GET /v1/nodes/{name}", "get", admin, (*Server).showNode, api.NodeQuery{}, one(api.Node{}), ""},
		{"POST /v1/nodes/add", "node add", admin, (*Server).addNodes, api.AddNodes{}, one(api.Changed{}), ""},
		{"POST /v1/nodes/remove", "node remove", admin, (*Server).removeNodes, api.RemoveNodes{}, one(api.Changed{}), ""},
		{"POST /v1/nodes/rename", "node rename", admin, (*Server).renameNodes, api.RenameNodes{}, one(api.Changed{}), ""},
		{"POST /v1/lock", "lock", admin, (*Server).lock, api.LockNodes{}, one(api.Changed{}), ""},
		{"POST /v1/unlock", "unlock", admin, (*Server).unlock, api.UnlockNodes{}, one(api.Changed{}), ""},
		{"POST /v1/take", "take", admin, (*Server).take, api.TakeNodes{}, one(api.Changed{}), ""},
		{"POST /v1/release", "release", admin, (*Server).release, api.ReleaseNodes{}, one(api.Changed{}), ""},
		{"POST /v1/set", "set", admin, (*Server).setAttrs, api.SetAttrs{}, one(api.Changed{}), ""},
		{"POST /v1/get", "get", admin, (*Server).getAttrs, api.GetAttrs{}, lines(api.NodeAttrs{}), ""},
		{"POST /v1/list", "list", admin, (*Server).listNodes, api.ListNodes{}, one(api.Names{}), ""},
		{"POST /v1/expand", "expand", admin, (*Server).expandRange, api.Expand{}, one(api.Names{}), ""},
		{"POST /v1/fold", "fold", admin, (*Server).foldNames, api.Fold{}, one(api.Names{}), ""},
		{"GET /v1/groups", "group list", admin, (*Server).listGroups, nil, one([]api.GroupInfo{}), ""},
		{"GET /v1/groups/{name}", "group get", admin, (*Server).showGroup, nil, one(api.GroupInfo{}), ""},
		{"POST /v1/groups/add", "group add", admin, (*Server).addGroup, api.GroupAction{}, one(api.Changed{}), ""},
		{"POST /v1/groups/remove", "group remove", admin, (*Server).removeGroup, api.GroupAction{}, one(api.Changed{}), ""},
		{"POST /v1/groups/rename", "group rename", admin, (*Server).renameGroup, api.RenameGroup{}, one(api.Changed{}), ""},
		{"GET /v1/networks", "network list", admin, listDocuments((*model.Snapshot).Networks), nil, one([]model.Network{}), ""},
		{"POST /v1/networks/add", "network add", admin, networks.add, api.DocAction{}, one(api.Changed{}), ""},
		{"POST /v1/networks/set", "network set", admin, networks.set, api.DocAction{}, one(api.Changed{}), ""},
		{"POST /v1/networks/remove", "network remove", admin, networks.remove, api.DocAction{}, one(api.Changed{}), ""},
		{"GET /v1/users", "user list", admin, listDocuments((*model.Snapshot).Users), nil, one([]model.User{}), ""},
		{"POST /v1/users/add", "user add", admin, users.add, api.DocAction{}, one(api.Changed{}), ""},
		{"POST /v1/users/set", "user set", admin, users.set, api.DocAction{}, one(api.Changed{}), ""},
		{"POST /v1/users/remove", "user remove", admin, users.remove, api.DocAction{}, one(api.Changed{}), ""},
		{"GET /v1/roles", "role list", admin, listDocuments((*model.Snapshot).Roles), nil, one([]model.Role{}), ""},
		{"POST /v1/roles/add", "role add", admin, roles.add, api.DocAction{}, one(api.Changed{}), ""},
		{"POST /v1/roles/set", "role set", admin, roles.set, api.DocAction{}, one(api.Changed{}), ""},
		{"POST /v1/roles/remove", "role remove", admin, roles.remove, api.DocAction{}, one(api.Changed{}), ""},
		{"GET /v1/whoami", "whoami", nobody, (*Server).whoami, nil, one(api.WhoAmI{}), ""},
		{"GET /v1/attributes", "attributes", admin, (*Server).attributes, api.AttributesQuery{}, one([]api.AttrDoc{}), ""},
		{"POST /v1/status", "status", admin, (*Server).status, api.StatusQuery{}, lines(api.NodeStatus{}), ""},
		{"GET /v1/why/{name}", "why", admin, (*Server).why, nil, one(api.Why{}), ""},
		{"GET /v1/events", "events", admin, (*Server).events, api.EventsQuery{}, reply{
			lines: model.Event{}, trailer: true,
			events: map[string]any{"": model.Event{}, "gap": api.EventGap{}},
		}, ""},
		{"GET /v1/managers", "manager list", admin, (*Server).listManagers, nil, one([]api.ManagerInfo{}), ""},
		{"POST /v1/managers/add", "manager add", admin, (*Server).addManager, api.AddManager{}, one(api.Invitation{}), ""},
		{"POST /v1/managers/remove", "manager remove", admin, (*Server).removeManager, api.RemoveManager{}, one(api.Changed{}), ""},
		{"POST /v1/managers/join", "manager join", nobody, (*Server).joinManager, api.JoinManager{}, one(api.Joined{}), ""},
		{"POST /v1/history", "history", admin, (*Server).history, api.History{}, lines(api.ChangeInfo{}), ""},
		{"POST /v1/audit", "audit", admin, (*Server).audit, api.Audit{}, lines(api.ChangeInfo{}), ""},
		{"POST /v1/undo", "undo", admin, (*Server).undo, api.Undo{}, one(api.Changed{}), ""},
		{"POST /v1/secret/reveal", "secret reveal", admin, (*Server).reveal, api.Reveal{}, lines(api.Revealed{}), ""},
		{"POST /v1/secret/rotate", "secret rotate", admin, (*Server).rotateSecrets, api.RotateSecrets{}, one(api.Changed{}), ""},
		{"POST /v1/secret/site-key", "secret rotate", admin, (*Server).changeSiteKey, api.ChangeSiteKey{}, one(api.Changed{}), ""},
		{"POST /v1/backup", "backup", admin, (*Server).backup, api.Backup{}, reply{bytes: true}, ""},
		{"GET /v1/watch", "watch", admin, (*Server).watch, api.WatchQuery{}, reply{events: map[string]any{"change": api.Watched{}, "reread": api.Reread{}}}, ""},
		{"GET /v1/discovered", "discover list", admin, (*Server).discovered, nil, one([]api.Discovered{}), ""},
		{"POST /v1/power", "power", admin, (*Server).power, api.Power{}, lines(api.PowerResult{}), ""},
		{"POST /v1/bootdev", "bootdev", admin, (*Server).bootdev, api.BootDev{}, lines(api.BootDevResult{}), ""},
		{"POST /v1/sensors", "sensors", admin, (*Server).sensors, api.Sensors{}, lines(api.NodeSensors{}), ""},
		{"POST /v1/eventlog", "eventlog", admin, (*Server).eventLog, api.EventLog{}, lines(api.NodeEventLog{}), ""},
		{"POST /v1/inventory", "inventory", admin, (*Server).inventory, api.Inventory{}, lines(api.NodeInventory{}), ""},
		{"POST /v1/identify", "identify", admin, (*Server).identify, api.Identify{}, lines(api.IdentifyResult{}), ""},
		{"POST /v1/bmc/info", "bmc info", admin, (*Server).bmcInfo, api.BMCInfo{}, lines(api.NodeBMC{}), ""},
		{"POST /v1/bmc/test", "bmc test", admin, (*Server).bmcTest, api.BMCTest{}, lines(api.NodeBMCTest{}), ""},
		{"POST /v1/bmc/trust", "bmc trust", admin, (*Server).bmcTrust, api.BMCTrust{}, lines(api.BMCDone{}), ""},
		{"POST /v1/bmc/reset", "bmc reset", admin, (*Server).bmcReset, api.BMCReset{}, lines(api.BMCDone{}), ""},
		{"POST /v1/bmc/get", "bmc get", admin, (*Server).bmcGet, api.BMCGet{}, lines(api.NodeSettings{}), ""},
		{"POST /v1/bmc/set", "bmc set", admin, (*Server).bmcSet, api.BMCSet{}, lines(api.BMCDone{}), ""},
		{"POST /v1/bmc/raw", "bmc raw", admin, (*Server).bmcRaw, api.BMCRaw{}, lines(api.NodeRaw{}), ""},
		{"POST /v1/firmware/list", "firmware list", admin, (*Server).firmwareList, api.FirmwareList{}, lines(api.NodeFirmware{}), ""},
		{"POST /v1/firmware/update", "firmware update", admin, (*Server).firmwareUpdate, api.FirmwareUpdate{}, lines(api.FirmwareStep{}), "application/octet-stream"},
		{"GET /v1/plugins", "plugin list", admin, (*Server).listPlugins, nil, one([]api.Plugin{}), ""},
		{"POST /v1/deploy", "deploy", admin, (*Server).deploy, api.Deploy{}, lines(api.DeployResult{}), ""},
		{"GET /v1/rollouts", "status", admin, (*Server).listRollouts, nil, one([]api.RolloutInfo{}), ""},
		{"GET /v1/rollouts/{name}", "status", admin, (*Server).showRollout, nil, one(api.RolloutInfo{}), ""},
		{"POST /v1/layout", "layout", admin, (*Server).layout, api.Layout{}, lines(api.LayoutResult{}), ""},
		{"POST /v1/run", "run", admin, (*Server).run, api.Run{}, lines(api.RunResult{}), ""},
		{"POST /v1/copy", "copy", admin, (*Server).copyFiles, api.CopyFiles{}, lines(api.CopyResult{}), "application/x-tar"},
		{"GET /v1/jobs", "job list", admin, listDocuments((*model.Snapshot).Jobs), nil, one([]model.Job{}), ""},
		{"POST /v1/jobs/set", "job set", admin, (*Server).setJob, api.SetJob{}, one(api.Changed{}), ""},
		{"POST /v1/jobs/remove", "job remove", admin, jobs.remove, api.DocAction{}, one(api.Changed{}), ""},
		{"POST /v1/jobs/run", "job run", admin, (*Server).runJob, api.RunJob{}, lines(api.JobResult{}), ""},
		{"POST /v1/jobs/status", "job status", admin, (*Server).jobStatus, api.JobStatus{}, lines(api.JobResult{}), ""},
		{"GET /v1/jobs/log/{node}", "job log", admin, (*Server).jobLog, api.JobLog{}, lines(api.JobLine{}), ""},
		{"POST /v1/images/build", "image build", admin, (*Server).buildImage, api.BuildImage{}, lines(api.BuildStep{}), ""},
		{"POST /v1/images/import", "image import", admin, (*Server).importImage, api.ImportImage{}, lines(api.BuildStep{}), "application/octet-stream"},
		{"GET /v1/images/{name}/export", "image export", admin, (*Server).exportImage, api.ExportImage{}, reply{bytes: true}, ""},
		{"GET /v1/images/{name}/check", "image check", admin, (*Server).checkImage, api.CheckImage{}, one(api.ImageCheck{}), ""},
		{"GET /v1/images/{name}/diff/{other}", "image diff", admin, (*Server).diffImages, nil, one(model.ImageDifference{}), ""},
		{"GET /v1/images", "image list", admin, (*Server).listImages, nil, one([]api.ImageInfo{}), ""},
		{"GET /v1/images/{name}", "image show", admin, (*Server).showImage, nil, one(api.ImageInfo{}), ""},
		{"DELETE /v1/images/{name}", "image remove", admin, (*Server).removeImage, nil, one(api.Changed{}), ""},
		{"GET /v1/consoles", "console list", admin, (*Server).listConsoles, nil, one([]api.ConsoleInfo{}), ""},
		{"GET /v1/console/{node}/log", "console", admin, (*Server).consoleLog, api.ConsoleLog{}, reply{bytes: true, lines: api.ConsoleChunk{}}, ""},
		{"GET /v1/console/{node}/attach", "console", admin, (*Server).attachConsole, api.ConsoleAttach{}, reply{upgrades: true}, ""},

		{"POST /v1/node/enrol", "enrol", nobody, (*Server).enrol, api.Enrol{}, one(api.Enrolled{}), ""},
		{"GET /v1/node/plan", "plan", node, (*Server).plan, nil, one(api.Plan{}), ""},
		{"GET /v1/node/file/{digest}", "file", node, (*Server).nodeFile, nil, reply{bytes: true}, ""},
		{"GET /v1/chunks/{digest}", "chunk", node, (*Server).nodeChunk, nil, reply{bytes: true}, ""},
		{"POST /v1/node/progress", "progress", node, (*Server).progress, api.Progress{}, one(struct{}{}), ""},
		{"POST /v1/node/up", "up", node, (*Server).up, api.Up{}, one(api.Heartbeat{}), ""},
		{"POST /v1/node/heartbeat", "heartbeat", node, (*Server).heartbeat, api.Up{}, one(api.Heartbeat{}), ""},
		{"POST /v1/node/work", "work", node, (*Server).askWork, api.AskWork{}, one(api.WorkToDo{}), ""},
		{"POST /v1/node/told", "work told", node, (*Server).toldWork, api.TellWork{}, one(struct{}{}), ""},
		{"POST /v1/node/renew", "renew", node, (*Server).renew, api.Renew{}, one(api.Enrolled{}), ""},
	}
}

// administration is the API: what administrators ask and, on TLS, what nodes ask.
func (s *Server) administration() http.Handler {
	m := http.NewServeMux()
	for _, r := range s.routes() {
		m.HandleFunc(r.pattern, s.verb(r.verb, r.may, r.do))
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.stamp(w, s.store.Snapshot())
		fail(w, &api.Error{Code: api.Unknown, What: r.Method + " " + r.URL.Path, Why: "this service has no such verb", Do: "Is the client newer than the service? muster version"})
	})
	return m
}

func (s *Server) webTLS(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler, c *tls.Config) {
	s.serveHTTP(ctx, g, s.newHTTP(ctx, h), "API "+l.Addr().String(), func(srv *http.Server) error {
		return srv.Serve(tls.NewListener(l, c))
	})
}
