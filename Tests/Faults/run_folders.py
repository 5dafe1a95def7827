"""Crash states of a run's folder: files that are missing, empty, cut, changed, zeroed, exchanged, or not the run's at all.

`--resume auto` either ends with the bytes of the undisturbed run, or refuses with a sentence and leaves the folder's
checkpoints and weights as they are. Nothing outside the folder changes.
"""

import os
import stat

import programs
import running
import system_calls
from trials import Trial

FOREIGN = {
    "text": b"These are notes of somebody, not a file of a run.\n" * 20,
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
    "json": b'{"name": "something else", "values": [1, 2, 3]}\n',
}
STATES = {"model.safetensors", "best.safetensors", "raw.safetensors"}


def damages(name, content, others, random, share):
    """Ways in which a file may be found: (name, function of a path)."""

    def put(data):
        def change(path):
            with open(path, "wb") as file:
                file.write(data)

        return change

    ways = [("missing", os.remove), ("empty", put(b""))]
    size = len(content)
    cuts = (
        {1, 7, 8, 9, size // 3, size // 2, size - 1}
        | {size // 4096 * 4096}
        | {random.randrange(1, max(2, size)) for _ in range(3)}
    )
    ways += [(f"cut-{cut}", put(content[:cut])) for cut in sorted(cuts) if 0 < cut < size]
    ways.append(("longer", put(content + b"\0" * 100)))
    ways.append(("zeroed", put(b"\0" * size)))
    ways.append(("zeroed-end", put(content[: size // 2] + b"\0" * (size - size // 2))))
    for _ in range(4):
        place, bit = random.randrange(max(1, size)), random.randrange(8)
        if size:
            ways.append(
                (
                    f"bit-{place}-{bit}",
                    put(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]),
                )
            )
    ways += [(f"foreign-{what}", put(data)) for what, data in FOREIGN.items()]
    ways += [(f"is-{other}", put(data)) for other, data in others.items() if other != name]

    def becomes(make):
        def change(path):
            os.remove(path)
            make(path)

        return change

    ways.append(("folder", becomes(os.mkdir)))
    ways.append(("fifo", becomes(os.mkfifo)))
    ways.append(("link-nowhere", becomes(lambda path: os.symlink("nowhere", path))))
    ways.append(("link-outside", becomes(lambda path: os.symlink("../precious", path))))

    ways.append(("socket", becomes(lambda path: os.mknod(path, stat.S_IFSOCK | 0o600))))
    return ways if share == 1 else [way for way in ways if random.random() < share]


def trials(program, inputs, random, share=1):
    """For a run that was stopped: `program.earlier` is its folder."""
    whole = {name.removeprefix("run/"): content for name, content in program.earlier.items()}
    result = []
    for name, content in sorted(whole.items()):
        for way, change in damages(name, content, whole, random, share):
            result.append(
                Trial("damaged folder of a run", f"folders {name} {way}", body(program, inputs, name, change))
            )
    # A folder of parts and of files that are not the run's.
    strange = {f"strange-{what}": data for what, data in FOREIGN.items()} | {
        "checkpoint-00000009.safetensors": b"",
        "checkpoint-99999999999999999999.safetensors": b"",
        "checkpoint-00000004.safetensors.part-77-abc": b"part",
        "checkpoint-00000005.safetensors.abandoned": b"",
        "model.safetensors.part-1-1": b"",
        "log.jsonl.part-1-1": b"",
        "\udcff\udcfe": b"not UTF-8",
    }
    for name, data in strange.items():

        def add(path, data=data):
            with open(path, "wb") as file:
                file.write(data)

        shown = name.encode("ascii", "backslashreplace").decode()
        result.append(Trial("damaged folder of a run", f"folders {shown} added", body(program, inputs, name, add)))
    # Pairs of damages, at random.
    names = sorted(whole)
    for number in range(round(60 * share)):
        one, other = random.sample(names, 2)
        first = random.choice(damages(one, whole[one], whole, random, 1))
        second = random.choice(damages(other, whole[other], whole, random, 1))
        result.append(
            Trial(
                "damaged folder of a run",
                f"folders {number}-{one}-{first[0]} {other}-{second[0]}",
                body(program, inputs, one, first[1], other, second[1]),
            )
        )
    return result


def body(program, inputs, *changes):
    def one(folder):
        program.prepare(folder)
        precious = b"something of somebody else"
        programs.write(folder, {"precious": precious})
        for name, change in zip(changes[::2], changes[1::2]):
            change(os.path.join(folder, "run", name))
        before = programs.read(folder)
        end = running.run([inputs.binary] + program.words, folder, system_calls.SECONDS)
        wrong = system_calls.said(end, allows_fault=False)
        after = programs.read(folder)
        if after.get("precious") != precious:
            wrong.append("a file outside the folder was changed")
        if end.code == 0:
            if after.get("run/model.safetensors") != program.wanted["run/model.safetensors"]:
                wrong.append("exit code 0, but model.safetensors is another one")
            lines = (
                programs.unmeasured(after.get("run/log.jsonl", b""))[0]
                if isinstance(after.get("run/log.jsonl"), bytes)
                else []
            )
            wanted = programs.unmeasured(program.wanted["run/log.jsonl"])[0]
            # A line that was lost is said.
            if lines != wanted and "log.jsonl" not in end.errors:
                if not tampered_quietly(lines, wanted):
                    wrong.append("the log has other lines, and nothing was said")
        else:
            for name, content in before.items():
                base = os.path.basename(name)
                if (base in STATES or programs.CHECKPOINT.search(base)) and content not in (
                    after.get(name),
                    after.get(name + ".abandoned"),
                ):
                    wrong.append(f"refused, but {base} was changed")
        for name, content in after.items():
            base = os.path.basename(name)
            if (
                programs.CHECKPOINT.search(base)
                and before.get(name) != content
                and content != program.checkpoints.get(base)
                and not programs.is_whole_checkpoint(content)
            ):
                wrong.append(f"{base} is damaged")
        if wrong:
            wrong.append("command: " + running.shell([inputs.binary] + program.words))
        return wrong

    return one


def tampered_quietly(lines, wanted):
    """Whether each line is still one of the log, with the steps of the undisturbed one: a changed digit cannot be seen."""

    def step(line):
        return line.split(b",", 1)[0]

    return [step(line) for line in lines] == [step(line) for line in wanted]
