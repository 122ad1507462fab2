//go:build !linux

package direct

const flag = 0 // other systems have no such way, or one of their own

func refused(error) bool { return false }
