#!/usr/bin/python3
"""Links dmae-mpi of the objects of a build: those of dmae, with MPI in place of a process that is alone.

    link.py BUILD OUTPUT [MPICC]    BUILD: .build/release or another folder of `swift build --product dmae`

Without MPICC the program is static, with Debian's libmpich-dev. MPICC is the compiler wrapper of another MPI, whose shared
libraries the program then needs: for networks that Debian's MPICH does not know.
"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# Everything that Debian's MPICH needs to be static. UCX registers its transports when it is loaded, so that all of it must be
# there. Not libucs_signal: with it the program ends before main.
STATIC = ['--start-group', '-lmpich', '--whole-archive', '-lucp', '-luct', '-lucs', '-lucm', '--no-whole-archive',
          '-lhwloc', '-lpciaccess', '-lltdl', '-lnuma', '-lpthread', '-lm', '-ldl', '-lrt', '--end-group']


def run(*words):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f'{(result.stdout + result.stderr)[-3000:]}error: {words[0]} failed ({result.returncode})')
    return result.stdout


def link_command(build):
    """The words by which the package manager links dmae."""
    scratch = next(parent for parent in build.parents if (parent / f'{build.name}.yaml').exists())
    for line in (scratch / f'{build.name}.yaml').read_text().splitlines():
        found = re.match(r'\s*args: (\[.*\])$', line)
        words = json.loads(found.group(1)) if found else []
        if '-emit-executable' in words and words[words.index('-o') + 1].endswith('/dmae'):
            return words
    sys.exit(f'error: {build} has no dmae: run make build first')


def main():
    build, output = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    wrapper = sys.argv[3] if len(sys.argv) > 3 else None
    words = link_command(build)
    place = next(place for place, word in enumerate(words) if word.startswith('@'))
    listed = pathlib.Path(words[place][1:])
    objects = [line for line in listed.read_text().splitlines() if not line.endswith('/CRanks.build/ranks.c.o')]
    inputs = [pathlib.Path(shlex.split(line)[0]) for line in objects] + list(HERE.glob('*.*'))
    if not wrapper and output.exists() and all(path.stat().st_mtime < output.stat().st_mtime for path in inputs):
        return
    folder = build / 'mpi'
    folder.mkdir(exist_ok=True)
    compiler = str(pathlib.Path(words[0]).parent / 'clang')
    if wrapper:
        # The words by which the wrapper calls a compiler: Open MPI and MPICH know this one.
        shown = shlex.split(run(wrapper, '-show').strip())[1:]
        include = [word for word in shown if word.startswith('-I')]
        libraries = [word for word in shown if not word.startswith('-I')]
    else:
        include = [f'-I/usr/include/{os.uname().machine}-linux-gnu/mpich']
        libraries = [f'-Wl,{word}' if word.startswith('--') else word for word in STATIC]
    added = ['mpi.c'] if wrapper else ['mpi.c', 'udev.c']
    for name in added:
        run(compiler, '-O2', '-Wall', '-Wextra', '-Werror', f'-I{HERE / "include"}', *include, '-c', HERE / name, '-o',
            folder / f'{name}.o')
    objects += [shlex.quote(str(folder / f'{name}.o')) for name in added]
    (folder / 'Objects.LinkFileList').write_text('\n'.join(objects) + '\n')
    words[place] = f'@{folder / "Objects.LinkFileList"}'
    part = output.with_name(output.name + '.part')
    words[words.index('-o') + 1] = str(part)
    if wrapper:
        words = [word for word in words if word != '-static-executable']
    # swiftc takes plain -l words away from the ones around them, so every word goes to the linker as it is.
    for word in libraries:
        for each in word.removeprefix('-Wl,').split(',') if word.startswith('-Wl,') else [word]:
            words += ['-Xlinker', each]
    run(*words)
    run('strip', part)
    os.replace(part, output)


if __name__ == '__main__':
    main()
