package main

import (
	"context"
	"errors"
)

func gitops(context.Context, *demo) error { return errors.New("unfinished") }
