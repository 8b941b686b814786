"""Celery: a worker with Redis as its broker and store of results: tasks, a chord, a task at a later time, a retry."""
import os
import subprocess
import sys
import time

from celery import Celery, chord

url = os.environ.get("BROKER") or "redis://%s/0" % sys.argv[1]
app = Celery("celery_job", broker=url, backend=url)
app.conf.update(task_default_queue="job-celery-%s" % os.environ.get("JOB", os.getpid()), result_expires=60,
                broker_connection_retry_on_startup=True)


@app.task(name="add")
def add(x, y):
    return x + y


@app.task(name="total")
def total(numbers):
    return sum(numbers)


@app.task(name="flaky", bind=True, max_retries=3)
def flaky(self):
    if self.request.retries < 1:
        raise self.retry(countdown=0.1)
    return self.request.retries


if __name__ == "__main__":
    os.environ.update(BROKER=url, JOB=str(os.getpid()))
    app.conf.task_default_queue = "job-celery-%d" % os.getpid()
    worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_job", "worker", "-c", "2", "-P", "threads",
                               "-l", "WARNING", "-Q", app.conf.task_default_queue, "--without-mingle"],
                              cwd=os.path.dirname(os.path.abspath(__file__)))
    try:
        assert add.delay(2, 3).get(timeout=60) == 5
        assert chord([add.s(i, i) for i in range(5)])(total.s()).get(timeout=60) == 20
        began = time.time()
        assert add.apply_async((1, 1), countdown=1).get(timeout=60) == 2 and time.time() - began >= 1
        assert flaky.delay().get(timeout=60) == 1
        assert app.control.ping(timeout=5), "the worker does not answer"
    finally:
        worker.terminate()
        worker.wait(30)
