package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is the containerd that listens on a socket.
type Process struct {
	PID int
	// Start tells two processes with the same PID apart: ticks since boot.
	Start string
	// Binary and Config are paths as the process sees them.
	Binary, Config string
}

// Instance names this very run of containerd: another one after a restart.
func (p Process) Instance() string { return strconv.Itoa(p.PID) + "@" + p.Start }

// Root is the file system that containerd sees, whatever container or mount
// namespace it and we are in.
func (p Process) Root() string { return fmt.Sprintf("/proc/%d/root", p.PID) }

const defaultConfig = "/etc/containerd/config.toml"

// Running finds the process behind the socket. It needs the host's PID
// namespace.
func Running(ctx context.Context, socket string) (Process, error) {
	pid, err := listener(ctx, socket)
	if err != nil {
		return Process{}, fmt.Errorf("find the process behind %s: %w", socket, err)
	}
	p := Process{PID: pid}
	proc := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return Process{}, fmt.Errorf("look at containerd's process: %w", err)
	}
	if p.Start, err = startTime(stat); err != nil {
		return Process{}, err
	}
	binary, err := os.Readlink(proc + "/exe")
	if err != nil {
		return Process{}, fmt.Errorf("look at containerd's process: %w", err)
	}
	// After a package upgrade without restart the new file is what is there.
	p.Binary = strings.TrimSuffix(binary, " (deleted)")
	args, err := os.ReadFile(proc + "/cmdline")
	if err != nil {
		return Process{}, fmt.Errorf("look at containerd's process: %w", err)
	}
	if p.Config = configArgument(args); !filepath.IsAbs(p.Config) {
		cwd, err := os.Readlink(proc + "/cwd")
		if err != nil {
			return Process{}, fmt.Errorf("look at containerd's process: %w", err)
		}
		p.Config = filepath.Join(cwd, p.Config)
	}
	return p, nil
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
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
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
