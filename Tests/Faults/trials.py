"""Trials: each does one thing to the program and judges the result. They are counted by kind, and failures are listed."""

import concurrent.futures
import dataclasses
import os
import shutil
import sys
import threading
import time
import traceback


@dataclasses.dataclass
class Trial:
    kind: str
    """What is counted together."""
    name: str
    """What `--only` selects it by."""
    body: object
    """Called with an empty folder; returns a list of sentences, empty if all held, or None if the fault was not reached."""


class Runner:
    """Runs trials on several threads. Each has a folder, which is kept only where the trial failed."""

    def __init__(self, work, jobs, repeat, minutes=None):
        self.work = work
        self.jobs = jobs
        self.repeat = repeat
        """The command that repeats a trial, without its name."""
        self.deadline = time.monotonic() + minutes * 60 if minutes else None
        self.counts = {}
        self.failures = []
        self.left_out = 0
        self.lock = threading.Lock()

    def run(self, trials):
        started = time.monotonic()
        before = {kind: list(count) for kind, count in self.counts.items()}
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            for number, done in enumerate(pool.map(self.one, trials)):
                if sys.stderr.isatty() and number % 50 == 0:
                    print(f"\r{number} of {len(trials)} {trials[number].name[:60]:60}", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print("\r" + " " * 90 + "\r", end="", file=sys.stderr)
        for kind, (tried, held, unreached) in self.counts.items():
            earlier = before.get(kind, [0, 0, 0])
            if [tried, held, unreached] != earlier:
                note = f", {unreached} not reached" if unreached else ""
                print(f"{kind}: {tried} tried, {held} held{note}", flush=True)
        return time.monotonic() - started

    def one(self, trial):
        if self.deadline and time.monotonic() > self.deadline:
            with self.lock:
                self.left_out += 1
            return
        folder = os.path.join(self.work, "trials", trial.name.replace(" ", "_").replace("/", "_"))
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        try:
            wrong = trial.body(folder)
        except Exception:
            wrong = ["the test itself failed: " + traceback.format_exc()]
        with self.lock:
            count = self.counts.setdefault(trial.kind, [0, 0, 0])
            if wrong is None:
                count[2] += 1
            else:
                count[0] += 1
                count[1] += not wrong
                if wrong:
                    self.failures.append((trial, wrong, folder))
                    print(f"FAILED {trial.name}\n  " + "\n  ".join(wrong), flush=True)
        if not wrong:
            shutil.rmtree(folder, ignore_errors=True)

    def report(self):
        """Prints the counts and the failures; returns whether all held."""
        print("\nkind: tried, held")
        total = [0, 0]
        for kind, (tried, held, unreached) in sorted(self.counts.items()):
            print(f"  {kind}: {tried}, {held}" + (f" (and {unreached} faults not reached)" if unreached else ""))
            total = [total[0] + tried, total[1] + held]
        print(f"  all: {total[0]}, {total[1]}")
        if self.left_out:
            print(f"{self.left_out} left out, as the time was up")
        for trial, wrong, folder in self.failures:
            print(
                f"\nFAILED {trial.name}: {'; '.join(wrong)}\n  its folder: {folder}\n  again: {self.repeat} --only '{trial.name}'"
            )
        # Trials that try nothing prove nothing.
        return not self.failures and total[0] > 0
