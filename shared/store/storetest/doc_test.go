package storetest

import "testing"

func TestBoxKeyHasTheRightSize(t *testing.T) { Box(t) }
