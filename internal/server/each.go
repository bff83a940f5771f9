package server

import (
	"context"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// each does the work on every node, at most fanout at once, each within its own time, and streams a line as a node
// completes. work returns the line and the error in it.
func each[T any](q *request, rg api.Range, nodes []*model.Node, fanout int, limit time.Duration, work func(context.Context, *model.Node) (T, *api.Error)) error {
	if rg.Fanout > 0 {
		fanout = rg.Fanout
	}
	if rg.TimeoutMS > 0 {
		limit = time.Duration(rg.TimeoutMS) * time.Millisecond
	}
	st := q.stream(len(nodes))
	slots := make(chan struct{}, max(1, min(fanout, len(nodes))))
	var wg sync.WaitGroup
	for _, n := range nodes {
		select {
		case slots <- struct{}{}:
		case <-q.Context().Done():
			wg.Wait()
			return st.end() // for nobody: the client has gone
		}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(q.Context(), limit)
			defer cancel()
			line, err := work(ctx, n)
			st.line(line, err != nil)
		})
	}
	wg.Wait()
	return st.end()
}
