package redfish

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/internal/bmc"
	"muster/internal/model"
)

// fake is a controller: a tree of resources behind TLS, with the ways of one family. The shapes below follow the structure of the DMTF's mockups and what
// vendors document; names and values are made up.
type fake struct {
	server *httptest.Server
	shape  shape

	mu       sync.Mutex
	tree     map[string]map[string]any // by path, without "/" at the end
	tokens   map[string]bool
	logins   int
	requests []string // "GET /redfish/v1/Systems"
	full     bool     // no session is free
	tags     int
	events   chan string
	uploads  []string // what was pushed
	task     func(polls int) (status int, task map[string]any)
	polls    int
	delay    time.Duration
	conns    *census
}

// census is a listener that counts connections by the address that they were made to; "" is all.
type census struct {
	net.Listener
	mu         sync.Mutex
	open, most map[string]int
}

func (c *census) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	c.count(host, 1)
	return &counted{conn, sync.OnceFunc(func() { c.count(host, -1) })}, nil
}

func (c *census) count(host string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range []string{host, ""} {
		c.open[h] += n
		c.most[h] = max(c.most[h], c.open[h])
	}
}

// shape is how families differ.
type shape struct {
	tree     string // lines: path, then JSON
	basic    bool   // no sessions
	ifMatch  bool   // PATCH without If-Match is refused
	noTimes  bool   // when a change applies cannot be said, whatever it offers
	weak     bool   // its tags are weak, and only in the body
	settings string // where Boot is changed; empty: in the system itself
	accounts bool   // accounts are made and deleted
	system   string
}

const (
	admin  = "admin"
	secret = "not-calvin"
)

// startFake starts one, on an address of the loopback or on the one that is given.
func startFake(tb testing.TB, s shape, address ...string) *fake {
	tb.Helper()
	f := &fake{shape: s, tree: map[string]map[string]any{}, tokens: map[string]bool{}, events: make(chan string)}
	for line := range strings.Lines(s.tree) {
		path, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		var o map[string]any
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		o["@odata.id"] = path
		if members, ok := o["Members"].([]any); ok {
			for i, m := range members {
				members[i] = map[string]any{"@odata.id": path + "/" + m.(string)}
			}
			o["Members@odata.count"] = len(members)
		}
		f.tree[path] = o
	}
	f.server = httptest.NewUnstartedServer(f)
	f.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(tb)}}
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, a := range address {
		_ = f.server.Listener.Close()
		var err error
		if f.server.Listener, err = net.Listen("tcp", a); err != nil {
			tb.Fatal(err)
		}
	}
	f.conns = &census{Listener: f.server.Listener, open: map[string]int{}, most: map[string]int{}}
	f.server.Listener = f.conns
	f.server.StartTLS()
	tb.Cleanup(f.server.Close)
	return f
}

// certificate is self-signed, as those of controllers are when they are new.
func certificate(tb testing.TB) tls.Certificate {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "bmc"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

func (f *fake) pin() string { return fingerprint(f.server.TLS.Certificates[0].Certificate[0]) }

func (f *fake) target() bmc.Target {
	u, _ := url.Parse(f.server.URL)
	port, _ := strconv.Atoi(u.Port())
	return bmc.Target{Node: "r1n1", Address: u.Hostname(), Port: port, User: admin, Password: model.NewSecret(secret), Pins: []string{f.pin()}}
}

// open gives a driver of an engine of its own.
func (f *fake) open(tb testing.TB, o Options) bmc.Driver {
	tb.Helper()
	return startEngine(tb, o).Open(f.target())
}

func startEngine(tb testing.TB, o Options) *Engine {
	tb.Helper()
	if o.Poll == 0 {
		o.Poll = time.Millisecond
	}
	e, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = e.Close() })
	return e
}

// with changes the tree.
func (f *fake) with(path string, change func(o map[string]any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.tree[path])
}

func (f *fake) value(path string, keys ...string) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	var v any = f.tree[path]
	for _, k := range keys {
		v = v.(map[string]any)[k]
	}
	return v
}

// asked returns what was requested since it was asked last.
func (f *fake) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.requests
	f.requests = nil
	return r
}

func (f *fake) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

type reply struct {
	status int
	header map[string]string
	body   any
}

func refusal(status int, id, text string) reply {
	return reply{status: status, body: map[string]any{"error": map[string]any{
		"code": "Base.1.12.GeneralError", "message": "see extended info",
		"@Message.ExtendedInfo": []any{map[string]any{"MessageId": "Base.1.12." + id, "Message": text, "Severity": "Critical"}},
	}}}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+path)
	if f.delay > 0 {
		f.mu.Unlock()
		time.Sleep(f.delay) // a slow controller
		f.mu.Lock()
	}
	known := f.tokens[r.Header.Get("X-Auth-Token")]
	if f.shape.basic {
		u, p, _ := r.BasicAuth()
		known = u == admin && p == secret
	}
	f.mu.Unlock()
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var a reply
	switch {
	case path == "/redfish/v1" && r.Method == http.MethodGet:
		a = f.get(path, r)
	case strings.HasSuffix(path, "/Sessions") && r.Method == http.MethodPost && !f.shape.basic:
		a = f.login(path, content)
	case !known:
		a = refusal(http.StatusUnauthorized, "NoValidSession", "There is no valid session.")
	case path == "/redfish/v1/EventService/SSE":
		f.stream(w, r)
		return
	case r.Method == http.MethodGet:
		a = f.get(path, r)
	case r.Method == http.MethodPatch:
		a = f.patch(path, r, content)
	case r.Method == http.MethodPost:
		a = f.post(path, r, content)
	case r.Method == http.MethodDelete:
		a = f.remove(path, r)
	}
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(w).Encode(a.body)
	}
}

func (f *fake) login(path string, content []byte) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logins++
	var v struct{ UserName, Password string }
	switch err := json.Unmarshal(content, &v); {
	case err != nil:
		return refusal(http.StatusBadRequest, "MalformedJSON", "That is no JSON.")
	case v.UserName != admin || v.Password != secret:
		return refusal(http.StatusUnauthorized, "InsufficientPrivilege", "The login is wrong.")
	case f.full:
		return refusal(http.StatusServiceUnavailable, "SessionLimitExceeded", "There are too many sessions.")
	}
	token := fmt.Sprintf("token-%d", f.logins)
	f.tokens[token] = true
	return reply{http.StatusCreated, map[string]string{"X-Auth-Token": token, "Location": f.server.URL + path + "/" + token}, map[string]any{"Id": token}}
}

func (f *fake) get(path string, r *http.Request) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(path, "/redfish/v1/TaskService/") && f.task != nil {
		f.polls++
		status, t := f.task(f.polls)
		if t == nil {
			return reply{status: status}
		}
		return reply{status: status, body: t}
	}
	o := f.tree[path]
	if o == nil {
		return refusal(http.StatusNotFound, "ResourceMissingAtURI", "There is nothing at "+path+".")
	}
	a := reply{status: http.StatusOK, header: map[string]string{}}
	tag := fmt.Sprint(o["tag"])
	shown := maps.Clone(o)
	delete(shown, "tag")
	if f.shape.weak {
		shown["@odata.etag"] = `W/"` + tag + `"`
	} else {
		a.header["ETag"] = `"` + tag + `"`
	}
	if s := r.URL.Query().Get("$select"); s != "" {
		shown = map[string]any{"@odata.id": path, s: o[s]}
	}
	if members, ok := o["Members"].([]any); ok {
		page := members
		if skip, _ := strconv.Atoi(r.URL.Query().Get("$skip")); f.shape.weak && len(members)-skip > 2 { // two a page
			page = members[skip : skip+2]
			shown["Members@odata.nextLink"] = fmt.Sprintf("%s?$skip=%d", path, skip+2)
		} else {
			page = members[skip:]
		}
		if r.URL.Query().Has("$expand") {
			var whole []any
			for _, m := range page {
				whole = append(whole, f.tree[m.(map[string]any)["@odata.id"].(string)])
			}
			page = whole
		}
		shown["Members"] = page
	}
	a.body = clone(shown)
	return a
}

// clone copies a tree, so that it is written out in peace.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		o := map[string]any{}
		for k, x := range v {
			o[k] = clone(x)
		}
		return o
	case []any:
		o := make([]any, len(v))
		for i, x := range v {
			o[i] = clone(x)
		}
		return o
	}
	return v
}

func (f *fake) patch(path string, r *http.Request, content []byte) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.tree[path]
	var change map[string]any
	switch err := json.Unmarshal(content, &change); {
	case o == nil:
		return refusal(http.StatusNotFound, "ResourceMissingAtURI", "There is nothing.")
	case err != nil:
		return refusal(http.StatusBadRequest, "MalformedJSON", "That is no JSON.")
	}
	tag := fmt.Sprintf("%q", fmt.Sprint(o["tag"]))
	switch match := r.Header.Get("If-Match"); {
	case match == "" && f.shape.ifMatch:
		return refusal(http.StatusPreconditionRequired, "PreconditionRequired", "If-Match is missing.")
	case match != "" && match != tag: // also a weak one: RFC 9110, section 13.1.1
		return refusal(http.StatusPreconditionFailed, "PreconditionFailed", "The tag is another one.")
	}
	if change["Boot"] != nil && f.shape.settings != "" && path != f.shape.settings {
		return refusal(http.StatusBadRequest, "PropertyNotWritable", "Boot cannot be written here.")
	}
	if change["@Redfish.SettingsApplyTime"] != nil && f.shape.noTimes {
		return refusal(http.StatusBadRequest, "PropertyUnknown", "There is no @Redfish.SettingsApplyTime.")
	}
	merge(o, change)
	if o["IPv4StaticAddresses"] != nil {
		o["IPv4Addresses"] = o["IPv4StaticAddresses"]
	}
	f.tags++
	o["tag"] = f.tags
	return reply{status: http.StatusOK, body: clone(o)}
}

func merge(to, from map[string]any) {
	for k, v := range from {
		inner, ok := v.(map[string]any)
		old, had := to[k].(map[string]any)
		if ok && had {
			merge(old, inner)
			continue
		}
		to[k] = v
	}
}

func (f *fake) post(path string, r *http.Request, content []byte) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	var v map[string]any
	_ = json.Unmarshal(content, &v) // uploads are none
	owner, verb, _ := strings.Cut(path, "/Actions/")
	switch _, verb, _ = strings.Cut(verb, "."); {
	case strings.HasSuffix(path, "/ComputerSystem.Reset"):
		return f.reset(f.tree[owner], fmt.Sprint(v["ResetType"]))
	case verb == "ClearLog":
		f.tree[owner+"/Entries"]["Members"] = []any{}
	case verb == "InsertMedia":
		if f.shape.weak && len(v) > 1 {
			return refusal(http.StatusBadRequest, "ActionParameterUnknown", "There is no such parameter.")
		}
		if f.tree[owner]["Inserted"] == true {
			return refusal(http.StatusBadRequest, "ResourceInUse", "There is something in it.")
		}
		f.tree[owner]["Inserted"], f.tree[owner]["Image"] = true, v["Image"]
	case verb == "EjectMedia":
		f.tree[owner]["Inserted"], f.tree[owner]["Image"] = false, nil
	case verb == "Reset":
		clear(f.tokens)
	case strings.HasSuffix(path, "/Accounts") && f.shape.accounts:
		id := fmt.Sprint(v["UserName"])
		delete(v, "Password")
		v["Id"], v["@odata.id"] = id, path+"/"+id
		f.tree[path+"/"+id] = v
		f.tree[path]["Members"] = append(f.tree[path]["Members"].([]any), map[string]any{"@odata.id": path + "/" + id})
		return reply{status: http.StatusCreated, body: v}
	case path == "/redfish/v1/UpdateService/push", path == "/redfish/v1/UpdateService/multipart":
		if r.ContentLength <= 0 {
			return refusal(http.StatusLengthRequired, "GeneralError", "How much is it?")
		}
		return f.accept(path, r.Header.Get("Content-Type"), content)
	case verb == "SimpleUpdate":
		return f.accept(path, "", fmt.Append(nil, v["ImageURI"]))
	default:
		return refusal(http.StatusMethodNotAllowed, "OperationNotAllowed", "That cannot be done.")
	}
	return reply{status: http.StatusNoContent}
}

func (f *fake) accept(path, kind string, content []byte) reply {
	f.uploads = append(f.uploads, kind+"\n"+string(content))
	if strings.HasSuffix(path, "/push") { // as a task in the body
		return reply{status: http.StatusAccepted, body: map[string]any{
			"@odata.id": "/redfish/v1/TaskService/Tasks/1", "@odata.type": "#Task.v1_4_2.Task", "TaskState": "New",
		}}
	}
	return reply{status: http.StatusAccepted, header: map[string]string{"Location": f.server.URL + "/redfish/v1/TaskService/TaskMonitors/1"}}
}

func (f *fake) reset(s map[string]any, kind string) reply {
	on := s["PowerState"] == "On"
	switch kind {
	case "On":
		if on {
			return refusal(http.StatusConflict, "NoOperation", "The host is on already.")
		}
		s["PowerState"] = "On"
	case "ForceOff", "GracefulShutdown":
		if !on {
			return refusal(http.StatusBadRequest, "NoOperation", "The host is off already.")
		}
		s["PowerState"] = "Off"
	case "ForceRestart", "PowerCycle", "Nmi":
		if !on {
			return refusal(http.StatusConflict, "ResourceInUse", "The host is off.")
		}
	default:
		return refusal(http.StatusBadRequest, "ActionParameterValueNotInList", "There is no "+kind+".")
	}
	return reply{status: http.StatusNoContent}
}

func (f *fake) remove(path string, r *http.Request) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	owner := path[:strings.LastIndexByte(path, '/')]
	switch {
	case strings.HasSuffix(owner, "/Sessions"):
		delete(f.tokens, path[len(owner)+1:])
	case strings.HasSuffix(owner, "/Accounts") && f.shape.accounts:
		delete(f.tree, path)
		f.tree[owner]["Members"] = slices.DeleteFunc(f.tree[owner]["Members"].([]any), func(m any) bool { return m.(map[string]any)["@odata.id"] == path })
	default:
		return refusal(http.StatusMethodNotAllowed, "OperationNotAllowed", "That cannot be done.")
	}
	return reply{status: http.StatusNoContent}
}

func (f *fake) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, ": welcome\n\n")
	w.(http.Flusher).Flush()
	for {
		select {
		case e, ok := <-f.events:
			if !ok {
				return
			}
			_, _ = io.WriteString(w, e)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// modern is of the kind that can do most: queries, sensors of the newer model, strong tags in the header, multipart updates, SSE, accounts in fixed places.
var modern = shape{system: "/redfish/v1/Systems/System.Embedded.1", tree: `
/redfish/v1 {"RedfishVersion":"1.18.0","Vendor":"Dell","Product":"Integrated Remote Access","UUID":"00000000-0000-0000-0000-0000000000aa","Systems":{"@odata.id":"/redfish/v1/Systems"},"Chassis":{"@odata.id":"/redfish/v1/Chassis"},"Managers":{"@odata.id":"/redfish/v1/Managers"},"SessionService":{"@odata.id":"/redfish/v1/SessionService"},"AccountService":{"@odata.id":"/redfish/v1/AccountService"},"UpdateService":{"@odata.id":"/redfish/v1/UpdateService"},"EventService":{"@odata.id":"/redfish/v1/EventService"},"Links":{"Sessions":{"@odata.id":"/redfish/v1/SessionService/Sessions"}},"Oem":{"Dell":{}},"ProtocolFeaturesSupported":{"SelectQuery":true,"ExpandQuery":{"ExpandAll":true,"Levels":true,"Links":true,"NoLinks":true,"MaxLevels":1}}}
/redfish/v1/Systems {"Members":["System.Embedded.1"]}
/redfish/v1/Systems/System.Embedded.1 {"Id":"System.Embedded.1","Name":"System","Manufacturer":"Rackmaker","Model":"R7","SerialNumber":"SN0001","SKU":"TAG0001","UUID":"4C4C4544-0001-0002-0003-000000000004","BiosVersion":"2.19.1","PowerState":"Off","LocationIndicatorActive":false,"Boot":{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideTarget":"None","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget@Redfish.AllowableValues":["None","Pxe","Hdd","Cd","BiosSetup","UefiHttp"],"BootSourceOverrideMode@Redfish.AllowableValues":["UEFI","Legacy"]},"Bios":{"@odata.id":"/redfish/v1/Systems/System.Embedded.1/Bios"},"Processors":{"@odata.id":"/redfish/v1/Systems/System.Embedded.1/Processors"},"Memory":{"@odata.id":"/redfish/v1/Systems/System.Embedded.1/Memory"},"Storage":{"@odata.id":"/redfish/v1/Systems/System.Embedded.1/Storage"},"PCIeDevices":[{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/59-0"},{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/7-0"},{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/81-0"},{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/82-0"}],"VirtualMedia":{"@odata.id":"/redfish/v1/Systems/System.Embedded.1/VirtualMedia"},"Links":{"Chassis":[{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1"}],"ManagedBy":[{"@odata.id":"/redfish/v1/Managers/BMC.1"}]},"Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/Systems/System.Embedded.1/Actions/ComputerSystem.Reset","ResetType@Redfish.AllowableValues":["On","ForceOff","ForceRestart","GracefulShutdown","PowerCycle","Nmi"]}}}
/redfish/v1/Systems/System.Embedded.1/Bios {"Attributes":{"BootMode":"Uefi","ProcCores":8,"SriovGlobalEnable":false},"@Redfish.Settings":{"SettingsObject":{"@odata.id":"/redfish/v1/Systems/System.Embedded.1/Bios/Settings"},"SupportedApplyTimes":["OnReset"]}}
/redfish/v1/Systems/System.Embedded.1/Bios/Settings {"Attributes":{}}
/redfish/v1/Systems/System.Embedded.1/Processors {"Members":["CPU.Socket.1","GPU.1"]}
/redfish/v1/Systems/System.Embedded.1/Processors/CPU.Socket.1 {"Id":"CPU.Socket.1","Name":"CPU 1","Socket":"CPU.Socket.1","ProcessorType":"CPU","Manufacturer":"Chipmaker","Model":"Chip 9","TotalCores":32,"TotalThreads":64,"MaxSpeedMHz":3500,"Status":{"State":"Enabled","Health":"OK"}}
/redfish/v1/Systems/System.Embedded.1/Processors/GPU.1 {"Id":"GPU.1","Name":"Accelerator","ProcessorType":"GPU","Manufacturer":"Cardmaker","Model":"G100","SerialNumber":"G1","FirmwareVersion":"96.0","Status":{"State":"Enabled","Health":"Warning"}}
/redfish/v1/Systems/System.Embedded.1/Memory {"Members":["DIMM.A1","DIMM.A2"]}
/redfish/v1/Systems/System.Embedded.1/Memory/DIMM.A1 {"Id":"DIMM.A1","Name":"DIMM A1","DeviceLocator":"DIMM A1","CapacityMiB":32768,"SerialNumber":"M1","PartNumber":"MP-1","Manufacturer":"Dimmaker","MemoryDeviceType":"DDR5","OperatingSpeedMhz":4800,"Status":{"State":"Enabled","Health":"OK"}}
/redfish/v1/Systems/System.Embedded.1/Memory/DIMM.A2 {"Id":"DIMM.A2","Name":"DIMM A2","DeviceLocator":"DIMM A2","CapacityMiB":0,"Status":{"State":"Absent"}}
/redfish/v1/Systems/System.Embedded.1/Storage {"Members":["RAID.1"]}
/redfish/v1/Systems/System.Embedded.1/Storage/RAID.1 {"Id":"RAID.1","Name":"RAID","Controllers":{"@odata.id":"/redfish/v1/Systems/System.Embedded.1/Storage/RAID.1/Controllers"},"Drives":[{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/Drives/Disk.0"}]}
/redfish/v1/Systems/System.Embedded.1/Storage/RAID.1/Controllers {"Members":["RAID.1"]}
/redfish/v1/Systems/System.Embedded.1/Storage/RAID.1/Controllers/RAID.1 {"Id":"RAID.1","Name":"RAID controller","Model":"H900","FirmwareVersion":"52.1","Status":{"Health":"OK"}}
/redfish/v1/Chassis/System.Embedded.1/Drives/Disk.0 {"Id":"Disk.0","Name":"Disk 0","Model":"SSD1","SerialNumber":"D1","CapacityBytes":960197124096,"MediaType":"SSD","Protocol":"SAS","Revision":"D3","Identifiers":[{"DurableName":"5000C500A1B2C3D4","DurableNameFormat":"NAA"}],"Status":{"State":"Enabled","Health":"OK"}}
/redfish/v1/Systems/System.Embedded.1/VirtualMedia {"Members":["1","2"]}
/redfish/v1/Systems/System.Embedded.1/VirtualMedia/1 {"Id":"1","Name":"drive 1","MediaTypes":["CD","DVD","USBStick"],"Inserted":false,"Image":null,"Actions":{"#VirtualMedia.InsertMedia":{"target":"/redfish/v1/Systems/System.Embedded.1/VirtualMedia/1/Actions/VirtualMedia.InsertMedia"},"#VirtualMedia.EjectMedia":{"target":"/redfish/v1/Systems/System.Embedded.1/VirtualMedia/1/Actions/VirtualMedia.EjectMedia"}}}
/redfish/v1/Systems/System.Embedded.1/VirtualMedia/2 {"Id":"2","Name":"drive 2","MediaTypes":["CD","DVD","USBStick"],"Inserted":false,"Image":null,"Actions":{"#VirtualMedia.InsertMedia":{"target":"/redfish/v1/Systems/System.Embedded.1/VirtualMedia/2/Actions/VirtualMedia.InsertMedia"},"#VirtualMedia.EjectMedia":{"target":"/redfish/v1/Systems/System.Embedded.1/VirtualMedia/2/Actions/VirtualMedia.EjectMedia"}}}
/redfish/v1/Chassis {"Members":["System.Embedded.1"]}
/redfish/v1/Chassis/System.Embedded.1 {"Id":"System.Embedded.1","Name":"Chassis","ChassisType":"RackMount","Sensors":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/Sensors"},"NetworkAdapters":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/NetworkAdapters"},"PowerSubsystem":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PowerSubsystem"},"Status":{"Health":"OK"}}
/redfish/v1/Chassis/System.Embedded.1/PowerSubsystem {"Id":"PowerSubsystem","PowerSupplies":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PowerSubsystem/PowerSupplies"}}
/redfish/v1/Chassis/System.Embedded.1/PowerSubsystem/PowerSupplies {"Members":["PSU.1"]}
/redfish/v1/Chassis/System.Embedded.1/PowerSubsystem/PowerSupplies/PSU.1 {"Id":"PSU.1","Name":"PSU 1","Model":"P800","SerialNumber":"P1","PowerCapacityWatts":800,"FirmwareVersion":"0.1","Status":{"State":"Enabled","Health":"OK"}}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/59-0 {"Id":"59-0","Name":"Ethernet Controller","Manufacturer":"Cardmaker","FirmwareVersion":"22.1","Status":{"Health":"OK"}}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/7-0 {"Id":"7-0","Name":"Screen of the BMC","Links":{"PCIeFunctions":[{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/7-0/PCIeFunctions/0"}]}}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/7-0/PCIeFunctions/0 {"Id":"0","DeviceClass":"DisplayController","VendorId":"0x102B"}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/81-0 {"Id":"81-0","Name":"G100","SerialNumber":"G1","PCIeFunctions":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/81-0/PCIeFunctions"}}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/81-0/PCIeFunctions {"Members":["0"]}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/81-0/PCIeFunctions/0 {"Id":"0","DeviceClass":"ProcessingAccelerators","VendorId":"0x10DE"}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/82-0 {"Id":"82-0","Name":"G100","SerialNumber":"G2","PCIeFunctions":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/82-0/PCIeFunctions"}}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/82-0/PCIeFunctions {"Members":["0"]}
/redfish/v1/Chassis/System.Embedded.1/PCIeDevices/82-0/PCIeFunctions/0 {"Id":"0","DeviceClass":"ProcessingAccelerators","VendorId":"0x10DE"}
/redfish/v1/Chassis/System.Embedded.1/Sensors {"Members":["Inlet","Fan1","Watts","Cpu"]}
/redfish/v1/Chassis/System.Embedded.1/Sensors/Inlet {"Id":"Inlet","Name":"Inlet Temp","Reading":21.5,"ReadingType":"Temperature","ReadingUnits":"Cel","Thresholds":{"UpperCaution":{"Reading":38},"UpperCritical":{"Reading":42},"LowerCaution":{"Reading":3},"LowerCritical":{"Reading":-7}},"Status":{"State":"Enabled","Health":"OK"}}
/redfish/v1/Chassis/System.Embedded.1/Sensors/Fan1 {"Id":"Fan1","Name":"Fan 1","Reading":34,"ReadingType":"Percent","ReadingUnits":"%","PhysicalContext":"Fan","Status":{"State":"Enabled","Health":"OK"}}
/redfish/v1/Chassis/System.Embedded.1/Sensors/Watts {"Id":"Watts","Name":"System Power","Reading":312,"ReadingType":"Power","ReadingUnits":"W","Status":{"State":"Enabled","Health":"OK"}}
/redfish/v1/Chassis/System.Embedded.1/Sensors/Cpu {"Id":"Cpu","Name":"CPU Temp","Reading":null,"ReadingType":"Temperature","ReadingUnits":"Cel","Status":{"State":"UnavailableOffline"}}
/redfish/v1/Chassis/System.Embedded.1/NetworkAdapters {"Members":["NIC.1"]}
/redfish/v1/Chassis/System.Embedded.1/NetworkAdapters/NIC.1 {"Id":"NIC.1","Name":"Adapter","Manufacturer":"Cardmaker","Model":"E810","SerialNumber":"N1","Controllers":[{"FirmwarePackageVersion":"4.20"}],"Ports":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/NetworkAdapters/NIC.1/Ports"}}
/redfish/v1/Chassis/System.Embedded.1/NetworkAdapters/NIC.1/Ports {"Members":["1","2"]}
/redfish/v1/Chassis/System.Embedded.1/NetworkAdapters/NIC.1/Ports/1 {"Id":"1","Name":"Port 1","PortId":"1","CurrentSpeedGbps":25,"LinkStatus":"LinkUp","Ethernet":{"AssociatedMACAddresses":["02:00:00:00:0A:01"]}}
/redfish/v1/Chassis/System.Embedded.1/NetworkAdapters/NIC.1/Ports/2 {"Id":"2","Name":"Port 2","PortId":"2","CurrentSpeedGbps":0,"LinkStatus":"LinkDown","Ethernet":{"AssociatedMACAddresses":["02:00:00:00:0A:02"]}}
/redfish/v1/Managers {"Members":["BMC.1"]}
/redfish/v1/Managers/BMC.1 {"Id":"BMC.1","Name":"Manager","ManagerType":"BMC","Model":"17G","FirmwareVersion":"7.10.30","CommandShell":{"ServiceEnabled":true,"ConnectTypesSupported":["SSH"]},"EthernetInterfaces":{"@odata.id":"/redfish/v1/Managers/BMC.1/EthernetInterfaces"},"NetworkProtocol":{"@odata.id":"/redfish/v1/Managers/BMC.1/NetworkProtocol"},"LogServices":{"@odata.id":"/redfish/v1/Managers/BMC.1/LogServices"},"Actions":{"#Manager.Reset":{"target":"/redfish/v1/Managers/BMC.1/Actions/Manager.Reset","ResetType@Redfish.AllowableValues":["GracefulRestart"]}}}
/redfish/v1/Managers/BMC.1/EthernetInterfaces {"Members":["NIC.1"]}
/redfish/v1/Managers/BMC.1/EthernetInterfaces/NIC.1 {"Id":"NIC.1","Name":"Management","MACAddress":"02:00:00:00:00:AA","InterfaceEnabled":true,"IPv4Addresses":[{"Address":"10.1.1.7","SubnetMask":"255.255.0.0","Gateway":"10.1.0.1","AddressOrigin":"Static"}],"IPv4StaticAddresses":[{"Address":"10.1.1.7","SubnetMask":"255.255.0.0","Gateway":"10.1.0.1"}],"DHCPv4":{"DHCPEnabled":false},"VLAN":{"VLANEnable":false,"VLANId":1},"StaticNameServers":["10.1.0.2","0.0.0.0"]}
/redfish/v1/Managers/BMC.1/NetworkProtocol {"Id":"NetworkProtocol","HostName":"bmc-7","NTP":{"ProtocolEnabled":false,"NTPServers":["",""]},"SSH":{"ProtocolEnabled":true,"Port":22},"IPMI":{"ProtocolEnabled":false,"Port":623}}
/redfish/v1/Managers/BMC.1/LogServices {"Members":["Lclog","Sel"]}
/redfish/v1/Managers/BMC.1/LogServices/Lclog {"Id":"Lclog","Name":"Lifecycle","LogEntryType":"Event","Entries":{"@odata.id":"/redfish/v1/Managers/BMC.1/LogServices/Lclog/Entries"}}
/redfish/v1/Managers/BMC.1/LogServices/Sel {"Id":"Sel","Name":"SEL","LogEntryType":"SEL","Entries":{"@odata.id":"/redfish/v1/Managers/BMC.1/LogServices/Sel/Entries"},"Actions":{"#LogService.ClearLog":{"target":"/redfish/v1/Managers/BMC.1/LogServices/Sel/Actions/LogService.ClearLog"}}}
/redfish/v1/Managers/BMC.1/LogServices/Sel/Entries {"Members":["2","1"]}
/redfish/v1/Managers/BMC.1/LogServices/Sel/Entries/2 {"Id":"2","Name":"Entry 2","Created":"2026-03-02T04:05:06-06:00","EntryType":"SEL","EntryCode":"Deassert","SensorType":"Fan","Severity":"OK","Message":"Fan 1 runs again."}
/redfish/v1/Managers/BMC.1/LogServices/Sel/Entries/1 {"Id":"1","Name":"Entry 1","Created":"2026-03-01T04:05:06-06:00","EntryType":"SEL","EntryCode":"Assert","SensorType":"Fan","Severity":"Critical","Message":"Fan 1 has failed.","Links":{"OriginOfCondition":{"@odata.id":"/redfish/v1/Chassis/System.Embedded.1/Sensors/Fan1"}}}
/redfish/v1/SessionService {"Id":"SessionService"}
/redfish/v1/AccountService {"Id":"AccountService","Accounts":{"@odata.id":"/redfish/v1/AccountService/Accounts"}}
/redfish/v1/AccountService/Accounts {"Members":["1","2","3"]}
/redfish/v1/AccountService/Accounts/1 {"Id":"1","Name":"Account","UserName":"","RoleId":"None","Enabled":false}
/redfish/v1/AccountService/Accounts/2 {"Id":"2","Name":"Account","UserName":"admin","RoleId":"Administrator","Enabled":true}
/redfish/v1/AccountService/Accounts/3 {"Id":"3","Name":"Account","UserName":"","RoleId":"None","Enabled":false}
/redfish/v1/UpdateService {"Id":"UpdateService","ServiceEnabled":true,"MultipartHttpPushUri":"/redfish/v1/UpdateService/multipart","HttpPushUri":"/redfish/v1/UpdateService/push","FirmwareInventory":{"@odata.id":"/redfish/v1/UpdateService/FirmwareInventory"}}
/redfish/v1/UpdateService/FirmwareInventory {"Members":["Installed-BIOS","Previous-BIOS","Installed-NIC.1","Installed-NIC.2"]}
/redfish/v1/UpdateService/FirmwareInventory/Installed-BIOS {"Id":"Installed-BIOS","Name":"BIOS","Version":"2.19.1","Updateable":true}
/redfish/v1/UpdateService/FirmwareInventory/Previous-BIOS {"Id":"Previous-BIOS","Name":"BIOS","Version":"2.18.0","Updateable":true}
/redfish/v1/UpdateService/FirmwareInventory/Installed-NIC.1 {"Id":"Installed-NIC.1","Name":"NIC","Version":"22.1","Updateable":true}
/redfish/v1/UpdateService/FirmwareInventory/Installed-NIC.2 {"Id":"Installed-NIC.2","Name":"NIC","Version":"22.1","Updateable":false}
/redfish/v1/EventService {"Id":"EventService","ServiceEnabled":true,"ServerSentEventUri":"/redfish/v1/EventService/SSE"}
`}

// older is of the kind of 2018: no queries, weak tags in the body that have to be sent back, numbers as text, pages of two, Thermal and Power, a settings
// object for the boot override, ActionInfo in place of allowed values, HttpPushUri.
var older = shape{system: "/redfish/v1/Systems/Self", settings: "/redfish/v1/Systems/Self/SD", weak: true, ifMatch: true, accounts: true, tree: `
/redfish/v1 {"RedfishVersion":"1.5.0","Product":"AMI Redfish Server","Systems":{"@odata.id":"/redfish/v1/Systems"},"Chassis":{"@odata.id":"/redfish/v1/Chassis"},"Managers":{"@odata.id":"/redfish/v1/Managers"},"AccountService":{"@odata.id":"/redfish/v1/AccountService"},"UpdateService":{"@odata.id":"/redfish/v1/UpdateService"},"SessionService":{"@odata.id":"/redfish/v1/SessionService"},"Links":{"Sessions":{"@odata.id":"/redfish/v1/SessionService/Sessions"}},"Oem":{"Ami":{}}}
/redfish/v1/Systems {"Members":["Self"]}
/redfish/v1/Systems/Self {"Id":"Self","Name":"System","Manufacturer":"Boardmaker","Model":"B2","SerialNumber":"","UUID":"00112233-4455-6677-8899-aabbccddeeff","BiosVersion":"F12","PowerState":"On","IndicatorLED":"Off","IndicatorLED@Redfish.AllowableValues":["Off","Lit"],"Boot":{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideTarget":"None","BootSourceOverrideMode":"Legacy","BootSourceOverrideTarget@Redfish.AllowableValues":["None","Pxe","Hdd","UsbCd","BiosSetup"]},"@Redfish.Settings":{"SettingsObject":{"@odata.id":"/redfish/v1/Systems/Self/SD"}},"Bios":{"@odata.id":"/redfish/v1/Systems/Self/Bios"},"Processors":{"@odata.id":"/redfish/v1/Systems/Self/Processors"},"Memory":{"@odata.id":"/redfish/v1/Systems/Self/Memory"},"SimpleStorage":{"@odata.id":"/redfish/v1/Systems/Self/SimpleStorage"},"EthernetInterfaces":{"@odata.id":"/redfish/v1/Systems/Self/EthernetInterfaces"},"LogServices":{"@odata.id":"/redfish/v1/Systems/Self/LogServices"},"Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/Systems/Self/Actions/ComputerSystem.Reset","@Redfish.ActionInfo":"/redfish/v1/Systems/Self/ResetActionInfo"}}}
/redfish/v1/Systems/Self/SD {"Id":"SD","Boot":{}}
/redfish/v1/Systems/Self/ResetActionInfo {"Id":"ResetActionInfo","Parameters":[{"Name":"ResetType","Required":true,"AllowableValues":["On","ForceOff","GracefulShutdown","ForceRestart"]}]}
/redfish/v1/Systems/Self/Bios {"Attributes":{"FBO001":"LEGACY","HYP":true}}
/redfish/v1/Systems/Self/Processors {"Members":["1","2","3"]}
/redfish/v1/Systems/Self/Processors/1 {"Id":"1","Name":"Processor","Socket":"CPU0","Model":"Chip 5","TotalCores":"16","TotalThreads":"32","Status":{"Health":"OK"}}
/redfish/v1/Systems/Self/Processors/2 {"Id":"2","Name":"Processor","Socket":"CPU1","Model":"Chip 5","TotalCores":"16","TotalThreads":"32","Status":{"Health":"OK"}}
/redfish/v1/Systems/Self/Memory {"Members":["1","2"]}
/redfish/v1/Systems/Self/Memory/1 {"Id":"1","Name":"Memory 1","DeviceLocator":"P0_A0","CapacityMiB":"16384","SerialNumber":"S1","Status":{"Health":"OK"}}
/redfish/v1/Systems/Self/Memory/2 {"Id":"2","Name":"Memory 2","DeviceLocator":"P0_A0","CapacityMiB":16384,"SerialNumber":"S2","Status":null}
/redfish/v1/Systems/Self/SimpleStorage {"Members":["1"]}
/redfish/v1/Systems/Self/SimpleStorage/1 {"Id":"1","Name":"SATA","Devices":[{"Name":"Disk 1","Model":"HDD1","CapacityBytes":1000204886016}]}
/redfish/v1/Systems/Self/EthernetInterfaces {"Members":["eth0"]}
/redfish/v1/Systems/Self/EthernetInterfaces/eth0 {"Id":"eth0","Name":"eth0","MACAddress":"02-00-00-00-0B-01","SpeedMbps":10000,"LinkStatus":"LinkUp"}
/redfish/v1/Systems/Self/LogServices {"Members":["BIOS","SEL"]}
/redfish/v1/Systems/Self/LogServices/BIOS {"Id":"BIOS","Name":"BIOS","ServiceEnabled":false,"Entries":{"@odata.id":"/redfish/v1/Systems/Self/LogServices/BIOS/Entries"}}
/redfish/v1/Systems/Self/LogServices/SEL {"Id":"SEL","Name":"SEL","ServiceEnabled":true,"Entries":{"@odata.id":"/redfish/v1/Systems/Self/LogServices/SEL/Entries"},"Actions":{"#LogService.ClearLog":{"target":"/redfish/v1/Systems/Self/LogServices/SEL/Actions/LogService.ClearLog"}}}
/redfish/v1/Systems/Self/LogServices/SEL/Entries {"Members":["1","2","3","4","10"]}
/redfish/v1/Systems/Self/LogServices/SEL/Entries/1 {"Id":"1","Name":"Log 1","Created":"1970-01-01T00:00:09Z","Severity":"Warning","Message":"The clock was not set."}
/redfish/v1/Systems/Self/LogServices/SEL/Entries/2 {"Id":"2","Name":"Log 2","Created":"2026-02-01T00:00:00","Severity":"Critical","Message":"PSU 2 lost its input."}
/redfish/v1/Systems/Self/LogServices/SEL/Entries/3 {"Id":"3","Name":"Log 3","Created":"2026-02-01T00:00:01","Severity":"OK","Message":"PSU 2 has input again."}
/redfish/v1/Systems/Self/LogServices/SEL/Entries/4 {"Id":4,"Name":"Log 4","Created":"2026-02-02T00:00:01Z","Severity":"OK","Message":"Power button pressed."}
/redfish/v1/Systems/Self/LogServices/SEL/Entries/10 {"Id":"10","Name":"Log 10","Created":"2026-02-03T00:00:01+0000","Severity":null,"Message":"OS boot."}
/redfish/v1/Chassis {"Members":["Self"]}
/redfish/v1/Chassis/Self {"Id":"Self","Name":"Chassis","Manufacturer":"Boardmaker","SerialNumber":"C1","Thermal":{"@odata.id":"/redfish/v1/Chassis/Self/Thermal"},"Power":{"@odata.id":"/redfish/v1/Chassis/Self/Power"}}
/redfish/v1/Chassis/Self/Thermal {"Temperatures":[{"MemberId":"0","Name":"CPU0_TEMP","ReadingCelsius":95,"UpperThresholdNonCritical":90,"UpperThresholdCritical":100,"Status":{"State":"Enabled"}}],"Fans":[{"MemberId":"0","FanName":"SYS_FAN1","Reading":"4200","ReadingUnits":"RPM","LowerThresholdCritical":600,"Status":{"State":"Enabled","Health":"OK"}}]}
/redfish/v1/Chassis/Self/Power {"Voltages":[{"Name":"P12V","ReadingVolts":12.05,"Status":{"State":"Enabled","Health":"OK"}}],"PowerControl":[{"Name":"Chassis Power","PowerConsumedWatts":"210"}],"PowerSupplies":[{"MemberId":"0","Name":"PSU1","LastPowerOutputWatts":105,"PowerCapacityWatts":800,"SerialNumber":"PS1","Status":{"State":"Enabled","Health":"OK"}},{"MemberId":"1","Name":"PSU2","Status":{"State":"Absent"}}]}
/redfish/v1/Managers {"Members":["Self"]}
/redfish/v1/Managers/Self {"Id":"Self","Name":"Manager","ManagerType":"BMC","Model":"2500","FirmwareVersion":"12.61.17","EthernetInterfaces":{"@odata.id":"/redfish/v1/Managers/Self/EthernetInterfaces"},"NetworkProtocol":{"@odata.id":"/redfish/v1/Managers/Self/NetworkProtocol"},"VirtualMedia":{"@odata.id":"/redfish/v1/Managers/Self/VirtualMedia"},"Actions":{"#Manager.Reset":{"target":"/redfish/v1/Managers/Self/Actions/Manager.Reset","ResetType@Redfish.AllowableValues":["ForceRestart"]}}}
/redfish/v1/Managers/Self/EthernetInterfaces {"Members":["eth1"]}
/redfish/v1/Managers/Self/EthernetInterfaces/eth1 {"Id":"eth1","Name":"eth1","MACAddress":"02:00:00:00:00:BB","IPv4Addresses":[{"Address":"10.1.1.8","SubnetMask":"255.255.0.0","Gateway":"10.1.0.1","AddressOrigin":"DHCP"}],"VLAN":{"VLANEnable":true,"VLANId":"7"}}
/redfish/v1/Managers/Self/NetworkProtocol {"Id":"NetworkProtocol","HostName":"ami-8","SSH":{"ProtocolEnabled":false,"Port":22},"IPMI":{"ProtocolEnabled":true,"Port":623}}
/redfish/v1/Managers/Self/VirtualMedia {"Members":["CD1"]}
/redfish/v1/Managers/Self/VirtualMedia/CD1 {"Id":"CD1","Name":"CD1","MediaTypes":["CD","DVD"],"Inserted":false,"Actions":{"#VirtualMedia.InsertMedia":{"target":"/redfish/v1/Managers/Self/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia"},"#VirtualMedia.EjectMedia":{"target":"/redfish/v1/Managers/Self/VirtualMedia/CD1/Actions/VirtualMedia.EjectMedia"}}}
/redfish/v1/AccountService {"Id":"AccountService","Accounts":{"@odata.id":"/redfish/v1/AccountService/Accounts"}}
/redfish/v1/AccountService/Accounts {"Members":["1"]}
/redfish/v1/AccountService/Accounts/1 {"Id":"1","Name":"Account","UserName":"admin","RoleId":"Administrator","Enabled":true}
/redfish/v1/UpdateService {"Id":"UpdateService","HttpPushUri":"/redfish/v1/UpdateService/push","HttpPushUriTargets":[],"FirmwareInventory":{"@odata.id":"/redfish/v1/UpdateService/FirmwareInventory"}}
/redfish/v1/UpdateService/FirmwareInventory {"Members":["BMC","BIOS"]}
/redfish/v1/UpdateService/FirmwareInventory/BMC {"Id":"BMC","Name":"BMC","Version":"12.61.17","Updateable":true}
/redfish/v1/UpdateService/FirmwareInventory/BIOS {"Id":"BIOS","Name":"BIOS","Version":"F12"}
`}

// small is of the open kind: no sessions in this build, expansion of the plain form, a serial line on an ssh port of its own, SimpleUpdate only.
var small = shape{system: "/redfish/v1/Systems/system", basic: true, accounts: true, tree: `
/redfish/v1 {"RedfishVersion":"1.15.0","Vendor":"OpenBMC","Systems":{"@odata.id":"/redfish/v1/Systems"},"Chassis":{"@odata.id":"/redfish/v1/Chassis"},"Managers":{"@odata.id":"/redfish/v1/Managers"},"UpdateService":{"@odata.id":"/redfish/v1/UpdateService"},"ProtocolFeaturesSupported":{"ExpandQuery":{"NoLinks":true}}}
/redfish/v1/Systems {"Members":["system"]}
/redfish/v1/Systems/system {"Id":"system","Name":"system","PowerState":"Off","Boot":{"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideTarget":"None"},"SerialConsole":{"SSH":{"ServiceEnabled":true,"Port":0}},"Links":{"ManagedBy":[{"@odata.id":"/redfish/v1/Managers/bmc"}]},"Actions":{"#ComputerSystem.Reset":{"target":"/redfish/v1/Systems/system/Actions/ComputerSystem.Reset"}}}
/redfish/v1/Chassis {"Members":["chassis"]}
/redfish/v1/Chassis/chassis {"Id":"chassis","Name":"chassis","LocationIndicatorActive":false}
/redfish/v1/Managers {"Members":["bmc"]}
/redfish/v1/Managers/bmc {"Id":"bmc","Name":"OpenBmc Manager","FirmwareVersion":"2.14","Actions":{"#Manager.Reset":{"target":"/redfish/v1/Managers/bmc/Actions/Manager.Reset"}}}
/redfish/v1/UpdateService {"Id":"UpdateService","FirmwareInventory":{"@odata.id":"/redfish/v1/UpdateService/FirmwareInventory"},"Actions":{"#UpdateService.SimpleUpdate":{"target":"/redfish/v1/UpdateService/Actions/UpdateService.SimpleUpdate","TransferProtocol@Redfish.AllowableValues":["HTTP","HTTPS"]}}}
/redfish/v1/UpdateService/FirmwareInventory {"Members":["abc"]}
/redfish/v1/UpdateService/FirmwareInventory/abc {"Id":"abc","Name":"BMC image","Version":"2.14","Updateable":true}
`}

var shapes = map[string]shape{"modern": modern, "older": older, "small": small}
