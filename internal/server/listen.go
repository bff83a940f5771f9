package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/api"
	"muster/internal/auth"
	"muster/internal/boot/tftpd"
)

// iface is a network interface that boot services answer on.
type iface struct {
	name     string
	address  netip.Addr // IPv4; zero when it has none
	network  netip.Prefix
	address6 netip.Addr // IPv6, no link-local one; zero when it has none
	network6 netip.Prefix
}

// addresses are those that it has, that of IPv4 first.
func (i iface) addresses() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{i.address, i.address6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// findInterfaces looks all of them up and names every one that cannot be used.
func findInterfaces(names []string) ([]iface, error) {
	var out []iface
	var problems []*api.Error
	for _, n := range names {
		i, err := findInterface(n)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		out = append(out, i)
	}
	if len(problems) > 0 {
		problems[0].More = problems[1:]
		return nil, problems[0]
	}
	return out, nil
}

func findInterface(name string) (iface, *api.Error) {
	bad := func(why, do string) (iface, *api.Error) {
		return iface{}, &api.Error{Code: api.Usage, What: "boot interface " + name, Why: why, Do: do}
	}
	ni, err := net.InterfaceByName(name)
	if err != nil {
		var have []string
		all, _ := net.Interfaces()
		for _, i := range all {
			have = append(have, i.Name)
		}
		return bad("there is no such interface here", "There are: "+strings.Join(have, ", ")+". In a lab, add --netns muster-lab")
	}
	if ni.Flags&net.FlagUp == 0 {
		return bad("it is down", "ip link set "+name+" up")
	}
	addrs, _ := ni.Addrs()
	i := iface{name: name}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil || p.Addr().IsLinkLocalUnicast():
		case p.Addr().Is4() && !i.address.IsValid():
			i.address, i.network = p.Addr(), p.Masked()
		case p.Addr().Is6() && !i.address6.IsValid():
			i.address6, i.network6 = p.Addr(), p.Masked()
		}
	}
	if len(i.addresses()) == 0 {
		return bad("it has no address but a link-local one", "ip address add ADDRESS/LENGTH dev "+name)
	}
	return i, nil
}

// listeners are all sockets of the API and of boot HTTP, open before anything is served.
type listeners struct {
	unix net.Listener
	tls  []net.Listener
	http map[string][]net.Listener // by interface
}

func (ls *listeners) close() {
	if ls.unix != nil {
		_ = ls.unix.Close()
	}
	for _, l := range ls.tls {
		_ = l.Close()
	}
	for _, on := range ls.http {
		for _, l := range on {
			_ = l.Close()
		}
	}
}

// listen opens every socket or none, and names all that cannot be opened.
func (s *Server) listen() (*listeners, error) {
	ls := &listeners{http: map[string][]net.Listener{}}
	var problems []*api.Error
	// The store's lock is held: whoever left this socket behind is dead.
	_ = os.Remove(s.Socket())
	old := syscall.Umask(0o117)
	l, err := net.Listen("unix", s.Socket())
	syscall.Umask(old)
	if err != nil {
		problems = append(problems, &api.Error{Code: api.Failed, What: "unix socket " + s.Socket(), Why: err.Error(), Do: "A path of more than 107 bytes cannot be a socket: choose a shorter --data"})
	}
	ls.unix = l
	if err == nil {
		if err := s.openToGroup(); err != nil {
			s.log.Warn("the group "+auth.Group+" cannot use the socket", "err", err)
		}
	}
	addrs := s.cfg.Listen
	if len(addrs) == 0 {
		for _, i := range s.ifaces {
			for _, a := range i.addresses() {
				addrs = append(addrs, net.JoinHostPort(a.String(), strconv.Itoa(APIPort)))
			}
		}
	}
	if len(addrs) == 0 {
		addrs = []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(APIPort))}
	}
	for _, a := range addrs {
		l, err := net.Listen("tcp", a)
		if err != nil {
			problems = append(problems, taken("API", a, "--listen", err))
			continue
		}
		ls.tls = append(ls.tls, l)
		s.apis = append(s.apis, "https://"+l.Addr().String())
	}
	for _, i := range s.ifaces {
		for _, addr := range i.addresses() {
			a := net.JoinHostPort(addr.String(), strconv.Itoa(s.cfg.HTTPPort))
			l, err := net.Listen("tcp", a)
			if err != nil {
				problems = append(problems, taken("boot HTTP", a, "--http-port", err))
				continue
			}
			ls.http[i.name] = append(ls.http[i.name], l)
		}
	}
	if len(problems) > 0 {
		ls.close()
		problems[0].More = problems[1:]
		return nil, problems[0]
	}
	return ls, nil
}

// openToGroup lets the members of the administrators' group reach the socket, where there is such a group: through the data
// directory, in which they can see nothing else.
func (s *Server) openToGroup() error {
	g, err := user.LookupGroup(auth.Group)
	if err != nil {
		return nil // no such group: root only
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	return errors.Join(os.Chown(s.cfg.Data, -1, gid), os.Chmod(s.cfg.Data, 0o710), os.Chown(s.Socket(), -1, gid))
}

func taken(what, address, flag string, err error) *api.Error {
	e := &api.Error{Code: api.Failed, What: what + " on " + address, Why: err.Error(), Do: "Choose another with " + flag}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address)
		e.Why = "the port is taken"
		e.Do = "See by whom: ss -ltnp 'sport = :" + port + "'; or choose another with " + flag
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Why = "this host does not have that address"
	}
	return e
}

// serve runs the web servers and the boot services until ctx ends. Where one cannot start, those that did must be ended by
// ctx.
func (ls *listeners) serve(ctx context.Context, g *errgroup.Group, s *Server) error {
	var files tftpd.Files
	if len(s.ifaces) > 0 {
		var err error
		if files, err = tftpd.Load(filepath.Join(s.cfg.Data, "loaders")); err != nil {
			ls.close()
			return err
		}
	}
	admin := s.administration()
	s.web(ctx, g, ls.unix, admin, "socket")
	s.gate.open(admin)
	var problems []error
	for _, i := range s.ifaces {
		place, err := s.bootPlace(i, files)
		if err == nil {
			err = s.bootServices(ctx, g, place, files)
		}
		if err != nil {
			problems = append(problems, err)
		}
		for _, l := range ls.http[i.name] {
			s.web(ctx, g, l, s.bootHandler(place, files), "boot HTTP "+i.name)
		}
	}
	return errors.Join(problems...)
}

// newHTTP makes a web server that no slow client can hold for ever. There is no limit on the time of a whole answer:
// events are followed and images are large.
func (s *Server) newHTTP(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       auth.ConnContext,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) web(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler, what string) {
	s.serveHTTP(ctx, g, s.newHTTP(ctx, h), what, func(srv *http.Server) error { return srv.Serve(l) })
}

// stopTime is how long answers under way may go on when the service stops.
const stopTime = time.Second

func (s *Server) serveHTTP(ctx context.Context, g *errgroup.Group, srv *http.Server, what string, serve func(*http.Server) error) {
	g.Go(func() error {
		// Only who gives up closes a listener, and he says why.
		if err := serve(srv); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if srv.Shutdown(end) != nil {
			return srv.Close()
		}
		return nil
	})
}
