"""Signals at random moments: runs are killed, or asked to stop, and resumed until they are finished; commands that write
files are killed and given again. The bytes at the end are those of the undisturbed command."""

import os
import signal

import programs
import running
import system_calls
from trials import Trial

SIGNALS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]
STOPPED = {75}


def run_trial(program, inputs, number, random, seconds):
    """A run, interrupted again and again. seconds: what the undisturbed one takes."""
    moments = [(random.random() ** 2 * seconds, random.choice(SIGNALS)) for _ in range(12)]
    threads = [random.randrange(1, 4) for _ in moments]

    def body(folder):
        program.prepare(folder)
        history, wrong = [], []
        for (moment, by), count in zip(moments, threads):
            words = [inputs.binary] + with_threads(program.again, count)
            end = running.run(words, folder, system_calls.SECONDS, kill_after=moment, kill_by=by)
            history.append(f"{by.name} after {moment:.4f} s: {end}")
            if end.code == 0:
                break
            if end.late:
                wrong.append(f"{end}: it hangs")
            elif end.signal is not None and end.signal != by or end.signal is None and end.code not in STOPPED:
                wrong.append(f"{end}: {end.errors[-300:]!r}")
            wrong += programs.judge(program, folder, end, kills=end.signal is not None)
            if wrong:
                break
        if not wrong:
            end = running.run([inputs.binary] + program.again, folder, system_calls.SECONDS)
            if end.code != 0:
                wrong.append(f"{end}: {end.errors[-300:]!r}")
            wrong += programs.judge(program, folder, end)
        return wrong + (["history: " + "; ".join(history)] if wrong else [])

    return Trial("random signals, resumed to the end", f"signals {program.name} {number}", body)


def with_threads(words, count):
    """The command with another number of threads, which does not change its result."""
    words = list(words)
    words[words.index("--threads") + 1] = str(count)
    words[words.index("--workers") + 1] = str(1 + count % 2)
    return words


def command_trial(program, inputs, number, random, seconds):
    """A command that writes files, interrupted once, then given again."""
    moment, by = random.random() * seconds * 1.2, random.choice(SIGNALS[:5])

    def body(folder):
        program.prepare(folder)
        words = [inputs.binary] + program.words
        end = running.run(words, folder, system_calls.SECONDS, kill_after=moment, kill_by=by)
        wrong = []
        # The signal itself ends such a command.
        if end.late or end.signal not in (None, by) or end.signal is None and end.code not in (0, 128 + by):
            wrong.append(f"{end} after {by.name}: {end.errors[-300:]!r}")
        wrong += programs.judge(program, folder, end, kills=by == signal.SIGKILL)
        if not wrong:
            wrong += system_calls.repeat(program, inputs, folder, end)
        return wrong + ([f"{by.name} after {moment:.4f} s: {running.shell(words)}"] if wrong else [])

    return Trial("random signals, given again", f"signals {program.name} {number}", body)
