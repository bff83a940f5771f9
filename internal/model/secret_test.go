package model

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsNotRendered(t *testing.T) {
	const word = "calvin"
	s := NewSecret(word)
	type hidden struct {
		user     string
		password Secret
	}
	type shown struct{ Password Secret }
	for _, v := range []any{s, &s, []Secret{s}, map[string]Secret{"p": s}, shown{s}, &shown{s}, hidden{"root", s}, &hidden{"root", s}, []hidden{{"root", s}}} {
		var b strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		js, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(js)
		slog.New(slog.NewTextHandler(&b, nil)).Info("said", "value", v)
		slog.New(slog.NewJSONHandler(&b, nil)).Info("said", "value", v)
		if text := b.String(); strings.Contains(text, word) || strings.Contains(text, fmt.Sprintf("%x", word)) {
			t.Errorf("%T shows it:\n%s", v, text)
		}
	}
	if s.Reveal() != word || s.Empty() || !NewSecret("").Empty() || (Secret{}).Reveal() != "" {
		t.Error("Reveal and Empty do not say what is in it")
	}
}
