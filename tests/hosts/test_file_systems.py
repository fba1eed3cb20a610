"""The table of doc/hosts.md, section 3: a ring on each file system, when it fits, when it does not, when the disk is filled by
somebody else, at a quota, read-only. No call may end the program; what was accepted must arrive, once."""
import os
import subprocess

import pytest

from hosts import DISKS, IMAGES, MB, UNKNOWN, USER, Driver, drain, environment, run
from pipeline import wait_until

FALLBACK, DAMAGED = 7, 8


def on_all(*kinds):
    return pytest.mark.parametrize("kind", kinds)


def fill_ring(driver, size=1000):
    """Logs until the ring is full, and returns how many were taken."""
    taken, error = driver.log(200000, size)
    assert error == "EAGAIN"
    return taken


def deliver(logd, driver, count):
    """logd comes back until all is delivered, each record once and in order."""
    logd.away = False
    assert driver.flush()
    logd.away = True
    assert logd.numbers() == list(range(count))


def read_through(fs):
    """Another program reads the file, which brings it into the page cache in large pieces."""
    for name in fs.files(".ring"):
        run("cp", "--reflink=never", os.path.join(fs.rings, name), "/dev/null")


def start(box, logd, fs, **properties):
    return Driver(box, environment(logd.url, fs.rings, **properties)).begin()


# ---- It fits ----


@on_all(*DISKS, "tmpfs")
def test_a_ring_that_fits(box, logd, kind):
    fs = box.file_system(kind)
    driver = start(box, logd, fs, ring_bytes="2m")
    assert len(fs.files(".ring")) == 1
    count = 0
    while count < 8000:  # four times around
        count += driver.log(8000 - count)[0]
        assert driver.flush()
    assert logd.numbers() == list(range(count))
    assert not driver.in_memory() and driver.reports() == []
    assert driver.end() == 0
    assert fs.files(".ring") == []


@on_all(*DISKS, "tmpfs")
def test_a_killed_process_leaves_its_records(box, logd, kind):
    fs = box.file_system(kind)
    logd.away = True
    driver = start(box, logd, fs, ring_bytes="4m")
    count = fill_ring(driver)
    driver.kill()
    logd.away = False
    assert drain(box, logd.url, fs.rings).popen.returncode == 0
    assert logd.numbers() == list(range(count))
    assert fs.files(".ring") == []


@on_all(*UNKNOWN)
def test_a_file_system_that_is_not_known_to_be_safe(box, logd, kind):
    fs = box.file_system(kind)
    driver = start(box, logd, fs)
    assert driver.log(100) == (100, None) and driver.flush()
    assert driver.in_memory() and fs.files("ring") == []
    said = "cannot make a ring file" if kind.startswith("overlay") else "where rings are not safe: use tmpfs, ext4 or xfs"
    assert said in driver.reports(FALLBACK)[0]


# ---- It does not fit ----


@on_all(*DISKS, "tmpfs")
def test_a_disk_smaller_than_the_ring(box, logd, kind):
    """On 0.1.0 this was a SIGBUS in the call: a store into a folio that lay partly behind the blocks that were reserved."""
    fs = box.file_system(kind, size=40 * MB if kind.startswith("ext4") or kind == "tmpfs" else None)
    if not kind.startswith("ext4") and kind != "tmpfs":
        fs.leave(30 * MB)
    logd.away = True
    driver = start(box, logd, fs)
    count = fill_ring(driver)
    assert not driver.in_memory() and count > 3000
    driver.kill()
    logd.away = False
    assert drain(box, logd.url, fs.rings).popen.returncode == 0
    assert logd.numbers() == list(range(count))


@on_all(*DISKS, "tmpfs")
def test_a_disk_that_is_full_from_the_start(box, logd, kind):
    fs = box.file_system(kind)
    fs.fill()
    driver = start(box, logd, fs)
    assert driver.log(100) == (100, None) and driver.flush()
    assert driver.in_memory() and len(driver.reports(FALLBACK)) == 1
    assert fs.files(".ring") == fs.files(".tmp") == []


@on_all(*DISKS, "tmpfs")
def test_a_disk_that_somebody_else_fills(box, logd, kind):
    """Also when what the ring holds was written back and given up meanwhile, and another program has read it."""
    fs = box.file_system(kind)
    logd.away = True
    driver = start(box, logd, fs, ring_bytes="8m")
    count = driver.log(2000)[0]
    fs.fill()
    for _ in range(3):
        read_through(fs)
        assert driver.ask("pageout")[0] != "0"
        count += fill_ring(driver, 1300)
        os.sync()
        deliver(logd, driver, count)
        fs.fill()
    if kind != "tmpfs":
        assert count > 3 * 5000
    assert not driver.in_memory()


# ---- Quotas ----


def limit_user(kind, fs):
    if kind != "tmpfs":
        run("setquota", "-u", str(USER), "0", str(12 << 10), "0", "0", fs.base)


QUOTAS = {"ext4": {"mkfs": "-O quota", "options": "usrquota"}, "xfs": {"options": "uquota"},
          "tmpfs": {"options": f"usrquota usrquota_block_hardlimit={12 * MB}"}}


# The kernel's configuration that each needs.
QUOTA_CONFIG = {"ext4": "QFMT_V2", "xfs": "XFS_QUOTA", "tmpfs": "TMPFS_QUOTA"}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.kernel(QUOTA_CONFIG[k])) for k in QUOTAS])
def test_a_quota_halves_the_ring(box, logd, kind):
    fs = box.file_system(kind, **QUOTAS[kind])
    limit_user(kind, fs)
    logd.away = True
    driver = start(box, logd, fs)
    count = fill_ring(driver)
    size = sum(os.stat(os.path.join(fs.rings, f)).st_size for f in fs.files(".ring"))
    assert not driver.in_memory() and (size <= 12 * MB or kind == "tmpfs")
    # What is left of the quota goes for something else.
    subprocess.run(["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "dd", "if=/dev/zero", f"of={fs.rings}/more",
                    "bs=64k", "count=400"], stderr=subprocess.DEVNULL, check=False)
    for _ in range(2):
        deliver(logd, driver, count)
        count += fill_ring(driver)
    deliver(logd, driver, count)


# ---- Read-only ----


@on_all("ext4", "xfs", "tmpfs", "overlay on ext4")
def test_a_read_only_file_system(box, logd, kind):
    fs = box.file_system(kind)
    assert fs.remount("ro") == 0
    driver = start(box, logd, fs)
    assert driver.log(100) == (100, None) and driver.flush()
    assert driver.in_memory() and "Read-only file system" in driver.reports(FALLBACK)[0]


@on_all("ext4", "xfs", "tmpfs")
def test_a_file_system_cannot_be_remounted_under_a_ring(box, logd, kind):
    fs = box.file_system(kind)
    logd.away = True
    driver = start(box, logd, fs, ring_bytes="2m")
    assert driver.log(100) == (100, None)
    assert fs.remount("ro") != 0  # busy
    assert driver.log(100) == (100, None)
    deliver(logd, driver, 200)


@on_all("ext4", "xfs", "tmpfs")
def test_what_lies_on_a_file_system_that_became_read_only_waits(box, logd, kind):
    fs = box.file_system(kind)
    logd.away = True
    driver = start(box, logd, fs, ring_bytes="2m")
    assert driver.log(100) == (100, None)
    driver.kill()
    logd.away = False
    assert fs.remount("ro") == 0
    second = Driver(box, environment(logd.url, fs.rings), tag="e").begin()
    wait_until(lambda: any("Read-only" in t for t in second.reports()), "a report")
    assert second.end() == 0
    assert len(fs.files(".ring")) == 1
    assert fs.remount("rw") == 0
    assert drain(box, logd.url, fs.rings).popen.returncode == 0
    assert logd.numbers() == list(range(100))


# ---- What cannot be mended, as section 8 says ----


def test_all_images_are_in_the_table():
    path = os.path.join(os.path.dirname(__file__), "..", "..", "doc", "hosts.md")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for kind in [*IMAGES, *DISKS, *UNKNOWN, "tmpfs"]:
        assert f"\n| {kind} |" in text, kind
