package mongodoc

import (
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
)

// unreachable is an error of the driver in the words of whoever has to mend it.
type unreachable struct {
	text string
	err  error
}

func (u *unreachable) Error() string { return u.text }

func (u *unreachable) Unwrap() error { return u.err }

// explain says of each address why it did not serve, instead of the driver's account of its own state. Other errors stay as they are.
func explain(err error) error {
	var command mongo.CommandError
	if errors.As(err, &command) {
		return &unreachable{fmt.Sprintf("the server refuses: %s (code %d)", command.Message, command.Code), err}
	}
	var selection topology.ServerSelectionError
	if !errors.As(err, &selection) {
		return err
	}
	if len(selection.Desc.Servers) == 0 {
		return &unreachable{"no address answers as a member of the replica set that replicaSet= names", err}
	}
	each := make([]string, len(selection.Desc.Servers))
	for i, s := range selection.Desc.Servers {
		each[i] = s.Addr.String() + ": "
		if s.LastError != nil {
			each[i] += s.LastError.Error()
		} else {
			each[i] += "answers, but is " + s.Kind.String()
		}
	}
	return &unreachable{"no primary: " + strings.Join(each, "; "), err}
}
