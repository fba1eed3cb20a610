"""logworker through kills, rotations, and a Redis that is emptied, exchanged, or put back (doc/protocol.md, section 5)."""
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import threading
import time

import pytest

from pipeline import Redis, Worker, metrics, read_lines, wait_until
from test_worker import add, die_before_commit, drain, fill, numbers


def numbers_of(paths):
    return [int(json.loads(line)["message"]) for path in paths for line in read_lines(path)]


class Load:
    """Numbered entries without a pause, from a thread of its own."""

    def __init__(self, redis, step=50):
        self.redis, self.step, self.count, self.error = redis, step, 0, None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ending.set()
        self.thread.join()
        assert self.error is None, self.error

    def _run(self):
        try:
            while not self.ending.wait(0.002):
                fill(self.redis, self.count, self.step)
                self.count += self.step
        except Exception as e:  # in a thread of its own: kept for the test to see
            self.error = e


# ---- Kills and rotation ----

def test_kills_around_rotations_under_load(box):
    """Renamed, and killed before, after, or without the SIGHUP: each entry once over all files, in order."""
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    rotated = []
    with Load(redis) as load:
        for i in range(24):
            seen = load.count
            wait_until(lambda: load.count > seen + 200, "more entries")
            rotated.append(f"{worker.output}.{i:02}")
            os.rename(worker.output, rotated[-1])
            if i % 3:
                worker.signal(signal.SIGHUP)
            if i % 3 == 2:
                wait_until(lambda: os.path.exists(worker.output), "a new app.log")
            worker.kill()
            worker.start()
    drain(redis, 60)
    assert numbers_of(rotated + [worker.output]) == list(range(load.count))


def test_two_rotations_between_two_lives(box, redis):
    """The file that the state speaks of is renamed twice, and another one has its first name."""
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, b'{"message":"10"}\n{"mess', 10, 5)
    os.rename(worker.output, worker.output + ".1")
    os.rename(worker.output + ".1", worker.output + ".2")
    box.write("app.log.1", b"")
    worker.start()
    drain(redis)
    assert numbers_of([worker.output + ".2", worker.output + ".1", worker.output]) == list(range(15))


@pytest.mark.parametrize("moved", [True, False])
def test_the_file_that_was_written_last_is_gone(box, redis, moved):
    """Moved to another directory, or replaced by a compressed copy: its tail cannot be cut, and the worker says so."""
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, b'{"message":"10"}\n{"message":"11"}\n', 10, 5)
    os.mkdir(box.path("old"))
    away = box.path("old/app.log")
    if moved:
        os.rename(worker.output, away)
    else:
        shutil.copy(worker.output, away)
        os.unlink(worker.output)
    mark = worker.mark()
    worker.start()
    drain(redis)
    assert numbers_of([away, worker.output]) == list(range(12)) + list(range(10, 15))
    assert "may stand twice" in worker.stderr()[mark[1]:] and "olddir" in worker.stderr()[mark[1]:]


def test_a_file_that_is_gone_after_an_orderly_end_is_no_matter(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    assert worker.stop() == 0
    os.unlink(worker.output)
    mark = worker.mark()
    worker.start()
    fill(redis, 10, 5)
    drain(redis)
    assert numbers(worker) == list(range(10, 15))
    assert "twice" not in worker.stderr()[mark[1]:]


def test_copytruncate(box, redis):
    """The log is copied and cut to nothing under the worker: what follows goes to its new end."""
    worker = box.worker(redis)
    copies = []
    for i in range(4):
        fill(redis, i * 300, 300)
        drain(redis)
        copies.append(f"{worker.output}.{i}")
        shutil.copy(worker.output, copies[-1])
        os.truncate(worker.output, 0)
        if i % 2:
            worker.kill()
            worker.start()
    fill(redis, 1200, 300)
    drain(redis)
    assert numbers_of(copies + [worker.output]) == list(range(1500))
    assert b"\0" not in b"".join(worker.lines())


def test_log_is_deleted_under_the_worker(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    os.unlink(worker.output)
    fill(redis, 10, 10)
    drain(redis)
    assert numbers(worker) == list(range(10, 20))
    assert "was deleted" in worker.stderr()


# ---- Redis is emptied, exchanged, put back ----

def test_flushall_under_load(box, redis):
    """What Redis forgets is lost; all else stands once, in order, and the worker needs no help."""
    worker = box.worker(redis)
    with Load(redis) as load:
        for _ in range(10):
            seen = len(worker.lines())
            wait_until(lambda: len(worker.lines()) > seen + 200, "more lines", 30)
            redis("FLUSHALL")
    after = load.count
    fill(redis, after, 100)
    wait_until(lambda: redis("EXISTS", "logs-stream") and redis.drained(), "the stream to be empty", 30)
    written = numbers(worker)
    assert written == sorted(set(written))
    assert written[-100:] == list(range(after, after + 100))


def test_another_server_at_the_same_address_cuts_nothing(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    tail = b'{"message":"10"}\n{"message":"11"}\n'
    die_before_commit(redis, worker, tail, 10, 2)
    redis.kill()
    os.unlink(redis.socket)
    other = Redis(box, "other")
    other.argv[other.argv.index("--unixsocket") + 1] = other.socket = redis.socket
    other.start()
    # Another lineage, with an entry that is pending for the same consumer, after all ids of the first one.
    other("SET", "logs-stream:lineage", "0123456789abcdef" * 2)
    add(other, "12")
    other("XGROUP", "CREATE", "logs-stream", "logworkers", "0")
    other("XREADGROUP", "GROUP", "logworkers", "logworker", "STREAMS", "logs-stream", ">")
    mark = worker.mark()
    worker.start()
    drain(other)
    assert numbers(worker) == list(range(13))
    assert "another server" in worker.stderr()[mark[1]:] and "stay in the log" in worker.stderr()[mark[1]:]


def append_only_copy(redis, path):
    shutil.copytree(os.path.join(os.path.dirname(redis.socket), redis.name + ".d"), path)


def put_back(redis, path):
    redis.kill()
    directory = os.path.join(os.path.dirname(redis.socket), redis.name + ".d")
    shutil.rmtree(directory)
    shutil.copytree(path, directory)
    redis.start()


@pytest.mark.parametrize("worker_lives", [True, False])
def test_older_copy_of_the_data_doubles_nothing(box, worker_lives):
    """Entries come back that are in app.log already: they are skipped, those that are not are written."""
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    fill(redis, 0, 50)
    drain(redis)
    worker.signal(signal.SIGSTOP)
    fill(redis, 50, 50)
    append_only_copy(redis, box.path("copy"))
    worker.signal(signal.SIGCONT)
    drain(redis)
    fill(redis, 100, 20)
    drain(redis)
    if not worker_lives:
        assert worker.stop() == 0
    put_back(redis, box.path("copy"))
    if not worker_lives:
        worker.start()
    fill(redis, 120, 30)
    drain(redis, 30)
    assert numbers(worker) == list(range(150))


def test_older_copy_of_the_data_and_a_tail(box):
    """The entries of the tail come as new ones. Nothing is lost; they stand twice, as the worker warns (section 5)."""
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    worker.kill()
    wait_until(lambda: len(redis("CLIENT", "LIST").splitlines()) == 1, "the end of the worker's reads")
    fill(redis, 10, 5)
    append_only_copy(redis, box.path("copy"))
    redis("XREADGROUP", "GROUP", "logworkers", "logworker", "STREAMS", "logs-stream", ">")
    with open(worker.output, "ab") as f:
        f.write(b"".join(b'{"message":"%d"}\n' % n for n in range(10, 15)))
    assert redis.pending() == 5
    put_back(redis, box.path("copy"))
    assert redis.pending() == 0 and redis.length() == 5
    mark = worker.mark()
    worker.start()
    drain(redis)
    assert numbers(worker) == [*range(15), *range(10, 15)]
    assert "stand twice" in worker.stderr()[mark[1]:]


def test_older_copy_of_the_data_from_before_the_lineage(box):
    """The copy is of the empty server: nothing in it can be told from another server's."""
    redis = box.redis(appendonly=True)
    append_only_copy(redis, box.path("copy"))
    worker = box.worker(redis)
    fill(redis, 0, 50)
    drain(redis)
    put_back(redis, box.path("copy"))
    fill(redis, 50, 50)
    wait_until(lambda: redis("EXISTS", "logs-stream:lineage") and redis.drained(), "the stream to be empty", 30)
    assert numbers(worker) == list(range(100))


@pytest.mark.parametrize("kill", [True, False])
def test_redis_is_killed_under_load(box, kill):
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    count = 0
    for i in range(12):
        fill(redis, count, 400)
        count += 400
        redis.kill()
        if kill and i % 2:
            worker.kill()
            worker.start(ready=False)
        redis.start()
    drain(redis, 60)
    assert numbers(worker) == list(range(count))


# ---- State and log that don't fit ----

def test_damaged_state_and_a_torn_line(box, redis):
    """Nothing is cut; the torn line is ended, so that the next one stands alone."""
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, b'{"level":"warn","mess', 10, 5)
    with open(worker.state, "r+b") as f:
        f.write(b"X" * 512)
    mark = worker.mark()
    worker.start()
    drain(redis)
    lines = worker.lines()
    assert lines[10] == b'{"level":"warn","mess'
    assert [int(json.loads(line)["message"]) for line in lines[:10] + lines[11:]] == list(range(15))
    assert "no valid slot" in worker.stderr()[mark[1]:]


def test_damaged_slot_of_the_last_commit(box, redis):
    """The commit before counts. What comes after it in the log stays, since Redis has nothing of it any more."""
    worker = box.worker(redis)
    for n in range(5):
        add(redis, str(n))
        drain(redis)
    worker.kill()
    with open(worker.state, "r+b") as f:
        slots = [f.read(256), f.read(256)]
        newest = max((0, 1), key=lambda i: int(re.search(rb"gen=(\d+)", slots[i]).group(1)))
        f.seek(256 * newest)
        f.write(b" " * 256)
    mark = worker.mark()
    worker.start()
    fill(redis, 5, 3)
    drain(redis)
    assert numbers(worker) == list(range(8))
    assert "stay in the log" in worker.stderr()[mark[1]:]


# ---- Dead letters ----

def test_malformed_entry_at_the_memory_limit(box, redis):
    """Reading makes room, also when the first entry has to be moved: nobody needs to help."""
    redis("XADD", "logs-stream", "*", "x", "y")
    fill(redis, 0, 100)
    redis("CONFIG", "SET", "maxmemory", "1")
    worker = box.worker(redis)
    drain(redis)
    assert numbers(worker) == list(range(100))
    assert redis.length("logs-stream:dead") == 1


def test_dead_letters_under_a_key_of_another_type(box, redis):
    """What lies before the malformed entry is written; the rest waits until the key is free."""
    worker = box.worker(redis, "--batch", "10")
    redis("SET", "logs-stream:dead", "x")
    fill(redis, 0, 10)
    drain(redis)
    redis("XADD", "logs-stream", "*", "x", "y")
    worker.wait_output("WRONGTYPE")
    fill(redis, 10, 30)
    assert numbers(worker) == list(range(10)) and redis.length() == 31
    redis("DEL", "logs-stream:dead")
    drain(redis)
    assert numbers(worker) == list(range(40))
    assert [dict(e)["x"] for e in redis.entries("logs-stream:dead")] == ["y"]


# ---- What it says of itself ----

def status_port(worker):
    return int(worker.wait_output(r"http://127\.0\.0\.1:(\d+)/metrics").group(1))


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())["status"]
    finally:
        connection.close()


def test_readiness_follows_redis_and_the_disk(box, redis):
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    port = status_port(worker)
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "readyz to answer 200")
    redis.kill()
    wait_until(lambda: get(port, "/readyz")[0] == 503, "readyz to answer 503")
    assert get(port, "/readyz")[1] == "Redis does not answer"
    assert get(port, "/healthz") == (200, "ok")
    assert metrics(port)["logworker_redis_up"] == 0
    redis.start()
    wait_until(lambda: get(port, "/readyz")[0] == 200, "readyz to answer 200", 30)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    fill(redis, 0, 100)
    wait_until(lambda: get(port, "/readyz")[0] == 503, "readyz to answer 503")
    assert get(port, "/readyz")[1] == "File too large"
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_until(lambda: get(port, "/readyz")[0] == 200, "readyz to answer 200")
    drain(redis)
    assert numbers(worker) == list(range(100))


def accepted(worker, connections):
    """How many of our connections the worker holds, by the sockets that the kernel names."""
    ours = {c.getsockname()[1] for c in connections}
    inodes = set()
    for line in open("/proc/net/tcp"):
        words = line.split()
        if words[0] != "sl" and int(words[2].split(":")[1], 16) in ours and int(words[1].split(":")[1], 16) not in ours:
            inodes.add(words[9])
    held = set()
    for fd in os.listdir(f"/proc/{worker.pid}/fd"):
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{worker.pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
        if found:
            held.add(found.group(1))
    return len(inodes & held)


def test_not_ready_while_the_group_is_set_up(box, redis):
    redis("CLIENT", "PAUSE", "600000", "WRITE")
    worker = Worker(box, redis, "--listen", "127.0.0.1:0").start(ready=False)
    port = status_port(worker)
    wait_until(lambda: get(port, "/readyz") == (503, "the group is being set up"), "the set-up")
    redis("CLIENT", "UNPAUSE")
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "readyz to answer 200")


def test_not_ready_while_nothing_can_be_acknowledged(box, redis):
    """Only the second connection is down."""
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    port = status_port(worker)
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "readyz to answer 200")
    with redis.client() as c:
        os.rename(redis.socket, redis.socket + ".away")
        own = c("CLIENT", "ID")
        clients = [dict(w.split("=", 1) for w in line.split()) for line in c("CLIENT", "LIST", "TYPE", "normal").splitlines()]
        second, = (x["id"] for x in clients if x["cmd"] != "xreadgroup" and int(x["id"]) != own)
        c("CLIENT", "KILL", "ID", second)
        wait_until(lambda: get(port, "/readyz") == (503, "Redis does not answer on the second connection"), "readyz to answer 503")
        os.rename(redis.socket + ".away", redis.socket)
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "readyz to answer 200")


def test_visits_to_the_status_port_are_few_and_short(box, redis):
    """Clients that send a byte now and then hold neither the worker nor the next visitor up for long."""
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    port = status_port(worker)
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    ending = threading.Event()

    def drip():
        while not ending.wait(0.2):
            for c in slow:
                try:
                    c.send(b"G")
                except OSError:
                    pass
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        wait_until(lambda: accepted(worker, slow) == 32, lambda: f"32 visits, not {accepted(worker, slow)}")
        fill(redis, 0, 100)
        drain(redis)
        assert accepted(worker, slow) == 32
        assert get(port, "/healthz") == (200, "ok")
    finally:
        ending.set()
        thread.join()
        for c in slow:
            c.close()
    assert numbers(worker) == list(range(100))


def test_used_up_descriptors_stop_only_visits(box, redis):
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    port = status_port(worker)
    add(redis, "0")
    drain(redis)
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "both connections to Redis")
    limit = max(map(int, os.listdir(f"/proc/{worker.pid}/fd"))) + 1
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    visits = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
    worker.wait_output("cannot accept connections: Too many open files")
    for n in range(1, 200):
        add(redis, str(n))
    drain(redis)
    assert numbers(worker) == list(range(200))
    assert worker.stderr().count("\n") < 10
    for c in visits:
        c.close()
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert get(port, "/healthz") == (200, "ok")


def test_second_signal_ends_it_at_once(box, redis):
    """The first one waits for the disk."""
    worker = box.worker(redis, "--shutdown-timeout", "1h")
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    fill(redis, 0, 100)
    worker.wait_output("File too large")
    connections = len(redis("CLIENT", "LIST").splitlines())
    worker.signal(signal.SIGTERM)
    wait_until(lambda: len(redis("CLIENT", "LIST").splitlines()) == connections - 1, "the end of reading")
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 69
    assert "second signal" in worker.stderr()
    assert redis.pending() > 0
    worker.start()
    drain(redis)
    assert numbers(worker) == list(range(100))


def test_sigusr1_prints_the_counters(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 20)
    fill(redis, 20, 5, level="info")
    redis("XADD", "logs-stream", "*", "x", "y")
    drain(redis)
    worker.signal(signal.SIGUSR1)
    found = worker.wait_output(r"read (\d+), written (\d+), filtered (\d+), dead (\d+), skipped (\d+)")
    assert [int(n) for n in found.groups()] == [26, 20, 5, 1, 0]


def test_counters_keep_their_law_through_kills_of_redis(box):
    """read = written + filtered + dead + skipped + dropped, and entries come and go in no other way."""
    redis = box.redis(appendonly=True)
    worker = box.worker(redis, "--listen", "127.0.0.1:0", "--level", "error")
    port = status_port(worker)
    for i in range(6):
        fill(redis, i * 300, 200)
        fill(redis, i * 300 + 200, 100, level="error")
        redis("XADD", "logs-stream", "*", "x", "y")
        redis.kill()
        redis.start()
    drain(redis, 60)
    wait_until(lambda: metrics(port)["logworker_stream_length"] == 0, "the metrics to follow")
    n = {k: metrics(port)[f"logworker_{k}_total"] for k in ("entries_read", "records_written", "records_filtered", "records_dead",
                                                            "records_skipped", "records_dropped")}
    assert n["entries_read"] == sum(v for k, v in n.items() if k != "entries_read")
    # A move whose reply died with Redis is not counted; the counters may fall short of what is there, and never exceed it.
    assert n["records_written"] == 600 and n["records_dead"] <= redis.length("logs-stream:dead") == 6
    # A batch that was committed, but not acknowledged in time, is read again, and counted as skipped.
    assert n["records_filtered"] >= 1200
    assert numbers(worker) == [i * 300 + 200 + k for i in range(6) for k in range(100)]


def test_two_workers_of_one_consumer(box, redis):
    """They closed each other's connection 25 times a second, and said nothing of why."""
    workers = [box.worker(redis, name=f"worker{i}", output=box.path(f"{i}.log")) for i in range(2)]
    wait_until(lambda: re.search(r"another logworker, connected from \S+, is consumer \"\S+\" of group \"logworkers\" too: .* --consumer",
                                 "".join(w.stderr() for w in workers)), "a warning")
    again = lambda: sum(w.stderr().count("connected to Redis again") for w in workers)
    begin, before = time.monotonic(), again()
    wait_until(lambda: again() >= before + 8, "more connections")
    # Of each worker's pauses of 50 ms and its doubles, half at least.
    assert time.monotonic() - begin > 0.7
