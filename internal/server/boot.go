package server

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/api"
	"muster/internal/boot"
	"muster/internal/boot/dhcpd"
	"muster/internal/boot/ra"
	"muster/internal/boot/tftpd"
	"muster/internal/identity"
	"muster/internal/model"
)

// bootPlace is how machines on an interface reach us.
func (s *Server) bootPlace(i iface, files tftpd.Files) (boot.Server, error) {
	p := boot.Server{
		Interface: i.name, Address: i.address, Network: i.network, Address6: i.address6, Network6: i.network6, Assets: files.Assets(), Manager: s.name(),
		HTTPPort: s.cfg.HTTPPort, Pin: s.keys.Pin(), TicketKey: s.keys.TicketKey(),
	}
	// A family over which a node could not enrol is left out.
	for _, a := range []*netip.Addr{&p.Address6, &p.Address} {
		switch port := s.apiPort(*a); port {
		case 0:
			*a = netip.Addr{}
		default:
			if p.APIPort != 0 && p.APIPort != port {
				p.Address6 = netip.Addr{} // nodes are told one port
			}
			p.APIPort = port
		}
	}
	if p.APIPort == 0 {
		at := i.addresses()[0].String()
		return p, &api.Error{
			Code: api.Usage, What: "boot interface " + i.name, Why: "no address of --listen is its address " + at + ": nodes could not enrol",
			Do: "Add --listen " + net.JoinHostPort(at, strconv.Itoa(APIPort)),
		}
	}
	return p, nil
}

// apiPort is the port of the API at an address; 0 when it is not there.
func (s *Server) apiPort(at netip.Addr) int {
	for _, a := range s.apis {
		l, err := netip.ParseAddrPort(a[len("https://"):])
		if err == nil && at.IsValid() && (l.Addr() == at || l.Addr().IsUnspecified() && (at.Is4() || l.Addr().Is6())) {
			return int(l.Port())
		}
	}
	return 0
}

// bootPlaces are the interfaces on which this manager boots machines, for the other managers.
func (s *Server) bootPlaces() []model.BootPlace {
	var out []model.BootPlace
	for _, i := range s.ifaces {
		for _, p := range []netip.Prefix{netip.PrefixFrom(i.address, i.network.Bits()), netip.PrefixFrom(i.address6, i.network6.Bits())} {
			if api := s.apiPort(p.Addr()); api != 0 {
				out = append(out, model.BootPlace{Address: p.String(), HTTP: s.cfg.HTTPPort, API: api})
			}
		}
	}
	return out
}

// decide asks boot.Decide, commits what it wants recorded, and tells its events with the time that the answer took. With
// more, operations are added to the same commit. What was decided on a snapshot that another writer overtook is decided again.
func (s *Server) decide(ctx context.Context, r boot.Request, began time.Time, more func(*model.Snapshot, boot.Decision) ([]model.Op, error)) (boot.Decision, error) {
	snap := s.store.Snapshot()
	d := boot.Decide(snap, r, time.Now())
	if d.Made != nil {
		s.made.note(d.Made)
		s.tellBoot(d.Events)
		return d, nil
	}
	if len(d.Ops) > 0 || more != nil && d.Status == http.StatusOK {
		_, err := s.store.Update(ctx, func(snap *model.Snapshot) (*model.Change, error) {
			d = boot.Decide(snap, r, time.Now())
			ops := d.Ops
			if more != nil && d.Status == http.StatusOK {
				extra, err := more(snap, d)
				if err != nil {
					return nil, err
				}
				ops = append(ops, extra...)
			}
			if len(ops) == 0 {
				return nil, nil // overtaken: there is nothing to record any more
			}
			return &model.Change{Time: time.Now(), Actor: actor(d.Node), Verb: string(r.Stage), Request: requestID(), What: d.Reason, Ops: ops}, nil
		})
		if err != nil {
			return d, err
		}
	}
	took := time.Since(began).Microseconds()
	for i := range d.Events {
		d.Events[i].TookUS = took
	}
	s.tellBoot(d.Events)
	return d, nil
}

func actor(n model.NodeName) string {
	if n == "" {
		return "muster"
	}
	return "node " + string(n)
}

// tellBoot writes events of the boot services, less those that only repeat.
func (s *Server) tellBoot(events []model.Event) {
	s.unknown.note(events)
	s.tell(s.repeated.Filter(events, time.Now())...)
}

// bootServices runs DHCP, TFTP and router advertisements on an interface until ctx ends. They are open before this returns.
func (s *Server) bootServices(ctx context.Context, g *errgroup.Group, place boot.Server, files tftpd.Files) error {
	pure := func(r boot.Request) boot.Decision { return boot.Decide(s.store.Snapshot(), r, time.Now()) }
	d, err := dhcpd.Open(ctx, dhcpd.Options{Server: place, Decide: pure, Tell: s.tellBoot, Log: s.log})
	if err != nil {
		return err
	}
	g.Go(func() error { return d.Serve(ctx) })
	t, err := tftpd.Open(ctx, tftpd.Options{Server: place, Open: s.openTFTP(place, files), Tell: s.tellBoot, Log: s.log})
	if err != nil {
		return err
	}
	g.Go(func() error { return t.Serve(ctx) })
	r, err := ra.Open(ra.Options{Server: place, Decide: pure, Log: s.log})
	if err != nil {
		return err
	}
	g.Go(func() error { return r.Serve(ctx) })
	return nil
}

// openTFTP finds what a machine gets for a name: GRUB's script, a kernel or initramfs under file/, else a loader.
func (s *Server) openTFTP(place boot.Server, files tftpd.Files) func(context.Context, string, netip.Addr) (tftpd.Content, error) {
	return func(ctx context.Context, name string, from netip.Addr) (tftpd.Content, error) {
		began := time.Now()
		r := boot.Request{Stage: boot.StageLoader, Server: place, Source: from, Path: name}
		if path, ok := strings.CutPrefix(name, "file/"); ok {
			r.Stage, r.Path = boot.StageFile, path
		} else if strings.HasSuffix(name, "/"+boot.GrubScript) && !strings.HasPrefix(name, "grub/") {
			r.Stage, r.Grub = boot.StageScript, true
			token, hash := identity.NewToken()
			r.Token, r.TokenHash = model.NewSecret(token), hash
		}
		d, err := s.decide(ctx, r, began, nil)
		switch {
		case err != nil:
			s.log.Error("boot by TFTP", "from", from, "err", err)
			return tftpd.Content{}, errors.New("the service cannot record the boot: try again")
		case d.Status != http.StatusOK:
			return tftpd.Content{}, errors.New(d.Reason)
		case !d.Script.Empty():
			text := d.Script.Reveal()
			return tftpd.Content{Name: boot.GrubScript, Size: int64(len(text)), Data: strings.NewReader(text), Node: d.Node}, nil
		case r.Stage == boot.StageFile:
			return s.bootFile(d)
		}
		b := files[d.Loader].Data
		return tftpd.Content{Name: d.Loader, Size: int64(len(b)), Data: bytes.NewReader(b), Node: d.Node}, nil
	}
}

// bootFile opens the file of an image that was decided on.
func (s *Server) bootFile(d boot.Decision) (tftpd.Content, error) {
	dep := s.store.Snapshot().Deployment(d.Node)
	if dep == nil {
		return tftpd.Content{}, errors.New("nothing is deployed any more")
	}
	f, err := os.Open(filepath.Join(s.imageDir(dep.Image), filepath.Base(d.File.Name)))
	if err != nil {
		e := about(d.Node, boot.StepFile, d.File.Name+" could not be sent")
		e.Reason, e.Bad = err.Error(), true
		s.tell(e)
		return tftpd.Content{}, errors.New(d.File.Name + " is missing on the manager")
	}
	return tftpd.Content{Name: d.File.Name, Size: d.File.Size, Data: f, Node: d.Node, Done: func() { _ = f.Close() }}, nil
}

// bootHandler serves what machines fetch over HTTP before they have an identity: script, kernel, initramfs, loader.
func (s *Server) bootHandler(place boot.Server, files tftpd.Files) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /boot/script", func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		token, hash := identity.NewToken()
		req := boot.Request{
			Stage: boot.StageScript, Server: place, MAC: r.URL.Query().Get("mac"), Ticket: r.URL.Query().Get("ticket"), Source: source(r),
			Token: model.NewSecret(token), TokenHash: hash,
		}
		d, err := s.decide(r.Context(), req, began, nil)
		if err != nil {
			s.log.Error("boot script", "from", r.RemoteAddr, "err", err)
			http.Error(w, "the service cannot record the boot: try again", http.StatusServiceUnavailable)
			return
		}
		if d.Status != http.StatusOK {
			http.Error(w, d.Reason, d.Status)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(d.Script.Reveal()))
	})
	m.HandleFunc("GET /boot/file/{path...}", func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		req := boot.Request{Stage: boot.StageFile, Server: place, Source: source(r), Path: r.PathValue("path")}
		d, err := s.decide(r.Context(), req, began, nil)
		if err != nil || d.Status != http.StatusOK {
			http.Error(w, d.Reason, max(d.Status, http.StatusForbidden))
			return
		}
		dep := s.store.Snapshot().Deployment(d.Node)
		if dep == nil || dep.Phase == model.Cancelled {
			http.Error(w, "nothing is deployed any more", http.StatusConflict)
			return
		}
		if err := s.sendFile(w, r, dep.Image, d.File); err != nil {
			e := about(d.Node, boot.StepFile, d.File.Name+" could not be sent")
			e.Reason, e.Bad = err.Error(), true
			s.tell(e)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	m.HandleFunc("GET /boot/loader/{path...}", func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		req := boot.Request{Stage: boot.StageLoader, Server: place, Source: source(r), Path: r.PathValue("path")}
		d, err := s.decide(r.Context(), req, began, nil)
		file, ok := files[d.Loader]
		if err != nil || d.Status != http.StatusOK || !ok {
			http.Error(w, d.Reason, max(d.Status, http.StatusForbidden))
			return
		}
		w.Header().Set("Content-Type", "application/efi")
		w.Header().Set("Content-Length", strconv.Itoa(len(file.Data)))
		_, _ = w.Write(file.Data)
	})
	return m
}
