package main

import (
	"context"
	"errors"
)

func wrongCredentials(context.Context, *demo) error { return errors.New("unfinished") }
