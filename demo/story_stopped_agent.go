package main

import (
	"context"
	"errors"
)

func stoppedAgent(context.Context, *demo) error { return errors.New("unfinished") }
