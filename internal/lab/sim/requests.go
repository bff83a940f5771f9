package sim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is what a request is answered: a document, unless nil, and a status.
type answer struct {
	status int
	header http.Header
	doc    any
}

// refuse is an error response as DSP0266 has it.
func refuse(status int, id, format string, args ...any) answer {
	text := fmt.Sprintf(format, args...)
	return answer{status: status, doc: object{"error": object{
		"code": "Base.1.12." + id, "message": text,
		"@Message.ExtendedInfo": []object{{"@odata.type": "#Message.v1_1_1.Message", "MessageId": "Base.1.12." + id, "Message": text, "MessageArgs": []string{}, "Severity": "Critical", "Resolution": "None"}},
	}}}
}

var done = answer{status: http.StatusNoContent}

func notFound(at string) answer {
	return refuse(http.StatusNotFound, "ResourceMissingAtURI", "The resource at the URI %s was not found.", at)
}

// request is what one asks, apart from the connection.
type request struct {
	method string
	path   string // clean, without a slash at the end
	query  url.Values
	header http.Header
	body   []byte
}

// serve answers a request. b.mu is held.
func (v view) serve(q request) answer {
	open := q.path == "/redfish" || q.path == root || q.path == root+"/odata" || q.path == root+"/$metadata"
	logsIn := q.path == root+"/SessionService/Sessions" && q.method == http.MethodPost && v.p.sessions
	access, ok := v.who(q.header)
	switch {
	case q.method == http.MethodHead || q.method == http.MethodGet:
		if !ok && !open {
			return v.unauthorized()
		}
		return v.get(q)
	case logsIn:
		return v.logIn(q.body)
	case !ok:
		return v.unauthorized()
	case access < 3:
		return refuse(http.StatusForbidden, "InsufficientPrivilege", "The account may only read.")
	}
	upload := q.path == v.p.update && q.method == http.MethodPost
	var body object
	if !upload && len(q.body) > 0 {
		if err := json.Unmarshal(q.body, &body); err != nil {
			return refuse(http.StatusBadRequest, "MalformedJSON", "The request body is no JSON object: %v", err)
		}
	}
	switch {
	case upload:
		return v.upload(q)
	case q.method == http.MethodPost:
		return v.post(q.path, body, access)
	case q.method == http.MethodPatch:
		return v.change(q, body, access)
	case q.method == http.MethodDelete:
		return v.remove(q.path, access)
	}
	return refuse(http.StatusMethodNotAllowed, "ActionNotSupported", "%s is not supported.", q.method)
}

func (v view) unauthorized() answer {
	a := refuse(http.StatusUnauthorized, "NoValidSession", "There is no valid session: log in.")
	if v.p.basic {
		a.header = http.Header{"Www-Authenticate": {`Basic realm="Redfish"`}}
	}
	return a
}

// who says what the sender of a request may do: by token or, where the vendor takes it, by name and password.
func (v view) who(h http.Header) (access byte, ok bool) {
	r := v.redfish
	r.logins = slices.DeleteFunc(r.logins, func(l login) bool { return v.now.Sub(l.seen) > sessionTime })
	if t := h.Get("X-Auth-Token"); t != "" {
		for i := range r.logins {
			if r.logins[i].token == t {
				r.logins[i].seen = v.now
				return r.logins[i].access, true
			}
		}
		return 0, false
	}
	name, password, ok := (&http.Request{Header: h}).BasicAuth()
	if !ok || !v.p.basic {
		return 0, false
	}
	u, ok := v.login(name)
	return u.access & 0x0f, ok && u.password.Reveal() == password
}

func (v view) logIn(body []byte) answer {
	var q struct{ UserName, Password string }
	if json.Unmarshal(body, &q) != nil {
		return refuse(http.StatusBadRequest, "MalformedJSON", "The request body is no JSON object.")
	}
	r := v.redfish
	u, ok := v.login(q.UserName)
	switch {
	case !ok || u.password.Reveal() != q.Password:
		v.note("login of %.16q was refused", q.UserName)
		return refuse(http.StatusUnauthorized, "ResourceAtUriUnauthorized", "The user name or the password is wrong.")
	case len(r.logins) >= maxLogins:
		return refuse(http.StatusServiceUnavailable, "SessionLimitExceeded", "The maximum number of sessions is open.")
	}
	var token [16]byte
	v.fill(token[:])
	l := login{id: v.newID(), token: hex.EncodeToString(token[:]), user: u.name, access: u.access & 0x0f, seen: v.now}
	r.logins = append(r.logins, l)
	v.model.counters.logins.Add(1)
	v.note("%s logged in", u.name)
	at := root + "/SessionService/Sessions/" + l.id
	return answer{
		status: http.StatusCreated, header: http.Header{"X-Auth-Token": {l.token}, "Location": {at}},
		doc: with(head(at, "Session.v1_4_0.Session", "User Session"), object{"UserName": l.user}),
	}
}

// resource is the document at a path.
func (v view) resource(at string) (object, bool) {
	if make, ok := v.redfish.tree[at]; ok {
		return make(v), true
	}
	return v.moving(at)
}

func (v view) get(q request) answer {
	if id, ok := strings.CutPrefix(q.path, root+"/TaskService/TaskMonitors/"); ok {
		t := v.task(id)
		switch {
		case t == nil:
			return notFound(q.path)
		case !t.done:
			return answer{status: http.StatusAccepted, doc: v.taskDocument(t), header: http.Header{"Location": {q.path}, "Retry-After": {"1"}}}
		}
		return answer{status: http.StatusOK, doc: v.taskDocument(t)}
	}
	switch q.path {
	case root + "/odata":
		return answer{status: http.StatusOK, doc: object{"@odata.context": root + "/$metadata", "value": []object{{"name": "Service", "kind": "Singleton", "url": root + "/"}}}}
	case root + "/$metadata":
		return answer{status: http.StatusOK, doc: object{}}
	}
	doc, ok := v.resource(q.path)
	if !ok {
		return notFound(q.path)
	}
	a := answer{status: http.StatusOK, doc: doc, header: http.Header{}}
	if tag := v.tag(doc); tag != "" {
		a.header.Set("ETag", tag)
		if q.header.Get("If-None-Match") == tag {
			return answer{status: http.StatusNotModified, header: a.header}
		}
	}
	if how := q.query.Get("$expand"); how != "" {
		if !v.p.expand {
			return refuse(http.StatusNotImplemented, "QueryNotSupported", "Querying is not supported by the implementation.")
		}
		a.doc = v.expand(doc, levels(how), false)
	}
	if members, ok := doc["Members"].([]object); ok {
		page(doc, members, q)
	}
	return a
}

// page cuts a collection as $skip and $top say.
func page(doc object, members []object, q request) {
	skip, _ := strconv.Atoi(q.query.Get("$skip"))
	top, err := strconv.Atoi(q.query.Get("$top"))
	if err != nil {
		top = len(members)
	}
	skip = max(0, min(skip, len(members)))
	end := skip + max(0, min(top, len(members)-skip))
	doc["Members"] = members[skip:end]
	if end < len(members) {
		doc["Members@odata.nextLink"] = fmt.Sprintf("%s?$skip=%d&$top=%d", q.path, end, max(top, 1))
	}
}

// maxLevels is how deep $expand goes.
const maxLevels = 3

// levels reads the depth of "*($levels=2)".
func levels(how string) int {
	_, n, ok := strings.Cut(how, "$levels=")
	if !ok {
		return 1
	}
	d, err := strconv.Atoi(strings.TrimRight(n, ")"))
	if err != nil {
		return 1
	}
	return max(0, min(d, maxLevels))
}

// expand puts documents in place of references, so many levels deep; links in "Links" stay as they are.
func (v view) expand(x any, depth int, link bool) any {
	switch x := x.(type) {
	case object:
		at, _ := x["@odata.id"].(string)
		if link && len(x) == 1 && at != "" {
			if depth == 0 {
				return x
			}
			doc, ok := v.resource(at)
			if !ok {
				return x
			}
			return v.expand(doc, depth-1, false)
		}
		out := object{}
		for k, y := range x {
			if k == "Links" || depth == 0 {
				out[k] = y
				continue
			}
			out[k] = v.expand(y, depth, true)
		}
		return out
	case []object:
		out := make([]any, len(x))
		for i, y := range x {
			out[i] = v.expand(y, depth, true)
		}
		return out
	}
	return x
}

// tag is the ETag of a document: of all in it but the clock. Empty where the vendor has none.
func (v view) tag(doc object) string {
	if !v.p.etags {
		return ""
	}
	if _, ok := doc["DateTime"]; ok {
		doc = maps.Clone(doc)
		delete(doc, "DateTime")
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return ""
	}
	h := fnv.New64a()
	_, _ = h.Write(data)
	return fmt.Sprintf(`"%016x"`, h.Sum64())
}

// post does actions and makes resources.
func (v view) post(at string, q object, access byte) answer {
	text := func(key string) string { s, _ := q[key].(string); return s }
	action := path.Base(at)
	owner := path.Dir(path.Dir(at)) // of /Actions/name
	switch {
	case action == "ComputerSystem.Reset" && owner == v.p.systemPath():
		return v.reset(text("ResetType"))
	case action == "Manager.Reset" && owner == v.p.managerPath():
		if t := text("ResetType"); t != "" && !slices.Contains(v.p.managerResets, t) {
			return refuse(http.StatusBadRequest, "ActionParameterValueNotInList", "The value %s for ResetType is not in the list of acceptable values.", t)
		}
		v.redfish.logins = nil
		v.note("the controller was reset")
		return done
	case action == "LogService.ClearLog":
		for _, l := range v.p.logs {
			if v.p.logPath(l) == owner {
				if l.hardware {
					v.machine.log.Clear()
				} else {
					v.redfish.audit = nil
				}
				return done
			}
		}
	case (action == "VirtualMedia.InsertMedia" || action == "VirtualMedia.EjectMedia") && path.Dir(owner) == v.p.mediaPath() && slices.Contains(v.p.media, path.Base(owner)):
		return v.insert(path.Base(owner), action == "VirtualMedia.InsertMedia", text("Image"))
	case at == v.p.systemPath()+"/"+v.p.bios+"/Actions/Bios.ResetBios":
		v.redfish.pending = map[string]any{}
		for k, x := range v.p.biosNames {
			v.redfish.pending[k] = x
		}
		return done
	case at == root+"/UpdateService/Actions/UpdateService.SimpleUpdate":
		if text("ImageURI") == "" {
			return refuse(http.StatusBadRequest, "ActionParameterMissing", "The action needs the parameter ImageURI.")
		}
		return v.begin("Update from "+text("ImageURI"), v.firmwareTargets(q), "")
	case at == root+"/EventService/Subscriptions":
		if text("Destination") == "" {
			return refuse(http.StatusBadRequest, "PropertyMissing", "The property Destination is required.")
		}
		s := subscription{v.newID(), text("Destination")}
		if len(v.redfish.subscriptions) >= maxLogins {
			return refuse(http.StatusServiceUnavailable, "EventSubscriptionLimitExceeded", "There are as many subscriptions as can be.")
		}
		v.redfish.subscriptions = append(v.redfish.subscriptions, s)
		return answer{status: http.StatusCreated, header: http.Header{"Location": {at + "/" + s.id}}}
	case at == root+"/AccountService/Accounts" && !v.p.slots:
		return v.addAccount(q, access)
	}
	if _, ok := v.resource(at); ok {
		return refuse(http.StatusMethodNotAllowed, "ActionNotSupported", "Nothing can be made at %s.", at)
	}
	return notFound(at)
}

// resetActions are the reset types of DSP2046 as actions on the power.
var resetActions = map[string]int{
	"On": powerUp, "ForceOn": powerUp, "ForceOff": powerDown, "GracefulShutdown": softShutdown, "GracefulRestart": hardReset, "ForceRestart": hardReset, "Nmi": diagnostic, "PowerCycle": powerCycle,
}

func (v view) reset(kind string) answer {
	action, ok := resetActions[kind]
	if kind == "PushPowerButton" {
		action, ok = powerUp, true
		if v.machine.on {
			action = softShutdown
		}
	}
	if !ok || !slices.Contains(v.p.resets, kind) {
		return refuse(http.StatusBadRequest, "ActionParameterValueNotInList", "The value %s for ResetType is not in the list of acceptable values.", kind)
	}
	if v.machine.on && kind == "On" && v.p.strictOn || !v.machine.act(v.now, action, v.model.delay) {
		return refuse(http.StatusConflict, "PropertyValueConflict", "The system is %s: %s is not possible.", v.power(), kind)
	}
	return done
}

func (v view) insert(slot string, in bool, image string) answer {
	_, inserted := v.redfish.media[slot]
	switch u, err := url.Parse(image); {
	case !in:
		delete(v.redfish.media, slot)
	case inserted:
		return refuse(http.StatusConflict, "ResourceInUse", "There is a medium in %s: eject it.", slot)
	case err != nil || u.Host == "":
		return refuse(http.StatusBadRequest, "ActionParameterMissing", "Image is the URL of an image.")
	default:
		v.redfish.media[slot] = image
	}
	return done
}

func (v view) addAccount(q object, access byte) answer {
	if access < 4 {
		return refuse(http.StatusForbidden, "InsufficientPrivilege", "Accounts are for administrators.")
	}
	u, err := v.edit(user{enabled: true, access: 0x30 | 2}, q)
	switch {
	case err != nil:
		return refuse(http.StatusBadRequest, "PropertyValueError", "%v", err)
	case u.name == "" || u.password.Empty():
		return refuse(http.StatusBadRequest, "PropertyMissing", "An account needs UserName and Password.")
	case slices.ContainsFunc(v.users, func(x user) bool { return x.name == u.name }):
		return refuse(http.StatusBadRequest, "ResourceAlreadyExists", "There is an account %s.", u.name)
	}
	all := v.editUsers()
	i := slices.IndexFunc(all[1:], func(x user) bool { return x.name == "" }) + 1
	if i == 0 {
		return refuse(http.StatusServiceUnavailable, "CreateLimitReachedForResource", "There are as many accounts as can be.")
	}
	all[i] = u
	return answer{status: http.StatusCreated, doc: v.accountDocument(i), header: http.Header{"Location": {fmt.Sprint(root, "/AccountService/Accounts/", i+1)}}}
}

// firmwareTargets are the firmwares that an update is for: those that are named, else the controller's.
func (v view) firmwareTargets(q object) []string {
	var all []string
	targets, _ := q["Targets"].([]any)
	for _, t := range targets {
		s, _ := t.(string)
		if name := path.Base(s); v.redfish.firmware[name] != "" {
			all = append(all, name)
		}
	}
	if all == nil {
		return []string{"BMC"}
	}
	return all
}

// upload takes a firmware image. One that begins with "corrupt" is refused half way.
func (v view) upload(q request) answer {
	kind, params, _ := mime.ParseMediaType(q.header.Get("Content-Type"))
	image, parameters := q.body, object{}
	switch {
	case v.p.multipart != (kind == "multipart/form-data"):
		return refuse(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "%s does not take %s.", q.path, kind)
	case v.p.multipart:
		image = nil
		form, err := multipart.NewReader(bytes.NewReader(q.body), params["boundary"]).ReadForm(maxUpload)
		if err != nil {
			return refuse(http.StatusBadRequest, "MalformedForm", "The form cannot be read: %v", err)
		}
		for _, s := range form.Value["UpdateParameters"] {
			if json.Unmarshal([]byte(s), &parameters) != nil {
				return refuse(http.StatusBadRequest, "MalformedJSON", "UpdateParameters is no JSON object.")
			}
		}
		for name, files := range form.File {
			f, err := files[0].Open()
			if err != nil {
				return refuse(http.StatusBadRequest, "MalformedForm", "%v", err)
			}
			data := make([]byte, files[0].Size)
			_, err = io.ReadFull(f, data)
			if name == "UpdateParameters" {
				if json.Unmarshal(data, &parameters) != nil {
					return refuse(http.StatusBadRequest, "MalformedJSON", "UpdateParameters is no JSON object.")
				}
			} else if err == nil {
				image = data
			}
			_ = f.Close()
		}
	}
	if len(image) == 0 {
		return refuse(http.StatusBadRequest, "PropertyMissing", "There is no image.")
	}
	if slices.ContainsFunc(v.redfish.tasks, func(t *task) bool { return !t.done }) {
		return refuse(http.StatusServiceUnavailable, "UpdateInProgress", "There is an update in progress.")
	}
	problem := ""
	if bytes.HasPrefix(image, []byte("corrupt")) {
		problem = "The image does not verify."
	}
	return v.begin(fmt.Sprintf("Update with %d octets", len(image)), v.firmwareTargets(parameters), problem)
}

// change is PATCH.
func (v view) change(q request, body object, access byte) answer {
	doc, ok := v.resource(q.path)
	if !ok {
		return notFound(q.path)
	}
	match := q.header.Get("If-Match")
	switch {
	case match == "" && v.p.ifMatch:
		return refuse(http.StatusPreconditionRequired, "PreconditionRequired", "A precondition header is required: If-Match with the ETag.")
	case match != "" && match != "*" && v.p.etags && match != v.tag(doc):
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The ETag is not that of the resource: read it again.")
	}
	if path.Dir(q.path) == root+"/AccountService/Accounts" {
		return v.changeAccount(path.Base(q.path), body, access)
	}
	var wrong []string
	for key, x := range body {
		if !v.set(q.path, key, x) {
			wrong = append(wrong, key)
		}
	}
	if wrong != nil {
		slices.Sort(wrong)
		return refuse(http.StatusBadRequest, "PropertyNotWritable", "These cannot be set, or not so: %s.", strings.Join(wrong, ", "))
	}
	doc, _ = v.resource(q.path)
	a := answer{status: http.StatusOK, doc: doc, header: http.Header{}}
	if tag := v.tag(doc); tag != "" {
		a.header.Set("ETag", tag)
	}
	return a
}

func (v view) changeAccount(id string, body object, access byte) answer {
	i, _ := v.accountNumber(id)
	if access < 4 {
		return refuse(http.StatusForbidden, "InsufficientPrivilege", "Accounts are for administrators.")
	}
	u, err := v.edit(v.users[i], body)
	if err != nil {
		return refuse(http.StatusBadRequest, "PropertyValueError", "%v", err)
	}
	v.editUsers()[i] = u
	return answer{status: http.StatusOK, doc: v.accountDocument(i)}
}

// set changes one property; false: it cannot be, or not so.
func (v view) set(at, key string, x any) bool {
	text, isText := x.(string)
	switch {
	case key == v.p.led && (at == v.p.systemPath() || at == v.p.chassisPath()):
		on, ok := x.(bool)
		if v.p.led == "IndicatorLED" {
			on, ok = text == "Lit" || text == "Blinking", text == "Lit" || text == "Blinking" || text == "Off"
		}
		if ok {
			v.machine.light(v.now, on, 0)
		}
		return ok
	case at == v.p.systemPath() && key == "Boot":
		return v.setBootSource(x)
	case at == v.p.systemPath() && key == "AssetTag" && isText:
		v.redfish.asset = text
		return true
	case at == v.p.systemPath()+"/"+v.p.biosSettings && key == "Attributes":
		return v.setBIOS(x)
	case (at == v.p.managerPath()+"/NetworkProtocol" || path.Dir(at) == v.p.managerPath()+"/EthernetInterfaces") && key == "HostName" && isText:
		v.redfish.host = text
		return true
	}
	return false
}

func (v view) setBIOS(x any) bool {
	all, ok := x.(map[string]any)
	if !ok {
		return false
	}
	for k := range all {
		if _, known := v.redfish.bios[k]; !known {
			return false
		}
	}
	if v.redfish.pending == nil {
		v.redfish.pending = map[string]any{}
	}
	maps.Copy(v.redfish.pending, all)
	return true
}

// setBootSource keeps the override as boot flags, so that both protocols tell the same.
func (v view) setBootSource(x any) bool {
	q, ok := x.(map[string]any)
	if !ok {
		return false
	}
	b := v.machine.boot
	for key, y := range q {
		s, _ := y.(string)
		switch key {
		case "BootSourceOverrideTarget":
			if !slices.Contains(v.p.targets, s) {
				return false
			}
			selector := byte(15)
			for n, name := range targetNames {
				if name == s {
					selector = n
				}
			}
			b[0], b[1], v.redfish.target = b[0]|0x80, selector<<2, s
		case "BootSourceOverrideEnabled":
			switch s {
			case "Disabled":
				b[0], b[1], v.redfish.target = b[0]&^0xc0, 0, ""
			case "Once":
				b[0] = b[0]&^0x40 | 0x80
			case "Continuous":
				b[0] |= 0xc0
			default:
				return false
			}
		case "BootSourceOverrideMode":
			switch s {
			case "UEFI":
				b[0] |= 0x20
			case "Legacy":
				b[0] &^= 0x20
			default:
				return false
			}
		default:
			return false
		}
	}
	v.machine.boot = b
	return true
}

// remove is DELETE.
func (v view) remove(at string, access byte) answer {
	r, dir, id := v.redfish, path.Dir(at), path.Base(at)
	if _, ok := v.moving(at); !ok {
		return notFound(at)
	}
	switch dir {
	case root + "/SessionService/Sessions":
		r.logins = slices.DeleteFunc(r.logins, func(l login) bool { return l.id == id })
	case root + "/TaskService/Tasks":
		r.tasks = slices.DeleteFunc(r.tasks, func(t *task) bool { return t.id == id })
	case root + "/EventService/Subscriptions":
		r.subscriptions = slices.DeleteFunc(r.subscriptions, func(s subscription) bool { return s.id == id })
	case root + "/AccountService/Accounts":
		i, _ := v.accountNumber(id)
		if v.p.slots || access < 4 {
			return refuse(http.StatusMethodNotAllowed, "ActionNotSupported", "This account cannot be deleted.")
		}
		v.editUsers()[i] = noUsers[0]
	default:
		return refuse(http.StatusMethodNotAllowed, "ActionNotSupported", "%s cannot be deleted.", at)
	}
	return done
}

// slow waits as the faults of a controller say; false: the client went away.
func slow(r *http.Request, d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
