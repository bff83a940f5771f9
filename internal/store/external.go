package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"muster/internal/model"
)

// External says where etcd servers run that keep the documents instead of a member in this process. Several managers that name the same
// servers are a pool.
type External struct {
	// Endpoints are "host:port" or "https://host:port" of etcd's client listeners. Without a scheme it is https when Cert or CA is given.
	Endpoints []string
	// Cert and Key are paths of PEM files by which etcd knows this client; read again at each handshake. Empty: none is shown.
	Cert, Key string
	// CA is the path of the PEM file of certificates that etcd's are signed with. Empty: those of the system.
	CA string
	// User and Password are of etcd's own user management. Empty: none.
	User     string
	Password model.Secret
}

func (x *External) at() string { return strings.Join(x.Endpoints, ", ") }

// connect makes the engine that is a client of etcd elsewhere, and sees that it answers.
func connect(ctx context.Context, x *External, log *slog.Logger) (*engine, error) {
	cfg := clientv3.Config{
		Context: context.WithoutCancel(ctx), Username: x.User, Password: x.Password.Reveal(),
		DialTimeout: 5 * time.Second, DialKeepAliveTime: 6 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		// Without a bound the next try to connect is up to two minutes after etcd is back.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: 5 * time.Second, Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
		})},
		MaxCallSendMsgSize: maxBytes, Logger: zap.New(&zapToSlog{log: log}),
	}
	secure := x.Cert != "" || x.CA != ""
	for _, e := range x.Endpoints {
		if !strings.Contains(e, "://") {
			e = map[bool]string{true: "https://", false: "http://"}[secure] + e
		}
		secure = secure || strings.HasPrefix(e, "https:")
		cfg.Endpoints = append(cfg.Endpoints, e)
	}
	if secure {
		var err error
		if cfg.TLS, err = x.tls(); err != nil {
			return nil, fmt.Errorf("%s: %w", x.what(), err)
		}
	}
	c, err := clientv3.New(cfg)
	if err == nil {
		ask, cancel := context.WithTimeout(ctx, startLimit/6)
		defer cancel()
		if _, err = c.Get(ask, schemaKey); err == nil {
			_, err = c.Txn(ask).If(clientv3.Compare(clientv3.CreateRevision(schemaKey), "=", 0)).Then(clientv3.OpPut(schemaKey, fmt.Sprint(Schema))).Commit()
		}
		if err != nil {
			c.Close()
		}
	}
	switch {
	case err == nil:
		return &engine{client: c, failed: make(chan struct{}), closing: make(chan struct{})}, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrAuthFailed), errors.Is(err, rpctypes.ErrUserEmpty):
		return nil, &Error{
			Kind: Forbidden, What: x.what(), Why: err.Error(), Err: err,
			Do: "Give a user of etcd that may read and write the keys from " + root + ": etcdctl role grant-permission ROLE readwrite --prefix " + root,
		}
	}
	return nil, x.silent(err)
}

func (x *External) what() string { return "open store in etcd at " + x.at() }

func (x *External) silent(err error) error {
	return &Error{
		Kind: NoMajority, What: x.what(), Why: "it does not answer: " + err.Error(), Err: err,
		Do: "See that it runs with a majority of its members and that this host reaches it: etcdctl endpoint health",
	}
}

func (x *External) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if x.CA != "" {
		pem, err := os.ReadFile(x.CA)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it (PEM)", x.CA)
		}
	}
	if x.Cert != "" {
		get := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(x.Cert, x.Key)
			return &c, err
		}
		if _, err := get(nil); err != nil {
			return nil, err
		}
		t.GetClientCertificate = get
	}
	return t, nil
}

// tooLarge says of an error of etcd elsewhere that the transaction was beyond its limits, and by which flags it takes more.
func (x *External) tooLarge(what string, ops, size int, err error) error {
	e := &Error{
		Kind: TooLarge, What: what, Err: err,
		Why: fmt.Sprintf("etcd at %s takes no change of %d documents, %d KiB", x.at(), ops, size>>10),
		Do: fmt.Sprintf("Start etcd with --max-txn-ops %d --max-request-bytes %d (its own limits are 128 and 1572864), or ask for it in parts, or set what is equal on a group",
			maxOps, maxBytes),
	}
	return e
}

// overLimit says that a message was larger than a gRPC server or client takes; etcd has no error of its own for that.
func overLimit(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && !errors.Is(err, rpctypes.ErrNoSpace) && !errors.Is(err, rpctypes.ErrTooManyRequests)
}
