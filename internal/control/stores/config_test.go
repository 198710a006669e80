package stores

import (
	"flag"
	"io"
	"strings"
	"testing"
)

// parsed is what flags make of arguments.
func parsed(args ...string) (Config, error) {
	var s Config
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	s.RegisterFlags(flags)
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	return s, s.Validate()
}

func TestFlagsOfStores(t *testing.T) {
	t.Parallel()
	if got, err := parsed(); err != nil || got != (Config{Port: 5001, Path: "/opt/deckhouse/registry"}) {
		t.Errorf("without flags: %+v, %v", got, err)
	}
	got, err := parsed("--store-port=5011", "--store-path=/mnt/disk-1/registry.d", "--store-quota=200Gi", "--store-floor=1e9")
	if err != nil || got != (Config{Port: 5011, Path: "/mnt/disk-1/registry.d", Quota: 200 << 30, Floor: 1_000_000_000}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, good := range []string{"/var/lib/etc", "/opt/etc", "/var/lib/kubelet2/store", "/srv/..store"} {
		if _, err := parsed("--store-path=" + good); err != nil {
			t.Error(err)
		}
	}
}

// TestStoresThatTakeWhatIsOthers: the folder is given to the user of the store, so it is nobody
// else's, nor above what is.
func TestStoresThatTakeWhatIsOthers(t *testing.T) {
	t.Parallel()
	for flags, want := range map[string][]string{
		"port 0 80 1023 -1 70000": {"--store-port is ", "must be from 1024"},
		"port 5002":               {"--store-port is 5002, where the health of a store is asked"},
		"path / /data relative opt/x /opt//x /opt/x/ /opt/../x /opt/x/.. /opt/./x /opt/a:b /opt/$HOME /opt/x,y /opt/ä": {"--store-path is ", "must be an absolute path"},
		"path /var/lib": {`"/var/lib", and /var/lib/containerd belongs to others`},
		"path /etc/x /etc/kubernetes/registry /proc/1 /sys/fs /dev/shm /run/x /var/run/x /usr/lib /boot/x /root/x /var/lib/kubelet /var/lib/kubelet/x /var/lib/etcd/x /var/lib/containerd/x /var/lib/registry-agent": {
			"--store-path is ", " belongs to others",
		},
		"quota -1 -5Gi": {"--store-quota is -", "neither may be below 0"}, "floor -1": {"--store-floor -1", "neither may be below 0"},
		"quota many 5GB": {"store-quota", "quantities must match"},
	} {
		values := strings.Fields(flags)
		for _, value := range values[1:] {
			_, err := parsed("--store-" + values[0] + "=" + value)
			for _, word := range want {
				if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "%!") {
					t.Errorf("--store-%s=%s: %v, want %q", values[0], value, err, word)
				}
			}
		}
	}
}
