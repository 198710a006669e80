package main

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoProgramThatShipsLosesPulls builds the programs without a tag. They have
// neither the flag nor the code of a broken protocol; a build with the tag, which
// the demo makes for BREAK, has both.
func TestNoProgramThatShipsLosesPulls(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]struct {
		args          []string
		broken, sound string // functions
	}{
		"registry-controller": {[]string{"--protocol=order"}, "/switchover.Broken", "/switchover.Standard"},
		"registry-agent":      {[]string{"all", "--protocol=no-fall-through"}, "/fetch.Broken", "/fetch.New"},
		"registry-store":      {[]string{"--protocol=last-byte"}, "/fill.Broken", "/fill.New"},
	} {
		for _, tags := range []string{"", "brokenprotocol"} {
			t.Run(name+" tags "+tags, func(t *testing.T) {
				t.Parallel()
				program := filepath.Join(t.TempDir(), name)
				build := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-o", program, "../"+name)
				build.Env = append(os.Environ(), "GOFLAGS=")
				if out, err := build.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				broken := tags != ""
				if got := linked(t, program, p.broken); got != broken {
					t.Errorf("the code of broken protocols is in it: %t", got)
				}
				if !linked(t, program, p.sound) {
					t.Errorf("%s is not found, so the search says nothing", p.sound)
				}
				// It stops at the unknown flag before it does anything.
				out, err := exec.CommandContext(t.Context(), program, append(p.args, "--of-nobody")...).CombinedOutput()
				exit := new(exec.ExitError)
				if !errors.As(err, &exit) {
					t.Fatalf("%v\n%s", err, out)
				}
				if refused := strings.Contains(string(out), "flag provided but not defined: -protocol"); refused == broken {
					t.Errorf("it refuses --protocol: %t; %v\n%s", refused, err, out)
				}
			})
		}
	}
}

// linked reports whether a function is in a program.
func linked(t *testing.T, program, function string) bool {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	symbols, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if strings.HasSuffix(s.Name, function) {
			return true
		}
	}
	return false
}
