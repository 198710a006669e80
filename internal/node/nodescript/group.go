package nodescript

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// markName is the variable by which the processes of a run are found.
const markName = "BB_RUN="

func newMark() string { return markName + rand.Text() }

// end ends what an agent that was killed left running: scripts do not expect that
// another one, or a second run of them, runs at the same time.
func (r running) end(ctx context.Context, bootID string) {
	if r.BootID != bootID {
		return
	}
	deadline := time.Now().Add(grace)
	for signal := syscall.SIGTERM; r.alive(); {
		_ = syscall.Kill(-r.Group, signal)
		// The kernel does not report the end of other programs' processes.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return
		}
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
	}
}

// alive reports whether a process of the group still runs. Another group may have
// the same number by now, but not the same mark.
func (r running) alive() bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			return false
		}
		return inGroup(e.Name(), r.Group) && marked(e.Name(), r.Mark)
	})
}

// inGroup looks at the fields after the command's name, which may hold spaces
// and parentheses: state, parent, process group. The dead do not count.
func inGroup(pid string, group int) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return len(fields) > 2 && fields[0] != "Z" && fields[2] == strconv.Itoa(group)
}

func marked(pid, mark string) bool {
	environment, err := os.ReadFile("/proc/" + pid + "/environ")
	return err == nil && slices.Contains(strings.Split(string(environment), "\x00"), mark)
}
