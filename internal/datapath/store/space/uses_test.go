package space

import (
	"bytes"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// A list of uses that is lost, cut or strange evicts nothing: what it does not know was
// used just now.
func TestUsesThatAreStrange(t *testing.T) {
	t.Parallel()
	have := []blob.Info{{Digest: digest(0), Size: 1}, {Digest: digest(1), Size: 1}}
	for name, list := range map[string]string{
		"lost":       "",
		"cut":        "now 1000\n" + digest(0) + " 10",
		"zeroes":     string(make([]byte, 200)),
		"other":      "now 1000\n../../etc/passwd 1\n" + digest(0)[:20] + " 1\n",
		"no numbers": "now then\n" + digest(0) + " soon\n" + digest(1) + " -4\n",
		"too large":  "now 9223372036854775807\n" + digest(0) + " 1\n" + digest(1) + " 9223372036854775807\n",
	} {
		d := newDisk(100)
		k := New(Config{Quota: 100, Idle: 5, Free: d.free, Remove: d.remove}, have, ParseUses([]byte(list)))
		for range 3 {
			if err := k.Tick(); err != nil {
				t.Fatal(err)
			}
		}
		if gone := d.took(); gone != nil {
			t.Errorf("%s: %v went", name, gone)
		}
	}
}

// Ticks are of running: while nothing runs, nothing grows old.
func TestUsesGoOn(t *testing.T) {
	t.Parallel()
	d := newDisk(100)
	have := []blob.Info{{Digest: digest(0), Size: 1}, {Digest: digest(1), Size: 1}}
	k := keeper(d, Config{Quota: 100, Idle: 5}, have...)
	for range 5 {
		k.Used(digest(1))
		_ = k.Tick()
	}
	k = New(Config{Quota: 100, Idle: 5, Free: d.free, Remove: d.remove}, have, ParseUses(k.Uses()))
	if err := k.Tick(); err != nil || strings.Join(d.took(), " ") != digest(0) {
		t.Errorf("not the one that nobody used before the restart: %v", err)
	}
}

func FuzzUses(f *testing.F) {
	f.Add([]byte("now 7\n" + digest(1) + " 3\n"))
	f.Add([]byte("now\n\n \n" + digest(1) + "  3\r\nnow 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u := ParseUses(data)
		d := newDisk(100)
		k := New(Config{Quota: 100, Idle: 1, Free: d.free, Remove: d.remove}, []blob.Info{{Digest: digest(1), Size: 1}}, u)
		if err := k.Tick(); err != nil {
			t.Fatal(err)
		}
		written := k.Uses()
		again := New(Config{Quota: 100, Free: d.free, Remove: d.remove}, []blob.Info{{Digest: digest(1), Size: 1}}, ParseUses(written))
		if len(d.took()) == 0 && !bytes.Equal(again.Uses(), written) {
			t.Fatalf("%q became %q", written, again.Uses())
		}
	})
}
