"""Two processes that use the same numbers, as the copies of a virtual machine do (doc/protocol.md, section 2.2)."""
import os
import signal

import pytest

from pipeline import messages, record, wait_until

PRODUCER_TWIN = 9  # logclient.h


def producer_of(directory):
    name, = [n for n in os.listdir(directory) if n.endswith(".ring")]
    return name[:-len(".ring")]


def last_number(redis, producer):
    return int(redis("GET", f"logs-stream:producer:{producer}") or 0)


@pytest.mark.parametrize("count", [1, 40, 500])
def test_records_that_were_never_sent_are_no_duplicates(box, redis, logd, count):
    p = box.producer(logd, "--records", 600, "--rate", 400, "--handle")
    wait_until(lambda: redis.length() >= 50, "the first records")
    p.freeze()
    producer = producer_of(box.ring_dir)
    first = last_number(redis, producer) + 1
    twin = [record(f"twin-{n}") for n in range(count)]
    status, _, _ = logd.post(twin, {"Log-Producer": producer, "Log-Sequence": str(first)})
    assert status == 200
    p.signal(signal.SIGCONT)
    stats = p.finish()
    assert stats["delivered"] == 600
    stored = messages(redis)
    assert set(p.accepted()) <= set(stored)
    own = [m for m in stored if not m.startswith("twin-")]
    # A batch that was under way when the other one was stored may stand twice.
    assert sorted(set(own)) == sorted(p.accepted())
    assert [s for s, _ in p.reports()] == [PRODUCER_TWIN]
    assert last_number(redis, producer) < 600 + count


def test_repetition_of_a_batch_whose_answer_was_lost_makes_no_twin(box, redis):
    """Duplicates of what was sent before are what they seem."""
    logd = box.logd(redis)
    p = box.producer(logd, "--records", 3000, "--rate", 3000, "--handle", env={"LOGCLIENT_BACKOFF_MIN_MS": "1"})
    for _ in range(5):
        wait_until(lambda: redis.length() >= 50 or not p.alive(), "records")
        logd.kill()
        logd.start()
    stats = p.finish()
    assert stats["delivered"] == 3000
    assert sorted(messages(redis)) == sorted(p.accepted())
    assert PRODUCER_TWIN not in [s for s, _ in p.reports()]
