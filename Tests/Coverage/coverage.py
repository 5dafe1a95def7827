#!/usr/bin/env python3
"""Prints which share of the lines of parsers and of the code of checkpoints the tests run: `make coverage`.

    coverage.py SCRATCH-PATH [--lines]

SCRATCH-PATH is that of `swift test --enable-code-coverage`; --lines lists the lines that no test runs. Lines that only
the program runs, started by a test, count as well, unless it was killed: then nothing is known of it.
"""

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


def uncovered(file):
    """Numbers of lines that hold code which was never run."""
    lines, counts = {}, None
    segments = file["segments"]
    for (line, _, count, has_count, *_), (next_line, next_column, *_) in zip(segments, segments[1:]):
        if not has_count:
            continue
        # A segment that ends at the first column does not touch that line.
        for number in range(line, next_line + (1 if next_column > 1 else 0)):
            lines[number] = max(lines.get(number, 0), count) if number == line or number in lines else count
    return sorted(number for number, count in lines.items() if count == 0)


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
    folder = os.path.join(sys.argv[1], "debug")
    profile = os.path.join(folder, "codecov/default.profdata")
    if not os.path.exists(profile):
        raise SystemExit(f"no coverage in {sys.argv[1]}: make coverage measures it")
    # The compiler's own tools: others may not read its profiles.
    tools = os.path.dirname(os.path.realpath(shutil.which("swiftc")))
    exported = subprocess.run(
        [os.path.join(tools, "llvm-cov"), "export", "-instr-profile", profile, os.path.join(folder, "dmaePackageTests.xctest"),
         "-object", os.path.join(folder, "dmae")], check=True, stdout=subprocess.PIPE).stdout
    files = json.loads(exported)["data"][0]["files"]
    width = 44
    print(f"{'':{width}}   lines  run by tests")
    for title, prefixes in GROUPS.items():
        total = covered = 0
        rows = []
        for file in sorted(files, key=lambda file: file["filename"]):
            name = file["filename"]
            name = name[name.rfind("/Sources/") + 1 :]
            if not any(name.startswith(prefix) for prefix in prefixes):
                continue
            lines = file["summary"]["lines"]
            total, covered = total + lines["count"], covered + lines["covered"]
            rows.append((name, lines, uncovered(file)))
        if not total:
            raise SystemExit(f"no file of {title} was measured")
        print(f"{title:{width}} {total:7} {100 * covered / total:8.1f} %")
        for name, lines, missing in rows:
            print(f"  {name.removeprefix('Sources/'):{width - 2}} {lines['count']:7} {lines['percent']:8.1f} %")
            if "--lines" in sys.argv and missing:
                print(f"      {ranges(missing)}")


if __name__ == "__main__":
    main()
