package nodescript

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bundleOf is the platform's name of a system; most systems have the same ID.
func bundleOf(id string) string {
	switch id {
	case "ubuntu":
		return "ubuntu-lts"
	case "centos", "rhel", "rocky", "almalinux", "ol":
		return "centos"
	case "opensuse-leap", "opensuse-tumbleweed", "sles":
		return "opensuse"
	}
	return id
}

// bundles are the names that spec.bundles may have for the host's system: the
// platform's name, os-release's ID, and ID-VERSION_ID.
func bundles(root string) ([]string, error) {
	var data []byte
	var err error
	for _, file := range []string{"etc/os-release", "usr/lib/os-release"} {
		if data, err = os.ReadFile(filepath.Join(root, file)); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("find out the host's system: %w", err)
	}
	release := parseRelease(data)
	id := release["ID"]
	if id == "" {
		id = "linux" // so says os-release(5)
	}
	names := []string{bundleOf(id), id}
	if version := release["VERSION_ID"]; version != "" {
		names = append(names, id+"-"+version, bundleOf(id)+"-"+version)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func parseRelease(data []byte) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if found && !strings.HasPrefix(key, "#") {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values
}
