package main

import (
	"context"
	"errors"
)

func lostState(context.Context, *demo) error { return errors.New("unfinished") }
