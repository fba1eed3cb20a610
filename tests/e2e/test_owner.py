"""The lease: one worker owns a stream, and another one stands by (doc/protocol.md, sections 3.4 and 5.4)."""
import os
import re
import shutil
import signal
import time

import pytest

import slots
from gate import DOWN, UP, Gate
from pipeline import SCALE, Worker, wait_until
from test_reconcile import full_disk, line, not_once
from test_worker import STAMP, drain, fill

LEASE = ("--lease", "1s")
STANDING_BY = r"^logworker: .*standing by: logs-stream is owned by .*$"


def worker(box, redis, name, *args):
    """A worker with a log of its own."""
    url = redis if isinstance(redis, str) else redis.url
    return Worker(box, url, *LEASE, "--listen", "127.0.0.1:0", *args, name=name, output=box.path(name + ".log"))


def standby(box, redis, name="second", *args):
    w = worker(box, redis, name, *args).start(ready=False)
    w.wait_output(STANDING_BY)
    return w


def owner(redis):
    """The lease's token, and what it says for people."""
    token, _, rest = redis("GET", "logs-stream:owner").split(" ", 2)
    return token, dict(pair.split("=", 1) for pair in rest.split(" "))


def both(*workers):
    return [text for w in workers for text in w.lines()]


def once(redis, count, *workers):
    """Over all logs together, when nothing is left to do."""
    drain(redis)
    assert not_once(both(*workers), map(line, range(count))) == {}


def wait_renewals(redis, times):
    """Waits until the lease was renewed so often: its time to live grew again."""
    left = [redis("PTTL", "logs-stream:owner")]

    def renewed():
        now = redis("PTTL", "logs-stream:owner")
        assert now > 0
        if now < left[-1]:
            left[-1] = now
        elif now > left[-1]:
            left.append(now)
        return len(left) > times
    wait_until(renewed, f"{times} renewals of the lease")


def scripts_run(redis):
    return sum(int(n) for n in re.findall(r"^cmdstat_eval(?:sha)?:calls=(\d+)", redis("INFO", "commandstats"), re.M))


# ---- Standing by ----

def test_second_worker_stands_by_and_says_so_once(box, redis):
    """Two workers with different groups deleted what the other one had not read; both wrote what both had read."""
    first = worker(box, redis, "first").start()
    second = standby(box, redis)
    host = os.uname().nodename
    assert re.search(rf"{host}.*{first.pid}.*{re.escape(first.output)}", second.stderr())
    assert owner(redis)[1] == {"host": host, "pid": str(first.pid), "log": first.output}
    wait_until(lambda: second.readyz()[0] == 503 and "standing by" in second.readyz()[1], lambda: second.readyz())
    assert first.readyz() == (200, "ready")
    before = redis("GET", "logs-stream:owner")
    for i in range(5):
        fill(redis, i * 1000, 1000)
        drain(redis)
    wait_renewals(redis, 8)  # idle for longer than two leases
    assert redis("GET", "logs-stream:owner") == before
    assert len(re.findall(STANDING_BY, second.stderr(), re.M)) == 1
    assert second.lines() == []
    once(redis, 5000, first, second)


def test_takes_over_at_once_after_an_orderly_end(box, redis):
    first = worker(box, redis, "first", "--lease", "1h").start()
    fill(redis, 0, 100)
    second = standby(box, redis, "second", "--lease", "1h")
    drain(redis)
    assert first.stop() == 0
    fill(redis, 100, 100)
    began = time.monotonic()
    wait_until(lambda: second.readyz() == (200, "ready"), "the second worker to take over", 10)
    assert time.monotonic() - began < 5 * SCALE
    once(redis, 200, first, second)
    assert owner(redis)[1]["pid"] == str(second.pid)


def test_standby_ends_at_once(box, redis):
    """It has nothing to give back."""
    first = worker(box, redis, "first").start()
    second = standby(box, redis)
    began = time.monotonic()
    assert second.stop() == 0
    assert time.monotonic() - began < 2 * SCALE
    fill(redis, 0, 100)
    once(redis, 100, first, second)


def test_takes_over_within_the_lease_after_a_kill(box, redis):
    first = worker(box, redis, "first").start()
    second = standby(box, redis)
    fill(redis, 0, 100)
    drain(redis)
    first.kill()
    fill(redis, 100, 100)
    began = time.monotonic()
    wait_until(lambda: len(second.lines()) == 100, "the second worker to take over")
    assert time.monotonic() - began < 5 * SCALE
    once(redis, 200, first, second)
    first.start(ready=False)
    first.wait_output(STANDING_BY)
    second.kill()
    fill(redis, 200, 100)
    wait_until(lambda: len(first.lines()) == 200, "the first one to take over again")
    once(redis, 300, first, second)


def test_starts_again_without_waiting_for_its_own_lease(box, redis):
    first = worker(box, redis, "first", "--lease", "1h").start()
    for i in range(3):
        fill(redis, i * 100, 100)
        first.kill()
        first.start()
    once(redis, 300, first)


def test_kill_of_the_owner_in_a_batch(box, redis):
    """A part of the batch stands in the log of the dead: the next owner writes all of it, and when the first one comes back, it
    takes its own part out."""
    first = worker(box, redis, "first").start()
    fill(redis, 0, 100)
    drain(redis)
    full_disk(first, 10 * len(line(100)) + 20)
    fill_at_once(redis, 100, 100)
    first.wait_output("File too large")
    first.kill()
    second = worker(box, redis, "second").start(ready=False)
    drain(redis)
    first.start(ready=False)
    first.wait_output(STANDING_BY)
    settled(redis, first, second, 200)


def test_what_is_noted_for_another_log_is_small(box):
    """Each commit wrote the whole list of ids again: up to 250,000 bytes of append-only file a record."""
    redis = box.redis(appendonly=True)
    first = worker(box, redis, "first").start()
    fill(redis, 0, 1)
    drain(redis)
    first.kill()
    second = worker(box, redis, "second").start(ready=False)
    wait_owner(redis, second)
    before = append_only_bytes(redis)
    for n in range(1, 401):
        fill(redis, n, 1)
        drain(redis)
    assert append_only_bytes(redis) - before < 400 * 1000
    once(redis, 401, first, second)


def append_only_bytes(redis):
    return sum(entry.stat().st_size for entry in os.scandir(os.path.join(redis.directory, "appendonlydir")))


# ---- Stopped for longer than the lease ----

def fill_at_once(redis, first, count):
    """In one transaction, so that a read that waits gets more than the first one."""
    with redis.client() as c:
        c.pipeline([["MULTI"]] + [["XADD", "logs-stream", "*", "service", "test", "level", "warn", "message", str(n), "timestamp",
                                   STAMP] for n in range(first, first + count)] + [["EXEC"]])


def dispossess(redis, first, second):
    """Stops the first worker until the second one has the stream, and has written what is left."""
    first.freeze()
    wait_owner(redis, second)
    drain(redis)


def owns(redis, who):
    return f" pid={who.pid} " in (redis("GET", "logs-stream:owner") or "")


def wait_owner(redis, who):
    wait_until(lambda: owns(redis, who), f"{who.name} to take over")


def settled(redis, first, second, count):
    """Waits until the first worker has taken its part out, and what it left of a line."""
    drain(redis)
    wait_until(lambda: not_once(both(first, second), map(line, range(count))) == {},
               lambda: not_once(both(first, second), map(line, range(count))))
    with open(first.output, "rb") as f:
        assert f.read()[-1:] == b"\n"


def pair_at_100(box, redis, url=None):
    """The first worker has written 100 records, and the second one stands by."""
    first = worker(box, url or redis, "first").start()
    second = standby(box, redis)
    fill(redis, 0, 100)
    drain(redis)
    return first, second


@pytest.mark.parametrize("room_lines", [0, 1, 50])
def test_stopped_in_a_batch(box, redis, room_lines):
    """Its lines would have stood twice."""
    first, second = pair_at_100(box, redis)
    full_disk(first, room_lines * len(line(100)) + 20)
    fill_at_once(redis, 100, 100)
    first.wait_output("File too large")
    dispossess(redis, first, second)
    first.signal(signal.SIGCONT)
    first.wait_output(STANDING_BY)
    settled(redis, first, second, 200)
    fill(redis, 200, 100)
    once(redis, 300, first, second)


def test_stopped_in_a_batch_while_redis_starts_again(box):
    """From its append-only file, so that nothing is put back."""
    redis = box.redis(appendonly=True)
    first, second = pair_at_100(box, redis)
    full_disk(first, 50 * len(line(100)) + 20)
    fill_at_once(redis, 100, 100)
    first.wait_output("File too large")
    first.freeze()
    redis.kill()
    redis.start()
    wait_owner(redis, second)
    drain(redis)
    first.signal(signal.SIGCONT)
    settled(redis, first, second, 200)


@pytest.mark.parametrize("late", [True, False])
def test_stopped_before_its_commit(box, redis, late):
    """The commit comes when another one owns the stream, and is refused; or it never comes. Its lines are taken out."""
    gate = Gate(redis.socket)
    first, second = pair_at_100(box, redis, gate.url)
    gate.shut(UP)  # the read has passed, and nothing that follows it will
    fill_at_once(redis, 100, 50)
    wait_until(lambda: len(first.lines()) > 100, "lines of the batch")
    wait_until(lambda: gate.held[UP], "the commit to be held back")
    dispossess(redis, first, second)
    if late:
        gate.lift()
    else:
        gate.cut()
    first.signal(signal.SIGCONT)
    first.wait_output(STANDING_BY, seconds=20)
    settled(redis, first, second, 150)
    fill(redis, 150, 50)
    once(redis, 200, first, second)
    gate.close()


@pytest.mark.parametrize("equal", [False, True], ids=["", "equal records"])
@pytest.mark.parametrize("late", [True, False], ids=["late", "never"])
def test_stopped_after_its_commit(box, redis, late, equal):
    """The commit took place, and its answer is late, or never comes. Its lines are all there is of the records, and stay, also when the
    other log has lines that are equal in every byte."""
    gate = Gate(redis.socket)
    first, second = pair_at_100(box, redis, gate.url)
    first.freeze()
    before = gate.passed[DOWN]
    fill_at_once(redis, 100, 50)
    wait_until(lambda: gate.passed[DOWN] > before, "the read to be answered")
    gate.shut(DOWN)
    first.signal(signal.SIGCONT)
    wait_until(lambda: redis.length() < 50, "the commit")
    first.freeze()
    fill_at_once(redis, 100 if equal else 150, 50)  # so that there is something to take
    wait_owner(redis, second)
    drain(redis)
    if late:
        gate.lift()
    else:
        gate.cut()
    first.signal(signal.SIGCONT)
    first.wait_output(STANDING_BY, seconds=20)
    drain(redis)
    fill(redis, 200, 50)
    drain(redis)
    expected = [*range(150), *range(100, 150), *range(200, 250)] if equal else range(250)
    assert len(first.lines()) > 100 and not_once(both(first, second), map(line, expected)) == {}
    gate.close()


def test_two_that_are_stopped_in_turn_under_load(box, redis):
    """Wherever the signal meets them, no line stands twice over both logs, and none is missing."""
    pair = [worker(box, redis, "first", "--batch", "50").start(), standby(box, redis, "second", "--batch", "50")]
    count = 0
    for _ in range(6):
        holder = wait_until(lambda: next((w for w in pair if owns(redis, w)), None), "an owner")
        other = next(w for w in pair if w is not holder)
        for _ in range(20):
            fill(redis, count, 200)
            count += 200
        holder.freeze()
        wait_owner(redis, other)
        holder.signal(signal.SIGCONT)
    wait_until(lambda: sum("standing by" in w.readyz()[1] for w in pair) == 1, "one to stand by")
    once(redis, count, *pair)


def test_redis_was_put_back_before_another_log_took_the_stream(box, redis):
    """The copy held only a part of the batch in hand, and new entries followed it: the batch seemed to lie in what was taken. But
    the lines of the rest were all that was left."""
    first, second = worker(box, redis, "first"), worker(box, redis, "second")
    box.write("first.log", b"".join(map(line, range(9))))
    slots.write(first.state, first.output, 0, "1000-1", "1000-9", "a" * 32)
    redis("HSET", "logs-stream:account", "token", "a" * 32, "written", 0, "filtered", 0, "dead", 0)
    for n, entry_id in ((0, "1000-1"), (1, "1000-2"), (9, "2000-1"), (10, "2000-2")):
        redis("XADD", "logs-stream", entry_id, "service", "test", "level", "warn", "message", str(n), "timestamp", STAMP)
    second.start()
    drain(redis)
    first.start(ready=False)
    first.wait_output(STANDING_BY)
    assert {*map(line, range(11))} <= {text + b"\n" for text in both(first, second)}


def test_opening_of_an_earlier_life_that_comes_late(box, redis):
    """It lay in the network, and replaced the lease of the next life. That took it for a twin's, took another token, and so never learned
    that its batch in hand was taken: its lines stood twice."""
    gate = Gate(redis.socket)
    first = worker(box, gate.url, "first").start()
    fill(redis, 0, 100)
    drain(redis)
    first.kill()
    gate.trap = b"$32\r\n" + slots.read(first.state)["token"].encode()
    first.start(ready=False)
    wait_until(lambda: gate.held[UP], "the opening to be held back")
    first.kill()
    first.argv[first.argv.index(gate.url)] = redis.url
    first.start()
    second = standby(box, redis)
    full_disk(first, 10 * len(line(100)) + 20)
    fill_at_once(redis, 100, 100)
    first.wait_output("File too large")
    before = scripts_run(redis)
    gate.lift()
    wait_until(lambda: scripts_run(redis) > before + 8, "the opening to arrive, and some looks of both workers")
    first.freeze()
    wait_owner(redis, second)
    first.signal(signal.SIGCONT)
    settled(redis, first, second, 200)
    gate.close()


# ---- Twins ----

def test_log_that_was_copied_with_its_state(box, redis):
    """Both have one token. One of them takes a new one, and stands by."""
    first = worker(box, redis, "first").start()
    fill(redis, 0, 100)
    drain(redis)
    token = owner(redis)[0]
    shutil.copy(first.output, box.path("second.log"))
    shutil.copy(first.state, box.path("second.log.state"))
    second = worker(box, redis, "second").start(ready=False)
    wait_until(lambda: sum(bool(re.search(STANDING_BY, w.stderr(), re.M)) for w in (first, second)) == 1, "one to stand by")
    fill(redis, 100, 100)
    drain(redis)
    tokens = {slots.read(w.state)["token"] for w in (first, second)}
    assert len(tokens) == 2 and token in tokens
    owning, = [w for w in (first, second) if owns(redis, w)]
    assert len(owning.lines()) == 200
    assert not_once(both(first, second), [*map(line, range(200)), *map(line, range(100))]) == {}


def test_owner_key_that_somebody_else_deleted(box, redis):
    """The worker opens again; nothing is lost or doubled."""
    first = worker(box, redis, "first").start()
    for i in range(10):
        fill(redis, i * 200, 200)
        redis("DEL", "logs-stream:owner")
    once(redis, 2000, first)


def test_owner_key_of_another_type(box, redis):
    redis("LPUSH", "logs-stream:owner", "x")
    first = worker(box, redis, "first").start(ready=False)
    first.wait_output("WRONGTYPE")
    redis("DEL", "logs-stream:owner")
    fill(redis, 0, 100)
    once(redis, 100, first)
