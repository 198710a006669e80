package hostsdir

import (
	"fmt"
	"regexp"
)

// The files of one host's directory. Certificates come first, hosts.toml last:
// containerd fails a pull when a certificate that hosts.toml names is missing,
// but reads a directory without hosts.toml as one of extra certificates.
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
	// Fixed marks the directory of the fixed address. It is ours whatever was
	// there before; all others belong to whoever made them.
	Fixed bool
	// Files are in the order in which they must be written.
	Files []File
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

// hostName is what may become a directory's name: a host, or what containerd
// calls the directory of all others. It is never ".", ".." or hidden, and it has
// no slash.
var hostName = regexp.MustCompile(`^(?:[0-9a-z]([0-9a-z.-]{0,250}[0-9a-z])?(:[0-9]{1,5})?|_default)$`)

// shadow is the other name under which containerd looks for a host with a
// port, and the one that it prefers: "host_5001_" for "host:5001". Empty for
// hosts without a port.
func preferredName(host string) string {
	for i := len(host) - 1; i > 0; i-- {
		if host[i] == ':' {
			return host[:i] + "_" + host[i+1:] + "_"
		}
	}
	return ""
}
