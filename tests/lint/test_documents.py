"""The documents speak of what is there: each function that doc/design.md names with () stands in the sources, each link leads to a file."""
import os
import re
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "doc/design.md", "doc/guarantees.md", "doc/hosts.md", "doc/measurements.md", "doc/protocol.md"]
ELSEWHERE = {"flushAppendOnlyFile"}     # of Redis


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def sources():
    listed = subprocess.run(["git", "ls-files", "*.c", "*.h"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return "".join(read(path) for path in listed if os.path.exists(os.path.join(ROOT, path)))


def unknown_functions(text, code):
    return [name for name in sorted(set(re.findall(r"`(\w+)\(\)`", text)) - ELSEWHERE) if not re.search(rf"\b{name}\(", code)]


def test_a_function_that_is_gone_is_found():
    assert unknown_functions("see `gone()` and `here()`", "int here(void)") == ["gone"]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_functions_exist(path):
    assert unknown_functions(read(path), sources()) == []


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_to_files(path):
    text, here = read(path), os.path.join(ROOT, os.path.dirname(path))
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not os.path.exists(os.path.join(here, link))] == []
