"""The same as a picture: an SVG of bars, readable on light and on dark paper."""
from html import escape

WIDTH, LEFT, BAR, GAP, VALUE = 880, 230, 18, 6, 210
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; } .quiet { fill: #59636e; font-size: 12px; }
  .own { fill: #1a7f37; } .peer { fill: #9aa4ae; } .bound { stroke: #bc4c00; stroke-width: 2; stroke-dasharray: 4 3; }
  .missed { fill: #bc4c00; } .bar { stroke: #1f2328; stroke-width: 2; } .paper { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9198a1; } .own { fill: #3fb950; } .peer { fill: #656c76; }
    .bound { stroke: #db6d28; } .missed { fill: #db6d28; } .bar { stroke: #e6edf3; } .paper { fill: #0d1117; }
  }
"""


class Page:
    def __init__(self):
        self.parts, self.y = [], 16

    def text(self, x, words, kind="", anchor="start", dy=13):
        self.parts.append(f'<text x="{x:.0f}" y="{self.y + dy:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def heading(self, words, note=""):
        self.y += 10
        self.text(16, words, "title")
        self.y += 20
        if note:
            self.text(16, note, "quiet")
            self.y += 20

    def bar(self, name, share, words, kind, mark=0):
        """A bar and words behind it, and behind a mark that stands further right."""
        width = max(1, share * (WIDTH - LEFT - VALUE))
        self.text(LEFT - 10, name, "", "end")
        self.parts.append(f'<rect x="{LEFT}" y="{self.y}" width="{width:.1f}" height="{BAR}" rx="2" class="{kind}"/>')
        self.text(max(LEFT + width, LEFT + mark * (WIDTH - LEFT - VALUE)) + 8, words)
        self.y += BAR + GAP

    def mark(self, share, top, kind):
        x = LEFT + share * (WIDTH - LEFT - VALUE)
        self.parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{self.y - GAP}" class="{kind}"/>')

    def svg(self):
        height = self.y + 16
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}">'
        return "\n".join([head, f"<style>{STYLE}</style>", '<rect width="100%" height="100%" class="paper"/>', *self.parts, "</svg>\n"])


def draw_model(page, row):
    ours = row["players"]["muster"]["median"]
    most = max([row["bound"], *(p["median"] for p in row["players"].values())])
    missed = "" if row["reached"] else "; its bar is missed"
    page.heading(row["title"], f"tokens/s; dashed: what the matrix products alone allow{missed}")
    top = page.y
    for name, player in row["players"].items():
        own = name == "muster"
        words = f"{player['median']:,.0f}" + ("" if own else f"; muster is {ours / player['median']:.2f} x")
        page.bar(name, player["median"] / most, words, "own" if own else "peer")
    page.mark(row["bound"] / most, top, "bound")


def draw_kernels(page, work, rows):
    page.heading(f"Kernels of {work}", "share of what binds, bandwidth or arithmetic, within the step; the line: its bar")
    scale = max(1.0, *(row["share"] for row in rows))
    for row in rows:
        top = page.y
        name, kind = row["title"].split(",")[0], "missed" if row["reached"] is False else "own" if row["bar"] else "peer"
        page.bar(name, row["share"] / scale, f"{row['share']:.2f} of {row['binds']}", kind, (row["bar"] or 0) / scale)
        if row["bar"]:
            page.mark(row["bar"] / scale, top, "bar")


def write(found, path):
    page, m, rows = Page(), found["machine"], found["rows"]
    page.heading("muster beside its peers", f"{m['processor']}, {m['threads']} threads; medians of {found['rounds']} rounds in turns")
    for row in rows:
        if row["part"] == "model":
            draw_model(page, row)
    kernels = [row for row in rows if row["part"] == "kernels" and "shapes" not in row]
    for work in dict.fromkeys(row["title"].split(", ", 1)[1] for row in kernels):
        draw_kernels(page, work, [row for row in kernels if row["title"].endswith(work)])
    path.write_text(page.svg())
