// Package mainfile edits config_path in containerd's main configuration file
// and nothing else: every other byte stays as it was, and each edit is read
// back and compared before it is returned. It does no I/O. Start at
// SetConfigPath.
package mainfile
