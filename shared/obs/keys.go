package obs

// Names of log attributes. Every slog call in the project takes its keys from here, so that logs can be searched.
const (
	KeyComponent = "component"
	KeyHost      = "host"   // host:port of a monitored process
	KeyHostID    = "hostId" // model.HostID
	KeyGroup     = "group"
	KeyCluster   = "cluster"
	KeyRS        = "rs"
	KeyAgent     = "agent"
	KeyAddr      = "addr" // an address of ours or a caller's
	KeyErr       = "err"
	KeyReason    = "reason"
	KeyCommand   = "command"
	KeyCode      = "code"
	KeyCount     = "count"
	KeyDropped   = "dropped"
	KeyBytes     = "bytes"
	KeyTook      = "took"
	KeyRequest   = "request"
	KeyMethod    = "method"
	KeyPath      = "path"
	KeyStatus    = "status"
	KeyUser      = "user"
	KeyVersion   = "version"
	KeyFile      = "file"
	KeyURL       = "url"
	KeyPass      = "pass" // the name of a periodic duty
	KeyHint      = "hint"
	KeyKey       = "key" // the name of a setting
	KeyPort      = "port"
	KeyState     = "state"
	KeyFrom      = "from"
	KeyTo        = "to"
	KeyCollect   = "collection"
	KeyInstance  = "instance"
)
