package space

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

// MostUses is how much of a list of uses is read, in bytes: that of 100,000 blobs.
const MostUses = 16 << 20

// mostTicks is longer than anything runs: a number above it is none of ours.
const mostTicks = 1 << 40

// Uses is when what was used, for the next process.
type Uses struct {
	now int64
	of  map[string]use
}

type use struct {
	tick int64
	turn uint64
}

// Uses are lines of a digest and the tick of its last use, the oldest use first, after one
// of the tick of now. It is written as a whole: a line more for each use would wear out the
// disk, and what the last minute adds is worth nothing.
func (k *Keeper) Uses() []byte {
	k.mu.Lock()
	all := make([]candidate, 0, len(k.kept))
	for digest, e := range k.kept {
		copied := *e
		all = append(all, candidate{digest: digest, entry: &copied})
	}
	out := fmt.Appendf(nil, "now %d\n", k.now)
	k.mu.Unlock()
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.digest, b.digest))
	})
	for _, c := range all {
		out = fmt.Appendf(out, "%s %d\n", c.digest, c.used)
	}
	return out
}

// ParseUses reads what Uses wrote. What is strange in it is left out: the disk may have
// given anything.
func ParseUses(data []byte) Uses {
	u := Uses{of: map[string]use{}}
	whole, _, _ := bytes.Cut(data[:min(len(data), MostUses)], []byte{0})
	for line := range bytes.Lines(whole) {
		text, ended := bytes.CutSuffix(line, []byte("\n"))
		what, number, _ := bytes.Cut(text, []byte(" "))
		tick, err := strconv.ParseInt(string(number), 10, 64)
		switch {
		case !ended || err != nil || tick < 0 || tick > mostTicks:
		case string(what) == "now":
			u.now = max(u.now, tick)
		case oci.IsDigest(string(what)):
			u.of[string(what)] = use{tick, uint64(len(u.of))}
			u.now = max(u.now, tick)
		}
	}
	return u
}
