"""redis-py: pipelines, a lock, WATCH, scripts, messages, scans, streams."""
import sys
import threading
import time

import redis

host, port = sys.argv[1].split(":")
r = redis.Redis(host, int(port), decode_responses=True)
p = "job-py-%d:" % time.time_ns()

with r.pipeline() as pipe:
    assert pipe.set(p + "a", 1, ex=100).incr(p + "a").ttl(p + "a").execute()[1] == 2

with r.lock(p + "lock", timeout=10, blocking_timeout=5) as lock:
    assert not r.lock(p + "lock", timeout=10).acquire(blocking=False)
    lock.extend(5)
assert r.lock(p + "lock", timeout=10).acquire(blocking=False)

r.set(p + "n", 0)


def add(times):
    own = redis.Redis(host, int(port))
    for _ in range(times):
        own.transaction(lambda pipe: change(pipe), p + "n")


def change(pipe):
    n = int(pipe.get(p + "n"))
    pipe.multi()
    pipe.set(p + "n", n + 1)


threads = [threading.Thread(target=add, args=(25,)) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert r.get(p + "n") == "100", r.get(p + "n")

script = r.register_script("return redis.call('HSET', KEYS[1], unpack(ARGV))")
assert script(keys=[p + "h"], args=["f", 1, "g", 2]) == 2
assert r.hgetall(p + "h") == {"f": "1", "g": "2"}

r.rpush(p + "l", *range(10))
assert r.lrange(p + "l", 2, 4) == ["2", "3", "4"] and r.blpop(p + "l", 1) == (p + "l", "0")
r.zadd(p + "z", {"m%d" % i: i for i in range(100)})
assert r.zrangebyscore(p + "z", 10, 12, withscores=True) == [("m10", 10.0), ("m11", 11.0), ("m12", 12.0)]
assert sum(1 for _ in r.zscan_iter(p + "z", count=10)) == 100
assert sorted(r.scan_iter(p + "?", count=5)) == sorted(p + k for k in "anhlz")

sub = r.pubsub(ignore_subscribe_messages=True)
sub.subscribe(p + "news")
sub.get_message(timeout=5)
while not r.publish(p + "news", "hello"):
    pass
assert sub.get_message(timeout=5)["data"] == "hello"

first = r.xadd(p + "x", {"f": "v"})
r.xgroup_create(p + "x", "g", id="0")
assert r.xreadgroup("g", "c", {p + "x": ">"}) == [[p + "x", [(first, {"f": "v"})]]]
assert r.xpending(p + "x", "g")["pending"] == 1 and r.xack(p + "x", "g", first) == 1
r.pfadd(p + "hll", *range(1000))
assert 950 < r.pfcount(p + "hll") < 1050
r.setbit(p + "bits", 100, 1)
assert r.bitcount(p + "bits") == 1 and r.bitpos(p + "bits", 1) == 100
r.geoadd(p + "geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"))
assert r.geosearch(p + "geo", longitude=15, latitude=37, radius=100, unit="km") == ["Catania"]
