// Package component is the module's own workloads: their templates, where their
// image is from, their upgrade and its undoing.
//
// They never name the fixed address: they are what serves it. Start at List,
// then (*Keeper).ApplyFirst and (*Keeper).Move.
package component
