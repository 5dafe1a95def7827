#!/usr/bin/env python3
"""Packages of the static binary. `make dist`, `make deb` and `make notices` run this.

    package.py notices FILE           the licences of what is linked into the binary, from the packages of this machine
    package.py archive BINARY FOLDER  FOLDER/dmae-VERSION-linux-ARCHITECTURE.tar.xz and its SHA-256
    package.py debian BINARY FOLDER   FOLDER/dmae_VERSION_ARCHITECTURE.deb

The bytes of both packages follow from the binary and from SOURCE_DATE_EPOCH, which is the time of the last commit unless it is
set.
"""

import gzip
import hashlib
import io
import lzma
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NOTICES = ROOT / "Sources/CBuild/third-party-notices.txt"
SUMMARY = "distil masked autoencoders on CPUs"
DESCRIPTION = """\
A large Vision Transformer, pre-trained as a masked autoencoder, teaches a small one, while both see the same few visible
patches of each image (arXiv 2208.12256). dmae distils, pre-trains and fine-tunes encoders, measures them, and converts weights
from and to PyTorch, timm and Hugging Face. It needs neither Python nor a GPU.

The program is one static binary with kernels for AMX, AVX-512, AVX2 and plain x86-64, chosen at run time."""

# What is linked into the binary, with the files that hold its licence. {} stands for the package's documentation.
LINKED = (
    ("Swift's standard library, Foundation Essentials, swift-argument-parser and swift-protobuf", None,
     ("{toolchain}/share/swift/LICENSE.txt",)),
    ("LLVM's OpenMP runtime", "libomp-19-dev", ("{}/copyright",)),
    ("libjpeg-turbo", "libjpeg62-turbo-dev", ("{}/copyright",)),
    ("libpng", "libpng-dev", ("{}/copyright",)),
    ("libwebp", "libwebp-dev", ("{}/copyright",)),
    ("zlib", "zlib1g-dev", ("{}/copyright",)),
    ("GNU C library", "libc6-dev", ("{}/copyright", "/usr/share/common-licenses/LGPL-2.1")),
    ("libstdc++ and libgcc", "libstdc++-12-dev", ("{}/copyright", "/usr/share/common-licenses/GPL-3")),
)


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout.strip()


# Notices

def notices(target):
    toolchain = Path(shutil.which("swift")).resolve().parent.parent
    rule = "=" * 78
    parts = ["Third-party software in the static binary of dmae.\n\n"
             "dmae itself is licensed under the Apache License, version 2.0. Its source, with which the binary can be linked\n"
             "again with another version of any of these libraries, is all that `make build` needs.\n"]
    for name, package, files in LINKED:
        version = ""
        if package:
            version = f", {output('dpkg-query', '-W', '-f', '${source:Package} ${source:Version}', package)} of Debian"
        texts = [Path(file.format(f"/usr/share/doc/{package}", toolchain=toolchain)).read_text(encoding="utf-8", errors="replace").replace("\f", "")
                 for file in files]
        parts.append("\n".join([rule, f"{name}{version}", rule, "", *(text.strip("\n") + "\n" for text in texts)]))
    Path(target).write_text("\n".join(parts), encoding="utf-8")


# What is installed

def source_date():
    stated = os.environ.get("SOURCE_DATE_EPOCH") or output("git", "-C", ROOT, "log", "-1", "--format=%ct")
    return int(stated)


def installed(binary, prefix, folder):
    """The files of `make install`, below `folder`."""
    subprocess.run(["make", "-C", ROOT, "install-files", f"DESTDIR={folder}", f"PREFIX={prefix}", f"BINARY={binary}"],
                   check=True, env=os.environ | {"SOURCE_DATE_EPOCH": str(source_date())})


def maintainer():
    """Debian's own variables, or the author of the last commit."""
    if "DEBEMAIL" in os.environ:
        return f"{os.environ.get('DEBFULLNAME', 'Unknown')} <{os.environ['DEBEMAIL']}>"
    return output("git", "-C", ROOT, "log", "-1", "--format=%an <%ae>")


def version_of(binary):
    return output(binary, "--version").split()[0]


def tar(folder, names, prefix):
    """The files below `folder` as an uncompressed tar archive that depends on nothing but their content and mode."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            entry = archive.gettarinfo(folder / name, name if name == "." else prefix + name)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = source_date()
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            if entry.isfile():
                with open(folder / name, "rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    return stream.getvalue()


def tree(folder):
    """All folders and files below `folder`, sorted."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write(path, data):
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.rename(path)
    print(f"{path}  {len(data) / 1e6:.1f} MB")


# Archive

def archive(binary, target):
    name = f"dmae-{version_of(binary)}-linux-{platform.machine()}"
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / name
        installed(binary, "/", folder)
        for file in ("README.md", "LICENSE"):
            shutil.copy(ROOT / file, folder / file)
        shutil.copy(NOTICES, folder / "THIRD-PARTY-NOTICES.txt")
        data = lzma.compress(tar(Path(work), [name, *(f"{name}/{each}" for each in tree(folder))], ""), preset=9)
    write(target / f"{name}.tar.xz", data)
    write(target / f"{name}.tar.xz.sha256", f"{hashlib.sha256(data).hexdigest()}  {name}.tar.xz\n".encode())


# Debian's package

def debian(binary, target):
    version, architecture = version_of(binary), output("dpkg", "--print-architecture")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        installed(binary, "/usr", folder)
        documentation = folder / "usr/share/doc/dmae"
        documentation.mkdir(parents=True)
        (documentation / "copyright").write_text(copyright_text(), encoding="utf-8")
        shutil.copy(ROOT / "README.md", documentation / "README.md")
        compress(documentation / "THIRD-PARTY-NOTICES.txt.gz", NOTICES.read_bytes())
        changes = (f"dmae ({version}) stable; urgency=low\n\n  * See Changes in the documentation.\n\n"
                   f" -- {maintainer()}  {formatdate(source_date())}\n")
        compress(documentation / "changelog.gz", changes.encode())
        # It is sourced, not run.
        completions = folder / "usr/share/bash-completion/completions/dmae"
        completions.write_text(completions.read_text(encoding="utf-8").removeprefix("#!/bin/bash\n"), encoding="utf-8")
        for page in sorted((folder / "usr/share/man/man1").iterdir()):
            compress(page.with_name(page.name + ".gz"), page.read_bytes())
            page.unlink()
        overrides = folder / "usr/share/lintian/overrides/dmae"
        overrides.parent.mkdir(parents=True)
        overrides.write_text(OVERRIDES)
        files = [name for name in tree(folder) if (folder / name).is_file()]
        sums = "".join(f"{hashlib.md5((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in files)
        kilobytes = sum(-(-(folder / name).stat().st_size // 1024) for name in files)
        data = lzma.compress(tar(folder, [".", *tree(folder)], "./"), preset=6)
        control = folder / "control-files"
        control.mkdir()
        (control / "control").write_text(
            f"Package: dmae\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer()}\n"
            f"Installed-Size: {kilobytes}\nSection: science\nPriority: optional\nDescription: {SUMMARY}\n"
            + description(DESCRIPTION), encoding="utf-8")
        (control / "md5sums").write_text(sums, encoding="utf-8")
        head = lzma.compress(tar(control, [".", *tree(control)], "./"), preset=6)
    write(target / f"dmae_{version}_{architecture}.deb",
          b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.xz", head) + member("data.tar.xz", data))


def member(name, data):
    """A member of an ar archive, which is what a Debian package is."""
    return f"{name:<16}{source_date():<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)


def compress(path, data):
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def description(text):
    """The long description: lines of 79 columns behind a space, paragraphs apart by a full stop."""
    paragraphs = [textwrap.wrap(paragraph.replace("\n", " "), 78) for paragraph in text.split("\n\n")]
    return "\n .\n".join("\n".join(f" {line}" for line in lines) for lines in paragraphs) + "\n"


def copyright_text():
    return (f"dmae: {SUMMARY}\n\nCopyright 2026 the dmae developers\n\nLicensed under the Apache License, version 2.0, whose text is in\n"
            "/usr/share/common-licenses/Apache-2.0. The licences of the libraries that are linked into the program are in\n"
            "THIRD-PARTY-NOTICES.txt.gz beside this file; those of GNU are in /usr/share/common-licenses, too.\n")


# What lintian finds, and is wanted.
OVERRIDES = """\
# One static binary is the purpose of this package: it runs on servers of any distribution.
dmae: statically-linked-binary [usr/bin/dmae]
# These are linked from Debian's own archives.
dmae: embedded-library *
"""


def main():
    match sys.argv[1:]:
        case ["notices", target]:
            notices(target)
        case [("archive" | "debian") as what, binary, target]:
            folder = Path(target)
            folder.mkdir(parents=True, exist_ok=True)
            {"archive": archive, "debian": debian}[what](Path(binary).resolve(), folder)
        case _:
            sys.exit(__doc__.strip())


if __name__ == "__main__":
    main()
