package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"muster/internal/api"
	"muster/internal/job"
	"muster/internal/model"
)

func jobVerbs(s *session) *cobra.Command {
	return noun("job", JobNodes, "Steps that run on nodes, after each start or when asked for",
		jobSet(s), jobDocs.list(s), jobShow(s), jobDocs.removing(s), jobRun(s), jobStatus(s), jobLog(s))
}

// jobFile is a file of steps.
type jobFile struct {
	Comment string     `yaml:"comment"`
	Steps   []stepFile `yaml:"steps"`
}

type stepFile struct {
	Name    string        `yaml:"name"`
	Run     string        `yaml:"run"`
	Policy  string        `yaml:"policy"`
	Timeout time.Duration `yaml:"timeout"`
	Retries int           `yaml:"retries"`
}

func jobSet(s *session) *cobra.Command {
	var in api.SetJob
	var step stepFile
	c := &cobra.Command{
		Use:   "set JOB FILE …",
		Short: "Make a job of scripts, or give one other steps",
		Long: `Make a job, or give one other steps. The files are scripts in any language, each a step, in the order in which they are named; or one file of steps:

  comment: time and mounts
  steps:
    - name: ntp
      policy: change          # always (default), once, change (of the script), boot (once after each start)
      timeout: 2m             # of one attempt; default 10m: then it is killed with all that it started
      retries: 2              # further attempts
      run: |
        . "$MUSTER_LIB"       # put FILE, line_in FILE LINE, attr NAME, service NAME restart, say, fail
        echo "server $(attr custom.ntp)" | put /etc/chrony/sources.d/site.sources && service chrony reload
        true

A step has no standard input, the root user's rights, and in its environment MUSTER_NODE, MUSTER_JOB, MUSTER_STEP, MUSTER_ATTEMPT. Scripts on the nodes are readable by root only;
secrets do not belong into them. The attribute jobs says which jobs run after each start.`,
		Example: `  muster job set base base.yaml
  muster job set mounts 10-nfs.sh 20-scratch.py --policy change --time-limit 2m
  muster set compute jobs+=base`,
		Args: args(2, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		in.Name, in.DryRun = a[0], s.flags.dryRun
		var err error
		if in.Steps, err = stepsOf(a[1:], step, &in.Comment); err != nil {
			return err
		}
		return s.change(c.Context(), "/v1/jobs/set", in, func(r api.Changed) string { return strings.Join(r.Changes, ", ") })
	}
	f := c.Flags()
	f.StringVar(&in.Comment, "comment", "", "what it is for")
	f.StringVar(&step.Policy, "policy", "", "of all scripts: always, once, change or boot")
	f.DurationVar(&step.Timeout, "time-limit", 0, "time of one attempt of each script (default 10m)")
	f.IntVar(&step.Retries, "retries", 0, "further attempts of each script that fails")
	return s.changeFlags(c)
}

var leadingNumber = regexp.MustCompile(`^[0-9]+[-_]`)

// stepsOf reads one file of steps, or scripts.
func stepsOf(files []string, all stepFile, comment *string) ([]model.JobStep, error) {
	steps := []stepFile{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, usage("job set", reason(err), "")
		}
		if ext := filepath.Ext(file); ext == ".yaml" || ext == ".yml" {
			if len(files) > 1 || all != (stepFile{}) {
				return nil, usage("job set", file+" has all steps, with their policies", "Name nothing beside it")
			}
			d := yaml.NewDecoder(bytes.NewReader(text))
			d.KnownFields(true)
			var in jobFile
			if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
				return nil, usage("job set "+file, yamlWhy(err), "See: muster job set -h")
			}
			steps = in.Steps
			if *comment == "" {
				*comment = in.Comment
			}
			break
		}
		next := all
		base := filepath.Base(file)
		next.Name = strings.ToLower(leadingNumber.ReplaceAllString(strings.TrimSuffix(base, filepath.Ext(base)), ""))
		next.Run = string(text)
		steps = append(steps, next)
	}
	out := make([]model.JobStep, len(steps))
	for i, x := range steps {
		out[i] = model.JobStep{Name: x.Name, Script: x.Run, Policy: x.Policy, TimeoutMS: x.Timeout.Milliseconds(), Retries: x.Retries}
	}
	return out, nil
}

// yamlWhy is what is wrong with a file, without the names of our types.
func yamlWhy(err error) string {
	why := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	return inType.ReplaceAllString(strings.ReplaceAll(why, "\n  ", "; "), "")
}

var inType = regexp.MustCompile(` in type cli\.\w+`)

// jobDocs are the jobs as documents.
var jobDocs = &family[model.Job]{
	noun: "job", example: "base",
	remove: "Nodes whose attribute jobs names it say so after their next start, and run nothing.",
	name:   func(j *model.Job) string { return string(j.Name) },
	head:   []string{"JOB", "STEPS", "COMMENT"},
	row: func(j *model.Job) []string {
		steps := make([]string, len(j.Steps))
		for i, x := range j.Steps {
			steps[i] = x.Name
		}
		return []string{string(j.Name), strings.Join(steps, ","), j.Comment}
	},
}

func jobShow(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "show JOB", Short: "Show the steps of a job, as job set reads them", Example: "  muster job show base > base.yaml", Args: args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		all, err := jobDocs.all(c.Context(), s)
		if err != nil {
			return err
		}
		for _, j := range all {
			if string(j.Name) != a[0] {
				continue
			}
			if s.flags.json {
				s.printJSON(j)
				return nil
			}
			type step struct {
				Name    string `yaml:"name"`
				Policy  string `yaml:"policy,omitempty"`
				Timeout string `yaml:"timeout,omitempty"`
				Retries int    `yaml:"retries,omitempty"`
				Run     string `yaml:"run"`
			}
			out := struct {
				Comment string `yaml:"comment,omitempty"`
				Steps   []step `yaml:"steps"`
			}{Comment: j.Comment}
			for _, x := range j.Steps {
				y := step{Name: x.Name, Policy: x.Policy, Retries: x.Retries, Run: x.Script}
				if x.TimeoutMS > 0 {
					y.Timeout = (time.Duration(x.TimeoutMS) * time.Millisecond).String()
				}
				out.Steps = append(out.Steps, y)
			}
			e := yaml.NewEncoder(s.out)
			e.SetIndent(2)
			return e.Encode(out)
		}
		return &api.Error{Code: api.Unknown, What: "job show", Why: "there is no job " + a[0], Do: "See: muster job list"}
	}
	c.ValidArgsFunction = jobDocs.complete(s)
	return c
}

func jobRun(s *session) *cobra.Command {
	var in api.RunJob
	c := &cobra.Command{
		Use:        "run NODERANGE JOB …",
		SuggestFor: []string{"updatenode", "postscript"},
		Short:      "Run jobs on nodes that are up, and wait for them",
		Long: `Run jobs, one after the other, on nodes that are up. A node's answer comes when its work has ended: with its last output, and of one that failed with the step and the reason.
A job that is named twice runs once. Interrupted, or with --detach, the work goes on: muster job status, muster job log.`,
		Example: `  muster job run r1n[1-3] base
  muster job run compute base,mounts --detach`,
		Args: args(2, -1),
	}
	c.RunE = func(c *cobra.Command, a []string) (err error) {
		if in.Range, err = s.over(c.Context(), a[0]); err != nil {
			return err
		}
		in.Jobs = commaSeparated(a[1:])
		return ask(c.Context(), s, question[api.JobResult]{
			what: "job run", path: "/v1/jobs/run", in: in, despite: true,
			node: func(r *api.JobResult) *api.Result { return &r.Result },
			text: func(r *api.JobResult) []string {
				switch {
				case r.Phase == "":
					return []string{r.Why}
				case r.Tail != "":
					return []string{r.Phase + "\n" + strings.TrimRight(r.Tail, "\n")}
				}
				return []string{r.Phase}
			},
		})
	}
	c.Flags().BoolVar(&in.Detach, "detach", false, "do not wait")
	c.ValidArgsFunction = func(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(a) == 0 {
			return s.completeNodes(c, a, typed)
		}
		return jobDocs.complete(s)(c, a, typed)
	}
	return s.changesNodes(c)
}

func jobStatus(s *session) *cobra.Command {
	c := &cobra.Command{
		Use: "status [NODERANGE]", Short: "Show the newest work of nodes", Example: "  muster job status compute", Args: args(0, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) (err error) {
		var in api.JobStatus
		if len(a) > 0 {
			if in.Range, err = s.over(c.Context(), a[0]); err != nil {
				return err
			}
		}
		return ask(c.Context(), s, question[api.JobResult]{
			what: "job status", path: "/v1/jobs/status", in: in,
			node: func(r *api.JobResult) *api.Result { return &r.Result },
			text: func(r *api.JobResult) []string { return []string{workText(r)} },
		})
	}
	c.ValidArgsFunction = s.completeNodes
	return s.rangeFlags(c)
}

// workText is "running base/ntp, 3 of 7" or "failed: base: step ntp: it ended with exit status 1".
func workText(r *api.JobResult) string {
	switch {
	case r.Phase == "":
		return "no work yet"
	case r.Phase == string(model.WorkRunning):
		return fmt.Sprintf("running %s, %d of %d", r.Step, r.Number, r.Steps)
	case r.Why != "":
		return r.Phase + ": " + r.Why
	}
	return r.Phase
}

func jobLog(s *session) *cobra.Command {
	var in api.JobLog
	c := &cobra.Command{
		Use:   "log NODE",
		Short: "Show what the newest work of a node printed, step by step",
		Long: `Show what the newest work of a node printed, step by step, with exit status and time of each. It is kept when the node dies. --id is that of an earlier one,
as job run --json and the timeline tell it.`,
		Example: "  muster job log r1n7 --follow",
		Args:    args(1, 1),
	}
	c.RunE = func(c *cobra.Command, a []string) error {
		client, err := s.client()
		if err != nil {
			return err
		}
		q := url.Values{}
		if in.ID != "" {
			q.Set("id", in.ID)
		}
		if in.Follow {
			q.Set("follow", "true")
		}
		fresh := true // at the beginning of a line
		for line, err := range client.Lines(c.Context(), "GET", "/v1/jobs/log/"+url.PathEscape(a[0])+"?"+q.Encode(), nil, nil) {
			if err != nil {
				return err
			}
			if s.flags.json {
				if _, err := s.out.Write(append(line, '\n')); err != nil {
					return err
				}
				continue
			}
			var l api.JobLine
			if err := json.Unmarshal(line, &l); err != nil {
				return err
			}
			if l.What == job.Printed {
				text := printableLines(string(l.Output))
				fresh = strings.HasSuffix(text, "\n")
				fmt.Fprint(s.out, text)
				continue
			}
			if !fresh {
				fmt.Fprintln(s.out)
				fresh = true
			}
			fmt.Fprintln(s.out, stepLine(&l))
		}
		return nil
	}
	f := c.Flags()
	f.BoolVar(&in.Follow, "follow", false, "go on until the work has ended")
	f.StringVar(&in.ID, "id", "", "of earlier work")
	c.ValidArgsFunction = s.completeNodes
	return c
}

// stepLine is "15:04:05 base/ntp: failed after 1.2s: it ended with exit status 1".
func stepLine(l *api.JobLine) string {
	at := l.Time.Local().Format(time.TimeOnly)
	if l.Note != "" {
		return at + " " + printable(l.Note)
	}
	text := fmt.Sprintf("%s %s/%s: %s", at, l.Job, l.Step, l.What)
	if l.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", l.Attempt)
	}
	if l.Took > 0 {
		text += " after " + l.Took.Round(time.Millisecond).String()
	}
	if l.Why != "" {
		text += ": " + printable(l.Why)
	}
	return text
}
