"""Full and read-only disks, a full ring, a Redis that refuses writes: what was accepted is in app.log, once."""
import collections
import ctypes
import os
import resource
import shutil
import signal
import subprocess

import pytest

from pipeline import messages, metrics, program, wait_until
from test_client import QUICK, by_thread, conserved

CLONE_NEWNS = 0x00020000
LEVEL = ["--levels", "warn"]  # what the worker writes


@pytest.fixture(scope="module")
def mount():
    """Mounts in a namespace of this process, so that nothing stays mounted whatever happens."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) != 0:
        pytest.skip(f"mounting a small tmpfs needs root and CAP_SYS_ADMIN: {os.strerror(ctypes.get_errno())}")
    # In a chroot "/" need not be a mount, and cannot be made private; then the umount below has to do.
    subprocess.run(["mount", "--make-rprivate", "/"], stderr=subprocess.DEVNULL, check=False)
    mounted = []

    def run(path, options):
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        mounted.append(path)
        return path
    run.read_only = lambda path: subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    yield run
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)  # the box could not remove a mount


def free_bytes(path):
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def fill(path, leave=0):
    """A file that takes all space of the file system but `leave` bytes; its path."""
    name = os.path.join(path, "ballast")
    with open(name, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass
        os.truncate(name, max(0, f.tell() - leave))
    return name


def drained(redis, worker, producer):
    """Each record that the producer lists stands once in app.log, in order of each thread."""
    wait_until(lambda: redis.drained(), lambda: f"the stream to be empty; {redis.length()} entries", 60)
    names = [m.rstrip(".") for m in worker.messages()]
    assert collections.Counter(names) == collections.Counter(producer.accepted())
    assert all(numbers == sorted(numbers) for numbers in by_thread(names).values())


# ---- A full ring ----

def test_full_ring_drops_and_loses_nothing_accepted(box, redis, logd):
    worker = box.worker(redis)
    logd.signal(signal.SIGSTOP)
    producer = box.producer(logd, "--threads", 4, "--records", 2000, "--pad", 400, *LEVEL, "--set", "ring_bytes=1m", "--hold",
                            *QUICK, stdin=subprocess.PIPE)
    wait_until(lambda: len(producer.accepted()) > 2000, "records")
    logd.signal(signal.SIGCONT)
    producer.popen.stdin.close()
    stats = conserved(producer.finish())
    assert stats["dropped"] == stats["refused"] > 0
    assert stats["delivered"] == len(producer.accepted()) == 8000 - stats["dropped"]
    drained(redis, worker, producer)


def test_full_ring_blocks_until_logd_is_back(box, redis, logd):
    worker = box.worker(redis)
    logd.stop()
    producer = box.producer(logd, "--records", 4000, "--pad", 400, *LEVEL, "--set", "ring_bytes=1m", "--set", "on_full=block",
                            "--set", "block_ms=60000", *QUICK)
    wait_until(lambda: len(producer.accepted()) > (1 << 20) // 450, "the ring to be full")
    assert len(producer.accepted()) < (1 << 20) // 428
    logd.start()
    stats = conserved(producer.finish())
    assert (stats["delivered"], stats["dropped"]) == (4000, 0)
    drained(redis, worker, producer)


# ---- A full or read-only disk under the ring ----

def test_full_disk_under_the_ring(box, redis, logd, mount):
    """No SIGBUS: calls fail while there are no blocks, and succeed again when there are."""
    mount(box.ring_dir, "size=3m,mode=700")
    worker = box.worker(redis)
    logd.stop()
    producer = box.producer(logd, "--threads", 2, "--records", 8000, "--pad", 1000, *LEVEL, "--retry-full", "--set", "ring_bytes=256m",
                            "--hold", *QUICK, stdin=subprocess.PIPE)
    # Blocks are taken in steps of 256 KiB; of a last step that does not fit, tmpfs takes none.
    wait_until(lambda: free_bytes(box.ring_dir) < 256 * 1024, lambda: f"a full disk; {free_bytes(box.ring_dir)} bytes are left")
    assert len(producer.accepted()) < 3500
    logd.start()
    wait_until(lambda: len(producer.accepted()) == 16000, "the rest of the records to be accepted", 30)
    producer.popen.stdin.close()
    stats = conserved(producer.finish())
    assert stats["dropped"] > 0 and stats["ring_fallback"] == 0
    drained(redis, worker, producer)


def test_disk_that_is_full_when_the_ring_is_made(box, redis, logd, mount):
    fill(mount(box.ring_dir, "size=3m,mode=700"), 8192)
    producer = box.producer(logd, "--records", 1000, "--handle")
    stats = conserved(producer.finish())
    assert (stats["delivered"], stats["ring_fallback"]) == (1000, 1)
    (status, text), = producer.reports()
    assert status == 7 and "No space left" in text
    assert sorted(os.listdir(box.ring_dir)) == ["adopt.lock", "ballast"]


def test_read_only_ring_directory(box, redis, logd, mount):
    mount.read_only(mount(box.ring_dir, "size=3m,mode=700"))
    producer = box.producer(logd, "--records", 1000, "--handle")
    stats = conserved(producer.finish())
    assert (stats["delivered"], stats["ring_fallback"]) == (1000, 1)
    (status, text), = producer.reports()
    assert status == 7 and "Read-only" in text
    assert messages(redis) == producer.accepted()


def test_disk_that_fills_up_while_rings_are_adopted(box, redis, logd, mount):
    """Draining needs no space."""
    mount(box.ring_dir, "size=3m,mode=700")
    logd.stop()
    killed = box.producer(logd, "--records", 1500, "--pad", 1000, *LEVEL, "--hold", *QUICK, stdin=subprocess.PIPE)
    wait_until(lambda: len(killed.accepted()) == 1500, "the records")
    killed.kill()
    fill(box.ring_dir)
    logd.start()
    done = box.run("drain", [program("logsend"), "--url", logd.url, "--drain", box.ring_dir])
    assert done.popen.returncode == 0, done.stderr()
    assert [m.rstrip(".") for m in messages(redis)] == killed.accepted()


# ---- A full or read-only disk under app.log ----

def listening(box, redis, *args, **kw):
    """A worker with metrics, and their port."""
    worker = box.worker(redis, "--listen", "127.0.0.1:0", *args, **kw)
    return worker, int(worker.wait_output(r"http://127\.0\.0\.1:(\d+)/metrics").group(1))


def law(redis, logd, port):
    """accepted = written + filtered + dead-lettered + still queued. What Redis has just removed is told a little later."""
    def sides():
        counted = metrics(port)
        gone = sum(counted[f"logworker_records_{n}_total"] for n in ("written", "filtered", "dead"))
        return logd.metrics()["logd_records_accepted_total"], gone + redis.length()
    wait_until(lambda: len(set(sides())) == 1, lambda: f"all accepted records to be accounted for: {sides()}")


def room(disk):
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)


@pytest.mark.parametrize("policy", ["never", "batch"])
def test_full_disk_under_the_log(box, redis, logd, mount, policy):
    disk = mount(box.path("disk"), "size=1m")
    worker, port = listening(box, redis, "--fsync", policy, output=os.path.join(disk, "app.log"))
    producer = box.producer(logd, "--threads", 2, "--records", 3000, "--pad", 300, *LEVEL)
    assert producer.finish()["delivered"] == 6000
    worker.wait_output("No space left on device")
    wait_until(lambda: metrics(port)["logworker_write_errors_total"] >= 2, "another attempt")
    law(redis, logd, port)
    assert redis.length() > 1000
    assert len(worker.lines()) >= 6000 - redis.length(), "committed without being written"
    room(disk)
    drained(redis, worker, producer)
    law(redis, logd, port)
    worker.wait_output("can be written again")


def test_killed_while_the_disk_is_full(box, redis, logd, mount):
    disk = mount(box.path("disk"), "size=1m")
    worker = box.worker(redis, output=os.path.join(disk, "app.log"))
    producer = box.producer(logd, "--records", 6000, "--pad", 300, *LEVEL)
    producer.finish()
    mark = (0, 0)
    for _ in range(3):
        worker.wait_output("No space left on device", since=mark)
        worker.kill()
        mark = worker.mark()
        worker.start()
    room(disk)
    drained(redis, worker, producer)


def test_limit_of_the_file_size(box, redis, logd):
    """RLIMIT_FSIZE: the same without a mount."""
    worker, port = listening(box, redis)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
    producer = box.producer(logd, "--records", 2000, *LEVEL)
    producer.finish()
    worker.wait_output("File too large")
    law(redis, logd, port)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    drained(redis, worker, producer)


def test_read_only_directory_under_the_log(box, redis, mount):
    disk = mount(box.path("disk"), "size=1m")
    mount.read_only(disk)
    path = os.path.join(disk, "app.log")
    p = box.run("logworker", [program("logworker"), "--redis", redis.url, "--output", path])
    assert p.popen.returncode == 69
    assert path in p.stderr() and "Read-only file system" in p.stderr()


def test_reopening_that_fails_is_tried_again(box, redis, logd):
    worker = box.worker(redis)
    producer = box.producer(logd, "--records", 500, "--tag", "a", *LEVEL)
    producer.finish()
    wait_until(redis.drained, "the stream to be empty")
    os.rename(worker.output, worker.output + ".1")
    os.mkdir(worker.output)  # the reopening fails
    worker.signal(signal.SIGHUP)
    worker.wait_output("cannot reopen")
    os.rmdir(worker.output)
    wait_until(lambda: os.path.isfile(worker.output), "a new app.log")
    more = box.producer(logd, "--records", 500, "--tag", "b", *LEVEL)
    more.finish()
    wait_until(redis.drained, "the stream to be empty")
    assert worker.messages() == more.accepted()


# ---- Redis refuses writes ----

def test_redis_is_out_of_memory(box, redis, logd):
    producer = box.producer(logd, "--threads", 2, "--records", 4000, "--rate", 2000, "--pad", 100, *LEVEL, *QUICK)
    wait_until(lambda: redis.length() > 500, "some records")
    redis("CONFIG", "SET", "maxmemory", "1")
    logd.wait_unready()
    wait_until(lambda: len(producer.accepted()) == 8000, "the records to be accepted")
    assert producer.alive() and redis.length() < 8000
    redis("CONFIG", "SET", "maxmemory", "0")
    assert conserved(producer.finish())["delivered"] == 8000
    worker = box.worker(redis)
    drained(redis, worker, producer)
    assert logd.metrics()["logd_records_accepted_total"] == 8000


def test_worker_empties_a_redis_that_is_out_of_memory(box, redis, logd):
    """So that writes are taken again, without anybody's help."""
    first = box.producer(logd, "--records", 3000, "--pad", 1000, "--tag", "a", *LEVEL)
    assert first.finish()["delivered"] == 3000
    used = int(redis("INFO", "memory").split("used_memory:")[1].split("\r\n")[0])
    redis("CONFIG", "SET", "maxmemory", str(used - 1000000))
    logd.wait_unready()
    second = box.producer(logd, "--records", 3000, "--pad", 1000, "--tag", "b", *LEVEL, *QUICK)
    wait_until(lambda: len(second.accepted()) == 3000, "the records to be accepted")
    assert redis.length() == 3000
    worker = box.worker(redis)
    assert conserved(second.finish())["delivered"] == 3000
    wait_until(redis.drained, "the stream to be empty")
    assert [m.rstrip(".") for m in worker.messages()] == first.accepted() + second.accepted()


def test_redis_is_a_read_only_replica_for_a_while(box, redis, logd):
    other = box.redis(name="primary")
    worker = box.worker(redis)
    producer = box.producer(logd, "--records", 4000, "--rate", 4000, *LEVEL, *QUICK)
    wait_until(lambda: len(worker.lines()) > 200, "some records")
    # The primary cannot be reached (it has no TCP port), so the data stay; only writes are refused.
    assert other("PING") == "PONG"
    redis("REPLICAOF", "127.0.0.1", "1")
    logd.wait_unready()
    wait_until(lambda: len(producer.accepted()) == 4000, "the records to be accepted")
    redis("REPLICAOF", "NO", "ONE")
    assert conserved(producer.finish())["delivered"] == 4000
    drained(redis, worker, producer)


def test_redis_refuses_to_write_after_a_failed_snapshot(box, redis, logd):
    """MISCONF: stop-writes-on-bgsave-error."""
    worker = box.worker(redis)
    producer = box.producer(logd, "--records", 2000, "--rate", 4000, *LEVEL, *QUICK)
    wait_until(lambda: len(worker.lines()) > 200, "some records")
    os.mkdir(box.path("redis.d/dump.rdb"))
    redis("CONFIG", "SET", "save", "3600 1000000")
    redis("BGSAVE")
    wait_until(lambda: "rdb_last_bgsave_status:err" in redis("INFO", "persistence"), "the snapshot to fail")
    wait_until(lambda: len(producer.accepted()) == 2000, "the records to be accepted")
    os.rmdir(box.path("redis.d/dump.rdb"))
    redis("CONFIG", "SET", "save", "")
    redis("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    assert conserved(producer.finish())["delivered"] == 2000
    drained(redis, worker, producer)


# ---- Two logd ----

def test_two_logd_are_killed_in_turn_in_mid_traffic(box, redis):
    worker = box.worker(redis)
    both = [box.logd(redis, "--no-echo", name=f"logd-{n}") for n in "ab"]
    producer = box.producer(",".join(d.url for d in both), "--threads", 3, "--records", 8000, "--rate", 1600, *LEVEL, *QUICK)
    deaths = 0
    while producer.alive():
        both[deaths % 2].kill()
        deaths += 1
        both[(deaths + 1) % 2].start(wait_redis=False)
        seen = len(producer.accepted())
        wait_until(lambda: len(producer.accepted()) > seen + 500 or not producer.alive(), "more records")
    assert deaths >= 8
    assert conserved(producer.finish())["delivered"] == 24000
    drained(redis, worker, producer)
