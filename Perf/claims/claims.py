#!/usr/bin/env python3
"""Measures the paper's claims at the size that two cores carry. `make claims` runs this.

Every point trains a student in one way, and measures it on held-out images; points.py lists them. Fine-tuning sees the images
that have labels, a tenth of Fashion-MNIST; the linear probe and k-NN see all labels, as measures of the features. A finished
point is written at once into Perf/results/claims-SETTING.json and skipped the next time; an unfinished one goes on from its last
checkpoint. The whole takes most of a day on two cores. --quick measures claim 1 on a subset, in under fifteen minutes, and
writes into the folder of the runs.

The teacher is given, as in the paper: its pre-training is counted nowhere. Everything is float32 but for claim 7. Classifiers
that are trained on labels from the beginning have no probe and no k-NN.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

import points

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The same for every contender. Mixing and RandAugment need more epochs than these.
FINETUNE = ("--recipe", "finetune-small-data", "--no-rand-augment", "--mixup", "0", "--cutmix", "0", "--drop-path", "0",
            "--layer-decay", "0.9", "--ema", "0.99", "--warmup-epochs", "1", "--precision", "f32")
PRETRAIN = ("--warmup-epochs", "1", "--precision", "f32")
# Images of each class in the subset of --quick, and the share of each class on which learning rates are chosen.
QUICK_TRAIN = 2_000
RATES_VAL = 0.05
# Measurements of each speed; the median counts.
TURNS = 5


class Bench:
    """The points of one setting, and their results."""

    def __init__(self, arguments, setting):
        self.dmae, self.work, self.setting = arguments.dmae, arguments.work, setting
        self.commit = commit(self.dmae)
        self.path = (arguments.work if setting.name == "quick" else ROOT / "Perf/results") / f"claims-{setting.name}.json"
        self.results = json.loads(self.path.read_text()) if self.path.exists() else {
            "measurement": "claims", "machine": machine(), "date": str(date.today()),
            "command": "make claims" + (" QUICK=1" if setting.name == "quick" else ""), "setting": sizes(setting),
            "training_images": 0, "labelled_images": 0, "rates": {}, "budget_speeds": {}, "speeds": {}, "teacher": {}, "rows": []}
        for key, value in (("machine", machine()), ("setting", sizes(setting))):
            if self.results[key] != value:
                sys.exit(f"claims: {self.path} has points of another {key}, {self.results[key]}: finish it there, or move the "
                         "file and the runs away to begin again")
        source = self.source()
        self.images = self.parts(source / "train", source / "val", "")
        self.results["training_images"] = files_of(self.images["train"])
        self.results["labelled_images"] = files_of(self.images["labelled"])

    # Data

    def source(self):
        """The folder with a data set's train and val; written from Debian's package at the first use."""
        source = self.setting.source
        folder = self.work / "sets" / source
        if not (folder / "val").exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            flags = {"fashion-mnist": ("--padding", "2"), "openclipart": ("--longest-side", "96")}[source]
            run([sys.executable, ROOT / f"Fixtures/datasets/{source}.py", part, *flags])
            part.rename(folder)
        return folder

    def parts(self, train, val, suffix):
        """The folders with the images of pre-training, those of them that have labels, and held-out ones."""
        if self.setting.name == "quick":
            train = self.links(train, f"train{suffix}", slice(QUICK_TRAIN))
        labels = self.setting.labels
        labelled = self.links(train, f"labelled{suffix}", slice(labels)) if labels else train
        return {"train": train, "labelled": labelled, "val": val}

    def split(self):
        """A split of the training part, with held-out images of its own."""
        train = self.images["train"]
        held_out = {directory.name: max(1, int(RATES_VAL * len(list(directory.iterdir())))) for directory in train.iterdir()}
        return self.parts(self.links(train, "train-split", {name: slice(-count) for name, count in held_out.items()}),
                          self.links(train, "val-split", {name: slice(-count, None) for name, count in held_out.items()}),
                          "-split")

    def links(self, source, name, choice):
        """A folder with links to some of the files of each class: those of a slice, or of the class's slice."""
        target = self.work / "sets" / self.setting.name / name
        if not target.exists():
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            for directory in sorted(source.iterdir()):
                (part / directory.name).mkdir(parents=True)
                chosen = choice[directory.name] if isinstance(choice, dict) else choice
                for file in sorted(directory.iterdir())[chosen]:
                    os.symlink(file.resolve(), part / directory.name / file.name)
            part.rename(target)
        return target

    # Runs

    def train(self, name, command, *flags):
        """A training run; goes on where it was. Returns its folder."""
        folder = self.work / self.setting.name / name
        if not (folder / "finished").exists():
            print(f"  {folder.relative_to(self.work)}", flush=True)
            run([self.dmae, command, *flags, "--output", folder, "--resume", "auto", "--keep", "1", "--quiet"],
                stdout=subprocess.DEVNULL)
            (folder / "finished").touch()
        return folder

    def sizes(self, encoder):
        width, depth, heads = encoder
        return ("--patch-size", self.setting.patch, "--width", width, "--depth", depth, "--heads", heads)

    def schedule(self, rate, epochs, seed):
        return ("--minimum-crop-area", self.setting.crop, "--batch", self.setting.batch, "--effective-batch",
                self.setting.batch, "--base-learning-rate", rate, "--epochs", epochs, "--seed", seed)

    def masked(self, encoder, rate, epochs, seed, images):
        width, depth, heads = points.DECODER
        return (*self.setting.images, *self.sizes(encoder), "--decoder-width", width, "--decoder-depth", depth,
                "--decoder-heads", heads, *self.schedule(rate, epochs, seed), *PRETRAIN, "--data", images["train"])

    def labelled(self, epochs, images, rate, seed, part="labelled"):
        return (*FINETUNE, *self.schedule(rate, epochs, seed), "--train", images[part], "--val", images["val"],
                "--evaluate-every", epochs)

    def teacher(self):
        return self.train("teacher", "pretrain", "--recipe", "demo-teacher",
                          *self.masked(self.setting.teacher, 4e-3, self.setting.teacher_epochs, 0, self.images))

    def finetuned_teacher(self, images):
        """The teacher, fine-tuned on the labels of `images`, which may be those of the split."""
        weights = self.teacher() / "model.safetensors"
        name = "teacher-finetuned" if images == self.images else "rates/teacher-finetuned"
        return self.train(name, "finetune", "--weights", weights,
                          *self.labelled(self.setting.finetune_epochs, images, self.finetune_rate, 0))

    finetune_rate = 4e-3

    def contender_flags(self, contender, rate, epochs, seed, images):
        """Command and flags of a contender's training, without the files of the run."""
        if contender.kind in ("pretrain", "distill"):
            recipe = {"pretrain": "demo-teacher", "distill": "demo"}[contender.kind]
            flags = ["--recipe", recipe, *self.masked(self.setting.student, rate, epochs, seed, images)]
            if contender.kind == "distill":
                flags += ["--teacher", self.teacher() / "model.safetensors"]
                if "--align" not in contender.flags:
                    flags += ["--align", self.setting.align]
            return contender.kind, replaced(flags, contender.flags)
        # A teacher's logits need no labels: they are learned on all images.
        part = "train" if contender.kind == "logits" else "labelled"
        flags = ["--from-scratch", *self.setting.images, *self.sizes(self.setting.student),
                 *self.labelled(epochs, images, rate, seed, part)]
        if contender.kind == "logits":
            flags += ["--teacher", self.finetuned_teacher(images) / "model.safetensors", "--teacher-weight", "1"]
        # Layer decay is for weights that were trained before.
        return "finetune", replaced(flags, ("--layer-decay", "1", *contender.flags))

    # Speed, and what follows from it

    def measure_speeds(self, key, commands):
        """Measures images per second of several trainings in turns, without decoding, by dry runs."""
        speeds = self.results[key]
        missing = {name: command for name, command in commands.items() if name not in speeds}
        values = {name: [] for name in missing}
        for _ in range(TURNS if missing else 0):
            for name, (command, flags) in missing.items():
                output = run([self.dmae, command, *flags, "--dry-run", "--quiet"], stdout=subprocess.PIPE).stdout
                values[name].append(float(re.search(r"^images per second\s+([0-9.]+)$", output, re.M)[1]))
        if missing:
            speeds.update(values)
            self.save()

    def measure_contenders(self, contenders):
        """The speeds of all contenders' trainings, side by side, for the page."""
        self.measure_speeds("speeds", {
            speed_name(contender): self.contender_flags(contender, 4e-3, self.epochs(contender), 0, self.images)
            for contender in contenders})

    def speed(self, name):
        """Images per second for a budget in time: the median of the measurements."""
        return statistics.median(self.results["budget_speeds"][name])

    def epochs(self, contender):
        """The epochs of a contender's budget. Times are of the steps alone, at the measured images per second."""
        setting = self.setting
        if contender.budget == "epochs":
            return setting.epochs
        commands = {kind: self.contender_flags(points.Contender(kind, kind), 4e-3, setting.epochs, 0, self.images)
                    for kind in sorted({"distill", "pretrain", "scratch", contender.kind})}
        if contender.budget == "time and teacher":
            weights = self.teacher() / "model.safetensors"
            commands["teacher-finetuned"] = "finetune", (
                "--weights", weights, *self.labelled(setting.finetune_epochs, self.images, self.finetune_rate, 0))
        self.measure_speeds("budget_speeds", commands)
        images, labelled = self.results["training_images"], self.results["labelled_images"]
        seconds = setting.epochs * images / self.speed("distill")
        if contender.budget == "time and teacher":
            seconds += setting.finetune_epochs * labelled / self.speed("teacher-finetuned")
        if contender.kind in ("scratch", "logits"):
            # A classifier is trained at once, and has the time of the student's fine-tuning, too.
            seconds += setting.finetune_epochs * labelled / self.speed("scratch")
        return round(seconds * self.speed(contender.kind) / (labelled if contender.kind == "scratch" else images), 1)

    def rate(self, contender):
        """The learning rate of a kind of training: the best of a grid, chosen on a split of the training part, by a probe
        where the training has no labels."""
        kind, rates = contender.kind, self.results["rates"]
        if self.setting.name == "quick":
            return 4e-3
        if kind in rates:
            return rates[kind]["chosen"]
        split = self.split()
        plain = points.Contender(kind, kind, "time" if kind in ("scratch", "logits") else "epochs")
        epochs = self.epochs(plain)
        tried = {}
        for rate in points.RATES[kind]:
            name = f"rates/{kind}-{rate}"
            command, flags = self.contender_flags(plain, rate, epochs, 0, split)
            folder = self.train(name, command, *flags)
            if command != "finetune":
                folder = self.probe(name, folder / "model.safetensors", split["labelled"], split["val"], 0)
            tried[str(rate)] = last(folder)["val_top1"]
        rates[kind] = {"tried": tried, "chosen": float(max(tried, key=tried.get))}
        self.save()
        return rates[kind]["chosen"]

    # Points

    def measure(self, name, folder, is_classifier, seed):
        """What a student is worth: fine-tuned, probed and by its neighbours; a classifier by its accuracy alone."""
        if is_classifier:
            return {"finetuned_top1": last(folder)["val_top1"]}
        weights = folder / "model.safetensors"
        finetuned = self.train(f"{name}-finetuned", "finetune", "--weights", weights,
                               *self.labelled(self.setting.finetune_epochs, self.images, self.finetune_rate, seed))
        train, val = self.images["train"], self.images["val"]
        probe = self.probe(name, weights, train, val, seed)
        report = run([self.dmae, "knn", "--weights", weights, "--pool", "mean", "--k", "20", "--no-baselines", "--json",
                      "--quiet", "--train", train, "--val", val], stdout=subprocess.PIPE).stdout
        return {"finetuned_top1": last(finetuned)["val_top1"], "probe_top1": last(probe)["val_top1"],
                "knn_top1": json.loads(report)["k"]["20"]["top1"]}

    def probe(self, name, weights, train, val, seed):
        return self.train(f"{name}-probe", "probe", "--weights", weights, "--augment", "none", "--pool", "mean",
                          "--base-learning-rate", "1.6", "--effective-batch", "1024", "--batch", "1024", "--epochs", "50",
                          "--evaluate-every", "50", "--seed", seed, "--train", train, "--val", val)

    def measure_teacher(self):
        if not self.results["teacher"]:
            folder = self.teacher()
            self.results["teacher"] = self.measure("teacher", folder, False, 0)
            self.save()

    def point(self, claim, contender, seed):
        key = {"kind": contender.kind, "budget": contender.budget, "flags": list(contender.flags), "seed": seed}
        for row in self.results["rows"]:
            if all(row[name] == value for name, value in key.items()):
                claims = row["claims"]
                if [claim.number, contender.name] not in claims:
                    claims.append([claim.number, contender.name])
                    self.save()
                return
        print(f"claim {claim.number}, {self.setting.name}: {contender.name}, seed {seed}", flush=True)
        rate, epochs = self.rate(contender), self.epochs(contender)
        command, flags = self.contender_flags(contender, rate, epochs, seed, self.images)
        name = re.sub(r"[^a-z0-9.]+", "-", contender.name.lower()) + f"-{seed}"
        folder = self.train(name, command, *flags)
        row = {"claims": [[claim.number, contender.name]], **key, "epochs": epochs, "base_learning_rate": rate,
               "commit": self.commit, "date": str(date.today()),
               **self.measure(name, folder, command == "finetune", seed)}
        self.results["rows"].append(row)
        self.save()
        print("  " + ", ".join(f"{key.removesuffix('_top1')} {100 * value:.1f} %" for key, value in row.items()
                               if key.endswith("_top1")), flush=True)

    def summary(self, claim):
        """The points of a claim as a table: means over the seeds, and standard deviations."""
        measures = ("finetuned_top1", "probe_top1", "knn_top1")
        print(f"\nclaim {claim.number}, {self.setting.name}: {claim.title}")
        print(f"{'':50}{'seeds':>6}{'epochs':>8}{'fine-tuned':>14}{'probe':>14}{'k-NN':>14}")
        for contender in claim.contenders:
            rows = [row for row in self.results["rows"] if [claim.number, contender.name] in row["claims"]]
            self.print_row(contender.name, len(rows), rows[0]["epochs"], [[row[key] for row in rows if key in row]
                                                                          for key in measures])
        self.print_row("the teacher", 1, self.setting.teacher_epochs, [[self.results["teacher"][key]] for key in measures])

    @staticmethod
    def print_row(name, seeds, epochs, measures):
        cells = [spread(values) for values in measures]
        print(f"{name:50}{seeds:6}{epochs:8g}{cells[0]:>14}{cells[1]:>14}{cells[2]:>14}", flush=True)

    def save(self):
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.results, indent=1) + "\n")
        part.rename(self.path)


def run(command, **options):
    result = subprocess.run([str(part) for part in command], text=True, **options)
    if result.returncode:
        sys.exit(f"claims: {' '.join(str(part) for part in command)} ended with {result.returncode}; when that is mended, make "
                 "claims goes on from here")
    return result


def replaced(flags, own):
    """`flags` and a contender's own, which take the place of common ones."""
    flags = list(flags)
    for flag in {flag for flag in own if str(flag).startswith("--")} & set(flags):
        del flags[flags.index(flag):flags.index(flag) + 2]
    return flags + list(own)


def spread(values):
    if not values:
        return ""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation} %"


def last(folder):
    """The last evaluation of a run: choosing the best one would choose by the held-out images."""
    return json.loads((folder / "evaluation.json").read_text())["last"]["values"]


def sizes(setting):
    return {"name": setting.name, "patch": setting.patch, "teacher": list(setting.teacher), "student": list(setting.student),
            "decoder": list(points.DECODER), "teacher_epochs": setting.teacher_epochs, "epochs": setting.epochs,
            "finetune_epochs": setting.finetune_epochs, "labels_of_a_class": setting.labels, "batch": setting.batch,
            "crop": setting.crop, "align": setting.align, "images": list(setting.images),
            "masked": list(PRETRAIN), "finetune": list(FINETUNE)}


def speed_name(contender):
    return " ".join((contender.kind, *contender.flags))


def files_of(folder):
    return sum(1 for _ in folder.glob("*/*.png"))


def machine():
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return f"{len(os.sched_getaffinity(0))} cores, {model[1] if model else platform.machine()}"


def commit(dmae):
    """The commit that the program was built from, as it says itself; + for one with changes."""
    version = run([dmae, "--version"], stdout=subprocess.PIPE).stdout
    return re.search(r"[0-9a-f]{7,40}\+?", version)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dmae", type=Path, default=ROOT / ".build/dmae")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and data sets")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--claim", type=int, action="append", help="only this claim; may be repeated")
    parser.add_argument("--setting", action="append", help="only this setting; may be repeated")
    arguments = parser.parse_args()
    arguments.dmae, arguments.work = arguments.dmae.resolve(), arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    claims = [claim for claim in (points.QUICK_CLAIMS if arguments.quick else points.CLAIMS)
              if (not arguments.claim or claim.number in arguments.claim)
              and (not arguments.setting or claim.setting.name in arguments.setting)]
    benches = {}
    for claim in claims:
        bench = benches.setdefault(claim.setting.name, Bench(arguments, claim.setting))
        for seed in range(max(contender.seeds for contender in claim.contenders)):
            for contender in claim.contenders:
                if seed < contender.seeds:
                    bench.point(claim, contender, seed)
        bench.measure_teacher()
        bench.summary(claim)
    for name, bench in benches.items():
        bench.measure_contenders([contender for claim in claims if claim.setting.name == name for contender in claim.contenders])


if __name__ == "__main__":
    main()
