package proof

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// processes is the directory in which the kernel shows them: /proc.
type processes string

// errElsewhere is a pull that arrived, but not from the kubelet's containerd: it
// went through something else on this node, such as a user's mirror that pulls
// with another containerd.
var errElsewhere = errors.New("the pull came to the agent, but not from the kubelet's containerd")

// holds returns nil if the process has the first end of the TCP connection
// between two addresses. Only the kernel can tell: what is in a request can be
// copied.
func (p processes) holds(pid int, peer, agent string) error {
	local, errLocal := netip.ParseAddrPort(peer)
	remote, errRemote := netip.ParseAddrPort(agent)
	if err := cmp.Or(errLocal, errRemote); err != nil {
		return fmt.Errorf("whose pull it was is not known: %w", err)
	}
	socket, err := p.socket(pid, local, remote)
	if err != nil {
		return fmt.Errorf("whose pull it was is not known: %w", err)
	}
	if socket == "" {
		return fmt.Errorf("%w: it came through another network namespace", errElsewhere)
	}
	found, err := p.has(strconv.Itoa(pid), socket)
	if found {
		return nil
	}
	if err != nil {
		return fmt.Errorf("whose pull it was is not known: %w", err)
	}
	if owner := p.owner(socket); owner != "" {
		return fmt.Errorf("%w: process %q made it", errElsewhere, owner)
	}
	return errElsewhere
}

// socket is the name of the connection's socket in the network namespace of a
// process; empty if there is none. Connections of several processes have the same
// local address if their remote addresses differ.
func (p processes) socket(pid int, local, remote netip.AddrPort) (string, error) {
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(filepath.Join(string(p), strconv.Itoa(pid), "net", table))
		if errors.Is(err, os.ErrNotExist) && table == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			// sl local remote state queues timer retransmits uid timeout inode
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 {
				continue
			}
			from, okFrom := kernelAddress(fields[1])
			to, okTo := kernelAddress(fields[2])
			if okFrom && okTo && from == local && to == remote {
				return "socket:[" + fields[9] + "]", nil
			}
		}
		if err := lines.Err(); err != nil {
			return "", err
		}
	}
	return "", nil
}

// kernelAddress reads "0100007F:1389": words in the machine's byte order, the
// port as people write it.
func kernelAddress(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	number, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), ok && err == nil
}

// has reports whether a process has a socket open.
func (p processes) has(pid, socket string) (bool, error) {
	dir := filepath.Join(string(p), pid, "fd")
	open, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(open, func(fd os.DirEntry) bool {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		return err == nil && to == socket
	}), nil
}

// owner is the name of a process that has a socket open, for the message.
func (p processes) owner(socket string) string {
	all, err := os.ReadDir(string(p))
	if err != nil {
		return ""
	}
	for _, process := range all {
		if _, err := strconv.Atoi(process.Name()); err != nil {
			continue
		}
		if found, err := p.has(process.Name(), socket); err != nil || !found {
			continue // it may have ended meanwhile
		}
		name, err := os.ReadFile(filepath.Join(string(p), process.Name(), "comm"))
		if err == nil {
			return strings.TrimSpace(string(name))
		}
	}
	return ""
}
