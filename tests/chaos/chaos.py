"""Kills everything, again and again, and counts what was lost, doubled or put out of order.

Producers (processes with threads) log through two logd into one redis-server with an append-only file; one logworker writes app.log. Between
producers and logd, logd and Redis, Redis and logworker stand proxies that misbehave. Every 50 to 500 ms one of them gets SIGKILL and is started again. Each producer lists what send_log() accepted. At the
end everything is drained, and app.log is compared with the lists. Exits with 1 if the promise was broken, and keeps the directory then.
"""
import argparse
import os
import random
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import pipeline  # noqa: E402
from proxy import Proxy  # noqa: E402

PRODUCERS = 3
THREADS = 3
LEVELS = ["error", "info", "warn", "debug", "fatal"]  # of record n of a thread: LEVELS[n % 5]
KEPT = {0, 2, 4}
MESSAGE = re.compile(rb'^\{"level":"(\w+)","message":"(\w+)-(\d+)-(\d+)","service":"test","timestamp":"[-0-9T:.]+Z"\}$')


class Chaos:
    def __init__(self, seed, rate):
        self.random = random.Random(seed)
        self.rate = rate
        self.box = pipeline.Box()
        self.kills = {}
        self.lives = 0
        self.proxies = []

    def start(self):
        self.redis = pipeline.Redis(self.box, appendonly=True, args=("--auto-aof-rewrite-min-size", "1mb")).start()
        self.before_redis = [self.new_proxy(self.redis.socket) for _ in range(3)]
        *to_logd, to_worker = [f"redis://127.0.0.1:{p.port}" for p in self.before_redis]
        self.logd = [self.box.logd(url, "--no-echo", name=f"logd{i}") for i, url in enumerate(to_logd)]
        self.before_logd = [self.new_proxy(d.port) for d in self.logd]
        self.worker = self.box.worker(to_worker)
        for p in self.proxies:
            p.calm = False
        self.producers = [self.new_producer() for _ in range(PRODUCERS)]

    def new_proxy(self, target):
        self.proxies.append(Proxy(target, self.random.random()))
        return self.proxies[-1]

    def new_producer(self):
        """Each life of a producer has a tag of its own, so that its records are unique."""
        self.lives += 1
        urls = [f"http://127.0.0.1:{p.port}" for p in self.before_logd]
        self.random.shuffle(urls)
        return self.box.producer(",".join(urls), "--threads", THREADS, "--records", 10**9, "--rate", self.rate, "--levels",
                                 ",".join(LEVELS), "--tag", f"p{self.lives}", "--retry-full", name=f"p{self.lives}",
                                 env={"LOGCLIENT_BACKOFF_MAX_MS": "500", "LOGCLIENT_REQUEST_TIMEOUT_MS": "2000"})

    def victims(self):
        return [("producer", i) for i in range(PRODUCERS)] + [("logd", i) for i in range(2)] + [("logworker", 0),
                                                                                              ("redis-server", 0)]

    def kill_one(self):
        kind, i = self.random.choice(self.victims())
        if kind == "producer":
            self.producers[i].kill()
            self.producers[i] = self.new_producer()
        elif kind == "logd":
            self.logd[i].kill()
            self.logd[i].start(wait_redis=False)
        elif kind == "logworker":
            self.worker.kill()
            self.worker.start(ready=False)
        else:
            self.redis.kill()
            self.redis.start()
        self.kills[kind] = self.kills.get(kind, 0) + 1

    def check_alive(self):
        for p in [*self.producers, *self.logd, self.worker, self.redis]:
            if not p.alive():
                raise SystemExit(f"{p.name} ended by itself with {p.popen.returncode}: {p.stderr()[-2000:]}")

    def run(self, seconds):
        end = time.monotonic() + seconds
        shown = time.monotonic()
        while time.monotonic() < end:
            time.sleep(self.random.uniform(0.05, 0.5))
            self.check_alive()
            self.kill_one()
            if time.monotonic() - shown > 5:
                shown = time.monotonic()
                print(f"{end - shown:4.0f} s left, {sum(self.kills.values())} kills, "
                      f"{os.path.getsize(self.worker.output)} bytes in app.log", file=sys.stderr, flush=True)

    def drain(self):
        """Ends the producers as abruptly as everything else, and has their rings delivered."""
        for p in self.producers:
            p.kill()
        for p in self.proxies:
            p.calm = True
        env = {**os.environ, "LOGCLIENT_URL": self.logd[0].url}
        subprocess.run([pipeline.program("logsend"), "--drain", self.box.ring_dir, "-t", "60s"], env=env, check=True)
        left = [n for n in os.listdir(self.box.ring_dir) if n.endswith(".ring")]
        damaged = [n for n in os.listdir(self.box.ring_dir) if n.endswith(".damaged")]
        if left or damaged:
            raise SystemExit(f"rings are left: {left}, damaged: {damaged}")
        pipeline.wait_until(self.redis.drained, "the stream to be drained", 120)
        dead = self.redis.length("logs-stream:dead")
        if dead:
            raise SystemExit(f"{dead} records are in the dead letters")
        if self.worker.stop() != 0:
            raise SystemExit("logworker did not end with 0")

    def accepted(self):
        """The ids (tag, thread, n) that must stand in app.log."""
        for p in self.box.processes:
            if not isinstance(p, pipeline.Producer):
                continue
            for line in p.accepted():
                tag, thread, n = line.split("-")
                if int(n) % len(LEVELS) in KEPT:
                    yield tag, int(thread), int(n)

    def verdict(self):
        seen, last = set(), {}
        doubled = disordered = foreign = 0
        for line in self.worker.lines():
            m = MESSAGE.match(line)
            if not m or LEVELS[int(m[4]) % len(LEVELS)].encode() != m[1] or int(m[4]) % len(LEVELS) not in KEPT:
                foreign += 1
                continue
            key = (m[2].decode(), int(m[3]))
            record = (*key, int(m[4]))
            doubled += record in seen
            disordered += record not in seen and last.get(key, -1) > record[2]
            seen.add(record)
            last[key] = max(last.get(key, -1), record[2])
        accepted = set(self.accepted())
        return {"accepted": len(accepted), "in app.log": len(seen), "lost": len(accepted - seen), "doubled": doubled,
                "out of order": disordered, "not ours": foreign}


def print_result(chaos, result, seconds, seed):
    gaps = sum(d.stderr().count("sequence numbers before") for d in chaos.logd)
    print(f"chaos: {seconds} s, seed {seed}: {PRODUCERS} producers of {THREADS} threads, 2 logd, 1 logworker, 1 redis-server")
    kills = ", ".join(f"{k} {n}" for k, n in sorted(chaos.kills.items()))
    print(f"  kills         {sum(chaos.kills.values())} ({kills}); {chaos.lives} lives of producers")
    for target, proxies in (("logd", chaos.before_logd), ("Redis", chaos.before_redis)):
        network = {name: sum(p.happened[name] for p in proxies) for name in proxies[0].happened}
        print(f"  to {target:10} " + ", ".join(f"{n} {name}" for name, n in network.items()))
    for name, value in {**result, "sequence gaps": gaps}.items():
        print(f"  {name:13} {value}")
    return not gaps and not any(result[k] for k in ("lost", "doubled", "out of order", "not ours"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="of the killer and the proxies; default: by chance")
    parser.add_argument("--rate", type=int, default=400, help="records a second of each thread")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"chaos: seed {seed}", file=sys.stderr, flush=True)
    chaos = Chaos(seed, args.rate)
    good = False
    try:
        chaos.start()
        chaos.run(args.seconds)
        chaos.drain()
        good = print_result(chaos, chaos.verdict(), args.seconds, seed)
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
