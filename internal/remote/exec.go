package remote

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// killTime is what the killing of a command that ran out of time may take.
const killTime = 8 * time.Second

// exec runs one command on one node. The outcome is filled as far as it got, also with an error.
func (o Options) exec(ctx context.Context, t Target, what, command string, stdin io.Reader) (out outcome, err error) {
	out = outcome{stdout: limited{limit: o.Limit}, stderr: limited{limit: o.Limit}, exit: -1}
	what = fmt.Sprintf("%s on %s", what, t.Node)
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not done within %v", o.Timeout))
		defer cancel()
	}
	client, err := o.connect(ctx, t, what)
	if err != nil {
		return out, err
	}
	defer client.Close()

	// A node that lets us in and then says nothing holds its worker until here and no longer.
	unhook := context.AfterFunc(ctx, func() { client.Close() })
	s, in, err := start(client, command, stdin != nil, &out)
	unhook()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return out, &Error{
			Kind: Timeout, What: what, Why: context.Cause(ctx).Error(), Err: ctx.Err(),
			Do: fmt.Sprintf("Its ssh server accepted the login and did not answer after that; see: muster console %s", t.Node),
		}
	default:
		return out, cut(what, err)
	}
	if stdin != nil {
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			_, _ = io.Copy(in, stdin)
			in.Close()
		}()
		defer func() {
			client.Close()
			<-fed
		}()
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		gone := kill(client, s)
		client.Close()
		<-ended // nothing is written to out any more
		e := &Error{Kind: Timeout, What: what, Why: context.Cause(ctx).Error(), Do: "The command was killed there", Err: ctx.Err()}
		if !gone {
			e.Do = "The node did not confirm that the command was killed: look at what still runs there"
		}
		return out, e
	}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		out.exit = 0
	case errors.As(err, &exit) && exit.Signal() != "":
		out.exit = 128 + signals[exit.Signal()]
	case errors.As(err, &exit):
		out.exit = exit.ExitStatus()
	default:
		return out, cut(what, err)
	}
	return out, nil
}

// start begins the command; in is nil unless it has input.
func start(client *ssh.Client, command string, input bool, out *outcome) (s *ssh.Session, in io.WriteCloser, err error) {
	if s, err = client.NewSession(); err != nil {
		return nil, nil, err
	}
	s.Stdout, s.Stderr = &out.stdout, &out.stderr
	if input { // not s.Stdin: a command that does not read all of it has not failed
		if in, err = s.StdinPipe(); err != nil {
			return nil, nil, err
		}
	}
	return s, in, s.Start(command)
}

// signals are the numbers that shells add to 128 (RFC 4254 §6.10 has the names).
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

func cut(what string, err error) error {
	return &Error{
		Kind: Cut, What: what, Why: "the connection ended before the command did (" + err.Error() + ")",
		Do: "The command may have run to its end, in part or not at all: look at the node", Err: err,
	}
}

// killer ends the other commands of this connection, those whose parent, the sshd of the connection, is also ours: TERM to their
// process groups, and KILL to what is left after a second. OpenSSH gives each command a session of its own but only closes its
// pipes when the connection ends, and it refuses signal requests where the user is root. Beside sleep, only what every
// shell has built in is used.
const killer = `g=
for s in /proc/[0-9]*/stat; do
	read -r l 2>/dev/null <"$s" || continue
	p=${s#/proc/}; p=${p%/stat}
	set -- ${l##*) }
	if [ "$2" = "$PPID" ] && [ "$p" != "$$" ]; then g="$g -$p"; fi
done 2>/dev/null
[ -n "$g" ] || exit 0
kill -15 -- $g 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10; do
	kill -0 -- $g 2>/dev/null || exit 0
	sleep .1
done
kill -9 -- $g 2>/dev/null
exit 0`

// kill ends the command of a session on the node; it says whether the node has confirmed it.
func kill(client *ssh.Client, s *ssh.Session) bool {
	stop := time.AfterFunc(killTime, func() { client.Close() })
	defer stop.Stop()
	if err := s.Signal(ssh.SIGTERM); err != nil { // for servers that are not OpenSSH
		return false
	}
	k, err := client.NewSession()
	if err == nil {
		err = k.Run(killer)
	}
	_ = s.Signal(ssh.SIGKILL) // the killer has had its way, or there is nothing better
	return err == nil
}

// connect dials and shakes hands. What is enrolled decides which host keys are asked for.
func (o Options) connect(ctx context.Context, t Target, what string) (*ssh.Client, error) {
	if o.Signer == nil {
		return nil, &Error{Kind: NoIdentity, What: what, Why: "the service has no ssh key of its own", Do: "Start it again: it makes one"}
	}
	enrolled, algorithms := hostKeys(t.HostKeys)
	if len(enrolled) == 0 {
		return nil, &Error{
			Kind: NoIdentity, What: what, Why: "the node has not enrolled: none of its ssh host keys is known",
			Do: fmt.Sprintf("Deploy an image to it; see: muster why %s", t.Node),
		}
	}
	addr := net.JoinHostPort(t.Address, strconv.Itoa(orElse(t.Port, 22)))
	dctx, cancel := context.WithTimeoutCause(ctx, o.Connect, fmt.Errorf("%s did not answer within %v", addr, o.Connect))
	defer cancel()
	conn, err := o.Dial(dctx, "tcp", addr)
	if err != nil {
		return nil, dialError(dctx, what, addr, t, err)
	}
	unhook := context.AfterFunc(dctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	accepted, stranger := false, ""
	config := &ssh.ClientConfig{
		User:              orElse(t.User, "root"),
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(o.Signer)},
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			blob := key.Marshal()
			for _, e := range enrolled {
				if subtle.ConstantTimeCompare(blob, e) == 1 {
					accepted = true
					return nil
				}
			}
			stranger = ssh.FingerprintSHA256(key)
			return errStranger
		},
		Config: ssh.Config{
			// The cheap ones first: X25519 and AES in hardware are 0.5 ms a host; the hybrid exchange that is the default
			// costs more and protects against an enemy who records the management network for decades.
			KeyExchanges: []string{
				ssh.KeyExchangeCurve25519, "curve25519-sha256@libssh.org", ssh.KeyExchangeMLKEM768X25519,
				ssh.KeyExchangeECDHP256, ssh.KeyExchangeDH14SHA256,
			},
			Ciphers: []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR, ssh.CipherAES256CTR},
		},
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, config)
	if err == nil && unhook() {
		return ssh.NewClient(c, chans, reqs), nil
	}
	if err == nil { // the time ran out with the last byte
		c.Close()
		err = context.Cause(dctx)
	}
	unhook()
	conn.Close()
	return nil, handshakeError(dctx, what, addr, t, err, accepted, stranger)
}

var errStranger = errors.New("not an enrolled host key")

func dialError(ctx context.Context, what, addr string, t Target, err error) error {
	e := &Error{Kind: Refused, What: what, Err: err}
	var dns *net.DNSError
	switch {
	case ctx.Err() != nil:
		e.Kind, e.Why = Timeout, context.Cause(ctx).Error()
		e.Do = fmt.Sprintf("Is it running? See: muster status %s, muster console %s", t.Node, t.Node)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Why = addr + " refuses the connection: the machine is up and no ssh server listens there"
		e.Do = fmt.Sprintf("See: muster console %s", t.Node)
	case errors.As(err, &dns):
		e.Why = "the address " + t.Address + " has no IP address"
		e.Do = "Set net.boot.address of the node"
	default:
		var op *net.OpError
		e.Why = addr + ": " + err.Error()
		if errors.As(err, &op) {
			e.Why = addr + ": " + op.Err.Error()
		}
		e.Do = fmt.Sprintf("See: muster status %s", t.Node)
	}
	return e
}

func handshakeError(ctx context.Context, what, addr string, t Target, err error, accepted bool, stranger string) error {
	e := &Error{What: what, Err: err}
	var nego *ssh.AlgorithmNegotiationError
	var ne net.Error
	switch {
	case ctx.Err() != nil:
		e.Kind, e.Why = Timeout, context.Cause(ctx).Error()
		e.Do = fmt.Sprintf("The machine accepts connections and its ssh server does not answer; see: muster console %s", t.Node)
	case stranger != "":
		e.Kind = HostKey
		e.Why = fmt.Sprintf("%s answers with the host key %s, which is none of those that %s enrolled: it booted again, or somebody else answers", addr, stranger, t.Node)
		e.Do = fmt.Sprintf("Nothing was sent to it. See when it enrolled: muster why %s", t.Node)
	case errors.As(err, &nego) && !accepted:
		e.Kind = HostKey
		e.Why = fmt.Sprintf("%s has no host key of the kinds that %s enrolled: it booted again, or somebody else answers", addr, t.Node)
		e.Do = fmt.Sprintf("Nothing was sent to it. See when it enrolled: muster why %s", t.Node)
	case errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Why = Cut, addr+" ended the connection during the handshake ("+err.Error()+")"
		e.Do = "Its ssh server may be starting, or at its limit (MaxStartups): try again"
	case accepted:
		e.Kind = Auth
		e.Why = fmt.Sprintf("%s does not accept the service's key for user %s", addr, orElse(t.User, "root"))
		e.Do = "The image needs the key in the user's authorized_keys: images of muster image build have it. Set ssh.user if it is another user"
	default:
		e.Kind, e.Why = Cut, addr+" does not speak ssh as it should ("+err.Error()+")"
		e.Do = "Set ssh.port to the port of its ssh server"
	}
	return e
}

// hostKeys reads the enrolled keys; lines that are none are passed over. The algorithms are in our order of preference.
func hostKeys(lines []string) (blobs [][]byte, algorithms []string) {
	have := map[string]bool{}
	for _, l := range lines {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(l)))
		if err != nil {
			continue
		}
		blobs = append(blobs, k.Marshal())
		have[k.Type()] = true
	}
	for _, a := range []struct{ kind, algorithm string }{
		{ssh.KeyAlgoED25519, ssh.KeyAlgoED25519},
		{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA256},
		{ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA384},
		{ssh.KeyAlgoECDSA521, ssh.KeyAlgoECDSA521},
		{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256},
		{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA512},
	} {
		if have[a.kind] {
			algorithms = append(algorithms, a.algorithm)
		}
	}
	if len(algorithms) == 0 {
		return nil, nil
	}
	return blobs, algorithms
}

func orElse[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
