package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// floors is the floor plan of docs/house.md: a room imports rooms of lower floors and rooms inside itself; two rooms of one
// floor do not know each other. A new room, or a new exception, is a line here.
var floors = map[string]int{
	"model": 1, "wire": 1, "durable": 1, "need": 1, "job": 1, "pan": 1,
	"store": 2, "api": 2, "auth": 2, "identity": 2, "boot": 2, "image": 2, "bmc": 2, "console": 2, "remote": 2,
	"server": 3, "cli": 3, "agent": 3,
	"lab": 4,
}

// exceptions are imports that the floors forbid, each with its reason.
var exceptions = map[string]string{
	"job -> durable": "what was done is kept in files that are whole",
	"lab -> api":     "lab's commands report the same kind of error as all others",
}

// impure are what the ground floor never calls: it has no sockets, no files, no clock.
var impure = map[string][]string{
	"net":  nil, // all of it
	"os":   nil,
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
}

// purePackages are pure although they are not on the ground floor: boot decides, its children hold the sockets.
var purePackages = []string{"muster/internal/boot"}

// notPure are on the ground floor and yet not pure, each with its reason.
var notPure = map[string]string{
	"muster/internal/durable":            "writing files whole is its one idea; it keeps no state",
	"muster/internal/need":               "serves tests only",
	"muster/internal/job":                "running steps under limits is its one idea, and it is the same on a node and in an image that is built",
	"muster/internal/wire/ipmi/ipmitest": "serves tests only",
}

type goPackage struct {
	ImportPath   string
	Dir          string
	Name         string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Name,GoFiles,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// room is the first folder under internal: "boot" of muster/internal/boot/dhcpd; "" for what is no room.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, "muster/internal/")
	if !ok {
		return ""
	}
	r, _, _ := strings.Cut(rest, "/")
	return r
}

func TestHouse_rooms_keep_to_their_floors(t *testing.T) {
	for _, p := range list(t, "./internal/...") {
		from := room(p.ImportPath)
		if floors[from] == 0 {
			t.Errorf("%s: room %s has no floor: add it to the plan with its reason", p.ImportPath, from)
		}
		for _, i := range p.Imports {
			to := room(i)
			if to == "" || to == from || floors[to] < floors[from] || exceptions[from+" -> "+to] != "" {
				continue
			}
			t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, floors[from], i, floors[to])
		}
	}
}

func TestHouse_ground_floor_is_pure(t *testing.T) {
	for _, p := range list(t, "./internal/...") {
		if floors[room(p.ImportPath)] != 1 && !slices.Contains(purePackages, p.ImportPath) {
			continue
		}
		if reason := notPure[p.ImportPath]; reason != "" {
			continue
		}
		for _, f := range p.GoFiles {
			checkPure(t, filepath.Join(p.Dir, f))
		}
	}
}

func checkPure(t *testing.T, file string) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if !ok || pkg.Obj != nil {
			return true
		}
		names, forbidden := impure[pkg.Name]
		if forbidden && (names == nil || slices.Contains(names, sel.Sel.Name)) {
			t.Errorf("%s: %s.%s in a pure room", set.Position(sel.Pos()), pkg.Name, sel.Sel.Name)
		}
		return true
	})
}

func TestHouse_every_room_opens_with_a_comment_and_a_plain_name(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, bad := range []string{"util", "utils", "helper", "helpers", "common", "misc", "manager", "base", "impl"} {
			if p.Name == bad {
				t.Errorf("%s: no room is called %s", p.ImportPath, bad)
			}
		}
		commented := false
		for _, f := range p.GoFiles {
			a, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			commented = commented || a.Doc != nil
		}
		if !commented && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// The programs stay small by what they do not link (docs/house.md, "The programs").
func TestHouse_programs_link_only_what_they_need(t *testing.T) {
	for program, forbidden := range map[string][]string{
		"./node": {"go.etcd.io/etcd", "google.golang.org/grpc", "text/template", "html/template", "github.com/spf13/cobra", "muster/internal/store", "muster/internal/server"},
		".":      {"go.etcd.io/etcd", "google.golang.org/grpc", "golang.org/x/crypto/ssh", "muster/internal/store", "muster/internal/server", "muster/internal/lab"},
	} {
		for _, p := range list(t, program) {
			for _, dep := range p.Deps {
				for _, f := range forbidden {
					if dep == f || strings.HasPrefix(dep, f+"/") {
						t.Errorf("%s links %s", program, dep)
					}
				}
			}
		}
	}
}

func TestHouse_every_direct_dependency_has_its_line(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/house.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) < 2 || !strings.Contains(fields[0], ".") || strings.Contains(line, "// indirect") || !strings.HasPrefix(fields[1], "v") {
			continue
		}
		if !bytes.Contains(page, []byte("`"+fields[0]+"`")) {
			t.Errorf("docs/house.md has no line for the dependency %s", fields[0])
		}
	}
}

func TestHouse_no_file_carries_a_path_of_a_machine(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || path == "build") {
			return filepath.SkipDir
		}
		if d.IsDir() || slices.Contains([]string{".zst", ""}, filepath.Ext(path)) || path == "house_test.go" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, bad := range []string{"/" + "work/main", "/" + "root/go/"} {
			if bytes.Contains(b, []byte(bad)) {
				t.Errorf("%s names %s", path, bad)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
