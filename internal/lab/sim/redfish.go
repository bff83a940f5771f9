package sim

import (
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/internal/lab/board"
	"muster/internal/model"
)

// redfish is what a controller has beside its machine when it speaks Redfish.
type redfish struct {
	profile     *profile
	tree        tree // shared by all of a profile
	certificate *tls.Certificate

	logins        []login
	tasks         []*task
	subscriptions []subscription
	streams       map[chan []byte]bool
	told          uint16 // id of the newest log record that was told as an event
	events        int
	ids           int // of sessions, tasks, subscriptions
	audit         []remark

	asset, host, target string
	media               map[string]string // by slot: what is inserted
	bios, pending       map[string]any    // settings, and those of the next start; pending is nil when there are none
	boots               int               // starts of the machine that the BIOS settings have seen
	firmware            map[string]string
}

// login is a session of Redfish.
type login struct {
	id, token, user string
	access          byte
	seen            time.Time
}

type subscription struct {
	id          string
	destination string
}

// remark is an entry of a controller's own log.
type remark struct {
	at   time.Time
	text string
}

const (
	sessionTime = 30 * time.Minute
	maxLogins   = 16
	maxTasks    = 20
	maxAudit    = 50
	updateTime  = 5 * time.Second // of firmware
	eventPath   = root + "/EventService/SSE"
)

func (b *bmc) initRedfish(p *profile, t tree) {
	r := &redfish{
		profile: p, tree: t, host: b.machine.name + "-bmc", streams: map[chan []byte]bool{}, media: map[string]string{}, bios: map[string]any{},
		firmware: map[string]string{"BMC": "2.10.0", "BIOS": "1.4.2", "NIC1": "22.1.0"},
	}
	for k, x := range p.biosNames {
		r.bios[k] = x
	}
	last, _, _ := b.machine.log.Get(0xffff)
	r.told = binary.LittleEndian.Uint16(last[:])
	b.redfish = r
}

// note writes into the controller's own log.
func (v view) note(format string, args ...any) {
	r := v.redfish
	if len(r.audit) == maxAudit {
		r.audit = slices.Delete(r.audit, 0, 1)
	}
	r.audit = append(r.audit, remark{v.now, fmt.Sprintf(format, args...)})
}

// settleRedfish lets BIOS settings take effect at a start, and updates come to their end.
func (b *bmc) settleRedfish(now time.Time) {
	r := b.redfish
	if b.machine.boots != r.boots {
		r.boots = b.machine.boots
		maps.Copy(r.bios, r.pending)
		r.pending = nil
	}
	for _, t := range r.tasks {
		if !t.done && t.percent(now) == 100 {
			t.done = true
			if !t.failed() {
				for _, name := range t.targets {
					r.firmware[name] = next(r.firmware[name])
				}
			}
		}
	}
}

// next is the version after one: 2.10.0 becomes 2.10.1.
func next(version string) string {
	i := strings.LastIndexByte(version, '.')
	n, _ := strconv.Atoi(version[i+1:])
	return version[:i+1] + strconv.Itoa(n+1)
}

// tell sends what is new in the log to those who watch. b.mu is held.
func (b *bmc) tell() {
	r := b.redfish
	last, _, ok := b.machine.log.Get(0xffff)
	newest := binary.LittleEndian.Uint16(last[:])
	if !ok || newest == r.told {
		return
	}
	if len(r.streams) == 0 {
		r.told = newest
		return
	}
	for _, x := range b.entries() {
		id := binary.LittleEndian.Uint16(x[:])
		if int16(id-r.told) <= 0 {
			continue
		}
		r.told = id
		text, severity, created := describe(x)
		r.events++
		data, _ := json.Marshal(object{
			"@odata.type": "#Event.v1_7_0.Event", "Id": strconv.Itoa(r.events), "Name": "Event Array", "Events": []object{{
				"EventType": "Alert", "EventId": strconv.Itoa(r.events), "MemberId": "0", "EventTimestamp": created.Format(time.RFC3339), "Severity": severity, "MessageSeverity": severity,
				"Message": text, "MessageId": "SIM.1.0.Hardware", "OriginOfCondition": ref(r.profile.systemPath()),
			}},
		})
		line := fmt.Appendf(nil, "id: %d\ndata: %s\n\n", r.events, data)
		for c := range r.streams {
			select {
			case c <- line:
			default: // who does not read misses it
			}
		}
	}
}

// entries are the records of the hardware's log, oldest first.
func (b *bmc) entries() [][board.RecordSize]byte {
	var all [][board.RecordSize]byte
	for id := uint16(0); id != 0xffff; {
		x, after, ok := b.machine.log.Get(id)
		if !ok {
			break
		}
		all, id = append(all, x), after
	}
	return all
}

// What events of discrete sensors say: by sensor type and offset (IPMI 2.0 table 42-3).
var eventTexts = map[[2]byte]string{
	{0x22, 0}: "The system is on", {0x22, 5}: "The system is off", {0x09, 1}: "The system was power cycled", {0x09, 4}: "AC power was lost",
	{0x13, 0}: "A diagnostic interrupt was raised", {0x1d, 7}: "The system was restarted",
}

// describe says a record in words.
func describe(x [board.RecordSize]byte) (text, severity string, created time.Time) {
	created = time.Unix(int64(binary.LittleEndian.Uint32(x[3:])), 0).UTC()
	if s := analogOf(x[11]); s != nil && x[12]&0x7f == 0x01 {
		way := "fell below its lower"
		if x[13]&0x0f >= 6 {
			way = "rose above its upper"
		}
		return s.Name + " " + way + " threshold", "Warning", created
	}
	if t, ok := eventTexts[[2]byte{x[10], x[13] & 0x0f}]; ok {
		severity = "OK"
		if x[10] == 0x13 || x[13] == 4 {
			severity = "Critical"
		}
		return t, severity, created
	}
	return "Event " + hex.EncodeToString(x[10:14]), "OK", created
}

// task is work that goes on, such as an update of firmware.
type task struct {
	id      string
	name    string
	begin   time.Time
	takes   time.Duration
	targets []string // firmware that is new at the end
	problem string   // why it fails half way
	hangs   bool
	done    bool
}

func (t *task) failed() bool { return t.problem != "" }

// percent is how far it is. One that fails does so half way, one that hangs stops there.
func (t *task) percent(now time.Time) int {
	n := min(100, int(100*now.Sub(t.begin)/max(t.takes, 1)))
	switch {
	case t.hangs:
		return min(n, 40)
	case t.failed() && n >= 50:
		return 100
	}
	return n
}

func (t *task) state(now time.Time) (state, status string) {
	switch n := t.percent(now); {
	case n < 100:
		return "Running", "OK"
	case t.failed():
		return "Exception", "Critical"
	}
	return "Completed", "OK"
}

func (v view) taskDocument(t *task) object {
	state, status := t.state(v.now)
	o := with(head(root+"/TaskService/Tasks/"+t.id, "Task.v1_5_0.Task", t.name), object{
		"TaskState": state, "TaskStatus": status, "PercentComplete": t.percent(v.now), "StartTime": t.begin.Format(time.RFC3339), "TaskMonitor": root + "/TaskService/TaskMonitors/" + t.id,
		"Messages": []object{},
	})
	if state == "Exception" {
		o["Messages"] = []object{{"MessageId": "Update.1.0.VerificationFailed", "Message": t.problem, "Severity": "Critical"}}
	}
	if state != "Running" {
		o["EndTime"] = t.begin.Add(t.takes).Format(time.RFC3339)
	}
	return o
}

func (v view) newID() string {
	v.redfish.ids++
	return strconv.Itoa(v.redfish.ids)
}

// begin starts a task, which is the answer.
func (v view) begin(name string, targets []string, problem string) answer {
	r := v.redfish
	if len(r.tasks) == maxTasks {
		r.tasks = slices.Delete(r.tasks, 0, 1)
	}
	t := &task{id: v.newID(), name: name, begin: v.now, takes: updateTime, targets: targets, problem: problem, hangs: v.faults.Hang}
	r.tasks = append(r.tasks, t)
	v.note("%s", name)
	return answer{status: http.StatusAccepted, doc: v.taskDocument(t), header: http.Header{"Location": {root + "/TaskService/TaskMonitors/" + t.id}}}
}

func (v view) task(id string) *task {
	i := slices.IndexFunc(v.redfish.tasks, func(t *task) bool { return t.id == id })
	if i < 0 {
		return nil
	}
	return v.redfish.tasks[i]
}

// moving are the resources that come and go.
func (v view) moving(at string) (object, bool) {
	r, dir, id := v.redfish, path.Dir(at), path.Base(at)
	switch {
	case at == root+"/SessionService/Sessions" && v.p.sessions:
		var all []string
		for _, l := range r.logins {
			all = append(all, at+"/"+l.id)
		}
		return collection(at, "Session", all), true
	case dir == root+"/SessionService/Sessions":
		for _, l := range r.logins {
			if l.id == id {
				return with(head(at, "Session.v1_4_0.Session", "User Session"), object{"UserName": l.user}), true
			}
		}
	case at == root+"/TaskService/Tasks":
		var all []string
		for _, t := range r.tasks {
			all = append(all, at+"/"+t.id)
		}
		return collection(at, "Task", all), true
	case dir == root+"/TaskService/Tasks":
		if t := v.task(id); t != nil {
			return v.taskDocument(t), true
		}
	case at == root+"/EventService/Subscriptions":
		var all []string
		for _, s := range r.subscriptions {
			all = append(all, at+"/"+s.id)
		}
		return collection(at, "EventDestination", all), true
	case dir == root+"/EventService/Subscriptions":
		for _, s := range r.subscriptions {
			if s.id == id {
				return with(head(at, "EventDestination.v1_10_0.EventDestination", "Subscription"), object{"Destination": s.destination, "Protocol": "Redfish", "Context": ""}), true
			}
		}
	case at == root+"/AccountService/Accounts":
		var all []string
		for i := range v.accounts() {
			if v.p.slots || v.users[i].name != "" {
				all = append(all, fmt.Sprint(at, "/", i+1))
			}
		}
		return collection(at, "ManagerAccount", all), true
	case dir == root+"/AccountService/Accounts":
		if i, ok := v.accountNumber(id); ok {
			return v.accountDocument(i), true
		}
	}
	for _, l := range v.p.logs {
		entries := v.p.logPath(l) + "/Entries"
		if at != entries && dir != entries {
			continue
		}
		all := v.logEntries(l)
		if at == entries {
			return object{"@odata.id": at, "@odata.type": "#LogEntryCollection.LogEntryCollection", "Name": l.id, "Members": all, "Members@odata.count": len(all)}, true
		}
		for _, e := range all {
			if e["Id"] == id {
				return e, true
			}
		}
	}
	return nil, false
}

// logEntries are the entries of a log, newest first as most vendors have them.
func (v view) logEntries(l logService) []object {
	at := v.p.logPath(l) + "/Entries/"
	all := []object{}
	if !l.hardware {
		for i, n := range v.redfish.audit {
			all = append(all, with(head(at+fmt.Sprint(i+1), "LogEntry.v1_13_0.LogEntry", "Entry"), object{"EntryType": "Event", "Created": n.at.UTC().Format(time.RFC3339), "Severity": "OK", "Message": n.text}))
		}
	} else {
		for _, x := range v.entries() {
			text, severity, created := describe(x)
			all = append(all, with(head(at+fmt.Sprint(binary.LittleEndian.Uint16(x[:])), "LogEntry.v1_13_0.LogEntry", "Entry"), object{
				"EntryType": "SEL", "Created": created.Format(time.RFC3339), "Severity": severity, "Message": text, "MessageId": "SIM.1.0.Hardware", "SensorNumber": x[11],
			}))
		}
	}
	slices.Reverse(all)
	return all
}

// accounts are the users; a vendor with slots has them all, named or not.
func (v view) accounts() []user {
	if v.p.slots {
		return v.editUsers()
	}
	return v.users
}

func (v view) accountNumber(id string) (i int, ok bool) {
	n, err := strconv.Atoi(id)
	all := v.accounts()
	if err != nil || n < 1 || n > len(all) || !v.p.slots && all[n-1].name == "" {
		return 0, false
	}
	return n - 1, true
}

// The roles of Redfish by the privilege limits of IPMI (table 22-19).
var roleNames = map[byte]string{4: "Administrator", 3: "Operator", 2: "ReadOnly"}

func accessOf(role string) (byte, bool) {
	for access, name := range roleNames {
		if name == role {
			return access, true
		}
	}
	return 0, false
}

func (v view) accountDocument(i int) object {
	u, at := v.users[i], fmt.Sprint(root, "/AccountService/Accounts/", i+1)
	o := with(head(at, "ManagerAccount.v1_8_0.ManagerAccount", "User Account"), object{
		"UserName": u.name, "Password": nil, "Enabled": u.enabled, "Locked": false, "RoleId": "None",
	})
	if role := roleNames[u.access&0x0f]; role != "" {
		o["RoleId"], o["Links"] = role, object{"Role": ref(root + "/AccountService/Roles/" + role)}
	}
	return o
}

// edit changes an account. The error is for the client.
func (v view) edit(u user, q object) (user, error) {
	for key, x := range q {
		s, isText := x.(string)
		switch key {
		case "UserName":
			if !isText || len(s) > 16 {
				return u, fmt.Errorf("the property UserName has up to 16 octets")
			}
			u.name = s
		case "Password":
			if !isText || s == "" || len(s) > 20 {
				return u, fmt.Errorf("the property Password has 1 to 20 octets")
			}
			u.password = model.NewSecret(s)
		case "Enabled":
			on, ok := x.(bool)
			if !ok {
				return u, fmt.Errorf("the property Enabled is true or false")
			}
			u.enabled = on
		case "RoleId":
			access, ok := accessOf(s)
			if !ok {
				return u, fmt.Errorf("the property RoleId is Administrator, Operator or ReadOnly")
			}
			u.access = u.access&0xf0 | access
		default:
			return u, fmt.Errorf("%s cannot be set", key)
		}
	}
	return u, nil
}
