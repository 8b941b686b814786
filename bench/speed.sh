#!/usr/bin/env bash
# Measures how fast peerd is, beside redis-server with appendonly yes and bare Badger, and prints a table
# of figures with their bounds. Everything runs on loopback and ends with it.
#
#     bench/speed.sh [--quick] [--peerd FILE] [--profile DIR] [ROW...]
#
# --help lists the rows. Needs Go, and as root installs redis-server and redis-tools if they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
[ -e /usr/bin/redis-server ] || missing+=(redis-server)
[ -e /usr/bin/redis-benchmark ] || missing+=(redis-tools)
if ((${#missing[@]})); then
	echo "installing ${missing[*]}" >&2
	{ apt-get -qq update &&
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"; } \
		>&2 || echo "the rows beside redis-server cannot be measured" >&2
fi

CGO_ENABLED=0 go build -o bin/speed ./bench/speed
exec bin/speed "$@"
