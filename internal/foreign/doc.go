// Package foreign makes text of others fit to be kept and shown: what a registry,
// a node, a tenant or a user's file says ends in conditions, Events, logs and
// terminals, and in one Secret that holds 1 MiB.
//
// Text is cut and made printable where it enters the program. What is already ours
// may pass again: a printable text that is short enough stays as it is.
package foreign
