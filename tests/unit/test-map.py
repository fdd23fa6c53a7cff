#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `vtlctl map` makes of protections: text, JSON, and a picture that is XML and shows everything."""

import json
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

SRCDIR = os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", "..")
BUILDDIR = os.environ.get("builddir") or os.path.join(SRCDIR, "build")
sys.path.insert(0, os.path.join(SRCDIR, "tests", "lib"))

from tap import main  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
R, W, K, U, ALL = 1, 2, 4, 8, 15
COLOURS = {0: "#2b2d42", R: "#d1495b", R | W: "#edae49", R | U: "#7b5ea7", R | W | U: "#b8d05c", R | K | U: "#00798c",
           ALL: "#dfe5ea"}
GUEST = [(0, 0x10, ALL), (0x10, 3, R), (0x13, 1, 0), (0x14, 0xc, ALL), (0x100, 0x300, R | W), (0x100000, 1, R | K | U)]


def show(how, runs, name="name", fails=False):
    answer = subprocess.run([os.path.join(BUILDDIR, "tests", "lib", "show-map"), how, name], text=True,
                            input="".join("%d %d %d\n" % r for r in runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            timeout=60, check=False)
    assert (answer.returncode != 0) == fails, answer
    return answer.stdout


def picture(runs, name="name"):
    return ElementTree.fromstring(show("svg", runs, name))


def rectangles(root, fill=None):
    found = [r for r in root.iter(SVG + "rect") if fill is None or r.get("fill") == fill]
    return [tuple(int(r.get(a)) for a in ("x", "y", "width", "height")) for r in found if r.get("x")]


def blocks(root):
    """Title and rectangle of each"""
    return [(g.find(SVG + "title").text, tuple(int(g.find(SVG + "rect").get(a)) for a in ("x", "y", "width", "height")))
            for g in root.iter(SVG + "g")]


def texts(root):
    return [t.text for t in root.iter(SVG + "text")]


def test_text():
    assert show("text", GUEST) == """\
 FIRST BYTE    LAST BYTE    SIZE  RIGHTS  VTL0 MAY
        0x0       0xffff  64 KiB  RWKU    everything
    0x10000      0x12fff  12 KiB  R---    read
    0x13000      0x13fff   4 KiB  ----    nothing
    0x14000      0x1ffff  48 KiB  RWKU    everything
   0x100000     0x3fffff   3 MiB  RW--    read, write
0x100000000  0x100000fff   4 KiB  R-KU    read, execute

RIGHTS  PAGES     SIZE  RUNS  VTL0 MAY
----        1    4 KiB     1  nothing
R---        3   12 KiB     1  read
RW--      768    3 MiB     1  read, write
R-KU        1    4 KiB     1  read, execute
RWKU       28  112 KiB     2  everything
"""


def test_words():
    text = show("text", [(i, 1, i) for i in range(16)])
    for words in ("R--U    read, execute in user mode", "RW-U    read, write, execute in user mode",
                  "-W--    write", "--K-    execute in kernel mode"):
        assert words + "\n" in text, (words, text)
    assert "1.4 GiB" in show("text", [(0, 375000, ALL)]) and "1024 TiB" in show("text", [(0, 1 << 38, ALL)])


def test_runs_that_go_on_are_joined():
    assert json.loads(show("json", [(0, 4, R), (4, 4, R), (8, 1, 0), (10, 1, 0)]))["Runs"] == [
        {"Gpn": 0, "Pages": 8, "Mask": 1, "Rights": "R---"}, {"Gpn": 8, "Pages": 1, "Mask": 0, "Rights": "----"},
        {"Gpn": 10, "Pages": 1, "Mask": 0, "Rights": "----"}]


def test_runs_that_cannot_be():
    for wrong in ([(0, 0, 1)], [(0, 4, 16)], [(4, 4, 1), (0, 4, 1)], [(0, 4, 1), (3, 1, 1)], [(1 << 40, 1, 1)],
                  [(1, 1 << 40, 1)], [((1 << 64) - 1, 2, 1)]):
        assert show("json", wrong, fails=True) == "", wrong


def test_json():
    shown = json.loads(show("json", GUEST, "größe"))
    assert shown["Name"] == "größe" and shown["Uuid"] == "uuid"
    assert [(r["Gpn"], r["Pages"], r["Mask"]) for r in shown["Runs"]] == GUEST
    assert shown["Totals"][-1] == {"Mask": ALL, "Rights": "RWKU", "Pages": 28, "Runs": 2}
    assert json.loads(show("json", []))["Runs"] == []


def test_a_picture():
    root = picture(GUEST)
    assert root.tag == SVG + "svg" and root.get("role") == "img"
    width, height = int(root.get("width")), int(root.get("height"))
    assert root.get("viewBox") == "0 0 %d %d" % (width, height)
    for part in root.get("aria-labelledby").split():
        assert any(e.get("id") == part and e.text for e in root), part
    assert "3.1 MiB of RAM in 6 runs" in root.find(SVG + "desc").text
    drawn = blocks(root)
    assert [title.split(",")[0] for title, _ in drawn] == [
        "0x%x to 0x%x" % (gpn << 12, (gpn + count << 12) - 1) for gpn, count, _ in GUEST]
    for (_, rectangle), (_, _, mask) in zip(drawn, GUEST):
        assert rectangle in rectangles(root, COLOURS[mask]), "a block has the colour of its rights"
    for (_, above), (_, below), hole in zip([b for b in drawn], drawn[1:], (0, 0, 0, 1, 1)):
        assert (below[1] - above[1] - above[3] > 0) == bool(hole), "holes are seen, and nothing overlaps"
    heights = [r[3] for _, r in drawn]
    assert heights[4] == max(heights) and heights[2] == min(heights) >= 12, "larger is higher, and the least can be read"
    for mask in {m for _, _, m in GUEST}:
        assert any(t and t.startswith("".join(c if mask >> i & 1 else "-" for i, c in enumerate("RWKU")) + "  ")
                   for t in texts(root)), "the legend has all"
    for x, y, w, h in rectangles(root):
        assert x + w <= width and y + h <= height, "everything is in the picture"


def test_names_are_escaped():
    name = "<script>&\"'\x07\x7f\ufffe\uffffü\u2028"
    root = picture(GUEST, name)
    assert root.find(SVG + "title").text == "Memory of <script>&\"'????ü\u2028"
    assert not list(root.iter(SVG + "script"))


def test_one_page_in_a_terabyte_is_seen():
    root = picture([(0, 1 << 27, ALL), (1 << 27, 1, 0), ((1 << 27) + 1, (1 << 27) - 1, ALL)])
    column = [r for r in rectangles(root, COLOURS[0]) if r[0] == rectangles(root, COLOURS[ALL])[0][0]]
    assert len(column) == 2, "in the column to scale, and in the legend"
    assert column[0][3] == 1


def test_more_runs_than_there_is_room_for():
    rng = random.Random(1)
    runs, gpn = [], 0
    for i in range(20000):
        count = rng.choice((1, 1, 1, 2, 7)) if i % 1000 else 1 << 18
        runs.append((gpn, count, (R, ALL, 0, R | W)[i % 4]))
        gpn += count + (rng.randrange(100) == 0)
    root = picture(runs)
    drawn = blocks(root)
    assert 20 <= len(drawn) <= 240 and int(root.get("height")) < 12000
    ranges = [tuple(int(n, 16) for n in re.match("0x([0-9a-f]+) to 0x([0-9a-f]+),", title).groups()) for title, _ in drawn]
    assert ranges[0][0] == 0 and ranges[-1][1] == (runs[-1][0] + runs[-1][1] << 12) - 1
    assert all(a[1] < b[0] for a, b in zip(ranges, ranges[1:])), "in order, and each page once"
    assert sum(int(t.split(": ")[1].split()[0]) if "runs of different" in t else 1 for t, _ in drawn) == 20000
    large = {gpn << 12 for gpn, count, _ in runs if count == 1 << 18}
    assert large <= {first for (first, _), (title, _) in zip(ranges, drawn) if "different" not in title}


def test_an_empty_map():
    root = picture([])
    assert not blocks(root) and "0 KiB of RAM" in root.find(SVG + "desc").text


main(globals())
