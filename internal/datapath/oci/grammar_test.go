package oci

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// TestGrammars: each is what the specification's expression is, for texts made of what
// matters in it.
func TestGrammars(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("0123456789abcdef", 8)
	for name, g := range map[string]struct {
		is    func(string) bool
		spec  string
		parts []string
	}{
		"repository": {isRepository, `^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`,
			[]string{"a", "z", "0", "9", ".", "_", "-", "/", "A", "%", "\n", "é", "`", "{"}},
		"tag": {isTag, `^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`,
			[]string{"a", "Z", "0", ".", "_", "-", "/", "@", "[", "\n", strings.Repeat("x", 125)}},
		"digest": {IsDigest, `^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`,
			[]string{"sha256:", "sha512:", "sha", digits[:64], digits[:63], digits, digits[:1], "g", "A", "\n", digits[:128-7], digits[:64-7]}},
		"host": {isHost, `^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$`,
			[]string{"a", "g", "0", ".", "-", ":", ":1", "12345", "[", "]", "::", "A", "_", "\n", "/"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, r, good := regexp.MustCompile(g.spec), rand.New(rand.NewPCG(1, 2)), 0
			for range 200_000 {
				var s strings.Builder
				for range r.IntN(9) {
					s.WriteString(g.parts[r.IntN(len(g.parts))])
				}
				want := spec.MatchString(s.String())
				if want {
					good++
				}
				if got := g.is(s.String()); got != want {
					t.Fatalf("%q: %t, want %t", s.String(), got, want)
				}
			}
			if good < 100 {
				t.Errorf("only %d good ones", good)
			}
		})
	}
}
