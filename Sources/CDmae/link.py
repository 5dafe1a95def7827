#!/usr/bin/python3
"""Makes libdmae.a and libdmae.so of the objects of a build.

    link.py BUILD FOLDER     BUILD: .build/release or another folder of `swift build`; FOLDER: where the files go

Everything that the library needs but glibc becomes one relocatable object: the rooms, Swift's runtime, OpenMP, the codecs
and libstdc++. All its symbols but the functions of dmae.h are made local, so that a program may have other copies of any
of them. libdmae.a is that object, and libdmae.so is linked of it.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ROOMS = ['CKernels', 'CCodecs', 'CRanks', 'Reporting', 'Tensors', 'Images', 'Ranks', 'Weights', 'Models', 'Interchange', 'Inference',
         'CDmae', 'DmaeLibrary']
# Sources of dmae-mpi alone.
MPI = ['mpi.c', 'udev.c']
# Members are taken as they are needed.
SWIFT = ['swiftCore', 'swiftGlibc', 'swiftDispatch', 'swiftSynchronization', 'swift_StringProcessing', 'swift_RegexParser', 'swift_Concurrency',
         'swiftSwiftOnoneSupport', 'FoundationEssentials', '_FoundationCShims',
         '_FoundationCollections', 'dispatch', 'BlocksRuntime']
CODECS = ['jpeg', 'png', 'webpdemux', 'webp', 'z']
# What environment.c has in place of the C library's, under dmae_own_ and the name.
OWN = ['getenv', 'setenv', 'unsetenv', 'environ', 'stderr', 'mktemp']


def objects(build):
    """The object of each source: a build's folder may hold objects of sources that are gone."""
    rooms = [(room, ROOT / 'Sources' / room) for room in ROOMS]
    checkouts = next(folder for folder in [build, *build.parents] if (folder / 'checkouts').is_dir()) / 'checkouts'
    rooms.append(('SwiftProtobuf', checkouts / 'swift-protobuf/Sources/SwiftProtobuf'))
    found = []
    for room, folder in rooms:
        sources = [path for path in sorted(folder.rglob('*')) if path.suffix in ('.c', '.swift')
                   and 'example' not in path.relative_to(folder).parts and path.name not in MPI]
        found += [build / f'{room}.build' / f'{path.name if path.suffix == ".swift" else path.relative_to(folder)}.o'
                  for path in sources]
    missing = [path for path in found if not path.exists()]
    if missing:
        sys.exit(f'error: {missing[0]} is missing: run swift build first')
    return found


def with_little_thread_storage(build, found, folder):
    """The objects, those of AMX compiled anew: their variables of each thread take 14 KB, and a library that is loaded at
    run time has room for some hundred bytes beside those of the program. Emulated, they are allocated by the first thread
    that needs them."""
    scratch = next(parent for parent in build.parents if (parent / f'{build.name}.yaml').exists())
    commands = (scratch / f'{build.name}.yaml').read_text()
    objects = []
    for path in found:
        if '_amx_' in path.name and path.parent.name == 'gemm':
            command = re.search(rf'outputs: \["{re.escape(str(path))}"\].*?args: (\[.*?\])\n', commands, re.DOTALL).group(1)
            words = json.loads(command)
            for option in ['-index-store-path', '-MT', '-MF', '-o']:
                if option in words:
                    place = words.index(option)
                    del words[place:place + 2]
            path = folder / path.name
            run(*[word for word in words if word != '-MD'], '-femulated-tls', '-o', path)
        objects.append(path)
    return objects


def toolchain():
    """The folders of Swift's static libraries and of its tools."""
    information = subprocess.run(['swift', '-print-target-info'], check=True, capture_output=True, text=True).stdout
    library = pathlib.Path(json.loads(information)['paths']['runtimeResourcePath']).parent
    return library / 'swift_static/linux', library.parent / 'bin'


def library(name):
    """The path of a static library of the C compiler."""
    path = subprocess.run(['cc', f'-print-file-name=lib{name}.a'], check=True, capture_output=True, text=True).stdout.strip()
    if '/' not in path:
        sys.exit(f'error: lib{name}.a is missing: run make packages')
    return path


def run(*words):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f'{(result.stdout + result.stderr)[-3000:]}error: {words[0]} failed ({result.returncode})')


def exported():
    """The functions of dmae.h that dmae.map lists."""
    listed = re.search(r'global:(.*)local:', (HERE / 'dmae.map').read_text(), re.DOTALL).group(1)
    return re.findall(r'\w+', listed)


def version():
    header = (HERE / 'include/dmae.h').read_text()
    return '.'.join(re.search(rf'define DMAE_VERSION_{part} (\d+)', header).group(1) for part in ['MAJOR', 'MINOR', 'PATCH'])


def main():
    build, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    (swift, tools), openmp = toolchain(), pathlib.Path(os.environ['DMAE_OPENMP'])
    libraries = [swift / os.uname().machine / 'swiftrt.o', *[swift / f'lib{name}.a' for name in SWIFT], openmp / 'lib/libomp.a',
                 *[pathlib.Path(library(name)) for name in [*CODECS, 'stdc++', 'gcc', 'gcc_eh']]]
    functions, sources = exported(), objects(build)
    shared, archive = folder / f'libdmae.so.{version()}', folder / 'libdmae.a'
    inputs = [*sources, *libraries, HERE / 'dmae.map', pathlib.Path(__file__)]
    if archive.exists() and shared.exists() and all(
            path.stat().st_mtime < archive.stat().st_mtime < shared.stat().st_mtime for path in inputs):
        return
    parts = [folder / name for name in ['rooms.o', 'renamed.o', 'whole.o', 'dmae.o']]
    rooms, renamed, whole, small = parts
    sources = with_little_thread_storage(build, sources, folder)
    parts += [path for path in sources if path.parent == folder]
    environment = next(path for path in sources if path.name == 'environment.c.o')
    run('ld', '-r', '-d', '-o', rooms, '--gc-sections', '--gc-keep-exported', '--force-group-allocation',
        *[f'--undefined={name}' for name in functions], *[path for path in sources if path != environment],
        '--start-group', *libraries, '--end-group')
    run('objcopy', '--strip-debug', *[f'--redefine-sym={name}=dmae_own_{name}' for name in OWN], rooms, renamed)
    run('ld', '-r', '-o', whole, renamed, environment)
    # Debian's objcopy leaves libstdc++'s unique symbols global.
    run(tools / 'llvm-objcopy', *[f'--keep-global-symbol={name}' for name in functions], whole, small)
    archive.unlink(missing_ok=True)
    run('ar', 'rcsD', archive, small)
    major = version().split('.')[0]
    run('cc', '-shared', '-nodefaultlibs', '-o', shared, f'-Wl,-soname,libdmae.so.{major}',
        f'-Wl,--version-script,{HERE / "dmae.map"}', '-Wl,-z,defs', '-Wl,-z,nodelete', '-Wl,-z,now', '-Wl,-z,relro',
        '-Wl,-z,noexecstack', '-Wl,--gc-sections', '-Wl,--build-id', '-Wl,-s', small, '-lm', '-lc')
    for part in parts:
        part.unlink()
    for link in [f'libdmae.so.{major}', 'libdmae.so']:
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(shared.name)


if __name__ == '__main__':
    main()
