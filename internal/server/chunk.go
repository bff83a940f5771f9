package server

import (
	"errors"
	"strconv"

	"muster/internal/api"
	"muster/internal/image/chunk"
)

// nodeChunk is GET /v1/chunks/{digest}: a chunk as it is stored, a zstd frame. Who asks for it checks it: see [chunk.Fetcher].
func (s *Server) nodeChunk(q *request) error {
	fail := func(code api.Code, why string) error {
		return &api.Error{Code: code, What: "chunk", Why: why, Node: string(q.who.Node)}
	}
	if q.snap.Deployment(q.who.Node) == nil {
		return fail(api.Conflict, "nothing is deployed")
	}
	d, err := chunk.ParseDigest(q.PathValue("digest"))
	if err != nil {
		return fail(api.Usage, err.Error())
	}
	b, err := s.chunks.Packed(d, nil)
	var missing *chunk.MissingError
	if errors.As(err, &missing) {
		return fail(api.Unknown, "there is no chunk "+d.String())
	}
	if err != nil {
		return fail(api.Failed, err.Error())
	}
	h := q.w.Header()
	h.Set("Content-Type", "application/zstd")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("Cache-Control", "private, immutable, max-age=31536000")
	_, err = q.w.Write(b)
	return err
}
