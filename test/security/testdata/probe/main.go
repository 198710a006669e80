// Command probe tries, from within a container, what must be refused there. It
// prints what was not, one per line.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	state := os.Args[1]
	pid, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Println(err)
		return
	}
	proc := filepath.Join("/proc", os.Args[2])
	if _, err := os.Stat(proc); err != nil {
		fmt.Println("the host's processes are not seen, so nothing is tried:", err)
	}
	for what, err := range map[string]error{
		"end a process of root's":            syscall.Kill(pid, 0),
		"look into the host's root":          read(filepath.Join(proc, "root", "etc", "hostname")),
		"list the host's root":               list(filepath.Join(proc, "root") + "/"),
		"read a process's environment":       read(filepath.Join(proc, "environ")),
		"read a process's memory":            read(filepath.Join(proc, "mem")),
		"list a process's files":             list(filepath.Join(proc, "fd")),
		"read containerd's folder":           list("/etc/containerd"),
		"reach containerd":                   list("/run/containerd"),
		"write in its own root":              write("/new"),
		"write kernel settings":              write("/proc/sys/kernel/core_pattern"),
		"list the state folder":              list(state),
		"read what node remembers":           read(filepath.Join(state, "node.json")),
		"replace what node remembers":        os.Remove(filepath.Join(state, "node.json")),
		"write beside its folder":            write(filepath.Join(state, "reconfigure.json")),
		"become root":                        syscall.Setuid(0),
		"mount":                              syscall.Mount("none", "/proc", "tmpfs", 0, ""),
		"make a namespace":                   syscall.Unshare(syscall.CLONE_NEWNS),
		"make a user namespace":              syscall.Unshare(syscall.CLONE_NEWUSER),
		"enter a namespace of the host's":    enter(filepath.Join(proc, "ns", "mnt")),
		"change root":                        syscall.Chroot("/"),
		"load a module":                      write("/proc/sysrq-trigger"),
		"make a device":                      syscall.Mknod("/dev/disk", syscall.S_IFBLK|0o600, 8<<8),
		"trace a process":                    syscall.PtraceAttach(pid),
		"make a raw socket":                  socket(syscall.AF_INET, syscall.SOCK_RAW, 1),
		"listen to every packet of the node": socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0x300),
	} {
		if err == nil {
			fmt.Println("it may", what)
		}
	}
	if err := write(filepath.Join(state, "serve", "probe")); err != nil {
		fmt.Println("its own folder:", err)
	}
	if err := errors.Join(capabilities()...); err != nil {
		fmt.Println(err)
	}
}

func read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 1))
	return err
}

func list(path string) error {
	_, err := os.ReadDir(path)
	return err
}

func write(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), 0)
}

func socket(domain, kind, protocol int) error {
	fd, err := syscall.Socket(domain, kind, protocol)
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

// capabilities says which sets are not empty, and that new privileges are off
// and system calls are filtered.
func capabilities() (problems []error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return []error{err}
	}
	for field, want := range map[string]string{
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2",
	} {
		var got string
		for _, line := range splitLines(string(status)) {
			if len(line) > len(field) && line[:len(field)+1] == field+":" {
				fmt.Sscan(line[len(field)+1:], &got)
			}
		}
		if got != want {
			problems = append(problems, fmt.Errorf("%s is %s, want %s", field, got, want))
		}
	}
	return problems
}

func splitLines(s string) (lines []string) {
	start := 0
	for i := range s {
		if s[i] == '\n' {
			lines = append(lines, s[start:i])
			start = i + 1
		}
	}
	return lines
}
