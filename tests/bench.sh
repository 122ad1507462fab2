#!/bin/sh
# The measured claims of docs/benchmarks.md, one section each: BENCH="engine series" picks some, empty runs all but the ten
# minute soak (that is `make soak`). Figures depend on the machine: run it on a quiet one.
set -eu
cd "$(dirname "$0")/.."
want="${BENCH:-engine series catalog ingestion store app alerts sandbox agent binary lambda elections load snapshot oplog memory}"

section() { case " $want " in *" $1 "*) echo; echo "== $1: $2" ;; *) return 1 ;; esac; }

section engine "document engine on SQLite: batches of a ping, reads, scans" &&
	go test -run '^$' -bench . -benchtime 2s ./shared/docstore/sqlitedoc
section catalog "raw numbers out of a ping's replies" &&
	go test -run '^$' -bench . ./shared/catalog
section series "rows, chunks, roll-ups: time a ping, bytes a sample; a day of ten charts" &&
	go test -run '^$' -bench . ./shared/store/series
section store "10,000 hosts and their states" &&
	go test -run '^$' -bench . ./shared/store/inventory
section ingestion "a ping's whole way through ingestion" &&
	go test -run '^$' -bench . ./functions/ingestion/...
section app "pages of 10,000 hosts" &&
	go test -run '^$' -bench . ./functions/app/...
section alerts "an evaluation of 10,000 hosts under 30 configurations" &&
	go test -run '^$' -bench Evaluate -benchtime 10x ./functions/alerts
section sandbox "requests natively and as WebAssembly guests" &&
	go test -run '^$' -bench . -benchtime 200x ./tests/parity
section agent "an agent with 100 hosts for three minutes: share of a core, memory" &&
	HEARTWOOD_BENCH_AGENT=100:3 HEARTWOOD_BENCH_BINARY="$PWD/bin/heartwood" go test -count=1 -run TestFootprint -v ./daemon/monitoragent
section binary "size of the binary, time from start to the first healthy answer on existing data" && {
	ls -l bin/heartwood | awk '{printf "binary %.1f MB\n", $5/1000000}'
	go run ./tests/load --server ./bin/heartwood --start-only
}
section lambda "instances on Lambda: process start to first answer (median), size of the binaries" &&
	HEARTWOOD_BENCH_LAMBDA=15 go test -count=1 -run TestColdStart -v ./tests/lambda
section elections "500 hosts through a simulated replica set with elections: a correctness run, nothing may be lost" &&
	HEARTWOOD_CHAOS_HOSTS=500 HEARTWOOD_CHAOS_ELECTIONS=12 go test -count=1 -v -run TestElectionsUnderLoad ./tests/chaos
section load "2,000 hosts, two minutes, then pages" &&
	go run ./tests/load --server ./bin/heartwood --hosts 2000 --minutes 2
section oplog "oplog: tailed and stored, applied to write models and into a head, beside plain inserts; a full read; block stores" && {
	go test -run '^$' -bench . ./shared/oplog
	go test -run '^$' -bench Tail -benchtime 1200000x ./daemon/backupagent/tail
	go test -run '^$' -bench Seed -benchtime 3x ./daemon/backupagent/seed
	go test -run '^$' -bench . -benchtime 2x ./daemon/backupd/apply
	go test -run '^$' -bench . ./shared/blockstore/fileblock ./shared/blockstore/sealblock
}
section snapshot "snapshots and restores of a 4 GB head beside restic's (10 GB of disk; needs restic and the recorded heads)" && {
	go run ./tests/snapshot
	echo; echo "every copy differs, 2 GB"
	go run ./tests/snapshot --distinct --size 2048 --rounds 1
}
section memory "memory of a backup agent and a backup daemon that run: 256 MB of documents, 4 GB of files (minutes; 10 GB of disk; recorded heads)" &&
	HEARTWOOD_BENCH_MEMORY=256 go test -count=1 -v -run '^TestMemory$' -timeout 30m ./tests/backup
:
