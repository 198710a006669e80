package containerd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is the containerd that listens on a socket.
type Process struct {
	PID int
	// Start tells two processes with the same PID apart: ticks since boot.
	Start string
	// Binary and Config are paths as the process sees them.
	Binary, Config string
	// Name is the name by which the binary was started: that of k3s is many
	// programs in one, and the name selects containerd.
	Name string
	// Dir is its working directory.
	Dir string
}

// Instance names this run of containerd. It differs after a restart.
func (p Process) Instance() string { return strconv.Itoa(p.PID) + "@" + p.Start }

// Root is the file system that containerd sees, as this program reaches it.
func (p Process) Root() string { return fmt.Sprintf("/proc/%d/root", p.PID) }

const defaultConfig = "/etc/containerd/config.toml"

// Running finds the process behind the socket. It needs the host's PID
// namespace.
func Running(ctx context.Context, socket string) (Process, error) {
	pid, err := listener(ctx, socket)
	if err != nil {
		return Process{}, fmt.Errorf("find the process behind %s: %w", socket, err)
	}
	proc := "/proc/" + strconv.Itoa(pid)
	stat, errStat := os.ReadFile(proc + "/stat")
	binary, errBinary := os.Readlink(proc + "/exe")
	args, errArgs := os.ReadFile(proc + "/cmdline")
	dir, errDir := os.Readlink(proc + "/cwd")
	if err := cmp.Or(errStat, errBinary, errArgs, errDir); err != nil {
		return Process{}, fmt.Errorf("look at containerd's process: %w", err)
	}
	start, err := startTime(stat)
	if err != nil {
		return Process{}, err
	}
	p := Process{PID: pid, Start: start, Dir: dir, Config: configArgument(args)}
	// After a package upgrade without restart, the file is the new binary.
	p.Binary = strings.TrimSuffix(binary, " (deleted)")
	if name, _, _ := strings.Cut(string(args), "\x00"); name != "" {
		p.Name = filepath.Base(name)
	}
	if !filepath.IsAbs(p.Config) {
		p.Config = filepath.Join(p.Dir, p.Config)
	}
	return p, nil
}

// dir is the working directory, or / if it is not there any more.
func (p Process) dir() string {
	if info, err := os.Stat(filepath.Join(p.Root(), p.Dir)); p.Dir == "" || err != nil || !info.IsDir() {
		return "/"
	}
	return p.Dir
}

// unit is the process's systemd unit; empty if it runs in none.
func (p Process) unit() string {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	if err != nil {
		return "" // the process has ended; the next Discover sees a new one
	}
	return unit(groups)
}

// startedAt is when the process started.
func (p Process) startedAt(now time.Time) (time.Time, bool) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, false
	}
	first, _, _ := strings.Cut(string(text), " ")
	uptime, errUptime := strconv.ParseFloat(first, 64)
	ticks, errTicks := strconv.ParseFloat(p.Start, 64)
	if errUptime != nil || errTicks != nil {
		return time.Time{}, false
	}
	const perSecond = 100 // of every Linux that shows /proc to programs
	return now.Add(-time.Duration((uptime - ticks/perSecond) * float64(time.Second))), true
}

// changedSince is the first file of the configuration that was changed after the
// process started. A process reads its files within a second.
func changedSince(p Process, t tree) string {
	began, ok := p.startedAt(time.Now())
	if !ok {
		return ""
	}
	for _, f := range t.files {
		if !f.loaded {
			continue
		}
		info, err := os.Stat(filepath.Join(t.root, f.path))
		if err == nil && info.ModTime().After(began.Add(time.Second)) {
			return f.path
		}
	}
	return ""
}

// listener is the process that made the listening socket.
func listener(ctx context.Context, socket string) (int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = cmp.Or(err, credErr); err != nil {
		return 0, err
	}
	if cred.Pid == 0 {
		return 0, errors.New("it is outside of our PID namespace; the agent needs the host's")
	}
	return int(cred.Pid), nil
}

// startTime is field 22 of /proc/PID/stat. Field 2 is the command in
// parentheses and may hold spaces and parentheses itself.
func startTime(stat []byte) (string, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) < 20 {
		return "", errors.New("/proc/PID/stat has an unknown form")
	}
	return string(fields[19]), nil
}

// configArgument is the main configuration file on containerd's command line.
func configArgument(cmdline []byte) string {
	args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
	for i, a := range args[1:] {
		for _, flag := range []string{"-c", "--c", "-config", "--config"} {
			if value, ok := strings.CutPrefix(a, flag+"="); ok {
				return value
			}
			if a == flag && i+2 < len(args) {
				return args[i+2]
			}
		}
	}
	return defaultConfig
}
