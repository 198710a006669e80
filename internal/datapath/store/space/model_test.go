package space

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// item is a blob of the model.
type item struct {
	n      int
	size   int64
	used   int64
	pinned bool
}

// model is the same, as simple as can be: a list, the oldest use first.
type model struct {
	quota, floor, idle, now int64
	disk                    *disk
	items                   []item
}

func (m *model) sum(count func(item) bool) (n int64) {
	for _, i := range m.items {
		if count(i) {
			n += i.size
		}
	}
	return n
}

func all(item) bool      { return true }
func pinned(i item) bool { return i.pinned }
func loose(i item) bool  { return !i.pinned }
func (m *model) at(n int) int {
	return slices.IndexFunc(m.items, func(i item) bool { return i.n == n })
}

// evict is which go so that want bytes do.
func (m *model) evict(want int64, gone []int) []int {
	byParity := slices.Clone(m.items)
	slices.SortStableFunc(byParity, func(a, b item) int { return cmp.Compare(a.n%2, b.n%2) }) // even ones are second copies
	for _, i := range byParity {
		if want > 0 && !i.pinned {
			gone, want = append(gone, i.n), want-i.size
			m.items = slices.DeleteFunc(m.items, func(j item) bool { return j.n == i.n })
		}
	}
	return gone
}

func (m *model) lacking(size int64) (must, want int64) {
	used := m.sum(all) + size
	floor := m.floor - (m.disk.total - m.disk.others - used)
	if used > m.quota*9/10 {
		want = used - max(m.quota*8/10, (m.sum(pinned)+m.quota*9/10)/2)
	}
	return max(used-m.quota, floor), max(want, floor)
}

func (m *model) store(n int, size int64) (gone []int, ok bool) {
	must, want := m.lacking(size)
	if size > m.quota || must > m.sum(loose) {
		return nil, false
	}
	gone = m.evict(want, nil)
	m.items = append(m.items, item{n: n, size: size, used: m.now})
	return gone, true
}

func (m *model) tick() (gone []int) {
	m.now++
	for _, i := range slices.Clone(m.items) {
		if m.idle > 0 && m.now-i.used > m.idle && !i.pinned {
			gone = append(gone, i.n)
			m.items = slices.DeleteFunc(m.items, func(j item) bool { return j.n == i.n })
		}
	}
	slices.Sort(gone)
	_, want := m.lacking(0)
	return m.evict(want, gone)
}

func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk(3000)
		m := &model{quota: 1000, floor: rapid.Int64Range(0, 800).Draw(t, "floor"), idle: rapid.Int64Range(0, 6).Draw(t, "idle"), disk: d}
		cfg := Config{Quota: m.quota, Floor: m.floor, Idle: m.idle, Second: func(s string) bool { return strings.ContainsAny(s[len(s)-1:], "02468ace") }}
		k := keeper(d, cfg)
		agree := func(gone []int) {
			var want []string
			for _, n := range gone {
				want = append(want, digest(n))
			}
			got := d.took()
			slices.Sort(got)
			slices.Sort(want)
			if u := k.Usage(); !slices.Equal(got, want) || u.Kept != m.sum(all) || u.Blobs != len(m.items) || u.Pinned != m.sum(pinned) || u.Kept > m.quota {
				t.Fatalf("%v went, and %+v is there; want %v and %+v", got, u, want, m.items)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"store": func(t *rapid.T) {
				n, size := rapid.IntRange(0, 40).Draw(t, "n"), rapid.Int64Range(0, 1200).Draw(t, "size")
				if m.at(n) >= 0 {
					t.Skip("is there")
				}
				pin := rapid.Bool().Draw(t, "pin")
				gone, ok := m.store(n, size)
				_, done, err := k.Reserve(digest(n), size)
				if (err == nil) != ok || err != nil && !errors.Is(err, ErrFull) {
					t.Fatalf("%d bytes: %v, want room: %t", size, err, ok)
				}
				if ok {
					d.write(digest(n), size)
					done(true)
					m.items[len(m.items)-1].pinned = pin && m.sum(pinned) < 900
					k.Pin(m.pins())
				}
				agree(gone)
			},
			"use": func(t *rapid.T) {
				n := rapid.IntRange(0, 40).Draw(t, "n")
				k.Used(digest(n))
				if at := m.at(n); at >= 0 {
					i := m.items[at]
					i.used = m.now
					m.items = append(slices.Delete(m.items, at, at+1), i)
				}
			},
			"unpin": func(*rapid.T) {
				for i := range m.items {
					m.items[i].pinned = false
				}
				k.Pin(nil)
			},
			"others": func(t *rapid.T) { d.others = rapid.Int64Range(0, 3000).Draw(t, "others") },
			"tick": func(t *rapid.T) {
				gone := m.tick()
				if err := k.Tick(); err != nil {
					t.Fatal(err)
				}
				agree(gone)
			},
			"restart": func(*rapid.T) {
				var have []blob.Info
				for _, i := range m.items {
					have = append(have, blob.Info{Digest: digest(i.n), Size: i.size})
				}
				cfg.Free, cfg.Remove = d.free, d.remove
				k = New(cfg, have, ParseUses(k.Uses()))
				k.Pin(m.pins())
			},
		})
	})
}

func (m *model) pins() (pins []string) {
	for _, i := range m.items {
		if i.pinned {
			pins = append(pins, digest(i.n))
		}
	}
	return pins
}
