"""From Redis to app.log: doc/protocol.md, sections 3 to 5."""
import http.client
import json
import os
import re
import shlex
import signal
import threading
import zlib

import pytest

from pipeline import Redis, Worker, program, read_lines, wait_until

STAMP = "2026-11-24T02:35:02.123Z"


def add(redis, message, level="warn", service="test", stamp=STAMP, fields=None, stream="logs-stream"):
    more = [] if fields is None else ["fields", fields]
    return redis("XADD", stream, "*", "service", service, "level", level, "message", message, "timestamp", stamp, *more)


def additions(first, count, level="warn"):
    """The commands that add entries whose messages are numbers."""
    return [["XADD", "logs-stream", "*", "service", "test", "level", level, "message", str(n), "timestamp", STAMP]
            for n in range(first, first + count)]


def fill(redis, first, count, level="warn"):
    """Many entries in one round trip."""
    with redis.client() as c:
        c.pipeline(additions(first, count, level))


def numbers(worker):
    return [int(m) for m in worker.messages()]


def drain(redis, seconds=20):
    wait_until(redis.drained, lambda: f"the stream to be empty; {redis.length()} entries are left", seconds)


# ---- Lines ----

@pytest.mark.parametrize("level, kept", [("trace", 6), ("debug", 5), ("info", 4), ("warn", 3), ("error", 2), ("fatal", 1),
                                         ("WARNING", 3), ("silly", 6), (None, 3)])
def test_level_filter(box, redis, level, kept):
    worker = box.worker(redis, *(["--level", level] if level else []))
    levels = ["trace", "debug", "info", "warn", "error", "fatal"]
    for name in levels:
        add(redis, name, name)
    drain(redis)
    assert worker.messages() == levels[6 - kept:]


def test_line_format(box, redis):
    worker = box.worker(redis, "--level", "trace")
    add(redis, 'm"\\/\b\f\n\r\t\u0000\u001f\u007f\u2028é😀', "error", 'se"rvice')
    drain(redis)
    assert worker.lines() == [(r'{"level":"error","message":"m\"\\/\b\f\n\r\t\u0000\u001f' + '\u007f\u2028é😀'
                               + r'","service":"se\"rvice","timestamp":"' + STAMP + '"}').encode()]


def test_fields_follow_the_four(box, redis):
    worker = box.worker(redis)
    add(redis, "m", fields='{"z":1.10,"a":{"b":[null,"é"]},"":"x"}')
    add(redis, "n", fields="{}")
    drain(redis)
    head = '"service":"test","timestamp":"' + STAMP + '"'
    assert [line.decode() for line in worker.lines()] == [
        '{"level":"warn","message":"m",' + head + ',"z":1.10,"a":{"b":[null,"é"]},"":"x"}',
        '{"level":"warn","message":"n",' + head + "}"]


def test_field_order_of_the_entry_does_not_matter(box, redis):
    worker = box.worker(redis)
    redis("XADD", "logs-stream", "*", "fields", '{"a":1}', "timestamp", STAMP, "message", "m", "service", "s", "level", "warn")
    drain(redis)
    assert worker.lines() == [b'{"level":"warn","message":"m","service":"s","timestamp":"' + STAMP.encode() + b'","a":1}']


def test_appends_to_a_log_that_is_there(box, redis):
    box.write("app.log", b"old line\n")
    worker = box.worker(redis)
    add(redis, "new")
    drain(redis)
    lines = worker.lines()
    assert lines[0] == b"old line" and json.loads(lines[1])["message"] == "new" and len(lines) == 2


def test_entries_from_before_the_start(box, redis):
    fill(redis, 0, 1000)
    worker = box.worker(redis)
    drain(redis)
    assert numbers(worker) == list(range(1000))


def test_order_and_an_empty_stream(box, redis):
    worker = box.worker(redis)
    for k in range(0, 20000, 1000):
        fill(redis, k, 1000)
    drain(redis)
    assert numbers(worker) == list(range(20000))
    assert redis("XINFO", "GROUPS", "logs-stream") == []


def test_stream_option(box, redis):
    worker = box.worker(redis, "--stream", "other")
    redis("XADD", "other", "*", "x", "y")
    add(redis, "m", stream="other")
    wait_until(lambda: redis.drained("other"), "the stream to be empty")
    assert worker.messages() == ["m"]
    assert sorted(redis("KEYS", "*")) == ["other", "other:account", "other:dead", "other:owner"]


@pytest.mark.parametrize("batch", [1, 7, 10000])
def test_batch_option(box, redis, batch):
    """No more entries are read and committed at a time."""
    fill(redis, 0, 2000)
    worker = box.worker(redis, "--batch", str(batch))
    drain(redis)
    assert numbers(worker) == list(range(2000))
    assert worker.stop() == 0
    batches = int(re.search(r"batches (\d+)", worker.stderr()).group(1))
    assert -(-2000 // batch) <= batches and (batch < 100) == (batches > 20)


# ---- Dead letters ----

GOOD = [("service", "s"), ("level", "warn"), ("message", "m"), ("timestamp", STAMP)]
MALFORMED = {
    "no service": [f for f in GOOD if f[0] != "service"],
    "no level": [f for f in GOOD if f[0] != "level"],
    "no message": [f for f in GOOD if f[0] != "message"],
    "no timestamp": [f for f in GOOD if f[0] != "timestamp"],
    "only another field": [("x", "y")],
    "repeated message": GOOD + [("message", "m")],
    "a sixth field": GOOD + [("fields", "{}"), ("x", "y")],
    "an unknown fifth field": GOOD + [("x", "y")],
    "unknown level": [("level", "loud") if f[0] == "level" else f for f in GOOD],
    "empty service": [("service", "") if f[0] == "service" else f for f in GOOD],
    "long service": [("service", "x" * 129) if f[0] == "service" else f for f in GOOD],
    "control character in the service": [("service", "a\nb") if f[0] == "service" else f for f in GOOD],
    "message that is not UTF-8": [("message", b"\xff") if f[0] == "message" else f for f in GOOD],
    "not a timestamp": [("timestamp", "now") if f[0] == "timestamp" else f for f in GOOD],
    "fields that are not JSON": GOOD + [("fields", "{")],
    "fields that are an array": GOOD + [("fields", "[]")],
    "empty fields": GOOD + [("fields", "")],
    "fields with one of the four": GOOD + [("fields", '{"a":1,"level":"x"}')],
    "fields with text behind": GOOD + [("fields", "{} x")],
    "fields with a NUL byte": GOOD + [("fields", '{"a":1\0}')],
    "fields with a name twice": GOOD + [("fields", '{"a":1,"a":2}')],
}


@pytest.fixture(scope="module")
def running(shared_box):
    redis = shared_box.redis()
    worker = shared_box.worker(redis)
    worker.redis = redis
    return worker


@pytest.mark.parametrize("entry", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_entry_goes_to_the_dead_letters(running, entry):
    redis = running.redis
    before = len(running.lines())
    flat = [x for pair in entry for x in pair]
    entry_id = redis("XADD", "logs-stream", "*", *flat)
    add(redis, "good")
    drain(redis)
    (_, dead), = redis("XREVRANGE", "logs-stream:dead", "+", "-", "COUNT", "1")
    assert dead[0] == "reason" and len(dead[1]) > 8
    assert dead[2:4] == ["id", entry_id]
    assert dead[4:] == [x.decode("utf-8", "surrogateescape") if isinstance(x, bytes) else x for x in flat]
    lines = running.lines()
    assert len(lines) == before + 1 and json.loads(lines[-1])["message"] == "good"


def test_many_dead_letters_in_one_batch(box, redis):
    with redis.client() as c:
        c.pipeline([["XADD", "logs-stream", "*", "service", "s", "level", "loud" if n % 3 else "warn", "message", str(n),
                     "timestamp", STAMP] for n in range(900)])
    worker = box.worker(redis)
    drain(redis)
    assert numbers(worker) == list(range(0, 900, 3))
    assert [int(dict(e)["message"]) for e in redis.entries("logs-stream:dead")] == [n for n in range(900) if n % 3]
    assert 1 <= worker.stderr().count(" is malformed") < 20


def test_a_dead_letter_is_said_with_its_reason(box, redis):
    """Malformed entries went away in silence."""
    worker = box.worker(redis)
    entry_id = redis("XADD", "logs-stream", "*", *[x for pair in GOOD + [("x", "y")] for x in pair])
    worker.wait_output(f'warning: entry {entry_id} is malformed: unknown field "x"; it was moved to logs-stream:dead$')


def test_a_dead_letter_has_no_more_than_the_first_3500_fields(box, redis):
    """More than Lua could unpack ended in an error, for ever."""
    worker = box.worker(redis)
    whole, cut = ([x for n in range(count) for x in (f"f{n}", n)] for count in (3500, 20000))
    for fields in (whole, cut):
        redis("XADD", "logs-stream", "*", *fields)
    add(redis, "good")
    drain(redis)
    (_, first), (_, second) = redis("XRANGE", "logs-stream:dead", "-", "+")
    assert first[4:] == [str(x) for x in whole] and "only the first" not in first[1]
    assert second[4:] == [str(x) for x in cut[:7000]] and "only the first 3500 fields are here" in second[1]
    assert worker.messages() == ["good"]


def test_what_logd_has_accepted_is_not_too_long(box, redis):
    """logworker had a limit of its own, and what logd had confirmed went to the dead letters."""
    logd = box.logd(redis, "--no-echo", "--max-message", "1m")
    worker = box.worker(redis)
    message = "x" * 200 * 1024
    assert logd.post({"service": "s", "level": "warn", "message": message})[0] == 200
    drain(redis)
    assert worker.messages() == [message]


def test_dead_letters_that_redis_refuses_are_kept(box, redis):
    """Something else lies under the key of the dead letters: the entry stays until it can be moved; nothing is lost or doubled."""
    redis("SET", "logs-stream:dead", "x")
    fill(redis, 0, 10)
    redis("XADD", "logs-stream", "*", "x", "y")
    worker = box.worker(redis)
    worker.wait_output("refused to commit a batch: .*WRONGTYPE")
    assert redis.length() >= 1
    redis("DEL", "logs-stream:dead")
    drain(redis, 60)
    assert numbers(worker) == list(range(10))
    assert redis.length("logs-stream:dead") == 1


def test_dead_letters_when_memory_is_used_up(box, redis):
    """Reading makes room, so it goes on."""
    fill(redis, 0, 10)
    redis("XADD", "logs-stream", "*", "x", "y")
    worker = box.worker(redis)
    drain(redis)
    redis("CONFIG", "SET", "maxmemory", "1")
    worker.kill()
    worker.start()
    redis("CONFIG", "SET", "maxmemory", "0")
    redis("XADD", "logs-stream", "*", "x", "y")
    fill(redis, 10, 10)
    drain(redis, 60)
    assert numbers(worker) == list(range(20))
    assert redis.length("logs-stream:dead") == 2


# ---- Redis comes and goes ----

def test_starts_without_redis(box):
    redis = Redis(box)
    worker = Worker(box, redis).start(ready=False)
    worker.wait_output("redis")
    redis.start()
    add(redis, "m")
    drain(redis, 30)
    assert worker.messages() == ["m"]


def test_redis_restarts(box):
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    for i in range(5):
        fill(redis, i * 1000, 1000)
        redis.kill()
        redis.start()
    drain(redis, 60)
    assert numbers(worker) == list(range(5000))


def test_flushall_between_records(box, redis):
    """What the worker has written is not written again, and what comes afterwards is written."""
    worker = box.worker(redis)
    for i in range(3):
        add(redis, str(i))
        wait_until(lambda: len(worker.lines()) == i + 1, f"line {i}")
        redis("FLUSHALL")
    add(redis, "3")
    wait_until(lambda: len(worker.lines()) == 4, "line 3")
    drain(redis)
    assert numbers(worker) == [0, 1, 2, 3]


def test_flushall_and_a_record_before_the_worker_notices(box, redis):
    worker = box.worker(redis)
    add(redis, "0")
    drain(redis)
    with redis.client() as c:
        c.pipeline([["FLUSHALL"], *additions(1, 1)])
    wait_until(lambda: len(worker.lines()) == 2, "the record")
    drain(redis)
    assert numbers(worker) == [0, 1]
    # The opening makes all that was lost with it.
    wait_until(lambda: redis("HGET", "logs-stream:account", "written") == "1" and redis("EXISTS", "logs-stream:owner"),
               "owner and account")


def test_redis_loses_its_data(box):
    """An empty Redis begins anew, with smaller ids than those that were committed: no id decides anything."""
    redis = box.redis()
    worker = box.worker(redis)
    fill(redis, 0, 100)
    drain(redis)
    redis.kill()
    redis.start()
    wait_until(lambda: redis("EXISTS", "logs-stream"), "the opening")
    redis("DEL", "logs-stream")
    redis("XADD", "logs-stream", "5-1", *additions(100, 1)[0][3:])
    wait_until(lambda: len(worker.lines()) == 101, "the record")
    drain(redis)
    assert numbers(worker) == list(range(101))


def test_scripts_are_flushed(box, redis):
    """The worker stood still for ever."""
    worker = box.worker(redis)
    for i in range(3):
        fill(redis, i * 10, 10)
        drain(redis)
        redis("SCRIPT", "FLUSH")
    fill(redis, 30, 10)
    drain(redis)
    assert numbers(worker) == list(range(40))


def test_account_under_a_key_of_another_type(box, redis):
    """Nothing is removed that is not counted."""
    worker = box.worker(redis)
    with redis.client() as c:
        c.pipeline([["MULTI"], ["DEL", "logs-stream:account"], ["SET", "logs-stream:account", "x"], *additions(0, 10), ["EXEC"]])
    worker.wait_output("WRONGTYPE")
    assert redis.length() == 10
    redis("DEL", "logs-stream:account")
    drain(redis)
    fill(redis, 10, 10)
    drain(redis)
    assert numbers(worker) == list(range(20))
    info = redis("XINFO", "STREAM", "logs-stream")
    account = redis("HMGET", "logs-stream:account", "written", "filtered", "dead")
    assert dict(zip(info[::2], info[1::2]))["entries-added"] == sum(int(n or 0) for n in account) == 20


def test_redis_hangs(box, redis):
    """It is given up, and the log is rotated meanwhile. When Redis goes on, nothing is lost or doubled, and the worker turns to
    the new file, which it doesn't while a batch is in hand."""
    worker = box.worker(redis, "--redis-timeout", "500ms")
    fill(redis, 0, 100)
    redis.signal(signal.SIGSTOP)
    try:
        worker.wait_output("the connection to Redis at .* broke: ")
        os.rename(worker.output, worker.output + ".1")
        worker.signal(signal.SIGHUP)
    finally:
        redis.signal(signal.SIGCONT)
    wait_until(lambda: os.path.exists(worker.output), "a new app.log", 30)
    fill(redis, 100, 100)
    drain(redis, 60)
    every = read_lines(worker.output + ".1") + worker.lines()
    assert [int(json.loads(line)["message"]) for line in every] == list(range(200))


# ---- Signals ----

def test_sighup_reopens_the_file(box, redis):
    worker = box.worker(redis)
    add(redis, "0")
    drain(redis)
    os.rename(worker.output, worker.output + ".1")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(worker.output), "a new app.log")
    add(redis, "1")
    drain(redis)
    assert numbers(worker) == [1]
    assert [json.loads(x)["message"] for x in read_lines(worker.output + ".1")] == ["0"]


def test_rotation_under_load(box, redis):
    worker = box.worker(redis)
    rotated = []
    for i in range(15):
        fill(redis, i * 500, 500)
        rotated.append(f"{worker.output}.{i}")
        os.rename(worker.output, rotated[-1])
        worker.signal(signal.SIGHUP)
        wait_until(lambda: os.path.exists(worker.output), "a new app.log")
    drain(redis)
    every = [int(json.loads(line)["message"]) for path in rotated + [worker.output] for line in read_lines(path)]
    assert every == list(range(7500))


def test_rotation_and_kill(box, redis):
    """A kill around a rotation: the state knows which file it speaks of."""
    worker = box.worker(redis)
    rotated = []
    for i in range(8):
        fill(redis, i * 300, 300)
        rotated.append(f"{worker.output}.{i}")
        os.rename(worker.output, rotated[-1])
        if i % 2:
            worker.signal(signal.SIGHUP)
        worker.kill()
        worker.start()
    drain(redis)
    every = [int(json.loads(line)["message"]) for path in rotated + [worker.output] for line in read_lines(path)]
    assert every == list(range(2400))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_stops_under_load_and_goes_on(box, redis, sig):
    worker = box.worker(redis)
    for i in range(5):
        fill(redis, i * 2000, 2000)
        worker.signal(sig)
        assert worker.wait() == 0
        worker.start()
    drain(redis)
    assert numbers(worker) == list(range(10000))


def test_stops_while_redis_is_down(box):
    worker = Worker(box, Redis(box)).start(ready=False)
    worker.wait_output("redis")
    assert worker.stop() == 0


EARLY_SIGHUP = r"""
#define _GNU_SOURCE
#include <malloc.h>
#include <signal.h>

/* Called early in main(). */
int mallopt(int param, int value)
{
    static int calls;
    (void)param, (void)value;
    if (calls++ == 0)
        raise(SIGHUP);
    return 1;
}
"""


def test_sighup_before_the_loop_reopens_the_log_later(box, redis):
    """It ended the worker. Now it waits for the loop, which syncs the old file before it turns to the new one."""
    worker, trace = traced_worker(box, redis, "--fsync", "3600", source=EARLY_SIGHUP + COUNTER.replace("#define _GNU_SOURCE", ""))
    wait_until(lambda: len(read_lines(trace)) >= 2, "the signal to be minded")
    assert read_lines(trace) == [worker.output.encode(), worker.state.encode()]
    add(redis, "0")
    drain(redis)
    assert numbers(worker) == [0]


# ---- One worker, and what its state says ----

def test_second_worker_on_one_log_is_refused(box, redis):
    worker = box.worker(redis)
    second = box.run("second", [program("logworker"), "--redis", redis.url, "--output", worker.output])
    assert second.popen.returncode == 69
    assert worker.output in second.stderr()
    add(redis, "m")
    drain(redis)
    assert worker.messages() == ["m"]


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_second_worker_by_a_link_to_the_log_is_refused(box, redis, link):
    """Its state file is another, so that the lock on that was no obstacle: both wrote the same log."""
    worker = box.worker(redis)
    path = box.path("link.log")
    link(worker.output, path)
    second = box.run("second", [program("logworker"), "--redis", redis.url, "--output", path])
    assert second.popen.returncode == 69
    assert path in second.stderr() and worker.output in second.stderr() and "another logworker" in second.stderr()
    add(redis, "0")
    drain(redis)
    os.rename(worker.output, worker.output + ".1")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(worker.output), "a new app.log")
    add(redis, "1")
    drain(redis)
    assert numbers(worker) == [1]


def test_lock_ends_with_its_holder(box, redis):
    worker = box.worker(redis)
    worker.kill()
    worker.start()


def test_kills_leave_each_record_once(box):
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    stop = threading.Event()
    count = [0]

    def produce():
        while not stop.is_set():
            fill(redis, count[0], 100)
            count[0] += 100
    thread = threading.Thread(target=produce)
    thread.start()
    try:
        for i in range(25):
            wait_until(lambda: len(worker.lines()) > i * 50, "some lines")
            worker.kill()
            worker.start(ready=i % 3 != 0)
    finally:
        stop.set()
        thread.join()
    drain(redis, 60)
    assert numbers(worker) == list(range(count[0]))


def die_before_commit(redis, worker, first, count, lines=None, torn=0):
    """Kills the worker when a batch of so many entries is written, and not committed. Of its lines all are left, or the first
    `lines` and `torn` bytes of the next one."""
    size, had = os.path.getsize(worker.output), len(worker.lines())
    with redis.client() as c:
        # A batch at once, as the worker has learned how much it can ask for; its commit waits.
        c.pipeline([["MULTI"], *additions(first, count), ["CLIENT", "PAUSE", "600000", "WRITE"], ["EXEC"]])
    wait_until(lambda: len(worker.lines()) == had + count, "the lines")
    worker.kill()
    wait_until(lambda: len(redis("CLIENT", "LIST").splitlines()) == 1, "the end of the worker's connections")
    redis("CLIENT", "UNPAUSE")
    assert redis.length() == count
    if lines is not None:
        written = worker.lines()[had:]
        os.truncate(worker.output, size + sum(len(line) + 1 for line in written[:lines]) + torn)


@pytest.mark.parametrize("lines, torn", [(3, 0), (2, 20), (2, 0), (1, 1), (0, 40), (0, 0)])
def test_killed_before_its_commit(box, redis, lines, torn):
    """What stands in the log is not written again; what doesn't is; a torn line is made whole."""
    worker = box.worker(redis)
    fill(redis, 0, 5)
    drain(redis)
    die_before_commit(redis, worker, 5, 3, lines, torn)
    worker.start()
    fill(redis, 8, 2)
    drain(redis)
    assert numbers(worker) == list(range(10))
    assert redis("HGET", "logs-stream:account", "written") == "10"


def test_zeros_of_a_power_cut_get_a_line_of_their_own(box, redis):
    """They are the beginning of no line, so they are not cut."""
    worker = box.worker(redis)
    fill(redis, 0, 5)
    drain(redis)
    die_before_commit(redis, worker, 5, 3, 1)
    with open(worker.output, "ab") as f:
        f.write(b"\0" * 5000)
    worker.start()
    drain(redis)
    lines = worker.lines()
    assert lines.pop(6) == b"\0" * 5000
    assert [int(json.loads(line)["message"]) for line in lines] == list(range(8))


def test_tail_whose_entries_are_gone_stays(box, redis):
    """Redis has none of the tail's entries: they cannot be written again, so they are not cut."""
    worker = box.worker(redis)
    fill(redis, 0, 5)
    drain(redis)
    worker.kill()
    with open(worker.output, "ab") as f:
        f.write(b'{"message":"100"}\n{"half a l')
    worker.start()
    fill(redis, 5, 2)
    drain(redis)
    lines = worker.lines()
    assert lines.pop(6) == b'{"half a l'
    assert [int(json.loads(line)["message"]) for line in lines] == [0, 1, 2, 3, 4, 100, 5, 6]


def damage_cut(path):
    os.truncate(path, 100)


def damage_zero(path):
    with open(path, "r+b") as f:
        f.write(b"\0" * 1024)


def damage_empty(path):
    os.truncate(path, 0)


def damage_garbage(path):
    with open(path, "wb") as f:
        f.write(os.urandom(1024))


def damage_checksums(path):
    with open(path, "r+b") as f:
        data = f.read()
        f.seek(0)
        f.write(re.sub(rb"offset=\d", b"offset=9", data))


def damage_foreign(path):
    """A state that speaks of another file."""
    other = os.path.join(os.path.dirname(path), "copy")
    with open(os.path.join(os.path.dirname(path), "app.log"), "rb") as f, open(other, "wb") as g:
        g.write(f.read())
    os.rename(other, os.path.join(os.path.dirname(path), "app.log"))


@pytest.mark.parametrize("damage", [os.unlink, damage_cut, damage_zero, damage_empty, damage_garbage, damage_checksums,
                                    damage_foreign])
def test_state_that_cannot_be_trusted(box, redis, damage):
    """The worker says so, cuts nothing, and goes on behind what is there."""
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    assert worker.stop() == 0
    with open(worker.output, "ab") as f:
        f.write(b'{"message":"100"}\n')
    damage(worker.state)
    mark = worker.mark()
    worker.start()
    assert worker.stderr()[mark[1]:], "the worker says what it found and assumes"
    fill(redis, 10, 5)
    drain(redis)
    assert numbers(worker) == list(range(10)) + [100] + list(range(10, 15))


def test_half_a_line_that_is_kept_does_not_spoil_the_next(box, redis):
    """Without a state nothing is cut; the next record still gets a line of its own."""
    box.write("app.log", b'{"half a l')
    worker = box.worker(redis)
    add(redis, "0")
    drain(redis)
    lines = worker.lines()
    assert lines[0] == b'{"half a l' and json.loads(lines[1])["message"] == "0"


def test_log_shorter_than_the_state_says(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    assert worker.stop() == 0
    os.truncate(worker.output, 0)
    worker.start()
    fill(redis, 10, 5)
    drain(redis)
    assert numbers(worker) == list(range(10, 15))


def test_state_file_format(box, redis):
    """Doc/protocol.md, section 5.1."""
    worker = box.worker(redis)
    ids = []
    for i in range(3):
        ids.append(redis("XADD", "logs-stream", "*", *additions(i, 1)[0][3:]))
        drain(redis)
    token = redis("HGET", "logs-stream:account", "token")
    assert worker.stop() == 0
    with open(worker.state, "rb") as f:
        data = f.read()
    assert len(data) == 1024
    states = []
    for k in (0, 1):
        line = data[k * 512:(k + 1) * 512]
        assert line.endswith(b"\n")
        text = line.decode().rstrip()
        head, crc = text.rsplit("crc=", 1)
        assert f"{zlib.crc32(head.encode()):08x}" == crc
        assert head.startswith("logworker-state 2 gen=")
        state = dict(pair.split("=", 1) for pair in head.split()[2:])
        assert list(state) == ["gen", "dev", "ino", "offset", "first", "last", "token"]
        assert int(state["gen"]) % 2 == k
        states.append(state)
    before, newest = sorted(states, key=lambda s: int(s["gen"]))
    assert int(newest["gen"]) == int(before["gen"]) + 1
    stat, last_line = os.stat(worker.output), len(worker.lines()[-1]) + 1
    assert (int(newest["dev"]), int(newest["ino"]), int(newest["offset"])) == (stat.st_dev, stat.st_ino, stat.st_size - last_line)
    assert [s["first"] for s in (before, newest)] == [s["last"] for s in (before, newest)] == ids[1:]
    assert re.fullmatch("[0-9a-f]{32}", newest["token"])
    assert newest["token"] == before["token"] == token


@pytest.mark.parametrize("log, slot", [(b"", "offset=0 first=0-1 last=0-0"), (b"old\n", "offset=4 first=7-10 last=7-9")])
def test_state_without_a_batch_in_hand(box, redis, log, slot):
    """A log that has lines may have any of the stream's entries; an empty one has none."""
    redis("XADD", "logs-stream", "7-9", *additions(0, 1)[0][3:])
    redis("XDEL", "logs-stream", "7-9")
    box.write("app.log", log)
    worker = box.worker(redis)
    assert worker.stop() == 0
    with open(worker.state, encoding="ascii") as f:
        assert f" {slot} token=" in f.read()


@pytest.mark.parametrize("replace", [False, True])
def test_state_that_is_removed_under_the_worker_is_made_anew(box, redis, replace):
    """Without it a kill would leave nothing to compare by."""
    worker = box.worker(redis)
    fill(redis, 0, 5)
    drain(redis)
    os.unlink(worker.state)
    if replace:
        with open(worker.state, "wb") as f:
            f.write(b"something else\n")
    die_before_commit(redis, worker, 5, 3, 1, 10)
    assert "was removed or replaced: it is made anew" in worker.stderr()
    worker.start()
    drain(redis)
    assert numbers(worker) == list(range(8))


COUNTER = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int fd)
{
    char link[64], name[4096];
    int trace = open(getenv("TRACE"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof(name) - 1);
    if (trace < 0 || n < 0)
        abort();
    name[n] = '\n';
    if (write(trace, name, (size_t)n + 1) != n + 1)
        abort();
    close(trace);
    return (int)syscall(SYS_fdatasync, fd);
}
"""


def traced_worker(box, redis, *args, source=COUNTER):
    """A worker and the file that gets the names of the files that it syncs, in order."""
    source, library, trace = box.write("counter.c", source.encode()), box.path("counter.so"), box.path("trace")
    assert box.run("cc", [*shlex.split(os.environ.get("CC", "cc")), "-shared", "-fPIC", "-o", library, source]).popen.returncode == 0
    return box.worker(redis, *args, env={"LD_PRELOAD": library, "TRACE": trace, "ASAN_OPTIONS": "verify_asan_link_order=0"}), trace


@pytest.mark.parametrize("policy", ["never", "batch", "1"])
def test_fsync_policies(box, redis, policy):
    worker, trace = traced_worker(box, redis, "--fsync", policy)
    log, state = worker.output.encode(), worker.state.encode()
    for n in range(5):
        add(redis, str(n))
        drain(redis)
    if policy == "1":
        wait_until(lambda: len(read_lines(trace)) >= 4, "two seconds' syncs")
    worker.kill()
    synced = read_lines(trace)
    worker.start()
    fill(redis, 5, 100)
    drain(redis)
    assert numbers(worker) == list(range(105))
    if policy == "never":
        assert read_lines(trace) == []
    elif policy == "1":
        assert synced[:4] == [log, state] * 2
    else:
        assert synced == [state] + [state, log] * 5  # the first slot of all, and five batches


def test_fsync_before_a_rotation(box, redis):
    """The timer would see only the new file."""
    worker, trace = traced_worker(box, redis, "--fsync", "3600")
    add(redis, "0")
    drain(redis)
    os.rename(worker.output, worker.output + ".1")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(worker.output), "a new app.log")
    assert read_lines(trace) == [worker.output.encode() + b".1", worker.state.encode()]


# ---- Options and errors ----

@pytest.mark.parametrize("args", [["--nonsense"], ["--level", "loud"], ["--fsync", "sometimes"], ["--redis", "x://y"], ["operand"],
                                  ["--log-level", "loud"], ["--max-message", "64k"], ["--group", "g"], ["--consumer", "c"],
                                  ["--lease", "0"], ["--batch-bytes", "1"], ["--look-back", "x"]])
def test_usage_errors(box, args):
    p = box.run("logworker", [program("logworker"), *args], cwd=box.dir)
    assert p.popen.returncode == 64
    assert args[0].lstrip("-") in p.stderr()


def test_standard_output_is_refused(box, redis):
    """"-" once made a file of that name; "./-" still does."""
    p = box.run("logworker", [program("logworker"), "--redis", redis.url, "-o", "-"], cwd=box.dir)
    assert p.popen.returncode == 64
    assert "standard output is not supported yet" in p.stderr() and "./-" in p.stderr()
    assert not os.path.exists(box.path("-"))
    worker = Worker(box, redis)
    worker.argv = [program("logworker"), "--redis", redis.url, "-o", "./-"]
    worker.cwd = box.dir
    worker.start()
    add(redis, "m")
    drain(redis)
    assert read_lines(box.path("-"))[0] != b""


def test_log_that_cannot_be_opened(box, redis):
    path = box.path("no/such/directory/app.log")
    p = box.run("logworker", [program("logworker"), "--redis", redis.url, "--output", path])
    assert p.popen.returncode == 69
    assert path in p.stderr()


def test_default_output_is_app_log_here(box, redis):
    worker = Worker(box, redis)
    worker.argv = [program("logworker"), "--redis", redis.url]
    worker.cwd = box.dir
    worker.start()
    add(redis, "m")
    drain(redis)
    assert read_lines(box.path("app.log"))[0] != b""


def test_environment(box, redis):
    worker = box.worker(redis, env={"LOGWORKER_LEVEL": "trace", "LOGWORKER_MAX_MESSAGE": "ignored"})
    add(redis, "m", "trace")
    drain(redis)
    assert worker.messages() == ["m"]


def test_man_pages_list_the_metrics(box, redis, logd):
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    port = int(worker.wait_output(r"metrics at http://127\.0\.0\.1:(\d+)/").group(1))
    for served, page in ((logd.port, "logd/logd.8"), (port, "worker/logworker.8")):
        with open(os.path.join(os.path.dirname(__file__), "..", "..", page), encoding="utf-8") as f:
            section = re.search(r"^\.SH METRICS\n(.*?)^\.SH ", f.read(), re.M | re.S).group(1)
        described = re.findall(r"^\.TP\n\.B (\S+)\n(.*)$", section, re.M)
        connection = http.client.HTTPConnection("127.0.0.1", served, timeout=30)
        connection.request("GET", "/metrics")
        assert described == re.findall(r"^# HELP (\S+) (.*)$", connection.getresponse().read().decode(), re.M)
        connection.close()
