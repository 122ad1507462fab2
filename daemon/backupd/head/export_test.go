package head

// WhenStarted has f called between the start of a mongod and the note of its process.
func (o *Options) WhenStarted(f func()) { o.started = f }
