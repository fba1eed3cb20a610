"""What a backlog costs: logworker's memory is bounded by bytes, whatever the entries weigh (doc/protocol.md, section 3.3)."""
import re

import pytest

from pipeline import SANITIZED, Worker, read_text
from test_reconcile import known
from test_worker import STAMP, add, drain

MIB = 1 << 20
BOUND = 32 * MIB  # and the largest entry
PATTERN = re.compile(rb'^\{"level":"warn","message":"(\d+) x*","service":"test","timestamp":"[-0-9T:.]+Z"\}$')


def new(box, redis):
    return Worker(box, redis, *known("--max-message", "16m"))


def add_sized(redis, first, count, size):
    """Entries whose messages are a number and so many bytes."""
    with redis.client() as c:
        for n in range(first, first + count, max(1, MIB // size)):
            c.pipeline([["XADD", "logs-stream", "*", "service", "test", "level", "warn", "message", b"%d " % k + b"x" * size,
                         "timestamp", STAMP] for k in range(n, min(n + max(1, MIB // size), first + count))])


def found(worker):
    """The numbers in the log, without holding it in memory."""
    with open(worker.output, "rb") as f:
        return [int(PATTERN.match(line[:-1])[1]) for line in f]


def high_water(worker):
    return int(re.search(r"^VmHWM:\s+(\d+) kB", read_text(f"/proc/{worker.pid}/status"), re.M).group(1)) * 1024


def check(redis, worker, count, largest):
    drain(redis, 120)
    assert found(worker) == list(range(count))
    if not SANITIZED:
        assert high_water(worker) <= BOUND + largest, f"{high_water(worker) / MIB:.1f} MiB"


@pytest.mark.parametrize("living", [False, True])
def test_entries_of_8_mb(box, redis, living):
    """256 of them took 2.1 GB."""
    worker = new(box, redis)
    if living:
        worker.start()
    add_sized(redis, 0, 24, 8 * MIB)
    if not living:
        worker.start()
    check(redis, worker, 24, 8 * MIB)


def test_small_ones_then_large_ones_then_small_ones(box, redis):
    """COUNT grows over the small ones, and must not carry over to the large ones."""
    worker = new(box, redis)
    add_sized(redis, 0, 3000, 20)
    add_sized(redis, 3000, 20, 4 * MIB)
    add_sized(redis, 3020, 3000, 20)
    worker.start()
    check(redis, worker, 6020, 4 * MIB)


def test_large_ones_among_small_ones(box, redis):
    worker = new(box, redis)
    for i in range(20):
        add_sized(redis, i * 501, 500, 50)
        add_sized(redis, i * 501 + 500, 1, 3 * MIB)
    worker.start()
    check(redis, worker, 20 * 501, 3 * MIB)


def test_large_records_that_come_while_it_lives(box, redis):
    worker = new(box, redis).start()
    for i in range(6):
        add_sized(redis, i * 1001, 1000, 30)
        drain(redis)
        add_sized(redis, i * 1001 + 1000, 1, 8 * MIB)
    check(redis, worker, 6 * 1001, 8 * MIB)


def test_many_entries_of_64_kib(box, redis):
    worker = new(box, redis)
    add_sized(redis, 0, 2000, 65536)
    worker.start()
    check(redis, worker, 2000, 65536)


def test_a_malformed_entry_of_8_mb(box, redis):
    worker = new(box, redis).start()
    with redis.client() as c:
        c("XADD", "logs-stream", "*", "x", b"y" * (8 * MIB))
    add(redis, "0 ")
    drain(redis)
    assert redis.length("logs-stream:dead") == 1
    check(redis, worker, 1, 8 * MIB)
