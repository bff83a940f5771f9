package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
	"muster/internal/model"
)

func consoles(s *session) *cobra.Command {
	var o consoleOptions
	c := &cobra.Command{
		Use:        "console NODE",
		SuggestFor: []string{"rcons", "nodeconsole"},
		GroupID:    JobHardware,
		Short:      "Sit at the console of a node, read its record, or play it back",
		Long: `Sit at the console of a node. Many may watch; one types at a time, the others see it. The console is
always recorded, also when nobody watches.

Keys, each behind ctrl-e and c:
  .  leave                       l0  send a serial break
  t  take over the typing        w   watch only, until t
  p1 power on    p0 power off    pc  power cycle    pr  reset    ps  soft off    pd  diag    p?  power status
  c  send ctrl-e and c           ?   show these keys

Where another types already you are asked; --force takes the typing over without asking. Who loses it is told.

--log prints the record, --grep what of it matches; --replay plays it with its pauses, none longer than 2 s, or prints
it where the output is no terminal. A line [muster: TIME …] says what happened to the record: why there is a gap,
and how long it was.
Where standard input is no terminal, it is typed at the console, and the answer is printed until nothing has come for
--linger.`,
		Example: `  muster console r1n2
  muster console r1n2 --watch
  muster console r1n2 --log --since 1h | less -R
  muster console r1n2 --log --times --grep 'panic|BUG: '
  muster console r1n2 --replay --since 06:12 --speed 4
  echo | muster console r1n2 --linger 2s`,
		Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		switch {
		case o.log && o.replay:
			return usage("console", "--log goes not with --replay", "Give one of them")
		case (o.log || o.replay || o.watch) && o.force:
			return usage("console", "--force is about typing", "Give it alone")
		case (o.log || o.replay) && o.watch:
			return usage("console", "--watch is about now, and a record is about the past", "Give one of them")
		case !o.log && !o.replay && (o.since != "" || o.until != "" || o.tail != 0 || o.grep != "" || o.times):
			return usage("console", "--since, --until, --tail, --grep and --times are about the record", "Give --log or --replay too")
		case o.tail < 0:
			return usage(fmt.Sprintf("--tail %d", o.tail), "it is negative", "Give a number of lines")
		case o.replay && (o.tail != 0 || o.grep != "" || o.times):
			return usage("console", "--tail, --grep and --times are for --log", "Say where to begin and to end with --since and --until")
		case o.speed <= 0:
			return usage(fmt.Sprintf("--speed %g", o.speed), "it is not above zero", "Give how many times as fast: 4, or 0.5")
		case o.log || o.replay:
			return s.consoleLog(c.Context(), a[0], o)
		}
		return s.attach(c.Context(), a[0], o)
	}
	f := c.Flags()
	f.BoolVar(&o.watch, "watch", false, "watch only")
	f.BoolVar(&o.force, "force", false, "take over the typing without asking")
	f.BoolVar(&o.log, "log", false, "print what was recorded")
	f.BoolVar(&o.replay, "replay", false, "play what was recorded, with its pauses")
	f.StringVar(&o.since, "since", "", "the record from this `time` on: 10m, 2h, 3d, 15:04, '2006-01-02 15:04' or RFC 3339")
	f.StringVar(&o.until, "until", "", "the record up to this `time`")
	f.StringVar(&o.grep, "grep", "", "with --log: only lines that match a regular `expression`")
	f.BoolVar(&o.times, "times", false, "with --log: the time before each line")
	f.IntVar(&o.tail, "tail", 0, "with --log: the last `N` lines")
	f.Float64Var(&o.speed, "speed", 1, "with --replay: `N` times as fast")
	f.DurationVar(&o.linger, "linger", 2*time.Second, "wait this `time` for more output after the end of standard input")
	c.ValidArgsFunction = s.completeNodes
	c.AddCommand(consoleList(s))
	return c
}

type consoleOptions struct {
	watch, force, log, replay, times bool

	since, until, grep string
	tail               int
	speed              float64
	linger             time.Duration
}

func (s *session) consoleLog(ctx context.Context, node string, o consoleOptions) error {
	q := url.Values{}
	for name, value := range map[string]string{"since": o.since, "until": o.until} {
		if value == "" {
			continue
		}
		at, err := sinceArg(value, time.Now())
		if err != nil {
			return err
		}
		q.Set(name, at)
	}
	if o.grep != "" {
		if _, err := regexp.Compile(o.grep); err != nil {
			return usage("--grep "+o.grep, "no regular expression: "+err.Error(), "See https://golang.org/s/re2syntax")
		}
		q.Set("grep", o.grep)
	}
	if o.times {
		q.Set("times", "true")
	}
	if o.tail > 0 {
		q.Set("tail", strconv.Itoa(o.tail))
	}
	play := o.replay && s.outTerminal
	if play {
		q.Set("replay", "true")
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	body, err := c.Open(ctx, "/v1/console/"+url.PathEscape(node)+"/log?"+q.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	if play {
		err = playback(ctx, s.out, body, o.speed)
	} else {
		_, err = io.Copy(s.out, body)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errSilent
	case errors.Is(err, syscall.EPIPE):
		return errSilent // whoever read it has enough
	}
	return &api.Error{Code: api.Failed, What: "console " + node, Why: "the record was cut: " + err.Error(), Do: "Ask again"}
}

// longestPause is what playback makes of a longer one.
const longestPause = 2 * time.Second

// playback prints chunks of a record with the pauses between them, speed times as fast.
func playback(ctx context.Context, w io.Writer, r io.Reader, speed float64) error {
	var last time.Time
	for d := json.NewDecoder(r); ; {
		var c api.ConsoleChunk
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if gap := c.Time.Sub(last); !last.IsZero() && gap > 0 {
			wait := time.Duration(min(float64(gap)/speed, float64(longestPause)))
			if err := pause(ctx, wait, nil, nil); err != nil {
				return err
			}
		}
		last = c.Time
		if _, err := w.Write(c.Data); err != nil {
			return err
		}
	}
}

func consoleList(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "List consoles: which are recorded, and why others are not",
		Example: "  muster console list",
		Args:    args(0, 0),
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []api.ConsoleInfo
		if err := s.do(c.Context(), "GET", "/v1/consoles", nil, &all); err != nil {
			return err
		}
		documents(s, all, func() {
			now := time.Now()
			slices.SortStableFunc(all, func(a, b api.ConsoleInfo) int { return model.Natural(a.Node, b.Node) })
			rows := [][]string{{"NODE", "WATCHERS", "RECORDED", "FOR", "STATE"}}
			for _, i := range all {
				rows = append(rows, []string{i.Node, strconv.Itoa(i.Watchers), size(i.Bytes), ago(i.Since, now), i.State})
			}
			s.table(rows)
		})
		return nil
	}
	return c
}
