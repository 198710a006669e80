package containerd

import (
	"fmt"
	"strings"
	"testing"
)

// userFiles are what users write, and what they should not.
func userFiles() []string {
	return []string{
		"[host]\n  [host.\"https://registry.deckhouse.ru\"]\n    capabilities = [\"pull\", \"resolve\"]\n    skip_verify = true\n    [host.\"https://registry.deckhouse.ru\".auth]\n      username = \"u\"\n      password = \"p\"\n",
		"server = \"https://registry.io\"\n\n[host.\"http://a:5000\"]\n[host.\"http://a:5000\".header]\nx = [\"1\", \"2\"]\n[host.\"https://b\"]\noverride_path = true\n",
		"server = 'registry.io'",
		"[host]",
		"[auth]\nusername = 'u'\npassword = 'p'\n",
		"skip_verify = true\r\n[host]\r\n[host.'https://b/x/v2']\r\n[host.'https://b/x/v2'.auth]\r\nauth = 'dTpw'\r\n[[host.'https://b/x/v2'.rewrite]]\r\nregex = '^a'\r\nreplace = 'b'\r\n[host.'https://a']\r\n",
		"[header]\nx = 'y'\n[host.'https://a'.header]\nb = 'c'\n[host.'https://a']\n# the end",
		"[host.'https://b'.auth]\nusername='u'\n[host]\n[host.'https://a']\n",
		"[host]\n'https://a' = {skip_verify = true}\n",
		"host.'https://a'.skip_verify = true\n[host.'https://b']\n",
		"[host]\n[host.\"https://127.0.0.1:5001\"]\n",
		"[[host]]\n",
		"[host.\"\"]\n",
		"[host]\na = \"x\"\nb = \"y\"\n",
		"[host]\na = \"x\"\n",
		"[host.\"https://a\"]\ncapabilities = [\n \"pull\", # x\n]\n  [host.\"https://c\"] # y\nclient = [[\"a\", \"b\"]]",
		"a = nan\n[x]\ny = '''\n[host]\n'''\n[host.a]\n",
		"\ufeff[host]\n[host.a]\n",
	}
}

// FuzzUserBlock is TestUsersFilesAreJudgedByVersion with whatever a user may write:
// we say what containerd's own code of every version does, and our block goes into a
// file and out again without a change to anything else.
func FuzzUserBlock(f *testing.F) {
	for _, text := range userFiles() {
		f.Add([]byte(text))
	}
	versions := oracles(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "registry-agent") {
			return // somebody plays us
		}
		x := newFixture(t, fmt.Sprintf("%q", text), text)
		for _, o := range versions {
			x.judge(t, o)
		}
	})
}
