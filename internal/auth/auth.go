// Package auth says who makes a request and what they may do.
//
// On the unix socket the kernel says who it is (SO_PEERCRED): root, the service's own user and the members of the group
// "muster" are administrators. On TLS the certificate says it: the unit of its subject tells administrators, nodes and managers
// apart, its common name which one. Whoever shows neither is nobody, and nobody may only enrol.
//
// A user document with roles limits what its user may do, administrator or not; see [Allow].
package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"muster/internal/model"
)

// Kind is what sort of party makes a request.
type Kind string

// The kinds.
const (
	Nobody        Kind = "nobody"
	Node          Kind = "node"
	Administrator Kind = "administrator"
	Manager       Kind = "manager" // another server of the pool
	Other         Kind = "user"    // a local user who is known to the kernel and is no administrator
)

// Who is the party that makes a request.
type Who struct {
	Kind Kind
	Name string // "root (uid 0)", "admin", "node r1n1", "manager m2"
	Node model.NodeName
	// Manager is set when Kind is Manager.
	Manager model.ManagerName
	Key     string // fingerprint of the certificate's key; empty on the unix socket
	// User is the name by which the store may know them: of the local user, or of an administrator's certificate.
	User model.UserName
	// Root says that it is root, or the service's own user, on this very machine.
	Root bool
}

// Group is the system group whose members are administrators on the unix socket.
const Group = "muster"

type (
	peerKey struct{}
	certKey struct{}
)

// certified is who a connection's certificate says it is, found out by its first request. It stays that: certificates are shown in the
// handshake only (RFC 8446 § 4.6.2 is not used here).
type certified struct {
	once sync.Once
	who  Who
}

// ConnContext keeps the peer's credentials of a unix socket connection, and makes room for those of a TLS connection; it is http.Server's hook
// of that name.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return context.WithValue(ctx, certKey{}, new(certified))
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, local(cred.Uid, cred.Gid))
}

func local(uid, gid uint32) Who {
	w := Who{Kind: Other, Name: fmt.Sprintf("uid %d", uid)}
	u, err := user.LookupId(strconv.Itoa(int(uid)))
	if err == nil {
		w.Name, w.User = fmt.Sprintf("%s (uid %d)", u.Username, uid), model.UserName(u.Username)
	}
	if uid == 0 || int(uid) == os.Getuid() {
		w.Kind, w.Root = Administrator, true
		return w
	}
	g, err := user.LookupGroup(Group)
	if err != nil {
		return w
	}
	groups := []string{strconv.Itoa(int(gid))}
	if u != nil {
		if more, err := u.GroupIds(); err == nil {
			groups = append(groups, more...)
		}
	}
	if slices.Contains(groups, g.Gid) {
		w.Kind = Administrator
	}
	return w
}

// Certificates names the subject units that tell the kinds of certificates apart, and how a key's fingerprint is made.
type Certificates struct {
	NodeUnit, AdminUnit, ManagerUnit string
	Fingerprint                      func(publicKey any) string
}

// From says who makes the request. The TLS layer has verified the certificate against the site's CA.
func (c Certificates) From(r *http.Request) Who {
	if w, ok := r.Context().Value(peerKey{}).(Who); ok {
		return w
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return Who{Kind: Nobody, Name: "nobody"}
	}
	if k, ok := r.Context().Value(certKey{}).(*certified); ok {
		k.once.Do(func() { k.who = c.named(r.TLS.VerifiedChains[0][0]) })
		return k.who
	}
	return c.named(r.TLS.VerifiedChains[0][0])
}

// named reads a certificate.
func (c Certificates) named(leaf *x509.Certificate) Who {
	w := Who{Kind: Nobody, Name: "nobody", Key: c.Fingerprint(leaf.PublicKey)}
	switch {
	case slices.Contains(leaf.Subject.OrganizationalUnit, c.AdminUnit):
		w.Kind, w.Name, w.User = Administrator, leaf.Subject.CommonName, model.UserName(leaf.Subject.CommonName)
	case slices.Contains(leaf.Subject.OrganizationalUnit, c.NodeUnit):
		w.Kind, w.Name, w.Node = Node, "node "+leaf.Subject.CommonName, model.NodeName(leaf.Subject.CommonName)
	case slices.Contains(leaf.Subject.OrganizationalUnit, c.ManagerUnit):
		w.Kind, w.Name, w.Manager = Manager, "manager "+leaf.Subject.CommonName, model.ManagerName(leaf.Subject.CommonName)
	}
	return w
}
