"""What stands in the log decides, and no id: Redis put back, replaced or emptied, groups, and states that say nothing (doc/protocol.md,
section 5.2). Each record must stand once."""
import collections
import os
import re
import resource
import signal

import pytest

import slots
from gate import DOWN, Gate
from pipeline import Worker, program, read_lines, wait_until
from resp import RedisError
from test_worker import STAMP, add, drain, fill

LAG_MS = 5000


def line(n):
    """What the worker writes for fill()'s record n."""
    return b'{"level":"warn","message":"%d","service":"test","timestamp":"%s"}\n' % (n, STAMP.encode())


def known(option, value):
    """The option, if this build has it: version 0.1.0 had groups and consumers."""
    help_text = os.popen(f"{program('logworker')} --help").read()
    return [option, value] if option in help_text else []


def ids(redis):
    return [entry_id for entry_id, _ in redis("XRANGE", "logs-stream", "-", "+")]


def after(entry_id):
    ms, n = entry_id.split("-")
    return f"{ms}-{int(n) + 1}"


def not_once(lines, expected):
    """Which lines stand too often (1 or more) or too seldom (-1 or less)."""
    difference = collections.Counter(lines)
    difference.subtract(text[:-1] for text in expected)
    return {text: n for text, n in difference.items() if n}


def once(redis, worker, count):
    """Waits until nothing is left to do. Then each of the numbers must stand once."""
    drain(redis)
    assert not_once(worker.lines(), map(line, range(count))) == {}


def full_disk(worker, room_bytes):
    """Lets its log grow by that much, and no more. The worker keeps the rest, and tries again and again. The log must be larger
    than all else that the worker writes."""
    size = os.path.getsize(worker.output)
    assert size > 8000
    size += room_bytes
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def die_in_a_batch(redis, worker, room_bytes, first, count):
    """Kills the worker when it has written so many bytes of a batch of new records, and not committed it."""
    full_disk(worker, room_bytes)
    fill(redis, first, count)
    worker.wait_output("File too large")
    worker.kill()


# ---- Redis's clock, and older data ----

def test_the_clock_of_redis_can_be_stepped(box):
    """The seam of the tests below."""
    def stamp(redis):
        return int(add(redis, "x", stream="clock").split("-")[0])
    redis = box.redis(appendonly=True, clock=True)
    now = stamp(redis)
    redis.step_clock(60000)
    assert 60000 <= stamp(redis) - now < 90000
    redis("DEL", "clock")
    redis.step_clock(-60000)
    assert -60000 <= stamp(redis) - now < -30000
    redis.kill()
    redis.start()
    redis("DEL", "clock")
    assert -60000 <= stamp(redis) - now < 0


@pytest.mark.parametrize("worker_lives", [True, False])
def test_copy_one_record_old_and_a_clock_that_lags(box, worker_lives):
    """20 of 20 new records were skipped and deleted, since their ids were below that of the last one written."""
    redis = box.redis(appendonly=True, clock=True)
    worker = box.worker(redis)
    fill(redis, 0, 9)
    drain(redis)
    redis.copy_data(box.path("copy"))
    fill(redis, 9, 1)
    once(redis, worker, 10)
    if not worker_lives:
        worker.kill()
    redis.kill()
    redis.put_back(box.path("copy"))
    redis.step_clock(-LAG_MS)
    redis.start()
    fill(redis, 10, 20)
    if not worker_lives:
        worker.start()
    once(redis, worker, 30)


def test_copy_that_holds_what_is_written(box):
    """Entries come back, between others that do not: each stands once."""
    redis = box.redis(appendonly=True, clock=True)
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    worker.freeze()
    fill(redis, 10, 40)
    redis.copy_data(box.path("copy"))
    fill(redis, 50, 10)
    worker.signal(signal.SIGCONT)
    drain(redis)
    redis.kill()
    worker.kill()
    redis.put_back(box.path("copy"))
    redis.step_clock(-LAG_MS)
    redis.start()
    fill(redis, 60, 40)
    worker.start()
    once(redis, worker, 100)


def offset(redis):
    return int(re.search(r"^master_repl_offset:(\d+)", redis("INFO", "replication"), re.M).group(1))


def test_failover_to_a_replica_one_record_behind(box):
    """15 of 24 records were skipped and deleted."""
    first = box.redis(name="first", clock=True, args=("--repl-diskless-sync-delay", "0"))
    first.step_clock(LAG_MS)
    gate = Gate(first.socket)
    second = box.redis(name="second", args=("--replicaof", f"127.0.0.1 {gate.port}"))
    wait_until(lambda: "master_link_status:up" in second("INFO", "replication"), "the replica to follow")
    os.symlink(first.socket, box.path("redis"))
    worker = box.worker("unix://" + box.path("redis"))
    fill(first, 0, 9)
    drain(first)
    wait_until(lambda: offset(first) == offset(second), "the replica to have all")
    gate.shut(DOWN)
    fill(first, 9, 1)
    once(first, worker, 10)
    first.kill()
    os.remove(box.path("redis"))
    os.symlink(second.socket, box.path("redis"))
    second("REPLICAOF", "NO", "ONE")
    fill(second, 10, 24)
    once(second, worker, 34)
    gate.close()


@pytest.mark.parametrize("worker_lives", [True, False])
def test_stream_deleted_after_ids_ran_ahead(box, worker_lives):
    """20 of 20 were skipped and deleted."""
    redis = box.redis(clock=True)
    redis.step_clock(60000)
    worker = box.worker(redis)
    fill(redis, 0, 5)
    drain(redis)
    redis.step_clock(0)
    if not worker_lives:
        assert worker.stop() == 0
    redis("DEL", "logs-stream")
    fill(redis, 5, 20)
    if not worker_lives:
        worker.start()
    once(redis, worker, 25)


def test_clock_steps_under_a_worker_that_lives(box):
    redis = box.redis(clock=True)
    worker = box.worker(redis)
    for i, step in enumerate((0, 3600000, -3600000, 7200000, 0)):
        redis.step_clock(step)
        fill(redis, i * 10, 10)
        if i == 2:
            redis("DEL", "logs-stream:nothing")
    once(redis, worker, 50)


# ---- Groups ----

def group(redis, name, consumer, count):
    """Makes a group as version 0.1.0 or somebody else has it, with so many entries delivered to the consumer."""
    redis("XGROUP", "CREATE", "logs-stream", name, "0", "MKSTREAM")
    if count:
        redis("XREADGROUP", "GROUP", name, consumer, "COUNT", count, "STREAMS", "logs-stream", ">")


def groups(redis):
    return [dict(zip(g[::2], g[1::2]))["name"] for g in redis("XINFO", "GROUPS", "logs-stream")]


@pytest.mark.parametrize("delivered", [0, 30, 50])
def test_entries_delivered_to_a_consumer_that_is_gone(box, redis, delivered):
    """They stayed for ever, unseen. Now they are read like all others, and the old group goes."""
    fill(redis, 0, 50)
    group(redis, "logworkers", "gone", delivered)
    worker = box.worker(redis)
    once(redis, worker, 50)
    wait_until(lambda: groups(redis) == [], "the old group to be destroyed")
    fill(redis, 50, 10)
    once(redis, worker, 60)


def test_xautoclaim_of_a_dead_consumers_entries(box, redis):
    """They came with ids below those that were written, and were deleted."""
    fill(redis, 0, 160)
    group(redis, "logworkers", "gone", 160)
    worker = box.worker(redis)
    fill(redis, 160, 10)
    wait_until(lambda: b'"169"' in b"".join(worker.lines()), "the new records")
    worker.kill()
    try:
        redis("XAUTOCLAIM", "logs-stream", "logworkers", "logworker", "0", "0", "COUNT", "200")
    except RedisError as e:
        assert "NOGROUP" in str(e)  # the worker has destroyed it
    worker.start()
    once(redis, worker, 170)


def test_consumer_changed_and_changed_back_around_a_crash(box, redis):
    """160 records were lost."""
    def worker(consumer):
        return Worker(box, redis, *known("--consumer", consumer), *known("--batch", "160"), name=consumer)
    first = worker("a").start()
    fill(redis, 0, 100)
    drain(redis)
    die_in_a_batch(redis, first, 0, 100, 160)
    second = worker("b").start()
    fill(redis, 260, 20)
    wait_until(lambda: b'"279"' in b"".join(second.lines()), "the new records")
    assert second.stop() == 0
    first.start()
    once(redis, first, 280)


def test_two_workers_on_one_stream(box, redis):
    """With two groups, each deleted what the other one had not read: 5,000 of 5,000 were lost to one that was stopped."""
    workers = [Worker(box, redis, *known("--group", name), *known("--lease", "1s"), name=name, output=box.path(name + ".log"))
               for name in ("one", "two")]
    for w in workers:
        w.start(ready=False)
    fill(redis, 0, 5000)
    drain(redis)
    workers[0].kill()
    fill(redis, 5000, 5000)
    drain(redis)
    workers[0].start(ready=False)
    workers[1].kill()
    fill(redis, 10000, 5000)
    drain(redis)
    assert not_once([text for w in workers for text in w.lines()], map(line, range(15000))) == {}


def looks_at_groups(redis):
    found = re.search(r"^cmdstat_xinfo\|groups:calls=(\d+)", redis("INFO", "commandstats"), re.M)
    return int(found.group(1)) if found else 0


def test_foreign_group(box, redis):
    """The worker removes what the group has not read, and says so once in each life."""
    fill(redis, 0, 10)
    group(redis, "audit", "somebody", 5)
    worker = box.worker(redis)
    for life in (1, 2):
        looks = looks_at_groups(redis)
        worker.wait_output(r'(?s)\A(.*consumer group "audit" of another program.*){%d}' % life)
        fill(redis, 10 * life, 10)
        drain(redis)
        wait_until(lambda: looks_at_groups(redis) >= looks + 2, "another look at the groups")
        assert worker.stderr().count('"audit"') == life
        worker.kill()
        if life == 1:
            worker.start()
    once(redis, worker, 30)
    assert groups(redis) == ["audit"]


# ---- A log that has a part of the batch ----

@pytest.mark.parametrize("room_lines", [0, 1, 7, 39, 40])
@pytest.mark.parametrize("torn_bytes", [0, 1, 40, -1])
def test_kill_in_a_batch_of_equal_records(box, redis, room_lines, torn_bytes):
    """The same bytes, the same time stamp: as many lines as records."""
    def equal(count):
        with redis.client() as c:
            c.pipeline([["XADD", "logs-stream", "*", "service", "test", "level", "warn", "message", "0", "timestamp", STAMP]] * count)
    size = len(line(0))
    worker = box.worker(redis)
    equal(100)
    drain(redis)
    full_disk(worker, room_lines * size + (torn_bytes if torn_bytes >= 0 else size - 1))
    equal(41)
    worker.wait_output("File too large")
    worker.kill()
    worker.start()
    drain(redis)
    assert worker.lines() == [line(0)[:-1]] * 141


@pytest.mark.parametrize("room_lines", [0, 5, 19])
def test_kill_in_a_batch_of_all_kinds(box, redis, room_lines):
    """Of three entries one is written, one is filtered, and one goes to the dead letters: each once."""
    worker = box.worker(redis)
    fill(redis, 0, 100)
    drain(redis)
    full_disk(worker, room_lines * len(line(100)) + 30)
    with redis.client() as c:
        c.pipeline([["MULTI"]] + [["XADD", "logs-stream", "*", "service", "test", "level", ("warn", "info", "loud")[n % 3], "message",
                                   str(100 + n // 3), "timestamp", STAMP] for n in range(60)] + [["EXEC"]])
    worker.wait_output("File too large")
    worker.kill()
    worker.start()
    once(redis, worker, 120)
    assert [dict(e)["message"] for e in redis.entries("logs-stream:dead")] == [str(100 + n) for n in range(20)]
    account = redis("HGETALL", "logs-stream:account")
    assert {"written": "120", "filtered": "20", "dead": "20"}.items() <= dict(zip(account[::2], account[1::2])).items()


def test_kill_between_the_lines_and_the_commit(box, redis):
    """Redis holds the commit back. What is written by then is written once."""
    gate = Gate(redis.socket)
    worker = box.worker(gate.url)
    fill(redis, 0, 10)
    drain(redis)
    with redis.client() as c:
        c.pipeline([["MULTI"]] + [["XADD", "logs-stream", "*", "service", "test", "level", "warn", "message", str(n % 7 + 10),
                                   "timestamp", STAMP] for n in range(70)] + [["CLIENT", "PAUSE", "600000", "WRITE"], ["EXEC"]])
        wait_until(lambda: len(worker.lines()) > 10, "lines of the batch")
        worker.kill()
        wait_until(lambda: len(c("CLIENT", "LIST").splitlines()) == 1, "the end of the worker's connections")
        c("CLIENT", "UNPAUSE")
    gate.close()
    worker.argv[worker.argv.index(gate.url)] = redis.url
    worker.start()
    drain(redis)
    assert not_once(worker.lines(), map(line, [*range(10), *(n % 7 + 10 for n in range(70))])) == {}


# ---- States that say nothing ----

def no_state(worker, redis):
    assert not os.path.exists(worker.state)


def damaged_state(worker, redis):
    with open(worker.state, "wb") as f:
        f.write(os.urandom(1024))


def state_of_a_file_that_is_gone(worker, redis):
    with open(worker.output + ".other", "wb"):
        slots.write(worker.state, worker.output + ".other", 0, after(ids(redis)[-1]), ids(redis)[-1], "a" * 32)
    os.remove(worker.output + ".other")


def state_of_old_version(worker, redis):
    slots.write_old(worker.state, worker.output, os.path.getsize(worker.output) - 30 * len(line(99)), ids(redis)[19], "b" * 32)


STATES = [no_state, damaged_state, state_of_a_file_that_is_gone, state_of_old_version]


@pytest.mark.parametrize("state", STATES)
def test_backlog_that_is_partly_in_the_log(box, redis, state):
    """It was written twice, as far as the log had it."""
    worker = Worker(box, redis)
    fill(redis, 50, 100)
    box.write("app.log", b"".join(line(n) for n in range(100)) + line(100)[:11])
    state(worker, redis)
    worker.start()
    once(redis, worker, 150)


@pytest.mark.parametrize("state", STATES[:3])
def test_backlog_that_is_partly_in_a_rotated_log(box, redis, state):
    worker = Worker(box, redis)
    fill(redis, 50, 100)
    box.write("app.log.2", b"".join(line(n) for n in range(60)))
    box.write("app.log.1", b"".join(line(n) for n in range(60, 90)))
    os.utime(box.path("app.log.2"), (1000000000, 1000000000))
    box.write("app.log", b"".join(line(n) for n in range(90, 100)))
    state(worker, redis)
    worker.start()
    drain(redis)
    assert not_once(worker.lines(), map(line, range(90, 150))) == {}


@pytest.mark.parametrize("rotated", [False, True])
def test_lines_farther_back_than_it_looks(box, redis, rotated):
    """They are written again, rather than lost; the worker warns, and counts them."""
    worker = Worker(box, redis, "--look-back", "1m", "--listen", "127.0.0.1:0")
    filler = b"".join(map(line, range(1000, 37000)))  # 3 MB
    box.write("app.log", line(0) + filler + line(1))
    if rotated:
        box.write("app.log.1", line(0) + filler)
        box.write("app.log", line(1))
    for n in range(2):
        add(redis, str(n))
    worker.start()
    drain(redis)
    found = [text for path in (worker.output + ".1", worker.output) for text in read_lines(path)]
    assert not_once(found, [line(0), line(0), line(1), *map(line, range(1000, 37000))]) == {}
    assert worker.metrics()["logworker_entries_unplaced_total"] == 1
    worker.wait_output("may stand twice")


def test_state_that_stops_in_a_batch(box, redis):
    """Lines behind the offset count for the batch in hand, and those before do not: equal records are told apart."""
    worker = Worker(box, redis)
    fill(redis, 0, 10)
    box.write("app.log", b"".join(line(n) for n in range(10)) + b"".join(line(n) for n in range(4)))
    entries = ids(redis)
    slots.write(worker.state, worker.output, 10 * len(line(0)), entries[0], entries[7], "c" * 32, gen=7)
    worker.start()
    drain(redis)
    assert not_once(worker.lines(), map(line, [*range(10), *range(10)])) == {}
    assert slots.read(worker.state)["token"] == "c" * 32


@pytest.mark.parametrize("state, in_log, expected", [
    (("5-1", "5-4"), 0, 8), (("5-1", "5-4"), 3, 8), (("5-1", "5-2"), 0, 8), (("9-2", "9-1"), 0, 8), (("9-2", "9-1"), 8, 8)],
    ids=["none in the log", "some in the log", "new ones, too", "all old", "all old, and in the log"])
def test_equal_records_in_all_rows(box, redis, state, in_log, expected):
    """Some below the batch in hand, which follow a rollback, and some in it, and some after it. Lines that were written since the opening
    are not good for those that follow."""
    worker = Worker(box, redis)
    text = line(7)
    for entry_id in ("4-1", "4-2", "4-3", "4-4", "5-1", "5-2", "5-3", "5-4"):
        redis("XADD", "logs-stream", entry_id, "service", "test", "level", "warn", "message", "7", "timestamp", STAMP)
    box.write("app.log", line(1) + text * in_log)
    slots.write(worker.state, worker.output, len(line(1)), *state, "e" * 32)
    worker.start()
    drain(redis)
    assert len(worker.lines()) - 1 in (expected, expected + in_log)
    assert set(worker.lines()) == {line(1)[:-1], text[:-1]}


# ---- Version 0.1.0 ----

def test_migration_by_hand(box, redis):
    """A worker of version 0.1.0 died in the middle: its group holds entries, and its log their lines, up to half a line."""
    worker = Worker(box, redis)
    fill(redis, 0, 200)
    entries = ids(redis)
    group(redis, "logworkers", "logworker", 128)
    redis("SET", "logs-stream:lineage", "d" * 32)
    redis("XACK", "logs-stream", "logworkers", *entries[:64])
    redis("XDEL", "logs-stream", *entries[:64])
    box.write("app.log", b"".join(line(n) for n in range(100)) + line(100)[:-20])
    slots.write_old(worker.state, worker.output, 64 * len(line(99)), entries[63], "d" * 32)
    worker.start()
    once(redis, worker, 200)
    wait_until(lambda: groups(redis) == [], "the old group to be destroyed")


def migrate(box, redis, old):
    """From the program itself, which was killed in a batch."""
    worker = Worker(box, redis)
    new, worker.argv[0] = worker.argv[0], old
    worker.start()
    fill(redis, 0, 500)
    drain(redis)
    die_in_a_batch(redis, worker, 33 * len(line(999)) + 50, 500, 300)
    worker.argv[0] = new
    worker.start()
    fill(redis, 800, 100)
    once(redis, worker, 900)
    wait_until(lambda: groups(redis) == [], "the old group to be destroyed")


if "LOGPIPE_OLD_WORKER" in os.environ:  # the path of a logworker of version 0.1.0; a test that is skipped would fail in CI
    def test_migration_from_the_old_program(box, redis):
        migrate(box, redis, os.environ["LOGPIPE_OLD_WORKER"])
