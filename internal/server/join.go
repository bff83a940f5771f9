package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"muster/internal/api"
	"muster/internal/identity"
	"muster/internal/model"
	"muster/internal/store"
)

// Join is what a join string holds: who is invited, the token that proves it, where the pool is, and the fingerprint of the key that
// all its managers have.
type Join struct {
	Version   int      `json:"v"`
	Name      string   `json:"name"`
	Token     string   `json:"token"`
	Pin       string   `json:"pin"`
	Addresses []string `json:"addresses"`
}

const joinPrefix = "muster-join-"

// String is one word without characters that a shell knows.
func (j Join) String() string {
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // strings always have a form
	}
	return joinPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseJoin reads a join string.
func ParseJoin(text string) (Join, error) {
	bad := func(why string) (Join, error) {
		return Join{}, &api.Error{Code: api.Usage, What: "serve --join", Why: why, Do: "Give the whole string that muster manager add NAME printed"}
	}
	body, ok := strings.CutPrefix(strings.TrimSpace(text), joinPrefix)
	if !ok {
		return bad("it does not begin with " + joinPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return bad("a part of it is missing or altered")
	}
	var j Join
	switch err := json.Unmarshal(b, &j); {
	case err != nil:
		return bad("a part of it is missing or altered")
	case j.Version != 1:
		return bad(fmt.Sprintf("it is of version %d, which this program does not know", j.Version))
	case j.Name == "" || j.Token == "" || j.Pin == "" || len(j.Addresses) == 0:
		return bad("it is not complete")
	}
	return j, nil
}

// join makes this host a manager of a pool: the keys and its place among the members come from one of its managers. It can be cut off
// anywhere, and is gone through again by the next start with the same string; the store goes on by itself once it knows its place.
func (s *Server) join(ctx context.Context, j Join) (*store.Join, error) {
	addr := s.advertised()
	if addr == "" {
		return nil, &api.Error{
			Code: api.Usage, What: "serve --join", Why: "no address is given that the other managers reach",
			Do: "Add --listen ADDRESS:" + strconv.Itoa(APIPort) + " with an address of this host, or --advertise",
		}
	}
	dir := filepath.Join(s.cfg.Data, "keys")
	csr, _, err := identity.ManagerRequest(dir, model.ManagerName(j.Name))
	if err != nil {
		return nil, err
	}
	out, err := askToJoin(ctx, j, api.JoinManager{
		Name: j.Name, Token: j.Token, CSR: csr, Addresses: []string{addr}, Schema: store.Schema, Version: s.cfg.Version,
		Member: store.Joining(filepath.Join(s.cfg.Data, "store")).ID,
	})
	if err != nil {
		return nil, err
	}
	if err := identity.Import(out.Keys, identity.Options{Dir: dir, SiteKey: s.cfg.SiteKey}); err != nil {
		return nil, err
	}
	place := new(store.Join)
	if err := json.Unmarshal(out.Member, place); err != nil {
		return nil, fmt.Errorf("serve --join: the answer of the pool: %w", err)
	}
	s.log.Info("let into the pool; its documents are coming over", "name", j.Name)
	return place, nil
}

// askToJoin asks one address of the pool after the other; a refusal ends it.
func askToJoin(ctx context.Context, j Join, in api.JoinManager) (*api.Joined, error) {
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: pinned(j.Pin), DisableKeepAlives: true}}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	var why []string
	for _, a := range j.Addresses {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+a+"/v1/managers/join", bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		res, err := c.Do(r)
		if err != nil {
			why = append(why, err.Error())
			continue
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return nil, api.ReadError(res)
		}
		out := new(api.Joined)
		return out, json.NewDecoder(res.Body).Decode(out)
	}
	return nil, &api.Error{
		Code: api.Unreachable, What: "serve --join", Why: "no manager of the pool answers: " + strings.Join(why, "; "),
		Do: "Is one of them running, and its port open to this host? Try: curl -k https://" + j.Addresses[0] + "/v1/version",
	}
}

// pinned trusts the one public key whose fingerprint is given, whatever names its certificate has.
func pinned(pin string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // the key is compared instead
		VerifyConnection: func(c tls.ConnectionState) error {
			if got := identity.Fingerprint(c.PeerCertificates[0].PublicKey); got != pin {
				return errors.New("it is not the pool that the string is of: its key is " + got + ", not " + pin)
			}
			return nil
		},
	}
}
