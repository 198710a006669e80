package e2e

import (
	"context"
	"errors"
)

type story struct{}

var errLater = errors.New("not told yet")

func (s *story) lookAround(context.Context) error        { return errLater }
func (s *story) install(context.Context) error           { return errLater }
func (s *story) freshUnmanaged(context.Context) error    { return errLater }
func (s *story) platform(context.Context) error          { return errLater }
func (s *story) mastersReady(context.Context) error      { return errLater }
func (s *story) moduleRunning(context.Context) error     { return errLater }
func (s *story) clash(context.Context) error             { return errLater }
func (s *story) mirrorAuth(context.Context) error        { return errLater }
func (s *story) prepared(context.Context) error          { return errLater }
func (s *story) directA(context.Context) error           { return errLater }
func (s *story) mirrorAuthWorks(context.Context) error   { return errLater }
func (s *story) refusedInDirect(context.Context) error   { return errLater }
func (s *story) directB(context.Context) error           { return errLater }
func (s *story) switchAOff(context.Context) error        { return errLater }
func (s *story) nodeAdded(context.Context) error         { return errLater }
func (s *story) nodeReimaged(context.Context) error      { return errLater }
func (s *story) upgrade(context.Context) error           { return errLater }
func (s *story) rollback(context.Context) error          { return errLater }
func (s *story) mastersReadyAgain(context.Context) error { return errLater }
func (s *story) unmanagedAgain(context.Context) error    { return errLater }
func (s *story) legacy(context.Context) error            { return errLater }
func (s *story) legacyWorks(context.Context) error       { return errLater }
func (s *story) uninstall(context.Context) error         { return errLater }
func (s *story) sameFiles(context.Context) error         { return errLater }
func (s *story) leftovers(context.Context) error         { return errLater }
