package hostsdir

import (
	"fmt"
	"regexp"
	"strings"
)

// The files of one host's directory. Certificates are written first, hosts.toml
// last: if a certificate that hosts.toml names is missing, containerd fails the
// pull. A directory without hosts.toml is no error.
const (
	fileAgentCA    = "ca.crt"
	fileFallbackCA = "second-way.crt"
	fileServerCA   = "registry.crt"
	fileHosts      = "hosts.toml"
	tempSuffix     = ".registry-agent" // neither .crt nor .cert nor .key: containerd loads those
	ownershipFile  = ".registry-agent-owned.json"
)

// Tree is what we want in containerd's host directory, sorted by host.
type Tree []Directory

// Directory is the entry of one host.
type Directory struct {
	// Host is what image references start with, and the directory's name:
	// "registry.d8-system.svc:5001".
	Host string
	// Fixed marks the directory of the fixed address. It is ours, whatever was
	// there before.
	Fixed bool
	// Files are in the order in which they must be written.
	Files []File
	// Warning is what others who use the host should know; usually empty.
	Warning string
}

// File is one file of a Directory. Its content may hold credentials.
type File struct {
	Name string
	Data []byte
}

// String keeps the content out of logs.
func (f File) String() string { return fmt.Sprintf("%s (%d bytes)", f.Name, len(f.Data)) }

// GoString keeps the content out of %#v.
func (f File) GoString() string { return "hostsdir.File(" + f.String() + ")" }

// hostName is what may become a directory's name: a host, or containerd's name
// for all other hosts. It has no slash, and is never ".", ".." or hidden.
var hostName = regexp.MustCompile(`^(?:(?:[0-9a-z]([0-9a-z.-]{0,250}[0-9a-z])?|\[[0-9a-f:]{2,45}\])(:[0-9]{1,5})?|_default)$`)

// preferredName is where containerd looks first for a host with a port:
// "host_5001_" for "host:5001". It is empty for a host without a port.
func preferredName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > 0 {
		return host[:i] + "_" + host[i+1:] + "_"
	}
	return ""
}
