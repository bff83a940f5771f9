package redfish

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/internal/bmc"
)

// hardwareLog finds the log of hardware events: by the table of quirks, then the one that says that it is a SEL, then by its usual names, then the first.
func (p *peer) hardwareLog(ctx context.Context, at *place) (logService, error) {
	all, err := members[logService](ctx, p, at.first.LogServices.ID)
	if err != nil {
		return logService{}, err
	}
	_, m, err := p.manager(ctx, at)
	if err != nil && !absent(err) {
		return logService{}, err
	}
	more, err := members[logService](ctx, p, m.LogServices.ID)
	if err != nil {
		return logService{}, err
	}
	all = append(all, more...)
	names := append(slices.Clone(p.quirk.logs), "SEL", "IML", "EventLog", "Log")
	best, rank := -1, len(names)+1
	for i, l := range all {
		if l.Enabled != nil && !*l.Enabled || l.Entries.ID == "" {
			continue
		}
		r := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, string(l.ID)) })
		switch {
		case r < 0 && l.LogEntryType == "SEL":
			r = len(p.quirk.logs)
		case r < 0:
			r = len(names)
		}
		if r < rank {
			best, rank = i, r
		}
	}
	if best < 0 {
		return logService{}, &missing{"it has no log of hardware events"}
	}
	return all[best], nil
}

// EventLog reads the log of hardware events, oldest first.
func (d *driver) EventLog(ctx context.Context) ([]bmc.LogEntry, error) {
	var out []bmc.LogEntry
	err := d.with(ctx, "eventlog", func(ctx context.Context, p *peer, at *place) error {
		l, err := p.hardwareLog(ctx, at)
		if err != nil {
			return err
		}
		all, err := members[logEntry](ctx, p, l.Entries.ID)
		if err != nil {
			return err
		}
		for _, e := range all {
			out = append(out, e.plain())
		}
		inOrder(out)
		return nil
	})
	return out, err
}

// inOrder sorts by time; entries of one time, and those of a clock that was not set, by their number.
func inOrder(all []bmc.LogEntry) {
	slices.SortStableFunc(all, func(a, b bmc.LogEntry) int {
		if c := a.Time.Compare(b.Time); c != 0 && !a.Time.IsZero() && !b.Time.IsZero() {
			return c
		}
		x, ex := strconv.ParseUint(a.ID, 10, 64)
		y, ey := strconv.ParseUint(b.ID, 10, 64)
		switch {
		case ex != nil || ey != nil || x == y:
			return 0
		case x < y:
			return -1
		}
		return 1
	})
}

func (e logEntry) plain() bmc.LogEntry {
	o := bmc.LogEntry{
		ID: string(either(e.ID, e.EventID)), Time: e.Created.Time, Kind: strings.ToLower(string(e.SensorType)), Text: string(either(e.Message, e.Name, e.MessageID)),
		Health: health{Health: either(e.Severity, e.MessageSeverity)}.plain(), Sensor: last(either(e.Links.OriginOfCondition.ID, e.Origin.ID)),
		Over: e.Resolved || strings.HasSuffix(strings.ToLower(string(e.EntryCode)), "deassert"),
	}
	if o.Time.IsZero() || !e.EventTimestamp.IsZero() {
		o.Time = e.EventTimestamp.Time
		if o.Time.IsZero() {
			o.Time = e.Created.Time
		}
	}
	return o
}

// ClearEventLog calls LogService.ClearLog.
func (d *driver) ClearEventLog(ctx context.Context) error {
	return d.with(ctx, "eventlog --clear", func(ctx context.Context, p *peer, at *place) error {
		l, err := p.hardwareLog(ctx, at)
		if err != nil {
			return err
		}
		_, err = p.post(ctx, l.Actions.Clear.Target, struct{}{})
		return err
	})
}

// Watch follows the stream of events (DSP0266, "Server-sent events").
func (d *driver) Watch(ctx context.Context, see func(bmc.LogEntry)) error {
	const what = "events of hardware"
	err := d.with(ctx, what, func(ctx context.Context, p *peer, _ *place) error {
		var s eventService
		if p.root.EventService.ID != "" {
			if _, err := p.get(ctx, p.root.EventService.ID, &s); err != nil && !absent(err) {
				return err
			}
		}
		if s.SSE == "" || s.ServiceEnabled != nil && !*s.ServiceEnabled {
			return &missing{"it sends no events"}
		}
		path := s.SSE
		if s.Filters.EventFormatType && !strings.Contains(path, "?") {
			path += "?$filter=EventFormatType%20eq%20Event"
		}
		r, err := p.stream(ctx, path)
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }()
		err = sse(r.Body, func(data []byte) {
			var v event
			if decode(data, &v) != nil {
				return // a report of metrics, or a remark of the vendor's
			}
			for _, e := range v.Events {
				see(e.plain())
			}
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &bmc.Error{Kind: bmc.Lost, What: what, Why: fmt.Sprintf("BMC %s ended the stream of events (%v)", p.key, err), Err: err}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stream opens the stream of events, with the session. Only its beginning is bounded in time.
func (p *peer) stream(ctx context.Context, path string) (*http.Response, error) {
	ctx, stop := context.WithCancelCause(ctx)
	late := time.AfterFunc(p.engine.opt.Timeout, func() { stop(context.DeadlineExceeded) })
	defer late.Stop()
	for again := false; ; again = true {
		if err := p.open(ctx); err != nil {
			return nil, err
		}
		p.mu.Lock()
		token, basic := p.token, p.basic
		p.mu.Unlock()
		c := call{method: http.MethodGet, path: path, header: map[string]string{"Accept": "text/event-stream"}}
		r, err := p.begin(ctx, c, token, basic)
		if err != nil {
			return nil, errors.Join(context.Cause(ctx), err)
		}
		if r.StatusCode == http.StatusOK {
			return r, nil
		}
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		_ = r.Body.Close()
		err = answer{r.StatusCode, r.Header, b}.err(c)
		if !expired(err) || basic || again {
			if err == nil {
				err = &answerError{fmt.Sprintf("GET %s: %s", path, r.Status)}
			}
			return nil, err
		}
		p.forget(token)
	}
}

// sse reads a stream of events (the HTML standard, section 9.2) and calls see with the data of each, until the stream ends. It returns why.
func sse(r io.Reader, see func(data []byte)) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), 1<<20)
	var data []byte
	for s.Scan() {
		line := bytes.TrimSuffix(s.Bytes(), []byte("\r"))
		if len(line) == 0 {
			if len(data) > 0 {
				see(data)
			}
			data = nil
			continue
		}
		if rest, ok := bytes.CutPrefix(line, []byte("data:")); ok && len(data) < limit {
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(rest, []byte(" "))...)
		}
	}
	if err := s.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return io.EOF
}
