"""Idempotent producers (doc/protocol.md, section 2.2): a record sent again, in any cut, is stored once."""
import json
import random
import signal
import threading

import pytest

from pipeline import messages, record, wait_until
from rawhttp import Connection, request

PRODUCER = "0123456789abcdef0123456789abcdef"


def send(logd, sequence, count, producer=PRODUCER, skip=None, headers=()):
    """Sends records `sequence` to `sequence + count - 1`, and returns the answer."""
    body = [record(str(n)) for n in range(sequence, sequence + count)]
    status, _, answer = logd.post(body, {"Log-Producer": producer, "Log-Sequence": str(sequence),
                                         **({"Log-Skip": str(skip)} if skip is not None else {}), **dict(headers)})
    assert status == 200, answer
    return answer


def numbers(redis):
    return [int(m) for m in messages(redis)]


def test_batches_in_order(redis, logd):
    assert send(logd, 1, 3) == {"accepted": 3, "duplicates": 0}
    assert send(logd, 4, 2) == {"accepted": 2, "duplicates": 0}
    assert numbers(redis) == [1, 2, 3, 4, 5]
    assert redis("GET", f"logs-stream:producer:{PRODUCER}") == "5"
    assert 6.9 * 86400 < redis("TTL", f"logs-stream:producer:{PRODUCER}") <= 7 * 86400


def test_producer_ttl(box, redis):
    logd = box.logd(redis, "--producer-ttl", "1h")
    send(logd, 1, 1)
    assert 3500 < redis("TTL", f"logs-stream:producer:{PRODUCER}") <= 3600


def test_repeated_batch(redis, logd):
    send(logd, 1, 5)
    for _ in range(3):
        assert send(logd, 1, 5) == {"accepted": 5, "duplicates": 5}
    assert numbers(redis) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("sequence, count, duplicates", [(1, 8, 5), (3, 8, 3), (5, 1, 1), (5, 3, 1), (2, 2, 2), (6, 4, 0)])
def test_half_overlapping_and_recut_batches(redis, logd, sequence, count, duplicates):
    send(logd, 1, 5)
    assert send(logd, sequence, count) == {"accepted": count, "duplicates": duplicates}
    assert numbers(redis) == list(range(1, max(6, sequence + count)))


def test_random_cuts(redis, logd):
    """Any sequence of repeated cuts that leaves no gap stores each record once, in order."""
    random.seed(1)
    last = 0
    while last < 500:
        first = random.randint(max(1, last - 20), last + 1)
        count = random.randint(1, 40)
        send(logd, first, count)
        last = max(last, first + count - 1)
    assert numbers(redis) == list(range(1, last + 1))


def test_producers_are_independent(redis, logd):
    for producer in ("a" * 32, "b" * 32):
        assert send(logd, 1, 3, producer) == {"accepted": 3, "duplicates": 0}
    assert numbers(redis) == [1, 2, 3] * 2


def test_gap_is_stored_counted_and_said(redis, logd):
    send(logd, 1, 2)
    assert send(logd, 6, 2) == {"accepted": 2, "duplicates": 0, "gap": 3}
    assert numbers(redis) == [1, 2, 6, 7]
    assert logd.metrics()["logd_sequence_gap_records_total"] == 3
    logd.wait_output(f"{PRODUCER}.* never came")
    assert send(logd, 8, 1) == {"accepted": 1, "duplicates": 0}


def test_unknown_producer_has_no_gap(redis, logd):
    assert send(logd, 1000, 2) == {"accepted": 2, "duplicates": 0}
    assert logd.metrics()["logd_sequence_gap_records_total"] == 0


@pytest.mark.parametrize("first, skip, gap", [(6, 3, None), (6, 2, 1), (6, 0, 3), (6, 9, None), (3, 0, None), (3, 2, None)])
def test_skip(redis, logd, first, skip, gap):
    """Log-Skip says that numbers before the batch will never come; they are no gap."""
    send(logd, 1, 2)
    assert send(logd, first, 1, skip=skip).get("gap") == gap
    assert numbers(redis) == [1, 2, first]


def test_largest_sequence(redis, logd):
    top = 2**53 - 1
    assert send(logd, top, 1) == {"accepted": 1, "duplicates": 0}
    assert send(logd, top, 1) == {"accepted": 1, "duplicates": 1}
    assert redis("GET", f"logs-stream:producer:{PRODUCER}") == str(top)


def test_sequences_beyond_double_digits_in_lua(redis, logd):
    """Numbers above 10^14, which Lua would print as 1e+14."""
    for first in (123456789012345, 123456789012350, 2**53 - 20):
        send(logd, first, 5)
    assert redis("GET", f"logs-stream:producer:{PRODUCER}") == str(2**53 - 16)


def test_ndjson_from_a_producer(redis, logd):
    body = b"".join(json.dumps(record(str(n))).encode() + b"\n" for n in range(1, 4))
    head = {"Content-Type": "application/x-ndjson", "Log-Producer": PRODUCER, "Log-Sequence": "1"}
    assert logd.post(body, head)[2] == {"accepted": 3, "duplicates": 0}
    assert logd.post(body, head)[2] == {"accepted": 3, "duplicates": 3}
    assert numbers(redis) == [1, 2, 3]


def test_refused_batch_moves_no_sequence(redis, logd):
    status, _, _ = logd.post([record("1"), record("2", level="loud")], {"Log-Producer": PRODUCER, "Log-Sequence": "1"})
    assert status == 400
    assert send(logd, 1, 2) == {"accepted": 2, "duplicates": 0}


def test_out_of_memory_keeps_the_sequence(redis, logd):
    """What Redis refused can be sent again: neither lost nor doubled."""
    send(logd, 1, 2)
    redis("CONFIG", "SET", "maxmemory", "1")
    status, _, answer = logd.post([record("3")], {"Log-Producer": PRODUCER, "Log-Sequence": "3"})
    assert (status, answer["stored"]) == (503, False)
    redis("CONFIG", "SET", "maxmemory", "0")
    assert send(logd, 3, 1) == {"accepted": 1, "duplicates": 0}
    assert numbers(redis) == [1, 2, 3]


def test_two_logd_on_one_redis(box, redis):
    """A producer that fails over between two logd in the middle of batches doubles nothing."""
    both = [box.logd(redis, name="logd-a"), box.logd(redis, name="logd-b")]
    random.seed(2)
    last = 0
    for i in range(100):
        first = random.randint(max(1, last - 10), last + 1)
        count = random.randint(1, 30)
        send(both[i % 2], first, count)
        last = max(last, first + count - 1)
    assert numbers(redis) == list(range(1, last + 1))


def test_concurrent_repetition(box, redis):
    """The same batch at the same time through two logd: stored once, counted as duplicates once."""
    both = [box.logd(redis, name="logd-a"), box.logd(redis, name="logd-b")]
    duplicates = []
    for batch in range(20):
        threads = [threading.Thread(target=lambda i=i: duplicates.append(send(both[i % 2], batch * 10 + 1, 10)["duplicates"]))
                   for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert sorted(duplicates) == [0] * 20 + [10] * 60
    assert numbers(redis) == list(range(1, 201))


def test_outcome_unknown_then_repeated(box):
    """Redis dies with a batch under way; the repetition makes it stand once."""
    redis = box.redis(appendonly=True)
    logd = box.logd(redis)
    redis.signal(signal.SIGSTOP)
    body = json.dumps([record(str(n)) for n in range(1, 6)]).encode()
    head = [("Log-Producer", PRODUCER), ("Log-Sequence", "1")]
    with Connection(logd.port) as c:
        c.send(request(body=body, headers=head))
        wait_until(lambda: logd.get("/healthz") == 200, "logd")
        redis.kill()
        response = c.response()
    assert response.status == 503
    assert response.json()["stored"] in (None, False)
    redis.start()
    logd.wait_ready()
    assert send(logd, 1, 5)["accepted"] == 5
    assert numbers(redis) == [1, 2, 3, 4, 5]
