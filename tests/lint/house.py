#!/usr/bin/env python3
"""Rules of the tree that no other tool knows: python3 tests/lint/house.py [ROOT]. Prints FILE:LINE: what is wrong; the remedy."""
import os
import re
import sys

FILE_MAX = 500
FUNCTION_MAX = 60
TREES = ("common", "liblogclient", "logd", "worker", "examples", "tests")

# What the library takes from common/, and what the program logsend takes besides.
LIBRARY_MAY = {"buf", "crash", "jsontext", "level", "option", "record", "timer", "timestamp", "utf8"}
LOGSEND_MAY = LIBRARY_MAY | {"diag", "options"}

# What a file of the first path may not include, and the remedy. The first rule that fits a file says it.
LAYERS = [
    ("common/http/", r"(?!common/)|common/redis/", "common/http knows nothing of the programs and of common/redis: pass in what it needs"),
    ("common/redis/", r"(?!common/)|common/http/", "common/redis knows nothing of the programs and of common/http: pass in what it needs"),
    ("common/", r"(?!common/)", "common/ knows nothing of its users: pass in what it needs"),
    ("logd/", r"(?!common/|logd/)", "logd includes only common/ and logd/"),
    ("worker/", r"(?!common/|worker/)", "worker includes only common/ and worker/"),
]

# Headers of libraries, and the only files of the product that may include them.
LIBRARIES = [
    (r"hiredis/|hiredis\.h|async\.h", {"common/redis/conn.c", "common/redis/reply-build.h"}, "go through common/redis/conn.h"),
    (r"event2/http", {"common/http/answer.c", "common/http/connection.c", "common/http/server.c", "liblogclient/http.c"}, "go through common/http/server.h"),
]

INCLUDE = re.compile(r'\s*#\s*include\s+(["<])([^">]+)[">]')
TITLE = re.compile(r"/\* ---- [A-Z0-9][^\n]*[^- ] ---- \*/$")
TITLE_LIKE = re.compile(r"(/\*|//)\s*([-=#~_*])\2\2")
VOID_CAST = re.compile(r"\s*(\(void\)\w+(, )?)+;$")
TEST_CASE = re.compile(r"^\s*cmocka_unit_test\w*\(\s*(\w+)", re.MULTILINE)
STATEMENTS = ("return", "goto", "else", "case")
DECLARATION = re.compile(r"\s+(?:[A-Za-z_]\w*[\s*]+)+(?:[A-Za-z_]\w*(?:\[[^\]]*\])*\s*(?:=|;|,)|\(\*\w+\)\()")


class Source:
    """One file: its path from the root, its lines, and the functions in it as (first line, last line), counted from 1."""

    def __init__(self, root, path):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8") as f:
            self.lines = f.read().split("\n")
        if self.lines[-1] == "":
            self.lines.pop()

    def functions(self):
        """Relies on clang-format: a function's braces are the only ones alone in the first column."""
        start = None
        for n, line in enumerate(self.lines, 1):
            if line == "{":
                start = n
            elif line == "}" and start is not None:
                yield start, n
                start = None

    def includes(self):
        for n, line in enumerate(self.lines, 1):
            m = INCLUDE.match(line)
            if m:
                yield n, m.group(1), m.group(2)


def module_of(path):
    """x.c, x.h and x-internal.h are one module."""
    return re.sub(r"(-internal)?\.[ch]$", "", path)


def resolve(source, name, paths):
    """The path of an included header of the tree, or None."""
    for folder in ("", os.path.dirname(source.path), "liblogclient"):
        path = os.path.normpath(os.path.join(folder, name))
        if path in paths:
            return path
    return None


# ---- One file ----


def check_opening(source):
    name = os.path.basename(source.path)
    if not source.lines or not source.lines[0].startswith(f"/* {name}: "):
        yield 1, f"no opening comment; begin with: /* {name}: what it is and who uses it. */"


def check_length(source):
    if len(source.lines) > FILE_MAX:
        yield FILE_MAX + 1, f"the file has {len(source.lines)} lines; split it, {FILE_MAX} are allowed"
    for first, last in source.functions():
        if last - first + 1 > FUNCTION_MAX:
            yield first, f"the function has {last - first + 1} lines; split it, {FUNCTION_MAX} are allowed"


def check_lines(source):
    before = ""
    for n, line in enumerate(source.lines, 1):
        if line.strip() == "*/":
            yield n, "the comment's end stands alone; reword the comment so that it fits"
        if TITLE_LIKE.match(line.strip()) and not TITLE.match(line.strip()):
            yield n, "a section title of another form; write /* ---- Title ---- */ with a capital"
        if VOID_CAST.match(line) and VOID_CAST.match(before):
            yield n, "two (void) casts in a row; write (void)a, (void)b;"
        before = line


def check_declarations(source):
    """What follows a block's brace, or its leading declarations, stands right below."""
    for first, last in source.functions():
        leading, inside, comment = False, False, False
        for n in range(first, last):
            line = re.sub(r"\s*/\*.*\*/$|\s*//.*", "", source.lines[n - 1])
            if comment or line.lstrip().startswith("/*") or line == "":
                comment = line != "" and not line.endswith("*/")
            elif inside:
                inside = not line.endswith(";")
            elif line.endswith("{") and not line.endswith("= {"):
                leading = True
            elif leading and DECLARATION.match(line) and line.split()[0] not in STATEMENTS:
                inside = not line.endswith(";")
            else:
                leading = False
            if leading and not inside and source.lines[n] == "":
                yield n + 1, "a blank line after a block's brace or its declarations; remove it"


def check_tests(source):
    text = "\n".join(source.lines)
    for m in TEST_CASE.finditer(text):
        if not m.group(1).startswith("test_"):
            yield text.count("\n", 0, m.start(1)) + 1, f"the test {m.group(1)} does not begin with test_; name it test_some_sentence"


def check_includes(source, paths):
    for n, kind, name in source.includes():
        if kind == "<":
            yield from check_library(source, n, name)
        else:
            yield from check_layer(source, n, resolve(source, name, paths) or name)


def check_library(source, n, name):
    for pattern, files, remedy in LIBRARIES:
        if re.match(pattern, name) and source.path not in files and not source.path.startswith(("examples/", "tests/")):
            yield n, f"<{name}> may be included only by {', '.join(sorted(files))}; {remedy}"


def check_layer(source, n, path):
    for folder, wrong, remedy in LAYERS:
        if source.path.startswith(folder):
            if re.match(wrong, path):
                yield n, f'"{path}" is out of reach here; {remedy}'
            return
    if source.path.startswith("liblogclient/") and not path.startswith("liblogclient/"):
        may = LOGSEND_MAY if source.path.startswith("liblogclient/logsend") else LIBRARY_MAY
        if path not in {f"common/{m}.h" for m in may} | {f"common/{m}-internal.h" for m in may}:
            yield n, f'"{path}" is out of reach here; the library takes from common/ only {", ".join(sorted(may))}'


# ---- The graph of modules ----


def edges(sources):
    """{module: {module it includes: (file, line) where}}"""
    paths = {s.path for s in sources}
    graph = {}
    for s in sources:
        out = graph.setdefault(module_of(s.path), {})
        for n, kind, name in s.includes():
            path = resolve(s, name, paths) if kind == '"' else None
            if path is not None and module_of(path) != module_of(s.path):
                out.setdefault(module_of(path), (s.path, n))
    return graph


def shortest_circle(graph, start):
    """The modules from start back to it, or None."""
    ways = [[start]]
    seen = set()
    for way in ways:
        for following in graph.get(way[-1], {}):
            if following == start:
                return way + [start]
            if following not in seen:
                seen.add(following)
                ways.append(way + [following])
    return None


def check_circles(sources):
    graph = edges(sources)
    told = set()
    for start in sorted(graph):
        way = shortest_circle(graph, start)
        if way is None or told & set(way):
            continue
        told |= set(way)
        text = way[0]
        for a, b in zip(way, way[1:]):
            text += " -> %s (%s:%d)" % (b, *graph[a][b])
        path, n = graph[way[0]][way[1]]
        yield path, n, f"a circle of includes: {text}; move what both need into a module of its own"


# ---- All ----


def find(root):
    for tree in TREES:
        for folder, folders, files in os.walk(os.path.join(root, tree)):
            folders[:] = sorted(f for f in folders if f != "node_modules")
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def check(root):
    """All findings, as (path, line, text)."""
    sources = [Source(root, path) for path in find(root)]
    paths = {s.path for s in sources}
    for s in sources:
        for rule in (check_opening, check_length, check_lines, check_declarations, check_tests):
            yield from ((s.path, n, text) for n, text in rule(s))
        yield from ((s.path, n, text) for n, text in check_includes(s, paths))
    yield from check_circles(sources)


def main():
    findings = list(check(sys.argv[1] if len(sys.argv) > 1 else "."))
    for path, n, text in findings:
        print(f"{path}:{n}: {text}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
