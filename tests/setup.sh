#!/bin/sh
# Installs the Debian packages that some tests drive, where this user may; otherwise those tests skip and name the command.
set -eu
missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-dejavu-core"
PATH="$PATH:/usr/sbin" # where Debian keeps both
command -v haproxy >/dev/null 2>&1 || missing="$missing haproxy"
command -v nginx >/dev/null 2>&1 || missing="$missing nginx-light"
command -v snmptranslate >/dev/null 2>&1 || missing="$missing snmp"
command -v snmptrapd >/dev/null 2>&1 || missing="$missing snmptrapd"
command -v docker >/dev/null 2>&1 || missing="$missing docker.io"
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null 2>&1 || missing="$missing docker-compose"
if [ -z "$missing" ]; then
	:
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing for the tests:$missing"
	apt-get update -qq >/dev/null
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
	echo "some tests will be skipped; to enable them: sudo apt-get install$missing"
fi
# The container engine, where nothing has started it: machines without an init, continuous integration in a container.
if [ "$(id -u)" = 0 ] && command -v dockerd >/dev/null 2>&1 && ! docker info >/dev/null 2>&1; then
	echo "starting the container engine for the tests"
	service docker start >/dev/null 2>&1 || true
	for try in 1 2 3 4 5; do
		docker info >/dev/null 2>&1 && break
		[ "$try" = 3 ] && nohup dockerd >/tmp/dockerd.log 2>&1 &
		sleep 3
	done
	docker info >/dev/null 2>&1 || echo "the container engine does not start (/tmp/dockerd.log): tests with containers will be skipped"
fi
