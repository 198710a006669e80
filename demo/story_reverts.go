package main

import (
	"context"
	"errors"
)

func reverts(context.Context, *demo) error { return errors.New("unfinished") }
