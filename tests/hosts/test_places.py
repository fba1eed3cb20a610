"""Where rings lie, and who finds them: default places, squatters, other environments, containers, other users."""
import os
import re
import subprocess
import time

import pytest

from hosts import OTHER, USER, Driver, drain, environment
from pipeline import wait_until

FALLBACK, DAMAGED = 7, 8
SHARED = f"/dev/shm/logclient-{USER}"
NOWHERE = "http://127.0.0.1:1"


def start(box, url, tag="d", user=USER, runtime="", prefix=(), **properties):
    """A driver with the default directory."""
    env = {**environment(url, **properties), "XDG_RUNTIME_DIR": runtime}
    return Driver(box, env, tag, user, prefix).begin()


def rings(directory):
    return [f for f in os.listdir(directory) if f.endswith(".ring")] if os.path.isdir(directory) else []


def make_directory(path, user=USER, mode=0o700):
    os.mkdir(path)
    os.chmod(path, mode)
    os.chown(path, user, user)
    return path


def as_user(user, *argv):
    subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *argv], check=True)


def dies(box, tag, count=10, **kw):
    """A process logs, and is killed before logd is there."""
    driver = start(box, NOWHERE, tag, adopt="off", **kw)
    assert driver.log(count) == (count, None)
    assert not driver.in_memory()
    driver.kill()
    return driver


def arrive(logd, tag, count=10):
    wait_until(lambda: logd.numbers(tag) == list(range(count)), f"the records of {tag}")


# ---- Default places ----


def test_the_default_is_shared_memory(box, logd):
    driver = start(box, logd.url)
    assert len(rings(SHARED)) == 1 and os.stat(SHARED).st_mode & 0o777 == 0o700
    assert driver.log(10) == (10, None) and driver.flush() and driver.reports() == []


def test_the_runtime_directory_is_preferred(box, logd):
    runtime = make_directory(box.path("runtime"))
    driver = start(box, logd.url, runtime=runtime)
    assert len(rings(f"{runtime}/logclient")) == 1 and not os.path.exists(SHARED)
    assert driver.log(10) == (10, None) and driver.flush() and driver.reports() == []


def test_a_cron_job_uses_the_runtime_directory_too(box, logd):
    """It has no XDG_RUNTIME_DIR."""
    make_directory(f"/run/user/{USER}")
    dies(box, "a", runtime=f"/run/user/{USER}")
    start(box, logd.url, "b")
    arrive(logd, "a")
    assert not os.path.exists(SHARED)


@pytest.mark.parametrize("first, second", [("", "login"), ("login", ""), ("own", "login"), ("", "own")])
def test_rings_are_found_in_all_places(box, logd, first, second):
    """On 0.1.0 a process whose XDG_RUNTIME_DIR differed looked in its own place only."""
    runtimes = {"": "", "login": f"/run/user/{USER}", "own": box.path("runtime")}
    make_directory(runtimes["own"])
    if first == "login":
        make_directory(runtimes["login"])
    dies(box, "a", runtime=runtimes[first])
    if second == "login":
        make_directory(runtimes["login"])
    last = start(box, logd.url, "b", runtime=runtimes[second if first != "own" else "own"])
    arrive(logd, "a")
    assert last.end() == 0


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_runtime_directory_that_others_may_write_to_is_not_used(box, logd, mode):
    runtime = make_directory(box.path("runtime"), mode=mode)
    driver = start(box, logd.url, runtime=runtime)
    assert len(rings(SHARED)) == 1 and not driver.in_memory() and driver.reports() == []


@pytest.mark.parametrize("mode, owner", [(0o770, USER), (0o700, OTHER)])
def test_a_directory_in_the_runtime_directory_that_is_not_private_is_not_used(box, logd, mode, owner):
    runtime = make_directory(box.path("runtime"))
    make_directory(f"{runtime}/logclient", owner, mode)
    driver = start(box, logd.url, runtime=runtime)
    assert rings(f"{runtime}/logclient") == [] and len(rings(SHARED)) == 1
    assert not driver.in_memory()


@pytest.mark.parametrize("mode, owner", [(0o770, USER), (0o702, USER), (0o755, OTHER), (0o777, OTHER)])
def test_a_directory_that_others_may_write_to_is_refused(box, logd, mode, owner):
    """Also when it was asked for."""
    directory = make_directory(box.path("explicit"), owner, mode)
    driver = Driver(box, environment(logd.url, directory)).begin()
    assert driver.log(10) == (10, None) and driver.flush()
    assert driver.in_memory() and os.listdir(directory) == []
    assert f"must belong to user {USER} and be writable by nobody else" in driver.reports(FALLBACK)[0]


# ---- Squatters ----


def squat(path, how):
    commands = {"directory": ["mkdir", "-m", "777", path], "file": ["touch", path], "link": ["ln", "-s", f"/run/user/{OTHER}", path],
                "dangling link": ["ln", "-s", "/dev/shm/nothing", path]}
    make_directory(f"/run/user/{OTHER}", OTHER)
    as_user(OTHER, *commands[how])


@pytest.mark.parametrize("how", ["directory", "file", "link", "dangling link"])
def test_a_squatter_gains_nothing(box, logd, how):
    """On 0.1.0 the records of a user whose name another user had taken in /dev/shm were in memory only."""
    squat(SHARED, how)
    as_user(OTHER, "mkdir", "-m", "777", f"{SHARED}-0123abcd")
    dies(box, "a")
    spare = [n for n in os.listdir("/dev/shm") if re.fullmatch(rf"logclient-{USER}-[0-9a-f]{{8}}", n) and n[-8:] != "0123abcd"]
    assert len(spare) == 1 and len(rings(f"/dev/shm/{spare[0]}")) == 1
    st = os.stat(f"/dev/shm/{spare[0]}")
    assert st.st_uid == USER and st.st_mode & 0o777 == 0o700
    second = start(box, logd.url, "b")
    arrive(logd, "a")
    assert len(os.listdir("/dev/shm")) == 3  # it found the one that was there
    assert second.reports() == []


# ---- Containers ----


CONTAINER = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


def test_containers_that_share_memory(box, logd):
    """Process ids mean nothing to each other there, and a living process keeps its ring."""
    first = start(box, NOWHERE, "a", prefix=CONTAINER, adopt="off")
    assert first.log(10) == (10, None)
    begun = time.time()
    second = start(box, logd.url, "b", prefix=CONTAINER)
    assert second.log(10) == (10, None) and second.flush()
    wait_until(lambda: os.stat(f"{SHARED}/adopt.lock").st_mtime > begun and second.stat("batches") > 0, "a search")
    assert logd.numbers("a") == [] and len(rings(SHARED)) == 2
    assert first.log(10) == (10, None)
    first.kill()
    arrive(logd, "a", 20)
    assert logd.numbers("b") == list(range(10))
    assert second.end() == 0
    assert rings(SHARED) == []


def test_the_next_container_delivers_what_the_last_one_left(box, logd):
    dies(box, "a", prefix=CONTAINER)
    driver = start(box, logd.url, "b", prefix=CONTAINER)
    arrive(logd, "a")
    assert driver.end() == 0 and rings(SHARED) == []


# ---- Users ----


def test_another_user_after_the_first_call(box, logd):
    """On 0.1.0: "the ring file was removed", and it was not."""
    logd.away = True
    driver = start(box, logd.url, user=0)
    place = "/dev/shm/logclient-0"
    assert driver.log(10) == (10, None)
    assert driver.ask("user", USER) == ["done"]
    changed = time.monotonic()
    assert driver.log(10) == (10, None)
    # The file is looked after each two seconds, which leaves no trace.
    wait_until(lambda: time.monotonic() > changed + 2.5, "time to pass")
    logd.away = False
    assert driver.flush()
    assert [t for t in driver.reports() if "removed" in t] == []
    assert logd.numbers() == list(range(20))
    assert driver.end() == 0
    assert len(rings(place)) == 1  # it may not remove it
    start(box, logd.url, "b", user=0)
    wait_until(lambda: len(rings(place)) == 1, "the next process to remove it")
    assert logd.numbers() == list(range(20))


def test_a_ring_file_that_is_removed_is_reported(box, logd):
    driver = start(box, logd.url)
    os.unlink(os.path.join(SHARED, rings(SHARED)[0]))
    wait_until(lambda: [t for t in driver.reports(FALLBACK) if "removed" in t], "a report")


def test_root_drains_the_directory_of_a_user(box, logd):
    """And the user's own processes search it afterwards as before."""
    dies(box, "a")
    if os.path.exists(f"{SHARED}/adopt.lock"):
        os.unlink(f"{SHARED}/adopt.lock")
    assert drain(box, logd.url, SHARED, user=0).popen.returncode == 0
    assert logd.numbers("a") == list(range(10)) and os.listdir(SHARED) == []
    dies(box, "b")
    start(box, logd.url, "c")
    arrive(logd, "b")


def test_a_user_cannot_drain_the_directory_of_another(box, logd):
    dies(box, "a")
    os.chmod(SHARED, 0o755)
    done = drain(box, logd.url, SHARED, user=OTHER)
    assert done.popen.returncode == 69 and "must belong to user" in done.stderr()
    assert logd.numbers("a") == []


@pytest.mark.parametrize("kind", ["file", "directory", "fifo"])
def test_a_lock_of_another_user_stops_nobody(box, logd, kind):
    dies(box, "a")
    lock = f"{SHARED}/adopt.lock"
    if os.path.exists(lock):
        os.unlink(lock)
    {"file": lambda: open(lock, "w").close(), "directory": lambda: os.mkdir(lock), "fifo": lambda: os.mkfifo(lock)}[kind]()
    os.chmod(lock, 0o600)
    start(box, logd.url, "b")
    arrive(logd, "a")


def test_what_is_no_ring_does_not_stop_a_drain(box, logd):
    dies(box, "a")
    os.mkdir(f"{SHARED}/x.ring")
    os.mkfifo(f"{SHARED}/y.ring")
    os.chown(f"{SHARED}/y.ring", USER, USER)
    os.symlink("/etc/passwd", f"{SHARED}/z.ring")
    driver = start(box, logd.url, "b")
    arrive(logd, "a")
    wait_until(lambda: len(driver.reports(DAMAGED)) == 3, "three reports")
    assert driver.stat("damaged") == 3
    assert sorted(n for n in os.listdir(SHARED) if "damaged" in n) == ["x.ring.damaged", "y.ring.damaged", "z.ring.damaged"]
