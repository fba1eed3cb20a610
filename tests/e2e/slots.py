"""The state file of the worker (doc/protocol.md, section 5.1), read and written by tests; and the slot of version 0.1.0."""
import os
import re
import zlib

BYTES = 512
OLD_BYTES = 256


def order(entry_id):
    """A key to compare ids by."""
    return tuple(map(int, entry_id.split("-")))


def line(version, fields, size):
    """One slot: the fields in their order, the checksum, padding."""
    head = f"logworker-state {version} " + "".join(f"{k}={v} " for k, v in fields.items())
    text = f"{head}crc={zlib.crc32(head.encode()):08x}"
    return (text.ljust(size - 1) + "\n").encode()


def parse(slot):
    """The fields of a slot, or None when it is not valid."""
    found = re.fullmatch(r"(logworker-state 2 (.*) )crc=([0-9a-f]{8}) *\n", slot.decode("latin-1"))
    if not found or len(slot) != BYTES or f"{zlib.crc32(found[1].encode()):08x}" != found[3]:
        return None
    return dict(pair.split("=", 1) for pair in found[2].split())


def read(path):
    """The fields of the slot that counts, or None."""
    with open(path, "rb") as f:
        data = f.read()
    slots = [s for s in (parse(data[i:i + BYTES]) for i in (0, BYTES)) if s]
    return max(slots, key=lambda s: int(s["gen"]), default=None)


def write(path, log, offset, first, last, token, gen=1):
    """Makes a state file with one valid slot, which speaks of the log as it is now."""
    stat = os.stat(log)
    fields = {"gen": gen, "dev": stat.st_dev, "ino": stat.st_ino, "offset": offset, "first": first, "last": last, "token": token}
    slots = [b" " * BYTES] * 2
    slots[gen % 2] = line(2, fields, BYTES)
    with open(path, "wb") as f:
        f.write(b"".join(slots))


def write_old(path, log, offset, last, lineage):
    """The same as version 0.1.0 left it: all up to the id `last` is committed, and ends at the offset."""
    stat = os.stat(log)
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        boot = f.read().strip().replace("-", "")
    fields = {"gen": 2, "dev": stat.st_dev, "ino": stat.st_ino, "offset": offset, "id": last, "lineage": lineage, "boot": boot,
              "sync": 0}
    with open(path, "wb") as f:
        f.write(line(1, fields, OLD_BYTES) + b" " * OLD_BYTES)
