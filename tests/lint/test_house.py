"""Each rule of house.py fires on a small bad tree, at the right line, and says nothing about a good one."""
import os

import pytest

import house

GOOD = {
    "common/a.h": '/* a.h: a part of the tests. */\n#include "common/b.h"\n',
    "common/a.c": '/* a.c: a part of the tests. */\n#include "common/a.h"\n\n/* ---- Title ---- */\n\nvoid f(int a, int b)\n{\n    int c = 1;\n    (void)a, (void)b;\n\n    g(c);\n}\n',
    "common/b.h": "/* b.h: a part of the tests. */\n",
    "common/http/server.c": '/* server.c: a part of the tests. */\n#include <event2/http.h>\n\n#include "common/b.h"\n',
    "common/redis/conn.c": "/* conn.c: a part of the tests. */\n#include <hiredis/async.h>\n",
    "liblogclient/x.c": '/* x.c: a part of the tests. */\n#include "common/record.h"\n#include "x-internal.h"\n',
    "liblogclient/x-internal.h": "/* x-internal.h: a part of the tests. */\n",
    "liblogclient/logsend.c": '/* logsend.c: a part of the tests. */\n#include "common/diag.h"\n',
    "tests/unit/test_a.c": "/* test_a.c: a part of the tests. */\nint main(void)\n{\n    const struct CMUnitTest tests[] = {\n        cmocka_unit_test(test_it),\n    };\n}\n",
}


def findings(tmp_path, files):
    for path, text in files.items():
        os.makedirs(tmp_path / os.path.dirname(path), exist_ok=True)
        (tmp_path / path).write_text(text)
    return [f"{path}:{n}: {text}" for path, n, text in house.check(str(tmp_path))]


def body(*lines):
    return "\n".join(["/* bad.c: a part of the tests. */", "void f(void)", "{", *lines, "}", ""])


def including(path, header):
    return {path: f"/* {os.path.basename(path)}: a part of the tests. */\n#include {header}\n"}


def test_a_good_tree(tmp_path):
    assert findings(tmp_path, GOOD) == []


@pytest.mark.parametrize("files, line, words", [
    ({"logd/bad.c": "#include <stdio.h>\n"}, 1, "no opening comment"),
    ({"logd/bad.c": "/* other.c: a part. */\n"}, 1, "no opening comment"),
    ({"logd/bad.c": ""}, 1, "no opening comment"),
    ({"logd/bad.c": body() + "\n" * 500}, 501, "the file has 504 lines"),
    ({"logd/bad.c": body(*["    g();"] * 59)}, 3, "the function has 61 lines"),
    ({"logd/bad.c": body("    /* A comment that is", "     */", "    g();")}, 5, "stands alone"),
    ({"logd/bad.c": body("    int a = 1;", "", "    g(a);")}, 5, "a blank line after"),
    ({"logd/bad.c": body("    struct s *a = h(1,", "                    2);", "", "    g(a);")}, 6, "a blank line after"),
    ({"logd/bad.c": body("    static const char *const names[] = {", '        "a",', "    };", "", "    g();")}, 7, "a blank line after"),
    ({"logd/bad.c": body("    while (h()) {", "        unsigned char a, *b; /* said */", "", "        g(a);", "    }")}, 6, "a blank line after"),
    ({"logd/bad.c": body("", "    g();")}, 4, "a blank line after"),
    ({"logd/bad.c": body("    (void)a;", "    (void)b, (void)c;")}, 5, "two (void) casts"),
    ({"logd/bad.c": body() + "/* ---- title ---- */\n"}, 5, "a section title"),
    ({"logd/bad.c": body() + "/* ---- Title */\n"}, 5, "a section title"),
    ({"logd/bad.c": body() + "/* === Title === */\n"}, 5, "a section title"),
    ({"logd/bad.c": body() + "// ------ Title\n"}, 5, "a section title"),
    ({"tests/unit/bad.c": body("    cmocka_unit_test(it_works),")}, 4, "the test it_works"),
    ({"tests/unit/bad.c": body("    cmocka_unit_test_setup_teardown(", "        it_works, up, down),")}, 5, "the test it_works"),
    (including("common/http/bad.c", '"common/redis/conn.h"'), 2, "out of reach"),
    (including("common/redis/bad.c", '"common/http/server.h"'), 2, "out of reach"),
    (including("common/http/bad.c", '"logd/stats.h"'), 2, "out of reach"),
    (including("common/bad.h", '"worker/state.h"'), 2, "out of reach"),
    (including("logd/bad.c", '"worker/state.h"'), 2, "out of reach"),
    (including("worker/bad.c", '"logd/parse.h"'), 2, "out of reach"),
    (including("liblogclient/bad.c", '"common/diag.h"'), 2, "out of reach"),
    (including("liblogclient/bad.c", '"common/redis/conn.h"'), 2, "out of reach"),
    (including("liblogclient/bad.c", '"logd/parse.h"'), 2, "out of reach"),
    (including("logd/bad.c", "<hiredis/hiredis.h>"), 2, "only by common/redis/conn.c"),
    (including("common/redis/bad.c", "<hiredis.h>"), 2, "only by common/redis/conn.c"),
    (including("logd/bad.c", "<event2/http.h>"), 2, "only by common/http/answer.c"),
    (including("worker/bad.c", "<event2/http_struct.h>"), 2, "only by common/http/answer.c"),
])
def test_a_rule(tmp_path, files, line, words):
    found = findings(tmp_path, {**GOOD, **files})
    assert len(found) == 1 and found[0].startswith(f"{next(iter(files))}:{line}: ") and words in found[0], found


def test_a_circle_is_printed(tmp_path):
    """By way of a source, and of headers, all of which count as their module."""
    found = findings(tmp_path, {
        **GOOD,
        **including("common/b.h", '"common/c.h"'),
        "common/c.h": "/* c.h: a part of the tests. */\n",
        **including("common/c.c", '"common/d-internal.h"'),
        **including("common/d-internal.h", '"common/b.h"'),
    })
    assert found == ["common/b.h:2: a circle of includes: common/b -> common/c (common/b.h:2) -> common/d (common/c.c:2) -> "
                     "common/b (common/d-internal.h:2); move what both need into a module of its own"]


def test_the_exit_code_and_the_form_of_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["house.py", str(tmp_path)])
    findings(tmp_path, GOOD)
    assert house.main() == 0
    findings(tmp_path, {"logd/bad.c": ""})
    assert house.main() == 1
    assert capsys.readouterr().out.startswith("logd/bad.c:1: no opening comment; begin with: ")
