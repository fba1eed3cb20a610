"""The whole pipeline: library, logd, Redis, logworker, app.log."""
import collections
import json
import threading

from pipeline import metrics, record, wait_until
from test_client import by_thread

LEVELS = ["trace", "debug", "info", "warn", "error", "fatal"]


def kept(count, levels, lowest, thread=0, tag="p"):
    """The ids of a producer's thread whose level the worker keeps."""
    least = LEVELS.index(lowest)
    return [f"{tag}-{thread}-{n}" for n in range(count) if LEVELS.index(levels[n % len(levels)]) >= least]


def drain(redis, worker, seconds=60):
    wait_until(redis.drained, lambda: f"the stream to be empty; {redis.length()} entries, {redis.pending()} pending", seconds)


def test_from_call_to_line(box, redis, logd):
    worker = box.worker(redis)
    producer = box.producer(logd, "--records", 600, "--levels", ",".join(LEVELS), "--service", "payment")
    producer.finish()
    drain(redis, worker)
    lines = worker.records()
    assert [r["message"] for r in lines] == kept(600, LEVELS, "warn")
    assert {r["service"] for r in lines} == {"payment"}
    assert [r["level"] for r in lines[:3]] == ["warn", "error", "fatal"]
    assert all(list(r) == ["level", "message", "service", "timestamp"] for r in lines)
    stamps = [r["timestamp"] for r in lines]
    assert stamps == sorted(stamps)


def test_redis_is_stopped_and_started_in_the_middle(box):
    """Of 100,000 records every warn and error stands in app.log once, and nothing else; logd answers 503 meanwhile."""
    redis = box.redis(appendonly=True)
    logd = box.logd(redis, "--no-echo")
    worker = box.worker(redis)
    levels = ["debug", "info", "warn", "error"]
    producer = box.producer(logd, "--threads", 4, "--records", 25000, "--levels", ",".join(levels), "--retry-full", "--rate", 8000,
                            "--flush-ms", 120000, "--set", "backoff_max_ms=500")
    for i in (1, 2):
        wait_until(lambda: len(producer.accepted()) > i * 30000, "a part of the records", 60)
        redis.kill()
        logd.wait_unready()
        status, headers, answer = logd.post(record("refused"))
        assert (status, answer["stored"]) == (503, False) and "Retry-After" in headers
        redis.start()
    stats = producer.finish(180)
    assert (stats["logged"] - stats["dropped"], stats["delivered"], stats["rejected"]) == (100000, 100000, 0)
    assert stats["retries"] >= 1
    drain(redis, worker)
    expected = [m for t in range(4) for m in kept(25000, levels, "warn", t)]
    written = collections.Counter(worker.messages())
    assert written == collections.Counter(expected)
    assert all(numbers == sorted(numbers) for numbers in by_thread(worker.messages()).values())
    assert all(r["level"] in ("warn", "error") for r in worker.records())


def test_everything_is_killed_now_and_then(box):
    """A short version of the chaos run: each part dies by SIGKILL in turn; each record stands once, in order."""
    redis = box.redis(appendonly=True)
    logd = box.logd(redis, "--no-echo")
    worker = box.worker(redis)
    producer = box.producer(logd, "--threads", 2, "--records", 30000, "--levels", "warn", "--rate", 5000, "--retry-full",
                            "--flush-ms", 120000, "--set", "backoff_min_ms=10", "--set", "backoff_max_ms=200")
    victims = [redis, logd, worker] * 4
    for i, victim in enumerate(victims, 1):
        wait_until(lambda: len(producer.accepted()) > i * 60000 / (len(victims) + 1), "a part of the records", 60)
        victim.kill()
        if victim is worker:
            worker.start(ready=False)
        elif victim is logd:
            logd.start(wait_redis=False)
        else:
            redis.start()
    stats = producer.finish(180)
    assert stats["delivered"] == 60000 and stats["rejected"] == 0
    drain(redis, worker)
    assert collections.Counter(worker.messages()) == collections.Counter(producer.accepted())
    assert all(numbers == list(range(30000)) for numbers in by_thread(worker.messages()).values())


def test_conservation(box, redis, logd):
    """accepted = written + filtered + dead-lettered + still queued."""
    worker = box.worker(redis, "--level", "error", "--listen", "127.0.0.1:0")
    port = int(worker.wait_output(r"http://127\.0\.0\.1:(\d+)/metrics").group(1))
    producer = box.producer(logd, "--threads", 2, "--records", 3000, "--levels", "info,warn,error")
    stats = producer.finish()
    redis("XADD", "logs-stream", "*", "not", "a record")
    drain(redis, worker)
    stored = logd.metrics()["logd_records_accepted_total"]
    gauges = ("logworker_stream_length", "logworker_pending")
    wait_until(lambda: not any(metrics(port)[g] for g in gauges), "the gauges, which Redis is asked for once a second")
    counted = metrics(port)
    written, filtered, dead = (counted[f"logworker_records_{n}_total"] for n in ("written", "filtered", "dead"))
    assert stored == stats["delivered"] == 6000
    assert (written, filtered, dead) == (2000, 4000, 1)
    assert len(worker.lines()) == written and redis.length("logs-stream:dead") == dead


def test_two_workers_share_a_stream(box, redis, logd):
    """Two workers with two logs in one group: each record stands in one of them."""
    first = box.worker(redis, "--consumer", "first")
    second = box.worker(redis, "--consumer", "second", name="logworker2", output=box.path("second.log"))
    box.producer(logd, "--threads", 2, "--records", 5000, "--levels", "warn").finish()
    drain(redis, first)
    written = collections.Counter(first.messages() + second.messages())
    assert written == collections.Counter(f"p-{t}-{n}" for t in range(2) for n in range(5000))


def test_many_clients_at_once(box, redis, logd):
    """Processes of the library and plain HTTP clients, all at once."""
    worker = box.worker(redis, "--level", "trace")
    producers = [box.producer(logd, "--threads", 2, "--records", 1000, "--tag", f"q{i}") for i in range(6)]
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(logd.post([record(f"http{i}-0-{n}") for n in range(100)])[0]))
               for i in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for p in producers:
        p.finish()
    assert answers == [200] * 10
    drain(redis, worker)
    expected = [m for p in producers for m in p.accepted()] + [f"http{i}-0-{n}" for i in range(10) for n in range(100)]
    assert collections.Counter(worker.messages()) == collections.Counter(expected)
    assert all(json.loads(line)["level"] in LEVELS for line in worker.lines())
