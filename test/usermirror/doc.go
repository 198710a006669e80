// Package usermirror holds the tests of users' mirrors on real, unpatched
// containerd of every version: what the documentation promises, by CRI and by
// its own two commands. There is no code in it but tests.
package usermirror
