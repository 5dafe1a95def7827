#!/usr/bin/env python3
"""Trains for hours, with checkpoints every few steps, and interrupts it again and again: `make soak HOURS=1`.

    soak.py --dmae .build/dmae --hours 1 --work .build/soak
    soak.py --dmae .build/dmae --minutes 5

A distillation of the demo is run, killed (SIGKILL) or asked to stop (SIGTERM, SIGINT, SIGHUP) at random moments, and
resumed with other numbers of threads, until it is finished; then the next one begins, with another seed. Each ends in
the bytes of an undisturbed run with the same seed: model.safetensors, and every value of the log that is not
measured. Meanwhile resident memory, open files and threads of each process are watched; its parts are removed, and
nothing else is left in the folder.

The state is kept in WORK/soak.json: the same command goes on after it was stopped itself. Ends with 1 if something did
not hold.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import programs
import running

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SIGNALS = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
WATCH_SECONDS = 0.25
SETTLED_SECONDS = 3
"""After that a process has mapped what it needs."""
LAST_SECONDS = 2
"""At its end a run reads its whole log for a table."""
GROWTH = 0.02
"""The allowed growth of resident memory of a process after it has settled; a page of a stack may come late."""
PAGES = 64 * 4096


class Watch:
    """Memory, open files and threads of one process over its life."""

    def __init__(self, process):
        self.process = process
        self.start = time.monotonic()
        self.found = []
        self.peak = {}

    def look(self):
        try:
            with open(f"/proc/{self.process}/status", encoding="ascii", errors="replace") as lines:
                status = dict(line.split(":", 1) for line in lines if ":" in line)
            found = {
                "memory": int(status["VmRSS"].split()[0]) * 1024,
                "threads": int(status["Threads"]),
                "files": len(os.listdir(f"/proc/{self.process}/fd")),
                "maps": sum(1 for _ in open(f"/proc/{self.process}/maps", encoding="utf-8", errors="replace")),
            }
        except (OSError, KeyError, ValueError):
            return
        self.found.append((time.monotonic(), found))
        for key, value in found.items():
            self.peak[key] = max(self.peak.get(key, 0), value)

    def settled(self):
        """What was found first and last, while training went on."""
        end = time.monotonic() - LAST_SECONDS
        return [found for moment, found in self.found if self.start + SETTLED_SECONDS <= moment <= end]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dmae", default=os.path.join(ROOT, ".build/dmae"), help="the program")
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--minutes", type=float, help="in place of --hours")
    parser.add_argument("--work", default=os.path.join(ROOT, ".build/soak"), help="the folder of runs and state")
    parser.add_argument("--seed", type=int, help="seed of the moments and signals")
    parser.add_argument("--steps", type=int, default=4000, help="optimiser steps of a run")
    parser.add_argument("--again", action="store_true", help="forget an earlier soak")
    options = parser.parse_args()
    wanted = options.minutes * 60 if options.minutes else options.hours * 3600
    binary, work = os.path.abspath(options.dmae), os.path.abspath(options.work)
    if options.again:
        shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, exist_ok=True)
    path = os.path.join(work, "soak.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
        if state["finished"] or state["steps_of_a_run"] != options.steps:
            print(
                "an earlier soak has ended, or was another: --again forgets it"
                if state["finished"]
                else "the earlier soak has runs of another length: --again forgets it"
            )
            report(state)
            raise SystemExit(1 if state["wrong"] else 0)
        print(f"going on after {state['seconds'] / 60:.1f} minutes, seed {state['seed']}")
    else:
        seed = options.seed if options.seed is not None else random.randrange(1 << 32)
        state = {
            "seed": seed,
            "seconds": 0.0,
            "finished": False,
            "wrong": [],
            "runs": 0,
            "run": 0,
            "starts": 0,
            "resumes": 0,
            "signals": {},
            "steps": 0,
            "repeated_steps": 0,
            "checkpoints": 0,
            "steps_of_a_run": options.steps,
            "longest_seconds": 0,
            "memory_first": None,
            "memory_last": None,
            "memory_growth": 0,
            "memory_peak": 0,
            "files_first": None,
            "files_last": None,
            "files_peak": 0,
            "files_growth": 0,
            "threads_peak": 0,
            "maps_growth": 0,
        }
        print(f"seed {seed}")

    def save():
        part = path + ".part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump(state, file, indent=1)
        os.replace(part, path)

    inputs = programs.Inputs(binary, os.path.join(ROOT, "Fixtures"), work)
    while state["seconds"] < wanted and not state["wrong"]:
        if not soak(binary, inputs, work, state, save, wanted):
            break
    state["finished"] = True
    save()
    report(state)
    raise SystemExit(1 if state["wrong"] else 0)


def words(binary, inputs, output, seed, steps, threads, workers):
    epochs = steps * 8 / 9
    # Without --quiet: lines of progress are part of what must not grow.
    return [
        binary,
        "distill",
        "--recipe",
        "demo",
        "--teacher",
        inputs["teacher.safetensors"],
        "--data",
        inputs["flat"],
        "--epochs",
        f"{epochs:.6f}",
        "--align",
        "1:0",
        "--precision",
        "f32",
        "--checkpoint-every",
        "7",
        "--keep",
        "3",
        "--seed",
        str(seed),
        "--threads",
        str(threads),
        "--workers",
        str(workers),
        "--output",
        output,
        "--resume",
        "auto",
    ] + programs.MODEL


def step_of(folder):
    """The steps in the log, and those of the newest checkpoint."""
    try:
        with open(os.path.join(folder, "log.jsonl"), "rb") as file:
            steps = file.read().count(b"\n")
        newest = max((int(m[1]) for m in map(programs.CHECKPOINT.search, os.listdir(folder)) if m), default=0)
        return steps, newest
    except OSError:
        return 0, 0


def soak(binary, inputs, work, state, save, wanted):
    """One run to its end; False if the time was up before. Everything that comes of chance follows from seed and run."""
    number, steps = state["run"], state["steps_of_a_run"]
    folder = os.path.join(work, "run")
    if state.get("begun") != number:
        shutil.rmtree(folder, ignore_errors=True)
        state["begun"] = number
        save()
    while True:
        chance = random.Random(f"{state['seed']} {number} {state['starts']}")
        end_by, moment = chance.choice(SIGNALS), chance.choice([0.05, 0.3, 1, 3, 10]) * (0.3 + chance.random())
        # Some processes live long enough for growth to show.
        if chance.random() < 0.08:
            moment = 60
        done, newest = step_of(folder)
        command = words(binary, inputs, folder, number, steps, chance.randrange(1, 3), chance.randrange(1, 4))
        began = time.monotonic()
        with open(os.path.join(work, "said"), "wb") as said:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=running.environment(work),
                start_new_session=True,
                preexec_fn=running.heed_signals,
            )
            watch = Watch(child.pid)
            while child.poll() is None and time.monotonic() - began < moment:
                watch.look()
                time.sleep(min(WATCH_SECONDS, max(0.001, moment - (time.monotonic() - began))))
            is_asked = child.poll() is None
            if is_asked:
                child.send_signal(end_by)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                state["wrong"].append(f"run {number} did not end within a minute of {end_by.name}")
        seconds = time.monotonic() - began
        state["seconds"] += seconds
        state["longest_seconds"] = max(state["longest_seconds"], seconds)
        state["starts"] += 1
        state["resumes"] += newest > 0
        if is_asked:
            state["signals"][end_by.name] = state["signals"].get(end_by.name, 0) + 1
        after, now = step_of(folder)
        state["steps"] += max(0, after - newest)
        state["repeated_steps"] += max(0, done - newest)
        state["checkpoints"] += max(0, now - newest) // 7
        judge_growth(watch, state, number)
        code = child.returncode
        expected = {0, 75}
        # In the first moments the program has not yet said what a signal means.
        if is_asked and (end_by == signal.SIGKILL or moment < 0.5):
            expected.add(-end_by)
        if code not in expected:
            with open(os.path.join(work, "said"), encoding="utf-8", errors="replace") as file:
                state["wrong"].append(f"run {number} ended with {code}: {file.read()[-400:]}")
        save()
        if state["wrong"]:
            return False
        if code == 0:
            break
        if state["seconds"] >= wanted:
            # The run is carried to its end, without signals: its bytes count.
            if not reaches_its_end(words(binary, inputs, folder, number, steps, 2, 2), work):
                state["wrong"].append(f"run {number} did not come to its end")
            break
    whole = os.path.join(work, "undisturbed")
    shutil.rmtree(whole, ignore_errors=True)
    if not reaches_its_end(words(binary, inputs, whole, number, steps, 2, 1), work):
        state["wrong"].append(f"the undisturbed run {number} failed")
        return False
    compare(folder, whole, number, state)
    if state["wrong"]:
        save()
        return False
    state["runs"] += 1
    state["run"] += 1
    save()
    print(
        f"run {number}: the bytes of the undisturbed run; {state['seconds'] / 60:.1f} minutes, {state['starts']} starts",
        flush=True,
    )
    return True


def reaches_its_end(words, work):
    """Whether an undisturbed process of a run ends with 0."""
    return (
        subprocess.run(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=running.environment(work)
        ).returncode
        == 0
    )


def judge_growth(watch, state, number):
    for key, value in watch.peak.items():
        if f"{key}_peak" in state:
            state[f"{key}_peak"] = max(state[f"{key}_peak"], value)
    settled = watch.settled()
    if not settled:
        return
    first, last = settled[0], settled[-1]
    for key in ("memory", "files"):
        if state[f"{key}_first"] is None:
            state[f"{key}_first"] = first[key]
        state[f"{key}_last"] = last[key]
    for key in ("memory", "files", "maps"):
        state[f"{key}_growth"] = max(state[f"{key}_growth"], last[key] - first[key])
    if last["memory"] > first["memory"] * (1 + GROWTH) + PAGES:
        state["wrong"].append(
            f"memory of a process of run {number} grew from {first['memory']} to {last['memory']} bytes"
        )
    if last["files"] > first["files"] + 2:
        state["wrong"].append(
            f"open files of a process of run {number} grew from {first['files']} to {last['files']}"
        )


def compare(folder, whole, number, state):
    one, other = programs.read(folder), programs.read(whole)
    if one["model.safetensors"] != other["model.safetensors"]:
        state["wrong"].append(f"run {number} ended in another model.safetensors")
    if programs.unmeasured(one["log.jsonl"]) != programs.unmeasured(other["log.jsonl"]):
        state["wrong"].append(f"run {number} ended in another log")
    strange = {name for name in set(one) ^ set(other) if not programs.is_abandoned(name)}
    if strange:
        state["wrong"].append(f"run {number} left other files: {', '.join(sorted(strange))}")


def report(state):
    def megabytes(value):
        return "–" if value is None else f"{value / 1e6:.1f} MB"

    kills = ", ".join(f"{count} {name}" for name, count in sorted(state["signals"].items()))
    print(
        f"""
seed {state['seed']}, {state['seconds'] / 60:.1f} minutes of training
runs finished     {state['runs']}, each with the bytes of an undisturbed one
starts            {state['starts']}, of them resumed {state['resumes']}
signals           {sum(state['signals'].values())}: {kills}
optimiser steps   {state['steps']}, of them again after a kill {state['repeated_steps']}
checkpoints       about {state['checkpoints']}
resident memory   {megabytes(state['memory_first'])} at the start, {megabytes(state['memory_last'])} at the end; """
        f"""most growth of a process {megabytes(state['memory_growth'])}; peak {megabytes(state['memory_peak'])}
open files        {state['files_first']} at the start, {state['files_last']} at the end; most growth of a process """
        f"""{state['files_growth']}; peak {state['files_peak']}
mappings          most growth of a process {state['maps_growth']}; threads at most {state['threads_peak']}
longest process   {state['longest_seconds']:.0f} s"""
    )
    for wrong in state["wrong"]:
        print(f"FAILED: {wrong}")


if __name__ == "__main__":
    main()
