"""What the sections measure with: processes of one's own, their CPU time and memory, and runs of the whole pipeline."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import pipeline  # noqa: E402
from pipeline import wait_until  # noqa: E402

BYTES = 100  # of a message, unless a section says otherwise
# Calls in a row that stay within the pages that the library touches ahead of its callers.
WARM_CALLS = 1000
REDIS_SETTINGS = "appendonly yes, appendfsync no, no automatic rewrite"
PROCESSES = ("client", "logd", "redis-server", "logworker")


def note(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def medians(rows):
    """The median of each number in equal dictionaries."""
    return {k: medians([r[k] for r in rows]) if isinstance(v, dict) else median([r[k] for r in rows])
            for k, v in rows[0].items()}


def cpu_us(pid):
    """CPU time of all living threads so far, in microseconds."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1000


def memory_kib(pid):
    """Name to KiB of /proc/PID/smaps_rollup."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return {name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", f.read(), re.M)}


def peak_kib(pid):
    """The largest resident set that a process ever had."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", f.read(), re.M).group(1))


class Box(pipeline.Box):
    """Rings lie where they do by default, in memory; the rest in the temporary directory."""

    def __init__(self):
        super().__init__()
        self.ring_dir = tempfile.mkdtemp(prefix="lp-", dir="/dev/shm")
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None and not issubclass(kind, Exception):
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # it ends already
        try:
            faults = self.close()
            if kind is None:
                assert not faults, "\n".join(faults) + "\n" + self.report()
            elif issubclass(kind, Exception):
                note(self.report())
        finally:
            self.remove()

    def remove(self):
        super().remove()
        shutil.rmtree(self.ring_dir, ignore_errors=True)

    def unique(self, name):
        self.count += 1
        return f"{name}{self.count}"

    def redis(self, **kw):
        # Each run finds a small file instead: settle().
        return super().redis(appendonly=True, args=("--auto-aof-rewrite-percentage", "0"), **kw)

    def client_env(self, url, **settings):
        env = {"LOGCLIENT_URL": url, "LOGCLIENT_RING_DIR": self.ring_dir}
        return {**env, **{"LOGCLIENT_" + k.upper(): str(v) for k, v in settings.items()}}

    def json_lines(self, name, argv, seconds=120.0, **kw):
        """Runs one of our programs to its end; what it printed."""
        p = self.run(self.unique(name), [pipeline.program("bench/" + name), *map(str, argv)], seconds, **kw)
        assert p.popen.returncode == 0, f"{name} exited with {p.popen.returncode}: {p.stderr()[-2000:]}"
        return [json.loads(line) for line in p.stdout().splitlines()]


def settle(redis):
    """Begins the append-only file anew, so that each run finds the same."""
    redis("BGREWRITEAOF")
    wait_until(lambda: re.search(r"aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0", redis("INFO", "persistence")),
               "BGREWRITEAOF", 60)


def aof_bytes(redis):
    return int(re.search(r"aof_current_size:(\d+)", redis("INFO", "persistence")).group(1))


class Load(pipeline.Process):
    """load.c: goes one step on with each line it gets."""

    graceful = False

    def __init__(self, box, url, records, message_bytes=BYTES, threads=1, anonymous=False, **settings):
        preload = {"LD_PRELOAD": pipeline.program("bench/anonymous.so")} if anonymous else {}
        super().__init__(box, box.unique("load"),
                         [pipeline.program("bench/load"), "--records", str(records), "--bytes", str(message_bytes),
                          "--threads", str(threads)],
                         {**box.client_env(url, **settings), **preload}, stdin=subprocess.PIPE)
        self.spawn()
        self.wait_output(r"^started$")

    def go(self):
        self.popen.stdin.write(b"\n")
        self.popen.stdin.flush()

    def make_client(self):
        self.go()
        self.wait_output(r"^ready$")

    def result(self, seconds=600.0):
        r = json.loads(self.wait_output(r"^\{.*\}$", seconds=seconds).group())
        assert r["delivered"] == r["records"] and not r["refused"], f"load: {r}"
        if r["ring_fallback"]:
            note(f"{self.name} could not use its ring directory, and kept its records in memory")
        return r

    def finish(self):
        self.popen.stdin.close()
        status = self.wait()
        assert status == 0, f"{self.name} exited with {status}: {self.stderr()[-2000:]}"


class Pipeline:
    """redis-server, logd and logworker with default settings, and runs of load through them."""

    def __init__(self, box, worker=True):
        self.box = box
        self.redis = box.redis()
        self.logd = box.logd(self.redis, "--no-echo")
        self.worker = None
        if worker:
            self.fresh_worker()

    def fresh_worker(self):
        """A worker with an empty log."""
        self.stop_worker()
        self.worker = self.box.worker(self.redis, name=self.box.unique("logworker"))

    def stop_worker(self):
        if self.worker is None:
            return
        status = self.worker.stop()
        assert status == 0, f"logworker exited with {status}: {self.worker.stderr()[-2000:]}"
        os.unlink(self.worker.output)
        os.unlink(self.worker.state)
        self.worker = None

    def daemons(self):
        named = {"logd": self.logd, "redis-server": self.redis, "logworker": self.worker}
        return {name: p for name, p in named.items() if p is not None}

    def cpu(self):
        return {name: cpu_us(p.pid) for name, p in self.daemons().items()}

    def producers(self):
        """How many idempotent producers Redis knows."""
        return len(self.redis("KEYS", "logs-stream:producer:*"))

    def log_bytes(self):
        return os.stat(self.worker.output).st_size

    def wait_written(self, size):
        """Until app.log has grown to `size`, exactly, and Redis holds nothing any more."""
        wait_until(lambda: self.log_bytes() >= size, lambda: f"{size} bytes in app.log; it has {self.log_bytes()}", 600)
        wait_until(self.redis.drained, "an empty stream")
        assert self.log_bytes() == size, f"app.log has {self.log_bytes()} bytes where {size} are right"

    def load(self, records, message_bytes=BYTES, threads=4, producers=1, anonymous=False):
        """Logs as fast as possible until all is in app.log (with a worker) or in Redis (without). Anonymous clients leave
        the producer protocol out. Returns records/s and CPU microseconds a record by process."""
        loads = [Load(self.box, self.logd.url, records // producers, message_bytes, threads, anonymous, on_full="block",
                      block_ms=60000) for _ in range(producers)]
        for p in loads:
            p.make_client()
        size = self.log_bytes() if self.worker else 0
        before, aof = self.cpu(), aof_bytes(self.redis)
        for p in loads:
            p.go()
        results = [p.result() for p in loads]
        records = sum(r["records"] for r in results)
        end = max(r["end_ns"] for r in results)
        if self.worker:
            self.wait_written(size + records * line_bytes(message_bytes))
            # A worker is never done before the client, but the file's time has the grain of the kernel's tick.
            end = max(end, monotonic_of(os.stat(self.worker.output).st_mtime_ns))
        cpu = {name: (us - before[name]) / records for name, us in self.cpu().items()}
        cpu["client"] = sum(r["cpu_seconds"] for r in results) * 1e6 / records
        for p in loads:
            p.finish()
        seconds = (end - min(r["begin_ns"] for r in results)) / 1e9
        return {"records_s": records / seconds, "cpu_us": cpu, "total_us": sum(cpu.values()),
                "aof_bytes": (aof_bytes(self.redis) - aof) / records, "call_ns": median([r["call_ns"] for r in results]),
                "batch": records / sum(r["batches"] for r in results)}

    def run(self, *args, **kw):
        """load() with a new log and a small append-only file, as each comparison wants it."""
        self.fresh_worker()
        settle(self.redis)
        return self.load(*args, **kw)

    def floor(self, records, batch, message_bytes=BYTES):
        """The same from Redis alone, with one client."""
        settle(self.redis)
        return self.floor_part("cycle", records, batch, message_bytes)

    def floor_part(self, part, records, batch, message_bytes=BYTES, stream="bench:floor"):
        """A part of it: "fill", or "drain" of what a fill has left in the stream."""
        before, aof = cpu_us(self.redis.pid), aof_bytes(self.redis)
        r = self.box.json_lines("floor", ["--socket", self.redis.socket, "--part", part, "--records", records, "--bytes",
                                          message_bytes, "--batches", batch, "--stream", stream], 600)[0]
        return {"records_s": r["records"] / r["seconds"], "aof_bytes": (aof_bytes(self.redis) - aof) / r["records"],
                "cpu_us": {"client": r["cpu_seconds"] * 1e6 / r["records"],
                           "redis-server": (cpu_us(self.redis.pid) - before) / r["records"]}}

    def drain(self, records, message_bytes=BYTES):
        """A new worker empties a stream of so many records, from its start on. It runs on."""
        before, aof, begin = cpu_us(self.redis.pid), aof_bytes(self.redis), time.monotonic_ns()
        self.fresh_worker()
        self.wait_written(records * line_bytes(message_bytes))
        seconds = (monotonic_of(os.stat(self.worker.output).st_mtime_ns) - begin) / 1e9
        return {"records_s": records / seconds, "aof_bytes": (aof_bytes(self.redis) - aof) / records,
                "peak_kib": peak_kib(self.worker.pid),
                "cpu_us": {"redis-server": (cpu_us(self.redis.pid) - before) / records,
                           "logworker": cpu_us(self.worker.pid) / records}}


def line_bytes(message_bytes):
    """Of a line that load's records make in app.log."""
    return message_bytes + len('{"level":"error","message":"","service":"bench","timestamp":"2026-01-01T00:00:00.000Z"}\n')


def monotonic_of(wall_ns):
    return wall_ns - time.time_ns() + time.monotonic_ns()
