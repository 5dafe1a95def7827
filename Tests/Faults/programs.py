"""The commands under test, on models so small that one takes a tenth of a second, and the judgement of what one left."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tarfile

import running
import xxhash64

MODEL = (
    "--width 16 --depth 2 --heads 2 --decoder-width 16 --decoder-depth 1 --decoder-heads 2 --image-size 32 --batch 4 "
    "--effective-batch 8 --base-learning-rate 0.1 --warmup-epochs 1 --student vit-miniature"
).split()
# One thread of each kind: a fault hits the same call in each repetition.
QUIET = "--quiet --threads 1 --workers 1".split()
RUN = QUIET + ["--keep", "2", "--precision", "f32"]
CLASSES = ["education", "electronics", "geography"]

PART = re.compile(r"\.part-[0-9]+-[0-9a-f]+")
CHECKPOINT = re.compile(r"checkpoint-([0-9]{8,})\.safetensors$")
MEASURED = re.compile(rb',"(images_per_second|time|elapsed_seconds)":[^,}\]]*')


@dataclasses.dataclass
class Program:
    """A command in a folder of its own."""

    name: str
    words: list
    """Its arguments, seen from the folder."""
    again: list
    """The arguments of the command that a user gives after a failure."""
    files: list = dataclasses.field(default_factory=list)
    """The outputs, seen from the folder. Of several that belong together the last one confirms the others."""
    is_group: bool = False
    run: str | None = None
    """The folder of a run."""
    earlier: dict = dataclasses.field(default_factory=dict)
    """What is in the folder before: contents by path."""
    # From the undisturbed command:
    calls: dict = dataclasses.field(default_factory=dict)
    wanted: dict = dataclasses.field(default_factory=dict)
    checkpoints: dict = dataclasses.field(default_factory=dict)
    output: str | None = None
    """Standard output; None where it differs from time to time."""

    def prepare(self, folder):
        """Makes the folder as it is before the command."""
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        write(folder, self.earlier)


def write(folder, contents):
    """Writes files by their paths below `folder`; None is a folder."""
    for path, content in contents.items():
        place = os.path.join(folder, path)
        if content is None:
            os.makedirs(place, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(content)


def read(folder):
    """The contents of all files below `folder` by their paths; of links, where they lead."""
    contents = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            key = os.path.relpath(path, folder)
            if os.path.islink(path):
                contents[key] = ("link", os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    contents[key] = file.read()
            else:
                contents[key] = "no file"
    return contents


def digest(folder):
    """A checksum of all files below `folder`."""
    hash = hashlib.sha256()
    for path, content in sorted(read(folder).items()):
        hash.update(
            path.encode() + b"\0" + (content if isinstance(content, bytes) else repr(content).encode()) + b"\0"
        )
    return hash.hexdigest()


def unmeasured(log):
    """The lines of a log without the values that are measured, and whether the last line is whole."""
    lines = log.split(b"\n")
    return [MEASURED.sub(b"", line) for line in lines[:-1]], lines[-1] == b""


class Inputs:
    """What the commands read: pictures of the demo, and weights that the program itself trains from them."""

    def __init__(self, binary, fixtures, work):
        self.binary = binary
        self.work = work
        self.folder = os.path.join(work, "inputs")
        self.fixtures = fixtures
        shutil.rmtree(self.folder, ignore_errors=True)
        pictures = os.path.join(fixtures, "demo/images")
        for name in CLASSES:
            for index, file in enumerate(sorted(os.listdir(os.path.join(pictures, name)))[:9]):
                for part in ["val" if index % 3 == 0 else "train"] + ["flat"] * (name == "geography"):
                    place = os.path.join(self.folder, part, "" if part == "flat" else name)
                    os.makedirs(place, exist_ok=True)
                    shutil.copy(os.path.join(pictures, name, file), place)
        with tarfile.open(self["pictures.tar"], "w") as archive:
            archive.add(self["flat"], "flat")
        for name in ["sharded", "published"]:
            shutil.copytree(os.path.join(fixtures, "weights/huggingface/vitmae-" + name), self[name])
        shutil.copy(os.path.join(fixtures, "golden/no_decoder.in.safetensors"), self["steps.safetensors"])
        self.train("pretrain --recipe demo-teacher --epochs 1 --data".split() + [self["flat"]] + MODEL, "teacher")
        self.train(
            "pretrain --recipe demo-teacher --epochs 2 --seed 5 --data".split() + [self["flat"]] + MODEL, "other"
        )
        self.train(self.finetune("2"), "classifier")
        self.state = digest(self.folder)

    def __getitem__(self, name):
        return os.path.join(self.folder, name)

    def train(self, words, name):
        """Trains `name`.safetensors."""
        place = os.path.join(self.work, "setup")
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
        words = [self.binary] + words + RUN + ["--output", "run"]
        end = running.run(words, place, 120)
        if end.code != 0:
            raise SystemExit(f"{running.shell(words)}\n{end}: {end.errors}")
        shutil.copy(os.path.join(place, "run/model.safetensors"), self[name + ".safetensors"])

    def finetune(self, epochs):
        return (
            f"finetune --recipe finetune-small-data --from-scratch --student vit-miniature --width 16 --depth 2 --heads 2 "
            f"--image-size 32 --batch 4 --effective-batch 8 --epochs {epochs} --warmup-epochs 1 "
            f"--base-learning-rate 0.05"
        ).split() + ["--train", self["train"], "--val", self["val"]]


def all_programs(inputs):
    """Every command that writes something, and those that only read, in the order of their tests."""
    teacher, other, classifier = (inputs[name + ".safetensors"] for name in ("teacher", "other", "classifier"))
    programs = []

    def trains(name, words, earlier=None, again=None):
        words = words + ["--output", "run"] if again is None else words
        programs.append(Program(name, words, again or words + ["--resume", "auto"], run="run", earlier=earlier or {}))

    def writes(name, words, files, earlier=None, again=(), is_group=None):
        programs.append(
            Program(
                name,
                words,
                words + list(again),
                files=files,
                earlier=earlier or {},
                is_group=len(files) > 1 if is_group is None else is_group,
            )
        )

    distill = (
        [
            "distill",
            "--recipe",
            "demo",
            "--teacher",
            teacher,
            "--data",
            inputs["flat"],
            "--epochs",
            "6",
            "--align",
            "1:0",
            "--checkpoint-every",
            "2",
        ]
        + MODEL
        + RUN
    )
    trains("distill", distill)
    # A run that was killed after its fifth step of six.
    killed = stopped_run(inputs, distill + ["--output", "run"])
    programs.append(
        Program(
            "distill-resumed",
            distill + ["--output", "run", "--resume", "auto"],
            distill + ["--output", "run", "--resume", "auto"],
            run="run",
            earlier=killed,
        )
    )
    # A finished run that goes back to its older checkpoint.
    back = ["--output", "run", "--resume", "run/checkpoint-00000004.safetensors"]
    programs.append(
        Program(
            "distill-back",
            distill + back,
            distill + ["--output", "run", "--resume", "auto"],
            run="run",
            earlier=made(inputs, distill + ["--output", "run"]),
        )
    )
    programs.append(
        Program("resume", ["resume", "run"] + QUIET, ["resume", "run"] + QUIET, run="run", earlier=killed)
    )
    trains(
        "pretrain-tar",
        [
            "pretrain",
            "--recipe",
            "demo-teacher",
            "--data",
            inputs["pictures.tar"],
            "--val",
            inputs["pictures.tar"],
            "--epochs",
            "3",
            "--tensorboard",
        ]
        + MODEL
        + RUN,
    )
    trains("finetune", inputs.finetune("2") + ["--ema", "0.9", "--checkpoint-every", "2"] + RUN)
    trains(
        "probe",
        [
            "probe",
            "--weights",
            teacher,
            "--train",
            inputs["train"],
            "--val",
            inputs["val"],
            "--augment",
            "none",
            "--epochs",
            "4",
            "--batch",
            "6",
            "--effective-batch",
            "6",
            "--warmup-epochs",
            "1",
            "--checkpoint-every",
            "4",
        ]
        + QUIET
        + ["--keep", "2"],
    )

    embed = ["embed", "--weights", teacher, "--data", inputs["val"]] + QUIET
    npy = ["x.npy", "x.npy.files.txt", "x.npy.labels.txt", "x.npy.json"]
    writes("embed", embed + ["--output", "x.npy"], npy, again=["--force"])
    earlier = made(inputs, ["embed", "--weights", teacher, "--data", inputs["train"], "--output", "x.npy"] + QUIET)
    writes("embed-over", embed + ["--output", "x.npy", "--force"], npy, earlier)
    writes(
        "embed-tar",
        ["embed", "--weights", teacher, "--data", inputs["pictures.tar"], "--output", "y.safetensors"] + QUIET,
        ["y.safetensors", "y.safetensors.files.txt", "y.safetensors.labels.txt", "y.safetensors.json"],
        again=["--force"],
    )
    writes(
        "embed-table", embed + ["--output", "x.csv", "--force"], ["x.csv"], {"x.csv": b"path,label,f0\nolder,a,1\n"}
    )

    def converts(name, source, output, form, files, earlier=None, more=()):
        writes(name, ["convert", source, output, "--to", form, *more], files, earlier, again=["--force"])

    model = ["config.json", "preprocessor_config.json", "model.safetensors"]
    older = made(inputs, ["convert", other, "m.safetensors", "--to", "mae"])
    converts("convert", teacher, "m.safetensors", "mae", ["m.safetensors"])
    converts("convert-over", teacher, "m.safetensors", "mae", ["m.safetensors"], older, ["--force"])
    converts("convert-archive", teacher, "m.pth", "mae", ["m.pth"])
    converts(
        "convert-sharded", inputs["sharded"], "m.safetensors", "timm", ["m.safetensors"], more=["--encoder-only"]
    )
    hub = ["hub/" + name for name in model]
    converts("convert-folder", teacher, "hub", "huggingface", hub)
    converts(
        "convert-folder-over",
        teacher,
        "hub",
        "huggingface",
        hub,
        made(inputs, ["convert", other, "hub", "--to", "huggingface", "--mean", "0.5", "--dtype", "bf16"]),
        ["--force"],
    )
    converts("convert-onnx", teacher, "m.onnx", "onnx", ["m.onnx"])

    picture = os.path.join(inputs["flat"], sorted(os.listdir(inputs["flat"]))[0])
    writes(
        "reconstruct",
        ["reconstruct", "--weights", teacher, "--input", picture, "--output", "r.png", "--threads", "1"],
        ["r.png"],
        made(inputs, ["reconstruct", "--weights", other, "--input", picture, "--output", "r.png"]),
    )
    writes(
        "preview",
        [
            "preview",
            "--data",
            inputs["flat"],
            "--recipe",
            "demo-teacher",
            "--image-size",
            "32",
            "--count",
            "4",
            "--output",
            "p.png",
        ],
        ["p.png"],
    )
    writes(
        "replay",
        ["replay", inputs["steps.safetensors"], "--output", "out.safetensors", "--threads", "1"],
        ["out.safetensors"],
    )
    writes(
        "evaluate",
        ["evaluate", "--weights", classifier, "--data", inputs["val"], "--logits", "l.safetensors", "--json"] + QUIET,
        ["l.safetensors.files.txt", "l.safetensors"],
    )
    writes("predict", ["predict", "--weights", classifier, "--json", inputs["flat"]] + QUIET, [])
    writes(
        "knn",
        ["knn", "--weights", teacher, "--train", inputs["train"], "--val", inputs["val"], "--json", "--k", "1,3"]
        + QUIET,
        [],
    )
    writes("inspect", ["inspect", teacher, "--json"], [])
    writes("inspect-compare", ["inspect", teacher, "--compare", other, "--json"], [])
    writes("inspect-images", ["inspect", inputs["pictures.tar"], "--json", "--workers", "1"], [])
    writes("doctor", ["doctor"], [])
    return programs


def made(inputs, words):
    """The files that a command makes in an empty folder."""
    place = os.path.join(inputs.work, "setup")
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
    end = running.run([inputs.binary] + words, place, 120)
    if end.code != 0:
        raise SystemExit(f"{running.shell([inputs.binary] + words)}\n{end}: {end.errors}")
    shutil.rmtree(os.path.join(place, "cache"), ignore_errors=True)
    return read(place)


def stopped_run(inputs, words):
    """The folder of a run of six steps that was killed after the fifth, with checkpoints of steps 2 and 4."""
    place = os.path.join(inputs.work, "setup")
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
    # Two checkpoints are kept: the third one is the first to be followed by a removal.
    end = running.inject([inputs.binary] + words, place, "unlink", "signal=KILL", "1", 120)
    files = read(place)
    last = [name for name in files if CHECKPOINT.search(name)]
    if end.signal != 9 or len(last) != 3:
        raise SystemExit(
            f"the run to resume was not killed at its last checkpoint: {end}, {sorted(files)}\n{end.errors}"
        )
    del files[max(last)]
    files["run/log.jsonl"] = b"".join(files["run/log.jsonl"].splitlines(True)[:5])
    return files


def learn(program, inputs, seconds=120):
    """Runs the undisturbed command twice and keeps what it wrote, said and called."""
    place = os.path.join(inputs.work, "learn")
    outputs = []
    words = [inputs.binary] + program.words
    for is_traced in (False, True):
        program.prepare(place)
        if is_traced:
            program.calls, end = running.count_calls(words, place, seconds)
        else:
            end = running.run(words, place, seconds)
        if end.code != 0:
            raise SystemExit(f"{running.shell(words)}\n{end}: {end.errors}")
        outputs.append(end.output)
        contents = read(place)
        wanted = {name: contents[name] for name in results(program, contents)}
        if not is_traced:
            program.wanted = wanted
        elif without_measured(program, wanted) != without_measured(program, program.wanted):
            raise SystemExit(f"{program.name}: two undisturbed commands gave different files")
    # What the doctor finds, such as free memory, is never twice the same.
    program.output = outputs[0] if outputs[0] == outputs[1] and program.name != "doctor" else None
    if program.run:
        # No checkpoint can be removed, so that all stay.
        program.prepare(place)
        running.inject(words, place, "unlink", "error=EPERM", "1+", seconds)
        program.checkpoints = {
            CHECKPOINT.search(name)[0]: content for name, content in read(place).items() if CHECKPOINT.search(name)
        }
    shutil.rmtree(place)


def results(program, contents):
    """The names of the files that are results."""
    if not program.run:
        return list(program.files)
    names = ["model.safetensors", "best.safetensors", "raw.safetensors", "evaluation.json", "log.jsonl"]
    return [name for name in (f"{program.run}/{name}" for name in names) if name in contents]


def without_measured(program, contents):
    return {
        name: unmeasured(content) if name.endswith("log.jsonl") else content for name, content in contents.items()
    }


def judge(program, folder, end, kills=False):
    """What is wrong with what a command left behind: a list of sentences.

    kills: whether the process was killed, so that parts of unfinished files may be left.
    """
    wrong = []
    contents = {name: content for name, content in read(folder).items() if not name.startswith("cache/")}
    parts = sorted(name for name in contents if PART.search(name))
    if parts and not kills:
        wrong.append(f"left {', '.join(parts)}")
    if program.run:
        wrong += judge_run(program, contents, end)
    else:
        wrong += judge_files(program, contents, end)
    if end.code == 0 and program.output is not None and not program.run and end.output != program.output:
        wrong.append("exit code 0, but another text on standard output")
    return wrong


def judge_files(program, contents, end):
    wrong, states = [], {}
    for name in program.files:
        content = contents.get(name)
        if content is None:
            states[name] = "absent"
        elif content == program.wanted[name]:
            states[name] = "new"
        else:
            states[name] = "old" if content == program.earlier.get(name, ()) else "damaged"
    text = ", ".join(f"{name} {state}" for name, state in states.items())
    there = {state for state in states.values() if state != "absent"}
    if "damaged" in there:
        wrong.append(f"a damaged file under its final name: {text}")
    if end.code == 0 and states and set(states.values()) != {"new"}:
        wrong.append(f"exit code 0, but {text}")
    if program.is_group:
        if len(there) > 1:
            wrong.append(f"files of two results: {text}")
        if states[program.files[-1]] != "absent" and len(set(states.values())) > 1:
            wrong.append(f"confirmed, but not whole: {text}")
        if end.code not in (0, None) and "new" in there and "absent" in states.values():
            wrong.append(f"a part of a result after a failure: {text}")
    elif program.earlier and any(states[name] == "absent" for name in program.files if name in program.earlier):
        wrong.append(f"the earlier file is lost: {text}")
    strange = [
        name
        for name in contents
        if name not in program.files and name not in program.earlier and not PART.search(name)
    ]
    if strange:
        wrong.append(f"wrote {', '.join(strange)}")
    return wrong


def judge_run(program, contents, end):
    wrong = []
    for name, content in contents.items():
        if PART.search(name):
            continue
        if not name.startswith(program.run + "/"):
            wrong.append(f"wrote {name}")
            continue
        base = name[len(program.run) + 1 :]
        if CHECKPOINT.search(base):
            if content != program.checkpoints.get(base) and not is_whole_checkpoint(content):
                wrong.append(f"{base} is damaged")
        elif name in program.wanted and not base.endswith(".jsonl"):
            if base == "evaluation.json":
                if not is_json(content):
                    wrong.append(f"{base} is damaged")
            elif base == "best.safetensors":
                # The best of the evaluations so far.
                if not is_whole_safetensors(content):
                    wrong.append(f"{base} is damaged")
            elif content != program.wanted[name]:
                wrong.append(f"{base} is another one")
        elif base == "log.jsonl":
            lines, _ = unmeasured(content)
            expected = unmeasured(program.wanted[name])[0]
            if lines != expected[: len(lines)]:
                wrong.append("log.jsonl has other lines")
        elif base in ("status.json", "configuration.json", "images.json"):
            if not is_json(content):
                wrong.append(f"{base} is damaged")
        elif is_abandoned(base):
            if content not in program.checkpoints.values() and not is_whole_checkpoint(content):
                wrong.append(f"{base} is damaged")
        elif base != "lock" and base != "starts.jsonl" and not base.startswith(("archives/", "tensorboard/")):
            wrong.append(f"wrote {base}")
    if end.code == 0:
        for name, content in program.wanted.items():
            if without_measured(program, {name: contents.get(name, b"")}) != without_measured(
                program, {name: content}
            ):
                wrong.append(f"exit code 0, but {name} is another one")
        status = contents.get(f"{program.run}/status.json", b"")
        if b'"finished"' not in status:
            wrong.append(f"exit code 0, but status.json says {status!r}")
    return wrong


def is_abandoned(name):
    """Whether the name is that of a checkpoint that was set aside."""
    return bool(CHECKPOINT.search(name.split(".abandoned")[0])) and ".abandoned" in name


def is_json(content):
    try:
        json.loads(content)
        return True
    except ValueError:
        return False


def header(content):
    """The header of a safetensors file and the place where its data begins; None if it is none or not whole."""
    try:
        length = int.from_bytes(content[:8], "little")
        head = json.loads(content[8 : 8 + length])
        size = max((entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"), default=0)
        return head if len(content) == 8 + length + size else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def is_whole_safetensors(content):
    return header(content) is not None


def is_whole_checkpoint(content):
    """Whether the bytes agree with the checksum in the file."""
    head = header(content)
    checksum = ((head or {}).get("__metadata__") or {}).get("dmae.checksum", "")
    if not checksum.startswith("xxh64:"):
        return False
    zeroed = content.replace(
        f'"dmae.checksum":"{checksum}"'.encode(), b'"dmae.checksum":"xxh64:' + b"0" * 16 + b'"', 1
    )
    return f"xxh64:{xxhash64.digest(zeroed):016x}" == checksum
