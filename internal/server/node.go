package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/identity"
	"muster/internal/model"
)

// What nodes ask. Only enrol is answered without a certificate.

func source(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

func (s *Server) enrol(q *request) error {
	var in api.Enrol
	if err := q.read(&in); err != nil {
		return err
	}
	key, err := identity.KeyOfCSR(in.CSR)
	if err != nil {
		return &api.Error{Code: api.Usage, What: "enrol", Why: err.Error()}
	}
	hostKeys, err := checkHostKeys(in.HostKeys)
	if err != nil {
		return err
	}
	var out api.Enrolled
	req := boot.Request{Stage: boot.StageEnrol, Source: source(q.Request), TokenHash: identity.TokenHash(in.Token), Key: key, Claim: model.NodeName(in.Node)}
	d, err := s.decide(q.Context(), req, time.Now(), func(snap *model.Snapshot, d boot.Decision) ([]model.Op, error) {
		now := time.Now()
		cert, _, expires, err := s.keys.SignNode(d.Node, in.CSR, now)
		if err != nil {
			return nil, err
		}
		plan, err := s.planOf(snap, d.Node)
		if err != nil {
			return nil, err
		}
		out = api.Enrolled{Node: string(d.Node), Certificate: cert, CA: s.keys.CA(), UnixMS: now.UnixMilli(), Plan: plan}
		return []model.Op{{Kind: model.KindIdentity, Name: string(d.Node), Doc: &model.Identity{
			Node: d.Node, Key: key, HostKeys: hostKeys, Enrolled: now, Expires: expires,
		}}}, nil
	})
	if err != nil {
		return err
	}
	if d.Status != http.StatusOK {
		return deniedBy(d, "enrol")
	}
	return q.answer(out)
}

// checkHostKeys takes lines in authorized_keys form: key type and base64, one line each, without options.
func checkHostKeys(in []string) ([]string, error) {
	const most = 8
	if len(in) > most {
		return nil, &api.Error{Code: api.Usage, What: "enrol", Why: fmt.Sprintf("%d host keys, more than %d", len(in), most)}
	}
	var out []string
	for _, k := range in {
		line, err := identity.HostKey(k)
		if err != nil {
			return nil, &api.Error{Code: api.Usage, What: "enrol", Why: "host key: " + err.Error()}
		}
		out = append(out, line)
	}
	return out, nil
}

func deniedBy(d boot.Decision, what string) error {
	e := &api.Error{Code: api.Denied, What: what, Why: d.Reason, Node: string(d.Node)}
	if d.Status == http.StatusConflict {
		e.Code = api.Conflict
	}
	return e
}

// planOf says what a node is to run.
func (s *Server) planOf(snap *model.Snapshot, n model.NodeName) (api.Plan, error) {
	d := snap.Deployment(n)
	if d == nil || d.Phase == model.Cancelled {
		return api.Plan{}, &api.Error{Code: api.Conflict, What: "plan", Why: "nothing is deployed", Node: string(n), Do: "muster deploy " + string(n) + " IMAGE"}
	}
	i := snap.Image(d.Image)
	if i == nil {
		return api.Plan{}, &api.Error{Code: api.Conflict, What: "plan", Why: "the image " + string(d.Image) + " was removed", Node: string(n)}
	}
	p := api.Plan{
		Image: string(i.Name), Digest: i.Digest, Root: i.Root, Tree: i.Tree,
		AuthorizedKeys: []string{s.keys.SSHAuthorizedKey()}, Hostname: string(n),
	}
	if d.Layout != "" && d.Installed.IsZero() {
		p.Disk = &api.DiskPlan{Layout: d.Layout, Kernel: i.Kernelf}
	}
	return p, nil
}

func (s *Server) plan(q *request) error {
	p, err := s.planOf(q.snap, q.who.Node)
	if err != nil {
		return err
	}
	return q.answer(p)
}

// nodeFile is GET /v1/node/file/{digest}: root or tree of the node's own image, and for an installation its kernel, by digest. Ranges are answered.
func (s *Server) nodeFile(q *request) error {
	p, err := s.planOf(q.snap, q.who.Node)
	if err != nil {
		return err
	}
	digest := q.PathValue("digest")
	files := []model.File{p.Root, p.Tree}
	if p.Disk != nil {
		files = append(files, p.Disk.Kernel)
	}
	for _, f := range files {
		if f.Digest == "sha256:"+digest {
			return s.sendFile(q.w, q.Request, model.ImageName(p.Image), f)
		}
	}
	return &api.Error{Code: api.Unknown, What: "file", Why: "the node's image has no file " + digest, Node: string(q.who.Node)}
}

// sendFile sends a file of an image. Its name comes from the image's document, never from the client.
func (s *Server) sendFile(w http.ResponseWriter, r *http.Request, image model.ImageName, file model.File) error {
	f, err := os.Open(filepath.Join(s.imageDir(image), filepath.Base(file.Name)))
	if err != nil {
		return &api.Error{Code: api.Failed, What: "image " + string(image), Why: err.Error(), Do: "Look at it: muster image show " + string(image)}
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+strings.TrimPrefix(file.Digest, "sha256:")+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

func (s *Server) imagesDir() string { return filepath.Join(s.cfg.Data, "images") }

func (s *Server) chunksDir() string { return filepath.Join(s.cfg.Data, "chunks") }

func (s *Server) imageDir(n model.ImageName) string {
	return filepath.Join(s.imagesDir(), string(n))
}

func (s *Server) progress(q *request) error {
	var in api.Progress
	if err := q.read(&in); err != nil {
		return err
	}
	req := boot.Request{Stage: boot.StageProgress, Node: q.who.Node, Step: in.Step, Text: in.Text, Do: in.Do, Made: in.Made, Output: in.Output, Final: in.Final, Key: q.who.Key}
	d, err := s.decide(q.Context(), req, time.Now(), nil)
	if err != nil {
		return err
	}
	if d.Status != http.StatusOK {
		return deniedBy(d, "progress")
	}
	return q.answer(struct{}{})
}

func (s *Server) up(q *request) error {
	var in api.Up
	if err := q.read(&in); err != nil {
		return err
	}
	n := q.who.Node
	d, err := s.decide(q.Context(), boot.Request{Stage: boot.StageUp, Node: n, BootID: in.BootID, Key: q.who.Key}, time.Now(), nil)
	if err != nil {
		return err
	}
	if d.Status != http.StatusOK {
		return deniedBy(d, "up")
	}
	s.observe(n, func(st *model.State) bool {
		now := time.Now()
		st.Seen, st.BootID, st.Power, st.PowerAt = now, in.BootID, "on", now
		if in.Facts != nil {
			st.Facts = in.Facts
		}
		return true
	})
	return q.answer(api.Heartbeat{IntervalMS: heartbeat.Milliseconds()})
}

func (s *Server) heartbeat(q *request) error {
	var in api.Up
	if err := q.read(&in); err != nil {
		return err
	}
	n := q.who.Node
	if q.snap.Node(n) == nil {
		return &api.Error{Code: api.Conflict, What: "heartbeat", Why: "the node was removed", Node: string(n)}
	}
	var facts, silent bool
	s.observe(n, func(st *model.State) bool {
		now := time.Now()
		silent = !st.Seen.IsZero() && now.Sub(st.Seen) > silence && st.BootID == in.BootID && s.started.Before(st.Seen)
		keep := st.BootID != in.BootID || st.Power != "on" || in.Facts != nil
		st.Seen, st.BootID, st.Power, st.PowerAt = now, in.BootID, "on", now
		if in.Facts != nil {
			st.Facts = in.Facts
		}
		facts = st.Facts == nil || st.Facts.BootID != in.BootID
		return keep
	})
	if silent {
		s.tell(about(n, "node.heard", "its heartbeat is back"))
	}
	return q.answer(api.Heartbeat{IntervalMS: heartbeat.Milliseconds(), Facts: facts})
}

func (s *Server) renew(q *request) error {
	var in api.Renew
	if err := q.read(&in); err != nil {
		return err
	}
	n := q.who.Node
	var out api.Enrolled
	_, err := s.commit(q.Context(), q, "renew", false, func(snap *model.Snapshot) ([]model.Op, string, []model.Event, error) {
		old := snap.Identity(n)
		if old == nil || snap.Node(n) == nil || old.Key != q.who.Key {
			return nil, "", nil, &api.Error{Code: api.Denied, What: "renew", Why: "the node enrolled again since, or was removed", Node: string(n)}
		}
		if same, err := identity.KeyOfCSR(in.CSR); err != nil || same != old.Key {
			return nil, "", nil, &api.Error{Code: api.Denied, What: "renew", Why: "the request is not for the key that enrolled; another key needs a boot", Node: string(n)}
		}
		now := time.Now()
		cert, _, expires, err := s.keys.SignNode(n, in.CSR, now)
		if err != nil {
			return nil, "", nil, &api.Error{Code: api.Usage, What: "renew", Why: err.Error(), Node: string(n)}
		}
		id := *old
		id.Expires = expires
		out = api.Enrolled{Node: string(n), Certificate: cert, CA: s.keys.CA(), UnixMS: now.UnixMilli()}
		e := about(n, "node.renewed", "its certificate was renewed")
		return []model.Op{{Kind: model.KindIdentity, Name: string(n), Doc: &id}}, "renewed the certificate of " + string(n), []model.Event{e}, nil
	})
	if err != nil {
		return err
	}
	return q.answer(out)
}
