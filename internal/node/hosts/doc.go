// Package hosts keeps everything of ours in the directories in which containerd
// looks for hosts: our own host directories (hostsdir), and the marked blocks in
// the files of users (usermirror).
//
// Converge makes them what a layout wants, Revert takes all of it out. When
// containerd moves to another directory, ours stay in the old one until the new
// one is proved: CleanUp. Start at Keeper.
package hosts
