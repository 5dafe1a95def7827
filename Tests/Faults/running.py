"""Runs the program: plainly, traced by strace, or with a fault that strace injects into one of its system calls."""

import dataclasses
import os
import re
import shlex
import signal
import subprocess
import time

STRACE = "/usr/bin/strace"


@dataclasses.dataclass
class End:
    """How a process ended, and what it said."""

    code: int | None
    """The exit code; None if a signal ended it or its time was up."""
    signal: int | None
    late: bool
    output: str
    errors: str
    seconds: float
    hits: list = dataclasses.field(default_factory=list)
    """The lines of strace's record that tell of the injected fault."""

    def __str__(self):
        if self.late:
            return f"did not end within {self.seconds:.0f} s"
        if self.signal is not None:
            return f"ended by {signal.Signals(self.signal).name}"
        return f"exit code {self.code}"


def environment(folder):
    """What a child sees: nothing of the caller's that would change its words, and a cache of its own."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": folder,
        "XDG_CACHE_HOME": os.path.join(folder, "cache"),
        "LC_ALL": "C.UTF-8",
        "OMP_WAIT_POLICY": "passive",
    }


def heed_signals():
    """Called in a child: a shell's background job ignores SIGINT, and below nohup SIGHUP, and so would the program."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def run(words, folder, seconds, prelude=None, kill_after=None, kill_by=signal.SIGKILL):
    """Runs `words` in `folder` until it ends, or for at most `seconds`.

    prelude: called in the child before the program starts, to set limits.
    kill_after: seconds after which `kill_by` is sent.
    """
    start = time.monotonic()

    def begin():
        heed_signals()
        if prelude:
            prelude()

    with open(os.path.join(folder, "said.output"), "w+b") as output, open(
        os.path.join(folder, "said.errors"), "w+b"
    ) as errors:
        child = subprocess.Popen(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment(folder),
            start_new_session=True,
            preexec_fn=begin,
        )
        late = False
        try:
            try:
                if kill_after is not None:
                    try:
                        child.wait(kill_after)
                    except subprocess.TimeoutExpired:
                        child.send_signal(kill_by)
                child.wait(max(1, seconds - (time.monotonic() - start)))
            except subprocess.TimeoutExpired:
                late = True
        finally:
            if child.returncode is None:
                # strace and the program share the group.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    for name in ("said.output", "said.errors"):
        os.remove(os.path.join(folder, name))
    code = child.returncode
    return End(
        code if not late and code >= 0 else None,
        -code if not late and code < 0 else None,
        late,
        *texts,
        time.monotonic() - start,
    )


def can_trace():
    """Whether processes may be traced here."""
    try:
        words = [STRACE, "-f", "-o", "/dev/null", "/bin/true"]
        return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def count_calls(words, folder, seconds):
    """The number of times that one thread makes each system call, the maximum over the threads; and the end."""
    record = os.path.join(folder, "record")
    end = run([STRACE, "-f", "-qq", "-o", record] + words, folder, seconds)
    counts = {}
    with open(record, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            # "1234 openat(…" or "1234 <... openat resumed>…", which was counted at its beginning.
            match = re.match(r"(\d+)\s+(\w+)\(", line)
            if match:
                calls = counts.setdefault(match[1], {})
                calls[match[2]] = calls.get(match[2], 0) + 1
    os.remove(record)
    totals = {}
    for calls in counts.values():
        for call, count in calls.items():
            totals[call] = max(totals.get(call, 0), count)
    return totals, end


def inject_words(words, call, fault, when, record):
    """The command that runs `words` with `fault` ("error=EIO", "signal=KILL") at the calls `when` ("3", "3+")."""
    return [
        STRACE,
        "-f",
        "-qq",
        "-y",
        "-o",
        record,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:{fault}:when={when}",
    ] + words


def inject(words, folder, call, fault, when, seconds):
    """Runs `words` with a fault. See `inject_words`."""
    record = os.path.join(folder, "record")
    end = run(inject_words(words, call, fault, when, record), folder, seconds)
    try:
        with open(record, encoding="utf-8", errors="replace") as lines:
            text = lines.read()
        os.remove(record)
    except FileNotFoundError:
        text = ""
    end.hits = [line for line in text.splitlines() if "(INJECTED)" in line]
    if fault.startswith("signal") and (end.signal or "+++ killed by" in text):
        end.hits.append("killed")
    return end


def shell(words):
    """The command as one types it."""
    return " ".join(shlex.quote(word) for word in words)
