package apiserver

import (
	"os"
	"testing"
)

var server Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }
