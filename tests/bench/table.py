"""The table that a person reads."""


def verdict(row):
    if row.get("reached") is None:
        return ""
    if not row["reached"]:
        return "MISSED"
    return "reached, stretch too" if row.get("stretch_reached") else "reached"


def bars(values, form):
    return " or ".join(form[i].format(v) for i, v in enumerate(values) if v is not None)


def mib(count):
    return f"{count / 2**20:,.0f} MiB" if count else "-"


def show_model(row):
    print(f"\n{row['title']}")
    ours = row["players"]["muster"]["median"]
    print(f"  {'':34} {'tokens/s':>9}  {'spread':>15}  {'muster is':>9}  {'peak memory':>12}")
    for name, player in row["players"].items():
        spread = f"{player['low']:,.0f} .. {player['high']:,.0f}"
        ratio = f"{ours / player['median']:.2f} x" if name != "muster" else ""
        print(f"  {name:34} {player['median']:9,.0f}  {spread:>15}  {ratio:>9}  {mib(player['peak_bytes']):>12}")
    for name in row["missing"]:
        print(f"  missing: {name}")
    print(f"  the matrix products alone allow {row['bound']:,.0f} tokens/s at {row['products_gflops']:,.0f} GFLOP/s;"
          f" muster has {row['share_of_products']:.2f} of it")
    print(f"  {row['gflops_causal']:,.0f} GFLOP/s by 6 N + 6 L d s (the causal half), {row['share_of_peak']:.2f} of the peak;"
          f" {row['gflops_full']:,.0f} by 6 N + 12 L d s")
    others = [seconds for name, seconds in row["update"].items() if name != "muster"]
    met = "" if not others else " (never slower: " + ("reached)" if row["update"]["muster"] <= min(others) else "MISSED)")
    print("  norm, clip and AdamW: " + ", ".join(f"{n} {1e3 * s:.0f} ms" for n, s in row["update"].items()) + met)
    form = ("{:.1f} x the best PyTorch", "{:.2f} of the products")
    stretch = bars(row["stretch"], form)
    print(f"  bar {bars(row['bar'], form)}{'; stretch ' + stretch if stretch else ''}: {verdict(row)}")


def show_kernels(rows):
    print(f"\n  {'kernel, in its step':52} {'ms':>9} {'GB/s':>7} {'GFLOP/s':>8}  {'share':>5}  of what binds    bar")
    for row in rows:
        bar = f"{row['bar']:.2f}" if row["bar"] else "-"
        print(f"  {row['title']:52} {row['milliseconds']:9.3f} {row['gbytes']:7.1f} {row['gflops']:8.1f}  {row['share']:5.2f}"
              f"  {row['binds']:15}  {bar:>4}  {verdict(row)}")


def show_products(row):
    print(f"\n{row['title']}: {row['gflops']:,.0f} GFLOP/s, {row['share']:.2f} of peak (bar {row['bar']['peak']:.2f}),"
          f" {row['of_library']:.2f} of the best library of each shape (bar {row['bar']['library']:.2f}): {verdict(row)}")
    for shape in row["shapes"]:
        speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in shape["gflops"].items())
        add = "+=" if shape["add"] else " ="
        print(f"  {shape['a']}{shape['b']} {shape['m']:6} x {shape['n']:5} x {shape['k']:5} {add} {shape['c']:4}"
              f" {shape['calls']:4} times a step: GFLOP/s {speeds}")


def show_others(rows):
    for row in rows:
        print(f"\n{row['title']}: {row['text']}")
        for name, bar in row["bars"].items():
            print(f"  {name}: {bar['value']:.3f} (bar {bar['sign']} {bar['bar']}"
                  f"{', stretch ' + str(bar['stretch']) if bar.get('stretch') is not None else ''}): {verdict(bar)}")


def show(found):
    m = found["machine"]
    print(f"\n{m['processor']}, {m['threads']} threads, {found['rounds']} rounds. Triad {m['triad']:.1f} GB/s of needed bytes"
          f" ({m['triad'] * 4 / 3:.1f} with what is read before it is overwritten), past the cache {m['triad_past_cache']:.1f},"
          f" in place {m['in_place']:.1f}, only read {m['only_reads']:.1f}; large products fp32 {m['peak_f32']:,.0f}, bf16 {m['peak_bf16']:,.0f} GFLOP/s")
    rows = found["rows"]
    for row in rows:
        if row["part"] == "model":
            show_model(row)
    shown = [row for row in rows if row["part"] == "kernels" and "shapes" not in row]
    if shown:
        show_kernels(shown)
    for row in rows:
        if "shapes" in row:
            show_products(row)
    show_others([row for row in rows if row["part"] == "ranks"])
