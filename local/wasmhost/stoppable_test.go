package wasmhost

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// looping is a module by hand: a global, an exported function that loops for ever, in a block in a loop, with a br_table.
func looping() []byte {
	body := []byte{0, opLoop, emptyBlock, opBlock, emptyBlock, opLoop, emptyBlock, opI32Const, 0x80, 0x01, opBrTable, 1, 0, 0, opEnd, opEnd, opBr, 0, opEnd, opEnd}
	m := []byte("\x00asm\x01\x00\x00\x00")
	m = append(m, 1, 4, 1, 0x60, 0, 0)                                // type () -> ()
	m = append(m, 3, 2, 1, 0)                                         // function
	m = append(m, sectionGlobal, 6, 1, 0x7f, 1, opI32Const, 7, opEnd) // a global of its own
	m = append(m, sectionExport, 7, 1, 3, 'r', 'u', 'n', 0, 0)
	code := append([]byte{1, byte(len(body))}, body...)
	return append(append(m, sectionCode, byte(len(code))), code...)
}

func TestALoopEndsOnceItIsTold(t *testing.T) {
	module, err := stoppable(looping())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer func() { _ = r.Close(ctx) }()
	in, err := r.Instantiate(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	stop, ok := in.ExportedGlobal(stopExport).(api.MutableGlobal)
	if !ok || stop.Get() != 0 {
		t.Fatal("the global is not there")
	}
	time.AfterFunc(20*time.Millisecond, func() { stop.Set(1) })
	if _, err := in.ExportedFunction("run").Call(ctx); err == nil {
		t.Error("it ended by itself")
	}
}

func TestWhatIsNoModuleIsRefused(t *testing.T) {
	whole := looping()
	for n := range whole {
		if _, err := stoppable(whole[:n]); err == nil && n > len(whole)-20 { // in the midst of the code
			t.Errorf("%d of %d bytes were taken", n, len(whole))
		} else if err != nil && !errors.Is(err, errModule) {
			t.Errorf("%d: %v", n, err)
		}
	}
	strange := bytes.Replace(whole, []byte{opBrTable}, []byte{0xfd}, 1)
	if _, err := stoppable(strange); !errors.Is(err, errModule) {
		t.Errorf("an instruction that is not known: %v", err)
	}
}

func FuzzStoppable(f *testing.F) {
	f.Add(looping())
	f.Fuzz(func(t *testing.T, module []byte) {
		if out, err := stoppable(module); err == nil && len(out) < len(module)/2 {
			t.Errorf("%d bytes became %d", len(module), len(out))
		}
	})
}
