package nodescript

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSyncFile(t *testing.T) {
	t.Parallel()
	b, dir := newBash(t), t.TempDir()
	file := filepath.Join(dir, "sub", "a file")
	sync := `bb-sync-file "` + file + `" - changed <<'EOF'
one $HOME {{ .x }}
EOF
bb-event-on changed told
told() { echo told >> "` + dir + `/told"; }
`
	b.runs(t, sync)
	if got := readFile(t, file); got != "one $HOME {{ .x }}\n" {
		t.Errorf("the file is %q", got)
	}
	if info, _ := os.Stat(file); info.Mode() != 0o644 {
		t.Errorf("a new file has mode %v", info.Mode())
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(file)
	b.runs(t, sync)
	if after, _ := os.Stat(file); !os.SameFile(before, after) {
		t.Error("a file that was as it should be was written")
	}
	if got := readFile(t, dir+"/told"); got != "told\n" {
		t.Errorf("the handler was called: %q", got)
	}
	b.runs(t, strings.Replace(sync, "one", "two", 1))
	if info, _ := os.Stat(file); info.Mode() != 0o640 || !strings.HasPrefix(readFile(t, file), "two") {
		t.Errorf("mode %v, content %q", info.Mode(), readFile(t, file))
	}
	if got := readFile(t, dir+"/told"); got != "told\ntold\n" {
		t.Errorf("the handler was called: %q", got)
	}
	if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) != 1 {
		t.Errorf("something was left behind: %v", entries)
	}
}

// The agent's block in a user's file is no difference: else the file would be
// replaced, and its event handled, in every round.
func TestSyncFileLeavesTheAgentsBlock(t *testing.T) {
	t.Parallel()
	b, file := newBash(t), filepath.Join(t.TempDir(), "hosts.toml")
	sync := `bb-sync-file "` + file + `" - changed <<EOF
[host]
[host."https://registry.io"]
EOF
bb-event-on changed told
told() { echo told; }
`
	b.runs(t, sync)
	marked := strings.Replace(readFile(t, file), "[host]\n", "[host]\n# registry-agent: begin\n[host.\"https://127.0.0.1:5001\"]\n# registry-agent: end\n", 1)
	writeFile(t, file, marked, 0o644)
	if told := b.runs(t, sync); told != "" || readFile(t, file) != marked {
		t.Errorf("%q, and the file is\n%s", told, readFile(t, file))
	}
	if told := b.runs(t, strings.Replace(sync, "registry.io", "other.io", 1)); told != "told\n" || strings.Contains(readFile(t, file), "registry-agent") {
		t.Errorf("%q, and the file is\n%s", told, readFile(t, file))
	}
}

func TestSyncFileOddCases(t *testing.T) {
	t.Parallel()
	b, dir := newBash(t), t.TempDir()
	writeFile(t, dir+"/target", "old", 0o600)
	if err := os.Symlink("target", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/.bb-sync.from.abcdefgh", "cut off", 0o600)
	b.runs(t, `cd "`+dir+`"; printf source > from
bb-sync-file link from; bb-sync-file "`+dir+`/from" - < <(printf 'new\0zero'); set -Cu; IFS=x; bb-sync-file empty - </dev/null`)
	if info, err := os.Lstat(dir + "/link"); err != nil || info.Mode()&os.ModeSymlink == 0 || readFile(t, dir+"/target") != "source" {
		t.Errorf("the link: %v %v, its target: %q", info.Mode(), err, readFile(t, dir+"/target"))
	}
	if got := readFile(t, dir+"/from"); got != "new\x00zero" {
		t.Errorf("bytes: %q", got)
	}
	if _, err := os.Stat(dir + "/.bb-sync.from.abcdefgh"); !os.IsNotExist(err) {
		t.Errorf("what was cut off earlier is still there: %v", err)
	}
	for _, wrong := range []string{
		"bb-sync-file", "bb-sync-file /x", "bb-sync-file '" + dir + "' -", "bb-sync-file /proc/none/x - </dev/null",
		"bb-sync-file '" + dir + "/a' '" + dir + "/missing'", "bb-sync-file '" + dir + "/a' - ../../event",
		"bb-sync-file '" + dir + "/target/below' - </dev/null",
	} {
		b.fails(t, wrong)
	}
	if _, err := os.Stat(dir + "/a"); !os.IsNotExist(err) {
		t.Error("a file was made of nothing")
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, content, want string }{
		{"at the end, once", "bb-event-on e say; say() { echo said; }; bb-event-delay e; bb-event-delay e; echo end", "end\nsaid\n"},
		{"now, with arguments", "bb-event-on e say; say() { echo \"said $*\"; }; bb-event-fire e a 'b c'; echo end", "said a b c\nend\n"},
		{"a command", "bb-event-on e 'echo said'; bb-event-delay e", "said\n"},
		{"several, in order, none twice", "bb-event-on e 'echo one'; bb-event-on e 'echo two'; bb-event-on e 'echo one'; bb-event-delay e", "one\ntwo\n"},
		{"one leads to another", "bb-event-on second 'echo second'; bb-event-on first 'bb-event-delay second'; bb-event-delay first", "second\n"},
		{"after exit", "bb-event-on e 'echo said'; bb-event-delay e; exit 0", "said\n"},
		{"after the script's own trap", "trap 'echo mine $?' EXIT; bb-event-on e 'echo said'; bb-event-delay e; exit 0", "mine 0\nsaid\n"},
		{"the script's own trap taken back", "trap 'echo mine' EXIT TERM; trap - EXIT; bb-event-on e 'echo said'; bb-event-delay e", "said\n"},
		{"a trap of a subshell", "( trap 'echo inner' EXIT ); bb-event-on e 'echo said'; bb-event-delay e", "inner\nsaid\n"},
		{"from a pipe", "echo x | bb-sync-file \"$T/f\" - e; bb-event-on e 'echo said'", "said\n"},
		{"nobody listens", "bb-event-fire e; bb-event-delay e; echo end", "end\n"},
		{"with set -u", "set -u; bb-event-on e 'echo said'; bb-event-delay e", "said\n"},
		{"output redirected", "exec >/dev/null 2>&1; bb-log-info hello", "INFO: hello\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := newBash(t).runs(t, "T="+t.TempDir()+"; "+tt.content); got != tt.want {
				t.Errorf("printed %q, want %q", got, tt.want)
			}
		})
	}
}

func TestEventsThatWereNotHandled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, end string }{
		{"the script fails", "exit 3"},
		{"the script is killed", "kill -9 $$"},
		{"the handler fails", "told() { false; }"},
		{"the handler is killed", "told() { kill -9 $$; }"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, dir := newBash(t), t.TempDir()
			script := "bb-event-on changed told; told() { echo told; }; bb-sync-file " + dir + "/f - changed <<< x\n"
			if o := b.fails(t, script+tt.end); strings.Contains(b.printed(t, script100("test", "")), "told\n") {
				t.Errorf("handled nevertheless: %v", o)
			}
			if got := b.runs(t, script); got != "told\n" {
				t.Errorf("the next run printed %q", got)
			}
			if got := b.runs(t, script); got != "" {
				t.Errorf("the run after it printed %q", got)
			}
		})
	}
	t.Run("for ever", func(t *testing.T) {
		t.Parallel()
		if o := newBash(t).fails(t, "bb-event-on e 'bb-event-delay e'; bb-event-delay e"); !strings.Contains(o.stderr, "again and again") {
			t.Errorf("said %q", o.stderr)
		}
	})
	t.Run("a failing handler's status is the script's", func(t *testing.T) {
		t.Parallel()
		if o := newBash(t).fails(t, "bb-event-on e h; h() { (exit 7); echo not reached; }; bb-event-delay e"); !strings.Contains(o.failure, "exit status 7") {
			t.Errorf("failed with %q", o.failure)
		}
	})
}

func TestFlags(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	if got := b.runs(t, "bb-flag? f || echo no; bb-flag-set f; bb-flag? f && echo yes"); got != "no\nyes\n" {
		t.Errorf("printed %q", got)
	}
	if got := b.runs(t, "if bb-flag? f; then echo still; fi; bb-flag-unset f; bb-flag-unset f; bb-flag? f || echo gone"); got != "still\ngone\n" {
		t.Errorf("printed %q", got)
	}
	for _, name := range []string{"", "../x", "a/b", ".x", "-x", "a b", "a\nb", "*"} {
		if o := b.fails(t, "bb-flag-set '"+name+"'"); !strings.Contains(o.stderr, "is not made of") {
			t.Errorf("flag %q: %q", name, o.stderr)
		}
	}
}

// The manual names every helper, and none that is not there.
func TestHelpersAreDocumented(t *testing.T) {
	t.Parallel()
	manual := readFile(t, "../../../docs/scripts.md")
	defined := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(bb-[a-z-]+\??)\(\)`).FindAllStringSubmatch(string(library), -1) {
		defined[m[1]] = true
		if !strings.Contains(manual, "`"+m[1]) {
			t.Errorf("%s is not in docs/scripts.md", m[1])
		}
	}
	for _, m := range regexp.MustCompile("`(bb-[a-z-]+\\??)").FindAllStringSubmatch(manual, -1) {
		if !defined[m[1]] {
			t.Errorf("docs/scripts.md names %s, which is not there", m[1])
		}
	}
	if len(defined) != 11 {
		t.Errorf("%d helpers: %v", len(defined), defined)
	}
}

func TestLogAndUnknownHelpers(t *testing.T) {
	t.Parallel()
	b := newBash(t)
	o := b.fails(t, "bb-log-info i; bb-log-warning w; bb-log-error 'e %s' x; bb-package-install jq")
	if want := "WARNING: w\nERROR: e %s x"; !strings.HasPrefix(o.stderr, want) || !strings.Contains(o.stderr, "bb-package-install: command not found") {
		t.Errorf("standard error ends with %q", o.stderr)
	}
	if !strings.Contains(o.failure, "exit status 127") {
		t.Errorf("failed with %q", o.failure)
	}
	got := b.runs(t, `f=$(bb-tmp-file); echo x > "$f"; echo "$f"; bash -c 'type bb-log-info' 2>/dev/null || echo on its own`)
	file, rest, _ := strings.Cut(got, "\n")
	if rest != "on its own\n" {
		t.Errorf("bashes of the script: %q", rest)
	}
	b.runs(t, "true")
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}
