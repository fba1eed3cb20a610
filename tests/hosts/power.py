"""Power cuts: what of a ring had reached the disk, what logd knew at that moment, and what is then delivered after a reboot."""
import ctypes
import fcntl
import os
import random
import re
import struct
import subprocess
import threading
import uuid

import fakelogd
from hosts import MB, environment, run
from pipeline import Process, program, wait_until

FICLONE = 0x40049409
THREADS = 2
BACK_OFF = {"LOGCLIENT_BACKOFF_MIN_MS": "5", "LOGCLIENT_BACKOFF_MAX_MS": "20"}
MISSING = re.compile(r"up to (\d+) records? of ring \S+ had not reached the disk")
TWIN = "a copy of this machine"
REBOOTED = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'

libc = ctypes.CDLL(None, use_errno=True)


def syncfs(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        assert libc.syncfs(fd) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(fd)


def text(tag, n):
    """As surge.c writes it."""
    length = 24 + ((n * 2654435761 & 0xffffffff) >> 8) % 1500 + (20000 if n % 61 == 60 else 0)
    unit = f"{tag}-{n}-"
    return (unit * (length // len(unit) + 1))[:length]


class Store:
    """What logd and Redis know: of each producer, its records by their numbers (doc/protocol.md, section 2.2)."""

    def __init__(self, producers=()):
        self.lock = threading.Lock()
        self.producers = {p: dict(records) for p, records in dict(producers).items()}
        self.last = {p: max(records) for p, records in self.producers.items()}

    def copy(self):
        """The caller has the lock."""
        return Store(self.producers)

    def take(self, request):
        producer, first = request.headers["log-producer"], request.sequence
        with self.lock:
            last = self.last.get(producer)
            duplicates = 0
            for number, message in enumerate(request.messages, first):
                if last is not None and number <= last:
                    duplicates += 1
                else:
                    self.producers.setdefault(producer, {})[number] = message
                    self.last[producer] = number
            answer = {"accepted": len(request.records), "duplicates": duplicates}
            if last is not None and first - request.skip > last + 1:
                answer["gap"] = first - request.skip - last - 1
            return fakelogd.answer(200, answer)

    def messages(self):
        return [m for records in self.producers.values() for m in records.values()]


class Logd(fakelogd.FakeLogd):
    """Takes records into a store. `most`: it goes away after so many requests; None: it stays. With `rng`, answers may be lost."""

    def __init__(self, store, rng=None, most=None):
        self.store, self.rng, self.most = store, rng, most
        super().__init__(self._answer_to)

    def come_and_go(self, rng):
        """It is away, or will be soon, so that a ring is delivered in part, or stays."""
        self.most = rng.choice((0, rng.randrange(20), rng.randrange(20), None))

    def _answer_to(self, request, number):
        with self.store.lock:
            if self.most is not None:
                self.most -= 1
                if self.most < 0:
                    return None
        answer = self.store.take(request)
        request.body = b""  # there are many
        return None if self.rng and self.rng.random() < 0.05 else answer


class Surge(Process):
    """surge.c with a tag of its own."""

    graceful = False
    count = 0

    def __init__(self, box, url, rings, rate, batch_records):
        Surge.count += 1
        self.tag = f"s{Surge.count}"
        self.counters = box.write(self.tag + ".count", bytes(64))
        env = environment(url, rings, ring_bytes="1m", report="stderr", backoff_min_ms=5, backoff_max_ms=20,
                          batch_records=batch_records)
        super().__init__(box, self.tag, [program("tests/surge"), self.tag, str(THREADS), str(rate), self.counters], env,
                         stdin=subprocess.PIPE)
        self.spawn()

    def _count(self):
        with open(self.counters, "rb") as f:
            return struct.unpack("8Q", f.read())

    def accepted(self):
        return {f"{self.tag}.{i}": n for i, n in enumerate(self._count()[:THREADS])}

    def wait_for(self, records):
        """Until so many more were accepted, or some were not, since the ring is full."""
        target, refused = sum(self.accepted().values()) + records, self._count()[-1]

        def enough():
            assert self.alive(), self.stderr()[-500:]
            return sum(self.accepted().values()) >= target or self._count()[-1] > refused + 20
        wait_until(enough, f"{records} more records")

    def end(self, kindly):
        if kindly:
            self.popen.stdin.close()
            assert self.wait() == 0
        else:
            self.kill()
        assert "memory only" not in self.stderr() and TWIN not in self.stderr(), self.stderr()


class Tally:
    """Counts the cuts of a test, and what was wrong with them."""

    def __init__(self, seed):
        self.seed, self.cuts, self.delivered, self.lost, self.reported, self.reports, self.with_loss = seed, 0, 0, 0, 0, 0, 0
        self.faults = []

    def __str__(self):
        return (f"seed {self.seed}: {self.cuts} cuts; {self.delivered} records delivered after them; {self.with_loss} cuts lost "
                f"{self.lost} numbers before a record that was found; {self.reports} reported up to {self.reported}; "
                f"{len({cut for cut, _ in self.faults})} cuts with faults")


class Cut:
    """One power cut: the directory as the disk has it, what logd knew, and what must be there: {tag: records}, of which so
    many were accepted before a write-back that had ended."""

    def __init__(self, what, box, tally, rng, rings, store, durable):
        self.what = what
        self.box, self.tally, self.rng, self.rings, self.store, self.durable = box, tally, rng, rings, store, durable
        self.before = {p: dict(records) for p, records in store.producers.items()}
        self.said = ""

    def check(self):
        self.tally.cuts += 1
        if self.rng.random() < 0.1:
            self._log_anew()
        if self.rng.random() < 0.2:
            self._drain(most=self.rng.randrange(3))
        self._drain()
        for fault in [*self._faults_of_texts(), *self._faults_of_loss(), *self._faults_of_files()]:
            self._fault(fault)

    def _fault(self, fault):
        self.tally.faults.append((self.tally.cuts, f"{self.what}: {fault}"))

    def _run(self, *words, **env):
        """logsend, after a reboot."""
        name = f"run{len(self.box.processes)}"
        boot = self.box.write("boot_id", f"{uuid.UUID(int=self.rng.getrandbits(128))}\n".encode())
        p = self.box.run(name, ["unshare", "-m", "sh", "-c", REBOOTED, boot, program("logsend"), *words], env={**BACK_OFF, **env})
        self.said += p.stderr()
        return p.popen.returncode

    def _drain(self, most=None):
        with Logd(self.store, most=most) as logd:
            timeout = "30s" if most is None else "100ms"
            before = len(self.said)
            status = self._run("--timeout", timeout, "--drain", self.rings, LOGCLIENT_URL=logd.url)
        said = self.said[before:]
        if status != (1 if "up to " in said or "not all rings" in said else 0) or (most is None and "not all rings" in said):
            self._fault(f"logsend --drain: exit status {status}, {said}")

    def _log_anew(self):
        """A process that begins after the reboot has numbers of its own."""
        with Logd(self.store) as logd:
            status = self._run("anew", LOGCLIENT_URL=logd.url, LOGCLIENT_RING_DIR=self.rings, LOGCLIENT_LINGER_MS="1")
        if status != 0 or self.store.messages().count("anew") != 1:
            self._fault(f"a new process's record: exit status {status}, {self.said}")

    def _faults_of_texts(self):
        seen = {}
        for producer, records in self.store.producers.items():
            for number, message in records.items():
                known = self.before.get(producer, {}).get(number)
                found = re.match(r"(s\d+\.\d)-(\d+)-", message)
                if known is None and message != "anew" and (found is None or message != text(found[1], int(found[2]))):
                    yield f"number {number} of {producer} has no record's text: {message[:60]}"
                if message in seen and message != "anew":
                    yield f"doubled: {message[:30]} as {producer} {number} and {seen[message]}"
                seen[message] = (producer, number)
            if "anew" not in records.values():
                self.tally.delivered += len(records) - len(self.before.get(producer, {}))

    def _faults_of_loss(self):
        have = set(self.store.messages())
        lost = [f"{tag}-{n}" for tag, count in self.durable.items() for n in range(count) if text(tag, n) not in have]
        if lost:
            yield f"{len(lost)} records lost that were on the disk: {lost[:3]} to {lost[-3:]}"
        gaps = 0
        for producer, records in self.store.producers.items():
            first = max(self.before.get(producer, {0: ""})) + 1
            gaps += sum(n not in records for n in range(first, max(records)))
        said = sum(map(int, MISSING.findall(self.said)))
        tally = self.tally
        tally.lost, tally.with_loss = tally.lost + gaps, tally.with_loss + (gaps > 0)
        tally.reported, tally.reports = tally.reported + said, tally.reports + (said > 0)
        if gaps > said:
            yield f"{gaps} records are missing, reported are {said}"

    def _faults_of_files(self):
        left = [f for f in os.listdir(self.rings) if f != "adopt.lock"]
        if left:
            yield f"left: {left}; {self.said}"
        if TWIN in self.said:
            yield self.said


def reflinks(box):
    """A directory on a file system that copies a file at one instant."""
    path, image = box.path("reflinks"), box.path("reflinks.image")
    os.mkdir(path)
    with open(image, "wb") as f:
        f.truncate(4096 * MB)
    run("mkfs.xfs", "-q", "-m", "reflink=1", image)
    run("mount", "-o", "loop", image, path)
    return path


class Disk:
    """A file system in a file of which there can be a copy of one instant."""

    def __init__(self, box, base, kind):
        megabytes, make, options = {"ext4": (64, "mkfs.ext4 -q -F", "loop,commit=1"),
                                    "ext4 with blocks of 1 KiB": (64, "mkfs.ext4 -q -F -b 1024", "loop,commit=1"),
                                    "xfs": (320, "mkfs.xfs -q -f", "loop,nouuid")}[kind]
        self.options, self.image, self.copied = options, os.path.join(base, "disk"), os.path.join(base, "copy")
        self.path, self.copy = box.path("live"), box.path("cut")
        with open(self.image, "wb") as f:
            f.truncate(megabytes * MB)
        run(*make.split(), self.image)
        for path in (self.path, self.copy):
            os.makedirs(path, exist_ok=True)
        run("mount", "-o", options, self.image, self.path)
        self.rings = os.path.join(self.path, "rings")
        os.mkdir(self.rings, 0o700)
        syncfs(self.path)

    def cut(self):
        with open(self.image, "rb") as a, open(self.copied, "wb") as b:
            fcntl.ioctl(b, FICLONE, a.fileno())

    def mount_copy(self):
        run("mount", "-o", self.options, self.copied, self.copy)
        return os.path.join(self.copy, "rings")

    def unmount_copy(self):
        run("umount", self.copy)

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=True)
        os.unlink(self.image)


class Scene:
    """Processes that log into rings in a directory, one after another, and a logd that comes and goes."""

    def __init__(self, box, rings, rng, rate):
        self.box, self.rings, self.rng, self.rate = box, rings, rng, rate
        self.batch_records = rng.choice((5, 30, 500))
        self.store = Store()
        self.logd = Logd(self.store, random.Random(rng.random()))
        self.ended = {}
        self.surge = Surge(box, self.logd.url, rings, rate, self.batch_records)

    def accepted(self):
        return {**self.ended, **self.surge.accepted()}

    def next_process(self):
        self.surge.end(kindly=self.rng.random() < 0.3)
        self.ended.update(self.surge.accepted())
        self.surge = Surge(self.box, self.logd.url, self.rings, self.rate, self.batch_records)

    def ring_files(self):
        return [os.path.join(self.rings, f) for f in os.listdir(self.rings) if f.endswith(".ring")]

    def close(self):
        self.surge.end(kindly=False)
        self.logd.__exit__()
