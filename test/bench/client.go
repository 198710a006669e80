package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// client is one connection that asks for one thing after the other. It understands as
// much of HTTP as the programs that are compared speak, so that it costs less than
// they do.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

const (
	bufferSize  = 64 << 10
	dialTimeout = 5 * time.Second
)

func dial(ctx context.Context, address string, secured *tls.Config) (*client, error) {
	return dialWith(ctx, &net.Dialer{Timeout: dialTimeout}, address, secured)
}

func dialWith(ctx context.Context, dialer *net.Dialer, address string, secured *tls.Config) (*client, error) {
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	conn := raw
	if secured != nil {
		over := tls.Client(raw, secured)
		if err := over.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("connect: %w", err), raw.Close())
		}
		conn = over
	}
	return &client{conn: conn, in: bufio.NewReaderSize(conn, bufferSize), body: make([]byte, bufferSize)}, nil
}

// get sends a request and reads the answer. took is the time to the first byte of the
// body. got is called for each piece of it; when it returns false, the rest is left
// and the connection is good for nothing.
func (c *client) get(request []byte, got func(n int) bool) (took time.Duration, err error) {
	begin := time.Now()
	if _, err := c.conn.Write(request); err != nil {
		return 0, fmt.Errorf("ask: %w", err)
	}
	left, err := c.header()
	if err != nil {
		return 0, err
	}
	for first := true; left > 0; first = false {
		n, err := c.in.Read(c.body[:min(left, int64(len(c.body)))])
		if first {
			took = time.Since(begin)
		}
		left -= int64(n)
		if !got(n) {
			return took, nil
		}
		if err != nil && left > 0 {
			return 0, fmt.Errorf("read the body, %d bytes before its end: %w", left, err)
		}
	}
	return took, nil
}

// header reads the header of an answer and returns the length of the body.
func (c *client) header() (int64, error) {
	length := int64(-1)
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("read the header: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if first && (len(line) < 12 || line[9] != '2') {
			rest, _ := c.in.Peek(c.in.Buffered()) // it is there
			return 0, fmt.Errorf("answered %q, then %q", line, rest)
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return 0, fmt.Errorf("read the header: %w", err)
			}
		}
	}
	if length < 0 {
		return 0, errors.New("answered without a Content-Length")
	}
	return length, nil
}

func (c *client) close() { _ = c.conn.Close() }
