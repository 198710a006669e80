package machine

import "testing"

// CgroupTrees is for tests of what is left behind.
func CgroupTrees(t *testing.T) []string {
	t.Helper()
	trees, err := cgroupTrees()
	if err != nil {
		t.Fatal(err)
	}
	return trees
}
