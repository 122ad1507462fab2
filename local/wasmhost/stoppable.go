package wasmhost

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// stopExport is the global that Stoppable adds: what is not zero ends the guest.
const stopExport = "heartwood.stop"

var errModule = errors.New("not a module this host understands")

// stoppable adds to a module a global, and to the head of every loop a check that traps once it is set. wazero can stop a guest by
// itself (WithCloseOnContextDone), but leaves compiled code at every loop to look, which makes guests of Go, where every function
// is a loop, five times as slow; this look is a load and a branch. What recurses without end runs out of memory instead.
func stoppable(module []byte) ([]byte, error) {
	if len(module) < 8 || !bytes.Equal(module[:8], []byte("\x00asm\x01\x00\x00\x00")) {
		return nil, errModule
	}
	out := append(make([]byte, 0, len(module)+len(module)/8), module[:8]...)
	r := &code{b: module[8:]}
	var imported, defined uint32
	seen := map[byte]bool{}
	for len(r.b) > 0 && r.err == nil {
		id := r.byte()
		body := r.take(r.uint())
		if r.err != nil {
			break
		}
		s := &code{b: body}
		switch id {
		case sectionImport:
			imported = importedGlobals(s)
		case sectionGlobal:
			defined = s.uint()
			rest := s.b
			body = append(binary.AppendUvarint(nil, uint64(defined)+1), rest...)
			body = append(body, 0x7f, 1, opI32Const, 0, opEnd) // a mutable i32 that begins as 0
		case sectionExport:
			n := s.uint()
			rest := s.b
			body = append(binary.AppendUvarint(nil, uint64(n)+1), rest...)
			body = binary.AppendUvarint(body, uint64(len(stopExport)))
			body = append(append(body, stopExport...), 3)
			body = binary.AppendUvarint(body, uint64(imported+defined))
		case sectionCode:
			if !seen[sectionGlobal] || !seen[sectionExport] {
				return nil, fmt.Errorf("%w: it has no globals or exports", errModule)
			}
			body = checkedLoops(s, imported+defined)
		}
		if s.err != nil {
			return nil, fmt.Errorf("%w: section %d: %w", errModule, id, s.err)
		}
		seen[id] = true
		out = append(out, id)
		out = binary.AppendUvarint(out, uint64(len(body)))
		out = append(out, body...)
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", errModule, r.err)
	}
	return out, nil
}

// Parts of the binary format.
const (
	sectionImport = 2
	sectionGlobal = 6
	sectionExport = 7
	sectionCode   = 10

	opUnreachable = 0x00
	opBlock       = 0x02
	opLoop        = 0x03
	opIf          = 0x04
	opElse        = 0x05
	opEnd         = 0x0b
	opBr          = 0x0c
	opBrIf        = 0x0d
	opBrTable     = 0x0e
	opReturn      = 0x0f
	opCall        = 0x10
	opIndirect    = 0x11
	opDrop        = 0x1a
	opSelect      = 0x1b
	opLocalGet    = 0x20
	opGlobalGet   = 0x23
	opGlobalSet   = 0x24
	opLoad        = 0x28
	opStoreEnd    = 0x3e
	opMemorySize  = 0x3f
	opMemoryGrow  = 0x40
	opI32Const    = 0x41
	opI64Const    = 0x42
	opF32Const    = 0x43
	opF64Const    = 0x44
	opNumeric     = 0x45
	opNumericEnd  = 0xc4
	opMore        = 0xfc
	emptyBlock    = 0x40
)

// importedGlobals counts them: their indices come first.
func importedGlobals(s *code) (n uint32) {
	for range s.uint() {
		s.take(s.uint())
		s.take(s.uint())
		switch s.byte() {
		case 0:
			s.uint()
		case 1:
			s.byte()
			s.limits()
		case 2:
			s.limits()
		case 3:
			s.take(2)
			n++
		default:
			s.fail("an import of an unknown kind")
		}
		if s.err != nil {
			return 0
		}
	}
	return n
}

// checkedLoops copies the functions and adds the check to their loops.
func checkedLoops(s *code, global uint32) []byte {
	check := binary.AppendUvarint([]byte{opGlobalGet}, uint64(global))
	check = append(check, opIf, emptyBlock, opUnreachable, opEnd)
	n := s.uint()
	out := binary.AppendUvarint(make([]byte, 0, len(s.b)+len(s.b)/8), uint64(n))
	var fn []byte
	for range n {
		f := &code{b: s.take(s.uint())}
		fn = fn[:0]
		whole := f.b
		for range f.uint() { // locals
			f.uint()
			f.byte()
		}
		copied := 0
		for len(f.b) > 0 && f.err == nil {
			if f.instruction() == opLoop {
				at := len(whole) - len(f.b)
				fn = append(append(fn, whole[copied:at]...), check...)
				copied = at
			}
		}
		if f.err != nil {
			s.err = f.err
		}
		if s.err != nil {
			return nil
		}
		fn = append(fn, whole[copied:]...)
		out = binary.AppendUvarint(out, uint64(len(fn)))
		out = append(out, fn...)
	}
	return out
}

// code reads the binary format. After the first fault it yields nothing.
type code struct {
	b   []byte
	err error
}

func (c *code) fail(why string) {
	if c.err == nil {
		c.err = errors.New(why)
	}
	c.b = nil
}

func (c *code) byte() byte {
	if len(c.b) == 0 {
		c.fail("it ends early")
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *code) uint() uint32 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || v > 1<<32-1 {
		c.fail("a number is broken")
		return 0
	}
	c.b = c.b[n:]
	return uint32(v) //nolint:gosec // judged above
}

// leb passes over a number of any kind.
func (c *code) leb() {
	for range 10 {
		if c.byte() < 0x80 {
			return
		}
	}
	c.fail("a number is broken")
}

func (c *code) take(n uint32) []byte {
	if uint64(n) > uint64(len(c.b)) {
		c.fail("it ends early")
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *code) limits() {
	bounded := c.byte()&1 == 1
	c.uint()
	if bounded {
		c.uint()
	}
}

// instruction passes over one, with what belongs to it, and returns its first byte.
func (c *code) instruction() byte {
	op := c.byte()
	switch {
	case op == opBlock, op == opLoop, op == opIf, op == opBr, op == opBrIf, op == opCall, op == opI32Const, op == opI64Const,
		op >= opLocalGet && op <= opGlobalSet:
		c.leb()
	case op == opBrTable:
		for range c.uint() {
			if c.leb(); c.err != nil {
				break
			}
		}
		c.leb()
	case op == opIndirect, op >= opLoad && op <= opStoreEnd:
		c.leb()
		c.leb()
	case op == opMemorySize, op == opMemoryGrow:
		c.byte()
	case op == opF32Const:
		c.take(4)
	case op == opF64Const:
		c.take(8)
	case op == opMore:
		switch sub := c.uint(); {
		case sub <= 7: // saturating truncation
		case sub == 8 || sub == 10: // memory.init, memory.copy
			c.leb()
			c.leb()
		case sub == 9 || sub == 11: // data.drop, memory.fill
			c.leb()
		default:
			c.fail(fmt.Sprintf("instruction 0xfc %d is not known", sub))
		}
	case op <= 1, op == opElse, op == opEnd, op == opReturn, op == opDrop, op == opSelect, op >= opNumeric && op <= opNumericEnd:
	default:
		c.fail(fmt.Sprintf("instruction %#x is not known", op))
	}
	return op
}
