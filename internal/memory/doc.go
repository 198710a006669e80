// Package memory keeps a program below the memory limit of its container. Start at
// Heed.
package memory
