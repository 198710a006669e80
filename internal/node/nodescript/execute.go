package nodescript

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

//go:embed library.bash
var library []byte

const (
	// stderrTail is how much of standard error is in an Event.
	stderrTail = 500
	// outputTail is how much of what a script printed is kept on the node.
	outputTail = 64 << 10
	// grace is how long a script may take to end when it is asked to, and a process
	// that it left behind to close the output.
	grace = 5 * time.Second
)

// outcome is how one run of a script ended.
type outcome struct {
	// failure says how it failed, without any of its output; empty if it succeeded.
	failure string
	// stderr is the end of its standard error, in which anything may be.
	stderr string
}

// executor runs one script once. With trace, bash prints on the node what it does.
type executor interface {
	run(ctx context.Context, s script, trace bool) outcome
}

// gate starts a script only when its process is recorded on disk, so that a later
// agent finds everything that runs.
const gate = `IFS= read -r _ || exit 125; BASH_ENV="$1"; export BASH_ENV; shift; exec "$@" </dev/null`

// bash runs scripts with the host's bash.
type bash struct {
	host    Host
	folder  *stateDir
	bootID  string
	timeout time.Duration
}

func (b *bash) run(ctx context.Context, s script, trace bool) outcome {
	err := s.check()
	if err == nil {
		err = b.folder.prepare(s)
	}
	if err != nil {
		return outcome{failure: err.Error()}
	}
	limited, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	all, complaints := newTail(outputTail), newTail(stderrTail)
	err = b.execute(limited, s, trace, all, io.MultiWriter(all, complaints))
	result := outcome{failure: b.explain(limited, s, err), stderr: complaints.text()}
	if err := b.folder.write(outputDir+"/"+s.file()+".log", all.bytes(), 0o600); err != nil && result.failure == "" {
		result.failure = err.Error()
	}
	return result
}

// execute starts the script, notes that it runs, and waits for it.
func (b *bash) execute(ctx context.Context, s script, trace bool, stdout, stderr io.Writer) error {
	mark := newMark()
	cmd, err := b.command(ctx, s)
	if err != nil {
		return err
	}
	cmd.Env, cmd.Stdout, cmd.Stderr = append(b.environment(s, trace), mark), stdout, stderr
	open, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the script: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the host's bash: %w", err)
	}
	defer b.folder.forgetRunning()
	noted := b.folder.noteRunning(running{Group: cmd.Process.Pid, Mark: mark, BootID: b.bootID})
	if noted == nil {
		_, _ = io.WriteString(open, "go\n") // one that has ended already says why
	}
	_ = open.Close() // if nothing was written, the gate ends without the script
	err = cmd.Wait()
	if ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what did not listen
	}
	if noted != nil {
		return noted
	}
	return err //nolint:wrapcheck // explain looks at it
}

func (b *bash) command(ctx context.Context, s script) (*exec.Cmd, error) {
	shell, err := b.host.program("bash")
	if err != nil {
		return nil, err
	}
	return b.host.Command(ctx, shell, "-c", gate, "gate", b.folder.onHost(libraryFile), shell, "-eEo", "pipefail", b.folder.onHost(stepsDir+"/"+s.file()))
}

// environment is all variables that a script gets, but the mark.
func (b *bash) environment(s script, trace bool) []string {
	flag := ""
	if trace {
		flag = "1"
	}
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash", "LANG=C", "DEBIAN_FRONTEND=noninteractive",
		"BB_STATE=" + b.folder.path, "BB_SCRIPT=" + s.name, "BB_TRACE=" + flag,
	}
}

// explain says how a run failed; empty if it did not. Nothing that the script
// printed is in it.
func (b *bash) explain(ctx context.Context, s script, err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay) && !errors.As(err, &exit):
		return "" // something that it started goes on; so be it
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("did not end within %v and was stopped", b.timeout)
	case errors.As(err, &exit):
		words := exit.Error()
		if strings.Contains(s.content, "\r\n") {
			words += fmt.Sprintf("; line %d ends with CR LF, which bash does not take for the end of a line",
				1+strings.Count(s.content[:strings.Index(s.content, "\r\n")], "\n"))
		}
		return words + "; what it printed is in " + b.folder.onHost(outputDir+"/"+s.file()+".log") + " on the node"
	}
	return err.Error()
}
