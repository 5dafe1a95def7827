"""Small tar archives of every form, with what Python's tarfile reads in them: python3 make_tars.py [OUT]

Forms that tarfile does not write come from GNU tar. Everything is fixed: names, times, owners. See README.md.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))

LONG = "n" * 40 + "/" + "m" * 50 + "/" + "o" * 60 + "/" + "p" * 30 + ".jpg"  # too long for a name, not for a prefix
LONGER = "/".join(["q" * 90] * 4) + "/é😀.png"  # too long for both
NAMES = ["cat/1.jpg", "cat/empty.png", "dog/ünïcode 名.jpg", "./dog//twice.JPEG", "deep/er/still/x.webp", LONG]


def content(name):
    return b"" if "empty" in name else ("content of " + name).encode() * 7


def entry(name, kind=tarfile.REGTYPE, target="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    info.mtime, info.uid, info.gid, info.uname, info.gname = 1700000000, 1000, 1000, "me", "us"
    return info


def write(path, form, names, extra=(), **options):
    with tarfile.open(os.path.join(OUT, path), "w", format=form, encoding="utf-8", **options) as archive:
        for name in names:
            if name.endswith("/"):
                archive.addfile(entry(name.rstrip("/"), tarfile.DIRTYPE))
            else:
                data = content(name)
                archive.addfile(entry(name, size=len(data)), io.BytesIO(data))
        for info in extra:
            archive.addfile(info)


def links(long):
    return [
        entry("cat/hard.jpg", tarfile.LNKTYPE, "cat/1.jpg"),
        entry("dog/soft.jpg", tarfile.SYMTYPE, "../cat/1.jpg"),
        entry("dog/chain.jpg", tarfile.SYMTYPE, "soft.jpg"),
        entry("dog/gone.jpg", tarfile.SYMTYPE, "nowhere.jpg"),
        entry("dog/out.jpg", tarfile.SYMTYPE, "../../x.jpg"),
        entry("dog/far.jpg", tarfile.SYMTYPE, "/etc/x.jpg"),
        entry("pipe.jpg", tarfile.FIFOTYPE),
        *([entry("cat/long.jpg", tarfile.SYMTYPE, "../" + LONGER)] if long else []),
    ]


def gnu_tar(path, *options):
    """Files in a folder, one of them with holes if those are not written, by GNU tar."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(folder + "/cat")
        if "--sparse" in options:
            with open(folder + "/cat/holes.jpg", "wb") as file:
                for part in range(5):  # more parts than the first header holds
                    file.seek(part * 65536)
                    file.write(b"part %d" % part)
                file.truncate(5 * 65536)
        with open(folder + "/cat/whole.jpg", "wb") as file:
            file.write(content("cat/whole.jpg"))
        for name in os.listdir(folder + "/cat") + [""]:
            os.utime(folder + "/cat/" + name, (1700000000, 1700000000))
        subprocess.run(
            ["tar", "-cf", os.path.join(OUT, path), "-C", folder, "--sort=name", "--owner=me:1000", "--group=us:1000",
             "--mode=0644", *options, "cat"], check=True)


write("ustar.tar", tarfile.USTAR_FORMAT, ["cat/", "empty/"] + NAMES, links(False))
write("pax.tar", tarfile.PAX_FORMAT, ["cat/", "empty/"] + NAMES + [LONGER], links(True), pax_headers={"comment": "made by tarfile"})
write("gnu.tar", tarfile.GNU_FORMAT, ["cat/", "empty/"] + NAMES + [LONGER], links(True))
gnu_tar("v7.tar", "--format=v7")
gnu_tar("sparse-gnu.tar", "--format=gnu", "--sparse")
for version in ["0.0", "0.1", "1.0"]:
    gnu_tar(f"sparse-pax-{version}.tar", "--format=posix", "--sparse", f"--sparse-version={version}",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")

kinds = {tarfile.REGTYPE: "regular", tarfile.AREGTYPE: "regular", tarfile.DIRTYPE: "folder", tarfile.LNKTYPE: "hard link",
         tarfile.SYMTYPE: "symbolic link", tarfile.FIFOTYPE: "other"}
expected = {}
for name in sorted(os.listdir(OUT)):
    if not name.endswith(".tar"):
        continue
    with tarfile.open(os.path.join(OUT, name), encoding="utf-8") as archive:
        expected[name] = [
            {"path": member.name, "kind": "sparse" if member.sparse is not None else kinds[member.type],
             "target": member.linkname, "offset": member.offset_data,
             "size": member.size if member.isreg() and member.sparse is None else None}
            for member in archive.getmembers()
        ]
with open(os.path.join(OUT, "expected.json"), "w") as file:
    json.dump(expected, file, indent=1, ensure_ascii=False, sort_keys=True)
    file.write("\n")
