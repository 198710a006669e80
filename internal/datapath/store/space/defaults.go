package space

const gib = 1 << 30

// Defaults are the quota and the floor on a file system of so many bytes. Beside an etcd
// both are careful: it stops for good when its disk is full.
func Defaults(total int64, besideEtcd bool) (quota, floor int64) {
	share := int64(60)
	floor = max(percent(total, 10), 10*gib)
	if besideEtcd {
		share = 20
		floor = max(percent(total, 25), 20*gib)
	}
	return max(0, min(percent(total, share), total-floor)), floor
}
