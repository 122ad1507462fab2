#!/bin/sh
# Builds the image without any registry: FROM scratch, with a static binary built on this machine (or given) and its CA
# certificates. Usage: build.sh TAG [BINARY] [docker build options...]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
tag=${1:?usage: build.sh TAG [BINARY] [docker build options...]}
shift
binary=${1:-}
[ $# -gt 0 ] && shift
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
if [ -n "$binary" ]; then
	cp "$binary" "$context/heartwood"
else
	(cd "$root" && CGO_ENABLED=0 GOOS=linux go build -buildvcs=auto -trimpath -ldflags='-s -w' -o "$context/heartwood" ./local/heartwood)
fi
for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
	[ -n "$bundle" ] && [ -s "$bundle" ] && break
	bundle=
done
[ -n "$bundle" ] || { echo "no CA certificates here: apt-get install ca-certificates, or name a bundle in SSL_CERT_FILE" >&2; exit 1; }
cp "$bundle" "$context/ca-certificates.crt"
printf 'heartwood:x:65532:65532::/data:/\n' >"$context/passwd"
printf 'heartwood:x:65532:\n' >"$context/group"
mkdir "$context/data" "$context/tmp"
touch "$context/data/.keep" "$context/tmp/.keep"
chmod 755 "$context/heartwood" "$context/data" "$context/tmp"
cp "$root/infra/docker/Dockerfile.scratch" "$context/Dockerfile"
DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} docker build -q -t "$tag" "$@" "$context"
