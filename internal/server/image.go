package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/image"
	"muster/internal/model"
)

// buildImage streams the steps of a build and its trailer.
func (s *Server) buildImage(q *request) error {
	var in api.BuildImage
	if err := q.read(&in); err != nil {
		return err
	}
	o := s.imageOptions(in.Name, in.RootKey)
	o.Source, o.Mirror, o.Packages, o.Refresh, o.Hooks = in.Source, in.Mirror, in.Package, in.Fresh, in.Hooks
	return s.makeImage(q, "build", "built from "+in.Source, o, image.Build)
}

// importImage keeps the body in an unnamed file while it becomes an image.
func (s *Server) importImage(q *request) error {
	var in api.ImportImage
	if err := q.query(&in); err != nil {
		return err
	}
	f, size, err := s.spool(q.Context(), "image import", q.Body)
	if err != nil {
		return err
	}
	defer f.Close()
	if size == 0 {
		return &api.Error{Code: api.Usage, What: "image import", Why: "nothing came", Do: "Give a tar, an OCI layout, a squashfs or a directory"}
	}
	o := s.imageOptions(in.Name, in.RootKey)
	o.Source = in.Source
	return s.makeImage(q, "import", "imported from "+or(in.Source, "a file"), o, func(ctx context.Context, o image.Options) (*image.Manifest, error) {
		return image.Import(ctx, o, f)
	})
}

func (s *Server) imageOptions(name string, keys []string) image.Options {
	return image.Options{
		Dir: s.imagesDir(), Cache: filepath.Join(s.cfg.Data, "cache"), Chunks: s.chunksDir(), Name: model.ImageName(name),
		RootKeys: append([]string{s.keys.SSHAuthorizedKey()}, keys...), NodeProgram: s.cfg.Node, Command: s.outside, Key: s.keys.ImageKey(),
	}
}

// makeImage streams the steps that do takes. One build or import runs at a time: it takes all of a machine.
func (s *Server) makeImage(q *request, verb, how string, o image.Options, do func(context.Context, image.Options) (*image.Manifest, error)) error {
	if len(s.cfg.Node) == 0 {
		return &api.Error{Code: api.Failed, What: "image " + verb, Why: "this program was built without the node program", Do: "Build it with: make"}
	}
	if !s.building.CompareAndSwap(false, true) {
		return &api.Error{Code: api.Conflict, What: "image " + verb, Why: "another image is being made", Do: "Wait for it: muster events --follow"}
	}
	defer s.building.Store(false)
	began := time.Now()
	name := string(o.Name)
	s.tell(s.said(q, "image.build", "image "+name+" is "+how))
	st := q.stream(1)
	o.Progress = func(p image.Step) {
		st.tell(api.BuildStep{Step: p.Name, Text: p.Text, Done: p.Done, Cached: p.Cached, MS: p.MS})
	}
	m, err := do(q.Context(), o)
	if err == nil {
		err = s.addImage(q, m)
		s.collect(q.Context()) // of the one that had the name before
	}
	last := api.BuildStep{Step: "image", Done: true, MS: time.Since(began).Milliseconds()}
	if err != nil {
		last.Done, last.Error = false, imageProblem(err)
		last.Error.What = strings.Replace(last.Error.What, "image build", "image "+verb, 1)
		e := s.said(q, "image.build", "image "+name+" was not "+how)
		e.Reason, e.Bad = firstLine(last.Error.Why), true
		s.tell(e)
	} else {
		last.Image = m.Image()
	}
	st.line(last, err != nil)
	return st.end()
}

func (s *Server) exportImage(q *request) error {
	var in api.ExportImage
	if err := q.query(&in); err != nil {
		return err
	}
	i, err := q.image("image export")
	if err != nil {
		return err
	}
	format := or(in.Format, image.FormatTar)
	if !slices.Contains(image.Formats, format) {
		return &api.Error{Code: api.Usage, What: "image export", Why: "there is no format " + format, Do: "There is: " + strings.Join(image.Formats, ", ")}
	}
	s.tell(s.said(q, "image.export", "image "+string(i.Name)+" is exported"))
	q.w.Header().Set("Content-Type", "application/octet-stream")
	out := &begun{Writer: q.w}
	err = image.Export(q.Context(), s.imageDir(i.Name), s.chunks, format, filepath.Join(s.cfg.Data, "cache"), out)
	switch {
	case err == nil:
		return nil
	case !out.yes:
		return &api.Error{Code: api.Failed, What: "image export", Why: err.Error()}
	}
	s.log.Error("image export", "image", i.Name, "err", err)
	panic(http.ErrAbortHandler) // a cut stream is an error to the client
}

// begun knows whether something was written.
type begun struct {
	io.Writer
	yes bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.Writer.Write(p)
}

func (s *Server) checkImage(q *request) error {
	var in api.CheckImage
	if err := q.query(&in); err != nil {
		return err
	}
	i, err := q.image("image check")
	if err != nil {
		return err
	}
	out := api.ImageCheck{Name: i.Name, Digest: i.Digest, Memory: in.Memory}
	if out.Memory == 0 {
		out.Memory = leastMemory(q.snap, i.Name)
	}
	found, err := image.Examine(q.Context(), s.imageDir(i.Name), image.CheckOptions{
		Chunks: s.chunks, Memory: out.Memory, Modules: in.Modules, Verify: func(m *image.Manifest) error { return s.ours(m, i) },
	})
	if err != nil {
		return err
	}
	out.Findings = append([]model.ImageFinding{}, found...)
	return q.answer(out)
}

// leastMemory is the memory of the smallest node on which an image is deployed, as the nodes reported it; 0 when none did.
func leastMemory(snap *model.Snapshot, name model.ImageName) (least int64) {
	for d := range snap.Deployments() {
		if d.Image != name {
			continue
		}
		if st := snap.State(d.Node); st != nil && st.Facts != nil && st.Facts.Memory > 0 && (least == 0 || st.Facts.Memory < least) {
			least = st.Facts.Memory
		}
	}
	return least
}

// ours sees that a manifest is the one that the store knows, signed by this site. One without a signature is of an older muster: what
// the store says of it is enough.
func (s *Server) ours(m *image.Manifest, i *model.Image) error {
	if m.Digest != i.Digest {
		return fmt.Errorf("the manifest on this manager's disk is %s, the store says %s", m.Digest, i.Digest)
	}
	if m.Signature == "" {
		return nil
	}
	return m.Verify(s.keys.ImageKey().Public().(ed25519.PublicKey))
}

func (s *Server) diffImages(q *request) error {
	before, err := q.image("image diff")
	if err != nil {
		return err
	}
	after, err := q.imageNamed("image diff", q.PathValue("other"))
	if err != nil {
		return err
	}
	d, err := image.Diff(s.imageDir(before.Name), s.imageDir(after.Name))
	if err != nil {
		return &api.Error{Code: api.Failed, What: "image diff", Why: err.Error(), Do: "Look at it: muster image check " + string(before.Name)}
	}
	return q.answer(d)
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
	return q.imageNamed(verb, q.PathValue("name"))
}

func (q *request) imageNamed(verb, name string) (*model.Image, error) {
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
