package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	stampEvery = 10 * time.Second
	// old is a stamp that was not renewed: several were left out.
	old = time.Minute
)

// uptimeFile is a clock that nobody sets: stamps are compared across processes, and
// a node may get its time late.
const uptimeFile = "/proc/uptime"

// Stamp stamps a file as long as nothing has hung, until the context ends. The file
// should be in memory: it is written every ten seconds.
func (w *Watchdog) Stamp(ctx context.Context, path string, log *slog.Logger) {
	ticker := time.NewTicker(stampEvery)
	defer ticker.Stop()
	for {
		err := w.Err()
		if err == nil {
			err = stamp(path, uptimeFile)
		}
		if err != nil {
			log.Error("not alive", "err", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func stamp(path, clock string) error {
	now, err := uptime(clock)
	if err != nil {
		return err
	}
	// By a rename: who reads it meanwhile must not see half of it.
	next := path + ".new"
	err = os.WriteFile(next, []byte(strconv.FormatFloat(now.Seconds(), 'f', 2, 64)), 0o600)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return fmt.Errorf("stamp: %w", err)
	}
	return nil
}

// Stamped is nil if the file was stamped lately.
func Stamped(path string) error { return stamped(path, uptimeFile) }

func stamped(path, clock string) error {
	now, err := uptime(clock)
	if err != nil {
		return err
	}
	at, err := uptime(path)
	if err != nil {
		return err
	}
	if age := now - at; age > old || age < 0 { // less: it is of another boot
		return fmt.Errorf("no sign of life for %v", age.Round(time.Second))
	}
	return nil
}

// uptime reads a number of seconds, the first word of a file.
func uptime(path string) (time.Duration, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	words := strings.Fields(string(data))
	if len(words) == 0 {
		return 0, errors.New(path + " is empty")
	}
	seconds, err := strconv.ParseFloat(words[0], 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}
