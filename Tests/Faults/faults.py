#!/usr/bin/env python3
"""Tries to break dmae: `make test-faults`.

    faults.py --dmae .build/dmae                       every fault, some 62,000
    faults.py --dmae .build/dmae --short               the same part of them each time, in at most two minutes
    faults.py --dmae .build/dmae --part power          one part: calls, kills, folders, signals, memory or power
    faults.py --dmae .build/dmae --only 'calls embed rename'    the faults whose names begin so

Prints how many faults were tried and held, by kind, and of each that did not hold the command that repeats it. Ends
with 1 if there is one.
"""

import argparse
import os
import random
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import interruptions
import memory_limits
import power_loss
import programs
import run_folders
import running
import system_calls
from trials import Runner

PARTS = ["calls", "kills", "folders", "signals", "memory", "power"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dmae", default=os.path.join(ROOT, ".build/dmae"), help="the program")
    parser.add_argument("--short", action="store_true", help="a fixed part of the faults, in at most two minutes")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--command", action="append", help="only this command under test; may be repeated")
    parser.add_argument("--only", help="only the faults whose names begin with this text")
    parser.add_argument(
        "--share", type=float, default=1, help="fraction of the faults of single calls, chosen at random"
    )
    parser.add_argument("--seed", type=int, help="seed of what is chosen at random")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="faults at a time")
    parser.add_argument("--work", help="an empty or new folder for everything; a temporary one by default")
    options = parser.parse_args()
    seed = (
        options.seed
        if options.seed is not None
        else 1 if options.short or options.only else random.randrange(1 << 32)
    )
    parts = options.part or PARTS
    if options.only:
        first = options.only.split(" ")[0]
        parts = {"calls": ["calls", "kills"]}.get(first, [part for part in PARTS if part == first]) or PARTS
    binary = os.path.abspath(options.dmae)
    if not os.access(binary, os.X_OK):
        raise SystemExit(f"there is no {binary}: make build makes it")
    # A file system in memory if there is one: faults are about calls, not about disks.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = os.path.abspath(options.work) if options.work else tempfile.mkdtemp(prefix="dmae-faults-", dir=memory)
    os.makedirs(work, exist_ok=True)
    if not running.can_trace():
        if set(parts) & {"calls", "kills", "power", "folders"}:
            print("strace cannot trace here, so that no system call can be made to fail: install it, or allow ptrace")
        raise SystemExit(0 if options.short else 1)

    started = time.monotonic()
    print(f"seed {seed}, {options.jobs} at a time, in {work}", flush=True)
    inputs = programs.Inputs(binary, os.path.join(ROOT, "Fixtures"), work)
    everything = programs.all_programs(inputs)
    for command in options.command or []:
        if command not in {program.name for program in everything}:
            raise SystemExit(f"no command {command}: {', '.join(program.name for program in everything)}")
    chosen = [program for program in everything if not options.command or program.name in options.command]
    for program in everything:
        programs.learn(program, inputs)
    print(f"{len(everything)} undisturbed commands, {time.monotonic() - started:.0f} s", flush=True)

    repeat = f"{os.path.relpath(__file__)} --dmae {options.dmae} --seed {seed}" + (
        " --short" if options.short else ""
    )
    runner = Runner(work, options.jobs, repeat)

    def try_all(trials):
        if options.only:
            trials = [trial for trial in trials if trial.name.startswith(options.only)]
        seconds = runner.run(trials)
        print(f"  {seconds:.0f} s", flush=True)

    # Each part has random numbers of its own, so that one part alone repeats what it did among all.
    def numbers(part):
        return random.Random(f"{seed} {part}")

    by_name = {program.name: program for program in everything}
    for part in parts:
        print(f"-- {part}", flush=True)
        chance = numbers(part)
        if part in ("calls", "kills"):
            make = system_calls.error_trials if part == "calls" else system_calls.kill_trials
            trials = [trial for program in chosen for trial in make(program, inputs)]
            if part == "kills":
                # What only reads has nothing to lose.
                trials = [
                    t for t in trials if by_name[t.name.split(" ")[1]].files or by_name[t.name.split(" ")[1]].run
                ]
            whole = len(trials)
            if options.short:
                trials = system_calls.short(trials, chance, 500 if part == "calls" else 160)
            elif options.share < 1:
                trials = system_calls.short(trials, chance, round(whole * options.share))
            print(f"  {len(trials)} of {whole}", flush=True)
            try_all(trials)
        elif part == "folders":
            try_all(run_folders.trials(by_name["distill-resumed"], inputs, chance, 0.25 if options.short else 1))
        elif part == "signals":
            count = 2 if options.short else 40
            trials = []
            for name, seconds in [("distill", 0.3), ("finetune", 0.3), ("pretrain-tar", 0.3), ("probe", 0.3)]:
                trials += [
                    interruptions.run_trial(by_name[name], inputs, number, chance, seconds) for number in range(count)
                ]
            for program in everything:
                if program.files:
                    trials += [
                        interruptions.command_trial(program, inputs, number, chance, 0.06) for number in range(count)
                    ]
            try_all(trials)
        elif part == "memory":
            names = ["distill", "embed", "convert-archive", "knn", "inspect"]
            commands = [by_name[name] for name in names]
            try_all(
                memory_limits.trials(commands, inputs, 4 if options.short else 24)
                + memory_limits.group_trials(commands, inputs, 3 if options.short else 12)
            )
        elif part == "power":
            try_all(power_loss.trials(by_name, inputs, chance, options.short, options.share))
    if programs.digest(inputs.folder) != inputs.state:
        print("\nFAILED: an input was changed")
        raise SystemExit(1)
    held = runner.report()
    print(f"inputs unchanged; {time.monotonic() - started:.0f} s")
    if held and not options.work:
        import shutil

        shutil.rmtree(work)
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
