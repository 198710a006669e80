package blob_test

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// world is one disk, what was promised about it, and the machine's run.
type world struct {
	t     *testing.T
	disk  *disktest.Disk
	boot  string
	truth map[string][]byte // what registries send for a digest
	have  map[string]bool   // what Commit was heard of, and nobody began to remove
	flips map[string]bool   // what the disk has changed
	lies  bool              // the registry sends other bytes, until we notice
}

func newWorld(t *testing.T) *world {
	return &world{t, disktest.New(), "first", map[string][]byte{}, map[string]bool{}, map[string]bool{}, false}
}

// on is the same promises for another disk.
func (w *world) on(d *disktest.Disk, boot string) *world {
	return &world{w.t, d, boot, w.truth, maps.Clone(w.have), w.flips, false}
}

// blobs are of sizes around a sector, and of both algorithms.
func (w *world) blobs() (a, b, c string) {
	data := content(3000)
	b = fmt.Sprintf("sha512:%x", sha512.Sum512(data[:1024]))
	a, c = digestOf(data), digestOf(data[1:2])
	w.truth[a], w.truth[b], w.truth[c] = data, data[:1024], data[1:2]
	return a, b, c
}

func (w *world) open(fsys disk.FS) (*blob.Store, error) {
	return blob.Open(w.t.Context(), fsys, blob.Options{Boot: w.boot})
}

// fill is what package fill does: the last bytes come first, and what is there is noted on
// the way.
func (w *world) fill(s *blob.Store, digest string, commit bool) error {
	if _, ok := s.Stat(digest); ok {
		return nil
	}
	data := w.truth[digest]
	if w.lies {
		data = lie(data)
	}
	p, err := s.Begin(digest, int64(len(data)))
	if err != nil {
		return err
	}
	for at := max(0, len(data)/700*700); at >= 0; at -= 700 {
		if _, err := p.WriteAt(data[at:min(at+700, len(data))], int64(at)); err != nil {
			return errors.Join(err, p.Close())
		}
		if err := p.Keep(); err != nil {
			return errors.Join(err, p.Close())
		}
		if !commit && at < 1500 {
			return p.Close()
		}
	}
	err = p.Verify()
	if errors.Is(err, blob.ErrDigest) {
		w.lies = false
		if err := errors.Join(p.Discard(), p.Close()); err != nil {
			return err
		}
		return w.fill(s, digest, commit)
	}
	if err == nil {
		err = p.Commit()
	}
	if err == nil {
		w.have[digest] = true
	}
	return errors.Join(err, p.Close())
}

// lie is the same bytes, but for one.
func lie(data []byte) []byte {
	data = slices.Clone(data)
	data[1] ^= 1
	return data
}

func (w *world) remove(s *blob.Store, digest string) error {
	delete(w.have, digest)
	return s.Remove(digest)
}

// scenario is what one process does, on a disk that others left. It can be done again.
type scenario struct {
	name   string
	before func(w *world, s *blob.Store) error
	run    func(w *world, s *blob.Store) error
}

func scenarios() []scenario {
	fill := func(commit bool) func(w *world, s *blob.Store) error {
		return func(w *world, s *blob.Store) error {
			a, b, c := w.blobs()
			for _, digest := range []string{b, a, c} {
				if err := w.fill(s, digest, commit || digest == b); err != nil {
					return err
				}
			}
			return nil
		}
	}
	nothing := func(*world, *blob.Store) error { return nil }
	return []scenario{
		{"start of a new store", nil, nothing},
		{"fill and commit", nothing, fill(true)},
		{"keep for later", nothing, fill(false)},
		{"go on with what was kept", fill(false), fill(true)},
		{"start with all that can be there", func(w *world, s *blob.Store) error {
			a, _, _ := w.blobs()
			w.disk.Put("partial/strange/deep/file", 0o600, []byte("x"))
			w.disk.Put("partial/"+strings.Replace(digestOf(nil), ":", "-", 1)+".json", 0o600, []byte("{}"))
			w.disk.Put("blobs/sha256/short", 0o600, []byte("x"))
			w.disk.Put("trash/7/deep/file", 0o600, []byte("x"))
			return errors.Join(w.fill(s, a, false))
		}, nothing},
		{"remove, and fill again", fill(true), func(w *world, s *blob.Store) error {
			a, _, _ := w.blobs()
			if err := w.remove(s, a); err != nil {
				return err
			}
			return w.fill(s, a, true)
		}},
		{"remove what was kept", fill(false), func(w *world, s *blob.Store) error {
			a, b, _ := w.blobs()
			return errors.Join(w.remove(s, a), w.remove(s, b))
		}},
		{"wrong bytes, then right ones", nothing, func(w *world, s *blob.Store) error {
			a, _, _ := w.blobs()
			w.lies = true
			return w.fill(s, a, true)
		}},
		{"scrub", func(w *world, s *blob.Store) error {
			a, _, _ := w.blobs()
			err := fill(true)(w, s)
			w.flips[a] = true
			w.disk.Flip("blobs/"+strings.Replace(a, ":", "/", 1), 1500)
			return err
		}, func(w *world, s *blob.Store) error {
			for _, i := range s.Blobs() {
				delete(w.have, i.Digest)
				err := s.Scrub(w.t.Context(), i.Digest, func(context.Context, int) error { return nil })
				switch {
				case err == nil:
					w.have[i.Digest] = true
				case !errors.Is(err, blob.ErrDigest) || errors.Is(err, disktest.ErrKilled):
					return err
				}
			}
			a, _, _ := w.blobs()
			return w.fill(s, a, true)
		}},
	}
}

// process runs a part of a scenario as one process, which leaves at its end.
func (w *world) process(fsys disk.FS, run func(w *world, s *blob.Store) error) error {
	s, err := w.open(fsys)
	if err != nil {
		return err
	}
	return errors.Join(run(w, s), s.Close())
}

// broken is a store that leaves something out: the negative controls.
type broken struct {
	wrap     func(disk.FS) disk.FS
	sameBoot bool
	seeds    int // of power cuts at each step
}

// matrix kills a scenario at each of its steps, in each way, and cuts the power there with
// many seeds. It returns what was not as promised.
func matrix(t *testing.T, sc scenario, b broken) (problems []string, steps int) {
	for _, effect := range []disktest.Effect{disktest.Nothing, disktest.Half, disktest.Done} {
		for at := 1; ; at++ {
			w := newWorld(t)
			if sc.before != nil {
				if err := w.process(w.disk.Process(nil), sc.before); err != nil {
					t.Fatalf("%s: before: %v", sc.name, err)
				}
				w.disk.Settle()
			}
			p := w.disk.Process(disktest.Kill(at, effect))
			fsys := disk.FS(p)
			if b.wrap != nil {
				fsys = b.wrap(p)
			}
			err := w.process(fsys, sc.run)
			dead := p.Dead()
			if !dead && err != nil {
				t.Fatalf("%s: %v", sc.name, err)
			}
			p.Kill()
			last := p.Steps()[len(p.Steps())-1]
			if effect == disktest.Half && last.Op != disktest.Write && dead {
				continue // it is the same as before
			}
			worlds := []*world{w.on(w.disk.Clone(), w.boot)}
			for seed := range uint64(b.seeds) {
				cut := w.on(w.disk.Clone(), "second")
				if cut.disk.PowerCut(seed); b.sameBoot {
					cut.boot = w.boot
				}
				worlds = append(worlds, cut)
			}
			for i, after := range worlds {
				if err := after.check(sc); err != nil {
					problems = append(problems, fmt.Sprintf("%s, killed at %v (%d), world %d: %v", sc.name, last, effect, i, err))
				}
			}
			if !dead {
				steps = max(steps, len(p.Steps()))
				break
			}
		}
	}
	return problems, steps
}

// check holds what is left against what was promised, and then goes on to the end.
func (w *world) check(sc scenario) error {
	if err := w.onlyRight(); err != nil {
		return err
	}
	err := w.process(w.disk.Process(nil), func(w *world, s *blob.Store) error {
		for digest := range w.have {
			if err := w.same(s, digest); err != nil {
				return fmt.Errorf("lost: %w", err)
			}
		}
		for _, i := range s.Partials() {
			if err := w.sameSoFar(s, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A process that is to be asked again finds what the first one had to do.
	if err := w.process(w.disk.Process(nil), sc.run); err != nil {
		return fmt.Errorf("again: %w", err)
	}
	known := map[string]bool{}
	if err := w.process(w.disk.Process(nil), func(w *world, s *blob.Store) error {
		for digest := range w.have {
			if err := w.same(s, digest); err != nil {
				return fmt.Errorf("lost at the end: %w", err)
			}
		}
		for _, i := range s.Partials() {
			known["partial/"+strings.Replace(i.Digest, ":", "-", 1)] = true
		}
		return nil
	}); err != nil {
		return err
	}
	for name := range w.disk.Files() {
		if _, ok := known[strings.TrimSuffix(name, ".json")]; !ok && strings.HasPrefix(name, "partial/") || strings.HasPrefix(name, "trash/") {
			return fmt.Errorf("left: %s", name)
		}
	}
	return w.onlyRight()
}

// onlyRight looks under blobs/ as others do, who know no index of ours.
func (w *world) onlyRight() error {
	for name, data := range w.disk.Files() {
		digest, ok := strings.CutPrefix(name, "blobs/")
		digest = strings.Replace(digest, "/", ":", 1)
		if !ok || w.flips[digest] || strings.HasSuffix(name, "/short") {
			continue
		}
		if is := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); is != digest && fmt.Sprintf("sha512:%x", sha512.Sum512(data)) != digest {
			return fmt.Errorf("wrong: %s has %d bytes of %s", name, len(data), is)
		}
	}
	return nil
}

func (w *world) same(s *blob.Store, digest string) error {
	b, err := s.Open(digest)
	if err != nil {
		return fmt.Errorf("%s: %w", digest, err)
	}
	defer func() { _ = b.Close() }()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err == nil && !w.flips[digest] && string(data) != string(w.truth[digest]) {
		err = errors.New("other bytes")
	}
	return err
}

// sameSoFar holds what is covered of a partial against what was sent.
func (w *world) sameSoFar(s *blob.Store, i blob.Info) error {
	p, err := s.Begin(i.Digest, i.Size)
	if err != nil {
		return err
	}
	for at := int64(0); at < i.Size; at++ {
		to := p.Covered(at)
		data := make([]byte, to-at)
		if n, err := p.ReadAt(data, at); n < len(data) {
			return errors.Join(fmt.Errorf("not there: bytes %d to %d of %s: %w", at, to, i.Digest, err), p.Close())
		}
		truth := w.truth[i.Digest]
		if string(data) != string(truth[at:to]) && string(data) != string(lie(truth)[at:to]) {
			return errors.Join(fmt.Errorf("not as sent: bytes %d to %d of %s", at, to, i.Digest), p.Close())
		}
		at = to
	}
	return p.Close()
}

// TestCrashes: whatever a process did, and wherever it was killed or the power went, no
// wrong blob has a name, none that was committed is lost, what is kept of one that was
// coming is what was sent, and the next process gets to the end.
func TestCrashes(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			problems, steps := matrix(t, sc, broken{seeds: 10})
			for _, p := range problems {
				t.Error(p)
			}
			t.Logf("%d steps", steps)
			if steps < 2 {
				t.Errorf("only %d steps: is anything done?", steps)
			}
		})
	}
}
