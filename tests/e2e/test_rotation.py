"""Rotation: by logrotate in its usual modes, and by hand at the worst moments. Each record stands once over all files together."""
import glob
import gzip
import os
import random
import shutil
import signal
import threading
import time

import pytest

from gate import DOWN, Gate
from pipeline import read_lines, wait_until
from test_reconcile import full_disk, line, not_once
from test_worker import drain, fill

LOGROTATE = shutil.which("logrotate", path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def all_lines(worker):
    """Of the log and all that it was before."""
    found = []
    for path in glob.glob(glob.escape(worker.output) + "*"):
        if path.endswith(".gz"):
            with gzip.open(path) as f:
                found += f.read().split(b"\n")[:-1]
        elif not path.startswith(worker.state):
            found += read_lines(path)
    return found


def once(redis, worker, count):
    drain(redis, 60)
    assert not_once(all_lines(worker), map(line, range(count))) == {}


def rename_and_hup(worker, to):
    os.rename(worker.output, to)
    worker.signal(signal.SIGHUP)


# ---- At the worst moments ----

def test_connection_breaks_while_a_rotation_waits_for_a_commit(box, redis):
    """The commit took place, and its answer never came. Before it turned to the new file, the worker took the lines out of the old
    one: they were lost."""
    gate = Gate(redis.socket)
    worker = box.worker(gate.url)
    fill(redis, 0, 10)
    drain(redis)
    worker.freeze()
    before = gate.passed[DOWN]
    fill(redis, 10, 20)
    wait_until(lambda: gate.passed[DOWN] > before, "the read to be answered")
    gate.shut(DOWN)
    worker.signal(signal.SIGCONT)
    wait_until(lambda: redis.length() < 20, "the commit")
    rename_and_hup(worker, worker.output + ".1")
    gate.cut()
    once(redis, worker, 30)
    gate.close()


def test_new_file_while_the_disk_is_full(box, redis):
    """The part of the batch that the old file has moves with the batch."""
    worker = box.worker(redis)
    fill(redis, 0, 100)
    drain(redis)
    full_disk(worker, 5 * len(line(100)) + 20)
    fill(redis, 100, 60)
    worker.wait_output("File too large")
    rename_and_hup(worker, worker.output + ".1")
    once(redis, worker, 160)
    assert read_lines(worker.output + ".1")[:100] == [line(n)[:-1] for n in range(100)]


def test_kill_in_a_batch_and_two_rotations_before_the_next_start(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 100)
    drain(redis)
    full_disk(worker, 5 * len(line(100)) + 20)
    fill(redis, 100, 200)
    worker.wait_output("File too large")
    worker.kill()
    os.rename(worker.output, worker.output + ".2")
    box.write("app.log.1", b"")
    worker.start()
    once(redis, worker, 300)


# ---- logrotate ----

class Load:
    """Numbered records without a pause, from a thread of its own."""

    def __init__(self, redis, step=20):
        self.redis, self.step, self.count, self.error = redis, step, 0, None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ending.set()
        self.thread.join()
        assert self.error is None, self.error

    def _run(self):
        try:
            while not self.ending.wait(0.002):
                fill(self.redis, self.count, self.step)
                self.count += self.step
        except Exception as e:  # in a thread of its own: kept for the test to see
            self.error = e

    def more(self, records=500):
        seen = self.count
        wait_until(lambda: self.count > seen + records, "more records")


def logrotate(box, worker, directives, *args):
    """Runs the real program with a configuration and a state file of its own."""
    assert LOGROTATE, "logrotate is missing: make deps installs it"
    config = box.write("logrotate.conf", f"{worker.output} {{\n{directives}\nmissingok\nrotate 1000\n}}\n".encode())
    os.chmod(config, 0o644)
    p = box.run("logrotate", [LOGROTATE, "--state", box.path("logrotate.status"), *args, config])
    assert p.popen.returncode == 0, p.stderr()


def hup(worker):
    return f"postrotate\nkill -HUP {worker.pid}\nendscript\n"


def rotated(worker):
    """How many files there are beside the log and its state."""
    return len(glob.glob(glob.escape(worker.output) + "[-.]*[0-9z]"))


@pytest.mark.parametrize("mode", ["create 0640", "nocreate", "create 0640\ndateext\ndateformat -%Y%m%d-%s",
                                  "create 0640\ncompress\ndelaycompress", "nocreate\ncompress\ndelaycompress\nsharedscripts"],
                         ids=["create", "nocreate", "dateext", "delaycompress", "sharedscripts"])
def test_logrotate_under_load(box, redis, mode):
    """Every other time the worker is killed right behind it."""
    worker = box.worker(redis)
    with Load(redis) as load:
        for i in range(6):
            load.more()
            last = int(time.time())
            logrotate(box, worker, mode + "\n" + hup(worker), "--force")
            assert rotated(worker) == i + 1
            if i % 2:
                worker.kill()
                worker.start()
            if "dateext" in mode:
                wait_until(lambda: int(time.time()) > last, "another second, which is another name")
    once(redis, worker, load.count)


def test_logrotate_by_size(box, redis):
    """As a timer calls it: it rotates when there is enough."""
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    logrotate(box, worker, "size 10k\ncreate 0640\n" + hup(worker))
    assert rotated(worker) == 0
    for i in range(1, 5):
        fill(redis, 10 + 200 * (i - 1), 200)
        drain(redis)
        logrotate(box, worker, "size 10k\ncreate 0640\n" + hup(worker))
        assert rotated(worker) == i
        wait_until(lambda: os.path.exists(worker.output), "a new log")
    once(redis, worker, 810)


def test_logrotate_with_copytruncate(box, redis):
    """What is written between the copy and the cut is lost, to every program. When nothing is, each record stands once."""
    worker = box.worker(redis)
    for i in range(6):
        fill(redis, i * 300, 300)
        drain(redis)
        logrotate(box, worker, "copytruncate", "--force")
        assert os.path.getsize(worker.output) == 0 and rotated(worker) == i + 1
        if i % 2:
            worker.kill()
            worker.start()
    fill(redis, 1800, 300)
    once(redis, worker, 2100)
    assert b"\0" not in b"".join(worker.lines())


def test_500_rotations_with_kills(box):
    """Under load; the worker is killed before, behind, and without the SIGHUP."""
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    chance = random.Random(9)
    with Load(redis) as load:
        for i in range(500):
            wait_until(lambda: os.path.exists(worker.output), "a log")
            os.rename(worker.output, f"{worker.output}.{i}")
            fate = chance.random()
            if fate < 0.9:
                worker.signal(signal.SIGHUP)
            if fate > 0.8:
                worker.kill()
                worker.start()
    once(redis, worker, load.count)
    assert rotated(worker) == 500
