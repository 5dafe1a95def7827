#!/usr/bin/env python3
"""Fills the tables of the page Claims from Perf/results/claims-*.json, and draws its plots. `make claims-page` runs this.

A table stands between two comments, `<!-- claim: NUMBER SETTING -->` and `<!-- end -->`. Each cell is the mean over the seeds,
with their standard deviation where there are several. The plot of a claim shows accuracy over the time of the student's training,
in light and in dark.
"""

import json
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "Sources/dmae/dmae.docc/Claims.md"
RESOURCES = ROOT / "Sources/dmae/dmae.docc/Resources"
MEASURES = (("finetuned_top1", "fine-tuned"), ("probe_top1", "probe"), ("knn_top1", "k-NN, k = 20"))


def contenders(results, number):
    """The rows of a claim by contender, in the order in which they were measured."""
    found = {}
    for row in results["rows"]:
        for claim, name in row["claims"]:
            if claim == number:
                found.setdefault(name, []).append(row)
    return found


def spread(values):
    if not values:
        return ""
    mean = 100 * statistics.mean(values)
    return f"{mean:.1f} %" if len(values) == 1 else f"{mean:.1f} ± {100 * statistics.stdev(values):.1f} %"


def minutes(results, row):
    images = results["training_images"] if "training_images" in results else 0
    return row["epochs"] * images / row["images_per_second"] / 60


def table(results, number):
    lines = ["| student | seeds | epochs | images/s | minutes | " + " | ".join(name for _, name in MEASURES) + " |",
             "| --- " * (5 + len(MEASURES)) + "|"]
    for name, rows in contenders(results, number).items():
        cells = [name, str(len(rows)), f"{rows[0]['epochs']:g}", f"{rows[0]['images_per_second']:,.0f}",
                 f"{minutes(results, rows[0]):.1f}"]
        cells += [spread([row[key] for row in rows if key in row]) for key, _ in MEASURES]
        lines.append("| " + " | ".join(cells) + " |")
    teacher = results["teacher"]
    lines.append("| *the teacher* | 1 |  |  |  | " + " | ".join(spread([teacher[key]]) for key, _ in MEASURES) + " |")
    return "\n".join(lines)


def plot(results, number, setting):
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as pyplot

    matplotlib.rcParams["svg.hashsalt"] = "dmae"
    for suffix, ink in (("", "#1b1b1f"), ("~dark", "#e6e6ea")):
        figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
        for name, rows in contenders(results, number).items():
            values = [100 * row["finetuned_top1"] for row in rows]
            axes.errorbar(minutes(results, rows[0]), statistics.mean(values),
                          yerr=statistics.stdev(values) if len(values) > 1 else None, marker="o", capsize=3, label=name)
        axes.set_xlabel("minutes of the student's training", color=ink)
        axes.set_ylabel("fine-tuned top-1, %", color=ink)
        axes.tick_params(colors=ink)
        for spine in axes.spines.values():
            spine.set_color(ink)
        axes.legend(labelcolor=ink, frameon=False, fontsize=8)
        figure.savefig(RESOURCES / f"claim-{number}-{setting}{suffix}.svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)


def main():
    text = PAGE.read_text()

    def filled(match):
        number, setting = int(match[1]), match[2]
        results = json.loads((ROOT / f"Perf/results/claims-{setting}.json").read_text())
        plot(results, number, setting)
        return f"<!-- claim: {number} {setting} -->\n{table(results, number)}\n<!-- end -->"

    PAGE.write_text(re.sub(r"<!-- claim: (\d+) (\S+) -->.*?<!-- end -->", filled, text, flags=re.S))


if __name__ == "__main__":
    sys.exit(main())
