// Package shelf keeps equal values once for all that hold them. Start at Keep.
package shelf
