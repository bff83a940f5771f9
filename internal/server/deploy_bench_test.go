package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/model"
)

// deploying is a service with n nodes whose deployments are in a phase.
func deploying(b *testing.B, n int, p model.Phase) (*service, []model.NodeName) {
	b.Helper()
	s := start(b, shortDir(b))
	ops := []model.Op{{Kind: model.KindImage, Name: "compute", Doc: &model.Image{Name: "compute"}}}
	names := make([]model.NodeName, n)
	now := time.Now()
	for i := range names {
		names[i] = model.NodeName(fmt.Sprintf("n%d", i+1))
		ops = append(ops, model.Op{Kind: model.KindNode, Name: string(names[i]), Doc: &model.Node{Name: names[i], Created: now}},
			model.Op{Kind: model.KindDeployment, Name: string(names[i]), Doc: &model.Deployment{
				Node: names[i], Image: "compute", Phase: p, Since: now, Begun: now, Boots: 3, Left: 2, Deadline: now.Add(time.Hour),
			}})
	}
	s.commit(ops...)
	return s, names
}

// reports sends a report of each node, so many at once.
func (s *service) reports(b *testing.B, names []model.NodeName, step string, done, at int) {
	b.Helper()
	work := make(chan model.NodeName)
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for n := range work {
				body := fmt.Sprintf(`{"step":%q,"made":{"done":%d,"of":100},"output":"chunk %d"}`, step, done, done)
				w := httptest.NewRecorder()
				q := &request{
					Request: httptest.NewRequest("POST", "/v1/node/progress", strings.NewReader(body)), w: w, snap: s.srv.store.Snapshot(), id: requestID(),
					who: auth.Who{Kind: auth.Node, Node: n, Name: "node " + string(n)},
				}
				if err := s.srv.progress(q); err != nil || w.Code != http.StatusOK {
					b.Errorf("%s: %d %v", n, w.Code, err)
				}
			}
		})
	}
	for _, n := range names {
		work <- n
	}
	close(work)
	wg.Wait()
}

func used() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkProgress is 10,000 nodes that fetch and report once a second, 1 % more each time: a round is a second of theirs. What the service needs of a core for that is
// cpu-share; late is how much longer than a second a round took at worst. The manager shares what is a tenth more meanwhile, and looks at all deadlines.
func BenchmarkProgress(b *testing.B) {
	const nodes = 10_000
	s, names := deploying(b, nodes, model.Fetching)
	b.ResetTimer()
	began, cpu := time.Now(), used()
	var worst time.Duration
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range b.N {
		at := time.Now()
		s.reports(b, names, "fetching", 1+i%99, 64)
		worst = max(worst, time.Since(at))
		<-tick.C
	}
	b.ReportMetric((used()-cpu).Seconds()/time.Since(began).Seconds(), "cpu-share")
	b.ReportMetric(worst.Seconds(), "worst-s")
	b.ReportMetric(float64(used()-cpu)/float64(b.N)/nodes/1000, "cpu-µs/report")
}

// BenchmarkTransition is 10,000 nodes that all come to the next phase at once: each is a commit, with its record in the audit trail and its line on the timeline.
func BenchmarkTransition(b *testing.B) {
	const nodes = 10_000
	for range b.N {
		b.StopTimer()
		s, names := deploying(b, nodes, model.Enrolled)
		cpu := used()
		b.StartTimer()
		at := time.Now()
		s.reports(b, names, "fetching", 0, 256)
		b.ReportMetric(nodes/time.Since(at).Seconds(), "transitions/s")
		b.ReportMetric(float64(used()-cpu)/nodes/1000, "cpu-µs/transition")
		b.StopTimer()
		if err := s.stop(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDeployWait is deploy --wait on 10,000 nodes: one look of its client, through the socket.
func BenchmarkDeployWait(b *testing.B) {
	s, _ := deploying(b, 10_000, model.Fetching)
	b.ResetTimer()
	for range b.N {
		n := 0
		for _, err := range api.Stream[api.NodeStatus](context.Background(), s.client, "POST", "/v1/status", api.StatusQuery{Range: api.Range{Range: "n[1-10000]"}}, nil) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 10_000 {
			b.Fatalf("%d nodes", n)
		}
	}
}
