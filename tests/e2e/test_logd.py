"""logd's life: load, vanishing clients, signals, options, echo."""
import collections
import http.client
import json
import os
import re
import shlex
import signal
import socket
import struct
import threading

import pytest

from pipeline import Redis, messages, program, record, wait_until
from rawhttp import Connection, exchange, request


def test_reset_storm_under_load(redis, logd):
    """Clients that vanish at any moment harm nobody; what others were told is stored, is."""
    stop = threading.Event()

    def storm():
        while not stop.is_set():
            try:
                with Connection(logd.port) as c:
                    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    c.send(request(body=json.dumps(record("storm")).encode()))
            except OSError:
                pass

    threads = [threading.Thread(target=storm) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        for i in range(300):
            assert logd.post(record(f"kept {i}"))[0] == 200
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert [m for m in messages(redis) if m != "storm"] == [f"kept {i}" for i in range(300)]


def load(logd, tag, confirmed, stop):
    """Posts until told to stop or the connection ends; notes what was answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", logd.port, timeout=30)
    n = 0
    try:
        while not stop.is_set():
            connection.request("POST", "/api/log", json.dumps(record(f"{tag}-{n}")))
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                confirmed.append(f"{tag}-{n}")
            n += 1
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()


@pytest.mark.parametrize("round_", range(3))
def test_sigterm_under_load(redis, logd, round_):
    """Every request that got 200 is in the stream, once; logd exits with 0."""
    confirmed, stop = [], threading.Event()
    threads = [threading.Thread(target=load, args=(logd, f"t{i}", confirmed, stop)) for i in range(4)]
    for t in threads:
        t.start()
    try:
        wait_until(lambda: len(confirmed) > 200 * (round_ + 1), "some load")
        assert logd.stop() == 0
    finally:
        stop.set()
        for t in threads:
            t.join()
    stored = collections.Counter(messages(redis))
    assert [m for m in confirmed if stored[m] != 1] == []
    assert len(stored) - len(set(confirmed)) <= 4  # whose answers were cut off, at most one a connection


def test_sigterm_finishes_what_was_accepted(redis, logd):
    """A request that waits for Redis at SIGTERM still gets its answer."""
    with Connection(logd.port) as c:
        redis.signal(signal.SIGSTOP)
        c.send(request(body=json.dumps(record()).encode()))
        wait_until(lambda: logd.get("/healthz") == 200, "logd")
        logd.signal(signal.SIGTERM)

        def refused():
            try:
                Connection(logd.port).__exit__()
                return False
            except ConnectionResetError:
                return False  # it was accepted just before
            except ConnectionRefusedError:
                return True
        wait_until(refused, "logd to stop listening")
        redis.signal(signal.SIGCONT)
        assert c.response().status == 200
    assert logd.wait() == 0
    assert redis.length() == 1


def test_sigterm_without_redis(box):
    logd = box.logd(Redis(box), wait_redis=False)
    assert logd.stop() == 0


def test_signals_that_do_not_end_it(redis, logd):
    assert logd.post(record())[0] == 200
    logd.signal(signal.SIGHUP)
    logd.wait_output("SIGHUP: there is nothing to open anew")
    logd.signal(signal.SIGUSR1)
    logd.wait_output(r"accepted 1, duplicates 0")
    assert logd.post(record())[0] == 200


EARLY_SIGNAL = r"""
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>

/* Called early in main(). */
int mallopt(int param, int value)
{
    static int calls;
    (void)param, (void)value;
    if (calls++ == 0)
        raise(atoi(getenv("EARLY_SIGNAL")));
    return 1;
}
"""


@pytest.mark.parametrize("early", [signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_before_the_loop_waits_for_it(box, redis, early):
    """It ended logd at once, whichever it was."""
    source, library = box.write("early.c", EARLY_SIGNAL.encode()), box.path("early.so")
    assert box.run("cc", [*shlex.split(os.environ.get("CC", "cc")), "-shared", "-fPIC", "-o", library, source]).popen.returncode == 0
    env = {"LD_PRELOAD": library, "EARLY_SIGNAL": str(early.value), "ASAN_OPTIONS": "verify_asan_link_order=0"}
    logd = box.logd(redis, wait_redis=False, env=env)
    if early == signal.SIGTERM:
        assert logd.wait() == 0
        return
    logd.wait_output("SIGHUP: there is nothing to open anew" if early == signal.SIGHUP else "accepted 0, duplicates 0")
    assert logd.stop() == 0


def test_sigint(logd):
    logd.signal(signal.SIGINT)
    assert logd.wait() == 0


def test_restart_on_the_same_port(box, redis, logd):
    """No waiting for old connections to time out."""
    for _ in range(3):
        assert logd.post(record())[0] == 200
        assert logd.stop() == 0
        logd.start()


def test_several_listeners(box, redis):
    logd = box.logd(redis, "--listen", "127.0.0.2:0")
    port = int(re.search(r"127\.0\.0\.2:(\d+)", logd.stdout() + logd.stderr()).group(1))
    with socket.create_connection(("127.0.0.2", port), 10) as s:
        s.sendall(request("GET", "/healthz", length=False))
        assert s.recv(100).startswith(b"HTTP/1.1 200")
    assert exchange(logd.port, request("GET", "/healthz", length=False)).status == 200


def test_port_in_use(box, redis, logd):
    second = box.run("second", [program("logd"), "--listen", f"127.0.0.1:{logd.port}", "--redis", redis.url])
    assert second.popen.returncode == 69
    assert str(logd.port) in second.stderr()


@pytest.mark.parametrize("args", [["--nonsense"], ["--listen", "x"], ["--listen", "127.0.0.1:99999"], ["--redis", "http://x"],
                                  ["--max-body", "-1"], ["--max-body", "abc"], ["--stream"], ["--log-level", "loud"], ["operand"]])
def test_usage_errors(box, args):
    p = box.run("logd", [program("logd"), *args])
    assert p.popen.returncode == 64
    assert args[0].lstrip("-") in p.stderr()


def test_help_and_version(box):
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "Makefile"), encoding="utf-8") as f:
        version = re.search(r"^VERSION *:= *([0-9.]+)", f.read(), re.M).group(1)
    for name in ("logd", "logworker", "logsend"):
        p = box.run(name + "-help", [program(name), "--help"])
        assert p.popen.returncode == 0 and "--version" in p.stdout()
        p = box.run(name + "-version", [program(name), "--version"])
        assert p.popen.returncode == 0 and p.stdout() == f"{name} {version}\n"


def options_section(page):
    with open(os.path.join(os.path.dirname(__file__), "..", "..", page), encoding="utf-8") as f:
        return re.search(r"^\.SH OPTIONS\n(.*?)^\.SH ", f.read(), re.M | re.S).group(1)


@pytest.mark.parametrize("name, page", [("logd", "logd/logd.8"), ("logworker", "worker/logworker.8"),
                                        ("logsend", "liblogclient/logsend.1")])
def test_man_page_lists_the_options(box, name, page):
    """Each option once, in order, with the program's own words first; more may follow."""
    wanted = box.run(name, [program(name), "--man-options"]).stdout().split(".TP\n")[1:]
    found = options_section(page).split(".TP\n")[1:]
    assert [block.split("\n", 1)[0] for block in found] == [block.split("\n", 1)[0] for block in wanted]
    for ours, theirs in zip(wanted, found):
        rest = iter(theirs.splitlines())
        assert [line for line in ours.splitlines() if line not in rest] == []


def man_options(box, name):
    """(names, help, default, environment) of each option that the program has, in order."""
    text = box.run(name, [program(name), "--man-options"]).stdout().replace("\\fR", "").replace("\\-", "-")
    found = []
    for block in re.sub(r"\\f[BI]", "", text).split(".TP\n")[1:]:
        names, *lines = block.strip().split("\n")
        said = dict(re.fullmatch(r"(Default|Environment): (.*)\.", line).groups() for line in lines if re.match("Default:|Environment:", line))
        words = " ".join(line for line in lines if not re.match("Default:|Environment:|May be repeated;", line)).rstrip(".")
        found.append((names, words, said.get("Default"), said.get("Environment")))
    return [option for option in found if option[3]]


def rows(section):
    """The table of a section of README.md, without the marks of its cells."""
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "README.md"), encoding="utf-8") as f:
        table = re.search(rf"^### {section}\n.*?^\|---\|---\|---\|\n((?:\|[^\n]*\n)*)", f.read(), re.M | re.S).group(1)
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


@pytest.mark.parametrize("name", ["logd", "logworker"])
def test_readme_lists_the_options(box, name):
    """Each option once, in order, with its default and the program's own words."""
    for (names, words, default, _), (their_names, their_default, their_words) in zip(man_options(box, name), rows(name), strict=True):
        assert (their_names, their_words) == (names, words) or (names.startswith("--echo") and their_names == names)
        assert their_default == (default or "") or names.startswith("--echo")


@pytest.mark.parametrize("name, path", [("logd", "logd/logd.conf.sample"), ("logworker", "worker/logworker.conf.sample")])
def test_samples_list_the_options(box, name, path):
    with open(os.path.join(os.path.dirname(__file__), "..", "..", path), encoding="utf-8") as f:
        listed = dict(re.findall(r"^#(\w+)=(.*)$", f.read(), re.M))
    options = {environment: default for _, _, default, environment in man_options(box, name)}
    assert set(listed) == set(options)
    assert {k: v for k, v in listed.items() if options[k]} == {k: v for k, v in options.items() if v}


def test_environment(box, redis):
    """Each option is also read from LOGD_*; the command line wins."""
    logd = box.logd(redis, "--stream", "given", env={"LOGD_STREAM": "from-env", "LOGD_MAX_MESSAGE": "5"})
    assert logd.post(record("12345"))[0] == 200
    assert logd.post(record("123456"))[0] == 400
    assert redis.length("given") == 1


def test_eviction_policy_is_warned_of(box):
    redis = box.redis(args=["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"])
    logd = box.logd(redis)
    logd.wait_output("noeviction")


def test_echo(box, redis):
    logd = box.logd(redis, "--echo")
    assert logd.post(record("echo me", level="error", service="payment"))[0] == 200
    logd.wait_output("payment.*echo me|echo me.*payment")
    logd = box.logd(redis, "--no-echo", name="silent")
    assert logd.post(record("echo me not"))[0] == 200
    assert logd.stop() == 0
    assert "echo me not" not in logd.stdout() + logd.stderr()


def test_echo_cannot_forge_lines(box, redis):
    logd = box.logd(redis, "--echo")
    assert logd.post(record("a\nlogd: forged\r\x1b[31m\u0000b"))[0] == 200
    assert logd.stop() == 0
    text = logd.stdout() + logd.stderr()
    assert "\nlogd: forged" not in text and "\x1b[31m" not in text and "\0" not in text
