package fill

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// script is a source of one blob that does as a test says, and counts how often it gave each
// of its bytes.
type script struct {
	data   []byte
	digest string
	// lie changes an answer before it is given, and fault says why a request fails; both know
	// how many there were before.
	lie   func(n int, a *Answer)
	fault func(n int, from int64) error
	// cut is how many bytes a body gives before it breaks; below 0 all of them.
	cut    func(n int, from int64) int64
	single bool  // it has no ranges
	piece  int   // the most that one Read gives
	hold   *gate // each Read has to pass
	before func()

	mu       sync.Mutex
	requests []string
	times    []int // that each byte was given
	open     int
}

func newScript(t testing.TB, size int) *script {
	t.Helper()
	data := make([]byte, size)
	rnd := rand.NewChaCha8(sha256.Sum256([]byte(t.Name())))
	_, _ = rnd.Read(data)
	return &script{data: data, digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)), times: make([]int, size)}
}

func (s *script) Fetch(ctx context.Context, from, to int64) (Answer, error) {
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, fmt.Sprintf("%d-%d", from, to))
	s.mu.Unlock()
	if s.fault != nil {
		if err := s.fault(n, from); err != nil {
			return Answer{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return Answer{}, err
	}
	a := Answer{From: from, Size: int64(len(s.data))}
	if s.single {
		a.From, to = 0, -1
	}
	if a.From > a.Size {
		return Answer{}, fmt.Errorf("416: %w", ErrRange)
	}
	b := &scriptBody{ctx: ctx, s: s, at: a.From, to: a.Size, left: -1}
	if to >= 0 {
		b.to = to
	}
	if s.cut != nil {
		b.left = s.cut(n, from)
	}
	a.Body = b
	if s.lie != nil {
		s.lie(n, &a)
	}
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	return a, nil
}

var errBroke = errors.New("the connection broke")

type scriptBody struct {
	ctx          context.Context
	s            *script
	at, to, left int64
	more         int64 // bytes that follow the last one
	wrong        bool  // its first byte is another one
	closed       bool
}

func (b *scriptBody) Read(p []byte) (int, error) {
	if err := b.s.hold.pass(b.ctx); err != nil {
		return 0, err
	}
	if b.s.before != nil {
		b.s.before()
	}
	if b.left == 0 {
		return 0, errBroke
	}
	if b.at >= b.to {
		if n := min(int64(len(p)), b.more); n > 0 {
			b.more -= n
			return int(n), nil
		}
		return 0, io.EOF
	}
	most := min(int64(len(p)), b.to-b.at)
	if b.left > 0 {
		most = min(most, b.left)
	}
	if b.s.piece > 0 {
		most = min(most, int64(b.s.piece))
	}
	n := copy(p[:most], b.s.data[b.at:])
	if b.wrong {
		p[0]++
		b.wrong = false
	}
	b.s.mu.Lock()
	for i := range n {
		b.s.times[b.at+int64(i)]++
	}
	b.s.mu.Unlock()
	b.at += int64(n)
	if b.left > 0 {
		b.left -= int64(n)
	}
	return n, nil
}

func (b *scriptBody) Close() error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.s.open--
	}
	return nil
}

func (s *script) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

func (s *script) given() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, times := range s.times {
		n += times
	}
	return n
}

// once fails the test unless each byte was given once, by at most so many answers.
func (s *script) once(t testing.TB, most int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, times := range s.times {
		if times != 1 {
			t.Errorf("byte %d was fetched %d times; %v", at, times, s.requests)
			break
		}
	}
	if len(s.requests) > most {
		t.Errorf("%d requests, over %d: %v", len(s.requests), most, s.requests)
	}
	if s.open != 0 {
		t.Errorf("%d bodies are open", s.open)
	}
}

// gate lets Reads pass for so many tokens; nil lets all.
type gate struct{ tokens chan struct{} }

func newGate() *gate { return &gate{tokens: make(chan struct{}, 1<<16)} }

func (g *gate) pass(ctx context.Context) error {
	if g == nil {
		return nil
	}
	select {
	case <-g.tokens:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) let(n int) {
	for range n {
		g.tokens <- struct{}{}
	}
}

// told is what a Filler told of itself.
type told struct {
	mu      sync.Mutex
	opened  map[How]int
	fetched int
	ended   []error
}

func (m *told) Opened(how How) { m.mu.Lock(); defer m.mu.Unlock(); m.opened[how]++ }
func (m *told) Fetched(n int)  { m.mu.Lock(); defer m.mu.Unlock(); m.fetched += n }
func (m *told) Ended(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = append(m.ended, err)
}

func (m *told) ends() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]error(nil), m.ended...)
}

// bench is a Filler on a real folder, and what it is told by.
type bench struct {
	t     testing.TB
	blobs *blob.Store
	disk  *sickDisk
	room  *room
	told  *told
	*Filler
}

func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	folder, err := disk.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		t: t, disk: &sickDisk{FS: folder}, told: &told{opened: map[How]int{}},
		room: &room{coming: map[string]int64{}, kept: map[string]bool{}},
	}
	if b.blobs, err = blob.Open(t.Context(), b.disk, blob.Options{Boot: "1"}); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Blobs: b.blobs, Reserve: b.room.reserve, Near: 64 << 10, Metrics: b.told,
		Log: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&cfg)
	}
	b.Filler = New(t.Context(), cfg)
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), b.blobs.Close(), folder.Close()); err != nil {
			t.Error(err)
		}
		b.room.mu.Lock()
		defer b.room.mu.Unlock()
		if len(b.room.coming) > 0 {
			t.Errorf("room was not given back: %v", b.room.coming)
		}
	})
	return b
}

// read opens a blob and reads from a place to before another; below 0 to the end.
func (b *bench) read(ctx context.Context, s *script, from, to int64) ([]byte, error) {
	r, err := b.Open(ctx, s.digest, from, s)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if to >= 0 {
		r.EndAt(to)
	}
	return io.ReadAll(r)
}

// whole reads a blob, which has to be right.
func (b *bench) whole(s *script) {
	b.t.Helper()
	got, err := b.read(b.t.Context(), s, 0, -1)
	if err != nil || !bytes.Equal(got, s.data) {
		b.t.Errorf("%d bytes, %v; the blob has %d", len(got), err, len(s.data))
	}
}

// settled waits until no blob comes any more.
func (f *Filler) settled() {
	for {
		f.mu.Lock()
		var ended chan struct{}
		for _, x := range f.coming {
			ended = x.ended
		}
		f.mu.Unlock()
		if ended == nil {
			return
		}
		<-ended
	}
}

// sickDisk is a folder that fails as a test says.
type sickDisk struct {
	disk.FS
	mu     sync.Mutex
	write  func(at int64) error // nil writes
	read   func(at int64) error
	rename func(to string) error
}

func (d *sickDisk) hooks() (write, read func(int64) error, rename func(string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.write, d.read, d.rename
}

func (d *sickDisk) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *sickDisk) Rename(from, to string) error {
	if _, _, fails := d.hooks(); fails != nil {
		if err := fails(to); err != nil {
			return err
		}
	}
	return d.FS.Rename(from, to)
}

func (d *sickDisk) Open(name string) (disk.File, error)   { return d.sick(d.FS.Open(name)) }
func (d *sickDisk) Edit(name string) (disk.File, error)   { return d.sick(d.FS.Edit(name)) }
func (d *sickDisk) Create(name string) (disk.File, error) { return d.sick(d.FS.Create(name)) }

func (d *sickDisk) sick(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return sickFile{f, d}, nil
}

type sickFile struct {
	disk.File
	d *sickDisk
}

func (f sickFile) WriteAt(b []byte, at int64) (int, error) {
	if fails, _, _ := f.d.hooks(); fails != nil {
		if err := fails(at); err != nil {
			return 0, err
		}
	}
	return f.File.WriteAt(b, at)
}

func (f sickFile) ReadAt(b []byte, at int64) (int, error) {
	if _, fails, _ := f.d.hooks(); fails != nil {
		if err := fails(at); err != nil {
			return 0, err
		}
	}
	return f.File.ReadAt(b, at)
}
