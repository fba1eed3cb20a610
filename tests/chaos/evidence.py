"""What the logs say at the end, and what Redis had forgotten by then: the verdict of chaos.py."""
import collections
import os
import re
import shutil

import pipeline
import slots

LEVELS = ["error", "info", "warn", "debug", "fatal"]  # of record n of a thread: LEVELS[n % 5]
KEPT = {0, 2, 4}
LINE = re.compile(rb'\{"level":"(\w+)","message":"(\w+)-(\d+)-(\d+)","service":"test","timestamp":"[-0-9T:.]+Z"\}')
TORN = re.compile(rb'\{("[^{}]*)?')
MARGIN_BYTES = 2 << 20  # more than a batch: so much may be taken out of a log again


def record(match):
    """(tag, thread, n) of a line, or None when it is none of ours."""
    n = int(match[4])
    if n % len(LEVELS) not in KEPT or LEVELS[n % len(LEVELS)].encode() != match[1]:
        return None
    return match[2].decode(), int(match[3]), n


def of_message(message):
    tag, thread, n = message.split("-")
    return tag, int(thread), int(n)


class Log:
    """All files of one worker, in the order in which they were written."""

    def __init__(self, worker):
        self.worker = worker
        self.rotated = []
        self.were_in_hand = set()  # records

    def note_in_hand(self):
        """The lines of a batch that may not be committed, now that a worker was killed or stopped."""
        slot = slots.read(self.worker.state) if os.path.exists(self.worker.state) else None
        if slot is None or slots.order(slot["first"]) > slots.order(slot["last"]):
            return
        for path in self.files():
            if os.path.exists(path) and os.stat(path).st_ino == int(slot["ino"]):
                with open(path, "rb") as f:
                    f.seek(int(slot["offset"]))
                    self.were_in_hand.update(record(m) for m in LINE.finditer(f.read()))

    def rotate(self):
        """Renames the file, if the worker has made it yet."""
        path = f"{self.worker.output}.{len(self.rotated) + 1}"
        try:
            os.rename(self.worker.output, path)
        except FileNotFoundError:
            return False
        self.rotated.append(path)
        return True

    def files(self):
        return [*self.rotated, self.worker.output]

    def position(self):
        """(number of the file, bytes of it) where the log ends now."""
        return len(self.rotated), os.path.getsize(self.worker.output) if os.path.exists(self.worker.output) else 0

    def since(self, position):
        """The records from the position on, and some of those before it."""
        number, size = position
        files = self.files()
        left = MARGIN_BYTES
        while number > 0 and left > size:
            left -= size
            number -= 1
            size = os.path.getsize(files[number])
        found = set()
        for i, path in enumerate(files[number:]):
            if os.path.exists(path):
                with open(path, "rb") as f:
                    f.seek(max(0, size - left) if i == 0 else 0)
                    found.update(record(m) for m in LINE.finditer(f.read()))
        return found - {None}


def stored(box, directory):
    """What the stream holds in a copy of the data of a redis-server: {id: record}."""
    shadow = pipeline.Redis(box, f"shadow{sum(1 for n in os.listdir(box.dir) if n.startswith('shadow'))}", appendonly=True)
    shadow.put_back(directory)
    shadow.start()
    try:
        return {entry_id: of_message(dict(zip(fields[::2], fields[1::2]))["message"])
                for entry_id, fields in shadow("XRANGE", "logs-stream", "-", "+")
                if LEVELS.index(dict(zip(fields[::2], fields[1::2]))["level"]) in KEPT}
    finally:
        shadow.kill()
        box.processes.remove(shadow)
        shutil.rmtree(shadow.directory)


class Rollback:
    """What follows for the records, when Redis is put back to a copy. To be made while it is down."""

    def __init__(self, box, directory, copy, logs):
        now, then = set(stored(box, directory).values()), set(stored(box, copy.path).values())
        windows = [log.since(at) for log, at in zip(logs, copy.positions)]
        written = set().union(*windows)
        # Redis alone had them, and has forgotten them.
        self.forgotten = now - then - written
        # It has forgotten the producer's number, too. A producer that has not got its answer yet sends them again.
        self.sent_again = written - then
        # It gives them out again. The log that has them finds them there; another log does not have them.
        self.returned = (now | then) & written
        self.highest = [highest(w) for w in windows]


class Copy:
    """The data of Redis at some moment, and where the logs ended then."""

    def __init__(self, redis, path, logs):
        self.path = path
        self.positions = [log.position() for log in logs]
        redis.copy_data(path)


def highest(records):
    """The largest n of each thread."""
    found = {}
    for tag, thread, n in records:
        found[tag, thread] = max(found.get((tag, thread), -1), n)
    return found


class Verdict:
    """Reads all logs. `accepted`: the records that must stand in one of them."""

    def __init__(self, logs, rollbacks, accepted):
        self.logs, self.rollbacks = logs, rollbacks
        self.standing = collections.defaultdict(list)  # record to the numbers of the logs that have it
        self.counts = collections.Counter()
        for i, log in enumerate(logs):
            self._read(i, log)
        self._doubled()
        self._lost(set(accepted))

    def _read(self, i, log):
        last = {}
        for path in log.files():
            for line in pipeline.read_lines(path):
                self._line(i, line, last)

    def _line(self, i, line, last):
        match = LINE.fullmatch(line)
        found = match and record(match)
        if not found:
            # Half a line stays where Redis has forgotten the record.
            torn = self.rollbacks and TORN.fullmatch(line)
            self.counts["torn, its record forgotten" if torn else "not ours"] += 1
            return
        key, n = found[:2], found[2]
        if found not in self.standing and n < last.get(key, -1):
            before = any(last[key] <= r.highest[i].get(key, -1) for r in self.rollbacks)
            self.counts["out of order after a rollback" if before else "out of order"] += 1
        self.standing[found].append(i)
        last[key] = max(last.get(key, -1), n)

    def _doubled(self):
        for found, logs in self.standing.items():
            if len(logs) < 2:
                continue
            if any(found in r.sent_again for r in self.rollbacks):
                why = "sent again after a rollback"
            elif len(set(logs)) == len(logs) and any(found in r.returned for r in self.rollbacks):
                why = "in both logs after a rollback"
            elif len(logs) == len(self.logs) and all(found in log.were_in_hand for log in self.logs):
                why = "in both logs, both died in it"
            else:
                why = "doubled"
                self.counts[f"doubled: {'-'.join(map(str, found))} in {logs}"] = 0
            self.counts[why] += len(logs) - 1

    def _lost(self, accepted):
        missing = accepted - self.standing.keys()
        forgotten = set().union(*(r.forgotten for r in self.rollbacks))
        self.counts["accepted"] = len(accepted)
        self.counts["in the logs"] = len(self.standing)
        self.counts["forgotten by Redis"] = len(missing & forgotten)
        self.missing = missing - forgotten
        self.counts["lost"] = len(self.missing)

    def good(self):
        return not any(self.counts[k] for k in ("lost", "doubled", "out of order", "not ours"))
