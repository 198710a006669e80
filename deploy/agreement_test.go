package deploy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	asked "github.com/d8-registry/registry/internal/control/settings"
	"github.com/d8-registry/registry/internal/upstream"
)

// canonical reports whether settings are written the one way that ModuleConfig
// allows. upstream.Parse also reads what installations wrote elsewhere: it trims
// and takes schemes in any case.
func canonical(direct map[string]any) bool {
	s := settingsOf(direct)
	if _, given := direct["scheme"]; given && s.Scheme != "HTTP" && s.Scheme != "HTTPS" {
		return false
	}
	return s.ImagesRepo == strings.TrimSpace(s.ImagesRepo) && !strings.HasSuffix(s.ImagesRepo, "/")
}

// settingsOf reads a section whose fields are all strings.
func settingsOf(direct map[string]any) upstream.Settings {
	text := func(field string) string {
		s, _ := direct[field].(string)
		return s
	}
	return upstream.Settings{
		ImagesRepo: text("imagesRepo"), Scheme: text("scheme"), CA: text("ca"),
		License: text("license"), Username: text("username"), Password: text("password"),
	}
}

// agree compares the policy's word with the parser's.
func agree(t interface{ Errorf(string, ...any) }, direct map[string]any, refusal string) {
	_, err := upstream.Parse(settingsOf(direct))
	var field *upstream.FieldError
	switch {
	case refusal == "" && err != nil:
		// Only a parser of certificates can tell that one is broken inside.
		if errors.As(err, &field) && field.Field == "ca" && strings.HasPrefix(field.Want, "certificate ") {
			return
		}
		t.Errorf("the policy accepts what Parse refuses: %v: %q", err, direct)
	case refusal != "" && err == nil && canonical(direct):
		t.Errorf("the policy refuses what Parse accepts: %s: %q", refusal, direct)
	}
}

// TestPolicyAndParserAgreeOnTheTable needs no API server: TestSettings proves
// the table.
func TestPolicyAndParserAgreeOnTheTable(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, r := range rows(t) {
		section, _ := parseYAML(t, r.registry).(map[string]any)
		direct, ok := section["direct"].(map[string]any)
		if !ok || section["mode"] != "Direct" || len(section) != 2 || !onlyKnownStrings(direct) {
			continue
		}
		compared++
		t.Run(r.name, func(t *testing.T) { agree(t, direct, r.want) })
	}
	if compared < 100 {
		t.Errorf("only %d rows were compared", compared)
	}
}

// TestPolicyAndSettingsAgreeOnModes: what is about modes, their sections and ttl the controller
// refuses too, of ttl with the same words.
func TestPolicyAndSettingsAgreeOnModes(t *testing.T) {
	t.Parallel()
	for _, r := range slices.Concat(modeRows(), ttlRows()) {
		problem := asked.Parse([]byte(toJSON(t, map[string]any{"registry": parseYAML(t, r.registry)}))).Problem
		if strings.Contains(r.registry, ": null") || strings.Contains(r.registry, `\n`) {
			continue // a null is nothing to the controller, and a line break shows in its words only
		}
		if (problem == "") != (r.want == "") {
			t.Errorf("%s: the policy says %q, the controller %q", r.name, r.want, problem)
		}
		same := strings.Contains(r.want, "ttl format") || strings.Contains(r.want, "'ttl' \"") || strings.Contains(r.want, "at least 5") ||
			strings.Contains(r.want, "registry: when mode") || strings.Contains(r.want, "not supported yet")
		if same && problem != "ModuleConfig deckhouse: "+r.want {
			t.Errorf("%s: the policy says %q, the controller %q", r.name, r.want, problem)
		}
	}
}

func onlyKnownStrings(direct map[string]any) bool {
	for field, value := range direct {
		if _, isString := value.(string); !isString || strings.Contains("checkMode imageRepo ttl", field) {
			return false
		}
	}
	return true
}

// TestPolicyAndParserAgree makes settings out of pieces that matter.
func TestPolicyAndParserAgree(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	rapid.Check(t, func(rt *rapid.T) {
		direct := drawDirect(rt)
		agree(rt, direct, outcome(t, api, "deckhouse", map[string]any{"mode": "Direct", "direct": direct}))
	})
}

func drawDirect(t *rapid.T) map[string]any {
	direct := map[string]any{}
	host := rapid.StringOfN(rapid.SampledFrom([]rune("aZ09.-_:[]@ \n/ü")), 0, 8, -1)
	label := rapid.SampledFrom([]string{"a", "registry.example.com", "10.0.0.1", "256.0.0.1", "localhost", "registry.d8-system.svc", "1.2.3", "a.1", "01.2.3.4", "x-.y",
		"[fd00::1]", "fd00::1", "[fe80::1]", "[::]", "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]", "[::ffff:1.2.3.4]", "[a::b::c]", "[fd00::1%eth0]", "index.docker.io"})
	port := rapid.SampledFrom([]string{"", "", ":1", ":0", ":65535", ":65536", ":05", ":", ":x", ":1:2", ":99999999999999999999"})
	literal := rapid.StringOfN(rapid.SampledFrom([]rune("0f:::.g")), 0, 16, -1)
	path := rapid.SampledFrom([]string{"", "", "/a", "/a/b", "/..", "/.", "/a/../b", "//a", "/a/", "/A_b.c-d", "/...", "/ü", "/a:tag", "/a@b", "/a b"})
	switch rapid.IntRange(0, 2).Draw(t, "pieces") {
	case 0:
		direct["imagesRepo"] = "[" + literal.Draw(t, "literal") + "]" + port.Draw(t, "port") + path.Draw(t, "path")
	case 1:
		direct["imagesRepo"] = label.Draw(t, "host") + port.Draw(t, "port") + path.Draw(t, "path")
	default:
		direct["imagesRepo"] = host.Draw(t, "host") + port.Draw(t, "port") + path.Draw(t, "path")
	}
	secret := rapid.OneOf(
		rapid.SampledFrom([]string{"", "", "x", "a:b", "ü", "a\nb", "\x7f", "\u0085", "\u200b", "\u00a0", " ", strings.Repeat("ü", 128), strings.Repeat("x", 4097)}),
		rapid.StringN(0, 4, -1),
		rapid.StringOfN(rapid.SampledFrom([]rune("a \n\r\t\x00\u0085")), 0, 6, -1),
	)
	for _, field := range []string{"license", "username", "password"} {
		if rapid.IntRange(0, 2).Draw(t, "give "+field) == 0 {
			direct[field] = secret.Draw(t, field)
		}
	}
	if rapid.Bool().Draw(t, "give scheme") {
		direct["scheme"] = rapid.SampledFrom([]string{"HTTP", "HTTPS", "HTTPS", "http", "", " HTTPS", "FTP"}).Draw(t, "scheme")
	}
	if rapid.IntRange(0, 3).Draw(t, "give ca") == 0 {
		const begin, end = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
		direct["ca"] = strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{
			begin, end, begin + "aGk=\n" + end, "aGk=\n", "text\n", "-----BEGIN PRIVATE KEY-----\naGk=\n-----END PRIVATE KEY-----\n", "\n", " ",
		}), 0, 4).Draw(t, "ca"), "")
	}
	return direct
}
