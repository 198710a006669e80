package durabletest

import (
	"errors"

	"github.com/d8-registry/registry/internal/node/durable"
)

// ErrKilled is the end of every step of a process that is dead.
var ErrKilled = errors.New("the process was killed")

// Kill is how a process dies at a step.
type Kill string

// The ways to die. A step that is not a write is not done with any but After.
const (
	Before  Kill = "before"     // the step is not done
	After   Kill = "after"      // the step is done, and the process does not hear of it
	Half    Kill = "half"       // a write has written half of the content
	Unended Kill = "attributes" // a write has written the content, but set no attributes
)

// Kills are all ways to die.
func Kills() []Kill { return []Kill{Before, After, Half, Unended} }

// Process is a process that is killed at one of its steps. Steps are the changes
// of its file system, and whatever else a test puts through Do. A dead process
// does nothing any more, and cannot read either.
//
// The usual test runs the process with the first step as the last, then with the
// second, and so on until it lives:
//
//	for at := 1; ; at++ {
//		p := durabletest.NewProcess(at, durabletest.Before)
//		change(p.FS(durable.Disk{}))
//		// Look at what is on disk, then let the next process go on.
//		if !p.Dead() {
//			break
//		}
//	}
type Process struct {
	at    int
	kill  Kill
	steps []string
}

// NewProcess makes a process that dies at a step, counted from 1.
func NewProcess(at int, kill Kill) *Process { return &Process{at: at, kill: kill} }

// Dead reports whether the process came to its last step.
func (p *Process) Dead() bool { return len(p.steps) >= p.at }

// Steps are the steps up to now, the one that it died at included.
func (p *Process) Steps() []string { return p.steps }

// Do is a step that is no change of a file.
func (p *Process) Do(step string, do func() error) error {
	fault := p.step(step)
	if fault.Err == nil || fault.Effect == Done {
		return errors.Join(do(), fault.Err)
	}
	return fault.Err
}

// FS is a file system whose changes are steps of the process.
func (p *Process) FS(fsys durable.FS) *FS {
	return &FS{
		FS:     fsys,
		Before: func(c Change) Fault { return p.step(c.String()) },
		Reads: func() error {
			if p.Dead() {
				return ErrKilled
			}
			return nil
		},
	}
}

func (p *Process) step(what string) Fault {
	if p.Dead() {
		return Fault{Err: ErrKilled}
	}
	p.steps = append(p.steps, what)
	if !p.Dead() {
		return Fault{}
	}
	effect := map[Kill]Effect{Before: Nothing, After: Done, Half: Torn, Unended: Bare}
	return Fault{Err: ErrKilled, Effect: effect[p.kill]}
}
