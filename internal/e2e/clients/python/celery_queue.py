"""Celery as a queue alone: ADDRESS QUEUE add, the numbers of whose jobs it reads, or ADDRESS QUEUE work HOW-MANY. It prints what
it has done, a number a line, each as often as it was done."""
import os
import subprocess
import sys
import time

from celery import Celery
from kombu.exceptions import OperationalError

url = os.environ.get("BROKER") or "redis://%s/0" % sys.argv[1]
app = Celery("celery_queue", broker=url)
app.conf.update(task_ignore_result=True, worker_redirect_stdouts=False, broker_connection_retry_on_startup=True)


@app.task(name="job")
def job(n):
    os.write(1, b"%d\n" % n)


if __name__ == "__main__":
    name, what, *numbers = sys.argv[2:]
    if what == "add":
        for n in map(int, sys.stdin):
            end = time.time() + 60
            while True:
                try:
                    job.apply_async((n,), queue=name, retry=False)
                    break
                except OperationalError:
                    assert time.time() < end
                    time.sleep(0.02)
            print(n, flush=True)
    else:
        worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_queue", "-q", "worker", "-c", "2", "-P", "threads",
                                   "-l", "CRITICAL", "-Q", name, "--without-mingle", "--without-gossip", "--without-heartbeat"],
                                  cwd=os.path.dirname(os.path.abspath(__file__)), env=dict(os.environ, BROKER=url),
                                  stdout=subprocess.PIPE, text=True)
        done = set()
        for line in worker.stdout:
            if not line.strip().isdigit():  # its banner
                continue
            print(line, end="", flush=True)
            done.add(line)
            if len(done) == int(numbers[0]):
                worker.terminate()
        worker.wait()
