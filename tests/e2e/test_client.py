"""liblogclient through the producer program, against real and scripted daemons (logclient.h, doc/protocol.md 2.2)."""
import collections
import os
import re
import subprocess
import threading
import time

import pytest

from fakelogd import FakeLogd, answer, ok, refuse
from pipeline import SCALE, messages, program, wait_until

# Quick retries, so that the tests need not wait for them.
QUICK = ["--set", "backoff_min_ms=10", "--set", "backoff_max_ms=50"]


def conserved(stats):
    """The law of logclient.h, once all calls are over."""
    assert stats["logged"] == stats["delivered"] + stats["rejected"] + stats["dropped"] + stats["queued"]
    return stats


def by_thread(names):
    """tag-thread-number to thread: numbers in order of appearance."""
    threads = collections.defaultdict(list)
    for name in names:
        thread, number = name.split(" ")[0].rsplit("-", 1)
        threads[thread].append(int(number.rstrip(".")))
    return threads


# ---- With a real logd ----

@pytest.mark.parametrize("threads, count", [(1, 1), (1, 5000), (4, 5000), (16, 500)])
def test_delivery_in_order_of_each_thread(redis, logd, box, threads, count):
    producer = box.producer(logd, "--threads", threads, "--records", count, "--retry-full")
    stats = conserved(producer.finish())
    assert stats["delivered"] == threads * count and stats["flushed"]
    assert stats["rejected"] == stats["truncated"] == stats["repaired"] == stats["ring_fallback"] == 0
    stored = messages(redis)
    assert collections.Counter(stored) == collections.Counter(producer.accepted())
    assert all(numbers == list(range(count)) for numbers in by_thread(stored).values())


def test_handle_and_default_client_do_the_same(redis, logd, box):
    assert box.producer(logd, "--records", 100, "--tag", "a", "--handle").finish()["delivered"] == 100
    assert box.producer(logd, "--records", 100, "--tag", "b").finish()["delivered"] == 100
    assert messages(redis) == [f"{t}-0-{n}" for t in "ab" for n in range(100)]


def test_record_as_stored(redis, logd, box):
    before = time.time()
    box.producer(logd, "--records", 1, "--service", "Zahlung é", "--levels", "WARNING").finish()
    (service, level, message, stamp), = redis.entries()
    assert (service[1], level[1], message[1]) == ("Zahlung é", "warn", "p-0-0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp[1])
    assert time.strftime("%Y-%m-%dT%H:%M", time.gmtime(before)) <= stamp[1] <= time.strftime("%Y-%m-%dT%H:%M:~", time.gmtime())


def test_logd_is_started_later(redis, logd, box):
    assert logd.stop() == 0
    producer = box.producer(logd, "--records", 2000, "--levels", "info,warn", *QUICK)
    wait_until(lambda: len(producer.accepted()) == 2000, "the records to be queued")
    wait_until(lambda: producer.reports(), "the callback to hear that logd is unreachable")
    logd.start()
    assert conserved(producer.finish())["delivered"] == 2000
    assert messages(redis) == producer.accepted()
    assert producer.reports()[0][0] == 6  # LOGCLIENT_UNREACHABLE


def test_logd_restarts(redis, logd, box):
    producer = box.producer(logd, "--threads", 2, "--records", 20000, "--rate", 10000, *QUICK)
    for i in range(1, 9):
        wait_until(lambda: redis.length() > i * 2000 or not producer.alive(), "records")
        logd.kill() if i % 2 else logd.stop()
        logd.start()
    assert conserved(producer.finish())["delivered"] == 40000
    stored = messages(redis)
    assert collections.Counter(stored) == collections.Counter(producer.accepted())
    assert all(numbers == list(range(20000)) for numbers in by_thread(stored).values())


def test_two_urls_fail_over(box, redis):
    """Two logd behind one URL list: one dies, the other takes over, nothing is doubled."""
    both = [box.logd(redis, name="logd-a"), box.logd(redis, name="logd-b")]
    producer = box.producer(",".join(d.url for d in both), "--records", 30000, "--rate", 10000, *QUICK)
    for i in range(6):
        wait_until(lambda: redis.length() > (i + 1) * 3000 or not producer.alive(), "records")
        both[i % 2].kill()
        both[i % 2].start()
    assert conserved(producer.finish())["delivered"] == 30000
    assert messages(redis) == producer.accepted()


def test_refused_record_is_singled_out(box, redis):
    """logd takes shorter messages than the library sends: only the long one is rejected."""
    logd = box.logd(redis, "--max-message", "1000")
    long = box.write("long", b"x" * 2000)
    bad = box.producer(logd, "--records", 3, "--message-file", long, *QUICK)
    stats = conserved(bad.finish())
    assert (stats["rejected"], stats["delivered"], stats["queued"]) == (3, 0, 0)
    reports = [text for status, text in bad.reports() if status == 5]  # LOGCLIENT_BAD_RECORD
    assert reports and "message" in reports[0]
    assert redis.length() == 0


def test_invalid_utf8_is_repaired(redis, logd, box):
    path = box.write("message", b"a\xffb\xc0\xafc\xe2\x82d\xed\xa0\x80e\xf0\x9f\x98\x80\xe2")
    assert box.producer(logd, "--records", 2, "--message-file", path).finish()["repaired"] == 2
    # Each maximal ill-formed part is one U+FFFD (the substitution that the Unicode standard recommends).
    expected = b"a\xffb\xc0\xafc\xe2\x82d\xed\xa0\x80e\xf0\x9f\x98\x80\xe2".decode("utf-8", "replace")
    assert messages(redis) == [expected] * 2


@pytest.mark.parametrize("text, kept", [(b"x" * 70000, "x" * 65536), ("é".encode() * 40000, "é" * 32768),
                                        (b"x" + "é".encode() * 40000, "x" + "é" * 32767),
                                        ("😀".encode() * 20000, "😀" * 16384)], ids=["1 byte", "2 bytes", "odd", "4 bytes"])
def test_long_message_is_cut_at_a_character(redis, logd, box, text, kept):
    stats = box.producer(logd, "--records", 1, "--message-file", box.write("message", text)).finish()
    assert stats["truncated"] == 1 and stats["repaired"] == 0
    assert messages(redis) == [kept]


def test_awkward_text(redis, logd, box):
    text = '"\\\b\f\n\r\t\x01\x1f\x7f\u2028é😀\\" ' * 50
    box.producer(logd, "--records", 1, "--message-file", box.write("message", text.encode())).finish()
    assert messages(redis) == [text]


def test_full_ring_drops_the_newest_and_counts(box, redis, logd):
    assert logd.stop() == 0
    producer = box.producer(logd, "--threads", 4, "--records", 20000, "--pad", 200, "--set", "ring_bytes=1m", "--hold", *QUICK,
                            stdin=-1)
    wait_until(lambda: len(producer.accepted()) > 1000, "records")
    logd.start()
    wait_until(lambda: redis.length() == len(producer.accepted()), "the delivery", 30)
    producer.popen.stdin.close()
    stats = conserved(producer.finish())
    assert stats["dropped"] > 0 and stats["queued"] == 0
    assert stats["dropped"] == stats["refused"] and stats["logged"] == 80000
    stored = [m.rstrip(".") for m in messages(redis)]
    assert collections.Counter(stored) == collections.Counter(producer.accepted())
    assert all(numbers == sorted(set(numbers)) for numbers in by_thread(stored).values())


def test_full_ring_with_a_retrying_caller(box, redis, logd):
    producer = box.producer(logd, "--threads", 4, "--records", 10000, "--pad", 300, "--set", "ring_bytes=1m", "--retry-full")
    stats = conserved(producer.finish())
    assert stats["delivered"] == 40000 == redis.length()


def test_full_ring_that_blocks(box, redis, logd):
    """on_full=block: with a logd that takes records, nothing is dropped."""
    producer = box.producer(logd, "--threads", 4, "--records", 10000, "--pad", 300, "--set", "ring_bytes=1m", "--set", "on_full=block",
                            "--set", "block_ms=20000")
    stats = conserved(producer.finish())
    assert (stats["delivered"], stats["dropped"], stats["refused"]) == (40000, 0, 0)


def test_block_has_a_deadline(box, redis, logd):
    assert logd.stop() == 0
    begin = time.monotonic()
    producer = box.producer(logd, "--message-file", box.write("message", b"x" * 65000), "--set", "ring_bytes=1m",
                            "--records", 20, "--set", "on_full=block", "--set", "block_ms=200", "--flush-ms", "0", "--set",
                            "exit_timeout_ms=100")
    stats = conserved(producer.finish())
    assert stats["dropped"] >= 1
    assert time.monotonic() - begin >= 0.2 * stats["dropped"]


def test_exit_without_a_flush_delivers(redis, logd, box):
    """The end of the process flushes by itself."""
    for more in ([], ["--handle"]):
        producer = box.producer(logd, "--records", 3000, "--flush-ms", -1, *more)
        producer.finish()
    assert len(messages(redis)) == 6000


def test_atexit_handler_may_log(redis, logd, box):
    box.producer(logd, "--records", 10, "--flush-ms", -1, "--at-exit").finish()
    assert "atexit-0-0" in messages(redis)


def test_exit_is_bounded_when_logd_is_away(logd, box):
    assert logd.stop() == 0
    begin = time.monotonic()
    stats = conserved(box.producer(logd, "--records", 100, "--flush-ms", 100, env={"LOGCLIENT_EXIT_TIMEOUT_MS": "300"}).finish())
    assert (stats["queued"], stats["flushed"]) == (100, False)
    assert time.monotonic() - begin < 5 * SCALE


def test_ring_off(redis, logd, box):
    producer = box.producer(logd, "--records", 1000, env={"LOGCLIENT_RING_DIR": "off"})
    stats = conserved(producer.finish())
    assert stats["delivered"] == 1000 and stats["ring_fallback"] == 0
    assert os.listdir(box.ring_dir) == []


def test_ring_directory_that_cannot_be_used(redis, logd, box):
    """Records are kept in memory only, and it is said."""
    producer = box.producer(logd, "--records", 1000, "--handle", env={"LOGCLIENT_RING_DIR": box.write("file", b"")})
    stats = conserved(producer.finish())
    assert stats["delivered"] == 1000 and stats["ring_fallback"] == 1
    assert 7 in [status for status, _ in producer.reports()]  # LOGCLIENT_RING_FALLBACK


def test_ring_is_removed_when_all_is_delivered(redis, logd, box):
    box.producer(logd, "--records", 100).finish()
    assert [f for f in os.listdir(box.ring_dir) if f.endswith(".ring")] == []


def test_producers_killed_again_and_again(redis, logd, box):
    """Each record that was accepted stands once, wherever the producers died."""
    names = []
    for i in range(12):
        producer = box.producer(logd, "--threads", 2, "--records", 100000, "--tag", f"k{i}", "--rate", 20000)
        wait_until(lambda: len(producer.accepted()) > 500 * (i % 4 + 1), "records")
        producer.kill()
        names += producer.accepted()
    last = box.producer(logd, "--records", 1, "--tag", "last", "--hold", stdin=-1)
    accepted = set(names)
    wait_until(lambda: accepted <= set(messages(redis)), "the adoption", 60)
    last.popen.stdin.close()
    last.finish()
    stored = collections.Counter(messages(redis))
    assert [m for m, n in stored.items() if n != 1] == []
    # A killed thread may have been between send_log() and its list: one record of each thread.
    assert len(set(stored) - accepted - {"last-0-0"}) <= 24


# A child of a process with threads: ThreadSanitizer cannot start threads in it, AddressSanitizer's allocator may be locked for
# ever by the parent's sender, and for LeakSanitizer all that the parent's thread held is lost.
@pytest.mark.forks_threads
@pytest.mark.parametrize("parent", [pytest.param("busy", marks=pytest.mark.forks_threads("asan")), "calm"])
def test_forked_children_have_queues_of_their_own(redis, logd, box, parent):
    producer = box.producer(logd, "--records", 500, "--fork", 10, *(["--calm-fork"] if parent == "calm" else []),
                            env={"ASAN_OPTIONS": "detect_leaks=0", "LOGCLIENT_EXIT_TIMEOUT_MS": "30000"})
    assert conserved(producer.finish())["delivered"] == 500
    stored = messages(redis)
    assert collections.Counter(stored) == collections.Counter(producer.accepted())
    assert len(stored) == 11 * 500
    assert all(numbers == list(range(500)) for numbers in by_thread(stored).values())


def test_signal_handler_that_interrupts_a_log_call(redis, logd, box):
    producer = box.producer(logd, "--threads", 2, "--records", 50000, "--signal-us", 300, "--retry-full")
    stats = conserved(producer.finish())
    assert stats["signals"] > 10
    assert stats["delivered"] == 100000 + stats["signals"]
    assert collections.Counter(messages(redis)) == collections.Counter(producer.accepted())


@pytest.mark.parametrize("setting", ["url=ftp://x", "ring_bytes=5", "on_full=maybe", "batch_records=x", "nonsense=1"])
def test_bad_property(box, setting):
    producer = box.producer("http://127.0.0.1:1", "--set", setting)
    assert producer.wait() == 70
    name, value = setting.split("=")
    assert name in producer.stderr()
    if name != "nonsense":
        assert value in producer.stderr()


def test_bad_environment(box):
    producer = box.producer("http://127.0.0.1:1", "--handle", env={"LOGCLIENT_RING_BYTES": "many"})
    assert producer.wait() == 70
    assert re.search("(?i)ring_bytes", producer.stderr())


def test_prints_nothing(redis, logd, box):
    producer = box.producer(logd, "--records", 10)
    producer.finish()
    assert producer.stderr() == ""


# ---- With a scripted one ----

@pytest.mark.parametrize("ring", ["file", "memory"])
@pytest.mark.parametrize("on_full", ["drop", "block"])
def test_each_counter_is_what_was_seen_outside(box, ring, on_full):
    """First logd is away and the queue runs full, then each tenth record is refused. None of the counters is made from others."""
    refused = set()

    def script(q, n):
        for i, message in enumerate(q.messages):
            if message.endswith("7"):
                refused.add(message)
                return refuse(400, index=i, field="message")(q)
        return ok(q)
    settings = ["--set", "ring_bytes=1m", "--set", f"on_full={on_full}", "--set", "block_ms=1", "--set", "adopt=off", *QUICK]
    env = {"LOGCLIENT_RING_DIR": "off"} if ring == "memory" else {}
    with FakeLogd(lambda q, n: None) as fake:
        away = box.producer(fake, "--threads", 2, "--records", 2000, "--pad", 500, "--flush-ms", 0, "--tag", "away", "--set",
                            "exit_timeout_ms=1", *settings, env=env)
        stats = conserved(away.finish())
        assert (stats["logged"], stats["dropped"]) == (4000, stats["refused"]) and stats["refused"] > 0
        assert stats["queued"] == len(away.accepted()) == 4000 - stats["refused"]
    with FakeLogd(script) as fake:
        here = box.producer(fake, "--records", 300, *settings, env=env)
        stats = conserved(here.finish())
        assert (stats["logged"], stats["dropped"], stats["queued"], stats["adopted"]) == (300, 0, 0, 0)
        assert stats["delivered"] == len(fake.stored()) == 270
        assert stats["rejected"] == len(refused) == 30


def run(box, fake, count, *args, **kw):
    producer = box.producer(fake, "--records", count, *QUICK, *args, **kw)
    return conserved(producer.finish()), producer


def stored_once(fake, count, tag="p"):
    """A store that compares sequence numbers holds each record once, in order, without a gap."""
    assert fake.stored() == [(n + 1, f"{tag}-0-{n}") for n in range(count)]


def test_request_format(box):
    with FakeLogd() as fake:
        run(box, fake, 2500)
        stored_once(fake, 2500)
    for q in fake.requests:
        assert (q.method, q.path) == ("POST", "/api/log")
        assert q.headers["content-type"] == "application/x-ndjson"
        assert q.headers["host"] == f"127.0.0.1:{fake.port}"
        assert re.fullmatch("[0-9a-f]{32}", q.headers["log-producer"])
        assert "log-skip" not in q.headers
        for r in q.records:
            assert list(sorted(r)) == ["level", "message", "service", "timestamp"]
    assert len({q.headers["log-producer"] for q in fake.requests}) == 1
    assert fake.connections == 1


@pytest.mark.parametrize("text", ['{ "duplicates" : 0 , "accepted" : %d }', '{\n\t"accepted":\t%d\n}\n', '{"x":{},"accepted":%d}'])
def test_other_ways_to_write_the_answer(box, text):
    """Any JSON with the right number will do: another daemon may stand in for logd."""
    with FakeLogd(lambda q, n: answer(200, (text % len(q.records)).encode())) as fake:
        stats, _ = run(box, fake, 10, "--flush-ms", 5000)
        assert stats["delivered"] == 10


def test_answer_of_something_else(box):
    """A 200 that is not logd's (a proxy, a captive portal) confirms nothing."""
    def script(q, n):
        return [answer(200, b"<html>Welcome</html>"), answer(200, {"accepted": 0}), answer(200, b"")][n] if n < 3 else ok(q)
    with FakeLogd(script) as fake:
        stats, _ = run(box, fake, 10)
        assert stats["delivered"] == 10 and len(fake.requests) >= 4


def test_limits_of_a_batch(box):
    with FakeLogd() as fake:
        run(box, fake, 2000, "--pad", 100, "--set", "batch_records=100", "--set", "batch_bytes=8k")
        assert len(fake.stored()) == 2000
    for q in fake.requests:
        assert len(q.records) <= 100
        # After batch_bytes no record is added.
        assert len(q.body[:q.body.rstrip().rfind(b"\n") + 1]) <= 8192


@pytest.mark.parametrize("first", [
    refuse(503, "Retry-After: 0", stored=False), refuse(503, "Retry-After: 0", stored=None), refuse(500), refuse(502), refuse(504),
    refuse(429, "Retry-After: 0"), refuse(408, "Connection: close"), refuse(404), refuse(401),
    lambda q: None, lambda q: ok(q)[:20] + FakeLogd.CUT, lambda q: ok(q)[:-3] + FakeLogd.CUT, lambda q: b"garbage\r\n\r\n" + FakeLogd.CUT,
    lambda q: answer(200, b"", ["Connection: close"]) + FakeLogd.CUT,
], ids=["503", "503 unknown", "500", "502", "504", "429", "408", "404", "401", "closed", "cut in the head", "cut in the body",
        "garbage", "200 with an empty body"])
def test_failures_are_tried_again(box, first):
    """Whatever logd answers for a while, each record is stored once, in order."""
    with FakeLogd(lambda q, n: first(q) if n in (0, 1, 3) else ok(q)) as fake:
        stats, _ = run(box, fake, 500, "--set", "batch_records=100")
        assert (stats["delivered"], stats["rejected"], stats["dropped"]) == (500, 0, 0)
        stored_once(fake, 500)


def test_stored_but_the_answer_was_lost(box):
    """The connection breaks after the batch was stored; the repetition carries the same numbers."""
    with FakeLogd(lambda q, n: None if n == 0 else ok(q)) as fake:
        run(box, fake, 100)
        first, second = fake.requests[:2]
        assert first.sequence == second.sequence == 1
        assert second.messages[:len(first.messages)] == first.messages
        stored_once(fake, 100)


def test_retry_after_is_honoured(box):
    times = []

    def script(q, n):
        times.append(time.monotonic())
        return refuse(503, "Retry-After: 1", stored=False)(q) if n == 0 else ok(q)
    with FakeLogd(script) as fake:
        run(box, fake, 10)
    assert times[1] - times[0] >= 0.9


def test_backoff_grows(box):
    times = []

    def script(q, n):
        times.append(time.monotonic())
        return refuse(500)(q) if n < 6 else ok(q)
    with FakeLogd(script) as fake:
        producer = box.producer(fake, "--records", 1, "--set", "backoff_min_ms=50", "--set", "backoff_max_ms=10000")
        producer.finish()
    pauses = [b - a for a, b in zip(times, times[1:])]
    # Each is at least half of the doubled pause before it: a slow machine only makes them longer.
    assert len(pauses) == 6 and all(p >= 0.9 * 0.025 * 2**i for i, p in enumerate(pauses)), pauses


def test_too_large_a_batch_is_split(box):
    """413: halves, until logd takes them; the numbers stay."""
    with FakeLogd(lambda q, n: refuse(413)(q) if len(q.records) > 7 else ok(q)) as fake:
        stats, _ = run(box, fake, 300, "--set", "batch_records=100")
        assert (stats["delivered"], stats["rejected"]) == (300, 0)
        stored_once(fake, 300)


def test_record_too_large_by_itself_is_rejected(box):
    with FakeLogd(lambda q, n: refuse(413)(q) if any(m == "p-0-5" for m in q.messages) else ok(q)) as fake:
        stats, producer = run(box, fake, 20)
        assert (stats["delivered"], stats["rejected"]) == (19, 1)
        assert 5 in [status for status, _ in producer.reports()]
        assert [m for _, m in fake.stored()] == [f"p-0-{n}" for n in range(20) if n != 5]


BAD = {7, 8, 42, 99, 100, 299}


def refuse_bad(q):
    for i, message in enumerate(q.messages):
        if int(message.rsplit("-", 1)[1]) in BAD:
            return refuse(400, index=i, field="message")(q)
    return ok(q)


def test_bad_records_are_singled_out(box):
    """400 with the bad record's index: only these are rejected, and their numbers stay theirs."""
    with FakeLogd(lambda q, n: refuse_bad(q)) as fake:
        stats, producer = run(box, fake, 300, "--set", "batch_records=100")
        assert (stats["delivered"], stats["rejected"]) == (300 - len(BAD), len(BAD))
        assert fake.stored() == [(n + 1, f"p-0-{n}") for n in range(300) if n not in BAD]
        assert [status for status, _ in producer.reports()].count(5) >= 1
        check_skips(fake)


def check_skips(fake):
    """Log-Skip says exactly which numbers are left out."""
    last = 0
    for q in fake.requests:
        if q.answer.startswith(b"HTTP/1.1 200"):
            assert q.sequence - q.skip == last + 1
            last = q.sequence + len(q.records) - 1


NO_PROOF = [
    answer(400, b"<html>The plain HTTP request was sent to HTTPS port</html>"),
    answer(400, b'{"error":"Bad Request","path":"/api/log"}'),
    answer(400, b'{"error":"x","index":1000000000,"field":"x"}'),
    answer(400, b'{"index":0}'),
    answer(413, b"<html>Request Entity Too Large</html>"),
]


@pytest.mark.parametrize("reply", NO_PROOF, ids=range(len(NO_PROOF)))
def test_a_refusal_that_proves_nothing_loses_nothing(box, reply):
    """A proxy, or another server at the address, answered 400: records were thrown away at line rate."""
    with FakeLogd(lambda q, n: reply if n < 12 else ok(q)) as fake:
        stats, producer = run(box, fake, 50, "--set", "backoff_min_ms=1", "--set", "backoff_max_ms=10")
        assert (stats["delivered"], stats["rejected"]) == (50, 0)
        assert stats["retries"] >= 1
        assert [m for _, m in fake.stored()] == [f"p-0-{n}" for n in range(50)]
        assert 6 in [status for status, _ in producer.reports()]


def test_a_long_linger_does_not_fill_the_queue(box):
    """The queue was not looked at before the linger was over, however full it got."""
    with FakeLogd() as fake:
        stats, _ = run(box, fake, 4000, "--pad", 1000, "--set", "linger_ms=10000", "--set", "ring_bytes=1m", "--set",
                       "on_full=block", "--set", "block_ms=5000", "--set", "batch_bytes=64k")
        assert (stats["delivered"], stats["dropped"]) == (4000, 0)


def test_slow_answer_is_given_up_and_repeated(box):
    release = threading.Event()

    def script(q, n):
        if n == 0:
            release.wait(30)
        return ok(q)
    with FakeLogd(script) as fake:
        try:
            stats, _ = run(box, fake, 100, "--set", "request_timeout_ms=300")
        finally:
            release.set()
        assert stats["delivered"] == 100 and stats["retries"] >= 1
        assert [m for _, m in fake.stored()] == [f"p-0-{n}" for n in range(100)]


def test_bytes_behind_an_answer_are_no_answer(box):
    """They were taken for the answer to the next batch, which then was lost."""
    def script(q, n):
        return ok(q) + ok(q) if n == 0 else None if n == 1 else ok(q)
    with FakeLogd(script) as fake:
        stats, _ = run(box, fake, 2, "--set", "batch_records=1")
        assert stats["delivered"] == 2
        stored_once(fake, 2)


def test_connection_close_after_each_answer(box):
    def script(q, n):
        return answer(200, {"accepted": len(q.records), "duplicates": 0}, ["Connection: close"])
    with FakeLogd(script) as fake:
        run(box, fake, 500, "--set", "batch_records=50")
        stored_once(fake, 500)


def test_large_answer_is_no_way_to_exhaust_memory(box):
    """A peer that answers without end is given up."""
    def script(q, n):
        if n == 0:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (64 << 20) + FakeLogd.CUT
        return ok(q)
    with FakeLogd(script) as fake:
        stats, _ = run(box, fake, 100)
        assert stats["delivered"] == 100
        stored_once(fake, 100)


def test_host_name(box, redis, logd):
    """Host names are resolved without blocking; localhost is the one that is always there."""
    producer = box.producer(f"http://localhost:{logd.port}", "--records", 100, *QUICK)
    assert conserved(producer.finish())["delivered"] == 100


def test_unresolvable_host(box):
    producer = box.producer("http://nowhere.invalid:4000", "--records", 10, "--flush-ms", 1000, "--set", "exit_timeout_ms=100",
                            "--set", "request_timeout_ms=100", *QUICK)
    stats = conserved(producer.finish())
    assert stats["queued"] == 10
    assert producer.reports()


def test_reports_on_standard_error(box):
    """The default client, which has no callback, and a value that keeps it from being made."""
    env = {"LOGCLIENT_RING_DIR": box.ring_dir, "LOGCLIENT_REPORT": "stderr", "LOGCLIENT_EXIT_TIMEOUT_MS": "100"}
    with FakeLogd(lambda q, n: answer(503, {"error": "bad\x1b[2J"})) as fake:
        p = box.run("minimal", [program("examples/minimal")], env={**env, "LOGCLIENT_URL": fake.url})
        assert f"liblogclient: logd does not take records now: {fake.url} answered 503" in p.stderr()
        assert "\x1b" not in p.stderr()
    p = box.run("wrong", [program("examples/minimal")], env={**env, "LOGCLIENT_LINGER_MS": "soon"})
    assert "liblogclient: no client could be made: environment variable LOGCLIENT_LINGER_MS: linger_ms: \"soon\"" in p.stderr()
    p = box.run("mute", [program("examples/minimal")], env={**env, "LOGCLIENT_LINGER_MS": "soon", "LOGCLIENT_REPORT": "off"})
    assert "liblogclient" not in p.stderr()


def test_variables_that_set_nothing_are_reported(box, redis, logd):
    """LOGCLIENT_RINGDIR passed in silence, and the records lay somewhere else."""
    env = {"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir, "LOGCLIENT_RINGDIR": "/var/x", "LOGCLIENT_COLOUR": "red"}
    p = box.run("mute", [program("examples/minimal")], env=env)
    assert p.stderr() == ""
    p = box.run("told", [program("examples/minimal")], env={**env, "LOGCLIENT_REPORT": "stderr"})
    assert sorted(p.stderr().splitlines()) == [
        "liblogclient: there is no property of this name: environment variable LOGCLIENT_COLOUR sets no property: unset it; logclient(3) lists the properties",
        "liblogclient: there is no property of this name: environment variable LOGCLIENT_RINGDIR sets no property: did you mean LOGCLIENT_RING_DIR?"]
    status = subprocess.run([program("logsend"), "x"], env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    assert status.returncode == 0 and "did you mean LOGCLIENT_RING_DIR?" in status.stderr
    producer = box.producer(logd, "--records", 1, "--handle", env=env)
    producer.finish()
    assert "did you mean LOGCLIENT_RING_DIR?" in str(producer.reports())
