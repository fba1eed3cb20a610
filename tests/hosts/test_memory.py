"""What a ring costs on a small or locked memory."""
import os

import pytest

from hosts import MB, Driver, environment

NOWHERE = "http://127.0.0.1:1"
MCL_FUTURE = 2


def test_refusals_on_a_full_file_system_are_cheap(box):
    """On 0.1.0 each call tried fallocate(2) again, which cost 150 us. The two looks at the clock are in the price."""
    fs = box.file_system("tmpfs", size=8 * MB)
    driver = Driver(box, environment(NOWHERE, fs.rings)).begin()
    taken, error = driver.log(100000)
    assert error == "EAGAIN" and taken > 4000
    refused, average, median, rare = map(int, driver.ask("price", 100000, 1000))
    print(f"{refused} refusals: average {average} ns, median {median} ns, 1 in 1000 above {rare} ns")
    assert refused == 100000
    assert median < 1000 and average < 3000


def test_a_ring_is_used_again_when_there_is_room(box):
    fs = box.file_system("tmpfs", size=8 * MB)
    ballast = os.path.join(fs.path, "ballast")
    with open(ballast, "wb") as f:
        f.write(b"x" * 4 * MB)
    driver = Driver(box, environment(NOWHERE, fs.rings)).begin()
    before, error = driver.log(100000)
    assert error == "EAGAIN"
    os.unlink(ballast)
    after = 0
    while after < 1000:  # the next try comes at the latest after 100 ms
        after += driver.log(1000)[0]
    assert before > 1000


def test_locked_memory_does_not_make_the_ring_resident(box):
    """mlockall(2) with MCL_FUTURE. On 0.1.0 the whole ring was."""
    fs = box.file_system("tmpfs", size=256 * MB)
    os.chown(fs.rings, 0, 0)
    driver = Driver(box, environment(NOWHERE, fs.rings), user=0)
    assert driver.ask("lock", MCL_FUTURE) == ["done"]
    before = driver.status_kb("VmRSS")
    driver.begin()
    assert driver.log(1000) == (1000, None)
    assert not driver.in_memory()
    grown = driver.status_kb("VmRSS") - before
    used = os.statvfs(fs.path)
    print(f"resident: {grown} kB more; locked: {driver.status_kb('VmLck')} kB; files: {(used.f_blocks - used.f_bfree) * used.f_frsize >> 10} kB")
    assert grown < 24 << 10
    assert (used.f_blocks - used.f_bfree) * used.f_frsize < 4 * MB


@pytest.mark.parametrize("spare, expected", [(400, 64), (100, 32), (20, 2)])
def test_a_limited_address_space_shrinks_the_ring(box, spare, expected):
    fs = box.file_system("tmpfs", size=128 * MB)
    driver = Driver(box, {**environment(NOWHERE, fs.rings), "MALLOC_ARENA_MAX": "1"})
    assert driver.ask("memory", driver_bytes(driver) + spare * MB) == ["done"]
    driver.begin()
    assert driver.log(100) == (100, None) and not driver.in_memory()
    ring, = fs.files(".ring")
    size = os.stat(os.path.join(fs.rings, ring)).st_size - 65536
    assert size in (expected * MB, expected * MB // 2)


def driver_bytes(driver):
    """Its address space before the first call."""
    driver.ask("stat", 0)
    return driver.status_kb("VmSize") << 10


@pytest.mark.parametrize("kind, most", [("tmpfs", 16), ("ext4", 128)])
def test_rings_of_processes_with_one_record_are_small(box, kind, most):
    """On 0.1.0 each took 293 KiB while logd was away."""
    fs = box.file_system(kind, size=256 * MB)
    for _ in range(10):
        driver = Driver(box, environment(NOWHERE, fs.rings, adopt="off")).begin()
        assert driver.log(1, 100) == (1, None)
        assert driver.end() == 0
    names = fs.files(".ring")
    kilobytes = sum(os.stat(os.path.join(fs.rings, n)).st_blocks for n in names) / 2 / len(names)
    print(f"{kilobytes} KiB each")
    assert len(names) == 10 and kilobytes <= most
