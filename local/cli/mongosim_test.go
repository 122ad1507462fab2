package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func TestMongosimRunsUntilInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	pr, pw := io.Pipe()
	exit := make(chan int, 1)
	var errOut strings.Builder
	go func() {
		code := Run(ctx, []string{"mongosim", "--port", "0", "--json", "--arbiters", "1", "--members", "2", "--user", "admin", "--password", "secret", "--tls"}, nil, pw, &errOut)
		_ = pw.Close()
		exit <- code
	}()
	line, err := bufio.NewReader(pr).ReadString('\n')
	if err != nil {
		t.Fatalf("no output: %v; exit %d: %s", err, <-exit, errOut.String())
	}
	var out struct {
		URI     string
		Members []string
	}
	if err := json.Unmarshal([]byte(line), &out); err != nil || len(out.Members) != 3 {
		t.Fatalf("%q: %v", line, err)
	}
	c, err := mongo.Connect(options.Client().ApplyURI(out.URI))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Database("app").Collection("x").InsertOne(t.Context(), bson.D{{Key: "a", Value: 1}}); err != nil {
		t.Error(err)
	}
	if err := c.Disconnect(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if code := <-exit; code != exitOK {
		t.Errorf("exit code %d: %s", code, errOut.String())
	}
}

func TestMongosimRefusesWrongUsage(t *testing.T) {
	for name, args := range map[string]string{
		"no member":             "mongosim --members 0",
		"user without password": "mongosim --user admin",
		"standalone in a set":   "mongosim --standalone --arbiters 1",
		"negative port":         "mongosim --port -1",
		"unknown flag":          "mongosim --nonsense",
	} {
		t.Run(name, func(t *testing.T) {
			var errOut strings.Builder
			if code := Run(t.Context(), strings.Fields(args), nil, io.Discard, &errOut); code != exitUsage {
				t.Errorf("exit code %d: %s", code, errOut.String())
			}
		})
	}
}
