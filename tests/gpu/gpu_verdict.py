"""What is said of a figure and its bar."""
import gpu_works as works


def verdict(reached, stretch=False):
    """Of a bar that is reached or not, or of which None says that it could not be asked."""
    if reached is None:
        return "not judged"
    return ("reached, stretch too" if stretch else "reached") if reached else "MISSED"


def beside_peer(ratio):
    """Whether muster is never below the best PyTorch."""
    return None if ratio is None else ratio >= works.PEER_BAR


def of_paper(work, share):
    return None if share is None else share >= work["bar"]


def of_whole_step(work, share, ratio):
    """Of a share of the FLOP/s on paper and a ratio to the best PyTorch, None where they are not known: both have to hold."""
    judged = {"of the paper": of_paper(work, share), "beside PyTorch": beside_peer(ratio)}
    missed = [name for name, reached in judged.items() if reached is False]
    if missed:
        return f"MISSED: {' and '.join(missed)}"
    return verdict(None if None in judged.values() else True, share is not None and share >= work["stretch"])


def table(everything, shares, ratios):
    """Markdown's lines of all whole steps; `shares` and `ratios` by name: a number and words, or None and why."""
    lines = [
        "| whole step | share of the paper | bar | | muster beside PyTorch | bar | | both |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work in everything:
        (share, share_words), (ratio, ratio_words) = shares[work["name"]], ratios[work["name"]]
        lines.append(
            f"| {work['name']} | {share_words} | {work['bar']:.2f} | {verdict(of_paper(work, share))} | {ratio_words} |"
            f" {works.PEER_BAR:.2f} | {verdict(beside_peer(ratio))} | {of_whole_step(work, share, ratio)} |"
        )
    return lines
