#!/usr/bin/env bash
# Compares peerd with Debian's redis-server (appendonly yes) under redis-benchmark, on loopback, in one run:
# rounds alternate between the two, and the ratio of the medians is printed.
#
#     bench/redis.sh [requests] [rounds]
#
# Needs redis-server and redis-tools (apt-get install redis-server redis-tools).
set -euo pipefail
cd "$(dirname "$0")/.."
requests=${1:-100000}
rounds=${2:-3}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

CGO_ENABLED=0 go build -o "$work/peerd" ./cmd/peerd
"$work/peerd" run --dir "$work/data" --gossip 127.0.0.1:0 --p2p 127.0.0.1:0 --resp 127.0.0.1:16401 \
    --http 127.0.0.1:0 --log-level error >"$work/peerd.log" 2>&1 &
redis-server --port 16402 --bind 127.0.0.1 --dir "$work" --appendonly yes --save '' \
    >"$work/redis.log" 2>&1 &
for port in 16401 16402; do
    until redis-cli -p "$port" ping >/dev/null 2>&1; do sleep 0.1; done
done

# measure PORT PIPELINE TEST prints requests a second.
measure() {
    redis-benchmark -p "$1" -c 50 -P "$2" -n "$((requests * ($2 > 1 ? 4 : 1)))" -t "$3" -r 10000 -d 64 --csv |
        awk -F'"' 'NR > 1 { print $4; exit }'
}
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

printf '%-6s %-4s %12s %12s %8s\n' command -P peerd redis ratio
for pipeline in 1 16; do
    for command in get set incr sadd; do
        : >"$work/a"; : >"$work/b"
        for _ in $(seq "$rounds"); do
            measure 16401 "$pipeline" "$command" >>"$work/a"
            measure 16402 "$pipeline" "$command" >>"$work/b"
        done
        a=$(median <"$work/a"); b=$(median <"$work/b")
        awk -v c="$command" -v p="$pipeline" -v a="$a" -v b="$b" \
            'BEGIN { printf "%-6s %-4s %12.0f %12.0f %8.2f\n", c, p, a, b, a / b }'
    done
done
