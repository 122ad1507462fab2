package main

import (
	"archive/zip"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestAnArchiveHoldsTheProgramAndIsTheSameEachTime(t *testing.T) {
	dir := t.TempDir()
	program, archive := filepath.Join(dir, "p"), filepath.Join(dir, "p.zip")
	body := bytes.Repeat([]byte("program "), 10_000)
	var before []byte
	for range 2 {
		if err := os.WriteFile(program, body, 0o600); err != nil { // another time of change
			t.Fatal(err)
		}
		if err := pack(program, archive); err != nil {
			t.Fatal(err)
		}
		now, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && !bytes.Equal(before, now) {
			t.Error("two archives of one program differ")
		}
		before = now
	}
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if len(z.File) != 1 || z.File[0].Name != "bootstrap" || z.File[0].Mode() != 0o755 {
		t.Fatalf("%+v", z.File[0].FileHeader)
	}
	f, err := z.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := pack(filepath.Join(dir, "none"), archive); err == nil {
		t.Error("packed nothing")
	}
}
