# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draws the document of a run: horizontal bars, with one panel for each headline number.

The SVG has only text, lines and rectangles, so any browser shows it. The same document gives
the same picture, byte for byte, which publish.py relies on.
"""

from html import escape

from report import LICENCE, cell, measured, ratio_digits

WIDTH = 960
MARGIN = 24
NAMES = 150  # the start of the bars
BARS = 420  # the length of the longest bar
ROW = 22
BAR = 13
INK, PALE, GRID = "#1f2328", "#59636e", "#d1d9e0"
COLOURS = {"tproxy": "#0969da", "tproxy-honest": "#0969da", "direct": "#1a7f37"}
OTHERS = "#9aa4ae"


def svg(document):
    about = document["machine"]
    canvas = Canvas()
    canvas.text(MARGIN, 24, "tproxy beside others: ratios, and what was measured", size=18,
                bold=True)
    canvas.text(MARGIN, 42, f"{about['date']}, kernel {about['kernel']}, {about['cores']} cores "
                f"({about['cpu']}), TCP congestion control {about['congestion_control']}, "
                f"commit {about['commit'][:12]}", colour=PALE)
    canvas.text(MARGIN, 60, f"medians of {document['rounds']} rounds or more; whiskers from "
                "minimum to maximum; the line is the baseline, 1.0", colour=PALE)
    canvas.y = 76
    for name, workload in document["workloads"].items():
        for metric in workload["metrics"]:
            if metric["key"] in workload["headlines"] and workload["baselines"]:
                panel(canvas, name, workload, metric)
    return canvas.finish()


def panel(canvas, name, workload, metric):
    baseline = workload["baselines"][0]
    rows = {variant: numbers.get(metric["key"]) for variant, numbers
            in workload["variants"].items()}
    ratios = {variant: row["ratio_to"].get(baseline) for variant, row in rows.items() if row}
    longest = max([1.0, *(ratio["max"] for ratio in ratios.values() if ratio)])
    scale = BARS / longest

    canvas.y += 26
    title = workload["title"].partition("\n")[0]
    canvas.text(MARGIN, canvas.y, f"{name}: {metric['label']}, {metric['better']} is better",
                size=14, bold=True)
    canvas.text(MARGIN, canvas.y + 16, f"{title}; ratio to {baseline}", colour=PALE)
    canvas.y += 26
    top = canvas.y
    for variant, row in rows.items():
        canvas.text(NAMES - 8 + MARGIN, canvas.y + 15, variant, anchor="end")
        if row is None:
            canvas.text(NAMES + MARGIN + BARS + 20, canvas.y + 15, "no number", colour=PALE)
        else:
            draw(canvas, variant, ratios[variant], scale, is_baseline=variant == baseline)
            label = cell(ratios[variant], ratio_digits(row)).replace(" .. ", "–")
            canvas.text(NAMES + MARGIN + BARS + 20, canvas.y + 15,
                        "" if variant == baseline else label)
            canvas.text(WIDTH - MARGIN, canvas.y + 15, measured(row, metric), anchor="end",
                        colour=PALE)
        canvas.y += ROW
    one = NAMES + MARGIN + scale
    canvas.line(one, top, one, canvas.y, INK, dashes="2 2")


def draw(canvas, variant, ratio, scale, is_baseline):
    left, top = NAMES + MARGIN, canvas.y + (ROW - BAR) / 2
    if is_baseline:
        ratio = {"median": 1.0, "min": 1.0, "max": 1.0}
    if ratio is None:
        return
    colour = COLOURS.get(variant, OTHERS)
    canvas.rectangle(left, top, ratio["median"] * scale, BAR, colour)
    low, high = (left + ratio[key] * scale for key in ("min", "max"))
    if high > low:
        middle = top + BAR / 2
        canvas.line(low, middle, high, middle, INK)
        for x in (low, high):
            canvas.line(x, middle - 3, x, middle + 3, INK)


class Canvas:
    """The elements so far, and their height."""

    def __init__(self):
        self.elements = []
        self.y = 0

    def text(self, x, y, text, size=12, bold=False, anchor="start", colour=INK):
        weight = ' font-weight="600"' if bold else ""
        self.elements.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"{weight} '
                             f'text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>')

    def rectangle(self, x, y, width, height, colour):
        self.elements.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                             f'height="{height:.1f}" fill="{colour}"/>')

    def line(self, x1, y1, x2, y2, colour, dashes=None):
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.elements.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                             f'stroke="{colour}"{dashed}/>')

    def finish(self):
        height = self.y + MARGIN
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="system-ui, sans-serif">',
            f"<!-- {LICENCE} -->",
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff" stroke="{GRID}"/>',
            *self.elements, "</svg>", ""])
