#!/usr/bin/env python3
"""Prints which share of the lines of parsers and of the code of checkpoints the tests run: `make coverage`.

    coverage.py SCRATCH-PATH [--lines]

SCRATCH-PATH is that of `swift build --enable-code-coverage`; its folder `profiles` holds what the processes have counted.
--lines lists the lines that hold code which no test runs; a short expression that is computed only where it is needed
counts as a line of its own. Lines that only the program runs, started by a test, count as well, unless it was killed:
then nothing is known of it.
"""

import glob
import json
import os
import shutil
import subprocess
import sys

# What reads bytes that others wrote, and what a run's state depends on.
GROUPS = {
    "files of weights": ["Sources/Weights/"],
    "files of images": [
        "Sources/Images/" + name
        for name in (
            "ArchiveBytes",
            "ArchiveFile",
            "ArchiveIndex",
            "ArchiveName",
            "BMPDecoder",
            "BraceExpansion",
            "DelimitedText",
            "FileBytes",
            "FileKind",
            "GIFDecoder",
            "ImageArchives",
            "ImageFolder",
            "ImageHeaders",
            "ImageList",
            "ImageSearch",
            "PictureDecoder",
            "PNGChunks",
            "PNMDecoder",
            "Pixels+Decoding",
            "StoredOrientation",
            "TarReader",
        )
    ],
    "weights of other tools": [
        "Sources/Interchange/" + name
        for name in (
            "HuggingFace",
            "ModelNames",
            "NamingScheme",
            "StatedPreprocessing",
            "TimmConfiguration",
            "ClassMap",
        )
    ],
    "checkpoints, log and folder of a run": [
        "Sources/Training/" + name
        for name in (
            "Checkpoint",
            "RunDirectory",
            "RunFormat",
            "RunLog",
            "RunStatus",
            "RunSummary",
            "Trainer+Checkpoint",
            "StoredConfiguration",
        )
    ],
}


def uncovered(functions):
    """Numbers of the lines, by file, that hold code which was never run, be it a part of the line."""
    # A function may be there several times, in the tests and in the program, or for several types.
    counts = {}
    for function in functions:
        for line, column, end_line, end_column, count, index, _, kind in function["regions"]:
            # Neither what stands for other code, nor what holds none.
            if kind == 0:
                place = (function["filenames"][index], line, column, end_line, end_column)
                counts[place] = max(counts.get(place, 0), count)
    lines = {}
    for (file, line, _, end_line, _), count in counts.items():
        if count == 0:
            lines.setdefault(file, set()).update(range(line, end_line + 1))
    return lines


def ranges(numbers):
    text, start = [], None
    for number in numbers + [None]:
        if start is not None and number != last + 1:
            text.append(f"{start}" if start == last else f"{start}–{last}")
            start = None
        start = number if start is None else start
        last = number
    return ", ".join(text)


def main():
    profiles = glob.glob(os.path.join(sys.argv[1], "profiles/*.profraw"))
    if not profiles:
        raise SystemExit(f"no coverage in {sys.argv[1]}: make coverage measures it")
    folder, profile = os.path.join(sys.argv[1], "release"), os.path.join(sys.argv[1], "all.profdata")
    # The compiler's own tools: others may not read its profiles.
    tools = os.path.dirname(os.path.realpath(shutil.which("swiftc")))
    with open(os.path.join(sys.argv[1], "profiles.txt"), "w") as names:
        names.write("".join(name + "\n" for name in profiles))
    # A process that may write no long files leaves a part of its profile, which is passed over.
    subprocess.run([os.path.join(tools, "llvm-profdata"), "merge", "-sparse", "--failure-mode=all", "-f", names.name, "-o", profile],
                   check=True, stderr=subprocess.DEVNULL)
    exported = subprocess.run(
        [os.path.join(tools, "llvm-cov"), "export", "-instr-profile", profile, os.path.join(folder, "dmaePackageTests.xctest"),
         "-object", os.path.join(folder, "dmae")], check=True, stdout=subprocess.PIPE).stdout
    data = json.loads(exported)["data"][0]
    missing = uncovered(data["functions"])
    width = 44
    print(f"{'':{width}}   lines  run by tests")
    for title, prefixes in GROUPS.items():
        total = covered = 0
        rows = []
        for file in sorted(data["files"], key=lambda file: file["filename"]):
            name = file["filename"]
            name = name[name.rfind("/Sources/") + 1 :]
            if not any(name.startswith(prefix) for prefix in prefixes):
                continue
            lines = file["summary"]["lines"]
            total, covered = total + lines["count"], covered + lines["covered"]
            rows.append((name, lines, sorted(missing.get(file["filename"], ()))))
        if not total:
            raise SystemExit(f"no file of {title} was measured")
        print(f"{title:{width}} {total:7} {100 * covered / total:8.1f} %")
        for name, lines, numbers in rows:
            print(f"  {name.removeprefix('Sources/'):{width - 2}} {lines['count']:7} {lines['percent']:8.1f} %")
            if "--lines" in sys.argv and numbers:
                print(f"      {ranges(numbers)}")


if __name__ == "__main__":
    main()
