"""The machine stops at once, and what had reached the disk is delivered after the reboot. POWER_CUTS=500
POWER_SEED=7: so many of each kind, by this chance."""
import os
import random
import subprocess

import pytest

from power import Cut, Disk, Scene, Store, Tally, reflinks, syncfs  # first: it knows the way to pipeline.py
from pipeline import wait_until

CUTS = int(os.environ.get("POWER_CUTS", "20"))
SEED = int(os.environ.get("POWER_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
CUTS_OF_SCENE = 25
PAGE, SECTOR = 4096, 512


def finish(tally):
    print(tally)
    assert not tally.faults, f"{tally}\n" + "\n".join(f"cut {cut}: {fault}" for cut, fault in tally.faults[:20])


# ---- All of one instant ----


def write_part(path, rng):
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        os.posix_fadvise(f.fileno(), rng.randrange(size), rng.randrange(size), os.POSIX_FADV_DONTNEED)


def write_back(scene, rng, durable):
    """What the kernel does, sooner or later. Returns what must be on the disk when it is done."""
    accepted, kind = scene.accepted(), rng.random()
    if kind < 0.15:
        syncfs(scene.rings)
        return accepted
    for path in scene.ring_files():
        try:
            if kind < 0.25:
                with open(path, "rb") as f:
                    os.fsync(f.fileno())
            elif kind < 0.8:
                write_part(path, rng)
        except FileNotFoundError:  # delivered by now
            pass
    return accepted if kind < 0.25 else durable


def cut_instant(scene, disk, rng, tally, durable, what):
    if rng.random() < 0.6:
        scene.logd.come_and_go(rng)
    if rng.random() < 0.12:
        scene.next_process()
    if rng.random() < 0.9:  # else a process that has just begun
        scene.surge.wait_for(rng.choice((1, 20, 100, 300)))
    durable = write_back(scene, rng, durable)
    if rng.random() < 0.5:
        scene.surge.wait_for(rng.choice((1, 20, 100)))
    with scene.store.lock:
        disk.cut()
        store = scene.store.copy()
    rings = disk.mount_copy()
    try:
        Cut(what, scene.box, tally, rng, rings, store, durable).check()
    finally:
        disk.unmount_copy()
    return durable


@pytest.mark.parametrize("kind", ["ext4", "ext4 with blocks of 1 KiB", "xfs"])
def test_an_image_of_one_instant(box, kind):
    rng, tally, base = random.Random(SEED), Tally(SEED), reflinks(box)
    try:
        while tally.cuts < CUTS:
            disk = Disk(box, base, kind)
            scene = Scene(box, disk.rings, rng, rate=1000)
            durable = {}
            for _ in range(min(CUTS_OF_SCENE, CUTS - tally.cuts)):
                durable = cut_instant(scene, disk, rng, tally, durable, kind)
            scene.close()
            disk.close()
    finally:
        subprocess.run(["umount", "-l", box.path("live"), base], stderr=subprocess.DEVNULL, check=False)
    finish(tally)


# ---- Each page of a moment of its own ----


class Moment:
    """The ring file while a process uses it, what had been accepted before, and what logd knew after."""

    def __init__(self, scene):
        self.accepted = scene.accepted()
        with scene.store.lock:
            with open(scene.ring_files()[0], "rb") as f:
                self.bytes = f.read()
            self.store = Store(scene.store.producers)


class Never:
    """The same before anything was written."""

    def __init__(self, first):
        self.accepted, self.bytes = {}, bytes(len(first.bytes))


def moments(scene, rng):
    name = os.path.basename(scene.ring_files()[0])
    found = []
    for _ in range(8):
        scene.logd.come_and_go(rng)
        found.append(Moment(scene))
        scene.surge.wait_for(rng.choice((1, 10, 100, 500)))
    assert [os.path.basename(f) for f in scene.ring_files()] == [name]
    return name, [Never(found[0]), *found]


def mixed(versions, unit, rng):
    """Whole pages of any moment; some pages, or all, of sectors of any moment."""
    weights = [rng.random() + 0.02 for _ in versions]
    torn = 0 if unit == PAGE else rng.choice((0.1, 1))
    out = bytearray()
    for page in range(0, len(versions[0].bytes), PAGE):
        step = SECTOR if rng.random() < torn else PAGE
        for at in range(page, page + PAGE, step):
            out += rng.choices(versions, weights)[0].bytes[at:at + step]
    return bytes(out)


def cut_torn(box, name, found, unit, rng, tally):
    first = 0 if rng.random() < 0.25 else rng.randrange(1, len(found) - 1)
    last = rng.randrange(max(first + 1, 2), min(first + 5, len(found)))
    rings = box.path(f"rings{tally.cuts}")
    os.mkdir(rings, 0o700)
    with open(os.path.join(rings, name), "wb") as f:
        f.write(mixed(found[first:last + 1], unit, rng))
    store = Store(found[last].store.producers)
    Cut(f"moments {first} to {last}", box, tally, rng, rings, store, found[first].accepted).check()


@pytest.mark.parametrize("unit", [PAGE, SECTOR], ids=["pages", "sectors"])
def test_a_file_of_many_moments(box, unit):
    rng, tally = random.Random(SEED), Tally(SEED)
    fs = box.file_system("ext4")
    os.chown(fs.rings, 0, 0)
    while tally.cuts < CUTS:
        scene = Scene(box, fs.rings, rng, rate=1000)
        wait_until(scene.ring_files, "a ring")
        scene.surge.wait_for(1)
        name, found = moments(scene, rng)
        scene.close()
        os.unlink(os.path.join(fs.rings, name))
        for _ in range(min(CUTS_OF_SCENE, CUTS - tally.cuts)):
            cut_torn(box, name, found, unit, rng, tally)
    finish(tally)
