package hostsfile_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/hostsfile"
)

// versions are the oldest and the newest of each dialect.
func versions() []string {
	return []string{"1.6.0", "1.6.20~ds1", "1.6.25", "1.7.7", "v1.7.31", "v1.7.32", "2.0.0", "v2.1.0", "v2.2.0", "v2.4.2", ""}
}

// TestVersionsDiffer is from which version on containerd reads what.
// TestUsersFilesAreJudgedByVersion in test/containerd compares with its own code.
func TestVersionsDiffer(t *testing.T) {
	t.Parallel()
	const one = "[host.\"https://a.io\"]\n"
	for name, c := range map[string]struct {
		text string
		from string // the first version that reads it
		line int    // named by the others
		say  string
	}{
		"no hosts":   {"server = \"https://a.io\"\n", "v1.7.32", 1, "at least the line [host]"},
		"referrers":  {one + "capabilities = [\"pull\", \"referrers\"]\n", "v2.2.0", 2, "known from 2.2 on"},
		"IPv6":       {"# IPv6\n[host.\"https://[fd00::1]:5000\"]\n", "2.0.0", 2, "brackets in a header"},
		"everything": {one + "skip_verify = true\n", "1.6.0", 0, ""},
		"last comma": {"[host]\na = {\nskip_verify = true,\n}\n", "2.0.0", 3, "as TOML"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := slices.Index(versions(), c.from)
			for i, v := range versions() {
				_, err := hostsfile.For(v).Read([]byte(c.text))
				var ignored *hostsfile.Ignored
				if errors.As(err, &ignored) == (i >= first) {
					t.Errorf("%q: %v", v, err)
				}
				if ignored != nil && (ignored.Line != c.line || !strings.Contains(ignored.Text, c.say) || !strings.Contains(ignored.Text, strings.TrimPrefix(v, "v"))) {
					t.Errorf("%q: line %d: %s", v, ignored.Line, ignored.Text)
				}
			}
		})
	}
}

// TestAMarkIsNotBlamed: containerd 1.x reads over a byte order mark, so that
// something else is wrong with a file that has one.
func TestAMarkIsNotBlamed(t *testing.T) {
	t.Parallel()
	for text, say := range map[string]string{
		"\ufeff[host.\"https://[fd00::1]:5000\"]\n":               "brackets in a header",
		"\ufeff[host.\"https://a.io\"]\nca = \"a\"\nca = \"b\"\n": "for the second time",
	} {
		_, err := hostsfile.For("1.7.7").Read([]byte(text))
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %s", text, err, say)
		}
	}
}

// TestWhatIsWrittenIsRead writes what each version has to read, and reads it.
func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	yes := true
	server := hostsfile.Table{URL: "https://[fd00::2]:5000", CA: []string{"a.crt"}, Header: map[string][]string{"X-Top": {"t"}}}
	hosts := []hostsfile.Table{
		{URL: "https://z.io", Capabilities: []string{"pull"}, Header: map[string][]string{"X-One": {`a"b\c`, "ü"}, "x y": {"1"}}},
		{URL: "https://[fd00::1]:5000", SkipVerify: &yes, Client: [][]string{{"a"}, {"b", "c"}}},
		{URL: `https://a.io/x"y`, OverridePath: true, CA: []string{"a", "b"}},
		{URL: "https://bare.io"},
	}
	for _, v := range versions() {
		d := hostsfile.For(v)
		f, err := d.Read(d.Write(server, hosts))
		if err != nil || len(f.Notes) > 0 || len(f.Hosts) != len(hosts) {
			t.Errorf("%s: %v, %+v\n%s", d, err, f, d.Write(server, hosts))
			continue
		}
		for i, want := range append(slices.Clone(hosts), server) {
			got := append(slices.Clone(f.Hosts), f.Server)[i]
			if len(want.Capabilities) == 0 && len(got.Capabilities) == 3 {
				got.Capabilities = nil // all, which had to be said
			}
			got.Path, got.Line, got.SkipVerify, want.SkipVerify = nil, 0, nil, nil
			if fmt.Sprintf("%v", got) != fmt.Sprintf("%v", want) {
				t.Errorf("%s: got %+v, want %+v", d, got, want)
			}
		}
	}
}

func TestUnknownKeysAreNamed(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"insecure_skip_verify": "expected skip_verify", "rewrites": "expected rewrite", "ca_file": "expected ca", "headers": "expected header",
		"skip-verify": "expected skip_verify", "capabilites": "expected capabilities", "username": "expected auth.username",
		"overide_path": "expected override_path", "plain_http": `"http://…"`, "sth": "known are capabilities, ca,",
	} {
		text := "[host]\n[host.\"https://u:S3CRET@a.io\"]\n" + key + " = \"S3CRET\"\n"
		f, err := hostsfile.For("").Read([]byte(text))
		if err != nil || len(f.Notes) != 1 {
			t.Errorf("%s: %v, %+v", key, err, f)
			continue
		}
		n := f.Notes[0]
		if n.Line != 3 || !n.Harmless || !strings.Contains(n.Text, want) || strings.Contains(hostsfile.Key(n.Path)+n.Text, "S3CRET") {
			t.Errorf("%s: %d: %s: %s", key, n.Line, hostsfile.Key(n.Path), n.Text)
		}
	}
}

// TestItself is what containerd asks without a file; test/containerd compares it
// with containerd's own code.
func TestItself(t *testing.T) {
	t.Parallel()
	for host, want := range map[string][2]string{ // 1.6.20, and 2.x
		"a.io":             {"https://a.io false", "https://a.io false"},
		"a.io:80":          {"https://a.io:80 false", "https://a.io:80 false"},
		"docker.io":        {"https://registry-1.docker.io false", "https://registry-1.docker.io false"},
		"localhost":        {"http://localhost true", "https://localhost true"},
		"localhost:443":    {"http://localhost:443 true", "https://localhost:443 true"},
		"localhost:80":     {"http://localhost:80 true", "http://localhost:80 false"},
		"127.0.0.1:5000":   {"http://127.0.0.1:5000 true", "http://127.0.0.1:5000 true"},
		"[::1]:5000":       {"http://[::1]:5000 true", "http://[::1]:5000 true"},
		"[fd00::1]:5000":   {"https://[fd00::1]:5000 false", "https://[fd00::1]:5000 false"},
		"localhost.io:500": {"https://localhost.io:500 false", "https://localhost.io:500 false"},
	} {
		for i, v := range []string{"1.6.20", "2.4.2"} {
			url, skip := hostsfile.For(v).Itself(host)
			if got := fmt.Sprint(url, " ", skip); got != want[i] {
				t.Errorf("%s on %s: %s", host, v, got)
			}
		}
	}
}
