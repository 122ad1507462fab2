package model

// BlockStoreType is the kind of storage behind a block store.
type BlockStoreType string

// The kinds of block stores.
const (
	BlockStoreFile   BlockStoreType = "FILE_SYSTEM" // a folder; shared by all servers where there are several
	BlockStoreS3     BlockStoreType = "S3"          // a bucket of Amazon S3 or of a server that speaks its protocol
	BlockStoreMongo  BlockStoreType = "MONGODB"     // a database of a replica set
	BlockStoreMemory BlockStoreType = "MEMORY"      // gone with the process: demos and tests
)

// How a server signs its requests to S3.
const (
	S3AuthKeys = "KEYS"     // with AccessKey and SecretKey
	S3AuthRole = "IAM_ROLE" // as the environment says: variables, shared files, the role of the machine, container or function
)

// BlockStore describes a place for backup data: which storage, how to reach it, and which jobs may be assigned to it.
// Field names follow the Public API's admin resources of snapshot stores.
type BlockStore struct {
	ID   string
	Type BlockStoreType

	Path string // FILE_SYSTEM: absolute path of the folder

	Bucket    string // S3
	Prefix    string // S3: keys begin with it, "" or ending in "/"; several sites may share a bucket
	Endpoint  string // S3: URL of the service, "" for Amazon's own
	Region    string // S3: "" is us-east-1
	PathStyle bool   // S3: the bucket in the path instead of the host name, as most servers that are not Amazon's want
	Auth      string // S3: S3AuthKeys or S3AuthRole; "" is S3AuthKeys when AccessKey is set, else S3AuthRole
	AccessKey string
	SecretKey Secret
	CAFile    string // S3: PEM file of further authorities to trust for the endpoint, "" for none

	URI      Secret // MONGODB: connection string
	Database string // MONGODB: "" is the database of the connection string, or heartwood_blocks

	Encrypt bool // seal objects with AES-256-GCM under a key from gen.key

	AssignmentEnabled bool     // new jobs may be assigned to it
	Labels            []string // a job with labels goes to stores that have all of them
	LoadFactor        int      // maintenance jobs at once, and its share of new jobs; at least 1
	MaxConnections    int      // requests at once, 0 for the default of the storage
	MaxBytesPerSecond int64    // reads and writes together, 0 is without limit
}
