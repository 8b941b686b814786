#!/usr/bin/env bash
# Redis' own tests, against peerd: fetches the source of Redis 7.0, and runs TestRedisSuite.
#
#   bash api/resp/suite.sh             all units
#   bash api/resp/suite.sh unit/multi  only these
#
# It needs Go, curl and tclsh. The source is kept in the user's cache.
set -euo pipefail
cd "$(dirname "$0")"

version=7.0.15
sum=4b1dc4ee6d622a09fff9c6777191209750fb5e5a725ef78ea012d6eef4c22982
address=https://deb.debian.org/debian/pool/main/r/redis/redis_$version.orig.tar.gz # with Debian's package
cache=${XDG_CACHE_HOME:-$HOME/.cache}/peerd
source=$cache/redis-$version

if [ ! -d "$source" ]; then
	mkdir -p "$cache"
	curl -fsSL --retry 3 -o "$source.tar.gz" "$address"
	echo "$sum  $source.tar.gz" | sha256sum --check --quiet
	tar -xzf "$source.tar.gz" -C "$cache"
	rm "$source.tar.gz"
fi
# Its second half is with FUNCTION, which is for later: see docs/redis-differences.md.
sed -i 's/^foreach is_eval {0 1} {/foreach is_eval {1} {/' "$source/tests/unit/scripting.tcl"
units=$(IFS=, && echo "$*")
built=$(mktemp -d)
trap 'rm -r "$built"' EXIT
go build -o "$built/peerd" ../../cmd/peerd
go test . -count=1 -timeout 60m -v -run '^TestRedisSuite$' -suite "$source" -peerd "$built/peerd" ${units:+-units "$units"}
