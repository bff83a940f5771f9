package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model"
)

// reconnectEvery is how long a follower waits before it asks a service again that went away.
const reconnectEvery = time.Second

func events(s *session) *cobra.Command {
	var since string
	var follow, bad bool
	var last int
	c := &cobra.Command{
		Use:     "events [NODERANGE]",
		GroupID: JobSee,
		Short:   "Show the timeline: who did what, what happened, and why",
		Long: `Show the timeline of nodes, or of everything. With --follow it shows the last ten lines, or those
of --since, and goes on until ^C, also over a restart of the service, and loses nothing. Lines that a person should look at are marked with "!".`,
		Example: `  muster events --since 10m
  muster events r1n[1-3] --follow
  muster events --bad --since '2026-11-20 06:00'`,
		Args: args(0, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		q := url.Values{}
		if len(a) == 1 {
			nr, err := withFiles(a[0], os.ReadFile)
			if err != nil {
				return err
			}
			q.Set("range", nr)
		}
		if s.flags.known {
			q.Set("known", "true")
		}
		if since != "" {
			v, err := sinceArg(since, time.Now())
			if err != nil {
				return err
			}
			q.Set("since", v)
		}
		if bad {
			q.Set("bad", "true")
		}
		if err := lastFlag(last); err != nil {
			return err
		}
		if last > 0 {
			q.Set("limit", strconv.Itoa(last))
		}
		if follow {
			return s.follow(c.Context(), q, bad)
		}
		return s.pastEvents(c.Context(), q, bad)
	}
	f := c.Flags()
	f.StringVar(&since, "since", "", "from this `time` on: 10m, 2h, 3d, 15:04, '2006-01-02 15:04' or RFC 3339")
	f.BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on, until ^C")
	f.BoolVar(&bad, "bad", false, "only what a person should look at")
	f.IntVar(&last, "last", 0, "only the newest `N`")
	f.BoolVar(&s.flags.known, "known", false, "skip unknown nodes instead of refusing them all")
	c.ValidArgsFunction = s.completeNodes
	return c
}

func (s *session) pastEvents(ctx context.Context, q url.Values, bad bool) error {
	cl, err := s.client()
	if err != nil {
		return err
	}
	out := &lazyWriter{w: s.out}
	defer out.flush()
	var trailer api.Trailer
	for line, err := range cl.Lines(ctx, "GET", "/v1/events?"+q.Encode(), nil, &trailer) {
		if err != nil {
			return err
		}
		if _, err := s.event(out, line, bad); err != nil {
			return err
		}
	}
	s.skipped(trailer.Skipped)
	if s.flags.json {
		out.flush()
		s.printJSON(trailer)
	}
	return nil
}

// follow prints what happens until the context ends. When the service goes away it is asked again, from the last line on.
func (s *session) follow(ctx context.Context, q url.Values, bad bool) error {
	cl, err := s.client()
	if err != nil {
		return err
	}
	if s.flags.known && q.Has("range") { // a stream without end has no trailer
		var names api.Names
		if err := s.do(ctx, "POST", "/v1/list", api.ListNodes{Range: api.Range{Range: q.Get("range"), Known: true}}, &names); err != nil {
			return err
		}
		s.skipped(names.Skipped)
	}
	q.Set("follow", "true")
	out := &lazyWriter{w: s.out}
	defer out.flush()
	for connected, told := false, false; ; {
		for line, err := range cl.Lines(ctx, "GET", "/v1/events?"+q.Encode(), nil, nil) {
			if ctx.Err() != nil {
				return nil // ^C is how one leaves
			}
			var cut *api.CutError
			var e *api.Error
			switch {
			case err == nil:
			case errors.As(err, &cut):
				connected = true
				continue
			case connected && errors.As(err, &e) && e.Code == api.Unreachable:
				continue
			default:
				return err
			}
			connected, told = true, false
			ev, err := s.event(out, line, bad)
			if err != nil {
				return err
			}
			q.Del("since")
			q.Del("limit")
			q.Set("after", strconv.FormatInt(ev.Seq, 10))
		}
		if !told {
			told = true
			s.warn("the service went away; waiting for it")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(reconnectEvery):
		}
	}
}

func (s *session) event(out *lazyWriter, line api.Raw, bad bool) (model.Event, error) {
	var e model.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return e, &api.Error{Code: api.Failed, What: "answer of the service", Why: err.Error(), Do: "Compare: muster version"}
	}
	switch {
	case bad && !e.Bad:
	case s.flags.json:
		_, _ = out.Write(append(line, '\n'))
	default:
		_, _ = fmt.Fprintln(out, eventLine(e, time.Local))
	}
	return e, nil
}

// eventLine is "2026-11-20 06:12:01.123   r1n1  boot.script  what (reason)".
func eventLine(e model.Event, zone *time.Location) string {
	mark := " "
	if e.Bad {
		mark = "!"
	}
	return fmt.Sprintf("%s %s %-8s %-14s %s", e.Time.In(zone).Format("2006-01-02 15:04:05.000"), mark, or(string(e.Node), e.MAC, "-"), e.Step, eventText(e))
}

func eventText(e model.Event) string {
	text := e.What
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	if e.Actor != "" {
		text += ", by " + e.Actor
	}
	return printable(text)
}

// sinceArg reads a time as people write it, and gives it as the API wants it: a duration back or RFC 3339.
func sinceArg(text string, now time.Time) (string, error) {
	if n, ok := cutSuffixInt(text, 'd'); ok {
		return (time.Duration(n) * 24 * time.Hour).String(), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return text, nil
	}
	for _, form := range []string{time.RFC3339Nano, time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t.Format(time.RFC3339Nano), nil
		}
	}
	for _, form := range []string{"15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, now.Location())
			if t.After(now) {
				t = t.AddDate(0, 0, -1) // of yesterday
			}
			return t.Format(time.RFC3339Nano), nil
		}
	}
	return "", usage("--since "+text, "it is no time", "Give 10m, 2h, 3d, 15:04, '2006-01-02 15:04' or an RFC 3339 time")
}

// maxDays keeps a number of days inside a time.Duration.
const maxDays = 100_000

func cutSuffixInt(text string, unit byte) (int, bool) {
	if text == "" || text[len(text)-1] != unit {
		return 0, false
	}
	n, err := strconv.Atoi(text[:len(text)-1])
	return n, err == nil && n >= 0 && n <= maxDays
}
