package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"muster/internal/cli"
	"muster/internal/server"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"muster": func() {
			os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv, server.RestoreCommand()))
		},
	})
}

// TestScripts runs testdata/describe/*.txt: the command line against a real service, each script with one of its own, in this process. bmc.driver=redfish
// is the [double]. Besides
// the commands of testscript there is
//
//	status N COMMAND…   the command ends with exit status N
//
// and $ADMIN, the identity file of an administrator called admin, $API where it is answered over TLS, and $PLUGINS, where the plugins are that come with muster.
func TestScripts(t *testing.T) {
	plugins, err := filepath.Abs("packaging/plugins")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "describe"),
		Setup: func(env *testscript.Env) error {
			data := filepath.Join(env.WorkDir, "d")
			srv, stop, err := serve(data)
			if err != nil {
				return err
			}
			env.Defer(stop)
			env.Setenv("MUSTER_SERVER", "unix:"+srv.Socket())
			env.Setenv("API", srv.APIs()[0])
			env.Setenv("ADMIN", filepath.Join(data, "keys", "admin.pem"))
			env.Setenv("TZ", "UTC")
			env.Setenv("PLUGINS", plugins)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				got := 0
				var exit interface{ ExitCode() int }
				if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
					got = exit.ExitCode()
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if strconv.Itoa(got) != args[0] {
					ts.Fatalf("exit status %d, want %s", got, args[0])
				}
			},
		},
	})
}

// serve runs a service until stop is called.
func serve(data string) (srv *server.Server, stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan *server.Server, 1), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, server.Config{
			Data: data, Listen: []string{"127.0.0.1:0"}, Version: "test", Drivers: map[string]server.Driver{"redfish": {Open: new(double).open}},
			Log: slog.New(slog.DiscardHandler), Ready: func(s *server.Server) { ready <- s },
		})
	}()
	select {
	case srv = <-ready:
		return srv, func() { cancel(); <-done }, nil
	case err = <-done:
		cancel()
		return nil, nil, err
	}
}
