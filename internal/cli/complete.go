package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/internal/api"
)

// What the shell offers on TAB comes from the service, if it answers at once; errors offer nothing. A noderange is
// completed at its last term. Of many nodes the service names some.
const completeTime = time.Second

const noFiles = cobra.ShellCompDirectiveNoFileComp

func (s *session) completing(f func(context.Context) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completeTime)
	defer cancel()
	return f(ctx), noFiles | cobra.ShellCompDirectiveNoSpace
}

// completeNodes offers nodes and groups for the first argument.
func (s *session) completeNodes(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(a) > 0 {
		return nil, noFiles
	}
	return s.completeRange(c, a, typed)
}

// completeRange offers nodes, aliases and groups.
func (s *session) completeRange(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	return s.completing(func(ctx context.Context) []string {
		cut := strings.LastIndexAny(typed, ",(!@&^") + 1
		before, last := typed[:cut], typed[cut:]
		if strings.HasPrefix(last, "-") {
			before, last = before+"-", last[1:]
		}
		var out []string
		for _, g := range s.groupNames(ctx) {
			if strings.HasPrefix(g, last) {
				out = append(out, before+g)
			}
		}
		if strings.ContainsAny(last, "[]~/=<>") {
			return out
		}
		var names api.Names
		if s.do(ctx, "POST", "/v1/list", api.ListNodes{Prefix: last}, &names) != nil {
			return out
		}
		for _, n := range names.Names {
			out = append(out, before+n)
		}
		return out
	})
}

// completeNodesThen offers nodes, and for the second argument fixed words.
func (s *session) completeNodesThen(words []string) cobra.CompletionFunc {
	return func(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(a) == 1 {
			return words, noFiles
		}
		return s.completeNodes(c, a, typed)
	}
}

// completeNodesThenAttributes offers nodes, and then attributes, each followed by suffix.
func (s *session) completeNodesThenAttributes(suffix string) cobra.CompletionFunc {
	return func(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(a) == 0 {
			return s.completeNodes(c, a, typed)
		}
		return s.completing(func(ctx context.Context) []string {
			var all []api.AttrDoc
			_ = s.do(ctx, "GET", "/v1/attributes", nil, &all)
			out := []string{"aliases" + suffix, "groups" + suffix}
			for _, d := range all {
				out = append(out, d.Name+suffix)
			}
			return out
		})
	}
}

// completeNodesThenFiles leaves what follows the nodes to the shell.
func (s *session) completeNodesThenFiles(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(a) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return s.completeNodes(c, a, typed)
}

func (s *session) completeGroups(_ *cobra.Command, a []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(a) > 0 {
		return nil, noFiles
	}
	out, _ := s.completing(s.groupNames)
	return out, noFiles
}

func (s *session) groupNames(ctx context.Context) []string {
	var all []api.GroupInfo
	_ = s.do(ctx, "GET", "/v1/groups", nil, &all)
	out := make([]string, len(all))
	for i, g := range all {
		out[i] = g.Name
	}
	return out
}

func (s *session) completeImages(_ *cobra.Command, a []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(a) > 0 {
		return nil, noFiles
	}
	out, _ := s.completing(s.imageNames)
	return out, noFiles
}

func (s *session) imageNames(ctx context.Context) []string {
	var all []api.ImageInfo
	_ = s.do(ctx, "GET", "/v1/images", nil, &all)
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v.Name)
	}
	return out
}

// completeNodesThenImages is for deploy.
func (s *session) completeNodesThenImages(c *cobra.Command, a []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(a) == 1 {
		out, _ := s.completing(s.imageNames)
		return out, noFiles
	}
	return s.completeNodes(c, a, typed)
}
