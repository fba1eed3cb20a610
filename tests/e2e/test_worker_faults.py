"""logworker through kills, rotations, and a Redis that is emptied, exchanged, or put back (doc/protocol.md, section 5)."""
import gzip
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import threading

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
    die_before_commit(redis, worker, 10, 5, 2, 15)
    os.rename(worker.output, worker.output + ".1")
    os.rename(worker.output + ".1", worker.output + ".2")
    box.write("app.log.1", b"")
    worker.start()
    drain(redis)
    assert numbers_of([worker.output + ".2", worker.output + ".1", worker.output]) == list(range(15))


@pytest.mark.parametrize("compressed", [True, False])
def test_the_file_that_was_written_last_is_gone(box, redis, compressed):
    """Moved to another directory, or replaced by a compressed copy: its lines cannot be found, and the worker says so."""
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, 10, 5, 2)
    written = worker.lines()
    if compressed:
        with gzip.open(worker.output + ".1.gz", "wb") as f:
            f.write(b"\n".join(written) + b"\n")
        os.unlink(worker.output)
    else:
        os.mkdir(box.path("old"))
        os.rename(worker.output, box.path("old/app.log"))
    mark = worker.mark()
    worker.start()
    drain(redis)
    assert [int(json.loads(line)["message"]) for line in written + worker.lines()] == list(range(12)) + list(range(10, 15))
    assert "may stand twice" in worker.stderr()[mark[1]:]
    assert metrics(status_port(worker, mark))["logworker_entries_unplaced_total"] == 5


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


def test_another_server_at_the_same_address(box, redis):
    """It has nothing of the batch in hand, whose lines stay in the log."""
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, 10, 2)
    redis.kill()
    os.unlink(redis.socket)
    other = Redis(box, "other")
    other.argv[other.argv.index("--unixsocket") + 1] = other.socket = redis.socket
    other.start()
    fill(other, 12, 3)
    worker.start()
    drain(other)
    assert numbers(worker) == list(range(15))


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
    """Entries come back that stand in app.log already: they are found there, those that don't are written."""
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


def test_older_copy_of_the_data_and_a_batch_in_hand(box):
    """The copy has the whole batch, of which the log has a part."""
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, 10, 5, 3, 10)
    append_only_copy(redis, box.path("copy"))
    worker.start()
    drain(redis)
    fill(redis, 15, 5)
    drain(redis)
    worker.kill()
    put_back(redis, box.path("copy"))
    assert redis.length() == 5
    worker.start()
    fill(redis, 20, 5)
    drain(redis)
    assert numbers(worker) == list(range(25))


def test_older_copy_of_the_data_from_before_the_stream(box):
    """The copy is of the empty server."""
    redis = box.redis(appendonly=True)
    append_only_copy(redis, box.path("copy"))
    worker = box.worker(redis)
    fill(redis, 0, 50)
    drain(redis)
    put_back(redis, box.path("copy"))
    fill(redis, 50, 50)
    wait_until(lambda: redis("EXISTS", "logs-stream:owner") and redis.drained(), "the stream to be empty", 30)
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

@pytest.mark.parametrize("torn", [0, 21])
def test_damaged_state_and_a_batch_in_hand(box, redis, torn):
    """Without a state, what Redis holds is compared with all lines; the one that was cut short is made whole.
    The token is gone, too, so that the old lease has to end."""
    worker = box.worker(redis, "--lease", "300ms")
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, 10, 5, 2, torn)
    with open(worker.state, "r+b") as f:
        f.write(b"X" * 1024)
    mark = worker.mark()
    worker.start()
    drain(redis)
    assert numbers(worker) == list(range(15))
    assert "no valid slot" in worker.stderr()[mark[1]:]


def test_damaged_slot_of_the_last_commit(box, redis):
    """The one before counts. What comes after it in the log stays, since Redis has nothing of it any more."""
    worker = box.worker(redis)
    for n in range(5):
        add(redis, str(n))
        drain(redis)
    worker.kill()
    with open(worker.state, "r+b") as f:
        slots = [f.read(512), f.read(512)]
        newest = max((0, 1), key=lambda i: int(re.search(rb"gen=(\d+)", slots[i]).group(1)))
        f.seek(512 * newest)
        f.write(b" " * 512)
    worker.start()
    fill(redis, 5, 3)
    drain(redis)
    assert numbers(worker) == list(range(8))


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
    worker.wait_output("refused to commit a batch: .*WRONGTYPE")
    fill(redis, 10, 30)
    assert numbers(worker) == list(range(10)) and redis.length() == 31
    redis("DEL", "logs-stream:dead")
    drain(redis)
    assert numbers(worker) == list(range(40))
    assert [dict(e)["x"] for e in redis.entries("logs-stream:dead")] == ["y"]


# ---- What it says of itself ----

def status_port(worker, since=(0, 0)):
    return int(worker.wait_output(r"http://127\.0\.0\.1:(\d+)/metrics", since).group(1))


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


def test_not_ready_while_the_stream_is_opened(box, redis):
    redis("CLIENT", "PAUSE", "600000", "WRITE")
    worker = Worker(box, redis, "--listen", "127.0.0.1:0").start(ready=False)
    port = status_port(worker)
    wait_until(lambda: metrics(port)["logworker_redis_up"] == 1, "the connections")
    assert get(port, "/readyz") == (503, "the stream is being opened")
    redis("CLIENT", "UNPAUSE")
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "readyz to answer 200")


@pytest.mark.parametrize("reader", [True, False])
def test_not_ready_without_one_of_the_connections(box, redis, reader):
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    port = status_port(worker)
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "readyz to answer 200")
    with redis.client() as c:
        os.rename(redis.socket, redis.socket + ".away")
        own = c("CLIENT", "ID")
        clients = [dict(w.split("=", 1) for w in line.split()) for line in c("CLIENT", "LIST", "TYPE", "normal").splitlines()]
        victim, = (x["id"] for x in clients if (x["cmd"] == "xread") == reader and int(x["id"]) != own)
        c("CLIENT", "KILL", "ID", victim)
        wait_until(lambda: get(port, "/readyz") == (503, "Redis does not answer"), "readyz to answer 503")
        os.rename(redis.socket + ".away", redis.socket)
    wait_until(lambda: get(port, "/readyz") == (200, "ready"), "readyz to answer 200")
    fill(redis, 0, 10)
    drain(redis)
    assert numbers(worker) == list(range(10))


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


def full_disk(box, redis, *args):
    """A worker that cannot write all of its batch."""
    worker = box.worker(redis, *args)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    fill(redis, 0, 100)
    worker.wait_output("File too large")
    return worker


def test_stopped_while_the_disk_is_full(box, redis):
    """The time for an orderly end is over: the batch in hand stays in Redis, and a part of it in the log."""
    worker = full_disk(box, redis, "--shutdown-timeout", "200ms")
    assert worker.stop(5) == 69
    assert re.search("the batch in hand stays in Redis: File too large", worker.stderr())
    assert redis.length() > 0
    worker.start()
    drain(redis)
    assert numbers(worker) == list(range(100))


def test_disk_that_has_room_again_while_the_worker_stops(box, redis):
    worker = full_disk(box, redis, "--shutdown-timeout", "1h")
    worker.signal(signal.SIGTERM)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert worker.wait() == 0
    assert redis("EXISTS", "logs-stream:owner") == 0
    worker.start()
    drain(redis)
    assert numbers(worker) == list(range(100))


def test_second_signal_ends_it_at_once(box, redis):
    """The first one waits for the disk."""
    worker = full_disk(box, redis, "--shutdown-timeout", "1h")
    connections = len(redis("CLIENT", "LIST").splitlines())
    worker.signal(signal.SIGTERM)
    wait_until(lambda: len(redis("CLIENT", "LIST").splitlines()) == connections - 1, "the end of reading")
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) == 69
    assert "second signal" in worker.stderr()
    assert redis.length() > 0
    worker.start()
    drain(redis)
    assert numbers(worker) == list(range(100))


COUNTERS = ("read", "written", "found", "filtered", "dead", "dropped")


def own_counters(worker):
    """What SIGUSR1 prints."""
    mark = worker.mark()
    worker.signal(signal.SIGUSR1)
    found = worker.wait_output(", ".join(rf"{name} (\d+)" for name in COUNTERS), since=mark)
    return dict(zip(COUNTERS, map(int, found.groups())))


def test_sigusr1_prints_the_counters(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 20)
    fill(redis, 20, 5, level="info")
    redis("XADD", "logs-stream", "*", "x", "y")
    drain(redis)
    expected = {"read": 26, "written": 20, "found": 0, "filtered": 5, "dead": 1, "dropped": 0}
    wait_until(lambda: own_counters(worker) == expected, "the worker to learn of the last commit")


def test_records_that_were_found_are_counted_as_such(box, redis):
    worker = box.worker(redis)
    fill(redis, 0, 10)
    drain(redis)
    die_before_commit(redis, worker, 10, 5, 3)
    worker.start()
    fill(redis, 15, 2)
    drain(redis)
    expected = {"read": 7, "written": 4, "found": 3, "filtered": 0, "dead": 0, "dropped": 0}
    wait_until(lambda: own_counters(worker) == expected, "the worker to learn of the last commit")


def test_counters_keep_their_laws_through_kills_of_redis(box):
    """The process's: read = written + found + filtered + dead + dropped. And Redis's, where each record counts once."""
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

    def lawful():
        n = own_counters(worker)
        return n["read"] == n["written"] + n["found"] + n["filtered"] + n["dead"] + n["dropped"]
    wait_until(lawful, lambda: f"the counters to keep their law: {own_counters(worker)}")
    account = redis("HGETALL", "logs-stream:account")
    account = {k: int(v) for k, v in zip(account[::2], account[1::2]) if k in ("written", "filtered", "dead")}
    assert account == {"written": 600, "filtered": 1200, "dead": 6}
    assert redis.length("logs-stream:dead") == 6
    wait_until(lambda: all(metrics(port)[f"logworker_records_{k}_total"] == v for k, v in account.items()), "the metrics to follow")
    assert metrics(port)["logworker_entries_added_total"] == 1806
    assert metrics(port)["logworker_entries_removed_by_others"] == 0
    assert numbers(worker) == [i * 300 + 200 + k for i in range(6) for k in range(100)]
