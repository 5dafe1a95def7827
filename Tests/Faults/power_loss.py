"""What a power failure may leave: recorded writes, replayed into every state that a file system may be found in.

A command runs under strace, which records what it writes, renames, removes and syncs. From that a small model of a file
system is built, and cut before each sync and at the end. The model grants only this:

- What `fsync` or `fdatasync` of a file returned for is on the disk: its contents and its length.
- What `fsync` of a folder returned for is on the disk: the names in it.
- A rename happens as a whole, and so does the write of one page of 4 KiB.

Everything else may be lost, in any combination: of each file any pages that were written since its last sync, or its new
length without its contents; of each folder any of the creations, renames and removals since its last sync, in any order.
Even a synced new file may lack its name. ext4 with data=ordered (or data=journal, or data=writeback), XFS and btrfs, with
barriers, as they are mounted by default, leave fewer states than that: they keep the order of changes of folders. Not
covered are disks that report a sync they have not done, the mount options nobarrier and async of NFS, and ext2, which may
damage what was not being written.

In each state a run resumed by `--resume auto` must find a checkpoint not older than the last one that was promised, and
end with the bytes of the undisturbed run. The files of the other commands must be whole under their names, and
the command given again must end with the undisturbed bytes.
"""

import dataclasses
import hashlib
import itertools
import os
import re

import programs
import running
import system_calls
from trials import Trial

PAGE = 4096
CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,ftruncate,truncate,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,sync,syncfs,sync_file_range,close,dup,dup2,dup3,fallocate,"
    "copy_file_range,sendfile,lseek,mmap"
)
MOST_RENAMES = 5
"""Changes of folders, since their last sync, of which every subset is tried; of more, a part."""
VARIANTS = ["new", "old", "length only", "half of the rest", "torn 1", "torn 2"]


class Folder:
    def __init__(self):
        self.names = {}
        """Now, as processes see it."""
        self.durable = {}
        """On the disk for sure."""


class File:
    def __init__(self, content=b""):
        self.now = bytearray(content)
        self.durable = bytes(content)
        self.has_changed = False

    def variant(self, kind):
        """The contents after a power failure."""
        if not self.has_changed or kind == "old":
            return self.durable
        now = bytes(self.now)
        if kind == "new":
            return now
        if kind == "half of the rest":
            # What was synced stays.
            return now[: (len(self.durable) + len(now)) // 2]
        pages = []
        for number, start in enumerate(range(0, len(now), PAGE)):
            old = self.durable[start : start + PAGE].ljust(min(PAGE, len(now) - start), b"\0")[:PAGE]
            is_written = (
                kind != "length only" and hashlib.sha256(f"{kind} {number} {len(now)}".encode()).digest()[0] & 1
            )
            pages.append(now[start : start + PAGE] if is_written else old[: len(now) - start])
        return b"".join(pages)


@dataclasses.dataclass
class Open:
    target: object
    place: int = 0
    appends: bool = False


@dataclasses.dataclass
class Cut:
    """A moment: what a power failure may leave then."""

    what: str
    states: list
    """(names of what happened, contents by path)"""
    promised: int
    """The newest checkpoint that the process relied on."""
    is_end: bool = False


class Model:
    """A file system below one folder."""

    def __init__(self, root, contents):
        self.root = root
        self.top = Folder()
        self.open = {}
        self.changes = []
        """Changes of folders that are not synced: (words, [(folder, name, file or folder or None)])."""
        for path, content in contents.items():
            folder = self.top
            *parents, name = path.split("/")
            for parent in parents:
                folder = folder.names.setdefault(parent, Folder())
            folder.names[name] = File(content) if content is not None else Folder()
        self.settle(self.top)

    def settle(self, folder):
        folder.durable = dict(folder.names)
        for one in folder.names.values():
            if isinstance(one, Folder):
                self.settle(one)

    def parts(self, path):
        """The names below the root; None for a path outside."""
        path = os.path.normpath(os.path.join(self.root, path))
        if path == self.root:
            return []
        return path[len(self.root) + 1 :].split("/") if path.startswith(self.root + "/") else None

    def find(self, path):
        """What is at a path now, with its folder and name."""
        parts = self.parts(path)
        if parts is None:
            return None
        folder = self.top
        if not parts:
            return None, None, folder
        for part in parts[:-1]:
            folder = folder.names.get(part)
            if not isinstance(folder, Folder):
                return None
        return folder, parts[-1], folder.names.get(parts[-1])

    def change(self, words, changes):
        for folder, name, one in changes:
            if one is None:
                folder.names.pop(name, None)
            else:
                folder.names[name] = one
        self.changes.append((words, changes))

    def sync_folder(self, folder):
        rest = []
        for words, changes in self.changes:
            if any(one is folder for one, _, _ in changes):
                apply(changes, lambda one: one.durable)
            else:
                rest.append((words, changes))
        self.changes = rest

    def tree(self, chosen, kinds, files):
        """The contents by path after a failure: of `changes` those of the numbers `chosen` have happened."""
        names = {}
        for number in chosen:
            apply(self.changes[number][1], lambda one: names.setdefault(id(one), dict(one.durable)))
        found = {}

        def walk(folder, prefix):
            for name, one in names.get(id(folder), folder.durable).items():
                if isinstance(one, Folder):
                    found[prefix + name] = None
                    walk(one, prefix + name + "/")
                else:
                    found[prefix + name] = one.variant(kinds.get(id(one), "new"))
                    files[prefix + name] = one

        walk(self.top, "")
        return found

    def cuts(self, random):
        """Every state after a power failure at this moment: (words, contents by path)."""
        count = len(self.changes)
        if count <= MOST_RENAMES:
            subsets = [s for size in range(count + 1) for s in itertools.combinations(range(count), size)]
        else:
            subsets = [tuple(range(size)) for size in range(count + 1)]
            subsets += [tuple(n for n in range(count) if n != left) for left in range(count)]
            subsets += [tuple(n for n in range(count) if random.random() < 0.5) for _ in range(40)]
        for chosen in subsets:
            files = {}
            self.tree(chosen, {}, files)
            done = ", ".join(self.changes[number][0] for number in chosen)
            changed = [(name, one) for name, one in files.items() if one.has_changed]
            # The contents of parts, which nobody reads, are torn or not there.
            choices = [["torn 1", "old"] if programs.PART.search(name) else VARIANTS for name, one in changed]
            for kinds in itertools.product(*choices):
                words = "; ".join(f"{kind}: {name}" for kind, (name, _) in zip(kinds, changed))
                yield f"[{done}] {words}", self.tree(
                    chosen, {id(one): kind for kind, (_, one) in zip(kinds, changed)}, {}
                )


def apply(changes, names_of):
    for folder, name, one in changes:
        if one is None:
            names_of(folder).pop(name, None)
        else:
            names_of(folder)[name] = one


# MARK: The record

CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+= (-?\d+|0x[0-9a-f]+|\?)", re.S)
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def decoded(text):
    """The strings of a call's arguments, which strace has written in hexadecimal digits."""
    found = []
    for match in STRING.finditer(text):
        if match[2]:
            raise ValueError("strace has cut a string short")
        found.append(bytes.fromhex(match[1].replace("\\x", "")))
    return found


def lines_of(path):
    """The calls of the record, in the order of their ends; those that were interrupted by another thread are joined."""
    begun = {}
    with open(path, encoding="ascii", errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            process = line.split(None, 1)[0]
            if line.endswith("<unfinished ...>"):
                begun[process] = line.removesuffix("<unfinished ...>")
                continue
            resumed = re.match(r"\d+\s+<\.\.\. \w+ resumed>(.*)", line, re.S)
            if resumed:
                line = begun.pop(process, "") + resumed[1]
            match = CALL.match(line)
            if match and match[4] != "?" and not match[4].startswith("-"):
                yield match[2], match[3], int(match[4], 0)


def replay(record, model, run, checkpoints, random):
    """Follows the record; yields a `Cut` before each sync and at the end."""
    promised = 0

    def cut(what, is_end=False):
        return Cut(what, list(model.cuts(random)), promised, is_end)

    def text(data):
        return data.decode("utf-8", "surrogateescape")

    for call, arguments, result in lines_of(record):
        first = arguments.split(",", 1)[0].strip()
        number = int(first) if first.isdigit() else None
        file = model.open.get(number)
        if call in ("open", "openat", "creat"):
            path = text(decoded(arguments)[0])
            found = model.find(path)
            if found is None:
                model.open.pop(result, None)
                continue
            folder, name, one = found
            if one is None:
                if "O_CREAT" not in arguments:
                    continue
                one = File()
                model.change(f"create {name}", [(folder, name, one)])
            elif "O_TRUNC" in arguments and isinstance(one, File):
                del one.now[:]
                one.has_changed = True
            model.open[result] = Open(one, 0, "O_APPEND" in arguments)
        elif call == "close":
            model.open.pop(number, None)
        elif call in ("dup", "dup2", "dup3"):
            if file:
                raise ValueError("a file of the folder is duplicated, which this model does not follow")
        elif call == "mmap":
            if "MAP_SHARED" in arguments and "PROT_WRITE" in arguments and "MAP_ANONYMOUS" not in arguments:
                raise ValueError("a file is written through a mapping, which this model does not follow")
        elif call in ("write", "pwrite64"):
            if not file:
                continue
            data = decoded(arguments)[0][:result]
            one = file.target
            if call == "pwrite64":
                place = int(arguments.rsplit(",", 1)[1])
            else:
                place = len(one.now) if file.appends else file.place
                file.place = place + len(data)
            one.now[place : place + len(data)] = data
            one.has_changed = True
        elif call == "lseek":
            if file:
                file.place = result
        elif call == "ftruncate":
            if file:
                size = int(arguments.rsplit(",", 1)[1])
                if size != len(file.target.now):
                    del file.target.now[size:]
                    file.target.now.extend(b"\0" * (size - len(file.target.now)))
                    file.target.has_changed = True
        elif call in ("rename", "renameat", "renameat2"):
            places = [model.find(text(path)) for path in decoded(arguments)]
            if None in places:
                continue
            (source, name, one), (target, new, _) = places
            model.change(f"rename {name} to {new}", [(source, name, None), (target, new, one)])
        elif call in ("link", "linkat"):
            places = [model.find(text(path)) for path in decoded(arguments)]
            if None in places:
                continue
            (_, name, one), (target, new, _) = places
            model.change(f"link {name} to {new}", [(target, new, one)])
        elif call in ("unlink", "unlinkat", "rmdir"):
            found = model.find(text(decoded(arguments)[0]))
            if found:
                model.change(f"remove {found[1]}", [(found[0], found[1], None)])
        elif call in ("mkdir", "mkdirat"):
            found = model.find(text(decoded(arguments)[0]))
            if found:
                model.change(f"make {found[1]}", [(found[0], found[1], Folder())])
        elif call in ("fsync", "fdatasync"):
            if not file:
                continue
            yield cut(f"before {call}")
            if isinstance(file.target, Folder):
                model.sync_folder(file.target)
                if run:
                    folder = model.top.durable.get(run)
                    for name, one in (folder.durable if folder else {}).items():
                        if name in checkpoints and isinstance(one, File) and one.durable == checkpoints[name]:
                            promised = max(promised, step(name))
            else:
                file.target.durable = bytes(file.target.now)
                file.target.has_changed = False
        else:
            if file or model_paths(model, arguments):
                raise ValueError(f"{call} of a file of the folder, which this model does not follow")
    yield cut("at the end", is_end=True)


def model_paths(model, arguments):
    return any(model.parts(path.decode("utf-8", "surrogateescape")) is not None for path in decoded(arguments))


def step(name):
    return int(programs.CHECKPOINT.search(name)[1])


def recorded(program, inputs, random, most, share=1):
    """The distinct states that power failures during a command may leave: [(words, contents, promised, is_end)], and
    the number of all states."""
    place = os.path.join(inputs.work, "power")
    program.prepare(place)
    model = Model(place, programs.read(place))
    words = [inputs.binary] + program.words
    record = os.path.join(inputs.work, "power.record")
    end = running.run(
        [running.STRACE, "-f", "-qq", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-o", record] + words,
        place,
        120,
    )
    if end.code != 0:
        raise SystemExit(f"{running.shell(words)}\n{end}: {end.errors}")
    states, count = {}, 0
    for cut in replay(record, model, program.run, program.checkpoints, random):
        for done, contents in cut.states:
            count += 1
            # The number of a process and the random name of a part are no state of their own.
            key = hashlib.sha256(
                repr(
                    sorted(
                        (
                            programs.PART.sub(".part", name),
                            content if content is None else hashlib.sha256(content).digest(),
                        )
                        for name, content in contents.items()
                    )
                ).encode()
                + repr((cut.promised, cut.is_end)).encode()
            ).digest()
            states.setdefault(key, (f"{cut.what}, {done}", contents, cut.promised, cut.is_end))

    # The model must agree with what the command really left.
    def flat(folder, prefix=""):
        for name, one in folder.names.items():
            if isinstance(one, Folder):
                yield from flat(one, prefix + name + "/")
            else:
                yield prefix + name, bytes(one.now)

    real, modelled = programs.read(place), dict(flat(model.top))
    differing = sorted(
        name
        for name in set(real) | set(modelled)
        if not name.startswith("said.") and real.get(name) != modelled.get(name)
    )
    if differing:
        raise SystemExit(
            f"{program.name}: the model of the file system differs from the folder in {', '.join(differing)}"
        )
    os.remove(record)
    found = list(states.values())
    if share < 1:
        most = max(10, round(len(found) * share))
    if most and len(found) > most:
        # All of the end, where success was reported, and a part of the others.
        ends = [state for state in found if state[3]][: most // 3]
        others = [state for state in found if not state[3]]
        random.shuffle(others)
        found = ends + others[: most - len(ends)]
    return found, count, len(states)


def trials(by_name, inputs, random, is_short, share):
    names = [
        "distill",
        "distill-resumed",
        "distill-back",
        "finetune",
        "probe",
        "pretrain-tar",
        "embed",
        "embed-over",
        "embed-table",
        "convert",
        "convert-over",
        "convert-archive",
        "convert-folder",
        "convert-folder-over",
        "convert-onnx",
        "evaluate",
    ]
    if is_short:
        names = ["distill", "finetune", "embed-over", "convert-over", "convert-folder"]
    result = []
    for name in names:
        program = by_name[name]
        states, count, distinct = recorded(program, inputs, random, 60 if is_short else None, share)
        print(f"  {name}: {count} states, {distinct} of them different, {len(states)} tried", flush=True)
        for number, state in enumerate(states):
            result.append(Trial("power loss", f"power {name} {number}", body(program, inputs, *state)))
    return result


def body(program, inputs, what, contents, promised, is_end):
    def one(folder):
        programs.write(folder, contents)
        # A failure after success was reported must not take it back.
        end = running.End(0 if is_end else None, None if is_end else 9, False, program.output or "", "", 0)
        wrong = programs.judge(program, folder, end, kills=True)
        if program.run:
            whole = [
                step(name)
                for name, content in contents.items()
                if programs.CHECKPOINT.search(name) and content in program.checkpoints.values()
            ]
            if max(whole, default=0) < promised:
                wrong.append(
                    f"the newest whole checkpoint is of step {max(whole, default=0)}, but {promised} was promised"
                )
        if not wrong:
            words = [inputs.binary] + program.again
            again = running.run(words, folder, system_calls.SECONDS)
            if again.code != 0:
                wrong.append(f"{again}: {again.errors[-300:]!r}")
            wrong += programs.judge(program, folder, again, kills=True)
        return wrong + ([f"state: {what}"] if wrong else [])

    return one
