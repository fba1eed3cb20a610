"""Kills everything, again and again, and counts what was lost, doubled or put out of order.

Producers (processes with threads) log through two logd into one redis-server, which syncs its append-only file before each answer. One
logworker writes its log; another one, with a log of its own, stands by. Between producers and logd, logd and Redis, Redis and the
workers stand proxies that misbehave. Several times a second one of all these gets SIGKILL and is started again, or: a log is rotated, a
worker is stopped for longer than its lease, the clock of Redis is stepped, Redis is put back to a copy of its data. Each producer lists
what send_log() accepted. At the end everything is drained, and the logs are compared with the lists.

What Redis forgets when it is put back is exempt: the records that it alone had. So is what doc/protocol.md, section 5.5, names for that.
Both are counted. Exits with 1 if the promise was broken, and keeps the directory then.
"""
import argparse
import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import pipeline  # noqa: E402
from evidence import KEPT, LEVELS, Copy, Log, Rollback, Verdict, of_message  # noqa: E402
from proxy import Proxy  # noqa: E402

PRODUCERS = 3
THREADS = 3
LEASE_S = 0.7
PAUSE_S = (0.03, 0.35)  # between two events
CLOCK_MS = 3000
COPIES = 3
# How often each event comes about, relative to the others.
EVENTS = {"kill": 60, "rotation": 15, "stop": 8, "end": 4, "clock step": 8, "copy": 6, "rollback": 3}
# Of the one worker, and of the other.
OPTIONS = ([], ["--batch", "100", "--fsync", "batch"])


def minds(pid, number):
    """False in the first moments of a process, when the signal would just end it."""
    status = pipeline.read_text(f"/proc/{pid}/status")
    return any(int(mask, 16) >> number - 1 & 1 for mask in re.findall(r"^Sig(?:Blk|Cgt):\s+(\w+)", status, re.M))


class Chaos:
    def __init__(self, seed, rate, without=()):
        self.random = random.Random(seed)
        self.rate = rate
        self.weights = {e: w for e, w in EVENTS.items() if e not in without}
        self.box = pipeline.Box()
        self.happened = collections.Counter()
        self.lives = 0
        self.proxies = []
        self.copies, self.rollbacks = [], []
        self.stopped = {}  # worker to when it goes on

    def start(self):
        self.redis = pipeline.Redis(self.box, appendonly=True, clock=True,
                                    args=("--appendfsync", "always", "--auto-aof-rewrite-min-size", "1mb")).start()
        self.before_redis = [self.new_proxy(self.redis.socket) for _ in range(4)]
        urls = [f"redis://127.0.0.1:{p.port}" for p in self.before_redis]
        self.logd = [self.box.logd(url, "--no-echo", name=f"logd{i}") for i, url in enumerate(urls[:2])]
        self.before_logd = [self.new_proxy(d.port) for d in self.logd]
        self.workers = [self.new_worker(url, f"worker{i}", OPTIONS[i]) for i, url in enumerate(urls[2:])]
        self.logs = [Log(w) for w in self.workers]
        for p in self.proxies:
            p.calm = False
        self.producers = [self.new_producer() for _ in range(PRODUCERS)]

    def new_proxy(self, target):
        self.proxies.append(Proxy(target, self.random.random()))
        return self.proxies[-1]

    def new_worker(self, url, name, options):
        os.mkdir(self.box.path(name))
        return pipeline.Worker(self.box, url, "--lease", f"{LEASE_S * 1000:.0f}ms", "--shutdown-timeout", "1s", "--listen", "127.0.0.1:0",
                               *options, name=name, output=self.box.path(f"{name}/app.log")).start(ready=False)

    def new_producer(self):
        """Each life of a producer has a tag of its own, so that its records are unique."""
        self.lives += 1
        urls = [f"http://127.0.0.1:{p.port}" for p in self.before_logd]
        self.random.shuffle(urls)
        return self.box.producer(",".join(urls), "--threads", THREADS, "--records", 10**9, "--rate", self.rate, "--levels",
                                 ",".join(LEVELS), "--tag", f"p{self.lives}", "--retry-full", name=f"p{self.lives}",
                                 env={"LOGCLIENT_BACKOFF_MAX_MS": "500", "LOGCLIENT_REQUEST_TIMEOUT_MS": "2000"})

    def note(self, event):
        """Into the file `events`, for whoever has to find out what happened."""
        with open(self.box.path("events"), "a", encoding="ascii") as f:
            owner = (self.redis("GET", "logs-stream:owner") or "nobody").partition("log=")[2]
            first = [entry_id for entry_id, _ in self.redis("XRANGE", "logs-stream", "-", "+", "COUNT", "1")]
            f.write(f"{time.time():.3f} {event}; owner {owner}, first {first}, logs {[log.position() for log in self.logs]}\n")

    # ---- Events ----

    def kill(self):
        victims = [*self.producers, *self.logd, *self.workers, self.redis]
        victim = self.random.choice(victims)
        kind = type(victim).__name__.lower()
        victim.kill()
        if victim in self.producers:
            self.producers[self.producers.index(victim)] = self.new_producer()
        elif victim in self.logd:
            victim.start(wait_redis=False)
        elif victim in self.workers:
            self.note_in_hand()
            self.stopped.pop(victim, None)
            victim.start(ready=False)
        else:
            victim.start()
        return f"kill of a {kind}"

    def note_in_hand(self):
        for log in self.logs:
            log.note_in_hand()

    def rotation(self):
        log = self.random.choice(self.logs)
        if not log.rotate():
            return None
        # Without the signal the worker has to find it out at its next start.
        if self.random.random() < 0.9 and minds(log.worker.pid, signal.SIGHUP):
            log.worker.signal(signal.SIGHUP)
        return "rotation"

    def stop(self):
        worker = self.random.choice(self.workers)
        if worker in self.stopped:
            return None
        worker.freeze()
        self.note_in_hand()
        self.stopped[worker] = time.monotonic() + LEASE_S * self.random.uniform(1.2, 4)
        return "stop for longer than the lease"

    def end(self):
        """In good order, if the network lets it: the lease is given back."""
        worker = self.random.choice(self.workers)
        if worker in self.stopped or not minds(worker.pid, signal.SIGTERM):
            return None
        self.note_in_hand()
        if worker.stop() not in (0, 69):
            raise SystemExit(f"{worker.name} ended with {worker.popen.returncode}: {worker.stderr()[-2000:]}")
        worker.start(ready=False)
        return "end of a worker by SIGTERM"

    def clock_step(self):
        self.redis.step_clock(self.random.randint(-CLOCK_MS, CLOCK_MS))
        return "clock step of Redis"

    def copy(self):
        path = self.box.path(f"copy{self.happened['copy']}")
        self.copies.append(Copy(self.redis, path, self.logs))
        for old in self.copies[:-COPIES]:
            shutil.rmtree(old.path)
        del self.copies[:-COPIES]
        return "copy"

    def rollback(self):
        if not self.copies:
            return None
        copy = self.random.choice(self.copies)
        self.redis.kill()
        self.rollbacks.append(Rollback(self.box, self.redis.directory, copy, self.logs))
        self.redis.put_back(copy.path)
        # What came after this copy will not have been.
        for newer in self.copies[self.copies.index(copy) + 1:]:
            shutil.rmtree(newer.path)
            self.copies.remove(newer)
        self.redis.start()
        return "rollback of Redis"

    # ---- The run ----

    def go_on(self, all_of_them=False):
        """Wakes the workers whose time it is."""
        for worker, end in list(self.stopped.items()):
            if all_of_them or time.monotonic() >= end:
                worker.signal(signal.SIGCONT)
                del self.stopped[worker]

    def check_alive(self):
        for p in [*self.producers, *self.logd, *self.workers, self.redis]:
            if not p.alive():
                raise SystemExit(f"{p.name} ended by itself with {p.popen.returncode}: {p.stderr()[-2000:]}")

    def kills(self):
        return sum(n for event, n in self.happened.items() if event.startswith("kill"))

    def run(self, seconds):
        end = time.monotonic() + seconds
        shown = time.monotonic()
        while time.monotonic() < end:
            time.sleep(self.random.uniform(*PAUSE_S))
            self.check_alive()
            self.go_on()
            event, = self.random.choices(list(self.weights), list(self.weights.values()))
            name = getattr(self, event.replace(" ", "_"))()
            if name:
                self.happened[name] += 1
                self.note(name)
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                print(f"{end - shown:4.0f} s left, {self.kills()} kills, {len(self.rollbacks)} rollbacks, "
                      f"{[log.position() for log in self.logs]}", file=sys.stderr, flush=True)

    def drain(self):
        """Ends the producers as abruptly as everything else, and has their rings delivered."""
        for p in self.producers:
            p.kill()
        for p in self.proxies:
            p.calm = True
        self.go_on(all_of_them=True)
        env = {**os.environ, "LOGCLIENT_URL": self.logd[0].url}
        subprocess.run([pipeline.program("logsend"), "--drain", self.box.ring_dir, "-t", "60s"], env=env, check=True)
        left = [n for n in os.listdir(self.box.ring_dir) if n.endswith((".ring", ".damaged"))]
        if left:
            raise SystemExit(f"rings are left: {left}")
        pipeline.wait_until(self.redis.drained, "the stream to be drained", 120)
        pipeline.wait_until(self.settled, "one worker to own the stream, and the other one to stand by", 60)
        dead = self.redis.length("logs-stream:dead")
        if dead:
            raise SystemExit(f"{dead} records are in the dead letters")
        for w in self.workers:
            if w.stop() != 0:
                raise SystemExit(f"{w.name} did not end with 0")

    def settled(self):
        try:
            texts = [w.readyz()[1] for w in self.workers]
        except OSError:
            return False
        return sum("standing by" in t for t in texts) == len(texts) - 1

    def accepted(self):
        """The records that must stand in a log."""
        for p in self.box.processes:
            if isinstance(p, pipeline.Producer):
                for line in p.accepted():
                    found = of_message(line)
                    if found[2] % len(LEVELS) in KEPT:
                        yield found

    def law(self):
        """(removed from the stream, counted in the account, written)."""
        info, fields = self.redis("XINFO", "STREAM", "logs-stream"), self.redis("HGETALL", "logs-stream:account")
        info, fields = dict(zip(info[::2], info[1::2])), dict(zip(fields[::2], fields[1::2]))
        counted = [int(fields.get(k, 0)) for k in ("written", "filtered", "dead")]
        return info["entries-added"] - info["length"], sum(counted), counted[0]


def print_table(rows):
    for name, value in rows:
        print(f"  {name:32} {value}")


def print_result(chaos, verdict, seconds, seed):
    """Prints all, and returns whether the promise was kept."""
    gaps = sum(d.stderr().count("sequence numbers before") for d in chaos.logd)
    removed, counted, written = chaos.law()
    took = [w.stdout().count("consuming") for w in chaos.workers]
    print(f"chaos: {seconds:.0f} s, seed {seed}: {PRODUCERS} producers of {THREADS} threads, 2 logd, {len(chaos.workers)} logworkers, "
          f"1 redis-server")
    print_table([("kills", chaos.kills()), *sorted(chaos.happened.items()), ("lives of producers", chaos.lives),
                 ("lives of workers with the stream", took)])
    for target, proxies in (("logd", chaos.before_logd), ("Redis", chaos.before_redis)):
        network = {name: sum(p.happened[name] for p in proxies) for name in proxies[0].happened}
        print_table([(f"connections to {target}", ", ".join(f"{n} {name}" for name, n in network.items()))])
    print_table([*verdict.counts.items(), ("sequence gaps", gaps), ("removed, and in the account", (removed, counted))])
    exact = bool(chaos.rollbacks) or (gaps == 0 and written == len(verdict.standing))
    return verdict.good() and exact and removed == counted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="of the killer and the proxies; default: by chance")
    parser.add_argument("--rate", type=int, default=400, help="records a second of each thread")
    parser.add_argument("--without", default="", metavar="EVENTS", help=f"leave out some of {', '.join(EVENTS)}")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"chaos: seed {seed}", file=sys.stderr, flush=True)
    chaos = Chaos(seed, args.rate, args.without.split(","))
    good = False
    try:
        chaos.start()
        chaos.run(args.seconds)
        chaos.drain()
        good = print_result(chaos, Verdict(chaos.logs, chaos.rollbacks, chaos.accepted()), args.seconds, seed)
    finally:
        for p in chaos.box.processes:
            p.kill()
        for p in chaos.proxies:
            p.stop()
        if good:
            chaos.box.remove()
        else:
            print(f"chaos: what happened is kept in {chaos.box.dir}", file=sys.stderr)
    # The line that test runners close with.
    print(f"{int(good)} passed, {int(not good)} failed")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
