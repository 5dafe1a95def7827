"""Limits of memory: each command below a ladder of limits of its address space (`ulimit -v`), with several threads.

It ends with the undisturbed result, or with a sentence. What the run needs, and what the system allows, is for the
program to find out.
"""

import resource

import programs
import running
import system_calls
from trials import Trial


def ladder(lowest=16 << 20, highest=1 << 30, steps=24):
    """Limits in bytes, each larger than the one before by the same factor."""
    factor = (highest / lowest) ** (1 / (steps - 1))
    return [round(lowest * factor ** step) >> 12 << 12 for step in range(steps)]


def trial(program, inputs, limit, threads):
    words = [inputs.binary] + [
        str(threads) if before == "--threads" else word for before, word in zip([""] + program.words, program.words)]

    def body(folder):
        program.prepare(folder)
        end = running.run(
            words, folder, system_calls.SECONDS, prelude=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
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
        trial(program, inputs, limit, threads) for program in all_programs for limit in ladder(steps=steps)
        for threads in ([1, 2, 8] if "--threads" in program.words else [1])
    ]
