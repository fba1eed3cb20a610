"""logd at its limits: connections, times, memory, pipes that nobody reads, and what it says about Redis's settings."""
import collections
import json
import os
import re
import select
import signal
import socket

import pytest

from pipeline import SCALE, Logd, Worker, messages, metrics, record, wait_until
from rawhttp import Connection, one, request
from resp import RedisError
from test_worker import die_before_commit, fill


class Pipe:
    """A pipe, or a terminal, whose reader reads only when it is asked to."""

    def __init__(self, ends, path):
        self.reader, self.writer = ends
        self.path = path
        self.got = b""
        os.set_blocking(self.reader, False)

    def fill(self):
        """Lets nothing more in."""
        writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(writer, b"." * 4095 + b"\n")
        except BlockingIOError:
            pass
        finally:
            os.close(writer)

    def text(self):
        """All that has come so far."""
        try:
            while True:
                self.got += os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return self.got.decode()

    def close(self):
        for fd in (self.reader, self.writer):
            os.close(fd)


@pytest.fixture
def pipe():
    ends = os.pipe()
    pipe = Pipe(ends, f"/proc/{os.getpid()}/fd/{ends[1]}")
    yield pipe
    pipe.close()


@pytest.fixture
def terminal():
    ends = os.openpty()
    terminal = Pipe(ends, os.ttyname(ends[1]))
    yield terminal
    terminal.close()


class Redirected(Logd):
    """A logd whose standard output, 1, or error, 2, is a pipe or a terminal."""

    def __init__(self, box, redis, *args, fd, to):
        self.fd, self.to = fd, to
        super().__init__(box, redis, *args)

    def spawn(self):
        self.argv = ["sh", "-c", f'exec "$@" {self.fd}>{self.to.path}', "sh", *self.argv]
        return super().spawn()

    def stdout(self):
        return self.to.text() if self.fd == 1 else super().stdout()


# ---- pipes that nobody reads ----

def test_full_stderr(pipe, box, redis):
    """logd loses diagnostics, says so once it can, and goes on all the while."""
    pipe.fill()
    logd = Redirected(box, redis, "--no-echo", fd=2, to=pipe).start()
    redis.kill()
    logd.wait_unready()
    assert logd.get("/healthz") == 200
    pipe.text()
    redis.start()
    logd.wait_ready()
    assert logd.stop() == 0
    assert "logd: warning: messages lost while standard error took none: " in pipe.text()


def test_echo_to_a_terminal(terminal, box, redis):
    """The default there; what a terminal could take for a command is escaped, and only there."""
    logd = Redirected(box, redis, fd=1, to=terminal).start()
    message = "a\x7f\u009b31mred\u0080\u009f\u00a0\u00e9"
    assert logd.post(record(message))[0] == 200
    wait_until(lambda: '"a\\u007f\\u009b31mred\\u0080\\u009f\u00a0\u00e9"' in terminal.text(), "the echo")
    assert messages(redis) == [message]


def test_echo_to_a_file(box, redis):
    logd = box.logd(redis, "--echo")
    assert logd.post(record("a\x7f\u009b31mred"))[0] == 200
    wait_until(lambda: '"a\x7f\u009b31mred"' in logd.stdout(), "the echo")


def test_echo_is_of_what_arrives(box, redis):
    """Whether it is stored or not, and each time; but nothing of a body that is refused."""
    logd = box.logd(redis, "--echo")
    redis("CONFIG", "SET", "maxmemory", "1")
    producer = {"Log-Producer": "0" * 32, "Log-Sequence": "1"}
    assert logd.post(record("again"), producer)[0] == 503
    redis("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: logd.post(record("again"), producer)[0] == 200, "Redis to take it")
    assert logd.post([record("bad"), record(level="none")])[0] == 400
    assert logd.stop() == 0
    assert logd.stdout().count('"again"') >= 2 and '"bad"' not in logd.stdout()
    assert messages(redis) == ["again"]


def test_blocked_echo(pipe, box, redis):
    """Nobody reads the echo: what does not fit is counted, and all is stored."""
    logd = Redirected(box, redis, "--echo", fd=1, to=pipe).start()
    pipe.fill()
    for i in range(20):
        assert logd.post(record(f"{i}"))[0] == 200
    assert logd.metrics()["logd_echo_dropped_total"] == 20
    assert messages(redis) == [str(i) for i in range(20)]
    pipe.text()
    assert logd.post(record("seen"))[0] == 200
    wait_until(lambda: '"seen"' in pipe.text(), "the echo")
    assert '"19"' not in pipe.text()


# ---- connections ----

def health(connection):
    connection.send(request("GET", "/healthz", length=False))
    return connection.response().status


def test_max_connections(box, redis):
    """One more than the limit waits until another ends; it is not refused."""
    logd = box.logd(redis, "--no-echo", "--max-connections", "3")
    kept = [Connection(logd.port) for _ in range(3)]
    try:
        assert [health(c) for c in kept] == [200] * 3
        with Connection(logd.port) as more:
            more.send(request("GET", "/healthz", length=False))
            assert [health(c) for c in kept] == [200] * 3
            assert not select.select([more.sock], [], [], 0.3)[0]
            kept.pop().__exit__()
            assert more.response().status == 200
    finally:
        for c in kept:
            c.__exit__()
    wait_until(lambda: logd.metrics()["logd_connections"] == 1, "the connections to end")


def test_idle_timeout(box, redis):
    """Counts from the last answer, or from the connection's begin, and asks nothing of a request under way."""
    logd = box.logd(redis, "--no-echo", "--request-timeout", "1m", "--idle-timeout", f"{1500 * SCALE:.0f}ms")
    with Connection(logd.port) as silent, Connection(logd.port) as used:
        for _ in range(4):
            assert not select.select([used.sock], [], [], 0.6 * SCALE)[0]
            assert health(used) == 200
        assert silent.closed()
        assert used.closed()
    with Connection(logd.port) as slow:
        slow.send(request(body=one())[:-1])
        assert not select.select([slow.sock], [], [], 2 * SCALE)[0]
        slow.send(one()[-1:])
        assert slow.response().status == 200


def test_ipv6(box, redis):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("the machine has no IPv6")
    logd = box.logd(redis, "--no-echo", "--listen", "[::1]:0")
    port = int(logd.wait_output(r"\[::1\]:(\d+)").group(1))
    with socket.create_connection(("::1", port), 10) as s:
        s.sendall(request("GET", "/healthz", length=False))
        assert s.recv(100).startswith(b"HTTP/1.1 200")


# ---- signals ----

def half_a_request(logd):
    """A connection whose request logd has begun to read."""
    connection = Connection(logd.port)
    connection.send(request(headers=["Expect: 100-continue", f"Content-Length: {len(one())}"], length=False))
    assert connection.response().status == 100
    return connection


def test_shutdown_timeout(box, redis):
    """SIGTERM gives an incomplete request so long, and no longer."""
    logd = box.logd(redis, "--no-echo", "--shutdown-timeout", "300ms")
    with half_a_request(logd) as c:
        assert logd.stop(5) == 0
        assert c.closed()
    assert "1 incomplete requests given up (--shutdown-timeout)" in logd.stderr()
    logd = box.logd(redis, "--no-echo", "--shutdown-timeout", "1m", name="patient")
    with half_a_request(logd) as c:
        logd.signal(signal.SIGTERM)
        logd.wait_output("finishing what has been accepted")
        c.send(one())
        assert c.response().status == 200
        assert logd.wait() == 0
    assert redis.length() == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(box, redis, second):
    logd = box.logd(redis, "--no-echo", "--shutdown-timeout", "1h")
    with half_a_request(logd):
        logd.signal(signal.SIGTERM)
        logd.wait_output("a second signal ends logd at once")
        logd.signal(second)
        assert logd.wait() == -second


# ---- memory ----

def test_too_much_is_being_read(box, redis):
    """The one that passes the limit gets 503; when the others have ended, there is room again."""
    logd = box.logd(redis, "--no-echo", "--max-in-flight", "1m", "--max-body", "600k")
    half = request(headers=["Content-Length: 600000"], length=False) + b" " * 500_000
    with Connection(logd.port) as first, Connection(logd.port) as second, Connection(logd.port) as third:
        first.send(half)
        second.send(half)
        third.send(half)
        ready = wait_until(lambda: select.select([c.sock for c in (first, second, third)], [], [], 0)[0], "an answer")
        refused = next(c for c in (first, second, third) if c.sock in ready)
        response = refused.response()
        assert response.status == 503 and response.json()["stored"] is False
        assert response.header("retry-after") and refused.closed()
    wait_until(lambda: logd.post(record("m" * 60_000))[0] == 200, "room")


def test_full_of_connections(box, redis):
    """Those beyond the limit wait, and the operator is told."""
    logd = box.logd(redis, "--max-connections", "2")
    with Connection(logd.port) as first, Connection(logd.port) as second:
        for c in (first, second):
            c.send(request(body=json.dumps(record()).encode()))
            assert c.response().status == 200
        logd.wait_output("2 connections are open, as many as --max-connections")
    wait_until(lambda: logd.post(record())[0] == 200, "room")


def test_max_in_flight_with_a_frozen_redis(box, redis):
    """While Redis does not answer, logd takes so much and answers 503 to the rest; what it took is stored once."""
    logd = box.logd(redis, "--no-echo", "--max-in-flight", "256k", "--redis-timeout", "1m")
    redis.signal(signal.SIGSTOP)
    body = json.dumps(record("m" * 60_000)).encode()
    connections = [Connection(logd.port) for _ in range(20)]
    try:
        for c in connections:
            c.send(request(body=body))
        answered = lambda: select.select([c.sock for c in connections], [], [], 0)[0]
        wait_until(lambda: len(answered()) >= 15, "503 to most of them")
        assert 0 < logd.metrics()["logd_in_flight_bytes"] <= 256 * 1024
        redis.signal(signal.SIGCONT)
        statuses = collections.Counter(c.response().status for c in connections)
        assert set(statuses) == {200, 503} and statuses[503] >= 15
    finally:
        redis.signal(signal.SIGCONT)
        for c in connections:
            c.__exit__()
    assert redis.length() == statuses[200]


# ---- Redis ----

def test_redis_timeout(box, redis):
    """A Redis that hangs is given up: 503 with an unknown outcome, then no more waiting."""
    logd = box.logd(redis, "--no-echo", "--redis-timeout", "1s")
    redis.signal(signal.SIGSTOP)
    try:
        status, head, answer = logd.post(record("once"))
        assert status == 503 and answer["stored"] is None and head["Retry-After"]
        logd.wait_unready()
    finally:
        redis.signal(signal.SIGCONT)
    wait_until(lambda: logd.post(record("after"))[0] == 200, "logd to take records again")


def rights(page):
    """The commands and the keys that a man page names."""
    with open(os.path.join(os.path.dirname(__file__), "..", "..", page), encoding="ascii") as f:
        section = re.search(r"An account of its own.*?In a Redis", f.read(), re.S).group()
    sub = "LOAD|CREATE|DESTROY|STREAM|GROUPS|GET"
    commands = re.findall(rf"\b[A-Z]{{3,}}(?: (?:{sub}))?\b", re.sub(r"(?m)^\.IR.*", "", section))
    assert "PING" in commands
    return [c.lower().replace(" ", "|") for c in commands], re.findall(r"(?m)^\.IR STREAM ([^\s,]*)", section)


def make_account(redis, name, page):
    commands, keys = rights(page)
    redis("ACL", "SETUSER", name, "on", ">secret", *("~logs-stream" + k for k in keys), *("+" + c for c in commands))
    return commands


def used_commands(redis):
    return set(re.findall(r"^cmdstat_(\S+?):calls=[1-9]", redis("INFO", "commandstats"), re.M))


def test_accounts_of_the_man_pages(box, redis):
    """The rights that logd.8 and logworker.8 name are enough for all that the two do, and the worker needs each of them."""
    make_account(redis, "logd", "logd/logd.8")
    commands = make_account(redis, "logworker", "worker/logworker.8")
    at = f"secret@127.0.0.1:{free_port_of(redis)}"
    logd = box.logd(f"redis://logd:{at}", "--no-echo")
    worker = box.worker(f"redis://logworker:{at}", "--listen", "127.0.0.1:0", "--lease", "300ms")
    producer = {"Log-Producer": "0" * 32, "Log-Sequence": "1"}
    assert logd.post(record("a"))[0] == 200
    assert [logd.post(record("b"), producer)[2]["duplicates"] for _ in range(2)] == [0, 1]
    redis("SCRIPT", "FLUSH")
    assert logd.post(record("c"))[0] == 200
    redis("XADD", "logs-stream", "*", "bad", "entry")
    wait_until(redis.drained, "the worker")
    assert worker.messages() == ["a", "b", "c"]
    assert redis.length("logs-stream:dead") == 1
    status_port = int(worker.wait_output(r"metrics at http://127\.0\.0\.1:(\d+)").group(1))
    wait_until(lambda: metrics(status_port)["logworker_records_written_total"] == 3, "the worker's counters")
    redis("XGROUP", "CREATE", "logs-stream", "logworkers", "0")
    wait_until(lambda: redis("XINFO", "GROUPS", "logs-stream") == [], "the end of the old group")
    redis("DEL", "logs-stream")
    wait_until(lambda: redis("EXISTS", "logs-stream"), "a new stream")
    assert logd.post(record("d"))[0] == 200
    wait_until(redis.drained, "the worker")
    assert worker.messages() == ["a", "b", "c", "d"] and logd.stop() == 0
    fill(redis, 0, 5)
    wait_until(redis.drained, "the worker")
    die_before_commit(redis, worker, 5, 5)
    spare = box.worker(f"redis://logworker:{at}", name="spare", output=box.path("spare.log"))
    wait_until(redis.drained, "the spare")
    worker.start(ready=False).wait_output("standing by")
    wait_until(lambda: len(worker.lines()) == 9, "the batch to be left to the spare")
    assert spare.stop() == worker.stop() == 0
    assert redis("ACL", "LOG") == []
    assert set(commands) - used_commands(redis) == set()


def test_accounts_that_may_not_read_the_settings(box, redis):
    """CONFIG GET is for the warnings only."""
    make_account(redis, "logworker", "worker/logworker.8")
    redis("ACL", "SETUSER", "logworker", "-config|get")
    worker = box.worker(f"redis://logworker:secret@127.0.0.1:{free_port_of(redis)}")
    redis("XADD", "logs-stream", "*", "bad", "entry")
    wait_until(redis.drained, "the worker")
    assert worker.stop() == 0
    assert {dict(zip(e[::2], e[1::2]))["object"] for e in redis("ACL", "LOG")} == {"config|get"}


@pytest.mark.parametrize("missing", ["xtrim", "hincrby", "evalsha", "eval", "script|load", "xread", "xinfo|stream"])
def test_accounts_that_lack_a_right(box, redis, missing):
    """The worker says which, loses nothing, and goes on when it is given."""
    make_account(redis, "logworker", "worker/logworker.8")
    redis("ACL", "SETUSER", "logworker", "-" + missing)
    redis("XADD", "logs-stream", "*", *[x for pair in record("a", timestamp="2026-11-24T02:35:02.123Z").items() for x in pair])
    worker = Worker(box, f"redis://logworker:secret@127.0.0.1:{free_port_of(redis)}").start(ready=False)
    worker.wait_output("NOPERM|can.t run this command" if missing != "script|load" else "consuming")
    redis("ACL", "SETUSER", "logworker", "+" + missing)
    wait_until(redis.drained, "the worker", 20)
    assert worker.messages() == ["a"]


def free_port_of(redis):
    """The port on which a redis-server with --port 0 is told to listen, too."""
    for _ in range(20):
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        try:
            redis("CONFIG", "SET", "port", port)
        except RedisError:
            continue
        return port
    raise AssertionError("redis-server found no free port")


WARNINGS = {
    "appendonly no": (["--appendonly", "no"], "appendonly no"),
    "appendfsync everysec": (["--appendonly", "yes", "--appendfsync", "everysec"], "appendfsync everysec"),
    "eviction": (["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "noeviction"),
    "eviction without maxmemory": (["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"], None),
    "no eviction": (["--appendonly", "yes", "--maxmemory", "100mb"], None),
    "appendfsync always": (["--appendonly", "yes", "--appendfsync", "always"], None),
}


@pytest.mark.parametrize("args, expected", WARNINGS.values(), ids=WARNINGS.keys())
def test_warnings_of_settings(box, args, expected):
    """Of settings that lose records, and of no others."""
    logd = box.logd(box.redis(args=args), "--no-echo")
    assert logd.post(record())[0] == 200  # which comes after the replies to CONFIG GET
    warnings = [line for line in logd.stderr().splitlines() if "warning" in line]
    assert len(warnings) == (expected is not None)
    assert all(expected in line for line in warnings)
