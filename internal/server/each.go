package server

import (
	"context"
	"sync"
	"time"

	"muster/internal/api"
	"muster/internal/model"
)

// each does the work on every node, at most fanout at once, each within its own time, and streams a line as a node
// completes. work returns the line and the error in it. A limit of 0 leaves time to the work.
func each[T any](q *request, rg api.Range, nodes []*model.Node, fanout int, limit time.Duration, work func(context.Context, *model.Node) (T, *api.Error)) error {
	return eachOn(q, q.stream(len(nodes)), rg, nodes, fanout, limit, work)
}

// eachOn is each on a stream that the work tells its progress on.
func eachOn[T any](q *request, st *stream, rg api.Range, nodes []*model.Node, fanout int, limit time.Duration, work func(context.Context, *model.Node) (T, *api.Error)) error {
	if rg.Fanout > 0 {
		fanout = rg.Fanout
	}
	if limit > 0 {
		limit = ownTime(rg, limit)
	}
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
			ctx, cancel := q.Context(), func() {}
			if limit > 0 {
				ctx, cancel = context.WithTimeout(ctx, limit)
			}
			defer cancel()
			line, err := work(ctx, n)
			st.line(line, err != nil)
		})
	}
	wg.Wait()
	return st.end()
}

// ownTime is how long a node may take: what the request says, else the verb's time.
func ownTime(rg api.Range, limit time.Duration) time.Duration {
	if rg.TimeoutMS > 0 {
		return time.Duration(rg.TimeoutMS) * time.Millisecond
	}
	return limit
}
