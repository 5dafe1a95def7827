"""Faults in single system calls: each call of a command fails, once or from then on, or the process is killed there.

A command that fails must end by itself, with an exit code and a sentence; leave earlier results or none; and succeed
when it is given again, with the bytes of the undisturbed command.
"""

import re

import programs
import running
from trials import Trial

# What each call may fail with: a full disk, a damaged one, a file system that became read-only, missing rights, an
# interruption by a signal, and too little memory.
ERRORS = {
    "open": ["EACCES", "EMFILE", "EIO", "EINTR"],
    "openat": ["EACCES", "EMFILE", "EIO", "EROFS", "ENOSPC", "EINTR"],
    "read": ["EIO", "EINTR"],
    "pread64": ["EIO", "EINTR"],
    "readv": ["EIO"],
    "write": ["ENOSPC", "EIO", "EDQUOT", "EINTR"],
    "writev": ["ENOSPC", "EIO"],
    "pwrite64": ["ENOSPC", "EIO", "EINTR"],
    "fsync": ["EIO", "ENOSPC", "EDQUOT", "EINTR"],
    "fdatasync": ["EIO", "ENOSPC", "EINTR"],
    "rename": ["EIO", "ENOSPC", "EACCES", "EROFS"],
    "renameat": ["EIO", "ENOSPC"],
    # EINVAL, ENOSYS: file systems and kernels that always replace.
    "renameat2": ["EIO", "ENOSPC", "EACCES", "EROFS", "EINVAL", "ENOSYS"],
    "unlink": ["EIO", "EACCES", "EROFS"],
    "rmdir": ["EIO", "EACCES"],
    "mkdir": ["EACCES", "ENOSPC", "EROFS", "EIO"],
    "ftruncate": ["EIO", "ENOSPC", "EINTR"],
    "fallocate": ["EIO"],
    "mmap": ["ENOMEM"],
    "munmap": ["ENOMEM"],
    "mprotect": ["ENOMEM"],
    "mremap": ["ENOMEM"],
    "madvise": ["EAGAIN", "EIO"],
    "fstat": ["EIO"],
    "newfstatat": ["EIO", "EACCES"],
    "statx": ["EIO"],
    "lstat": ["EIO"],
    "access": ["EIO", "EACCES"],
    "getdents64": ["EIO", "ENOMEM"],
    "close": ["EIO", "EINTR"],
    "flock": ["ENOLCK", "EINTR", "EIO"],
    "lseek": ["EIO"],
    "fcntl": ["EIO"],
    "readlink": ["EIO", "EACCES"],
    "getcwd": ["ENOENT"],
    "clone3": ["EAGAIN", "ENOMEM"],
    "clone": ["EAGAIN"],
    "prlimit64": ["EPERM"],
    "sysinfo": ["EPERM"],
    "sigaltstack": ["ENOMEM"],
}
# Not brk: where the heap cannot grow, the kernel returns its present end, which strace cannot. Limits of memory try that.
MEMORY = {"mmap", "munmap", "mprotect", "mremap", "madvise", "clone3", "clone"}
"""Calls whose failure is one of memory or of threads: there Swift's runtime may end the process, with a sentence."""
STORES = {"write", "writev", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "mkdir", "ftruncate"}
"""Calls whose failure means that a result is not stored: success must not be reported."""
HARMLESS = {"EINTR", "EINVAL", "ENOSYS"}
"""Errors after which a command may succeed in another way."""
FAULT_OF_ITS_OWN = "ended by a fault of its own"
SENTENCE = re.compile(r"^error: .{20,}", re.M)
CODES = {1, 64, 65, 74}
SECONDS = 60
"""A command takes a tenth of a second, and a machine may be busy."""


def said(end, allows_fault):
    """What is wrong with how a command ended."""
    if end.late:
        return [f"{end}: it hangs"]
    if end.signal is not None:
        return [f"{end} without a sentence: {end.errors[-300:]!r}"]
    if end.code == 0:
        return []
    # The C library itself, before the program's first instruction.
    if end.code == 127 and "error while loading shared libraries" in end.errors:
        return []
    if end.code not in CODES:
        return [f"{end}: {end.errors[-300:]!r}"]
    # Standard error itself may be what failed.
    if any(re.search(r"\(2<", hit) for hit in end.hits):
        return []
    if not SENTENCE.search(end.errors):
        return [f"{end}, but no sentence: {end.errors[-300:]!r}"]
    if FAULT_OF_ITS_OWN in end.errors and not allows_fault:
        return [f"{end} by a fault of its own: {end.errors[-500:]!r}"]
    return []


def is_own_file(hit, folder, program):
    """Whether a call was about a result of the command."""
    if folder not in hit:
        # Standard output is a file in the folder, too.
        return False
    rest = hit.replace(folder + "/said.", "")
    # A new folder of a run is synced in its parent if that is possible; kept indexes of archives are made again.
    return folder + "/" in rest and "/archives" not in rest and "/cache" not in rest


def silent(program, folder, end, call, error):
    """Success was reported though a result was not stored."""
    if end.code != 0 or call not in STORES or error in HARMLESS:
        return []
    hits = [hit for hit in end.hits if is_own_file(hit, folder, program)]
    # Files that the run does not need; a sentence says that they lack something.
    if "; the run goes on" in end.errors or call == "close":
        hits = [hit for hit in hits if not re.search(r"/run/(starts\.jsonl|tensorboard)\b", hit)]
    return [f"exit code 0 although it failed: {hits[0]}"] if hits else []


def repeat(program, inputs, folder, end):
    """The same command again: what a user does after a failure."""
    if end.code == 0:
        return []
    words = [inputs.binary] + program.again
    again = running.run(words, folder, SECONDS)
    if again.code != 0:
        return [
            f"after {end} ({end.errors.strip()[-200:]!r}) the next command ended with {again}: {again.errors[-300:]!r}"
        ]
    return [f"the command after it: {wrong}" for wrong in programs.judge(program, folder, again, kills=True)]


def injection(call, fault):
    """The fault in strace's words."""
    return "signal=KILL" if fault == "KILL" else f"error={fault}"


def trial(program, inputs, call, fault, when):
    """One fault. `fault`: an error's name, or KILL."""
    kills = fault == "KILL"
    words = [inputs.binary] + program.words

    def body(folder):
        program.prepare(folder)
        end = running.inject(words, folder, call, injection(call, fault), when, SECONDS)
        if not end.hits and end.code == 0:
            return None
        if kills:
            wrong = [f"{end} instead of SIGKILL"] if end.late or (end.signal != 9 and end.code != 0) else []
        else:
            wrong = said(end, allows_fault=call in MEMORY)
            wrong += silent(program, folder, end, call, fault)
        # A part that cannot be removed is left.
        wrong += programs.judge(program, folder, end, kills=kills or call in ("unlink", "rmdir"))
        if not wrong:
            wrong += repeat(program, inputs, folder, end)
        if wrong:
            wrong.append(
                "command: " + running.shell(running.inject_words(words, call, injection(call, fault), when, "record"))
            )
        return wrong

    kind = (
        "killed at a system call"
        if kills
        else "system call fails " + ("from then on" if when.endswith("+") else "once")
    )
    return Trial(kind, f"calls {program.name} {call} {fault} {when}", body)


def error_trials(program, inputs):
    """Every call, every error, once and from then on."""
    trials = []
    for call, errors in ERRORS.items():
        for number in range(1, program.calls.get(call, 0) + 1):
            for error in errors:
                trials.append(trial(program, inputs, call, error, f"{number}"))
                # Interrupted for ever is no fault that exists.
                if error != "EINTR":
                    trials.append(trial(program, inputs, call, error, f"{number}+"))
    return trials


def kill_trials(program, inputs):
    """A kill at every call. Those that wait for other threads come in no fixed number."""
    unfixed = {"futex", "execve", "exit_group", "exit", "sched_yield", "nanosleep", "clock_nanosleep"}
    return [
        trial(program, inputs, call, "KILL", f"{number}")
        for call, count in sorted(program.calls.items())
        if call not in unfixed
        for number in range(1, count + 1)
    ]


def short(trials, random, count):
    """A part of the trials: first of every command and call, then of every error, the rest at random."""
    if len(trials) <= count:
        return trials
    order = list(trials)
    random.shuffle(order)
    seen, first, rest = set(), [], []
    for one in order:
        _, program, call, _, _ = one.name.split(" ")
        (rest if (program, call) in seen else first).append(one)
        seen.add((program, call))
    return (first + rest)[:count]
