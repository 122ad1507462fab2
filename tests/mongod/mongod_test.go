package mongod

import (
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/tests/harness"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.Clean()
	os.Exit(code)
}

func TestAStandalone(t *testing.T) {
	d := Start(t, Options{Standalone: true, Auth: true})
	c := d.Client().Database("x").Collection("c")
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	h, err := d.Hello(t.Context(), 0)
	if err != nil || h.SetName != "" || !h.IsWritablePrimary {
		t.Errorf("%+v %v", h, err)
	}
	d.Stop(0)
	if _, err := d.Hello(t.Context(), 0); err == nil {
		t.Error("it answers after its stop")
	}
	d.Restart(0)
	if n, err := c.CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 {
		t.Errorf("%d documents after the restart: %v", n, err)
	}
}

// TestLeftoversAreSwept removes the network of a test process that is gone, and leaves that of one that runs.
func TestLeftoversAreSwept(t *testing.T) {
	needDocker(t)
	c, err := testcontainers.NewDockerClientWithOpts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	made := map[string]bool{} // id to whether it is to stay
	for _, stays := range []bool{true, false} {
		l := labels()
		if !stays {
			l[labelPid] = "4194305" // above the highest there is
		}
		n, err := c.NetworkCreate(t.Context(), "heartwood-test-sweep-"+strconv.FormatBool(stays)+"-"+strconv.Itoa(os.Getpid()), client.NetworkCreateOptions{Driver: "bridge", Labels: l})
		if err != nil {
			t.Fatal(err)
		}
		made[n.ID] = stays
	}
	if err := sweep(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for id, stays := range made {
		_, err := c.NetworkRemove(t.Context(), id, client.NetworkRemoveOptions{})
		if stays != (err == nil) {
			t.Errorf("a network that is to stay (%v): %v", stays, err)
		}
	}
}

// TestASetOfAllKinds is a set with a hidden, a delayed member and an arbiter, under TLS and access control.
func TestASetOfAllKinds(t *testing.T) {
	d := Start(t, Options{Auth: true, TLS: true, Slow: true, Members: []MemberOptions{{}, {}, {Hidden: true}, {Delay: time.Hour}, {Arbiter: true}}})
	h, err := d.Hello(t.Context(), 2)
	if err != nil || !h.Hidden || len(h.Hosts) != 2 {
		t.Errorf("the hidden member: %+v %v", h, err)
	}
	if h, err = d.Hello(t.Context(), 4); err != nil || !h.ArbiterOnly {
		t.Errorf("the arbiter: %+v %v", h, err)
	}
	var cfg struct {
		Config struct {
			Members []struct {
				Host               string
				SecondaryDelaySecs int64 `bson:"secondaryDelaySecs"`
			}
		}
	}
	if err := bson.Unmarshal(d.Admin(0, bson.D{{Key: "replSetGetConfig", Value: 1}}), &cfg); err != nil || len(cfg.Config.Members) != 5 || cfg.Config.Members[3].SecondaryDelaySecs != 3600 {
		t.Errorf("%+v %v", cfg, err)
	}
	d.Slow(1, 300*time.Millisecond)
	began := time.Now()
	if _, err := d.Hello(t.Context(), 1); err != nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("a slow member answers after %v: %v", time.Since(began), err)
	}
	d.Slow(1, 0)
	if _, err := d.Client().Database("x").Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Error(err)
	}
}

// TestALocalSet is a set that other processes reach, as the programs under test are.
func TestALocalSet(t *testing.T) {
	d := Start(t, Options{Local: true, Auth: true})
	for _, seed := range d.Seeds() {
		host, _, err := net.SplitHostPort(seed)
		if err != nil || net.ParseIP(host) == nil {
			t.Errorf("%s is no address: %v", seed, err)
		}
	}
	c := d.Client().Database("x").Collection("c")
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	d.StepDown()
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 2}}); err != nil {
		t.Error("after an election:", err)
	}
	d.PauseAll()
	if _, err := d.Hello(t.Context(), 0); err == nil {
		t.Error("a member that hangs answers")
	}
	d.UnpauseAll()
	d.WaitPrimary()
	d.KillAll()
	d.RestartAll()
	if n, err := c.CountDocuments(t.Context(), bson.D{}); err != nil || n != 2 {
		t.Errorf("%d documents: %v", n, err)
	}
}
