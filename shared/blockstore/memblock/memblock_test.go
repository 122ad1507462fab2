package memblock_test

import (
	"testing"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
)

func TestStore(t *testing.T) {
	blockstoretest.Run(t, func(*testing.T) blockstore.Store { return memblock.New() })
}
