package machine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// NodeSetup is what makes a node different from the others.
type NodeSetup struct {
	// Containerd is its version: "1.6", "1.7", or empty for the newest.
	Containerd string
	// Files are put below the node's /etc/containerd before the first start, by
	// path.
	Files map[string]string
	// Guard is a shell command that runs before each start, as a unit's
	// ExecStartPre does: where it fails, containerd does not start.
	Guard string
}

// RestartCommand is a program of the node's host that restarts containerd, as
// `systemctl restart` does: it returns when containerd answers again, or fails.
const RestartCommand = "/etc/restart-containerd"

// The files by which the restart command and the supervisor understand each
// other, inside.
const (
	pidFile   = "/run/containerd/started" // the process that was started last
	readyFile = "/run/containerd/ready"   // the one that answered last
)

// restartScript gives up after 20 s, before the agent does.
const restartScript = `#!/bin/sh
old=$(cat ` + pidFile + `)
kill -TERM "$old" 2>/dev/null
for i in $(seq 200); do
	ready=$(cat ` + readyFile + ` 2>/dev/null)
	[ -n "$ready" ] && [ "$ready" != "$old" ] && kill -0 "$ready" 2>/dev/null && exit 0
	sleep 0.1
done
echo "containerd does not answer" >&2
exit 1
`

// parts is the folder of a version's programs.
func (s NodeSetup) parts(b Binaries) (string, error) {
	if s.Containerd == "" {
		return b.Dir, nil
	}
	dir := filepath.Join(filepath.Dir(b.Dir), "containerd-"+s.Containerd)
	if !isFile(filepath.Join(dir, "containerd")) {
		return "", fmt.Errorf("containerd %s is not built; run: hack/parts.sh containerd-%s", s.Containerd, s.Containerd)
	}
	return dir, nil
}

// config is the main configuration file. It says only where things are. A stock
// containerd 1.x has no directory for hosts; 2.x is given one.
func (s NodeSetup) config() string {
	if s.Containerd == "" {
		return containerdConfig
	}
	return containerd1Config
}

// containerd1Config keeps a containerd 1.x in its place.
const containerd1Config = `# written by hand, once
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "` + nodeSock + `"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.6"   # never pulled here
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
`

// write puts the node's own files into its folder.
func (s NodeSetup) write(dir string) error {
	files := map[string]string{"config.toml": s.config()}
	maps.Copy(files, s.Files)
	for name, content := range files {
		if err := writeFile(filepath.Join(dir, "etc", "containerd", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	script := filepath.Join(dir, RestartCommand)
	if err := writeFile(script, []byte(restartScript), 0o600); err != nil {
		return err
	}
	return os.Chmod(script, 0o700)
}

// command is how containerd is started.
func (s NodeSetup) command() (path string, args []string) {
	const program = nodeParts + "/containerd"
	if s.Guard == "" {
		return program, []string{"--config=/etc/containerd/config.toml"}
	}
	return "/bin/sh", []string{"-c", s.Guard + " && exec " + program + " --config=/etc/containerd/config.toml"}
}
