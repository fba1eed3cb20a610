"""What a program may do to itself while it logs: fork, exec, exit, be interrupted, unload the library (logclient.h, "Send")."""
import collections
import fcntl
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

import pipeline
from pipeline import Process, messages, program, read_lines, wait_until


@pytest.fixture
def scenario(box, redis, logd):
    """Runs a scenario of process.c to its end, or starts it; gives the Process, whose accepted() are what it listed."""
    def run(*args, wait=True, env=None, seconds=60.0, stdin=subprocess.DEVNULL):
        path = box.path("accepted")
        settings = {"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir, **(env or {})}
        p = Process(box, "process", [program("tests/process"), path, *map(str, args)], settings, stdin=stdin)
        p.graceful = False
        p.accepted = lambda: [line.decode() for line in read_lines(path)]
        p.spawn()
        if wait:
            assert p.wait(seconds) == 0, p.stderr()
        return p
    return run


def adopt(box, logd):
    """Delivers what dead processes have left."""
    done = box.run("drain", [program("logsend"), "--url", logd.url, "--drain", box.ring_dir])
    assert done.popen.returncode == 0, done.stderr()
    assert [n for n in os.listdir(box.ring_dir) if n != "adopt.lock"] == []


def stored_once(redis, accepted, unlisted=0):
    """Each accepted record once; `unlisted`: threads that may have died between the call and the list."""
    stored = collections.Counter(messages(redis))
    assert [m for m, n in stored.items() if n != 1] == []
    assert [m for m in accepted if m not in stored] == []
    assert len(stored) <= len(accepted) + unlisted


def locked(path):
    """Whether the ring file has an owner."""
    with open(path) as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True


def counts(process, name):
    return re.search(rf"^{name}: (.*)$", process.stdout(), re.M).group(1)


# ---- fork, exec, spawn ----

@pytest.mark.forks_threads("asan")
def test_a_thousand_forks(box, redis, logd, scenario):
    """Every fifth child ends by _exit(2), and leaves its ring to others."""
    p = scenario("forks", 1000, 3, 0)
    assert counts(p, "before") == counts(p, "after")
    adopt(box, logd)
    stored_once(redis, p.accepted())
    assert len(p.accepted()) == 100 + 1000 + 3000


@pytest.mark.forks_threads("asan")
def test_forks_while_other_threads_log(box, redis, logd, scenario):
    p = scenario("forks", 100, 3, 4)
    assert counts(p, "before") == counts(p, "after")
    adopt(box, logd)
    stored_once(redis, p.accepted())
    assert len(p.accepted()) > 100 + 100 + 300


@pytest.mark.forks_threads
def test_child_that_outlives_its_parent_owns_no_ring(box, redis, logd, scenario):
    """Its parent had a ring of its own, and one that it had adopted: after its death both are left to others."""
    assert logd.stop() == 0
    killed = box.producer(logd, "--records", 10, "--tag", "killed", "--hold", stdin=subprocess.PIPE)
    wait_until(lambda: len(killed.accepted()) == 10, "the records")
    killed.kill()
    left, = (box.path("rings/" + n) for n in os.listdir(box.ring_dir) if n.endswith(".ring"))
    parent = scenario("orphan", wait=False, stdin=subprocess.PIPE)
    wait_until(lambda: locked(left), "the adoption")
    parent.popen.stdin.write(b"\n")
    parent.popen.stdin.flush()
    orphan = int(parent.wait_output(r"^orphan: (\d+)").group(1))
    try:
        os.kill(parent.pid, signal.SIGKILL)
        parent.popen.wait()
        logd.start()
        adopt(box, logd)
        os.kill(orphan, 0)
        stored_once(redis, killed.accepted() + parent.accepted())
        assert redis.length() == 110
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_exec_of_another_program(box, redis, logd, scenario):
    """It gets none of the library's descriptors, and adopts the ring of the program that it has replaced."""
    # So that what is logged last is still in the ring when the other program takes over.
    p = scenario("exec", env={"LOGCLIENT_LINGER_MS": "500"})
    assert "fd " not in p.stdout()
    adopt(box, logd)
    stored_once(redis, p.accepted())
    assert len(p.accepted()) == 2010


def test_programs_that_are_spawned(box, redis, logd, scenario):
    p = scenario("spawn", 20)
    assert "fd " not in p.stdout()
    assert messages(redis) == p.accepted() == [f"spawn-{n}" for n in range(20)]


@pytest.mark.forks_threads("asan")
@pytest.mark.parametrize("how", ["_Fork", "clone"])
def test_children_that_no_fork_handler_is_told_of(box, redis, logd, scenario, how):
    """They wrote into the parent's ring, and waited at exit for a thread that they did not have."""
    p = scenario("bare-fork", how, seconds=40)
    adopt(box, logd)
    stored_once(redis, p.accepted())
    assert len(p.accepted()) == 10 + 5 * 10 + 10


def test_children_that_are_made_before_the_first_call(box, redis, logd, scenario):
    p = scenario("prefork")
    stored_once(redis, p.accepted())
    assert len(p.accepted()) == 9 * 100


# ---- signals ----

def test_handler_that_logs_interrupts_the_only_thread_that_logs(box, redis, logd, scenario):
    p = scenario("signals", 20000, 100)
    assert int(counts(p, "signals")) > 20
    stored_once(redis, p.accepted())
    names = messages(redis)
    assert [m for m in names if m[:4] == "main"] == [f"main-{n}" for n in range(20000)]
    assert [m for m in names if m[:6] == "signal"] == [m for m in p.accepted() if m[:6] == "signal"]


def test_signals_stay_the_programs_own(box, redis, logd, scenario):
    p = scenario("dispositions", wait=False)
    p.wait_output("^ready$")
    assert p.stdout() == "ready\n"
    masks = {}
    for tid in os.listdir(f"/proc/{p.pid}/task"):
        with open(f"/proc/{p.pid}/task/{tid}/status") as f:
            status = dict(line.split(":\t", 1) for line in f.read().splitlines())
        masks["main" if int(tid) == p.pid else status["Name"]] = int(status["SigBlk"], 16)
    assert masks["main"] == 0
    # All but SIGKILL, SIGSTOP, and the two that the C library keeps for itself.
    free = {signal.SIGKILL, signal.SIGSTOP, 32, 33}
    assert [n for n in range(1, 65) if not masks["logclient"] >> (n - 1) & 1 and n not in free] == []


# ---- the end of the process ----

@pytest.mark.parametrize("first", ["main", "exit"])
def test_atexit_handlers_and_destructors_log(box, redis, logd, scenario, first):
    p = scenario("exit", first)
    last = ["atexit-after-0", "atexit-before-0", "destructor-0"]
    assert p.accepted() == ([f"main-{n}" for n in range(10)] if first == "main" else []) + last
    assert messages(redis) == p.accepted()
    assert os.listdir(box.ring_dir) == ["adopt.lock"]


def test_threads_log_on_while_main_returns(box, redis, logd, scenario):
    p = scenario("return", 4)
    adopt(box, logd)
    stored_once(redis, p.accepted(), 4)
    assert len(p.accepted()) > 1000


@pytest.mark.forks_threads  # no fork, but ThreadSanitizer's atexit(3) does not know of dlclose(3) either
def test_library_is_loaded_and_unloaded(box, redis, logd):
    path = box.path("accepted")
    p = box.run("plugin", [program("tests/plugin"), program("liblogclient.so.1"), path, "50"],
                env={"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir})
    assert p.popen.returncode == 0, p.stderr()
    first, last = p.stdout().splitlines()
    assert first.split(",")[:2] == last.split(",")[:2], "descriptors or threads are left"
    first, last = (int(line.split()[-2]) for line in (first, last))
    assert last - first < 64 << 10, "address space is left"
    assert messages(redis) == [line.decode() for line in read_lines(path)] == [f"plugin{k}-{n}" for k in range(50) for n in range(10)]
    assert os.listdir(box.ring_dir) == ["adopt.lock"]


# ---- descriptors ----

@pytest.mark.forks_threads
def test_daemon_that_closes_all_descriptors(box, redis, logd, scenario):
    foreign = box.path("foreign")
    p = scenario("daemon", "fork", foreign)
    assert "flushed: 0" in p.stdout()
    assert os.path.getsize(foreign) == 0
    stored_once(redis, p.accepted())
    assert len(p.accepted()) == 121


def test_program_that_closes_all_descriptors_after_the_first_call(box, redis, logd, scenario):
    """Records went into the program's own files, the sender turned in circles, and exit(3) never returned."""
    foreign = box.path("foreign")
    p = scenario("close-all", foreign, seconds=20)
    assert os.path.getsize(foreign) == 0
    assert int(re.search(r"^idle: (\d+)", p.stdout(), re.M).group(1)) < 500
    stored_once(redis, p.accepted())
    assert len(p.accepted()) == 1020
    assert os.listdir(box.ring_dir) == ["adopt.lock"]


@pytest.mark.forks_threads  # no fork, but ThreadSanitizer takes a descriptor's number for the same one in all threads
def test_program_without_standard_descriptors(box, redis, logd, scenario):
    """The ring, its directory and the connection got the numbers 0 to 2, and the program's messages went into them."""
    p = scenario("closed")
    assert len(p.accepted()) == 250
    adopt(box, logd)
    stored_once(redis, p.accepted())


@pytest.mark.forks_threads
def test_handler_that_forks_in_the_first_call(redis, scenario):
    """The fork waited for a lock that its own thread held."""
    assert scenario("fork-in-handler", seconds=20).accepted() == ["first-0"]
    assert messages(redis) == ["first-0"]


def test_large_thread_local_storage(box, redis, logd):
    """It comes out of the stack of the sender's thread: the program crashed, or could not log."""
    p = box.run("tls", [program("tests/tls"), "10"], env={"LOGCLIENT_URL": logd.url, "LOGCLIENT_RING_DIR": box.ring_dir})
    assert p.popen.returncode == 0
    assert messages(redis) == [f"x-{n}" for n in range(10)]


class Dns:
    """A name server that keeps silent for the first queries, then answers them all with 127.0.0.1."""

    def __init__(self, silent):
        self.silent, self.held, self.queries = silent, [], 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            self.held.append(self.socket.recvfrom(600))
            self.queries += 1
            if self.queries > self.silent:
                for query, peer in self.held:
                    self.socket.sendto(self.answer(query), peer)
                self.held.clear()

    @staticmethod
    def answer(query):
        end = query.index(b"\0", 12) + 5
        is_a = query[end - 4:end - 2] == b"\0\1"
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        return head + query[12:end] + (b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if is_a else b"")


@pytest.fixture
def resolver(box, logd):
    """Starts resolver.c, which finds these texts in its files, and the line in hosts later."""
    def run(resolv_conf, line):
        os.mkdir(box.path("etc"))
        box.write("etc/hosts", b"")
        box.write("etc/resolv.conf", resolv_conf.encode())
        p = Process(box, "resolver", [program("tests/resolver"), box.path("etc"), f"http://logd.test:{logd.port}", line],
                    {"LOGCLIENT_RING_DIR": box.ring_dir, "LOGCLIENT_REQUEST_TIMEOUT_MS": "300", "LOGCLIENT_BACKOFF_MIN_MS": "1",
                     "LOGCLIENT_BACKOFF_MAX_MS": "20"}, stdin=subprocess.PIPE)
        p.graceful = False
        p.spawn()
        p.wait_output("^delivered", seconds=40)
        return p
    return run


def test_network_that_comes_up_after_the_start(redis, resolver):
    """resolv.conf and hosts were read once, at the first connection: such a program never delivered anything."""
    p = resolver("", "127.0.0.1 logd.test")
    p.popen.stdin.close()
    assert p.wait() == 0
    assert messages(redis) == ["delivered"]


def test_name_server_that_is_silent_for_a_while(redis, logd, resolver):
    """Look-ups that were given up went on, and each opened a connection in the end, which stayed."""
    dns = Dns(silent=20)
    p = resolver(f"nameserver 127.0.0.1:{dns.port}\n", "# nothing")
    assert logd.metrics()["logd_connections"] <= 2  # the program's, and this one
    sockets = [os.readlink(f"/proc/{p.pid}/fd/{n}") for n in os.listdir(f"/proc/{p.pid}/fd")]
    assert sum("socket:" in s for s in sockets) <= 2  # to logd, and to the name server
    p.popen.stdin.close()
    assert p.wait() == 0
    assert messages(redis) == ["delivered"]


@pytest.mark.parametrize("adopt", ["on", "off"])
def test_ring_file_that_is_removed(box, redis, logd, adopt):
    """systemd removes what a user has in /dev/shm: the client says that the promise no longer holds."""
    producer = box.producer(logd, "--threads", 1, "--records", 10**9, "--rate", 100, "--handle", "--set", f"adopt={adopt}")
    ring = lambda: [n for n in os.listdir(box.ring_dir) if n.endswith(".ring")]
    wait_until(ring, "a ring")
    os.unlink(os.path.join(box.ring_dir, ring()[0]))
    producer.wait_output("the ring file was removed")
    producer.kill()


def test_handler_that_forks_in_a_fork(redis, scenario):
    """The lock of the default client stayed locked."""
    assert scenario("fork-in-fork", seconds=20).accepted() == ["first-0", "second-0", "third-0"]
    assert messages(redis) == ["first-0", "second-0", "third-0"]


@pytest.mark.forks_threads("asan")
def test_fork_beside_the_first_call(redis, scenario):
    """The handlers of fork(2) were installed by the first call: the child's first call waited for ever for its parent's lock."""
    assert sorted(scenario("fork-beside-first", seconds=40).accepted()) == ["child-0", "parent-0"]
    assert sorted(messages(redis)) == ["child-0", "parent-0"]


# ---- users, sleep, the error callback ----

@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.forks_threads
def test_daemon_that_gives_up_root(box, redis, logd, scenario):
    """It cannot look into its ring directory any more; what it has open it keeps."""
    os.chmod(box.dir, 0o711)
    p = scenario("setuid", 65534)
    assert counts(p, "damaged") == "0"
    stored_once(redis, p.accepted())
    assert len(p.accepted()) == 30


def test_sender_that_sleeps_is_woken_after_a_search(redis, scenario):
    """A search must not clear the note that it sleeps: a record would lie until the next one."""
    p = scenario("wake", env={"LOGCLIENT_LINGER_MS": "1"})
    assert int(counts(p, "delivered after")) < 1000 * pipeline.SCALE
    assert messages(redis) == ["first-0", "second-0"]


UNREACHABLE = {"LOGCLIENT_URL": "http://127.0.0.1:9", "LOGCLIENT_EXIT_TIMEOUT_MS": "200"}


def test_error_callback_that_ends_the_process(box, redis, logd, scenario):
    """exit(3) does not wait for the thread that it runs on."""
    scenario("callback", "exit", env=UNREACHABLE, seconds=20)
    adopt(box, logd)
    assert messages(redis) == ["record-0"]


def test_error_callback_that_flushes(box, redis, logd, scenario):
    """The sender does not wait for the callback, nor the flush for the sender's thread to come back from it."""
    p = scenario("callback", "flush", env=UNREACHABLE, seconds=20)
    assert "flush: 0" not in p.stdout()
    adopt(box, logd)
    assert messages(redis) == ["record-0", "callback-0"]
