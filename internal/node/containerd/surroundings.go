package containerd

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/d8-registry/registry/internal/node/distribution"
)

// unit is the systemd unit of a process by its /proc/PID/cgroup; empty if it is in
// none. From another cgroup namespace the paths begin with /.. .
func unit(cgroups []byte) string {
	for line := range strings.Lines(string(cgroups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || parts[1] != "" && parts[1] != "name=systemd" {
			continue
		}
		// A unit may have made groups below its own.
		for dir := path.Clean(parts[2]); dir != "/" && dir != "."; dir = path.Dir(dir) {
			name := path.Base(dir)
			if strings.HasSuffix(name, ".service") {
				return name
			}
			if strings.HasSuffix(name, ".scope") {
				break // a container's, or somebody's session
			}
		}
	}
	return ""
}

// recognise says what set a process's containerd up.
func recognise(p Process, unit, version string) distribution.Distribution {
	main, err := readWithin(p.Root(), p.Config)
	if err != nil {
		main = nil // readTree says what is wrong with it
	}
	return distribution.Recognise(distribution.Sight{
		Binary: p.Binary, Config: p.Config, Unit: unit, Two: !Older(version, 2, 0), Main: main,
		Has: func(path string) bool {
			_, err := os.Stat(filepath.Join(p.Root(), path))
			return err == nil
		},
		Read: func(path string) ([]byte, error) { return readWithin(p.Root(), path) },
	})
}

// serviceHost is the name of the in-cluster proxy's Service.
const serviceHost = "registry.d8-system.svc"

// proxied are the hosts that a containerd with that environment would ask through
// an HTTP proxy. Loopback is never one.
func proxied(environ []byte, hosts []string) (variable string, out []string) {
	env := map[string]string{}
	for pair := range strings.SplitSeq(string(environ), "\x00") {
		if name, value, ok := strings.Cut(pair, "="); ok && env[name] == "" {
			env[name] = value
		}
	}
	first := func(names ...string) (name, value string) {
		for _, n := range names {
			if env[n] != "" {
				return n, env[n]
			}
		}
		return "", ""
	}
	variable, proxy := first("HTTPS_PROXY", "https_proxy")
	_, exempt := first("NO_PROXY", "no_proxy")
	if proxy == "" {
		return "", nil
	}
	// The proxy's address may hold a password, and any other serves as well to find
	// out which way a request would go.
	ask := (&httpproxy.Config{HTTPSProxy: "http://proxy.invalid", NoProxy: exempt}).ProxyFunc()
	for _, host := range hosts {
		if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
			host = "[" + host + "]"
		}
		if by, err := ask(&url.URL{Scheme: "https", Host: host + ":5001"}); err == nil && by != nil {
			out = append(out, strings.Trim(host, "[]"))
		}
	}
	return variable, out
}

// proxyWarning warns that containerd would ask an HTTP proxy for hosts in the
// cluster.
func proxyWarning(p Process, unit string, hosts []string) string {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
	if err != nil {
		return "" // the process has ended; the next Discover sees a new one
	}
	variable, through := proxied(environ, hosts)
	if len(through) == 0 {
		return ""
	}
	where := "its environment"
	if unit != "" {
		where = "the environment of " + unit
	}
	return fmt.Sprintf("containerd has %s, and its NO_PROXY does not hold %s: pulls that fall back to the cluster's own registry would go through that proxy; "+
		"add %s to NO_PROXY in %s and restart containerd", variable, strings.Join(through, ", "), strings.Join(through, ","), where)
}
