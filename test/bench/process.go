package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one of the programs that are compared.
type process struct {
	name   string
	cmd    *exec.Cmd
	output bytes.Buffer
	ended  chan struct{}
}

// start returns when the program listens.
func start(ctx context.Context, name, address string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // it is stopped by us
		close(p.ended)
	}()
	limit := time.After(30 * time.Second)
	for {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		if err == nil {
			return p, conn.Close()
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("%s ended: %s", name, p.output.String())
		case <-limit:
			p.stop()
			return nil, fmt.Errorf("%s does not listen on %s: %s", name, address, p.output.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill() // the same
		<-p.ended
	}
}

// ids are the processes that the program is: itself and its workers.
func (p *process) ids() []int {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		pattern := fmt.Sprintf("/proc/%d/task/*/children", all[i])
		files, _ := filepath.Glob(pattern) // the pattern is good
		for _, file := range files {
			data, _ := os.ReadFile(file) // it may have ended
			for word := range strings.FieldsSeq(string(data)) {
				if id, err := strconv.Atoi(word); err == nil {
					all = append(all, id)
				}
			}
		}
	}
	return all
}

// tick is the unit of times in /proc: USER_HZ, which is 100 on every machine that we
// run on.
const tick = 10 * time.Millisecond

// cpu is the processor time that the program has used.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, id := range p.ids() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
		if err != nil {
			return 0, fmt.Errorf("cpu of %s: %w", p.name, err)
		}
		// After the name, which may hold anything: state is the first, utime the twelfth.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		for _, i := range []int{11, 12} {
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cpu of %s: %w", p.name, err)
			}
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// memory is a figure of /proc/PID/status in bytes: VmRSS, or VmHWM, its largest since
// resetPeak.
func (p *process) memory(field string) (int64, error) {
	var sum int64
	for _, id := range p.ids() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", id))
		if err != nil {
			return 0, fmt.Errorf("memory of %s: %w", p.name, err)
		}
		_, after, _ := strings.Cut(string(data), field+":")
		words := strings.Fields(after)
		if len(words) == 0 {
			return 0, fmt.Errorf("memory of %s: no %s", p.name, field)
		}
		kib, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("memory of %s: %w", p.name, err)
		}
		sum += kib << 10
	}
	return sum, nil
}

func (p *process) resetPeak() error {
	var all []error
	for _, id := range p.ids() {
		all = append(all, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", id), []byte("5"), 0))
	}
	return errors.Join(all...)
}
