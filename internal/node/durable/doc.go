// Package durable changes files so that a crash or a power cut leaves each of
// them whole: the old content or the new one, never half of it.
//
// Everything on a node that must survive is written through it. Replace writes a
// temporary file, flushes it to disk, renames it over the old one and flushes
// the directory. FS is the set of file operations that this takes: Disk is the
// machine's file system, Dir is one directory of it that nothing can escape. Lock
// lets one process at a time do something.
//
// Tests of every package that writes through FS use durabletest, which kills the
// process at each operation, or makes one operation fail. Start at Replace.
package durable
