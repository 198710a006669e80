package blob_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestKilled ends a real process with kill -9 while it fills, and goes on with what it left.
func TestKilled(t *testing.T) {
	t.Parallel()
	const pieces, size = 40, 40 << 10
	data := content(pieces * size)
	if path := os.Getenv("BLOB_TEST_FILL"); path != "" { // it is that process
		p := begin(t, open(t, path, "a"), digestOf(data), len(data))
		for i := pieces - 1; i >= 0; i-- {
			if _, err := p.WriteAt(data[i*size:(i+1)*size], int64(i*size)); err != nil {
				t.Fatal(err)
			}
			if err := p.Keep(); err != nil {
				t.Fatal(err)
			}
			_, _ = fmt.Fprintln(os.Stdout, "kept") // the other end sees what is missing
		}
		select {}
	}
	for _, lines := range []int{1, 13, pieces} {
		path := t.TempDir()
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), "BLOB_TEST_FILL="+path)
		out, err := child.StdoutPipe()
		if err := errors.Join(err, child.Start()); err != nil {
			t.Fatal(err)
		}
		for in, n := bufio.NewScanner(out), 0; n < lines && in.Scan(); {
			if in.Text() == "kept" {
				n++
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it was killed

		s := open(t, path, "a")
		if n, ok := s.Kept(digestOf(data)); !ok || n != int64(len(data)) {
			t.Fatalf("after %d pieces: of %d bytes something is kept: %v", lines, n, ok)
		}
		p := begin(t, s, digestOf(data), len(data))
		from := len(data) - lines*size
		if to := p.Covered(int64(from)); to != int64(len(data)) {
			t.Errorf("after %d pieces: from %d to %d is there", lines, from, to)
		}
		gap, ok := p.Missing(0)
		if ok {
			if _, err := p.WriteAt(data[gap.From:gap.To], gap.From); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(p.Verify(), p.Commit(), p.Close()); err != nil {
			t.Errorf("after %d pieces: %v", lines, err)
		}
		if got := get(t, s, digestOf(data)); string(got) != string(data) {
			t.Error("other bytes")
		}
	}
}
