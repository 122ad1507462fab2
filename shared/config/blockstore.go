package config

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
)

// DefaultBlockStore is the id of the block store that the settings describe.
const DefaultBlockStore = "default"

// BlocksFolder is the folder of the default block store in the data folder.
const BlocksFolder = "blocks"

// BlockStore is the block store that the settings describe. It is complete: what the settings leave open has its default.
func (s *Server) BlockStore() model.BlockStore {
	b := model.BlockStore{
		ID: DefaultBlockStore, Type: s.blockStoreType(), Encrypt: s.BlockStoreEncrypt, AssignmentEnabled: true, LoadFactor: 1,
		MaxBytesPerSecond: s.BlockStoreBytes,
	}
	switch b.Type {
	case model.BlockStoreFile:
		b.Path = cmp.Or(s.BlockStorePath, filepath.Join(s.DataDir, BlocksFolder))
		if abs, err := filepath.Abs(b.Path); err == nil { // as it is kept in the database, where no working folder is known
			b.Path = abs
		}
	case model.BlockStoreS3:
		b.Bucket, b.Prefix, b.Endpoint, b.Region = s.BlockStoreBucket, s.BlockStorePrefix, s.BlockStoreEndpoint, s.BlockStoreRegion
		b.PathStyle, b.CAFile, b.MaxConnections = s.BlockStorePathway, s.BlockStoreCAFile, s.BlockStoreConns
		b.Auth = s.blockStoreAuth()
		if b.Auth == model.S3AuthKeys {
			b.AccessKey, b.SecretKey = s.BlockStoreAccess, s.BlockStoreSecret
		}
	case model.BlockStoreMongo:
		b.URI = model.Secret(s.ConnectionString(cmp.Or(s.BlockStoreURI, s.BackupMongoURI, s.MongoURI)))
		b.Database = s.BlockStoreDatabase
	case model.BlockStoreMemory:
	}
	return b
}

func (s *Server) blockStoreType() model.BlockStoreType {
	switch {
	case s.BlockStoreType != "":
		return model.BlockStoreType(s.BlockStoreType)
	case s.BlockStoreBucket != "":
		return model.BlockStoreS3
	case s.Embedded() || s.BlockStorePath != "":
		return model.BlockStoreFile
	}
	return model.BlockStoreMongo
}

func (s *Server) blockStoreAuth() string {
	switch {
	case s.BlockStoreAuth != "":
		return s.BlockStoreAuth
	case s.BlockStoreAccess != "":
		return model.S3AuthKeys
	}
	return model.S3AuthRole
}

func (s *Server) blockStoreFaults() []error {
	var faults []error
	fault := func(key, format string, a ...any) {
		faults = append(faults, fmt.Errorf("heartwood.blockstore."+key+": "+format, a...))
	}
	switch t := s.blockStoreType(); t {
	case model.BlockStoreFile:
	case model.BlockStoreS3:
		if s.BlockStoreBucket == "" {
			fault("s3BucketName", "S3 needs the name of a bucket")
		}
		if u, err := url.Parse(s.BlockStoreEndpoint); s.BlockStoreEndpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			fault("s3BucketEndpoint", "%q is not a URL such as https://s3.example.com:9000", s.BlockStoreEndpoint)
		}
		if s.BlockStorePrefix != "" && !strings.HasSuffix(s.BlockStorePrefix, "/") {
			fault("s3Prefix", "%q does not end in a slash", s.BlockStorePrefix)
		}
		switch auth := s.blockStoreAuth(); {
		case auth != model.S3AuthKeys && auth != model.S3AuthRole:
			fault("s3AuthMethod", "%q: use KEYS or IAM_ROLE", auth)
		case auth == model.S3AuthKeys && (s.BlockStoreAccess == "" || s.BlockStoreSecret == ""):
			fault("awsAccessKey", "KEYS needs it and heartwood.blockstore.awsSecretKey")
		}
	case model.BlockStoreMongo:
		if cmp.Or(s.BlockStoreURI, s.BackupMongoURI, s.MongoURI) == "" {
			fault("mongoUri", "MONGODB needs a connection string here or in mongo.mongoUri")
		}
		if u := s.BlockStoreURI; u != "" && !strings.HasPrefix(u, "mongodb://") && !strings.HasPrefix(u, "mongodb+srv://") {
			fault("mongoUri", "a connection string begins with mongodb:// or mongodb+srv://")
		}
	default:
		fault("type", "%q: use FILE_SYSTEM, S3 or MONGODB", t)
	}
	if s.BlockStoreConns < 1 || s.BlockStoreConns > 10_000 {
		fault("s3MaxConnections", "%d: use 1 to 10000", s.BlockStoreConns)
	}
	if s.BlockStoreBytes < 0 {
		fault("maxBytesPerSecond", "%d is negative: use 0 for no limit", s.BlockStoreBytes)
	}
	return faults
}
