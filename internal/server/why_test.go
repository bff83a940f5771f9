package server

import (
	"strings"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/bmc"
	"muster/internal/model"
)

// The sentence names the cause that explains most, and the next command; the hardware comes before the kernel, and both before what only follows from them.
func TestWhatToDo(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	held := func(code model.Code, reason string) api.NodeStatus {
		return api.NodeStatus{Status: "held", Code: code, Reason: reason, Image: "compute"}
	}
	dimm := model.LogEntry{Time: at, Sensor: "DIMM A3", Text: "uncorrectable error", Health: bmc.Critical}
	over := model.LogEntry{Time: at.Add(time.Minute), Sensor: "DIMM A3", Text: "uncorrectable error", Over: true}
	panics := []string{"Booting", "Kernel panic - not syncing: VFS"}
	for _, c := range []struct {
		name string
		w    api.Why
		want []string
	}{
		{"up", api.Why{Status: api.NodeStatus{Status: "up"}}, []string{"Nothing is to be done"}},
		{"nothing deployed", api.Why{Status: api.NodeStatus{Status: "defined"}}, []string{"muster deploy n1 IMAGE --reboot"}},
		{"waiting", api.Why{Status: api.NodeStatus{Status: "waiting"}}, []string{"Wait for its wave", "--cancel"}},
		{"cancelled", api.Why{Status: api.NodeStatus{Status: "cancelled"}}, []string{"--retry"}},
		{"hardware", api.Why{Status: held(model.BootsUsedUp, "r"), EventLog: []model.LogEntry{dimm}, Console: panics}, []string{"DIMM A3 uncorrectable error", "--retry --reboot"}},
		{"hardware that is well again", api.Why{Status: held(model.BootsUsedUp, "r"), EventLog: []model.LogEntry{dimm, over}, Console: panics}, []string{"Kernel panic", "image compute", "image.kernelargs"}},
		{"BMC", api.Why{Status: held(model.BMCFailed, "r")}, []string{"muster bmc test n1"}},
		{"the node said why", api.Why{Status: held(model.NodeFailed, "fetching, the node stopped: two disks match; look at: muster get n1 'disk.*'")}, []string{"two disks match", "muster get n1 'disk.*'", "--retry"}},
		{"too long", api.Why{Status: held(model.PhaseTooLong, "r")}, []string{"console n1 --log", "deploy.limit."}},
		{"held by an older program", api.Why{Status: held("", "r")}, []string{"console n1 --log", "--retry"}},
		{"under way", api.Why{Status: api.NodeStatus{Status: "fetching", Step: "fetching 43 %", Deadline: at}}, []string{"Wait: it is fetching 43 %", "held at 2026-11-20T12:00:00Z"}},
		{"armed", api.Why{Status: api.NodeStatus{Status: "armed"}, Look: []string{"it is off: muster power n1 on"}}, []string{"Look here: it is off: muster power n1 on."}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			c.w.Node = "n1"
			got := whatToDo(&c.w)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, without %q", got, want)
				}
			}
			if !strings.HasSuffix(got, ".") || strings.Contains(got, "\n") {
				t.Errorf("it is no sentence: %q", got)
			}
		})
	}
}
