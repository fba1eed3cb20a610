"""The systemd units: what keeps the daemons up, and who may read the log."""
import configparser
import os
import re
import shutil
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
UNITS = ["logd/logd.service", "worker/logworker.service"]


def read(unit):
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str
    with open(os.path.join(ROOT, unit)) as f:
        parser.read_file(f)
    return parser


@pytest.mark.parametrize("unit", UNITS)
def test_a_daemon_is_always_started_again(unit):
    """Five early exits left it down. After a wrong option it would only exit again."""
    parsed = read(unit)
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0"
    assert parsed["Service"]["Restart"] == "always"
    assert parsed["Service"]["RestartPreventExitStatus"] == "64"


@pytest.mark.parametrize("unit", UNITS)
def test_memory_is_limited(unit):
    assert re.fullmatch(r"\d+[MG]", read(unit)["Service"]["MemoryMax"])


def test_a_group_can_read_the_log():
    """Below /var/log/private, where systemd keeps the logs of dynamic users, it cannot."""
    service = read("worker/logworker.service")["Service"]
    assert "DynamicUser" not in service
    assert service["User"] == service["Group"] == "logworker"
    assert service["LogsDirectory"] == "logworker"
    assert int(service["LogsDirectoryMode"], 8) & 0o077 == 0o050
    assert 0o640 & ~int(service["UMask"], 8) == 0o640


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_all_of_it(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        assert not os.environ.get("CI"), "systemd-analyze is missing"
        pytest.skip("systemd-analyze is missing")
    with open(os.path.join(ROOT, unit)) as f:
        text = f.read()
    # Neither the programs nor their man pages are installed here.
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.M)
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)
    path = tmp_path / os.path.basename(unit)
    path.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
