"use strict";
(() => {
  const data = JSON.parse(document.getElementById("points").textContent);
  const group = (value) => Math.round(value).toLocaleString("en-US");

  const print = {
    plain: (v) => (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(4) : String(Number(v.toPrecision(5)))),
    count: (v) => (Math.abs(v) < 100 ? String(Number(v.toPrecision(4))) : group(v)),
    seconds: (v) => (v < 1e-3 ? (v * 1e6).toPrecision(4) + " µs" : v < 1 ? (v * 1e3).toPrecision(4) + " ms" : v.toPrecision(4) + " s"),
    bytes: (v) => {
      const k = v < 1048576 ? 1 : v < 1073741824 ? 2 : 3;
      return (v / 1024 ** k).toFixed(2) + " " + ["", "KiB", "MiB", "GiB"][k];
    },
    share: (v) => (100 * v).toFixed(1) + " %",
  };

  const make = (parent, tag, style, text) => {
    const element = document.createElement(tag);
    element.className = style;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };

  /* The index of the value nearest to x in a rising list. */
  const nearest = (list, x) => {
    let low = 0, high = list.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] < x) low = middle + 1; else high = middle;
    }
    return low > 0 && x - list[low - 1] <= list[low] - x ? low - 1 : low;
  };

  /* One scale of one chart. */
  const makePlot = (box) => {
    const low = Number(box.dataset.low), high = Number(box.dataset.high), log = box.dataset.scale === "log";
    const place = (v) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
    return { box, place, added: [] };
  };

  const charts = Object.entries(data).map(([id, given]) => {
    const figure = document.getElementById(id);
    return {
      ...given,
      title: figure.querySelector("h3").textContent,
      curves: given.curves.filter((curve) => curve.x.length > 0),
      plots: Array.from(figure.querySelectorAll(".plot"), makePlot),
    };
  });

  const clear = () => {
    for (const chart of charts) {
      for (const plot of chart.plots) plot.added.splice(0).forEach((element) => element.remove());
    }
  };

  /* What each curve of a chart says at the step: its nearest point. */
  const values = (chart, step) =>
    chart.curves.map((curve) => {
      const i = nearest(curve.x, step), y = curve.y[i];
      return { curve, step: curve.x[i], y, text: y === null ? "not finite" : print[chart.unit](y) };
    });

  const at = (chart, step) => (100 * (step - chart.low)) / (chart.high - chart.low);

  /* The mean stands for its neighbourhood; what was evaluated at another step says so. */
  const nameOf = (point, step) =>
    point.curve.name + (point.curve.style === "dots" && point.step !== step ? " (step " + group(point.step) + ")" : "");

  const showTip = (chart, plot, step, points) => {
    const tip = make(plot.box, "div", "tip"), area = plot.box.getBoundingClientRect();
    make(tip, "b", "", "step " + group(step));
    for (const point of points) make(make(tip, "span", "", nameOf(point, step)), "i", "", point.text);
    const width = tip.offsetWidth, x = (at(chart, step) / 100) * area.width;
    const left = x > area.width / 2 ? x - width - 14 : x + 14;
    tip.style.left = Math.max(6 - area.left, Math.min(left, document.documentElement.clientWidth - area.left - width - 6)) + "px";
    plot.added.push(tip);
  };

  const showPoints = (chart, plot, step, points) => {
    const hair = make(plot.box, "div", "hair");
    hair.style.left = at(chart, step) + "%";
    plot.added.push(hair);
    for (const point of points) {
      if (point.y === null) continue;
      const dot = make(plot.box, "div", "dot " + point.curve.style);
      dot.style.left = at(chart, point.step) + "%";
      dot.style.top = 100 * (1 - plot.place(point.y)) + "%";
      plot.added.push(dot);
    }
  };

  /* All charts show the step that one of them points at. */
  const show = (active, activePlot, index) => {
    const step = active.curves[0].x[index];
    clear();
    for (const chart of charts) {
      const points = values(chart, step);
      for (const plot of chart.plots) {
        showPoints(chart, plot, step, points);
        if (chart !== active) plot.added.push(make(plot.box, "div", "readout", points[0].text));
      }
      if (chart === active) showTip(chart, activePlot, step, points);
    }
    activePlot.index = index;
    activePlot.box.setAttribute("aria-valuenow", step);
    activePlot.box.setAttribute("aria-valuetext",
      "step " + step + ": " + values(active, step).map((point) => point.curve.name + " " + point.text).join(", "));
  };

  const follow = (chart, plot, event) => {
    const area = plot.box.getBoundingClientRect(), share = (event.clientX - area.left) / area.width;
    show(chart, plot, nearest(chart.curves[0].x, chart.low + share * (chart.high - chart.low)));
  };

  const moves = (count) => ({ ArrowLeft: -1, ArrowRight: 1, PageDown: -Math.ceil(count / 20), PageUp: Math.ceil(count / 20), Home: -count, End: count });

  const press = (chart, plot, event) => {
    const count = chart.curves[0].x.length, move = moves(count)[event.key];
    if (event.key === "Escape") clear();
    if (move === undefined) return;
    event.preventDefault();
    show(chart, plot, Math.min(count - 1, Math.max(0, (plot.index ?? count - 1) + move)));
  };

  for (const chart of charts)
    for (const plot of chart.plots) {
      const box = plot.box;
      box.tabIndex = 0;
      box.setAttribute("role", "slider");
      box.setAttribute("aria-label", chart.title + ", by step; arrow keys move");
      box.setAttribute("aria-valuemin", chart.curves[0].x[0]);
      box.setAttribute("aria-valuemax", chart.curves[0].x[chart.curves[0].x.length - 1]);
      box.addEventListener("pointermove", (event) => follow(chart, plot, event));
      box.addEventListener("pointerdown", (event) => follow(chart, plot, event));
      box.addEventListener("pointerleave", clear);
      box.addEventListener("focus", () => { if (box.matches(":focus-visible")) show(chart, plot, plot.index ?? chart.curves[0].x.length - 1); });
      box.addEventListener("blur", clear);
      box.addEventListener("keydown", (event) => press(chart, plot, event));
    }

  /* On paper everything is open. */
  const closed = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => { opened = [...closed()]; opened.forEach((element) => { element.open = true; }); });
  addEventListener("afterprint", () => { opened.forEach((element) => { element.open = false; }); });
})();
