package remote

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"muster/internal/model"
	"muster/internal/need"
)

func TestMain(m *testing.M) {
	stubMain() // does not return in a child process of a test
	goleak.VerifyTestMain(m)
}

func newKey(t testing.TB) (ssh.Signer, []byte) {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		t.Fatal(err)
	}
	return s, pem.EncodeToMemory(b)
}

func authorized(s ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(s.PublicKey())) }

// sshd starts Debian's ssh server on 127.0.0.1 and returns a target for it and the key that it accepts for root.
func sshd(t testing.TB) (Target, Options) {
	t.Helper()
	prog, err := exec.LookPath("sshd")
	if err != nil {
		prog = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(prog); err != nil {
		need.Lack(t, "needs sshd: apt-get install openssh-server")
	}
	need.Root(t, "sshd logs in as root")
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	host, hostPEM := newKey(t)
	ours, _ := newKey(t)
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := write("sshd_config", fmt.Appendf(nil, `ListenAddress 127.0.0.1
Port %d
HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
MaxStartups 1000
`, port, write("host", hostPEM), write("authorized", []byte(authorized(ours)))))
	cmd := exec.Command(prog, "-D", "-e", "-f", conf)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.Bytes())
		}
	})
	waitFor(t, "sshd to listen", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return Target{Node: "r1n1", Address: "127.0.0.1", Port: port, HostKeys: []string{authorized(host)}}, Options{Signer: ours}
}

func runOne(t testing.TB, target Target, command string, o Options) Result {
	t.Helper()
	for r := range Run(t.Context(), []Target{target}, command, o) {
		return r
	}
	t.Fatal("no result")
	panic("unreachable")
}

func kindOf(err error) Kind {
	var e *Error
	if !errors.As(err, &e) || e.What == "" || e.Why == "" || e.Do == "" {
		return Kind(fmt.Sprintf("not a whole *Error: %v", err))
	}
	return e.Kind
}

func TestRun_on_a_real_sshd(t *testing.T) {
	target, o := sshd(t)

	r := runOne(t, target, `echo out; echo err >&2; exit 3`, o)
	if r.Err != nil || string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" || r.Exit != 3 || r.Node != "r1n1" || r.Took <= 0 {
		t.Errorf("%+v", r)
	}
	if r := runOne(t, target, `kill -9 $$`, o); r.Err != nil || r.Exit != 137 {
		t.Errorf("killed by a signal: %+v", r)
	}

	t.Run("binary_stdin", func(t *testing.T) {
		o := o
		o.Stdin = make([]byte, 3<<20)
		rand.Read(o.Stdin)
		if r := runOne(t, target, "cat", o); r.Err != nil || r.Exit != 0 || !bytes.Equal(r.Stdout, o.Stdin) {
			t.Errorf("%d bytes came back, %v", len(r.Stdout), r.Err)
		}
		if r := runOne(t, target, "true", o); r.Err != nil || r.Exit != 0 {
			t.Errorf("a command that does not read its input: %+v", r)
		}
	})
	t.Run("no_stdin_is_empty", func(t *testing.T) {
		if r := runOne(t, target, "cat", o); r.Err != nil || len(r.Stdout) != 0 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("large_output_is_cut_with_a_note", func(t *testing.T) {
		o := o
		o.Limit = 1000
		r := runOne(t, target, "head -c 20000000 /dev/zero", o)
		if r.Err != nil || r.Exit != 0 || len(r.Stdout) != 1000 || r.Note != "standard output cut after 1000 of 20000000 bytes" {
			t.Errorf("%d bytes, note %q, %v", len(r.Stdout), r.Note, r.Err)
		}
	})
	t.Run("another_host_key", func(t *testing.T) {
		target := target
		other, _ := newKey(t)
		target.HostKeys = []string{authorized(other)}
		r := runOne(t, target, "touch /never", o)
		if kindOf(r.Err) != HostKey || r.Exit != -1 || !strings.Contains(r.Err.Error(), "booted again, or somebody else answers") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("another_kind_of_host_key", func(t *testing.T) {
		target := target
		target.HostKeys = []string{"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="}
		if r := runOne(t, target, "true", o); kindOf(r.Err) != HostKey {
			t.Errorf("%+v", r)
		}
	})
	t.Run("one_of_several_enrolled_keys", func(t *testing.T) {
		target := target
		other, _ := newKey(t)
		target.HostKeys = append([]string{"junk", authorized(other)}, target.HostKeys...)
		if r := runOne(t, target, "true", o); r.Err != nil {
			t.Error(r.Err)
		}
	})
	t.Run("our_key_is_not_accepted", func(t *testing.T) {
		o := o
		o.Signer, _ = newKey(t)
		if r := runOne(t, target, "true", o); kindOf(r.Err) != Auth {
			t.Errorf("%+v", r)
		}
	})
	t.Run("not_enrolled", func(t *testing.T) {
		target := target
		target.HostKeys = nil
		if r := runOne(t, target, "true", o); kindOf(r.Err) != NoIdentity {
			t.Errorf("%+v", r)
		}
	})
	t.Run("nothing_listens", func(t *testing.T) {
		target := target
		target.Port = 1
		if r := runOne(t, target, "true", o); kindOf(r.Err) != Refused {
			t.Errorf("%+v", r)
		}
	})
	t.Run("time_limit_kills_the_command", func(t *testing.T) {
		o := o
		o.Timeout = 1500 * time.Millisecond
		pidFile := filepath.Join(t.TempDir(), "pid")
		r := runOne(t, target, fmt.Sprintf(`sh -c 'echo $$ >%s; trap "" TERM; sleep 1000 & sleep 1000'; :`, pidFile), o)
		if kindOf(r.Err) != Timeout || !strings.Contains(r.Err.Error(), "was killed there") {
			t.Errorf("%+v", r)
		}
		b, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		waitFor(t, "the command to be gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	})
	t.Run("leaving_the_loop_kills_the_others", func(t *testing.T) {
		dir := t.TempDir()
		targets := []Target{target, target, target}
		// One of them ends at once, the others sleep until they are killed.
		command := fmt.Sprintf(`mkdir %[1]s/first 2>/dev/null && exec sleep 0.3; echo $$ >%[1]s/$$; exec sleep 1000`, dir)
		for range Run(t.Context(), targets, command, o) {
			break
		}
		files, _ := filepath.Glob(dir + "/[0-9]*")
		for _, f := range files {
			pid, _ := strconv.Atoi(filepath.Base(f))
			waitFor(t, "the command to be gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
		}
	})
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 5 s for %s", what)
		}
	}
}

// stub is an ssh server in this process: what it does with a command is a function.
func stub(t testing.TB, host ssh.Signer, do func(command string, ch ssh.Channel) (exit int)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { serveStub(ctx, l, host, do) })
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

func serveStub(ctx context.Context, l net.Listener, host ssh.Signer, do func(command string, ch ssh.Channel) int) {
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	cfg.AddHostKey(host)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			_, chans, reqs, err := ssh.NewServerConn(c, cfg)
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			for nc := range chans {
				ch, rq, err := nc.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					for r := range rq {
						r.Reply(r.Type == "exec", nil)
						if r.Type != "exec" {
							continue
						}
						go func() {
							exit := do(string(r.Payload[4:]), ch)
							if exit < 0 {
								c.Close()
								return
							}
							ch.SendRequest("exit-status", false, ssh.Marshal(struct{ C uint32 }{uint32(exit)}))
							ch.Close()
						}()
					}
				})
			}
		})
	}
}

func TestRun_streams_results_as_nodes_finish(t *testing.T) {
	host, _ := newKey(t)
	ours, _ := newKey(t)
	release := make(chan struct{})
	port := stub(t, host, func(_ string, ch ssh.Channel) int {
		ch.Write([]byte("fast"))
		return 0
	})
	slow := stub(t, host, func(_ string, ch ssh.Channel) int {
		<-release
		return 0
	})
	targets := []Target{{Node: "slow", Address: "127.0.0.1", Port: slow, HostKeys: []string{authorized(host)}}}
	for i := range 20 {
		targets = append(targets, Target{Node: model.NodeName(fmt.Sprint("n", i)), Address: "127.0.0.1", Port: port, HostKeys: []string{authorized(host)}})
	}
	n := 0
	for r := range Run(t.Context(), targets, "x", Options{Signer: ours, Fanout: 2}) {
		if n++; n == 20 {
			close(release) // the slow one is answered only when all others have been
		}
		if r.Err != nil || (r.Node == "slow") != (n == 21) {
			t.Errorf("result %d is of %s: %v", n, r.Node, r.Err)
		}
	}
	if n != 21 {
		t.Errorf("%d results", n)
	}
}

func TestRun_says_when_the_connection_was_cut(t *testing.T) {
	host, _ := newKey(t)
	ours, _ := newKey(t)
	port := stub(t, host, func(_ string, ch ssh.Channel) int {
		ch.Write([]byte("half"))
		return -1
	})
	r := runOne(t, Target{Node: "n", Address: "127.0.0.1", Port: port, HostKeys: []string{authorized(host)}}, "x", Options{Signer: ours})
	if kindOf(r.Err) != Cut || r.Exit != -1 || string(r.Stdout) != "half" {
		t.Errorf("%+v", r)
	}
}

func TestRun_leaves_a_node_that_says_nothing_after_the_login(t *testing.T) {
	host, _ := newKey(t)
	ours, _ := newKey(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		cfg := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
		cfg.AddHostKey(host)
		if conn, chans, reqs, err := ssh.NewServerConn(c, cfg); err == nil {
			go ssh.DiscardRequests(reqs)
			<-chans // the session, which it neither accepts nor refuses
			_ = conn.Wait()
		}
	})
	target := Target{Node: "n", Address: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, HostKeys: []string{authorized(host)}}
	r := runOne(t, target, "x", Options{Signer: ours, Timeout: 300 * time.Millisecond})
	if kindOf(r.Err) != Timeout || r.Exit != -1 {
		t.Errorf("%+v", r)
	}
}

func TestRun_gives_every_target_an_answer_after_the_end_of_ctx(t *testing.T) {
	ours, _ := newKey(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := 0
	for r := range Run(ctx, make([]Target, 500), "x", Options{Signer: ours, Fanout: 3}) {
		if n++; r.Err == nil {
			t.Error("no error")
		}
	}
	if n != 500 {
		t.Errorf("%d answers", n)
	}
}

// A port that accepts and says nothing, and one that is no ssh server.
func TestRun_on_what_is_no_ssh_server(t *testing.T) {
	ours, _ := newKey(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	target := Target{Node: "n", Address: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, HostKeys: []string{authorized(ours)}}
	r := runOne(t, target, "x", Options{Signer: ours, Connect: 200 * time.Millisecond})
	if kindOf(r.Err) != Timeout || !strings.Contains(r.Err.Error(), "did not answer within 200ms") {
		t.Errorf("%v", r.Err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range 2 {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			c.Close()
		}
	})
	r = runOne(t, target, "x", Options{Signer: ours})
	if kindOf(r.Err) != Cut {
		t.Errorf("%v", r.Err)
	}
}

func TestQuote(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("needs /bin/sh")
	}
	var all strings.Builder
	for b := 1; b < 256; b++ {
		all.WriteByte(byte(b))
	}
	for _, s := range []string{"", "a b", "'", "''", `\'`, "$(reboot)", "`x`", "-n", "\n", "a'\"$x\\", all.String()} {
		w, ok := Quote(s)
		if !ok {
			t.Errorf("%q refused", s)
			continue
		}
		out, err := exec.Command(sh, "-c", "printf %s. "+w).Output()
		if err != nil || string(out) != s+"." {
			t.Errorf("%q became %q, %v", s, out, err)
		}
	}
	if _, ok := Quote("a\x00b"); ok {
		t.Error("NUL was accepted")
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("it's", "$(x)")
	f.Add("\\", "'")
	f.Fuzz(func(t *testing.T, a, b string) {
		qa, ok1 := Quote(a)
		qb, ok2 := Quote(b)
		if !ok1 || !ok2 {
			return
		}
		out, err := exec.Command("/bin/sh", "-c", "printf '%s\\001' "+qa+" "+qb).Output()
		if err != nil || string(out) != a+"\x01"+b+"\x01" {
			t.Fatalf("%q %q became %q, %v", a, b, out, err)
		}
	})
}
