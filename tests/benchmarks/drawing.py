"""Plots as plain SVG, which a page of the docs shows as it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, RIGHT, TOP, STEP = 760, 60, 52, 17
#: The mean width of a letter.
LETTER = 6.6
COLOURS = ("#1f6feb", "#d97706", "#6b7280", "#15803d", "#a855f7", "#dc2626", "#0891b2")
#: Of a flame graph: the share of a frame that is still shown, the width of a letter and of a name.
NARROWEST, FLAME_LETTER, LEGIBLE = 0.004, 5.6, 26


def bars(
    title: str, legend: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]]
) -> str:
    """Horizontal bars: of each row one for each word of the legend, with its figure behind it."""
    widest = max((value for _, values in rows for value in values if value), default=1)
    left = 24 + LETTER * max(len(name) for name, _ in rows)
    scale, parts, y = (WIDTH - left - RIGHT) / widest, _legend(legend), TOP
    for name, values in rows:
        middle = y + STEP * len(values) / 2 + 3
        parts.append(_text(left - 8, middle, name, anchor="end"))
        for value, colour in zip(values, COLOURS, strict=False):
            if value is not None:
                length = max(1, value * scale)
                parts.append(
                    f'<rect x="{left:.1f}" y="{y}" width="{length:.1f}" height="{STEP - 3}" '
                    f'fill="{colour}"/>'
                )
                parts.append(_text(left + length + 5, y + STEP - 6, figure(value)))
            y += STEP
        y += 8
    return _svg(title, parts, y + 8)


def lines(
    title: str, legend: Sequence[str], xs: Sequence[float], series: Sequence[Sequence[float]]
) -> str:
    """Each series over ``xs``, which are drawn at equal distances; from zero upwards."""
    height = 260
    top = max(max(values) for values in series) or 1
    across = (WIDTH - 2 * RIGHT) / max(1, len(xs) - 1)
    parts = _legend(legend)
    for at, x in enumerate(xs):
        parts.append(_text(RIGHT + at * across, TOP + height + 18, figure(x), anchor="middle"))
    for values, colour in zip(series, COLOURS, strict=False):
        points = [
            (RIGHT + at * across, TOP + height - value / top * (height - 20))
            for at, value in enumerate(values)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), value in zip(points, values, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            parts.append(_text(x + 6, y - 6, figure(value)))
    return _svg(title, parts, TOP + height + 32)


def flames(
    title: str, stacks: Mapping[Sequence[tuple[str, str]], int], owner: Callable[[Any], str]
) -> str:
    """Stacks of module and function, the outermost below; as wide as often they were seen.

    Args:
        owner: Of the innermost frame of a stack, which gives it its colour.
    """
    total = sum(stacks.values()) or 1
    least, across = total * NARROWEST, (WIDTH - 40) / total
    seen: Counter[Sequence[tuple[str, str]]] = Counter()
    for stack, times in stacks.items():
        for depth in range(1, len(stack) + 1):
            seen[stack[:depth]] += times
    shown = {stack: times for stack, times in sorted(seen.items()) if times >= least}
    owners = sorted({owner(stack) for stack in shown})
    bottom = TOP + 24 + STEP * max(map(len, shown), default=0)
    parts, begins = _legend(owners), {(): 20.0}
    for stack, times in shown.items():
        x, width = begins[stack[:-1]], times * across
        begins[stack], begins[stack[:-1]] = x, x + width
        y, colour = bottom - STEP * len(stack), COLOURS[owners.index(owner(stack)) % len(COLOURS)]
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{max(0.5, width - 0.5):.1f}" height="{STEP - 1}" '
            f'fill="{colour}" fill-opacity="0.75"/>'
        )
        module, function = stack[-1]
        name = f"{module.rpartition('.')[2]}.{function.rpartition('.')[2]}"
        if fits := name[: int((width - 4) / FLAME_LETTER)] if width > LEGIBLE else "":
            parts.append(_text(x + 2, y + STEP - 5, fits, size=10))
    return _svg(title, parts, bottom + 8)


def figure(value: float) -> str:
    """Three digits, which is more than any of these measurements is good for."""
    digits = next((n for n, least in enumerate((100, 10, 1)) if abs(value) >= least), 3)
    return f"{value:,.{digits}f}"


def _legend(words: Sequence[str]) -> list[str]:
    parts, x = [], 20.0
    for word, colour in zip(words, COLOURS, strict=False):
        parts.append(f'<rect x="{x}" y="32" width="11" height="11" fill="{colour}"/>')
        parts.append(_text(x + 16, 42, word))
        x += 34 + LETTER * len(word)
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )


def _svg(title: str, parts: list[str], height: float) -> str:
    # White behind it: the site has a dark theme too, and an image does not know of it.
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            'role="img" font-family="system-ui, sans-serif" fill="#1f2328">',
            f"<title>{escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            _text(20, 22, title, size=14),
            *parts,
            "</svg>\n",
        ]
    )
