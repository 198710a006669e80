package reconfigure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/mainfile"
)

// change is one change of the main file, before it is carried out.
type change struct {
	id, key string
	meaning string // of the file before the change, with what the change is for
	boot    string
	path    string // what config_path becomes; empty on the way back
	instead string // that of the Want
	legacy  bool

	before, after       []byte
	exists, existsAfter bool // whether the file exists, before and after
	keepBackup          bool // it is of a time before the edit that is there
	edit                edit // what the record says of an edit of ours
}

// same reports whether the file is as wanted already.
func (c *change) same() bool { return c.exists == c.existsAfter && bytes.Equal(c.before, c.after) }

// manager recognises files that another program writes.
var manager = regexp.MustCompile(`(?im)^\s*#.*(ansible[ _]managed|managed by (?:ansible|puppet|chef|salt|cfengine)|puppet|this file is managed|do not edit)`)

// proposal is what the operator reads while the change waits.
func (c *change) proposal(p pathMapping) string {
	var s string
	switch {
	case c.legacy:
		s = fmt.Sprintf("config_path goes out of %s again", p.shown)
	case c.same():
		s = fmt.Sprintf("containerd has not read %s since config_path became %q there", p.shown, c.path)
	default:
		s = fmt.Sprintf("config_path in %s becomes %q", p.shown, c.path)
	}
	s += "; containerd must be restarted for it once"
	if c.undone() {
		s += "; it was set before since this node started, and somebody took it out again"
	}
	if manager.Match(c.before) && !c.same() {
		s += "; the file says that another program manages it: change it there too, else it will be changed back"
	}
	return s
}

// plan is the change that makes the file as wanted, checked by containerd's own
// binary; nil if there is nothing to do.
func (r *Reconfigurer) plan(ctx context.Context, p pathMapping, w Want) (*change, error) {
	c := &change{path: w.Path, legacy: w.Legacy, instead: w.Instead}
	var err error
	if c.before, c.exists, err = r.read(p); err != nil {
		return nil, err
	}
	if c.legacy {
		c.path = ""
		err = r.planRevert(p, c)
	} else {
		err = r.planEdit(p, c, w)
	}
	if err != nil {
		return nil, err
	}
	if c.same() && (c.legacy || !w.Unread) {
		return nil, nil
	}
	if w.Major > 1 {
		if err := r.checkImports(p, c.after); err != nil {
			return nil, err
		}
	}
	if err := r.possible(ctx, p, c); err != nil {
		return nil, err
	}
	if err := r.identify(ctx, p, c); err != nil {
		return nil, err
	}
	return c, c.inVain(p)
}

// possible refuses a change that cannot be written, or a restart that cannot be.
func (r *Reconfigurer) possible(ctx context.Context, p pathMapping, c *change) error {
	for _, dir := range []string{p.dir(), filepath.Dir(p.check())} {
		if err := r.fs.Writable(dir); err != nil && !c.same() {
			return &Refusal{explainWriteError(p.shown, err)}
		}
	}
	if err := r.o.Service.Check(ctx); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("look at containerd's service: %w", err)
		}
		return &Refusal{err.Error()}
	}
	return nil
}

// planEdit makes the new content of a change that sets config_path.
func (r *Reconfigurer) planEdit(p pathMapping, c *change, w Want) error {
	after, err := mainfile.SetConfigPath(c.before, w.Major, w.Path)
	if err != nil {
		return refused(p, err)
	}
	c.after, c.existsAfter = after, true
	if c.same() {
		return nil
	}
	found, err := r.load(editName, &c.edit)
	if err != nil {
		return err
	}
	old, err := r.backup(p)
	if err != nil {
		return err
	}
	if found && c.exists {
		// An edit of ours is in the file, and the backup is from before it.
		without, err := mainfile.Restore(c.before, old, c.edit.Path)
		c.keepBackup = err == nil && !bytes.Equal(without, c.before)
	}
	return nil
}

// planRevert makes the new content of a change that takes our edit out: the
// original file if only our edit has changed it, else the file without our edit.
func (r *Reconfigurer) planRevert(p pathMapping, c *change) error {
	c.after, c.existsAfter = c.before, c.exists
	old, err := r.backup(p)
	if err != nil {
		return err
	}
	found, err := r.load(editName, &c.edit)
	if err != nil || !c.exists {
		return err
	}
	if !found {
		if old == nil {
			return nil
		}
		// The state directory was lost. What the backup does not have is ours.
		c.edit.Path = mainfile.ConfigPath(c.before)
		if c.edit.Path == "" || c.edit.Path == mainfile.ConfigPath(old) {
			return nil
		}
	}
	if c.edit.After == sum(c.before, true) {
		if c.edit.Absent {
			c.after, c.existsAfter = nil, false
			return nil
		}
		if old != nil {
			c.after = old
			return nil
		}
	}
	if c.after, err = mainfile.Restore(c.before, old, c.edit.Path); err != nil {
		return refused(p, err)
	}
	return nil
}

// refused adds the file's name to a refusal of mainfile.
func refused(p pathMapping, err error) error {
	var refusal *mainfile.Refusal
	if errors.As(err, &refusal) {
		return &Refusal{p.shown + ": " + refusal.Sentence}
	}
	return fmt.Errorf("edit %s: %w", p.shown, err)
}

// checkResult is what containerd's binary said about a new file.
type checkResult struct {
	id  string
	err error
	at  time.Time
}

// identify gives the change its ID and lets containerd's own binary check it. That
// is done once, and after a failure again only after a while: a write beside the
// main file wakes every program that watches the directory.
func (r *Reconfigurer) identify(ctx context.Context, p pathMapping, c *change) error {
	dump, err := r.dump(ctx, p.shown)
	if err != nil {
		return err
	}
	kind := "edit"
	switch {
	case c.legacy:
		kind = "legacy"
	case c.same():
		kind = "restart"
	}
	// When a user repairs this file or one that it imports, the key differs: it is
	// another change, which may be approved.
	stable, err := fingerprint(dump)
	if err != nil {
		return err
	}
	c.key = shortHash(kind, c.path, sum(c.before, c.exists), sum(c.after, c.existsAfter), stable)
	instance, err := r.instance(ctx)
	if err != nil {
		return err
	}
	// An approval is for one restart. If the same bytes come back later, that needs
	// a new approval.
	c.id = shortHash(c.key, instance)
	c.boot, c.meaning = boot(instance), shortHash(c.path, stable)
	if r.checked.id == c.key && (r.checked.err == nil || time.Since(r.checked.at) < r.o.Limits.Recheck) {
		return r.checked.err
	}
	err = r.dryRun(ctx, p, c, dump)
	var refusal *Refusal
	if err == nil || errors.As(err, &refusal) {
		r.checked = checkResult{c.key, err, time.Now()}
	}
	return err
}

// dryRun lets containerd's own binary read the new file under another name, and
// compares the result with that of the old file.
func (r *Reconfigurer) dryRun(ctx context.Context, p pathMapping, c *change, before []byte) error {
	if c.same() {
		return compare(p, before, before, c.path)
	}
	name := p.check()
	if c.existsAfter {
		if err := r.fs.WriteFile(name, c.after, durable.Attributes{}); err != nil {
			return &Refusal{explainWriteError(p.shown, err)}
		}
	}
	after, err := r.dump(ctx, p.shown+suffixCheck)
	if rerr := r.remove(name); rerr != nil {
		return fmt.Errorf("remove %s: %w", name, rerr)
	}
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err != nil {
		return &Refusal{fmt.Sprintf("containerd does not take %s with config_path changed: %v", p.shown, err)}
	}
	return compare(p, before, after, c.path)
}

func (r *Reconfigurer) dump(ctx context.Context, file string) ([]byte, error) {
	return within(ctx, r.o.Limits.Ask, func(ctx context.Context) ([]byte, error) { return r.o.Runtime.DumpConfig(ctx, file) })
}

func (r *Reconfigurer) instance(ctx context.Context) (string, error) {
	return within(ctx, r.o.Limits.Ask, r.o.Runtime.Instance)
}

// within is the answer to a question that has a limit of time.
func within[T any](ctx context.Context, limit time.Duration, question func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return question(ctx)
}
