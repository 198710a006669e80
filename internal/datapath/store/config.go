package store

import (
	"flag"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/store/cache"
)

// Config is what the process is started with.
type Config struct {
	// ConfigDir holds what it serves by, a file for each key, see files.
	ConfigDir string
	// Data is the folder of the store. Only one process has it.
	Data string
	// Listen is for clients, with TLS. Health is for /healthz, /readyz, /metrics and
	// /status, without.
	Listen, Health string
	// Quota and Floor are in bytes: what is kept at most, and what stays free on the disk.
	// Below 0 they follow from the size of the disk, see space.Defaults.
	Quota, Floor int64
	// Etcd is the folder of an etcd: on a disk with it a store takes less, and writes no
	// faster than it bears.
	Etcd string
	// TTL is how long something is kept after its last use, in time of running.
	TTL time.Duration
	// TagFresh is how long what a tag means is not asked for again.
	TagFresh time.Duration
	// DrainDelay is how long it goes on as before when told to stop; Drain is how long
	// requests in flight then have.
	DrainDelay, Drain time.Duration
	// ProfilesAddress is where pprof listens; "0" or "" means nowhere.
	ProfilesAddress string
	// Version is what the configuration that this process was started with is called, for the
	// status alone: who changed it knows by that when the process of before has ended.
	Version string
	// Verbose logs every pull, not only those that failed.
	Verbose bool
	// Promises are kept by the zero value.
	Promises Promises

	// listening, if set, is called with the addresses listened on: tests listen on port 0.
	listening func(clients, health string)
	retry     time.Duration // after which a disk is tried again
	again     time.Duration // see images.Config.Again; 0 is ours
	hop       time.Duration // see proxy.Config.Hop
	budget    time.Duration // see proxy.Config.Budget; 0 is ours
}

// Promises are those of the cache, and of what it fetches with.
type Promises struct {
	Cache cache.Promises
	Fetch fetch.Promises
}

// RegisterFlags binds the configuration to flags.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&c.ConfigDir, "config-dir", "/etc/kubernetes/registry", "folder with the files layout, users, tls.crt, tls.key and, if any, pins and stores")
	fs.StringVar(&c.Data, "data", "/opt/deckhouse/registry", "folder of what is kept; it is there")
	fs.StringVar(&c.Listen, "listen", ":5001", "address for clients, with TLS: the node's InternalIP and a port")
	fs.StringVar(&c.Health, "health-listen", "127.0.0.1:5002", "address for /healthz, /readyz, /metrics and, asked from this machine, /status, without TLS")
	fs.Int64Var(&c.Quota, "quota", -1, "bytes that are kept at most; below 0: by the size of the disk")
	fs.Int64Var(&c.Floor, "floor", -1, "bytes that stay free on the disk; below 0: by its size")
	fs.StringVar(&c.Etcd, "etcd", "/var/lib/etcd", "folder of an etcd; on a disk with it less is kept, and written slower")
	fs.DurationVar(&c.TTL, "ttl", 168*time.Hour, "how long something is kept after its last use; 0: until the quota is reached")
	fs.DurationVar(&c.TagFresh, "tag-fresh", cache.DefaultFresh, "how long the registry is not asked again what a tag means")
	fs.DurationVar(&c.DrainDelay, "drain-delay", 3*time.Second, "how long to serve on after being told to stop")
	fs.DurationVar(&c.Drain, "drain", 25*time.Second, "how long requests in flight have after that")
	fs.StringVar(&c.ProfilesAddress, "pprof-address", "0", inbound.ProfilesFlag)
	fs.StringVar(&c.Version, "config-version", "", "what these arguments are called in /status")
	fs.BoolVar(&c.Verbose, "verbose", false, "log every pull, not only those that failed")
}
