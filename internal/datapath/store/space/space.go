// Package space says what may be written and what goes: quota, a floor of free space,
// use, pins, and the pace beside an etcd on the same disk.
//
// It counts in bytes and in ticks of running, and never reads a clock of the wall: a
// clock that jumps by ten years evicts nothing. It removes through the function that it
// was given and knows no files. Start at (*Keeper).Reserve.
package space

/*
type Config struct {
	Quota int64 // at most so many bytes are kept
	Floor int64 // so many stay free on the file system
	Idle  int   // ticks without use after which a blob may go; 0 never (proxy.ttl / a tick)
	Free  func() (total, free int64, err error)
	Remove func(digest string) error // blob.Store.Remove
	Second func(digest string) bool // a second copy: goes first
}
ErrFull: over quota with pins, floor, disk.
func New(cfg, have []blob.Info, uses Uses) *Keeper
func (k *Keeper) Reserve(size) (done func(kept bool)...) 
func (k *Keeper) Used(digest string)
func (k *Keeper) Pin(digests)  // replaces all; never evicted
func (k *Keeper) Tick(ctx)        // a minute of running
func (k *Keeper) Uses / Load: "digest tick" lines, for uses.log
func (k *Keeper) Usage() Usage // for metrics
Guard: probe fdatasync 4 KiB every 5 s next to etcd: p99>50ms → writes limited to half, down to 10 MB/s; Pace(n) waits
Defaults(total, free, sameDeviceAsEtcd) (quota, floor)
*/
