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

// markName is the variable by which processes of a run are known.
const markName = "BB_RUN="

func newMark() string { return markName + rand.Text() }

func markOf(environment []string) string {
	at := slices.IndexFunc(environment, func(v string) bool { return strings.HasPrefix(v, markName) })
	if at < 0 {
		return ""
	}
	return environment[at]
}

// end ends what an earlier agent, which was killed, left running: two scripts
// at once, or one twice, is nothing that their authors thought of.
func (r running) end(ctx context.Context, bootID string) {
	if r.BootID != bootID {
		return
	}
	deadline := time.Now().Add(grace)
	for signal := syscall.SIGTERM; r.alive(); {
		_ = syscall.Kill(-r.Group, signal)
		// Processes of others do not tell when they end.
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
	}
}

// alive reports whether a process of the group still runs. Its number may have
// become another's; its mark has not.
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
