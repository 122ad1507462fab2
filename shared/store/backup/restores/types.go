package restores

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Restore is one restore job.
type Restore struct {
	ID          string               `bson:"id"`
	BatchID     string               `bson:"batchId"`
	GroupID     model.ID             `bson:"groupId"`
	Job         model.ID             `bson:"job"` // whose backup is restored
	Created     time.Time            `bson:"created"`
	By          string               `bson:"by"`
	Status      model.RestoreStatus  `bson:"status"`
	Method      model.DeliveryMethod `bson:"method"`
	Format      string               `bson:"format"` // FILES (a dbpath) or BSON (mongorestore's layout)
	Compress    bool                 `bson:"compress"`
	SnapshotID  string               `bson:"snapshotId,omitempty"`
	PointInTime bool                 `bson:"pointInTime"`
	Epoch       int64                `bson:"epoch,omitempty"`  // whose history is restored
	Target      bson.Timestamp       `bson:"target,omitempty"` // inclusive; zero for a snapshot as it is
	Namespaces  []string             `bson:"namespaces,omitempty"`
	Rename      map[string]string    `bson:"rename,omitempty"`      // from namespace or database to another
	TargetGroup model.ID             `bson:"targetGroup,omitempty"` // PUSH: where to
	TargetID    model.ID             `bson:"targetId,omitempty"`    // PUSH: the cluster
	Drop        bool                 `bson:"drop,omitempty"`        // PUSH: collections in the way are dropped, after everything was fetched
	Users       bool                 `bson:"users,omitempty"`       // PUSH: users and roles of the backup that the target lacks are added
	Plan        bson.Raw             `bson:"plan,omitempty"`        // restoreplan.Plan: what the preview showed and the daemon carries out
	Do          string               `bson:"do,omitempty"`          // the step of the plan that is being done: restoreplan.Step.Do; "" before the first
	Waits       bool                 `bson:"waits,omitempty"`       // it has not begun: a head or an agent is waited for
	Step        string               `bson:"step,omitempty"`        // what is being done, for people
	Done        int64                `bson:"done,omitempty"`        // bytes of the step
	Total       int64                `bson:"total,omitempty"`
	Since       time.Time            `bson:"since,omitempty"` // from when on the bytes of the step are counted
	From        int64                `bson:"from,omitempty"`  // how many were done then
	Daemon      string               `bson:"daemon,omitempty"`
	Token       int64                `bson:"token,omitempty"`
	Beat        time.Time            `bson:"beat,omitempty"` // last sign of life
	Finished    time.Time            `bson:"finished,omitempty"`
	Error       string               `bson:"error,omitempty"`
	Remedy      string               `bson:"remedy,omitempty"`
	Delivery    Delivery             `bson:"delivery"`
	StoreID     string               `bson:"storeId,omitempty"` // of the blockstore that holds Objects
	Objects     []Object             `bson:"objects,omitempty"`
	Cleaned     time.Time            `bson:"cleaned,omitempty"` // its objects were deleted
}

// Delivery is the state of a download link. Downloads is the largest count of any of the objects.
type Delivery struct {
	Digest       []byte               `bson:"digest,omitempty"` // SHA-256 of the link's token
	Sealed       []byte               `bson:"sealed,omitempty"` // the token, sealed: the link is shown again to who may restore
	Expires      time.Time            `bson:"expires,omitempty"`
	Hours        int                  `bson:"hours"` // from the moment on that the objects are there
	MaxDownloads int                  `bson:"maxDownloads"`
	Downloads    int                  `bson:"downloads"`
	Status       model.DeliveryStatus `bson:"status,omitempty"`
}

// Object is a stored file of a restore.
type Object struct {
	Key    string `bson:"key"`
	Name   string `bson:"name"`
	Bytes  int64  `bson:"bytes"`
	SHA256 string `bson:"sha256"` // hexadecimal

	Downloads int       `bson:"downloads,omitempty"` // begun
	UseEnds   time.Time `bson:"useEnds,omitempty"`   // until then the last one may be resumed
}

// pace notes from when on the bytes of a step count: where they begin anew, or are out of another number.
func (r *Restore) pace(was *Restore) {
	if r.Total != was.Total || r.Done < was.Done {
		r.Since, r.From = r.Beat, r.Done
	}
}
