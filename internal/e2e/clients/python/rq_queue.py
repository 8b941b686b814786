"""RQ as a queue alone: ADDRESS QUEUE add FROM TO, or ADDRESS QUEUE work HOW-MANY. It prints what it has done, a number a line."""
import sys
import time

import redis
from rq import Queue, SimpleWorker
from rq.registry import FinishedJobRegistry

address, name, what, *numbers = sys.argv[1:]
host, port = address.split(":")
connection = redis.Redis(host, int(port))
queue = Queue(name, connection=connection)
if what == "add":
    for n in range(int(numbers[0]), int(numbers[1])):
        queue.enqueue("builtins.int", n)
        print(n)
else:
    done = FinishedJobRegistry(queue=queue)
    end = time.time() + 60
    while done.count < int(numbers[0]) and time.time() < end:
        SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    for job_id in done.get_job_ids():
        print(queue.fetch_job(job_id).result)
