// Package state is what the controller remembers: one document in Secret
// registry-state, with the identity (CA, certificate, users) that belongs to it.
//
// It does not decide what should be, see switchover. Start at Document, then
// Store; View is what the packages beside this one are given.
package state
