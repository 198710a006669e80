package usermirror

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxFile is more than any hosts.toml or bundle of certificates has, in bytes.
const maxFile = 1 << 20

var (
	errNotRegular = errors.New("it is no regular file")
	errTooLarge   = errors.New("it is larger than 1 MiB")
)

// disk reads files as containerd sees them. containerd may have another root than
// this program: then an absolute symbolic link leads to another file.
type disk struct{ root string }

// resolve is a path of containerd's as this program reaches it, without links.
func (d disk) resolve(name string) (string, error) {
	if d.root == "" || d.root == "/" {
		return name, nil
	}
	todo := strings.Split(path.Clean("/"+name), "/")
	done := "/"
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		to, err := os.Readlink(filepath.Join(d.root, next))
		if err != nil {
			done = next // no link, or not there: opening it says so
			continue
		}
		if links++; links > 40 {
			return "", errors.New("too many symbolic links")
		}
		if path.IsAbs(to) {
			done = "/"
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return filepath.Join(d.root, done), nil
}

func (d disk) read(name string) ([]byte, error) {
	real, err := d.resolve(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errNotRegular
	case info.Size() > maxFile:
		return nil, errTooLarge
	}
	return os.ReadFile(real)
}

// reason is an error of reading a file, without its path.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "it may not be read"
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}

// certificates are the PEM certificates of a file, without what is around them.
func (d disk) certificates(name string) (string, error) {
	data, err := d.read(name)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		// containerd takes no notice of anything else either.
		if _, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("it holds no PEM certificate")
	}
	return out.String(), nil
}
