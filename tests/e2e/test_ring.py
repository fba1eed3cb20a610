"""Ring files: what a dead process leaves, who delivers it, and what else may lie about (doc/protocol.md, section 6)."""
import collections
import json
import os
import signal
import struct
import subprocess
import threading

import pytest

from fakelogd import FakeLogd, answer, ok, refuse
from pipeline import messages, program, wait_until
from test_client import QUICK, by_thread, conserved

HEADER = 65536
DAMAGED, TWIN, MISSING = 8, 9, 10  # logclient_status_t


def start_holding(box, logd, tag, count, *args, threads=1, env=None):
    """A producer that has logged, and now waits for the end of its input."""
    p = box.producer(logd, "--threads", threads, "--records", count, "--tag", tag, "--hold", *QUICK, *args, env=env,
                     stdin=subprocess.PIPE)
    wait_until(lambda: len(p.accepted()) == threads * count, "the records to be accepted")
    return p


def left_behind(box, logd, tag, count=1000, **kw):
    """A producer that is killed while logd is away; its records are in its ring."""
    p = start_holding(box, logd, tag, count, **kw)
    p.kill()
    return p


def start_adopter(box, logd, *args, env=None):
    return start_holding(box, logd, "adopter", 1, *args, env=env)


def finish(p):
    p.popen.stdin.close()
    return conserved(p.finish())


def files(box, suffix=""):
    return sorted(n for n in os.listdir(box.ring_dir) if n.endswith(suffix) and n != "adopt.lock")


def wait_adopted(box, living=1, seconds=10):
    """Until there are no rings but those of living processes."""
    wait_until(lambda: len(files(box, ".ring")) == living, lambda: f"the adoption; there are {files(box)}", seconds)


def queued(redis, tag):
    return [m for m in messages(redis) if m.startswith(tag)]


# ---- Adoption ----

def test_next_process_delivers_what_was_left(box, redis, logd):
    assert logd.stop() == 0
    killed = left_behind(box, logd, "killed", 1000, threads=3)
    assert len(files(box, ".ring")) == 1 and not files(box, ".tmp")
    logd.start()
    adopter = start_adopter(box, logd)
    wait_adopted(box)
    assert finish(adopter)["adopted"] == 3000
    stored = queued(redis, "killed")
    assert collections.Counter(stored) == collections.Counter(killed.accepted())
    assert all(numbers == list(range(1000)) for numbers in by_thread(stored).values())
    assert files(box) == []
    assert logd.metrics()["logd_records_duplicate_total"] == logd.metrics()["logd_sequence_gap_records_total"] == 0


def test_records_of_a_killed_process_are_counted_by_who_delivers_them(box):
    """Over both processes each record that was accepted is counted once: delivered, adopted, or adopted and refused."""
    batch, heard, waiting = 100, 20, threading.Event()

    def take_some(q, n):
        if n < heard:
            return ok(q)
        waiting.set()  # so the answers before were heard
        return None

    def refuse_nines(q, n):
        nines = [i for i, message in enumerate(q.messages) if message.endswith("9")]
        return refuse(400, index=nines[0], field="message")(q) if nines else ok(q)
    with FakeLogd(take_some) as fake:
        killed = start_holding(box, fake, "killed", 5000, "--set", f"batch_records={batch}", "--set", "linger_ms=1")
        assert waiting.wait(20)
        killed.kill()
        delivered = len(fake.stored())
        fake.script = refuse_nines
        adopter = start_adopter(box, fake)
        wait_adopted(box)
        stats = finish(adopter)
        left = killed.accepted()[delivered:]
        assert stats["adopted_rejected"] == sum(m.endswith("9") for m in left) > 0
        assert stats["adopted"] == len(left) - stats["adopted_rejected"] == len(fake.stored()) - delivered - 1
        assert (stats["logged"], stats["delivered"], stats["rejected"]) == (1, 1, 0)


def test_process_that_runs_already_delivers_what_others_leave(box, redis, logd):
    watcher = start_adopter(box, logd)
    wait_until(lambda: redis.length() == 1, "the watcher")
    logd.signal(signal.SIGSTOP)
    killed = left_behind(box, logd, "killed")
    logd.signal(signal.SIGCONT)
    wait_adopted(box, seconds=8)
    assert queued(redis, "killed") == killed.accepted()
    assert finish(watcher)["delivered"] == 1
    assert files(box) == []


def test_adoption_can_be_switched_off(box, redis, logd):
    assert logd.stop() == 0
    left_behind(box, logd, "killed")
    ring = files(box, ".ring")
    logd.start()
    other = box.producer(logd, "--records", 5000, "--tag", "other", "--set", "adopt=off")
    assert conserved(other.finish())["adopted"] == 0
    assert files(box) == ring and queued(redis, "killed") == []


def test_no_ring_is_drained_by_two(box, redis, logd):
    """Many rings, many processes that start at the same time: each record once, and none is sent twice."""
    assert logd.stop() == 0
    killed = [left_behind(box, logd, f"k{i}-", 300) for i in range(20)]
    logd.start()
    adopters = [box.producer(logd, "--records", 1, "--tag", f"adopter{i}", "--hold", *QUICK, stdin=subprocess.PIPE) for i in range(6)]
    wait_until(lambda: all(a.accepted() for a in adopters), "the processes to start")
    wait_adopted(box, 6, 20)
    assert sum(finish(a)["adopted"] for a in adopters) == 6000
    for k in killed:
        assert queued(redis, k.accepted()[0].split("-")[0] + "-") == k.accepted()
    assert logd.metrics()["logd_records_duplicate_total"] == 0
    assert files(box) == []


def test_ring_of_a_stopped_process_is_its_own(box, redis, logd):
    assert logd.stop() == 0
    living = start_holding(box, logd, "living", 500)
    left_behind(box, logd, "killed")
    living.signal(signal.SIGSTOP)
    try:
        logd.start()
        adopter = start_adopter(box, logd)
        wait_adopted(box, 2)
        assert len(queued(redis, "killed")) == 1000
        assert queued(redis, "living") == []
    finally:
        living.signal(signal.SIGCONT)
    finish(adopter)
    assert finish(living)["delivered"] == 500
    assert queued(redis, "living") == living.accepted()


def waiting_at(port):
    """How many bytes on connections to the port nobody has read."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return sum(int(queues.split(":")[1], 16) for _, local, _, state, queues, *_ in rows
               if int(local.split(":")[1], 16) == port and state == "01")


def test_batch_in_flight_when_its_process_is_killed(box, redis, logd):
    """logd stores the batch of a dead process; whoever adopts the ring sends it again: it is stored once."""
    logd.signal(signal.SIGSTOP)
    killed = start_holding(box, logd, "killed", 2000)
    seen = [0]
    # All of it is sent when nothing more comes.
    wait_until(lambda: seen.append(waiting_at(logd.port)) or len(seen) > 5 and 0 < seen[-5] == seen[-1], "the batch to be in flight")
    killed.kill()
    logd.signal(signal.SIGCONT)
    wait_until(lambda: redis.length() > 0, "the batch")
    adopter = start_adopter(box, logd)
    wait_adopted(box)
    assert finish(adopter)["adopted"] == 2000
    assert queued(redis, "killed") == killed.accepted()
    metrics = logd.metrics()
    assert metrics["logd_records_duplicate_total"] > 0 and metrics["logd_sequence_gap_records_total"] == 0


def test_adopters_are_killed_too(box, redis, logd):
    """A ring goes through many hands."""
    assert logd.stop() == 0
    killed = left_behind(box, logd, "killed", 20000)
    logd.start()
    for i in range(8):
        adopter = start_adopter(box, logd, "--set", "batch_records=50")
        wait_until(lambda: len(queued(redis, "killed")) > (i + 1) * 500, "some of the records")
        adopter.kill()
    last = start_adopter(box, logd)
    wait_adopted(box)
    finish(last)
    assert queued(redis, "killed") == killed.accepted()
    assert logd.metrics()["logd_sequence_gap_records_total"] == 0


def from_the_dead(box):
    """A function that says of a request whether its records come from the one ring that is there now."""
    name, = files(box, ".ring")
    return lambda q: q.headers["log-producer"] == name[:-len(".ring")]


def test_ring_that_logd_never_takes_holds_nobody_up(box):
    with FakeLogd(lambda q, n: None) as fake:
        left_behind(box, fake, "killed", 10)
        dead = from_the_dead(box)
        fake.script = lambda q, n: refuse(500)(q) if dead(q) else ok(q)
        adopter = box.producer(fake, "--records", 400, "--rate", 400, "--tag", "adopter", *QUICK, "--set", "backoff_max_ms=100",
                               "--set", "linger_ms=1")
        stats = adopter.finish()
        assert (stats["delivered"], stats["adopted"]) == (400, 0)
        with fake.lock:
            refused = sum(map(dead, fake.requests))
            assert 1 <= refused < len(fake.requests) / 2
    assert len(files(box, ".ring")) == 1


def test_adopted_batch_that_was_stored_and_not_answered_makes_no_twin(box):
    """It is halved; then the first half must not lower what is known to be sent."""
    with FakeLogd(lambda q, n: None) as fake:
        left_behind(box, fake, "killed", 100)
        dead, silent, over = from_the_dead(box), [], threading.Event()

        def all_known(q, n):
            if dead(q) and not silent:
                silent.append(len(q.records))
                over.wait(20)
                return None
            return answer(200, {"accepted": len(q.records), "duplicates": len(q.records) if dead(q) else 0})
        fake.script = all_known
        adopter = start_adopter(box, fake, "--set", "request_timeout_ms=300")
        wait_adopted(box)
        over.set()
        assert finish(adopter)["adopted"] == 100 and silent == [100]
        assert TWIN not in [s for s, _ in adopter.reports()]
        with fake.lock:
            assert [len(q.records) for q in fake.requests if dead(q) and q.answer] == [50, 50]


# ---- Damage ----

def test_ring_that_becomes_shorter_while_it_is_drained(box):
    """Its file is read, never mapped: there is a report, and no signal."""
    with FakeLogd(lambda q, n: None) as fake:
        left_behind(box, fake, "killed", 20000)
        name, = files(box, ".ring")
        dead, shortened = from_the_dead(box), []

        def shorten(q, n):
            if dead(q) and not shortened:
                shortened.append(os.truncate(os.path.join(box.ring_dir, name), HEADER + 4096))
            return ok(q)
        fake.script = shorten
        adopter = start_adopter(box, fake, "--set", "batch_records=50")
        wait_until(lambda: files(box, ".damaged"), "the ring to be moved aside")
        stats = finish(adopter)
    assert 50 <= stats["adopted"] < 20000
    assert stats["delivered"] == 1
    assert files(box) == [name + ".damaged"]
    assert DAMAGED in [s for s, _ in adopter.reports()]



def records_of(path):
    """Positions in the file of the records of a ring that was never acknowledged nor wrapped."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"LOGRING2"
    head, = struct.unpack_from("=Q", data, 64)
    at, positions = HEADER, []
    while at < HEADER + (head >> 31 << 3):
        header, = struct.unpack_from("=Q", data, at)
        if header >> 17 & 3 == 2:
            positions.append(at)
        at += (header & 0x1ffff) * 8 or 8
    return positions


def patch(path, at, value):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(value)


def change(path, at, how):
    """Changes a word of 8 bytes."""
    with open(path, "rb") as f:
        f.seek(at)
        word, = struct.unpack("=Q", f.read(8))
    patch(path, at, struct.pack("=Q", how(word)))


DAMAGE = {
    "state 3": (0, lambda w: w | 3 << 17), "state 0 with a length": (0, lambda w: w & ~(3 << 17)),
    "length of 0": (0, lambda w: w & ~0x1ffff), "length beyond head": (0, lambda w: w | 0x1ffff),
    "length of another record": (0, lambda w: w & ~0x1ffff | 3), "another number": (0, lambda w: w ^ 1 << 19),
    "another time": (8, lambda w: w ^ 1), "another check": (16, lambda w: w ^ 1), "no service": (16, lambda w: w & ~(0xff << 32)),
    "level 6": (16, lambda w: w | 6 << 40), "unknown flag": (16, lambda w: w | 4 << 48),
}


@pytest.mark.parametrize("offset, how", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_ring_is_delivered_but_for_the_damage(box, redis, logd, offset, how):
    """What lay behind the damage was not delivered."""
    assert logd.stop() == 0
    killed = left_behind(box, logd, "killed", 600)
    name, = files(box, ".ring")
    path = os.path.join(box.ring_dir, name)
    change(path, records_of(path)[400] + offset, how)
    left_behind(box, logd, "whole", 100)
    logd.start()
    adopter = start_adopter(box, logd)
    wait_adopted(box)
    wait_until(lambda: len(adopter.reports()) >= 2, "the reports")
    stats = finish(adopter)
    assert (stats["adopted"], stats["damaged"]) == (699, 1)
    accepted = killed.accepted()
    assert queued(redis, "killed") == accepted[:400] + accepted[401:]
    assert files(box) == [name + ".damaged"]
    assert [s for s, _ in adopter.reports()] == [MISSING, DAMAGED]
    assert f"up to 1 record of ring {name} cannot be read" in adopter.reports()[0][1]
    assert name in adopter.reports()[1][1]


@pytest.mark.parametrize("damage", [lambda p: os.truncate(p, HEADER), lambda p: patch(p, 0, b"X"), lambda p: patch(p, 192, b"\xff" * 128),
                                    lambda p: patch(p, 16, b"\0" * 8)], ids=["cut", "magic", "acknowledgements", "capacity"])
def test_ring_that_cannot_be_read_is_moved_aside(box, redis, logd, damage):
    assert logd.stop() == 0
    left_behind(box, logd, "killed", 100)
    name, = files(box, ".ring")
    damage(os.path.join(box.ring_dir, name))
    logd.start()
    adopter = start_adopter(box, logd)
    wait_until(lambda: any(s == DAMAGED and name in t for s, t in adopter.reports()), "the report")
    assert finish(adopter)["damaged"] == 1
    assert files(box) == [name + ".damaged"]
    assert messages(redis) == ["adopter-0-0"]


def test_ring_whose_head_is_damaged_is_delivered(box, redis, logd):
    """Each record tells where it begins."""
    assert logd.stop() == 0
    killed = left_behind(box, logd, "killed", 100)
    name, = files(box, ".ring")
    patch(os.path.join(box.ring_dir, name), 64, b"\xff" * 8)
    logd.start()
    adopter = start_adopter(box, logd)
    wait_until(lambda: any(s == DAMAGED and name in t for s, t in adopter.reports()), "the report")
    assert finish(adopter)["damaged"] == 1
    assert files(box) == [name + ".damaged"]
    assert queued(redis, "killed") == killed.accepted()


def test_one_acknowledgement_slot_is_enough(box, redis, logd):
    """A slot that was being written when the process died does not count; the other one does."""
    assert logd.stop() == 0
    killed = left_behind(box, logd, "killed", 100)
    name, = files(box, ".ring")
    path = os.path.join(box.ring_dir, name)
    with open(path, "rb") as f:
        f.seek(192)
        slots = [f.read(64), f.read(64)]
    empty = next(i for i in (0, 1) if not any(slots[i]))
    patch(path, 192 + 64 * empty, struct.pack("=QQQQ", 9, 8, 7, 6))
    logd.start()
    adopter = start_adopter(box, logd)
    wait_adopted(box)
    assert finish(adopter)["damaged"] == 0
    assert queued(redis, "killed") == killed.accepted()


def test_other_things_in_the_directory(box, redis, logd):
    assert logd.stop() == 0
    killed = left_behind(box, logd, "killed", 100)
    elsewhere = left_behind_elsewhere(box, logd)
    os.mkdir(box.path("rings/directory.ring"))
    os.mkfifo(box.path("rings/fifo.ring"))
    os.symlink(elsewhere, box.path("rings/link.ring"))
    os.symlink("nowhere", box.path("rings/dangling.ring"))
    box.write("rings/README", b"text")
    box.write("rings/ring", b"text")
    box.write("rings/x.ring.damaged", b"text")
    box.write("rings/" + "0" * 32 + ".tmp", b"never finished")
    before = files(box)
    logd.start()
    adopter = start_adopter(box, logd)
    wait_until(lambda: len([n for n in files(box, ".ring") if len(n) == 37]) == 1, "the adoption")
    assert finish(adopter)["damaged"] == 4  # what is called a ring, and is no file
    assert queued(redis, "killed") == killed.accepted()
    after = files(box)
    gone = [n for n in before if n not in after and n + ".damaged" not in after]
    assert sorted(gone) == sorted(n for n in before if n.endswith(".tmp") or len(n) == 37)
    assert {n[:-len(".damaged")] for n in after if n not in before} == {n for n in before if n.endswith(".ring") and len(n) != 37}
    assert os.path.exists(elsewhere) and queued(redis, "elsewhere") == []


def left_behind_elsewhere(box, logd):
    """A ring in another directory; its path."""
    other = box.path("other")
    os.mkdir(other, 0o700)
    left_behind(box, logd, "elsewhere", 10, env={"LOGCLIENT_RING_DIR": other})
    name, = (n for n in os.listdir(other) if n.endswith(".ring"))
    return os.path.join(other, name)


def test_ring_is_for_its_user_only(box, redis, logd):
    p = start_adopter(box, logd)
    assert files(box, ".ring")
    for name in os.listdir(box.ring_dir):
        assert os.stat(os.path.join(box.ring_dir, name)).st_mode & 0o7777 == 0o600
    finish(p)


def test_inspection_disturbs_nobody(box, redis, logd):
    """logsend --inspect shows living and dead rings, and changes none."""
    assert logd.stop() == 0
    left_behind(box, logd, "dead", 7)
    living = start_holding(box, logd, "living", 5, "--set", "adopt=off")
    p = box.run("inspect", [program("logsend"), "--inspect", box.ring_dir])
    shown = {row[4]: row[2] for row in map(str.split, p.stdout().splitlines()[1:])}
    assert sorted(shown) == ["5", "7"] and shown["7"] == "dead" and shown["5"] != "dead"
    p = box.run("print", [program("logsend"), "--inspect", box.ring_dir, "--print"])
    printed = [json.loads(line)["message"] for line in p.stdout().splitlines()]
    assert sorted(printed) == [f"dead-0-{n}" for n in range(7)] + [f"living-0-{n}" for n in range(5)]
    logd.start()
    finish(living)
    assert len(queued(redis, "living")) == 5 and len(files(box, ".ring")) == 1
