"""muster report, as a person would check it in a browser: the curves are there, values show at the pointer and are those of
metrics.jsonl, nothing is fetched or complained of, it reads in the dark, on a phone, on paper and without a script."""
import base64
import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from browser import Browser, need_browser

MUSTER = sys.argv[1]
checks = failures = 0


def check(good, what):
    global checks, failures
    checks += 1
    if not good:
        failures += 1
        print(f"failed: {what}", file=sys.stderr)


def muster(*words):
    return subprocess.run([MUSTER, *map(str, words)], check=True, capture_output=True, text=True)


# ---- runs to report on ----

def train(folder):
    """A run of 300 steps that was killed between two checkpoints and went on."""
    random.seed(5)
    words = ["the", "of", "a", "muster", "rank", "step", "block", "and"]
    for part in range(40):
        (folder / f"part{part}.txt").write_text("\n".join(" ".join(random.choice(words) for _ in range(12)) for _ in range(80)))
    muster("data", "build", *folder.glob("part*.txt"), "--heldout", "0.2", "-o", folder / "tokens.h5")
    config = folder / "c.yaml"
    config.write_text("""
run: {name: ranks-and-steps, steps: 300}
model: {family: llama, d_model: 32, n_layers: 1, n_heads: 2, d_ff: 64}
data: {sources: [tokens.h5], seq_len: 32}
batch: {micro: 2, lanes: 2}
schedule: {peak: 4e-3, warmup: 20}
train: {precision: f32, eval_every: 25}
checkpoint: {every: 50, keep: 2}
device: {threads: 1}
""")
    run = folder / "run"
    with subprocess.Popen([MUSTER, "train", str(config), "--run", str(run)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as job:
        metrics = run / "metrics.jsonl"
        while job.poll() is None and not (metrics.exists() and '"step":70,' in metrics.read_text()):
            time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
    muster("train", config, "--run", run)
    (run / "samples").mkdir()
    for step in (90, 100):
        (run / "samples" / f"step-{step}.txt").write_text(f"The rank of step {step} & the <block>.\n")
    return run


def steps_of(run):
    """As docs/metrics.md has it."""
    steps, evals = {}, {}
    for line in (run / "metrics.jsonl").open(errors="replace"):
        try:
            m = json.loads(line)
        except ValueError:
            continue
        if m["event"] in ("resume", "rollback"):
            steps = {s: v for s, v in steps.items() if s <= m["step"]}
            evals = {s: v for s, v in evals.items() if s <= m["step"]}
        elif m["event"] in ("step", "eval"):
            (steps if m["event"] == "step" else evals)[m["step"]] = m
    return steps, evals


def report(run, name="page.html"):
    page = run.parent / name
    muster("report", run, "-o", page)
    return page


# ---- what the page holds ----

FIELDS = {"loss": "loss", "bits": "bits_per_byte", "rate": "lr", "norm": "grad_norm", "speed": "tokens_per_second", "share": "peak_share",
          "seconds": "step_seconds", "memory": "memory_bytes"}
SCALE = {"µs": 1e-6, "ms": 1e-3, "s": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "%": 0.01}

PLOTS = """[...document.querySelectorAll('.plot')].filter(p => p.offsetParent !== null).map(p => {
  const box = p.getBoundingClientRect();
  return {id: p.closest('figure').id, left: box.left + scrollX, top: box.top + scrollY, width: box.width, height: box.height,
    paths: [...p.querySelectorAll('.view path')].map(path => ({style: path.getAttribute('class'), d: path.getAttribute('d')})),
    title: p.querySelector('title').textContent, desc: p.querySelector('desc').textContent};
})"""


def numbers(d):
    """The coordinates of a path whose commands are M x y, L x y, V y, h 0."""
    points, x = [], 0.0
    for command, arguments in re.findall(r"([MLVh])([^MLVh]*)", d):
        values = [float(value) for value in arguments.split()]
        if command in "ML":
            x = values[0]
            points.append((x, values[1]))
        elif command == "V":
            points.append((x, values[0]))
    return points


def check_curves(plots, steps, evals):
    found = {plot["id"] for plot in plots}
    check(found >= set(FIELDS), f"charts of {set(FIELDS) - found} are missing")
    for plot in plots:
        curves = [path for path in plot["paths"] if re.search(r"curve|dots", path["style"])]
        count = len(evals if plot["id"] == "bits" else steps)
        check(len(curves) >= 1 and len(numbers(curves[0]["d"])) == count, f"{plot['id']}: a curve of {count} points")
        for path in plot["paths"]:
            inside = all(0 <= x <= 1000 and 0 <= y <= 1000 for x, y in numbers(path["d"]))
            check(inside, f"{plot['id']}: {path['style']} lies in the view")
        spread = {y for x, y in numbers(curves[0]["d"])}
        check(plot["id"] == "memory" or len(spread) > 10, f"{plot['id']}: the curve is no flat line")
        check("by step" in plot["title"] and "step" in plot["desc"], f"{plot['id']}: told in words")
    loss = next(plot for plot in plots if plot["id"] == "loss")
    styles = [path["style"] for path in loss["paths"]]
    check({"restarts", "checkpoints", "raw curve", "mean curve", "dots"} <= set(styles), f"loss: {styles}")


def tip(browser):
    return browser.run("(t => t && {step: t.querySelector('b').textContent, rows: [...t.querySelectorAll('span')].map(r => "
                       "[r.firstChild.textContent, r.querySelector('i').textContent])})(document.querySelector('.tip'))")


TIP_INSIDE = "(t => t.left >= 0 && t.right <= document.documentElement.clientWidth)(document.querySelector('.tip').getBoundingClientRect())"


def value_of(text):
    number, _, unit = text.replace(",", "").partition(" ")
    return float(number) * SCALE.get(unit, 1)


def close(shown, true, places=1e-3):
    return shown is not None and math.isclose(shown, true, rel_tol=places, abs_tol=1e-12)


def scroll_to(browser, plot):
    browser.run(f"scrollTo(0, {plot['top'] - 200})")
    return plot["top"] - browser.run("scrollY")


def check_pointer(browser, plots, steps, evals):
    last = max(steps)
    for plot in plots:
        top = scroll_to(browser, plot)
        for share in (0.101, 0.5, 0.999):
            browser.mouse(plot["left"] + share * plot["width"], top + plot["height"] / 2)
            shown = tip(browser)
            step = int(shown["step"].removeprefix("step ").replace(",", "")) if shown else None
            lines = evals if plot["id"] == "bits" else steps
            nearest = min(abs(line - share * last) for line in lines)
            check(shown and abs(step - share * last) <= nearest + last / plot["width"], f"{plot['id']} at {share}: {shown}")
            if not shown:
                continue
            check(close(value_of(shown["rows"][0][1]), lines[step][FIELDS[plot["id"]]], 2e-3), f"{plot['id']} at step {step}: {shown['rows'][0]}")
            if plot["id"] == "loss":
                near = min(evals, key=lambda s: (abs(s - step), s))
                check(close(value_of(shown["rows"][2][1]), evals[near]["loss"]), f"held out at {near}: {shown['rows']}")
            others = browser.run("[...document.querySelectorAll('.readout')].filter(r => r.offsetParent && r.textContent !== '').length")
            check(others == browser.run("document.querySelectorAll('figure').length") - 1, f"the other charts show the step, too: {others}")
            check(browser.run(TIP_INSIDE), f"{plot['id']} at {share}: the values stand inside the window")
    browser.mouse(1, 1)
    check(tip(browser) is None, "nothing is left when the pointer leaves")


def check_keys(browser, steps):
    browser.run("document.querySelector('#loss .plot.linear').focus()")
    browser.key("Home")
    first = tip(browser)
    browser.key("ArrowRight")
    second = tip(browser)
    check(first and first["step"] == f"step {min(steps)}" and second["step"] == f"step {min(steps) + 1}", f"keys: {first} {second}")
    browser.key("End")
    said = browser.run("document.activeElement.getAttribute('aria-valuetext')")
    check(f"step {max(steps)}: training " in said, f"spoken: {said}")
    browser.key("Escape")
    check(tip(browser) is None, "Escape clears")


def check_scales(browser):
    def shown():
        return browser.run("[...document.querySelectorAll('#loss .plot')].filter(p => p.offsetParent).map(p => p.dataset.scale).join()")
    check(shown() == "linear", f"first: {shown()}")
    browser.run("document.querySelector('label[for=loss-log]').click()")
    check(shown() == "log", f"after the click: {shown()}")
    plot = next(p for p in browser.run(PLOTS) if p["id"] == "loss")
    top = scroll_to(browser, plot)
    browser.mouse(plot["left"] + plot["width"] / 2, top + 50)
    offset = browser.run("""(() => { const plot = document.querySelector('#loss .plot.log'), dot = plot.querySelector('.dot.mean');
      const at = dot.getBoundingClientRect(), box = plot.getBoundingClientRect(), x = at.left + at.width / 2 - box.left;
      const y = at.top + at.height / 2 - box.top, path = plot.querySelector('.mean.curve').getAttribute('d');
      const points = [...path.matchAll(/[ML]([\\d.]+) ([\\d.]+)/g)].map(m => [m[1] * box.width / 1000, m[2] * box.height / 1000]);
      return Math.min(...points.map(p => Math.hypot(p[0] - x, p[1] - y))); })()""")
    check(offset < 2, f"the dot lies on the logarithmic curve: {offset} px off")
    browser.run("document.querySelector('label[for=loss-linear]').click()")


# ---- how it looks ----

CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => { const f = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]); };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ['TITLE', 'DESC', 'title', 'desc'].includes(e.tagName) || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), ink = light(rgb(e.closest('svg') ? style.fill : style.color)), paper = light(ground(e));
    found.push([(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), e.className.baseVal ?? e.className, walker.currentNode.textContent.slice(0, 30)]);
  }
  return found; })()"""

STROKES = """[...document.querySelectorAll('.view path')].map(p => [p.getAttribute('class'), getComputedStyle(p).stroke])"""


def check_contrast(browser, scheme):
    texts = browser.run(CONTRAST)
    worst = min(texts)
    check(len(texts) > 100 and worst[0] >= 4.5, f"{scheme}: the weakest of {len(texts)} texts: {worst}")
    print(f"{scheme}: {len(texts)} texts, weakest contrast {worst[0]:.2f}")


def check_schemes(browser):
    browser.scheme("dark")
    check_contrast(browser, "dark")
    dark, dark_strokes = browser.screenshot(), browser.run(STROKES)
    browser.scheme("light")
    check_contrast(browser, "light")
    light, light_strokes = browser.screenshot(), browser.run(STROKES)
    check(dark != light and len(dark) > 10000, "dark and light differ")
    check(all(a != b for a, b in zip(dark_strokes, light_strokes)), "every line has a colour of its own in the dark")


LABELS = """[...document.querySelectorAll('.plot')].filter(p => p.offsetParent).map(p => [p.closest('figure').id,
  ...[...p.querySelectorAll('.grid text')].filter(t => t.getClientRects().length).map(t => { const b = t.getBoundingClientRect();
    return {x: t.getAttribute('text-anchor') === 'middle', left: b.left, right: b.right, top: b.top, bottom: b.bottom, size: parseFloat(getComputedStyle(t).fontSize)}; })])"""


def check_labels(browser, width):
    for id, *labels in browser.run(LABELS):
        check(all(label["size"] >= 11 and label["left"] >= 0 and label["right"] <= width for label in labels), f"{id} at {width}: labels legible, inside")
        across = sorted((label for label in labels if label["x"]), key=lambda label: label["left"])
        down = sorted((label for label in labels if not label["x"]), key=lambda label: label["top"])
        check(len(across) >= 3 and len(down) >= 3, f"{id} at {width}: {len(across)} labels across, {len(down)} down")
        check(all(a["right"] + 3 < b["left"] for a, b in zip(across, across[1:])), f"{id} at {width}: labels across keep apart")
        check(all(a["bottom"] <= b["top"] + 4 for a, b in zip(down, down[1:])), f"{id} at {width}: labels down keep apart")


def check_widths(browser):
    for width in (360, 600, 768, 1200, 2000):
        browser.size(width, 900, mobile=width < 700)
        wide = browser.run("document.documentElement.scrollWidth")
        check(wide <= width, f"at {width} px the page is {wide} px wide")
        check_labels(browser, width)
    browser.size(360, 740, mobile=True)
    columns = browser.run("new Set([...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect().left)).size")
    check(columns == 1, f"{columns} columns on a phone")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    plot = browser.run(PLOTS)[0]
    browser.touch(plot["left"] + 100, scroll_to(browser, plot) + 80)
    check(tip(browser) is not None, "a touch shows the values")
    check(browser.run(TIP_INSIDE), "a phone shows the values whole")
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.size(1200, 900)


def check_without_script(browser, url):
    browser.open("about:blank")
    browser.open(url)
    time.sleep(1)
    with_script = browser.screenshot()
    browser.allow_scripts(False)
    browser.open("about:blank")
    browser.open(url)
    check(browser.screenshot() == with_script, "without a script the page looks the same")
    check(browser.run("document.querySelectorAll('[role=slider]').length") == 0, "the script did not run")
    browser.allow_scripts(True)


def check_paper(browser):
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.size(700, 1000)  # of A4, without its margins
    over = browser.run("Math.max(...[...document.querySelectorAll('.plot text')].filter(t => t.getClientRects().length)"
                       ".map(t => t.getBoundingClientRect().right)) - document.documentElement.clientWidth")
    check(over <= 0, f"on paper the last label of an axis is cut off by {over} px")
    browser.call("Emulation.setEmulatedMedia", media="")
    browser.size(1200, 900)
    pdf = base64.b64decode(browser.call("Page.printToPDF", printBackground=False)["data"])
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    check(pdf.startswith(b"%PDF") and 2 <= pages <= 8, f"{pages} pages on paper")
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
        check("d_model: 32" in text and "Gradient norm" in text, "the config is open on paper")


# ---- hostile runs, long runs ----

EVIL = "</script></title></style><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>\"'>&amp;\u202e\x07"


def check_hostile(browser, run):
    evil = run.parent / "evil<script>window.hacked=1<script>"
    shutil.copytree(run, evil)
    identity = json.loads((evil / "run.json").read_text())
    identity.update(device_class=EVIL, run_id=EVIL, muster=EVIL)
    (evil / "run.json").write_text(json.dumps(identity))
    config = (evil / "config.yaml").read_text()
    config = re.sub(r'name: ".*"', lambda _: "name: " + json.dumps(EVIL), config, count=1)
    (evil / "config.yaml").write_text(config)
    (evil / "samples" / "<img src=x onerror=alert(1)>.txt").write_bytes(EVIL.encode() + b"\xff\xfe\0")
    with (evil / "metrics.jsonl").open("a") as file:
        for fields in ({"event": "start", "version": EVIL, "transport": EVIL, "device_class": EVIL, "ranks": EVIL, "threads": 1e300},
                       {"event": "checkpoint", "weights": EVIL, "state": EVIL, "path": EVIL},
                       {"event": "eval", "loss": EVIL, "loss_bits": EVIL, "valid_tokens": -1e308},
                       {"event": "step", "loss": 1e308, "lr": -5, "grad_norm": None, "grad_norm_bits": EVIL, "step_seconds": -1},
                       {"event": EVIL}, {"event": "stop", "reason": EVIL}):
            file.write(json.dumps({"step": 301, "time": EVIL, **fields}) + "\n")
    page = report(evil, "evil.html")
    browser.open(page.as_uri())
    check(browser.complaints() == [], f"hostile: {browser.complaints()}")
    check(browser.requests() == [page.as_uri()] , f"hostile: fetched {browser.requests()}")
    check(browser.run("window.hacked === undefined && document.images.length === 0 && document.scripts.length === 2"), "hostile: no markup came in")
    check(browser.run("document.title") == evil.name + " · muster", "hostile: the name is text")
    check("</script></title></style><script>" in browser.run("document.querySelector('#config pre').textContent"), "hostile: the config is text")
    check(browser.run("[...document.querySelectorAll('pre.sample')].some(p => p.textContent.startsWith('</script></title>'))"), "hostile: the sample is text")
    check(len(browser.run(PLOTS)) >= 6, "hostile: the charts still stand")


def check_gaps(browser, run):
    torn = run.parent / "torn"
    shutil.copytree(run, torn)
    lines = (torn / "metrics.jsonl").read_text().splitlines()
    with (torn / "metrics.jsonl").open("w") as file:
        for line in lines:
            m = json.loads(line)
            if m["event"] == "step" and m["step"] in (150, 151):
                m.update(loss=None, loss_bits="nan")
            file.write(json.dumps(m) + "\n")
    browser.open(report(torn, "torn.html").as_uri())
    plot = next(p for p in browser.run(PLOTS) if p["id"] == "loss")
    paths = {path["style"]: path["d"] for path in plot["paths"]}
    check(len(numbers(paths.get("gaps", ""))) == 4, f"two marks for what is not finite: {paths.get('gaps')}")
    check(paths["raw curve"].count("M") == 2, "the curve has a gap")
    browser.mouse(plot["left"] + plot["width"] * 150 / 300, scroll_to(browser, plot) + 50)
    shown = tip(browser)
    check(shown and shown["step"] == "step 150" and shown["rows"][0][1] == "not finite", f"at the gap: {shown}")


def check_long(browser, run, count=60000):
    long = run.parent / "long"
    shutil.copytree(run, long)
    step = next(m for m in map(json.loads, (long / "metrics.jsonl").open()) if m["event"] == "step")
    random.seed(9)
    losses = {}
    with (long / "metrics.jsonl").open("w") as file:
        for number in range(1, count + 1):
            losses[number] = 2 + 8 / (1 + number / 1000) + random.gauss(0, 0.05) + (40 if number == 41234 else -1.5 if number == 5678 else 0)
            step.update(step=number, loss=losses[number], grad_norm=random.random())
            file.write(json.dumps(step) + "\n")
    page = report(long, "long.html")
    check(page.stat().st_size < 2e6, f"{count} steps: {page.stat().st_size} bytes")
    browser.open(page.as_uri())
    curve = browser.run("JSON.parse(document.getElementById('points').textContent).loss.curves[0]")
    shown = dict(zip(curve["x"], curve["y"]))
    check(1000 <= len(shown) <= 2100, f"{len(shown)} points")
    check(41234 in shown and 5678 in shown and 1 in shown and count in shown, "the spike, the dip and the ends stay")
    check(all(close(y, losses[x], 1e-6) for x, y in shown.items()), "every point is one of the run's")
    plot = browser.run(PLOTS)[0]
    browser.mouse(plot["left"] + plot["width"] * 41234 / count, scroll_to(browser, plot) + 50)
    near = tip(browser)
    number = int(near["step"].removeprefix("step ").replace(",", ""))
    check(close(value_of(near["rows"][0][1]), losses[number]), f"at the pointer: {near}")
    check(browser.complaints() == [], f"long: {browser.complaints()}")


def main():
    need_browser()
    browser = Browser()
    try:
        with tempfile.TemporaryDirectory() as name:
            run = train(Path(name).resolve())
            page = report(run)
            steps, evals = steps_of(run)
            check(sorted(steps) == list(range(1, 301)) and len(evals) == 12, f"{len(steps)} steps, {len(evals)} evaluations")
            browser.size(1200, 900)
            browser.scheme("light")
            browser.open(page.as_uri())
            check(browser.run("document.querySelector('h1').textContent") == "ranks-and-steps", "the name")
            check(browser.run("document.querySelector('.state').textContent").startswith("Finished step 300 of 300"), "the state")
            check(browser.run("document.querySelector('pre.sample').textContent") == "The rank of step 100 & the <block>.\n", "the newest sample first")
            check_curves(browser.run(PLOTS), steps, evals)
            check_pointer(browser, browser.run(PLOTS), steps, evals)
            check_keys(browser, steps)
            check_scales(browser)
            check_schemes(browser)
            check_widths(browser)
            check_paper(browser)
            check(browser.complaints() == [], f"console: {browser.complaints()}")
            check(browser.requests() == [page.as_uri()], f"fetched: {browser.requests()}")
            check_without_script(browser, page.as_uri())
            check_hostile(browser, run)
            check_gaps(browser, run)
            check_long(browser, run)
    finally:
        browser.close()
    print(f"check_report: {checks} checks, {failures} failed")
    return 1 if failures or not checks else 0


sys.exit(main())
