"""What clients keep: ADDRESS NAME add CLIENT adds the numbers that it reads, one a line, and goes on when a connection is lost;
ADDRESS NAME work CLIENT HOW-MANY waits until so many are kept. It prints each number."""
import sys
import time

import redis

address, name, what, client, *how_many = sys.argv[1:]
if client == "redis-py":
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    host, port = address.split(":")
    store = redis.Redis(host, int(port), retry=Retry(ConstantBackoff(0.02), 1000), retry_on_error=[redis.ConnectionError])

    def put(n):
        store.zadd(name, {n: 1})

    def has(n):
        return store.zscore(name, n) is not None
else:
    import django
    from django.conf import settings

    settings.configure(CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://%s/1" % address,
                                           "KEY_PREFIX": name}},
                       SESSION_ENGINE="django.contrib.sessions.backends.cache", INSTALLED_APPS=["django.contrib.sessions"])
    django.setup()
    from django.contrib.sessions.backends.cache import SessionStore
    from django.core.cache import cache

    if client == "django-redis":
        def put(n):
            cache.set("n%d" % n, n, timeout=600)

        def has(n):
            return cache.get("n%d" % n) == n
    else:
        def put(n):
            session = SessionStore()
            session["user"] = n
            session.save()
            cache.set("session of %d" % n, session.session_key, timeout=600)

        def has(n):
            return SessionStore(cache.get("session of %d" % n)).get("user") == n


def eventually(what, act):
    end = time.time() + 30
    while True:
        try:
            if act() is not False:
                return
        except redis.ConnectionError:
            pass
        if time.time() > end:
            raise SystemExit("did not come about: " + what)
        time.sleep(0.02)


for n in range(int(how_many[0])) if what == "work" else map(int, sys.stdin):
    if what == "work":
        eventually("%s has %d" % (client, n), lambda: has(n))
    else:
        eventually("%s puts %d" % (client, n), lambda: put(n))
    print(n, flush=True)
