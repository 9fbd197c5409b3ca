"""A burst as a picture: requests that the providers saw over time, against what they allow. One SVG, no dependency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from .bursts import BIN_S, CASES, PER_S, Outcome

WIDTH, HEIGHT = 560, 150
LEFT, TOP, GAP = 54, 46, 40
COLOURS = ("#3566b8", "#d1722c")
REFUSED = "#c02f36"
INK, FAINT = "#26292e", "#c9ccd1"


def draw(found: Mapping[tuple[str, str], Outcome], path: Path) -> Path:
    """Draw every burst, one below the other, and return where it is kept."""
    longest_s = max((len(sent) * BIN_S for outcome in found.values() for sent in outcome.sent.values()), default=1.0)
    rows: list[str] = []
    for number, ((case, system), outcome) in enumerate(found.items()):
        rows += _burst(case, system, outcome, TOP + number * (HEIGHT + GAP), longest_s)
    height = TOP + len(found) * (HEIGHT + GAP) + 10
    text = "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 20}" height="{height}" '
            f'viewBox="0 0 {WIDTH + LEFT + 20} {height}" font-family="sans-serif" font-size="11" fill="{INK}">',
            '<rect width="100%" height="100%" fill="white"/>',
            *rows,
            "</svg>",
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _burst(case: str, system: str, outcome: Outcome, top: float, longest_s: float) -> list[str]:
    """One picture: a line for each provider, red dots where calls were refused or failed, a dashed limit."""
    most = max([2 * PER_S, *(count / BIN_S for sent in outcome.sent.values() for count, _ in sent)])
    bottom = top + HEIGHT

    def at(second: float, per_s: float) -> tuple[float, float]:
        return LEFT + WIDTH * second / longest_s, bottom - HEIGHT * per_s / most

    optimum_s = CASES[case].optimum_s
    title = (
        f"{case}, {system}: {outcome.makespan_s:.1f} s (optimum {optimum_s:.1f} s), {outcome.failed:,} lost, "
        f"{outcome.refused:,} 429s, {outcome.requests:,} requests"
    )
    made = [
        f'<text x="{LEFT}" y="{top - 10}" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{LEFT} {top}V{bottom}H{LEFT + WIDTH}" fill="none" stroke="{FAINT}"/>',
    ]
    for per_s in (0.0, PER_S, most):
        y = at(0, per_s)[1]
        made.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{per_s:.0f}/s</text>')
    for second in range(0, int(longest_s) + 1, 5):
        x = at(second, 0)[0]
        made.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{second} s</text>')
    limit_y, optimum_x = at(0, PER_S)[1], at(optimum_s, 0)[0]
    made.append(f'<path d="M{LEFT} {limit_y:.1f}H{LEFT + WIDTH}" stroke="{INK}" stroke-dasharray="4 3"/>')
    made.append(f'<path d="M{optimum_x:.1f} {top}V{bottom}" stroke="{FAINT}" stroke-dasharray="2 3"/>')
    for (name, sent), colour in zip(outcome.sent.items(), COLOURS, strict=False):
        points = [at((number + 0.5) * BIN_S, count / BIN_S) for number, (count, _) in enumerate(sent)]
        made.append(f'<polyline points="{_points(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        place = LEFT + WIDTH - 110 + 60 * list(outcome.sent).index(name)
        made.append(f'<text x="{place}" y="{top + 10}" fill="{colour}">{escape(name)}</text>')
        for (x, y), (_, refused) in zip(points, sent, strict=True):
            if refused:
                made.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{REFUSED}"/>')
    return made


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
