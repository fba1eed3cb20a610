"""From logd to Redis: what is stored, when 200 is answered, and what happens when Redis cannot."""
import collections
import json
import os
import random
import re
import signal
import threading
import time

import pytest

from pipeline import Redis, messages, record, wait_until
from rawhttp import Connection, request

STAMP = "2026-11-24T02:35:02.123Z"
PRODUCER = "0123456789abcdef0123456789abcdef"


# ---- What is stored ----

def test_entry_format(redis, logd):
    """Four fields in this order, and no fifth."""
    assert logd.post({"timestamp": STAMP, "message": "m\u0000\u2028\"é😀", "level": "WARNING", "service": "auth"})[0] == 200
    assert redis.entries() == [[("service", "auth"), ("level", "warn"), ("message", "m\u0000\u2028\"é😀"), ("timestamp", STAMP)]]


def test_every_level_name(redis, logd):
    names = {"trace": "trace", "silly": "trace", "debug": "debug", "verbose": "debug", "http": "debug", "info": "info",
             "notice": "info", "warn": "warn", "warning": "warn", "error": "error", "err": "error", "fatal": "fatal",
             "crit": "fatal", "critical": "fatal", "alert": "fatal", "emerg": "fatal", "panic": "fatal",
             "ERROR": "error", "Warn": "warn", "siLLy": "trace"}
    assert logd.post([record(level=n) for n in names])[0] == 200
    assert [dict(e)["level"] for e in redis.entries()] == list(names.values())


def test_timestamps_are_normalised(redis, logd):
    stamps = {
        "2026-11-24T02:35:02.123Z": "2026-11-24T02:35:02.123Z",
        "2026-11-24t02:35:02z": "2026-11-24T02:35:02.000Z",
        "2026-11-24 02:35:02.9Z": "2026-11-24T02:35:02.900Z",
        "2026-11-24T02:35:02.123999999999999Z": "2026-11-24T02:35:02.123Z",
        "2026-11-24T02:35:02.0004+00:00": "2026-11-24T02:35:02.000Z",
        "2026-11-24T02:35:02+05:30": "2026-11-23T21:05:02.000Z",
        "2026-12-31T23:30:00-01:00": "2027-01-01T00:30:00.000Z",
        "2024-02-29T23:59:59.5-00:01": "2024-03-01T00:00:59.500Z",
        "2016-12-31T23:59:60Z": "2016-12-31T23:59:59.999Z",
        "2016-12-31T23:59:60.5Z": "2016-12-31T23:59:59.999Z",
        "1969-12-31T23:59:59.999Z": "1969-12-31T23:59:59.999Z",
        "0000-01-01T00:00:00Z": "0000-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.9999Z": "9999-12-31T23:59:59.999Z",
    }
    assert logd.post([record(timestamp=t) for t in stamps])[0] == 200
    assert [dict(e)["timestamp"] for e in redis.entries()] == list(stamps.values())


def test_missing_timestamp_is_now(redis, logd):
    before = time.time()
    assert logd.post(record())[0] == 200
    stored = dict(redis.entries()[0])["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stored)
    seconds = time.mktime(time.strptime(stored[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(stored[19:23])
    assert before - 0.002 <= seconds <= time.time()


@pytest.mark.parametrize("text, fields", [
    (b'"b":1,"a":2', '{"b":1,"a":2}'),
    (b' "x" : [ 1 , { "y" : "a b" } ] ', '{"x":[1,{"y":"a b"}]}'),
    (b'"n":1.10,"big":123456789012345678901234567890,"e":1E+3', '{"n":1.10,"big":123456789012345678901234567890,"e":1E+3}'),
    ('"s":"\\u00e9 é \\/ \\ud83d\\ude00"'.encode(), '{"s":"\\u00e9 é \\/ \\ud83d\\ude00"}'),
    (b'"t":true,"f":false,"z":null,"o":{},"l":[]', '{"t":true,"f":false,"z":null,"o":{},"l":[]}'),
    (b'"":0,"Level":1,"service ":2', '{"":0,"Level":1,"service ":2}'),
])
def test_other_members_keep_their_text(redis, logd, text, fields):
    body = b'{"service":"s",%b,"level":"info","message":"m","timestamp":"%b"}' % (text, STAMP.encode())
    assert logd.post(body)[0] == 200
    assert redis.entries() == [[("service", "s"), ("level", "info"), ("message", "m"), ("timestamp", STAMP), ("fields", fields)]]


def test_other_members_around_the_four(redis, logd):
    body = b'{"a":1,"service":"s","b":2,"level":"info","c":3,"message":"m","timestamp":"%b","d":4}' % STAMP.encode()
    assert logd.post(body)[0] == 200
    assert dict(redis.entries()[0])["fields"] == '{"a":1,"b":2,"c":3,"d":4}'


def test_escaped_member_names_are_the_same_names(redis, logd):
    assert logd.post(b'{"\\u0073ervice":"s","l\\u0065vel":"\\u0069nfo","message":"m","timestamp":"%b"}' % STAMP.encode())[0] == 200
    assert redis.entries() == [[("service", "s"), ("level", "info"), ("message", "m"), ("timestamp", STAMP)]]


def test_stream_option(box, redis):
    logd = box.logd(redis, "--stream", "other {stream}")
    assert logd.post(record())[0] == 200
    assert redis.length("other {stream}") == 1
    assert redis.length() == 0


def test_max_message_option(box, redis):
    logd = box.logd(redis, "--max-message", "10")
    assert logd.post(record("x" * 10))[0] == 200
    status, _, answer = logd.post(record("x" * 11))
    assert (status, answer["field"]) == (400, "message")


def test_tcp_password_and_database(box):
    """redis://:password@host:port/db"""
    for attempt in range(5):
        port = random.randrange(20000, 30000)
        redis = Redis(box, name=f"redis{attempt}", args=["--port", str(port), "--bind", "127.0.0.1"])
        redis.spawn()
        wait_until(lambda: not redis.alive() or "Ready to accept" in redis.stdout(), "redis-server")
        if redis.alive():
            break
    redis("CONFIG", "SET", "requirepass", "p@ss:word/")
    logd = box.logd(f"redis://:p%40ss%3Aword%2F@127.0.0.1:{port}/3")
    assert logd.post(record())[0] == 200
    with redis.client() as c:
        c("AUTH", "p@ss:word/")
        assert c("XLEN", "logs-stream") == 0
        c("SELECT", "3")
        assert c("XLEN", "logs-stream") == 1
    assert "p@ss" not in logd.stderr() + logd.stdout() and "p%40ss" not in logd.stderr() + logd.stdout()


# ---- When 200 is answered ----

def test_no_answer_before_redis_has_confirmed(redis, logd):
    answers = []
    with Connection(logd.port) as c:
        redis.signal(signal.SIGSTOP)
        try:
            c.send(request(body=json.dumps(record()).encode()))
            thread = threading.Thread(target=lambda: answers.append(c.response()))
            thread.start()
            # Requests that need no Redis are answered meanwhile.
            for _ in range(20):
                assert logd.get("/healthz") == 200
            thread.join(0.3)
            assert answers == []
        finally:
            redis.signal(signal.SIGCONT)
        thread.join(20)
    assert answers[0].status == 200
    assert redis.length() == 1


def test_redis_hangs(box, redis):
    """A Redis that does not answer is given up: 503, and the outcome is unknown."""
    logd = box.logd(redis)
    redis.signal(signal.SIGSTOP)
    try:
        status, headers, answer = logd.post(record(), timeout=60)
    finally:
        redis.signal(signal.SIGCONT)
    assert (status, answer["stored"]) == (503, None)
    assert int(headers["Retry-After"]) >= 0
    logd.wait_ready()
    assert logd.post(record())[0] == 200


def check_refused(logd):
    """503 with Retry-After, and nothing stored."""
    status, headers, answer = logd.post(record("refused"))
    assert (status, answer["stored"]) == (503, False)
    assert int(headers["Retry-After"]) >= 0
    assert answer["error"]
    status, _, body = logd.request("GET", "/readyz")
    assert status == 503
    assert len(json.loads(body)["status"]) > 3
    assert logd.get("/healthz") == 200


def test_starts_and_stays_up_without_redis(box):
    redis = Redis(box)
    logd = box.logd(redis, wait_redis=False)
    check_refused(logd)
    redis.start()
    logd.wait_ready()
    assert logd.post(record("accepted"))[0] == 200
    assert messages(redis) == ["accepted"]


def test_redis_restarts(box):
    redis = box.redis(appendonly=True)
    logd = box.logd(redis)
    for i in range(5):
        assert logd.post(record(f"before {i}"))[0] == 200
        redis.kill()
        logd.wait_unready()
        check_refused(logd)
        redis.start()
        logd.wait_ready()
    assert messages(redis) == [f"before {i}" for i in range(5)]


def test_out_of_memory(redis, logd):
    assert logd.post(record("before"))[0] == 200
    redis("CONFIG", "SET", "maxmemory", "1")
    status, headers, answer = logd.post([record("refused")] * 3)
    assert (status, answer["stored"]) == (503, False)
    assert int(headers["Retry-After"]) >= 0
    redis("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: logd.post(record("after"))[0] == 200, "logd to take records again")
    assert messages(redis) == ["before", "after"]


def test_read_only_replica(redis, logd):
    assert logd.post(record("before"))[0] == 200
    redis("REPLICAOF", "127.0.0.1", "1")  # a master that is not there
    status, headers, answer = logd.post(record("refused"))
    assert (status, answer["stored"]) == (503, False)
    assert int(headers["Retry-After"]) >= 0
    redis("REPLICAOF", "NO", "ONE")
    wait_until(lambda: logd.post(record("after"))[0] == 200, "logd to take records again")
    assert messages(redis) == ["before", "after"]


def test_another_cause_of_an_outage_is_logged(redis, logd):
    """It hid behind the line of the first, and the same cause is not told twice."""
    redis("CONFIG", "SET", "maxmemory", "1")
    assert logd.post(record("refused"))[0] == 503
    logd.wait_output("OOM.*answering 503 meanwhile")
    redis("CONFIG", "SET", "maxmemory", "0")
    redis("REPLICAOF", "127.0.0.1", "1")
    for _ in range(3):
        assert logd.post(record("refused"))[0] == 503
    logd.wait_output("READONLY.*answering 503 meanwhile", seconds=5)
    assert logd.stderr().count("answering 503") == 2


def test_an_outage_after_another_is_logged(redis, logd):
    """Redis takes writes in between, and the second outage has another cause."""
    redis("CONFIG", "SET", "maxmemory", "1")
    assert logd.post(record("refused"))[0] == 503
    logd.wait_output("OOM.*answering 503 meanwhile")
    redis("CONFIG", "SET", "maxmemory", "0")
    logd.wait_output("takes writes again")
    redis("REPLICAOF", "127.0.0.1", "1")
    assert logd.post(record("refused"))[0] == 503
    logd.wait_output("READONLY.*answering 503 meanwhile", seconds=5)


def test_disk_errors_of_redis(redis, logd):
    """MISCONF: Redis refuses writes since it cannot save."""
    redis("CONFIG", "SET", "save", "3600 1")
    redis("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
    redis("SET", "x", "1")
    os.rmdir(redis("CONFIG", "GET", "dir")[1])
    redis("BGSAVE")
    wait_until(lambda: "rdb_last_bgsave_status:err" in redis("INFO", "persistence"), "BGSAVE to fail")
    status, _, answer = logd.post(record())
    assert (status, answer["stored"]) == (503, False)
    redis("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    wait_until(lambda: logd.post(record("after"))[0] == 200, "logd to take records again")


def test_wrong_type_of_key(redis, logd):
    """Something else lies under the stream's name: 503, nothing lost, and it recovers."""
    redis("SET", "logs-stream", "x")
    status, _, answer = logd.post(record())
    assert (status, answer["stored"]) == (503, False)
    redis("DEL", "logs-stream")
    wait_until(lambda: logd.post(record())[0] == 200, "logd to take records again")


def test_script_flush(redis, logd):
    for i in range(5):
        assert logd.post(record(str(i)), {"Log-Producer": PRODUCER, "Log-Sequence": str(i + 1)})[0] == 200
        assert logd.post(record(f"plain {i}"))[0] == 200
        redis("SCRIPT", "FLUSH")
    assert len(messages(redis)) == 10


def test_flushall(redis, logd):
    assert logd.post(record("gone"))[0] == 200
    redis("FLUSHALL")
    assert logd.post(record("kept"))[0] == 200
    assert messages(redis) == ["kept"]


def test_bound_on_what_is_in_flight(box, redis):
    """While Redis does not answer, logd takes a bounded amount, and refuses the rest at once."""
    logd = box.logd(redis, "--max-in-flight", "1m")
    body = json.dumps([record("x" * 60000)] * 4).encode()
    connections = [Connection(logd.port) for _ in range(12)]
    try:
        redis.signal(signal.SIGSTOP)
        for c in connections:
            c.send(request(body=body))
        statuses = []
        readers = [threading.Thread(target=lambda c=c: statuses.append(c.response().status)) for c in connections]
        for r in readers:
            r.start()
        wait_until(lambda: statuses.count(503) >= 1, "a 503")
        redis.signal(signal.SIGCONT)
        for r in readers:
            r.join(30)
    finally:
        redis.signal(signal.SIGCONT)
        for c in connections:
            c.__exit__()
    count = collections.Counter(statuses)
    assert set(count) == {200, 503} and count[200] >= 1
    assert redis.length() == 4 * count[200]
    wait_until(lambda: logd.post(record())[0] == 200, "room again")


def test_what_redis_was_not_sent_is_not_stored(box):
    """Only so much is sent to Redis before it answers. When it dies, the rest is known not to be stored, and is sent again."""
    redis = box.redis(appendonly=True)
    logd = box.logd(redis)
    bodies = [json.dumps([record(f"{i} {n} " + "x" * 60000) for n in range(2)]).encode() for i in range(8)]
    ids = [f"{i:032x}" for i in range(8)]
    answers = []

    def send(connections):
        for c, body, producer in zip(connections, bodies, ids):
            c.send(request(body=body, headers=[f"Log-Producer: {producer}", "Log-Sequence: 1"]))

    redis.signal(signal.SIGSTOP)
    connections = [Connection(logd.port) for _ in bodies]
    try:
        send(connections)
        wait_until(lambda: logd.metrics()["logd_in_flight_batches"] == len(bodies), "all to be in flight")
        redis.kill()
        answers = [c.response() for c in connections]
        assert {a.status for a in answers} == {503}
        outcomes = [a.json()["stored"] for a in answers]
        assert set(outcomes) == {None, False}
        assert logd.metrics()["logd_records_unknown_total"] == 2 * outcomes.count(None)
        redis.start()
        logd.wait_ready()
        stored = {int(m.split()[0]) for m in messages(redis)}
        assert all(outcomes[i] is None for i in stored)
        send(connections)
        assert {c.response().status for c in connections} == {200}
    finally:
        for c in connections:
            c.__exit__()
    assert sorted(m.split(" x")[0] for m in messages(redis)) == [f"{i} {n}" for i in range(8) for n in range(2)]
