"""Limits of memory: each command below a ladder of limits of its address space (`ulimit -v`), with several threads, and,
where the machine allows that, in control groups with little memory.

It ends with the undisturbed result, or with a sentence. What the run needs, and what the system allows, is for the
program to find out.
"""

import os
import resource

import programs
import running
import system_calls
from trials import Trial


def ladder(lowest=16 << 20, highest=1 << 30, steps=24):
    """Limits in bytes, each larger than the one before by the same factor."""
    factor = (highest / lowest) ** (1 / (steps - 1))
    return [round(lowest * factor**step) >> 12 << 12 for step in range(steps)]


def trial(program, inputs, limit, threads):
    words = [inputs.binary] + [
        str(threads) if before == "--threads" else word for before, word in zip([""] + program.words, program.words)
    ]

    def body(folder):
        program.prepare(folder)
        end = running.run(
            words,
            folder,
            system_calls.SECONDS,
            prelude=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        # The kernel ends a program that does not fit at all before its first instruction.
        if end.signal is not None and end.errors == "" and limit < 24 << 20:
            return None
        wrong = system_calls.said(end, allows_fault=True)
        wrong += programs.judge(program, folder, end)
        if not wrong:
            wrong += system_calls.repeat(program, inputs, folder, end)
        return wrong + ([f"(ulimit -v {limit >> 10}; {running.shell(words)})"] if wrong else [])

    return Trial("limit of memory", f"memory {program.name} {limit >> 10} {threads}", body)


def trials(all_programs, inputs, steps):
    return [
        trial(program, inputs, limit, threads)
        for program in all_programs
        for limit in ladder(steps=steps)
        for threads in ([1, 2, 8] if "--threads" in program.words else [1])
    ]


class Group:
    """A control group with a limit of memory, of version 1 or 2."""

    PLACES = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]

    def __init__(self, name, limit):
        self.path = None
        for root, key in self.PLACES:
            path = os.path.join(root, f"dmae-faults-{os.getpid()}-{name}")
            try:
                os.mkdir(path)
            except OSError:
                continue
            self.path = path
            try:
                with open(os.path.join(path, key), "w", encoding="ascii") as file:
                    file.write(str(limit))
                return
            except OSError:
                self.remove()

    def enter(self):
        """Called in the child."""
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))

    def remove(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass
        self.path = None


def groups_are_allowed():
    """Whether this process may make control groups with limits of memory."""
    group = Group("probe", 64 << 20)
    is_allowed = group.path is not None
    if is_allowed:
        group.remove()
    return is_allowed


def group_trial(program, inputs, limit):
    words = [inputs.binary] + program.words

    def body(folder):
        program.prepare(folder)
        group = Group(f"{program.name}-{limit}", limit)
        if group.path is None:
            return None
        try:
            end = running.run(words, folder, system_calls.SECONDS, prelude=group.enter)
        finally:
            group.remove()
        # The pages of the program itself do not fit.
        if end.signal == 9 and limit < 24 << 20:
            return None
        wrong = system_calls.said(end, allows_fault=True) + programs.judge(program, folder, end)
        if not wrong:
            wrong += system_calls.repeat(program, inputs, folder, end)
        return wrong + ([f"in a control group of {limit} bytes: {running.shell(words)}"] if wrong else [])

    return Trial("control group with little memory", f"memory group {program.name} {limit >> 10}", body)


def group_trials(all_programs, inputs, steps):
    if not groups_are_allowed():
        print("  control groups may not be made here: their limits are not tried", flush=True)
        return []
    return [
        group_trial(program, inputs, limit)
        for program in all_programs
        for limit in ladder(lowest=12 << 20, highest=128 << 20, steps=steps)
    ]
