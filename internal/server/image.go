package server

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/image"
	"muster/internal/model"
)

// buildImage streams the steps of a build and its trailer. One build runs at a time: it takes all of a machine.
func (s *Server) buildImage(q *request) error {
	var in api.BuildImage
	if err := q.read(&in); err != nil {
		return err
	}
	name := model.ImageName(in.Name)
	if len(s.cfg.Node) == 0 {
		return &api.Error{Code: api.Failed, What: "image build", Why: "this program was built without the node program", Do: "Build it with: make"}
	}
	if !s.building.CompareAndSwap(false, true) {
		return &api.Error{Code: api.Conflict, What: "image build", Why: "another build is running", Do: "Wait for it: muster events --follow"}
	}
	defer s.building.Store(false)
	began := time.Now()
	s.tell(s.said(q, "image.build", "image "+in.Name+" is built from "+in.Source))
	st := q.stream(1)
	m, err := image.Build(q.Context(), image.Options{
		Dir: s.imagesDir(), Cache: filepath.Join(s.cfg.Data, "cache"), Chunks: s.chunksDir(),
		Source: in.Source, Name: name, Mirror: in.Mirror, Packages: in.Package,
		RootKeys: append([]string{s.keys.SSHAuthorizedKey()}, in.RootKey...), NodeProgram: s.cfg.Node, Refresh: in.Fresh,
		Command: s.outside,
		Progress: func(p image.Step) {
			st.tell(api.BuildStep{Step: p.Name, Text: p.Text, Done: p.Done, Cached: p.Cached, MS: p.MS})
		},
	})
	if err == nil {
		err = s.addImage(q, m)
		s.collect(q.Context()) // of the one that had the name before
	}
	last := api.BuildStep{Step: "image", Done: true, MS: time.Since(began).Milliseconds()}
	if err != nil {
		last.Done, last.Error = false, imageProblem(err)
		e := s.said(q, "image.build", "image "+in.Name+" was not built")
		e.Reason, e.Bad = firstLine(last.Error.Why), true
		s.tell(e)
	} else {
		last.Image = m.Image()
	}
	st.line(last, err != nil)
	return st.end()
}

// addImage makes a built image known.
func (s *Server) addImage(q *request, m *image.Manifest) error {
	doc := m.Image()
	// The image is there whether or not the client still listens.
	ctx := context.WithoutCancel(q.Context())
	_, err := s.commit(ctx, q, "image build", false, func(*model.Snapshot) ([]model.Op, string, []model.Event, error) {
		what := "built image " + string(doc.Name) + ", kernel " + doc.Kernel
		return []model.Op{{Kind: model.KindImage, Name: string(doc.Name), Doc: doc}}, what, []model.Event{s.said(q, "image.built", what)}, nil
	})
	return err
}

// outside makes commands that need the way to the package mirrors: they run in the namespace that the service was
// started from.
func (s *Server) outside(ctx context.Context, name string, args ...string) *exec.Cmd {
	if s.cfg.Outside == "" {
		return exec.CommandContext(ctx, name, args...)
	}
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + s.cfg.Outside, "--", name}, args...)...)
}

// firstLine is what fits on a line of the timeline.
func firstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(text, " Its last lines:")
}

func imageProblem(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	if e := translate(err); e != nil {
		return e
	}
	out := &api.Error{Code: api.Failed, What: "image build", Why: err.Error()}
	var wrong *image.OptionsError
	if errors.As(err, &wrong) {
		out.Code = api.Usage
	}
	var step *image.StepError
	if errors.As(err, &step) {
		out.What, out.Why = "image build, step "+step.Step, step.Err.Error()
		if len(step.Tail) > 0 {
			out.Why += ". Its last lines:\n  " + strings.Join(step.Tail, "\n  ")
		}
	}
	return out
}

// collectTime is how long it may wait for builds that write.
const collectTime = 10 * time.Second

// collect gives back the space of chunks that no image needs any more. What it cannot have now the next one has.
func (s *Server) collect(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), collectTime, errors.New("images are being written"))
	defer cancel()
	if freed, err := image.Collect(ctx, s.imagesDir(), s.chunks); err != nil {
		s.log.Warn("space of removed images was not given back", "err", err)
	} else if freed.Chunks > 0 {
		s.log.Info("space of removed images was given back", "chunks", freed.Chunks, "bytes", freed.Bytes)
	}
}

func (s *Server) imageInfo(snap *model.Snapshot, i *model.Image) api.ImageInfo {
	info := api.ImageInfo{Image: *i, Dir: s.imageDir(i.Name)}
	var nodes []model.NodeName
	for d := range snap.Deployments() {
		if d.Image == i.Name {
			nodes = append(nodes, d.Node)
		}
	}
	info.Nodes = fold(nodes)
	if m, err := image.Load(info.Dir); err == nil {
		info.Packages = len(m.Packages)
	} else {
		info.Problems = []string{err.Error()}
	}
	return info
}

func (s *Server) listImages(q *request) error {
	out := []api.ImageInfo{}
	for i := range q.snap.Images() {
		out = append(out, s.imageInfo(q.snap, i))
	}
	return q.answer(out)
}

func (s *Server) showImage(q *request) error {
	i, err := q.image("image show")
	if err != nil {
		return err
	}
	info := s.imageInfo(q.snap, i)
	info.Problems = image.Check(info.Dir)
	return q.answer(info)
}

func (q *request) image(verb string) (*model.Image, error) {
	name := q.PathValue("name")
	if i := q.snap.Image(model.ImageName(name)); i != nil {
		return i, nil
	}
	return nil, &api.Error{Code: api.Unknown, What: verb, Why: "there is no image " + name, Do: "There is: " + imageNames(q.snap)}
}

func (s *Server) removeImage(q *request) error {
	i, err := q.image("image remove")
	if err != nil {
		return err
	}
	rev, err := s.commit(q.Context(), q, "image remove", false, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		if nodes := s.imageInfo(snap, i).Nodes; nodes != "" {
			return nil, "", nil, &api.Error{
				Code: api.Conflict, What: "image remove", Why: "image " + string(i.Name) + " is deployed on " + nodes,
				Do: "Take it away first: muster deploy " + nodes + " --none",
			}
		}
		what := "removed image " + string(i.Name)
		return []model.Op{{Kind: model.KindImage, Name: string(i.Name)}}, what, []model.Event{s.said(q, "image.remove", what)}, nil
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.imageDir(i.Name)); err != nil {
		return &api.Error{Code: api.Failed, What: "image remove", Why: "it is forgotten, but its files are left: " + err.Error()}
	}
	s.collect(q.Context())
	return q.answer(api.Changed{Nodes: string(i.Name), Count: 1, Revision: int64(rev)})
}
