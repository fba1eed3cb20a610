"""The account of doc/protocol.md, section 3.6: what became of all entries that were removed, whoever asks, and whenever."""
import re
import signal
import threading

from pipeline import Worker, wait_until
from test_worker import STAMP, add, drain, fill, numbers


def account(redis):
    """(entries-added − length, the account) at one instant."""
    with redis.client() as c:
        *_, (info, fields) = c.pipeline([["MULTI"], ["XINFO", "STREAM", "logs-stream"], ["HGETALL", "logs-stream:account"], ["EXEC"]])
    info, fields = dict(zip(info[::2], info[1::2])), dict(zip(fields[::2], fields[1::2]))
    return info["entries-added"] - info["length"], {k: int(fields[k]) for k in ("written", "filtered", "dead")}


class Watch:
    """Asks again and again whether the law holds."""

    def __init__(self, redis):
        self.redis, self.broken, self.asked, self.error = redis, [], 0, None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ending.set()
        self.thread.join()
        assert self.error is None, self.error
        assert self.asked > 10 and self.broken == []

    def _run(self):
        try:
            while not self.ending.wait(0.001):
                removed, counts = account(self.redis)
                self.asked += 1
                if removed != sum(counts.values()):
                    self.broken.append((removed, counts))
        except Exception as e:  # in a thread of its own: kept for the test to see
            self.error = e


def mixed(redis, first):
    """100 to write, 50 to filter, 3 malformed."""
    fill(redis, first, 100)
    fill(redis, 0, 50, level="info")
    for _ in range(3):
        redis("XADD", "logs-stream", "*", "x", "y")


def test_law_over_restarts_of_the_worker(box, redis):
    """After a restart of the worker accepted was 80,000, and written 0."""
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    with Watch(redis):
        for i in range(10):
            mixed(redis, i * 100)
            if i % 3 == 1:
                worker.kill()
                worker.start()
            elif i % 3 == 2:
                assert worker.stop() == 0
                worker.start()
        drain(redis)
    assert account(redis) == (1530, {"written": 1000, "filtered": 500, "dead": 30})
    worker.kill()
    worker.start()
    wait_until(lambda: worker.metrics().get("logworker_records_written_total") == 1000, lambda: f"the metrics; {worker.metrics()}")
    assert [worker.metrics()[f"logworker_records_{k}_total"] for k in ("filtered", "dead")] == [500, 30]
    assert worker.metrics()["logworker_entries_removed_by_others"] == 0
    assert numbers(worker) == list(range(1000))


def test_law_over_restarts_of_redis(box):
    redis = box.redis(appendonly=True)
    worker = box.worker(redis)
    for i in range(6):
        mixed(redis, i * 100)
        redis.kill()
        redis.start()
        removed, counts = account(redis)
        assert removed == sum(counts.values())
    drain(redis, 60)
    assert account(redis) == (918, {"written": 600, "filtered": 300, "dead": 18})
    assert numbers(worker) == list(range(600))


def test_entries_that_somebody_else_removes(box, redis):
    """They went away in silence."""
    worker = box.worker(redis, "--listen", "127.0.0.1:0")
    fill(redis, 0, 10)
    drain(redis)
    worker.freeze()
    fill(redis, 10, 20)
    entries = redis("XRANGE", "logs-stream", "-", "+")
    redis("XDEL", "logs-stream", *[entry_id for entry_id, _ in entries[3:8]])
    worker.signal(signal.SIGCONT)
    drain(redis)
    assert set(numbers(worker)) >= {*range(13), *range(18, 30)}
    lost = 30 - len(numbers(worker))  # what it had in hand, it could write
    assert sorted(numbers(worker)) == sorted(set(numbers(worker)))
    wait_until(lambda: worker.metrics()["logworker_entries_removed_by_others"] == lost, "the metric")
    assert len(re.findall(rf"^logworker: warning: somebody else has removed {lost} entries", worker.stderr(), re.M)) == 1
    status, text = worker.readyz()
    assert status == 200 and re.search(rf"\b{lost}\b", text), text
    assert account(redis)[0] - sum(account(redis)[1].values()) == lost


def test_stream_that_is_made_anew(box, redis):
    """entries-added begins again; the opening says so, and puts it right."""
    worker = box.worker(redis)
    fill(redis, 0, 50)
    drain(redis)
    redis("DEL", "logs-stream")
    fill(redis, 50, 50)
    drain(redis)
    worker.wait_output("logs-stream was removed and made anew")
    wait_until(lambda: account(redis) == (100, {"written": 100, "filtered": 0, "dead": 0}), lambda: f"the law to hold; {account(redis)}")
    assert sorted(numbers(worker)) == list(range(100))


def test_stream_without_an_account(box, redis):
    """As another version, or somebody with FLUSHALL and RESTORE, leaves it: the account begins."""
    fill(redis, 0, 50)
    redis("XTRIM", "logs-stream", "MAXLEN", "20")
    worker = box.worker(redis)
    drain(redis)
    assert account(redis) == (20, {"written": 20, "filtered": 0, "dead": 0})
    add(redis, "50")
    drain(redis)
    assert account(redis)[0] == 21
    assert numbers(worker) == list(range(30, 51))


def test_stream_under_a_key_of_another_type(box, redis):
    """The worker says so, and goes on when it is gone."""
    redis("SET", "logs-stream", "x")
    worker = Worker(box, redis, "--listen", "127.0.0.1:0").start(ready=False)
    worker.wait_output("WRONGTYPE")
    assert worker.readyz()[0] == 503
    redis("DEL", "logs-stream")
    fill(redis, 0, 10)
    drain(redis)
    redis("SET", "logs-stream", "x")
    wait_until(lambda: worker.readyz()[0] == 503, "the worker to notice")
    redis("DEL", "logs-stream")
    fill(redis, 10, 10)
    wait_until(lambda: redis.length() == 0 and len(worker.lines()) == 20, "the rest", 20)
    assert numbers(worker) == list(range(20))


def test_largest_id_there_is(box, redis):
    """No id follows it. It is committed like all others."""
    fill(redis, 0, 3)
    largest = "18446744073709551615-18446744073709551615"
    redis("XADD", "logs-stream", largest, "service", "test", "level", "warn", "message", "3", "timestamp", STAMP)
    worker = box.worker(redis)
    drain(redis)
    assert numbers(worker) == [0, 1, 2, 3]
    assert account(redis) == (4, {"written": 4, "filtered": 0, "dead": 0})
