package redfish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"muster/internal/bmc"
)

// rootPath is the one path that is fixed (DSP0266, "Service root").
const rootPath = "/redfish/v1/"

// limit is what an answer may have, in octets. A log of 10,000 entries, expanded, has some 8 MB.
const limit = 32 << 20

// together is how many requests of one walk are under way at once: fewer than PerBMC, so that power does not wait behind an inventory.
const together = 2

// answer is what a controller said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) etag() string {
	if t := a.header.Get("ETag"); t != "" {
		return t
	}
	var o struct {
		ETag string `json:"@odata.etag"`
	}
	_ = decode(a.body, &o) // no ETag, then
	return o.ETag
}

// location is the path that a Location header has; controllers send whole URLs, too, with names that we may not be able to resolve.
func (a answer) location() string { return pathOf(a.header.Get("Location")) }

// pathOf is the path and query of a reference. What is no path answers "".
func pathOf(reference string) string {
	u, err := url.Parse(reference)
	if err != nil || !strings.HasPrefix(u.Path, "/") {
		return ""
	}
	return u.RequestURI()
}

func (a answer) retryAfter() time.Duration {
	s, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || s <= 0 {
		return 0
	}
	return time.Duration(min(s, 300)) * time.Second
}

// body is what is sent. It can be sent again, when the session has expired.
type body struct {
	kind string // Content-Type
	size int64
	open func() (io.Reader, error)
}

func jsonBody(v any) (*body, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return &body{"application/json", int64(len(b)), func() (io.Reader, error) { return bytes.NewReader(b), nil }}, nil
}

// call is one request.
type call struct {
	method, path string
	header       map[string]string
	body         *body
	unbounded    bool // by Options.Timeout: an upload
}

// do sends a request with the session, logging in when that is needed, and answers a [*statusError] for what is no success.
func (p *peer) do(ctx context.Context, c call) (answer, error) {
	for again := false; ; again = true {
		if err := p.open(ctx); err != nil {
			return answer{}, err
		}
		p.mu.Lock()
		token, basic := p.token, p.basic
		p.mu.Unlock()
		a, err := p.send(ctx, c, token, basic)
		if !expired(err) || basic || again {
			return a, unsure(c, err)
		}
		p.forget(token)
	}
}

// expired says that the session is not known any more.
func expired(err error) bool {
	e := (*statusError)(nil)
	return errors.As(err, &e) && !e.login && (e.status == http.StatusUnauthorized || e.status == http.StatusForbidden && e.has("NoValidSession"))
}

func (p *peer) forget(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.token == token {
		p.token, p.session = "", ""
	}
}

// send sends a request once.
func (p *peer) send(ctx context.Context, c call, token string, basic bool) (answer, error) {
	if !c.unbounded {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, p.engine.opt.Timeout)
		defer stop()
	}
	r, err := p.begin(ctx, c, token, basic)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return answer{}, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	if len(b) > limit {
		return answer{}, &answerError{fmt.Sprintf("%s %s: more than %d MiB", c.method, c.path, limit>>20)}
	}
	a := answer{r.StatusCode, r.Header, b}
	return a, a.err(c)
}

// unsure marks the error of a request that may have been done: it was sent on a connection that was there, and the answer did not come.
func unsure(c call, err error) error {
	var op *net.OpError
	var cert *bmc.CertificateError
	var bad *answerError
	if err == nil || c.method == http.MethodGet || status(err) != 0 || errors.As(err, &op) && op.Op == "dial" || errors.As(err, &cert) || errors.As(err, &bad) {
		return err
	}
	return errors.Join(errUnsure, err)
}

func (a answer) err(c call) error {
	if a.status >= 200 && a.status < 300 {
		return nil
	}
	var f failure
	_ = decode(a.body, &f) // often a page of HTML
	return &statusError{method: c.method, path: c.path, status: a.status, messages: f.messages(), retry: a.retryAfter()}
}

// begin sends a request and returns the answer whose body is not read yet.
func (p *peer) begin(ctx context.Context, c call, token string, basic bool) (*http.Response, error) {
	var content io.Reader
	if c.body != nil {
		var err error
		if content, err = c.body.open(); err != nil {
			return nil, err
		}
	}
	path := pathOf(c.path)
	if path == "" {
		return nil, &answerError{fmt.Sprintf("%q is no path", c.path)}
	}
	r, err := http.NewRequestWithContext(ctx, c.method, "https://"+p.host+path, content)
	if err != nil {
		return nil, &answerError{err.Error()}
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("OData-Version", "4.0")
	r.Header.Set("User-Agent", "muster")
	if c.body != nil {
		r.Header.Set("Content-Type", c.body.kind)
		r.ContentLength = c.body.size
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	switch {
	case basic:
		r.SetBasicAuth(p.key.user, p.password.Reveal())
	case token != "":
		r.Header.Set("X-Auth-Token", token)
	}
	return p.client.Do(r)
}

// open makes sure that the service root is known and there is a session. Those who come while that is under way wait for it and share its outcome: a wrong
// password is tried once, however many ask.
func (p *peer) open(ctx context.Context) error {
	p.mu.Lock()
	if p.root != nil && (p.token != "" || p.basic) {
		p.mu.Unlock()
		return nil
	}
	f := p.opening
	if f == nil {
		f = &flight{done: make(chan struct{})}
		e := p.engine
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			p.mu.Unlock()
			return errClosed
		}
		e.work.Add(1)
		e.mu.Unlock()
		p.opening = f
		go func() {
			defer e.work.Done()
			f.err = p.login(e.ctx)
			p.mu.Lock()
			p.opening = nil
			p.mu.Unlock()
			close(f.done)
		}()
	}
	p.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// login reads the service root, and makes a session where there is a service for it (DSP0266, "Session management").
func (p *peer) login(ctx context.Context) error {
	p.mu.Lock()
	root := p.root
	p.mu.Unlock()
	if root == nil {
		a, err := p.send(ctx, call{method: http.MethodGet, path: rootPath}, "", false)
		if status(err) == http.StatusUnauthorized { // the root is to be open to all; some want a login for it
			a, err = p.send(ctx, call{method: http.MethodGet, path: rootPath}, "", true)
			if s := (*statusError)(nil); errors.As(err, &s) {
				s.login = true
			}
		}
		if err != nil {
			return err
		}
		root = &serviceRoot{}
		if err := decode(a.body, root); err != nil || root.Systems.ID == "" {
			return &answerError{rootPath + " is not the root of a Redfish service"}
		}
	}
	c := call{method: http.MethodPost, path: root.Links.Sessions.ID}
	if c.path == "" && root.SessionService.ID != "" {
		c.path = strings.TrimSuffix(root.SessionService.ID, "/") + "/Sessions"
	}
	var token, session string
	if c.path != "" {
		var err error
		if c.body, err = jsonBody(map[string]string{"UserName": p.key.user, "Password": p.password.Reveal()}); err != nil {
			return err
		}
		a, err := p.send(ctx, c, "", false)
		if s := (*statusError)(nil); errors.As(err, &s) {
			s.login = true
		}
		if err != nil && !absent(err) {
			return err
		}
		if err == nil {
			token, session = a.header.Get("X-Auth-Token"), a.location()
			if session == "" {
				var l link
				_ = decode(a.body, &l)
				session = pathOf(l.ID)
			}
			if token == "" {
				return &answerError{c.path + " gave a session without X-Auth-Token"}
			}
		}
	}
	p.mu.Lock()
	if p.root == nil {
		p.root, p.quirk = root, quirkOf(*root)
	}
	p.token, p.session, p.basic = token, session, token == ""
	p.mu.Unlock()
	p.engine.log.Debug("session opened", "bmc", p.key.String(), "basic", token == "")
	return nil
}

// logout ends the session and the connections.
func (p *peer) logout() {
	p.mu.Lock()
	token, session := p.token, p.session
	p.token, p.session = "", ""
	p.mu.Unlock()
	if token != "" && session != "" {
		ctx, stop := context.WithTimeout(context.Background(), min(p.engine.opt.Timeout, 5*time.Second))
		defer stop()
		// A session that cannot be ended ends by itself.
		_, err := p.send(ctx, call{method: http.MethodDelete, path: session}, token, false)
		p.engine.log.Debug("session ended", "bmc", p.key.String(), "err", err)
	}
	p.transport.CloseIdleConnections()
}

// get reads a resource.
func (p *peer) get(ctx context.Context, path string, v any) (answer, error) {
	a, err := p.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return a, err
	}
	if err := decode(a.body, v); err != nil {
		return a, &answerError{fmt.Sprintf("GET %s: no JSON: %v", path, err)}
	}
	return a, nil
}

// post calls an action, or makes a member.
func (p *peer) post(ctx context.Context, path string, v any) (answer, error) {
	if path == "" {
		return answer{}, &missing{"it does not offer that"}
	}
	b, err := jsonBody(v)
	if err != nil {
		return answer{}, err
	}
	return p.do(ctx, call{method: http.MethodPost, path: path, body: b})
}

// patch changes a resource, on condition that it is as it was read (DSP0266, "ETags"). Controllers differ in what they take for their own tag: when they
// say that the condition is not met, they get it without the mark of a weak one, and then, having said that the tag of this very moment is wrong, without any.
func (p *peer) patch(ctx context.Context, path string, v any) (answer, error) {
	b, err := jsonBody(v)
	if err != nil {
		return answer{}, err
	}
	p.mu.Lock()
	match := p.quirk.match
	p.mu.Unlock()
	tags := []string{match, ""}
	switch match {
	case "no":
		tags = []string{""}
	case "":
		a, err := p.do(ctx, call{method: http.MethodGet, path: path})
		if err != nil {
			return a, err
		}
		tag := a.etag()
		tags = slices.Compact([]string{tag, strings.TrimPrefix(tag, "W/"), ""})
	}
	var a answer
	for _, tag := range tags {
		c := call{method: http.MethodPatch, path: path, body: b}
		if tag != "" {
			c.header = map[string]string{"If-Match": tag}
		}
		if a, err = p.do(ctx, c); status(err) != http.StatusPreconditionFailed && status(err) != http.StatusPreconditionRequired {
			break
		}
	}
	return a, err
}

// expansion is the query that asks for the members with their collection (DSP0266, "The $expand query parameter"); "" when it is not offered.
func (p *peer) expansion() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.root.Features.ExpandQuery
	switch {
	case p.quirk.expand == "no" || !q.NoLinks && !q.ExpandAll:
		return ""
	case p.quirk.expand != "":
		return p.quirk.expand
	case q.NoLinks && q.Levels:
		return ".($levels=1)"
	case q.NoLinks:
		return "."
	case q.Levels:
		return "*($levels=1)"
	}
	return "*"
}

// members reads a collection: in one request where the controller can, else each member. A collection or a member that is not there is none: lists name
// what has been taken out. Any other trouble is an error, since a list with a part missing would look whole.
func members[T any](ctx context.Context, p *peer, path string) ([]T, error) {
	if path == "" {
		return nil, nil
	}
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	next := path
	if q := p.expansion(); q != "" {
		next += "?$expand=" + q
	}
	seen := map[string]bool{}
	for next != "" && !seen[next] {
		seen[next] = true
		var c collection
		if _, err := p.get(ctx, next, &c); err != nil {
			if next != path && len(raw) == 0 && status(err) != 0 { // offered, but not for this one
				next = path
				continue
			}
			if absent(err) && len(raw) == 0 {
				return nil, nil
			}
			return nil, err
		}
		raw = append(raw, c.Members...)
		next = c.Next
		if len(seen) > 1000 {
			return nil, &answerError{path + " does not end"}
		}
	}
	return resolve[T](ctx, p, raw)
}

// resolve reads the members that are but links.
func resolve[T any](ctx context.Context, p *peer, raw []json.RawMessage) ([]T, error) {
	out, there := make([]T, len(raw)), make([]bool, len(raw))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(together)
	for i, m := range raw {
		var fields map[string]json.RawMessage
		var l link
		if decode(m, &fields) != nil || decode(m, &l) != nil {
			return nil, &answerError{"a member of a collection is no object"}
		}
		if fields["Id"] != nil || fields["Name"] != nil || fields["MemberId"] != nil || l.ID == "" {
			there[i] = true
			if err := decode(m, &out[i]); err != nil {
				return nil, &answerError{err.Error()}
			}
			continue
		}
		g.Go(func() error {
			_, err := p.get(ctx, l.ID, &out[i])
			there[i] = err == nil
			if absent(err) {
				err = nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	kept := out[:0]
	for i := range out {
		if there[i] {
			kept = append(kept, out[i])
		}
	}
	return kept, nil
}

// linked reads what links name.
func linked[T any](ctx context.Context, p *peer, links []link) ([]T, error) {
	raw := make([]json.RawMessage, 0, len(links))
	for _, l := range links {
		b, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		raw = append(raw, b)
	}
	return resolve[T](ctx, p, raw)
}

// place is where the things of one system are. It is read once and then known.
type place struct {
	system     string
	controller string
	chassis    []link
	// Of the system, as it was when first read: links, and what it can do. What changes is read when it is needed.
	first system
	reset []text // the ResetTypes; nil: the controller does not say

	mu sync.Mutex // of controller
}

// place finds the system of a target.
func (p *peer) place(ctx context.Context, id string) (*place, error) {
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	at, root := p.places[id], p.root
	p.mu.Unlock()
	if at != nil {
		return at, nil
	}
	var all collection
	if _, err := p.get(ctx, root.Systems.ID, &all); err != nil {
		return nil, err
	}
	at = &place{}
	paths := map[string]string{}
	for _, m := range all.Members {
		var l link
		if decode(m, &l) == nil && l.ID != "" {
			paths[last(l.ID)] = l.ID
		}
	}
	switch names := slices.Sorted(maps.Keys(paths)); {
	case len(names) == 0:
		return nil, &missing{"it has no system"}
	case id != "" && paths[id] == "":
		return nil, &wrong{fmt.Sprintf("the controller has no system %q but %s", id, strings.Join(names, ", ")), "Set bmc.system to one of them"}
	case id == "" && len(names) > 1:
		return nil, &wrong{"the controller has several systems: " + strings.Join(names, ", "), "Set bmc.system to the one of this node"}
	case id == "":
		id = names[0]
	}
	at.system = paths[id]
	if _, err := p.get(ctx, at.system, &at.first); err != nil {
		return nil, err
	}
	s := at.first
	if len(s.Links.ManagedBy) > 0 {
		at.controller = s.Links.ManagedBy[0].ID
	}
	at.chassis = s.Links.Chassis
	at.reset = s.Actions.Reset.ResetTypes
	if at.reset == nil && s.Actions.Reset.Info != "" {
		var i actionInfo
		if _, err := p.get(ctx, s.Actions.Reset.Info, &i); err != nil && !absent(err) {
			return nil, err
		}
		for _, q := range i.Parameters {
			if q.Name == "ResetType" {
				at.reset = q.AllowableValues
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places[id] = at
	if len(paths) == 1 {
		p.places[""] = at
	}
	return at, nil
}

// system reads the system as it is now.
func (p *peer) system(ctx context.Context, at *place) (system, error) {
	var s system
	_, err := p.get(ctx, at.system, &s)
	return s, err
}

// lost forgets where things are, when one of them is not there any more.
func (p *peer) lost(err error) {
	if status(err) == http.StatusNotFound {
		p.mu.Lock()
		clear(p.places)
		p.mu.Unlock()
	}
}

// manager reads the Manager of a system.
func (p *peer) manager(ctx context.Context, at *place) (string, controller, error) {
	var m controller
	at.mu.Lock()
	path := at.controller
	at.mu.Unlock()
	if path == "" {
		var all collection
		if _, err := p.get(ctx, p.root.Managers.ID, &all); err != nil {
			return "", m, err
		}
		for _, raw := range all.Members {
			var l link
			if decode(raw, &l) == nil && l.ID != "" {
				path = l.ID
				break
			}
		}
		if path == "" {
			return "", m, &missing{"it does not tell of itself"}
		}
		at.mu.Lock()
		at.controller = path
		at.mu.Unlock()
	}
	_, err := p.get(ctx, path, &m)
	return path, m, err
}

// boxes reads the chassis of a system.
func (p *peer) boxes(ctx context.Context, at *place) ([]chassis, error) {
	if len(at.chassis) > 0 {
		return linked[chassis](ctx, p, at.chassis)
	}
	return members[chassis](ctx, p, p.root.Chassis.ID)
}

// last is the last part of a path.
func last(path string) string {
	path = strings.TrimSuffix(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

func contains(l list[text], s string) bool {
	return slices.ContainsFunc(l, func(t text) bool { return strings.EqualFold(string(t), s) })
}
