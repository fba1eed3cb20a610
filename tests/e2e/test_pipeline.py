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
    wait_until(redis.drained, lambda: f"the stream to be empty; {redis.length()} entries are left", seconds)


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
    """accepted = written + filtered + dead-lettered + still queued, counted by logd, by Redis, and in the log."""
    worker = box.worker(redis, "--level", "error", "--listen", "127.0.0.1:0")
    port = int(worker.wait_output(r"http://127\.0\.0\.1:(\d+)/metrics").group(1))
    producer = box.producer(logd, "--threads", 2, "--records", 3000, "--levels", "info,warn,error")
    stats = producer.finish()
    redis("XADD", "logs-stream", "*", "not", "a record")
    drain(redis, worker)
    names = ("records_written_total", "records_filtered_total", "records_dead_total", "entries_added_total", "stream_length")
    read = lambda: [metrics(port)[f"logworker_{n}"] for n in names]
    wait_until(lambda: read() == [2000, 4000, 1, 6001, 0], lambda: f"the counters: {read()}")
    assert logd.metrics()["logd_records_accepted_total"] == stats["delivered"] == 6000
    assert len(worker.lines()) == 2000 and redis.length("logs-stream:dead") == 1


def test_conservation_holds_while_all_is_under_way(box, redis, logd):
    """Redis can be asked at any time, over restarts of the worker."""
    worker = box.worker(redis, "--level", "error")
    producer = box.producer(logd, "--threads", 2, "--records", 10000, "--levels", "info,error", "--rate", 5000)
    looks = 0
    while producer.alive():
        for _ in range(20):
            with redis.client() as c:
                _, _, _, (info, account) = c.pipeline([["MULTI"], ["XINFO", "STREAM", "logs-stream"],
                                                       ["HMGET", "logs-stream:account", "written", "filtered", "dead"], ["EXEC"]])
            info = dict(zip(info[::2], info[1::2]))
            assert info["entries-added"] - info["length"] == sum(map(int, account))
            looks += 1
        worker.kill()
        worker.start()
    producer.finish()
    drain(redis, worker)
    assert looks >= 40
    assert redis("HMGET", "logs-stream:account", "written", "filtered") == ["10000", "10000"]
    assert len(worker.lines()) == 10000


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
