// Package nodestore is the part of the agent that carries out spec.store: it reads what a
// store serves by, has package nodeservices keep files and static pod, asks the process how
// it is, and reports that. Without spec.store it reads nothing and writes nothing, but for
// taking away what it wrote before.
//
// What is in the spec or in the Secret is written only if it is whole: what runs goes on by
// what it has. Start at Part.Converge.
package nodestore
