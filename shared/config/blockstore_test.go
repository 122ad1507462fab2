package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
)

func TestBlockStoreOfTheSettings(t *testing.T) {
	const p = "heartwood.blockstore."
	s3 := map[string]string{p + "s3BucketName": "b", p + "s3BucketEndpoint": "http://127.0.0.1:9000", p + "pathStyleAccessEnabled": "true", p + "awsAccessKey": "id", p + "awsSecretKey": "hush"}
	base := model.BlockStore{ID: "default", AssignmentEnabled: true, LoadFactor: 1}
	with := func(change func(*model.BlockStore)) model.BlockStore {
		b := base
		change(&b)
		return b
	}
	for name, c := range map[string]struct {
		file map[string]string
		want model.BlockStore
	}{
		"the embedded database": {map[string]string{"heartwood.data": "/var/lib/heartwood"}, with(func(b *model.BlockStore) {
			b.Type, b.Path = model.BlockStoreFile, "/var/lib/heartwood/blocks"
		})},
		"a replica set": {map[string]string{"mongo.mongoUri": "mongodb://a,b,c/?replicaSet=r", "mongo.ssl": "true"}, with(func(b *model.BlockStore) {
			b.Type, b.URI, b.Database = model.BlockStoreMongo, "mongodb://a,b,c/?replicaSet=r&tls=true", "heartwood_blocks"
		})},
		"a replica set and a shared folder": {map[string]string{"mongo.mongoUri": "mongodb://a,b,c/?replicaSet=r", p + "path": "/mnt/blocks", p + "encrypt": "true"}, with(func(b *model.BlockStore) {
			b.Type, b.Path, b.Encrypt = model.BlockStoreFile, "/mnt/blocks", true
		})},
		"a bucket": {s3, with(func(b *model.BlockStore) {
			b.Type, b.Bucket, b.Endpoint, b.Region, b.PathStyle = model.BlockStoreS3, "b", "http://127.0.0.1:9000", "us-east-1", true
			b.Auth, b.AccessKey, b.SecretKey, b.MaxConnections = model.S3AuthKeys, "id", "hush", 50
		})},
		"a bucket by role": {map[string]string{p + "s3BucketName": "b", p + "s3Region": "eu-central-1"}, with(func(b *model.BlockStore) {
			b.Type, b.Bucket, b.Region, b.Auth, b.MaxConnections = model.BlockStoreS3, "b", "eu-central-1", model.S3AuthRole, 50
		})},
	} {
		l := load(t, Sources{File: c.file})
		if diff := cmp.Diff(c.want, l.Server.BlockStore()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFaultsOfTheBlockStore(t *testing.T) {
	const p = "heartwood.blockstore."
	for fault, file := range map[string]map[string]string{
		"type: \"TAPE\": use":                      {p + "type": "TAPE"},
		"s3BucketName: S3 needs":                   {p + "type": "S3"},
		"awsAccessKey: KEYS needs":                 {p + "s3BucketName": "b", p + "awsAccessKey": "id"},
		"s3AuthMethod: \"GUESS\": use KEYS":        {p + "s3BucketName": "b", p + "s3AuthMethod": "GUESS"},
		"s3BucketEndpoint: \"nowhere\" is not":     {p + "s3BucketName": "b", p + "s3BucketEndpoint": "nowhere"},
		"s3Prefix: \"site\" does not end":          {p + "s3BucketName": "b", p + "s3Prefix": "site"},
		"mongoUri: MONGODB needs":                  {p + "type": "MONGODB"},
		"mongoUri: a connection string begins":     {p + "type": "MONGODB", p + "mongoUri": "http://x"},
		"s3MaxConnections: 0: use":                 {p + "s3MaxConnections": "0"},
		"maxBytesPerSecond: -1 is negative: use 0": {p + "maxBytesPerSecond": "-1"},
	} {
		_, err := Load(Sources{File: file})
		if err == nil || !strings.Contains(err.Error(), p+fault) {
			t.Errorf("%v: %v, want %q", file, err, fault)
		}
	}
}
