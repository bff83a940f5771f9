package redfish

import (
	"fmt"
	"sync"
	"testing"

	"muster/internal/bmc"
	"muster/internal/model"
)

// BenchmarkPower asks 2,000 controllers, each a host of the loopback with a connection and a session of its own, for their power, all at once and warm.
// The controllers run in the same process: what is measured is both ends. To reach: 1 s.
func BenchmarkPower(b *testing.B) {
	const bmcs = 2000
	f := startFake(b, modern, "0.0.0.0:0")
	port := f.target().Port
	e := startEngine(b, Options{})
	all := make([]bmc.Driver, bmcs)
	for i := range all {
		all[i] = e.Open(bmc.Target{
			Node: model.NodeName(fmt.Sprintf("n%d", i)), Address: fmt.Sprintf("127.50.%d.%d", i/250, 1+i%250), Port: port, User: admin,
			Password: model.NewSecret(secret), Pins: []string{f.pin()},
		})
	}
	ask := func() {
		var wait sync.WaitGroup
		for _, d := range all {
			wait.Go(func() {
				if _, err := d.Power(b.Context()); err != nil {
					b.Error(err)
				}
			})
		}
		wait.Wait()
		f.asked()
	}
	ask() // cold
	for b.Loop() {
		ask()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/2000-bmcs")
}
