package matrix_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel reports every file operation of an agent to the test before it
// happens (seccomp's user notification), and waits until the test lets it happen.
// So an agent can be killed at exactly that operation, whatever code does it.

// listenerFD is the number under which an agent holds the other end.
const listenerFD = 200

// changing are the system calls that change files.
func changing() []uint32 {
	return []uint32{
		unix.SYS_OPENAT, unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_FTRUNCATE,
		unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_FSETXATTR,
		unix.SYS_UTIMENSAT, unix.SYS_MKDIRAT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
	}
}

// trap reports this process's file operations to the one that takes the listener.
func trap() error {
	const load, equal, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	calls := changing()
	filter := []unix.SockFilter{{Code: load, K: 0}} // the number of the call
	for i, nr := range calls {
		filter = append(filter, unix.SockFilter{Code: equal, Jt: uint8(len(calls) - i), K: nr})
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return unix.Dup3(int(fd), listenerFD, unix.O_CLOEXEC)
}

// point is one operation of a run: the nth one of that kind on that file.
type point struct {
	what string
	nth  int
}

func (p point) String() string { return fmt.Sprintf("%s #%d", p.what, p.nth) }

// supervisor lets an agent's file operations happen one after the other, and kills
// the agent at one of them.
type supervisor struct {
	cmd     *exec.Cmd
	dirs    map[string]string // by the names that they have in points
	target  point
	died    chan struct{} // the agent is dead
	mu      sync.Mutex
	points  []point
	counts  map[string]int
	reached bool
}

// supervise takes an agent's listener.
func supervise(t *testing.T, cmd *exec.Cmd, target point, dirs map[string]string) *supervisor {
	t.Helper()
	s := &supervisor{cmd: cmd, dirs: dirs, target: target, died: make(chan struct{}), counts: map[string]int{}}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(pidfd) }()
	listener := -1
	for deadline := time.Now().Add(20 * time.Second); listener < 0; {
		if listener, err = unix.PidfdGetfd(pidfd, listenerFD, 0); err != nil {
			listener = -1
			if time.Now().After(deadline) {
				t.Fatalf("the agent does not let us look: %v", err)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	go func() {
		_ = cmd.Wait() // killed
		close(s.died)
	}()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		s.loop(listener)
		_ = unix.Close(listener)
	}()
	t.Cleanup(func() { s.kill(); <-looked })
	return s
}

// kill ends the agent as the kernel does when memory is out.
func (s *supervisor) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.died
}

// result reports whether the agent was killed at the target, and what it did up to
// then.
func (s *supervisor) result() (bool, []point) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reached, append([]point(nil), s.points...)
}

// notification is one call that waits, as the kernel describes it.
type notification struct {
	id   uint64
	pid  uint32
	_    uint32
	nr   int32
	_    uint32
	_    uint64
	args [6]uint64
}

type response struct {
	id    uint64
	_     int64
	_     int32
	flags uint32
}

func (s *supervisor) loop(listener int) {
	for {
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil || fds[0].Revents&unix.POLLIN == 0 {
			return // nobody is left
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // it was killed meanwhile
		}
		if what := s.describe(n); what != "" && s.meet(what) {
			s.kill()
			continue
		}
		const goOn = 1
		r := response{id: n.id, flags: goOn}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
	}
}

// meet counts an operation and reports whether it is the target.
func (s *supervisor) meet(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
	p := point{what, s.counts[what]}
	s.points = append(s.points, p)
	s.reached = s.reached || p == s.target
	return p == s.target
}

var changesFromRunToRun = regexp.MustCompile(`[0-9]{4,}`)

// describe names an operation on a file that matters; empty for others.
func (s *supervisor) describe(n notification) string {
	at := func(dir, name int) string { return n.path(n.args[dir], n.args[name]) }
	verb, path := "", ""
	switch uintptr(n.nr) {
	case unix.SYS_OPENAT:
		if n.args[2]&(unix.O_CREAT|unix.O_TRUNC) == 0 {
			return ""
		}
		verb, path = "create", at(0, 1)
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		verb, path = "write", n.file(n.args[0])
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		verb, path = "sync", n.file(n.args[0])
	case unix.SYS_FTRUNCATE:
		verb, path = "truncate", n.file(n.args[0])
	case unix.SYS_FCHMOD, unix.SYS_FCHOWN:
		verb, path = "mode or owner", n.file(n.args[0])
	case unix.SYS_FCHMODAT, unix.SYS_FCHOWNAT:
		verb, path = "mode or owner", at(0, 1)
	case unix.SYS_FSETXATTR:
		verb, path = "attribute", n.file(n.args[0])
	case unix.SYS_UTIMENSAT:
		verb, path = "time", at(0, 1)
	case unix.SYS_MKDIRAT:
		verb, path = "mkdir", at(0, 1)
	case unix.SYS_UNLINKAT:
		verb, path = "remove", at(0, 1)
		if _, err := os.Lstat(path); err != nil {
			return "" // a leftover that is not there: nothing changes
		}
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT:
		verb, path = "rename to", at(2, 3)
	case unix.SYS_SYMLINKAT:
		verb, path = "symlink", at(1, 2)
	}
	for name, dir := range s.dirs {
		if rest, ok := strings.CutPrefix(path, dir+"/"); ok && !ofContainerd(rest) {
			return verb + " " + name + "/" + changesFromRunToRun.ReplaceAllString(rest, "N")
		}
	}
	return ""
}

// ofContainerd are files in the node's folder that are containerd's, or logs.
func ofContainerd(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return first == "root" || first == "state" || strings.HasSuffix(first, "log") || strings.HasSuffix(first, ".sock")
}

// file is what a descriptor of the caller is open on.
func (n notification) file(fd uint64) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, int32(fd)))
	if err != nil {
		return ""
	}
	return path
}

// path is a path of the caller: relative to a directory's descriptor, and a
// string in its memory.
func (n notification) path(dir, address uint64) string {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", n.pid))
	if err != nil {
		return ""
	}
	defer func() { _ = memory.Close() }()
	var buf [4096]byte
	got, _ := memory.ReadAt(buf[:], int64(address)) // it may end at the end of a mapping
	name, _, ok := strings.Cut(string(buf[:got]), "\x00")
	if !ok {
		return ""
	}
	if filepath.IsAbs(name) {
		return name
	}
	if int32(dir) == unix.AT_FDCWD {
		return ""
	}
	return filepath.Join(n.file(dir), name)
}

func TestNotificationHasTheKernelsSize(t *testing.T) {
	t.Parallel()
	if binary.Size(uint64(0)) != 8 || unsafe.Sizeof(notification{}) != 80 || unsafe.Sizeof(response{}) != 24 {
		t.Errorf("%d and %d", unsafe.Sizeof(notification{}), unsafe.Sizeof(response{}))
	}
}
