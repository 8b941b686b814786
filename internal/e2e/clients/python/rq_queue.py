"""RQ as a queue alone: ADDRESS QUEUE add, the numbers of whose jobs it reads, or ADDRESS QUEUE work HOW-MANY. It prints what it
has done, a number a line, each as often as it was done."""
import sys
import time

import redis
from rq import Queue, SimpleWorker

done = set()


def job(n):
    print(n, flush=True)
    sys.modules["__main__"].done.add(n)


if __name__ == "__main__":
    address, name, what, *numbers = sys.argv[1:]
    host, port = address.split(":")
    connection = redis.Redis(host, int(port))
    queue = Queue(name, connection=connection)
    if what == "work":
        while len(done) < int(numbers[0]):
            try:
                SimpleWorker([queue], connection=connection).work(burst=True, logging_level="CRITICAL")
            except redis.ConnectionError:
                pass  # the next worker makes one anew
            time.sleep(0.02)
    else:
        for n in map(int, sys.stdin):
            end = time.time() + 60
            while True:
                try:
                    queue.enqueue("rq_queue.job", n)
                    break
                except redis.ConnectionError:
                    assert time.time() < end
                    time.sleep(0.02)
            print(n, flush=True)
