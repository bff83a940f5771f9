package server

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/model"
	"muster/internal/remote"
)

// runFanout is how many nodes are logged in to at once.
const runFanout = 128

// runTime is how long a command may run on a node unless --timeout says otherwise.
const runTime = 10 * time.Minute

// targets are the ssh addresses of nodes with the host keys that they enrolled with. What is missing is found by
// remote, for each node by itself.
func (s *Server) targets(snap *model.Snapshot, nodes []*model.Node) ([]remote.Target, error) {
	out := make([]remote.Target, 0, len(nodes))
	for _, n := range nodes {
		t := remote.Target{Node: n.Name}
		for a, to := range map[model.AttrName]*string{"net.boot.address": &t.Address, "ssh.user": &t.User} {
			v, err := snap.Attr(n, a)
			if err != nil {
				return nil, err
			}
			*to = v
		}
		port, err := snap.Attr(n, "ssh.port")
		if err != nil {
			return nil, err
		}
		t.Port, _ = strconv.Atoi(port)
		if id := snap.Identity(n.Name); id != nil {
			t.HostKeys = id.HostKeys
		}
		out = append(out, t)
	}
	return out, nil
}

func (s *Server) remoteOptions(rg api.Range) remote.Options {
	o := remote.Options{Signer: s.keys.SSHSigner(), Fanout: runFanout, Timeout: runTime}
	if rg.Fanout > 0 {
		o.Fanout = rg.Fanout
	}
	if rg.TimeoutMS > 0 {
		o.Timeout = time.Duration(rg.TimeoutMS) * time.Millisecond
	}
	return o
}

func remoteProblem(n model.NodeName, verb string, err error) *api.Error {
	if err == nil {
		return nil
	}
	e := &api.Error{Code: api.Failed, What: verb, Why: err.Error(), Node: string(n)}
	var r *remote.Error
	if errors.As(err, &r) {
		e.Why, e.Do = r.Why, r.Do
	}
	return e
}

func (s *Server) run(q *request) error {
	var in api.Run
	if err := q.read(&in); err != nil {
		return err
	}
	if in.Command == "" {
		return &api.Error{Code: api.Usage, What: "run", Why: "no command", Do: "Write it after --: muster run r1n[1-3] -- uname -r"}
	}
	nodes, err := q.nodes("run", in.Range)
	if err != nil {
		return err
	}
	targets, err := s.targets(q.snap, nodes)
	if err != nil {
		return err
	}
	if in.DryRun {
		targets = nil
	}
	// The program only: what follows it may hold secrets.
	program, _, _ := strings.Cut(strings.TrimSpace(in.Command), " ")
	s.tell(s.said(q, "run", "runs "+program+" on "+names(nodes)))
	o := s.remoteOptions(in.Range)
	o.Stdin = in.Stdin
	st := q.stream(len(nodes))
	for r := range remote.Run(q.Context(), targets, in.Command, o) {
		line := api.RunResult{
			Result: api.Result{Node: string(r.Node), Error: remoteProblem(r.Node, "run", r.Err)},
			Stdout: r.Stdout, Stderr: r.Stderr, Note: r.Note, Exit: r.Exit, MS: r.Took.Milliseconds(),
		}
		st.line(line, r.Err != nil || r.Exit != 0)
	}
	return st.end()
}

func names(nodes []*model.Node) string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = string(n.Name)
	}
	return fold(list)
}

// copyFiles is POST /v1/copy: the body, a tar stream, is kept on disk while it goes to the nodes.
func (s *Server) copyFiles(q *request) error {
	var in api.CopyFiles
	if err := q.query(&in); err != nil {
		return err
	}
	if in.Dest == "" {
		return &api.Error{Code: api.Usage, What: "copy", Why: "no destination"}
	}
	nodes, err := q.nodes("copy", in.Range)
	if err != nil {
		return err
	}
	targets, err := s.targets(q.snap, nodes)
	if err != nil {
		return err
	}
	f, size, err := s.spool(q.Context(), "copy", q.Body)
	if err != nil {
		return err
	}
	defer f.Close()
	s.tell(s.said(q, "copy", "copies to "+in.Dest+" on "+names(nodes)))
	st := q.stream(len(nodes))
	for r := range remote.Copy(q.Context(), targets, f, size, in.Dest, s.remoteOptions(in.Range)) {
		line := api.CopyResult{
			Result: api.Result{Node: string(r.Node), Error: remoteProblem(r.Node, "copy", r.Err)}, Files: r.Files, Bytes: r.Bytes,
		}
		st.line(line, r.Err != nil)
	}
	return st.end()
}

// spool keeps a stream in an unnamed file: it vanishes with the process.
func (s *Server) spool(ctx context.Context, verb string, r io.Reader) (*os.File, int64, error) {
	f, err := os.CreateTemp(s.cfg.Data, ".copy-*")
	if err != nil {
		return nil, 0, err
	}
	if err := os.Remove(f.Name()); err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	n, err := io.Copy(f, r)
	if err != nil {
		_ = f.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, 0, &api.Error{Code: api.Failed, What: verb, Why: "what was sent did not arrive whole: " + err.Error()}
	}
	return f, n, nil
}
