"""A plot as SVG, without anything installed."""

from dataclasses import dataclass
from math import log10

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 300, 70, 150, 36, 44
COLOURS = ["#1f5fbf", "#c2410c", "#4d7c0f", "#6d28d9", "#475569"]


@dataclass(frozen=True)
class Panel:
    """One diagram: lines over members, which are drawn logarithmically."""

    title: str
    unit: str
    lines: dict  # name: [(members, value)]


def draw(panels):
    """All panels, one below the other."""
    body = []
    for index, panel in enumerate(panels):
        body.append(f'<g transform="translate(0 {index * HEIGHT})">{_panel(panel)}</g>')
    height = HEIGHT * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _panel(panel):
    points = [point for line in panel.lines.values() for point in line]
    sizes = sorted({members for members, _ in points})
    low, high = log10(sizes[0]), log10(sizes[-1])
    top = nice(max(value for _, value in points))

    def x(members):
        return LEFT + (log10(members) - low) / max(high - low, 1e-9) * (WIDTH - LEFT - RIGHT)

    def y(value):
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="20" font-size="14" fill="#111827">{panel.title}</text>']
    for step in range(5):
        value = top * step / 4
        parts.append(
            f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#e5e7eb"/>'
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#374151">{value:g}</text>'
        )
    parts.append(f'<text x="8" y="{TOP - 4}" fill="#374151">{panel.unit}</text>')
    for members in sizes:
        parts.append(
            f'<text x="{x(members):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" '
            f'fill="#374151">{members:,}</text>'
        )
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" fill="#374151">members</text>')
    labels = []
    for colour, (name, line) in zip(COLOURS, panel.lines.items()):
        path = " ".join(f"{x(members):.1f},{y(value):.1f}" for members, value in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for members, value in line:
            parts.append(
                f'<circle cx="{x(members):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}">'
                f"<title>{name}, {members:,} members: {value:.4g} {panel.unit}</title></circle>"
            )
        labels.append((y(line[-1][1]), name, colour))
    # Labels keep apart although their lines may end in one place.
    floor = TOP
    for height, name, colour in sorted(labels):
        floor = max(height + 4, floor)
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{floor:.1f}" fill="{colour}">{name}</text>')
        floor += 14
    return "\n".join(parts)


def nice(value):
    """The next of 1, 2, 4, 5, 8, 10 times a power of ten."""
    power = 10 ** int(log10(value)) if value >= 1 else 0.1
    for factor in (1, 2, 4, 5, 8, 10, 20):
        if factor * power >= value:
            return factor * power
    return value
