// Package disktest is a disk in memory that knows what would be left of it after a power
// cut: for tests.
//
// A Disk has what programs see and what is on the platter. A Process is a disk.FS on it that
// is killed, or has an operation fail, at a chosen Step. (*Disk).PowerCut keeps what was
// synced and, by a seed, any part of what was not: names, bytes and sizes each for
// themselves. Start at New.
package disktest
