"""Plots: SVG by hand, of lines over two logarithmic axes, in the colours of whoever looks at them."""

import html
import math

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 44, 52

STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 15px; }
.back { fill: #ffffff; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.line { fill: none; stroke-width: 2; }
.meshgate { stroke: #0969da; fill: #0969da; }
.envoy { stroke: #cf222e; fill: #cf222e; }
.haproxy { stroke: #1a7f37; fill: #1a7f37; }
.nginx { stroke: #9a6700; fill: #9a6700; }
.floor { stroke: #6e7781; fill: #6e7781; }
.line.meshgate, .line.envoy, .line.haproxy, .line.nginx, .line.floor { fill: none; }
.name { stroke: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .back { fill: #0d1117; }
  .grid { stroke: #30363d; }
  .meshgate { stroke: #58a6ff; fill: #58a6ff; }
  .envoy { stroke: #ff7b72; fill: #ff7b72; }
  .haproxy { stroke: #56d364; fill: #56d364; }
  .nginx { stroke: #e3b341; fill: #e3b341; }
  .floor { stroke: #8b949e; fill: #8b949e; }
}
"""

# Other forms of the same peer are told apart by their dashes.
DASHES = ("", "6 4", "2 3", "10 3 2 3")


def chart(title, across, up, series):
    """`series`: name -> [(x, y)], the name beginning with a peer's. All numbers are greater than zero."""
    points = [point for line in series.values() for point in line]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = decade(min(y for _, y in points), math.floor), decade(max(y for _, y in points), math.ceil)
    if low_x == high_x:
        high_x = 10 * low_x
    if low_y == high_y:
        high_y = 10 * low_y

    def place(x, y):
        along = (math.log(x) - math.log(low_x)) / (math.log(high_x) - math.log(low_x))
        above = (math.log(y) - math.log(low_y)) / (math.log(high_y) - math.log(low_y))
        return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - above * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">',
        f"<style>\n{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="24">{html.escape(title)}</text>',
        *grid(place, sorted({x for x, _ in points}), (low_x, high_x), (low_y, high_y)),
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{html.escape(across)}</text>',
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">{html.escape(up)}</text>',
    ]
    seen, last = {}, []
    for name, line in series.items():
        peer = name.split(" ")[0]
        dash = DASHES[min(seen.get(peer, 0), len(DASHES) - 1)]
        seen[peer] = seen.get(peer, 0) + 1
        places = [place(*point) for point in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line {peer}" stroke-dasharray="{dash}" points="{path}"/>')
        parts.extend(f'<circle class="{peer}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
        last.append([places[-1][1], name, peer, places[-1][0]])
    parts.extend(names(last))
    return "\n".join([*parts, "</svg>"]) + "\n"


def decade(value, rounded):
    return 10.0 ** rounded(math.log10(value))


def grid(place, columns, across, up):
    parts = []
    for x in columns:
        at = place(x, up[0])[0]
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:,.0f}</text>')
    y = up[0]
    while y <= up[1] * 1.001:
        at = place(across[0], y)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number(y)}</text>')
        y *= 10
    return parts


def number(value):
    """Of a decade: without what floats leave behind."""
    return f"{value:,.0f}" if value >= 1 else f"{value:.3g}"


def names(last):
    """Each line's name where it ends, moved down as far as the one above it asks for."""
    taken = -math.inf
    for at, name, peer, x in sorted(last):
        taken = max(at + 4, taken + 16)
        yield f'<text class="name {peer}" x="{x + 10:.1f}" y="{taken:.1f}">{html.escape(name)}</text>'
