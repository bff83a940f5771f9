package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"muster/internal/api"
	"muster/internal/model"
)

// listPlugins tells the programs in the directory of plugins, fit or not.
func (s *Server) listPlugins(q *request) error {
	out := []api.Plugin{}
	files, err := os.ReadDir(s.pluginDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	nodes := map[string][]model.NodeName{}
	for n := range q.snap.Nodes() {
		if driver, err := q.snap.Attr(n, "bmc.driver"); err != nil || driver != "exec" {
			continue
		}
		if name, err := q.snap.Attr(n, "bmc.plugin"); err == nil {
			nodes[name] = append(nodes[name], n.Name)
		}
	}
	for _, f := range files {
		p := api.Plugin{Name: f.Name(), Path: filepath.Join(s.pluginDir(), f.Name()), Nodes: fold(nodes[f.Name()])}
		if info, err := os.Stat(p.Path); err != nil {
			p.Why = err.Error()
		} else if p.Why = unfit(info); p.Why == "" {
			if attr, _ := model.Lookup("bmc.plugin"); attr != nil {
				if _, err := attr.Canonical(p.Name); err != nil {
					p.Why = "cannot be named: " + err.Error()
				}
			}
		}
		out = append(out, p)
	}
	return q.answer(out)
}
