// Command zip packs a program for AWS Lambda: an archive that holds it as "bootstrap", executable, without anything that differs
// between two runs over the same program.
//
//	go run ./infra/aws/zip program archive.zip
package main

import (
	"archive/zip"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: zip program archive.zip")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "zip:", err)
		os.Exit(1)
	}
}

// pack writes the archive beside its place and moves it there, so that no half one is ever found.
func pack(program, archive string) error {
	in, err := os.Open(program)
	if err != nil {
		return err
	}
	defer in.Close()
	part := archive + ".part"
	out, err := os.Create(part)
	if err != nil {
		return err
	}
	if err := errors.Join(write(out, in), out.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, archive)
}

func write(w io.Writer, program io.Reader) error {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(0o755)
	f, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, program); err != nil {
		return err
	}
	return z.Close()
}
