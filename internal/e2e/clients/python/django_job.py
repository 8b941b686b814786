"""django-redis: a cache with times, versions, patterns, locks; sessions over it."""
import sys
import time

import django
from django.conf import settings

settings.configure(
    CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://%s/1" % sys.argv[1],
                        "KEY_PREFIX": "job-dj-%d" % time.time_ns()}},
    SESSION_ENGINE="django.contrib.sessions.backends.cache", INSTALLED_APPS=["django.contrib.sessions"])
django.setup()
from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import cache

cache.set("a", {"n": 1}, timeout=60)
assert cache.get("a") == {"n": 1} and cache.ttl("a") > 50
assert cache.add("a", 2) is False and cache.get_or_set("b", lambda: 7, 60) == 7
cache.set("n", 1)
assert cache.incr("n", 4) == 5 and cache.incr_version("n") == 2
cache.set_many({"x%d" % i: i for i in range(20)}, timeout=60)
assert len(cache.get_many(["x%d" % i for i in range(25)])) == 20 and len(cache.keys("x*")) == 20
assert cache.delete_pattern("x*") == 20 and cache.touch("a", 5)
with cache.lock("l", timeout=5):
    assert not cache.lock("l", timeout=5).acquire(blocking=False)
cache.set("short", 1, timeout=0.2)
end = time.time() + 10
while cache.get("short") is not None and time.time() < end:
    time.sleep(0.02)
assert cache.get("short") is None
s = SessionStore()
s["user"] = 42
s.save()
assert SessionStore(s.session_key)["user"] == 42
s.delete()
assert SessionStore(s.session_key).get("user") is None
cache.clear()
