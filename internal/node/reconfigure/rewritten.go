package reconfigure

import (
	"context"
	"errors"
	"fmt"

	"github.com/d8-registry/registry/internal/node/mainfile"
)

// errRewritten says that another program wrote the main file after us, without
// our setting: one that makes the file at each start of containerd, or keeps it
// as it is.
var errRewritten = errors.New("another program wrote containerd's main file anew")

// rewritten is errRewritten if the main file is not what this change wrote and
// config_path is gone from it. On the way back nothing of ours has to stay.
func (r *Reconfigurer) rewritten(p pathMapping, j *journal) error {
	if j.Path == "" {
		return nil
	}
	data, there, err := r.read(p)
	if err != nil || sum(data, there) == j.After || mainfile.ConfigPath(data) == j.Path {
		return nil //nolint:nilerr // what cannot be read is judged by what containerd does with it
	}
	return errRewritten
}

// overruled is the run of containerd that there is, if it is there and another
// program has undone the change. One that is not there needs its restart first.
func (r *Reconfigurer) overruled(ctx context.Context, p pathMapping, j *journal) (now string, yes bool) {
	if r.rewritten(p, j) == nil {
		return "", false
	}
	now, err := r.instance(ctx)
	return now, err == nil
}

// surrender ends a change that another program undid. There is nothing of ours
// to put back, and a restart would bring nothing: containerd runs with the other
// program's file, or still with the one before.
func (r *Reconfigurer) surrender(ctx context.Context, p pathMapping, j *journal, now string) (Status, error) {
	if boot(now) != boot(j.Instance) {
		// A program that makes the file when the node starts leaves it alone until the
		// next time.
		return Status{}, errors.Join(errRewritten, r.close(p, j))
	}
	message := fmt.Sprintf("%s was written anew when containerd was restarted, and config_path is gone from it: "+
		"some program makes this file whenever containerd starts", p.shown)
	if now == j.Instance {
		message = fmt.Sprintf("%s was written anew as soon as config_path was in it, and config_path is gone again: "+
			"some program keeps this file as it is; containerd was not restarted", p.shown)
	}
	f := failure{ID: j.ID, Key: j.Key, Message: message + "; " + instead(j.Path, j.Instead), Meaning: j.Meaning}
	if dump, err := r.dump(ctx, p.shown); err == nil {
		if stable, err := fingerprint(dump); err == nil {
			f.Meaning = shortHash(j.Path, stable)
		}
	}
	return r.remember(ctx, p, j, f)
}

// undone reports whether somebody has taken the same edit out since this boot.
func (c *change) undone() bool {
	return !c.legacy && !c.same() && c.edit.Meaning != "" && c.edit.Meaning == c.meaning && c.edit.Boot == c.boot
}

// inVain refuses an edit that was taken out twice since this boot.
func (c *change) inVain(p pathMapping) error {
	if !c.undone() || c.edit.Again == 0 {
		return nil
	}
	return &Refusal{fmt.Sprintf("%s was changed %d times since this node started, with a restart each, and changed back each time: "+
		"some program keeps it as it is; %s", p.shown, c.edit.Again+1, instead(c.path, c.instead))}
}

// instead is what the operator can do where an edit does not stay.
func instead(path, known string) string {
	if known != "" {
		return known
	}
	return fmt.Sprintf("set config_path = %q where that program takes it (a template, a directory for drop-ins, settings of its own) and restart containerd", path)
}
