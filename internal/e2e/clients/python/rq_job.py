"""RQ: jobs, one that fails and goes to its registry, one at a later time, dependencies."""
import sys
import time
from datetime import timedelta

import redis
from rq import Queue, SimpleWorker
from rq.registry import FailedJobRegistry, ScheduledJobRegistry

host, port = sys.argv[1].split(":")
connection = redis.Redis(host, int(port))
queue = Queue("job-rq-%d" % time.time_ns(), connection=connection)

first = queue.enqueue("operator.add", 2, 3)
second = queue.enqueue("operator.mul", 4, 5, depends_on=first)
broken = queue.enqueue("operator.truediv", 1, 0)
later = queue.enqueue_in(timedelta(seconds=1), "operator.sub", 9, 1)
assert later.id in ScheduledJobRegistry(queue=queue)
worker = SimpleWorker([queue], connection=connection)
worker.work(burst=True, with_scheduler=False, logging_level="ERROR")
assert first.refresh() is None and first.result == 5
second.refresh()
assert second.result == 20, second.get_status()
assert broken.id in FailedJobRegistry(queue=queue)
from rq.scheduler import RQScheduler

scheduler = RQScheduler([queue], connection=connection)
scheduler.acquire_locks()
end = time.time() + 20
while later.id in ScheduledJobRegistry(queue=queue) and time.time() < end:
    scheduler.prepare_registries([queue.name])
    scheduler.enqueue_scheduled_jobs()
    time.sleep(0.1)
worker.work(burst=True, logging_level="ERROR")
later.refresh()
assert later.result == 8
