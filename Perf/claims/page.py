#!/usr/bin/env python3
"""Fills the tables of the page Claims from Perf/results/claims-*.json, and draws its plots. `make claims-page` runs this.

A table stands between two comments, `<!-- claim: NUMBER SETTING -->` and `<!-- end -->`. Each cell is the mean over the seeds,
with their standard deviation where there are several. A plot shows accuracy over the time of the student's training, once for
a light and once for a dark page.
"""

import json
import re
import statistics
from pathlib import Path

import points
from claims import speed_name, spread

ROOT = Path(__file__).resolve().parent.parent.parent
CATALOG = ROOT / "Sources/dmae/dmae.docc"
MEASURES = (("finetuned_top1", "fine-tuned"), ("probe_top1", "probe"), ("knn_top1", "k-NN"))
INK = {"": "#1b1b1f", "~dark": "#e6e6ea"}


class Row:
    """A contender of a claim with its points, one for each seed."""

    def __init__(self, results, contender, rows):
        self.name, self.rows = contender.name, rows
        self.epochs = rows[0]["epochs"]
        # Until all are measured side by side, those that set budgets are.
        speeds = {**results["budget_speeds"], **results["speeds"]}
        self.speed = statistics.median(speeds[speed_name(contender)])
        images = results["labelled_images" if contender.kind == "scratch" else "training_images"]
        self.minutes = self.epochs * images / self.speed / 60

    def values(self, measure):
        return [row[measure] for row in self.rows if measure in row]


def rows_of(results, number):
    """The contenders of a claim that were measured, in the order of points.py."""
    found = []
    for claim in points.CLAIMS:
        if claim.number != number or claim.setting.name != results["setting"]["name"]:
            continue
        for contender in claim.contenders:
            rows = [row for row in results["rows"] if [number, contender.name] in row["claims"]]
            if rows:
                found.append(Row(results, contender, rows))
    return found


def table(results, number):
    lines = ["| student | seeds | epochs | images/s | minutes | " + " | ".join(name for _, name in MEASURES) + " |",
             "| " + " | ".join(["---"] * (5 + len(MEASURES))) + " |"]
    for row in rows_of(results, number):
        cells = [row.name, str(len(row.rows)), f"{row.epochs:g}", f"{row.speed:,.0f}", f"{row.minutes:.1f}"]
        lines.append("| " + " | ".join(cells + [spread(row.values(key)) or "–" for key, _ in MEASURES]) + " |")
    if not results["teacher"]:
        return "\n".join(lines)
    cells = ["*the teacher*", "1", f"{results['setting']['teacher_epochs']:g}", "–", "–"]
    lines.append("| " + " | ".join(cells + [spread([results["teacher"][key]]) for key, _ in MEASURES]) + " |")
    return "\n".join(lines)


def plot(results, number):
    import matplotlib
    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = rows_of(results, number)
    for suffix, ink in INK.items():
        figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
        for index, row in enumerate(rows):
            values = [100 * value for value in row.values("finetuned_top1")]
            axes.errorbar(row.minutes, statistics.mean(values), yerr=statistics.stdev(values) if len(values) > 1 else None,
                          marker="os^Dv"[index % 5], linestyle="none", capsize=3, label=row.name)
        axes.set_xlabel("minutes of the student's training", color=ink)
        axes.set_ylabel("fine-tuned top-1, %", color=ink)
        axes.tick_params(colors=ink)
        for spine in axes.spines.values():
            spine.set_color(ink)
        axes.legend(labelcolor=ink, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
        name = f"claim-{number}-{results['setting']['name']}{suffix}.png"
        figure.savefig(CATALOG / "Resources" / name, transparent=True, dpi=100, metadata={"Software": None})
        pyplot.close(figure)


def main():
    page = CATALOG / "Claims.md"
    text = page.read_text()

    def filled(match):
        number, setting = int(match[1]), match[2]
        results = json.loads((ROOT / f"Perf/results/claims-{setting}.json").read_text())
        plot(results, number)
        return f"<!-- claim: {number} {setting} -->\n{table(results, number)}\n<!-- end -->"

    page.write_text(re.sub(r"<!-- claim: (\d+) (\S+) -->.*?<!-- end -->", filled, text, flags=re.S))


if __name__ == "__main__":
    main()
