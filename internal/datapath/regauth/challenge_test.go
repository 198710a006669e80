package regauth

import (
	"net/http"
	"reflect"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]challenge{
		`Basic realm="x"`: {{"basic", map[string]string{"realm": "x"}}},
		`Bearer realm="https://auth.example.com/token",service="reg",scope="repository:a/b:pull,push"`: {
			{"bearer", map[string]string{"realm": "https://auth.example.com/token", "service": "reg", "scope": "repository:a/b:pull,push"}},
		},
		`bearer REALM = "x" , error="insufficient_scope"`: {{"bearer", map[string]string{"realm": "x", "error": "insufficient_scope"}}},
		`Basic realm="a\"b, c", Bearer realm=unquoted`:    {{"basic", map[string]string{"realm": `a"b, c`}}, {"bearer", map[string]string{"realm": "unquoted"}}},
		`Negotiate`:                {{"negotiate", map[string]string{}}},
		`Negotiate, Basic realm=x`: {{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "x"}}},
		``:                         nil,
		`realm="x"`:                nil,
		`Bearer realm="unended`:    {{"bearer", map[string]string{"realm": "unended"}}},
	} {
		got := parseChallenges(http.Header{"Www-Authenticate": {line}})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

// Whatever a registry says, reading it ends.
func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a/b",service="c", Basic realm=x`)
	f.Add("=,=\"\\")
	f.Add("a=é, b")
	f.Fuzz(func(t *testing.T, line string) {
		for _, c := range parseChallengeLine(line) {
			if c.scheme == "" {
				t.Fatalf("%q: a challenge without a scheme", line)
			}
		}
	})
}
