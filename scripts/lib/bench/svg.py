"""A line chart in a file of its own, light or dark as its page is."""
import math
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 48
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #444 }
  .title { font-weight: 600; font-size: 15px; fill: #222 }
  .grid { stroke: #ddd } .line { stroke: #2563a8; fill: none; stroke-width: 2 } .dot { fill: #2563a8 }
  @media (prefers-color-scheme: dark) {
    text { fill: #bbb } .title { fill: #eee } .grid { stroke: #444 }
    .line { stroke: #7ab2ea } .dot { fill: #7ab2ea }
  }
"""


def nice_step(most, steps=5):
    """A round number of which about `steps` make up the whole axis."""
    rough = max(most, 1e-9) / steps
    power = 10 ** math.floor(math.log10(rough))
    return next(power * times for times in (1, 2, 5, 10) if rough <= power * times)


def number(value):
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def chart(title, x_name, y_name, points):
    """Points are (x, y) with x above 0, which has a logarithmic axis; y begins at 0."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = math.log(min(xs)), math.log(max(xs))
    step = nice_step(max(ys))
    top = step * math.ceil(max(ys) / step) or 1

    def across(x):
        return LEFT + (math.log(x) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def up(y):
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
             f"<title>{escape(title)}</title><style>{STYLE}</style>",
             f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>']
    for at in range(round(top / step) + 1):
        y = up(at * step)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(at * step)}</text>')
    for x in xs:
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{number(x)}</text>')
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    parts.append(f'<polyline class="line" points="{line}"/>')
    parts += [f'<circle class="dot" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5"/>' for x, y in points]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>')
    parts.append(f'<text x="{LEFT}" y="36" font-size="12">{escape(y_name)}</text></svg>')
    return "\n".join(parts) + "\n"
