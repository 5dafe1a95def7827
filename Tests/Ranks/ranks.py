#!/usr/bin/python3
"""Runs of several processes: the same bytes as one process, and what becomes of failures.

    ranks.py --dmae .build/dmae --mpi .build/dmae-mpi [--short] [--only TEXT] [--seed N]

Each test starts real processes with mpiexec. Process killed, stopped or signalled are found by their parent. Runs are those of
tiny models on the demo's images. --short leaves out what `make test` has no time for. A test that hangs fails.
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'Fixtures/demo'
LONGEST = 240
# What one process measures differs from run to run.
MEASURED = ('images_per_second', 'time', 'elapsed_seconds')


class Failed(Exception):
    pass


def require(condition, text):
    if not condition:
        raise Failed(text)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def log(folder):
    """The lines of a run's log without what is measured."""
    lines = []
    for line in (folder / 'log.jsonl').read_text().splitlines():
        values = json.loads(line)
        lines.append({key: value for key, value in values.items() if key not in MEASURED})
    return lines


class Bench:
    def __init__(self, arguments, folder):
        self.dmae, self.mpi, self.folder = arguments.dmae.resolve(), arguments.mpi.resolve(), folder
        self.random = random.Random(arguments.seed)
        # Processes that wait for one another must not spin on the processors of the others.
        self.environment = {**os.environ, 'OMP_WAIT_POLICY': 'passive'}
        self.images = folder / 'images'
        shutil.copytree(DEMO / 'images', self.images)
        for place in sorted(self.images.iterdir())[5:]:
            shutil.rmtree(place)
        self.references = {}
        self.large = None

    # Runs

    def words(self, kind, output, *more):
        sizes = ['--batch', '4', '--effective-batch', '32', '--groups', '8', '--checkpoint-every', '2', '--no-check', '--quiet']
        if kind == 'finetune':
            words = ['finetune', '--recipe', 'finetune-small-data', '--from-scratch', '--image-size', '32', '--patch-size', '8',
                     '--width', '32', '--depth', '2', '--heads', '2', '--train', self.images, '--val', self.images,
                     '--epochs', '2', '--evaluate-every', '1', '--ema', '0.9', '--clip-gradient', '1', *sizes]
        elif kind == 'pretrain':
            words = ['pretrain', '--recipe', 'demo-teacher', '--image-size', '32', '--patch-size', '8', '--width', '32', '--depth', '2',
                     '--heads', '2', '--decoder-width', '32', '--decoder-depth', '1', '--decoder-heads', '2', '--data', self.images,
                     '--epochs', '2', '--warmup-epochs', '0.5', *sizes]
        else:
            words = ['distill', '--recipe', 'demo', '--teacher', DEMO / 'teacher.safetensors', '--data', self.images,
                     '--epochs', '2', '--warmup-epochs', '0.5', *sizes]
        return [str(word) for word in [*words, '--output', output, *more]]

    def start(self, count, words, program=None, options=()):
        """mpiexec with its processes in a session of their own."""
        command = [str(program or self.mpi), *words]
        if count > 0:
            command = ['mpiexec.hydra', *options, '-n', str(count), *command]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment,
                                start_new_session=True, cwd=self.folder)

    def end(self, process, seconds=LONGEST):
        """Exit code and output; a process that hangs is a failure."""
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill(process)
            output, _ = process.communicate()
            raise Failed(f'hangs after {seconds} s: {output[-500:]}')
        return process.returncode, output

    @staticmethod
    def kill(process):
        for child in ranks_of(process):
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        os.killpg(process.pid, signal.SIGKILL)

    def run(self, count, words, code=0, **options):
        found, output = self.end(self.start(count, words, **options))
        require(found == code, f'exit code {found}, not {code}: {output[-1500:]}')
        return output

    def pair(self, words, other=None, elsewhere=None, program=None, environment=()):
        """Two processes that differ: process 1 has `other` words, begins in another folder, runs another program, or has more
        variables. Exit code and output."""
        command = ['mpiexec.hydra', '-n', '1', '-wdir', str(self.folder), str(self.mpi), *words, ':', '-n', '1', '-wdir',
                   str(elsewhere or self.folder), *environment, str(program or self.mpi), *(other or words)]
        return self.end(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                         env=self.environment, start_new_session=True, cwd=self.folder))

    def elsewhere(self):
        """An empty folder for what process 1 finds under the same relative path."""
        place = self.folder / 'elsewhere'
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    def new(self, name):
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def reference(self, kind, precision, *more):
        """The run of one process, of the ordinary binary."""
        key = kind, precision, *more
        if key not in self.references:
            folder = self.new('-'.join(['reference', *key]).replace('---', '-'))
            self.run(0, self.words(kind, folder, '--precision', precision, *more), program=self.dmae)
            self.references[key] = folder
        return self.references[key]

    def require_same(self, folder, reference):
        for name in ('model.safetensors', *(['best.safetensors', 'raw.safetensors', 'evaluation.json']
                                            if (reference / 'best.safetensors').exists() else [])):
            require(digest(folder / name) == digest(reference / name), f'{name} differs')
        newest = sorted(path.name for path in reference.glob('checkpoint-*.safetensors'))[-1]
        require(digest(folder / newest) == digest(reference / newest), f'{newest} differs')
        require(log(folder) == log(reference), 'the logs differ')

    # Tests

    def same_bytes(self, kind, precision, count, *more):
        folder = self.new('run')
        self.run(count, self.words(kind, folder, '--precision', precision, *more))
        self.require_same(folder, self.reference(kind, precision))

    def same_exchange(self, count):
        """--exchange bf16 rounds in one process where it rounds in several."""
        folder, reference = self.new('run'), self.reference('distill', 'f32', '--exchange', 'bf16')
        self.run(count, self.words('distill', folder, '--precision', 'f32', '--exchange', 'bf16'))
        self.require_same(folder, reference)
        require(digest(reference / 'model.safetensors') != digest(self.reference('distill', 'f32') / 'model.safetensors'),
                'nothing is rounded')

    def one_group(self):
        """Without --groups the ordinary binary and one process of dmae-mpi do what they did."""
        one, other = self.new('one'), self.new('other')
        for folder, program in ((one, self.dmae), (other, self.mpi)):
            words = self.words('distill', folder, '--precision', 'f32')
            place = words.index('--groups')
            self.run(0, words[:place] + words[place + 2:], program=program)
        require(digest(one / 'model.safetensors') == digest(other / 'model.safetensors'), 'the weights differ')
        require('"groups"' not in (one / 'configuration.json').read_text(), 'one process has groups')

    def interrupted(self, kind, number, count, then):
        """A signal to one process ends all with a checkpoint; another number of processes goes on."""
        folder = self.new('run')
        words = self.words(kind, folder, '--precision', 'f32')
        process = self.start(count, words)
        try:
            wait_for(lambda: (folder / 'log.jsonl').exists() and len(log(folder)) > 0, process)
            children = ranks_of(process)
            require(len(children) == count, f'{len(children)} processes of {count}')
            os.kill(self.random.choice(children), number)
        finally:
            code, output = self.end(process)
        if number == signal.SIGKILL:
            require(code != 0, 'a killed process is a success')
        else:
            require(code in (0, 75), f'exit code {code}: {output[-800:]}')
            status = json.loads((folder / 'status.json').read_text())
            require(status['state'] in ('resumable', 'finished'), f'status.json says {status}')
        if not (folder / 'model.safetensors').exists():
            self.run(then, [*words, '--resume', 'auto'])
        self.require_same(folder, self.reference(kind, 'f32'))

    def images_that_hang(self, number, rank):
        """A process waits for an image that never comes, while the other waits for its gradients; a signal ends both.

        Of the four micro-batches of a step the last one is special: the others have sent their gradients by then."""
        if not shutil.which('strace'):
            print('    left out: strace is not installed', flush=True)
            return
        folder = self.new('run')
        script = self.folder / 'hanging.sh'
        paths = ' '.join(f'-P {path}' for path in sorted(self.images.rglob('*.*')))
        script.write_text(f'#!/bin/bash\n[ "$PMI_RANK" = {rank} ] || exec "$@"\n'
                          f'exec strace -f -qq -o /dev/null {paths} -e inject=openat:delay_enter=100000000:when={number} "$@"\n')
        script.chmod(0o755)
        words = self.words('distill', folder, '--precision', 'f32')
        process = self.start(2, [str(self.mpi), *words], program=script)
        try:
            wait_for(lambda: (folder / 'status.json').exists(), process)
            time.sleep(3)
            children = ranks_of(process)
            require(not log(folder), 'the image came')
            os.kill(children[rank], signal.SIGTERM)
            start = time.monotonic()
            wait_for(lambda: json.loads((folder / 'status.json').read_text())['state'] == 'resumable', process, 20)
            wait_for(lambda: not ranks_of(process), process, 40)
            require(time.monotonic() - start < 30, 'the end came late')
        except Failed:
            self.kill(process)
            raise
        finally:
            # strace waits for its delay.
            subprocess.run(['pkill', '-KILL', '-f', str(script)], capture_output=True)
            _, output = self.end(process)
        require('stopped by SIGTERM at step' in output, f'no last word: {output[-800:]}')
        self.run(2, [*words, '--resume', 'auto'])
        self.require_same(folder, self.reference('distill', 'f32'))

    def killed_again_and_again(self, count):
        """SIGKILL at random times, also while a checkpoint is written; each resume with another number of processes."""
        folder, kills, runs = self.new('run'), 0, 0
        often = '--checkpoint-every', '1'
        words = self.words('distill', folder, '--precision', 'f32', *often)
        longest = LONGEST
        for _ in range(3):
            start = time.monotonic()
            self.run(2, words)
            longest = min(longest, time.monotonic() - start)
            folder = self.new('run')
        while kills < count or not (folder / 'model.safetensors').exists():
            if (folder / 'model.safetensors').exists():
                self.require_same(folder, self.reference('distill', 'f32', *often))
                runs += 1
                folder = self.new('run')
            resume = ['--resume', 'auto'] if folder.exists() else []
            process = self.start(self.random.choice([1, 2, 4]), [*words, *resume])
            before = time.monotonic()
            delay = self.random.uniform(0, longest) if kills < count else LONGEST
            while process.poll() is None and time.monotonic() - before < delay:
                time.sleep(0.01)
            children = ranks_of(process)
            if process.poll() is None and children:
                os.kill(self.random.choice(children), signal.SIGKILL)
                kills += 1
                start = time.monotonic()
                self.end(process, 60)
                require(time.monotonic() - start < 30, 'the others did not end within 30 seconds')
            else:
                code, output = self.end(process)
                require(code == 0, f'exit code {code}: {output[-800:]}')
        print(f'    {kills} kills in {runs} runs', flush=True)
        self.require_same(folder, self.reference('distill', 'f32', *often))

    def stopped(self):
        """A process that does nothing any more is named, and the others end."""
        folder = self.new('run')
        process = self.start(2, [*self.words('distill', folder, '--precision', 'f32'), '--peer-timeout', '3', '--epochs', '50'])
        wait_for(lambda: (folder / 'log.jsonl').exists() and len(log(folder)) > 0, process)
        child = ranks_of(process)[-1]
        os.kill(child, signal.SIGSTOP)
        start = time.monotonic()
        try:
            wait_for(lambda: process.poll() is not None, process, 40)
        finally:
            os.kill(child, signal.SIGCONT)
        code, output = self.end(process)
        require(time.monotonic() - start < 34, 'the time-out came late')
        require(code != 0 and 'no word from process' in output, f'exit code {code}: {output[-800:]}')

    def resumed_with_a_blocked_log(self):
        """Process 0 alone cannot open the log: the others are told at once."""
        folder = self.new('run')
        words = self.words('distill', folder, '--precision', 'f32')
        process = self.start(2, words)
        wait_for(lambda: list(folder.glob('checkpoint-*')), process)
        os.kill(ranks_of(process)[0], signal.SIGTERM)
        self.end(process)
        (folder / 'log.jsonl').unlink()
        (folder / 'log.jsonl').mkdir()
        start = time.monotonic()
        output = self.run(2, [*words, '--resume', 'auto'], 74)
        require(output.count('error:') == 1 and time.monotonic() - start < 60, output[-800:])

    def paused_together(self):
        """All processes of a machine that slept are there again."""
        folder = self.new('run')
        process = self.start(2, [*self.words('distill', folder, '--precision', 'f32'), '--peer-timeout', '3'])
        wait_for(lambda: (folder / 'log.jsonl').exists() and len(log(folder)) > 0, process)
        children = ranks_of(process)
        for child in children:
            os.kill(child, signal.SIGSTOP)
        time.sleep(5)
        for child in children:
            os.kill(child, signal.SIGCONT)
        code, output = self.end(process)
        require(code == 0, f'exit code {code}: {output[-800:]}')
        self.require_same(folder, self.reference('distill', 'f32'))

    def user_signal(self):
        """SIGUSR1 before the run's own handlers ends a process at once; MPI's handler must not be in between."""
        for delay in (0.2, 0.5, 0.8):
            process = self.start(1, ['knn', '--weights', str(self.reference('distill', 'f32') / 'model.safetensors'), '--train',
                                     str(self.images), '--val', str(self.images), '--workers', '1'])
            time.sleep(delay)
            for child in ranks_of(process):
                os.kill(child, signal.SIGUSR1)
            self.end(process, 30)

    def begun_by_one(self):
        """A run without groups is not for several processes, and the sentence does not lead in a circle."""
        folder = self.new('run')
        words = self.words('distill', folder, '--precision', 'f32')
        place = words.index('--groups')
        words = words[:place] + words[place + 2:]
        process = self.start(0, words, program=self.dmae)
        wait_for(lambda: list(folder.glob('checkpoint-*')), process)
        process.terminate()
        self.end(process)
        self.refused(2, [*words, '--resume', 'auto'], 'the run was begun by one process')

    def different(self, words, other, text, code=64, environment=()):
        """Two processes that do not do the same are refused before the first step."""
        folder = self.new('run')
        base = self.words('distill', folder, '--precision', 'f32')
        found, output = self.pair([*base, *words], [*base, *other], environment=environment)
        require(found == code, f'exit code {found}, not {code}: {output[-800:]}')
        require(re.search(text, output), f'no "{text}" in: {output[-800:]}')
        require(output.count('error:') == 1, f'not one error: {output[-800:]}')
        require(not folder.exists(), 'something was left')

    def other_images(self):
        """The same path leads to other images."""
        place = self.elsewhere()
        shutil.copytree(self.images, place / 'images')
        os.unlink(sorted((place / 'images').rglob('*.jpg'))[0])
        folder = self.new('run')
        words = self.words('distill', folder, '--precision', 'f32')
        words[words.index(str(self.images))] = 'images'
        code, output = self.pair(words, elsewhere=place)
        require(code == 64 and 'other images than process 0' in output, f'exit code {code}: {output[-800:]}')
        require(not folder.exists(), 'something was left')

    def other_teacher(self):
        """The same path leads to another teacher of the same sizes."""
        place = self.elsewhere()
        shutil.copy(DEMO / 'teacher.safetensors', self.folder / 'teacher.safetensors')
        other = bytearray((DEMO / 'teacher.safetensors').read_bytes())
        length = int.from_bytes(other[:8], 'little')
        header = json.loads(other[8:8 + length])
        # The lowest bit of a number.
        other[8 + length + header['blocks.0.attn.qkv.weight']['data_offsets'][0]] ^= 1
        (place / 'teacher.safetensors').write_bytes(other)
        folder = self.new('run')
        words = self.words('distill', folder, '--precision', 'f32')
        words[words.index('--teacher') + 1] = 'teacher.safetensors'
        code, output = self.pair(words, elsewhere=place)
        require(code == 64 and 'other weights of the teacher than process 0' in output, f'exit code {code}: {output[-800:]}')
        require(not folder.exists(), 'something was left')

    def other_start(self):
        """The same path leads to other starting weights."""
        place = self.elsewhere()
        reference = self.reference('distill', 'f32') / 'model.safetensors'
        shutil.copy(reference, self.folder / 'start.safetensors')
        other = bytearray(reference.read_bytes())
        other[-4] ^= 1
        (place / 'start.safetensors').write_bytes(other)
        folder = self.new('run')
        words = [*self.words('distill', folder, '--precision', 'f32'), '--init-student', 'start.safetensors']
        code, output = self.pair(words, elsewhere=place)
        require(code == 64 and 'other starting weights than process 0' in output, f'exit code {code}: {output[-800:]}')
        require(not folder.exists(), 'something was left')

    def other_program(self):
        """Process 1 runs another build."""
        program = self.folder / 'dmae-mpi'
        program.write_bytes(self.mpi.read_bytes() + b'another')
        program.chmod(0o755)
        folder = self.new('run')
        words = self.words('distill', folder, '--precision', 'f32')
        code, output = self.pair(words, program=program)
        require(code == 64 and 'other program than process 0' in output, f'exit code {code}: {output[-800:]}')
        require(not folder.exists(), 'something was left')

    def memory(self):
        """Each of several processes keeps its part of the moments, but for half of a tensor at each cut."""
        def plan(count):
            output = self.run(count, [*self.words('distill', self.new('run'), '--precision', 'f32'), '--dry-run', '--json'])
            return json.JSONDecoder().raw_decode(output[output.index('{'):])[0]
        alone = plan(1)['memory']['purposes']['optimizer moments']
        for count in (2, 4):
            found = plan(count)
            moments = found['memory']['purposes']['optimizer moments']
            # The largest tensor of this student has 192 by 64 numbers, with two moments each.
            require(moments < alone / count + 2 * 4 * 64 * 256, f'{moments} bytes of moments, {alone} by one process')
            sharing = found['sharing']
            require(sharing['processes'] == count and sharing['bytes_sent'] > 0 and sharing['exchange_seconds'] > 0
                    and 0 < sharing['efficiency'] <= 1, f'the plan says {sharing}')

    # The teacher's packed weights

    def large_teacher(self):
        """Random weights of which the demo's recipe reads five blocks, 35 million numbers."""
        if self.large is None:
            folder = self.new('large-teacher')
            self.run(0, self.words('pretrain', folder, '--width', '768', '--depth', '6', '--heads', '12', '--image-size', '64',
                                   '--epochs', '0.5', '--warmup-epochs', '0'), program=self.dmae)
            self.large = folder / 'model.safetensors'
            for name in folder.glob('checkpoint-*'):
                name.unlink()
        return self.large

    def teach(self, folder, *more):
        """The words of a distillation with the large teacher."""
        words = self.words('distill', folder, '--precision', 'f32', '--batch', '1', '--effective-batch', '8', '--epochs', '0.3',
                           '--warmup-epochs', '0', *more)
        # A note tells of copies.
        words.remove('--quiet')
        words[words.index('--teacher') + 1] = str(self.large_teacher())
        return words

    def after(self, *commands):
        """A program that starts dmae-mpi after commands of the shell."""
        script = self.folder / f'after-{hashlib.sha256(repr(commands).encode()).hexdigest()[:8]}.sh'
        script.write_text('\n'.join(['#!/bin/bash', *commands, f'exec {self.mpi} "$@"', '']))
        script.chmod(0o755)
        return script

    # Less than what is shared, more than any file of the student; MPI's own memory is smaller, too.
    NOTHING_TO_SHARE = 'ulimit -f 65536'

    def plan_of(self, count, words, **options):
        output = self.run(count, [*words, '--dry-run', '--json'], **options)
        # A busy machine is remarked upon, before or after.
        return json.JSONDecoder().raw_decode(output[output.index('{'):])[0], output

    def in_training(self, process, folder, count):
        """The bytes of the first whole step of `count` processes: Pss, that of several mappings divided among them, and the
        most that each has mapped for data."""
        try:
            wait_for(lambda: (folder / 'log.jsonl').exists() and len(log(folder)) > 0, process)
        except Failed:
            self.kill(process)
            raise
        children = ranks_of(process)
        require(len(children) == count, f'{len(children)} processes of {count}')
        return sum(kilobytes(child, 'smaps_rollup', 'Pss') for child in children), max(
            kilobytes(child, 'status', 'VmData') for child in children)

    def shared_teacher(self, count):
        """The processes of a machine have the teacher's packed weights once, and train the same."""
        found, memory, lines = {}, {}, {}
        for name, program in (('shared', None), ('apart', self.after(self.NOTHING_TO_SHARE))):
            folder = self.new('run')
            words = self.teach(folder, '--epochs', '50')
            memory[name], output = self.plan_of(count, words, program=program)
            require(('has its own copy of' in output) == (name == 'apart'), output[-800:])
            process = self.start(count, words, program=program)
            found[name], _ = self.in_training(process, folder, count)
            lines[name] = log(folder)[0]
            os.kill(ranks_of(process)[0], signal.SIGTERM)
            code, output = self.end(process)
            require(code == 75, f'exit code {code}: {output[-800:]}')
        shared, apart = memory['shared']['memory'], memory['apart']['memory']
        print(f'    {found["apart"] / 1e6:.0f} MB by {count} processes, {found["shared"] / 1e6:.0f} MB where '
              f'{shared["shared"] / 1e6:.0f} MB are shared', flush=True)
        require(lines['shared'] == lines['apart'], f'the first steps differ: {lines}')
        saved = (count - 1) * shared['shared']
        require(abs(found['apart'] - found['shared'] - saved) < 0.15 * saved, f'not {saved} bytes less: {found}')
        # The plan tells of it.
        require(shared['shared'] > 4 * 35_000_000 and 'shared' not in apart, f'the plans say {shared}, {apart}')
        require(apart['planned'] - shared['planned'] == shared['shared'], f'the plans say {shared}, {apart}')
        require(shared['purposes']['teacher weights'] < 10_000_000 < apart['purposes']['teacher weights'],
                f'the plans say {shared}, {apart}')
        require(apart['machine'] - shared['machine'] == saved, f'the plans say {shared}, {apart}')
        require(shared['machine'] >= shared['shared'] + count * shared['planned'] * 0.9, f'the plan says {shared}')
        require(abs(apart['resident'] - shared['resident'] - shared['shared']) < 0.15 * shared['shared'],
                f'the plans say {shared}, {apart}')

    def text_of_plan(self):
        output = self.run(2, [*self.teach(self.new('run')), '--dry-run'])
        for text in ("once for the 2 processes of a machine", 'the 2 processes of this machine together',
                     'that the processes share'):
            require(text in output, f'no "{text}" in: {output}')
        alone = self.run(1, [*self.teach(self.new('run')), '--dry-run'])
        require('processes' not in alone, alone)

    def nothing_left(self):
        """No memory is left by a normal end, a killed process 0, a killed process 1, and a refused start."""
        size = 4 * 35_000_000
        before = shared_memory()

        def gone(name):
            start = time.monotonic()
            while shared_memory() - before > size / 2:
                require(time.monotonic() - start < 20, f'{name}: {shared_memory() - before} bytes are left')
                time.sleep(0.1)
        self.run(2, self.teach(self.new('run')))
        gone('a normal end')
        for rank in (0, 1):
            folder = self.new('run')
            process = self.start(2, self.teach(folder, '--epochs', '50'))
            self.in_training(process, folder, 2)
            require(shared_memory() - before > size / 2, 'nothing is shared')
            os.kill(ranks_of(process)[rank], signal.SIGKILL)
            code, _ = self.end(process, 60)
            require(code != 0, 'a killed process is a success')
            gone(f'process {rank} was killed')
        self.refused_teacher()
        gone('a refused start')

    def refused_teacher(self):
        """Process 1 has another teacher than process 0, who would pack it for both."""
        place = self.elsewhere()
        shutil.copy(self.large_teacher(), self.folder / 'teacher.safetensors')
        shutil.copy(self.large_teacher(), place / 'teacher.safetensors')
        with open(place / 'teacher.safetensors', 'r+b') as file:
            length = int.from_bytes(file.read(8), 'little')
            offset = 8 + length + json.loads(file.read(length))['blocks.0.attn.qkv.weight']['data_offsets'][0]
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))
        folder = self.new('run')
        words = self.teach(folder)
        words[words.index('--teacher') + 1] = 'teacher.safetensors'
        code, output = self.pair(words, elsewhere=place)
        require(code == 64 and 'other weights of the teacher than process 0' in output, f'exit code {code}: {output[-800:]}')
        require(not folder.exists(), 'something was left')

    def limit_of_memory(self):
        """What is shared counts once: with a limit on the data of each process the run fits where copies do not."""
        folder = self.new('run')
        process = self.start(2, self.teach(folder, '--epochs', '50'))
        _, data = self.in_training(process, folder, 2)
        os.kill(ranks_of(process)[0], signal.SIGTERM)
        self.end(process)
        limit = f'ulimit -d {(data + 2 * 35_000_000) // 1024}'
        self.run(2, self.teach(self.new('run')), program=self.after(limit))
        output = self.run(2, self.teach(self.new('run')), 1, program=self.after(limit, self.NOTHING_TO_SHARE))
        require('do not fit' in output and 'ulimit -d' in output and output.count('error:') == 1, output[-800:])

    def limit_of_group(self):
        """What the processes of a machine take together is held against the limit of their control group: it fits shared,
        and copies do not."""
        group = ControlGroup.make()
        if group is None:
            print('    left out: this process may not make a control group of memory', flush=True)
            return
        try:
            apart = self.plan_of(2, self.teach(self.new('run')), program=self.after(self.NOTHING_TO_SHARE))[0]
            group.limit(apart['memory']['machine'])
            self.run(2, self.teach(self.new('run')), program=self.after(group.join))
            output = self.run(2, self.teach(self.new('run')), 1, program=self.after(group.join, self.NOTHING_TO_SHARE))
            require('of the 2 processes on this machine do not fit' in output and 'cgroup' in output
                    and output.count('error:') == 1, output[-800:])
        finally:
            group.remove()

    def unseen(self):
        """A process that the others do not see in /proc cannot share, so that each has its own, and all train the same."""
        apart = ['unshare', '--pid', '--fork', '--mount-proc']
        if subprocess.run([*apart, 'true'], capture_output=True).returncode:
            print('    left out: this process may not number processes anew', flush=True)
            return
        script, folder = self.folder / 'unseen.sh', self.new('run')
        script.write_text(f'#!/bin/bash\n[ "$PMI_RANK" = 1 ] && exec {" ".join(apart)} {self.mpi} "$@"\nexec {self.mpi} "$@"\n')
        script.chmod(0o755)
        # MPI's own memory to share asks for the same; and its end waits for the time-out then.
        words = self.words('distill', folder, '--precision', 'f32', '--peer-timeout', '5')
        words.remove('--quiet')
        output = self.run(2, words, program=script, options=('-env', 'UCX_TLS', 'tcp,self'))
        require('own copy of the teacher' in output and 'do not see one another' in output, output[-800:])
        self.require_same(folder, self.reference('distill', 'f32'))

    def other_form(self, lower):
        """Processes with different instruction sets pack differently, so that each has its own."""
        folder = self.new('run')
        words = [word for word in self.words('distill', folder, '--precision', 'f32', '--allow-mixed-isa') if word != '--quiet']
        code, output = self.pair(words, environment=['-env', 'DMAE_ISA', lower])
        require(code == 0 and 'own copy of the teacher' in output and 'different instruction sets' in output,
                f'exit code {code}: {output[-800:]}')

    def unreadable_at_one(self, limit):
        """Images that one process alone cannot read: a warning that names it, or the end of all."""
        place = self.elsewhere()
        shutil.copytree(self.images, place / 'images')
        for path in sorted((place / 'images').rglob('*.jpg'))[::2]:
            path.write_bytes(b'not a picture')
        folder = self.new('run')
        words = [*self.words('distill', folder, '--precision', 'f32'), '--unreadable-limit', limit]
        words[words.index(str(self.images))] = 'images'
        code, output = self.pair(words, elsewhere=place)
        if float(limit) > 0.5:
            require(code == 0 and 'process 1: ' in output, f'exit code {code}: {output[-800:]}')
        else:
            require(code == 65 and 'process 1' in output, f'exit code {code}: {output[-800:]}')
            require(output.count('error:') == 1, f'not one error: {output[-800:]}')
            require(json.loads((folder / 'status.json').read_text())['state'] == 'failed', 'status.json does not say failed')

    # What several processes share beside training

    def evaluated_words(self, folder):
        """Losses on images that are held out, some of them unreadable, and k-NN, after each epoch."""
        damaged = self.folder / 'damaged'
        if not damaged.exists():
            shutil.copytree(self.images, damaged)
            for path in sorted(damaged.rglob('*.jpg'))[::7]:
                path.write_bytes(b'not a picture')
        return self.words('distill', folder, '--precision', 'f32', '--val', damaged, '--knn-train', self.images, '--knn-val',
                          damaged, '--knn-every', '1', '--unreadable-limit', '0.9')

    def evaluations(self, count):
        """The values of evaluations, and the warnings about their images, are those of one process."""
        outputs = {}
        for processes, program in ((0, self.dmae), (count, None)):
            folder = self.new(f'evaluated-{processes}')
            outputs[processes] = self.run(processes, self.evaluated_words(folder), program=program)
        one, several = self.folder / 'evaluated-0', self.folder / f'evaluated-{count}'
        require(any('knn_top1_k10' in line for line in log(one)), 'nothing was evaluated')
        self.require_same(several, one)
        warnings = [sorted(set(re.findall(r'.*it is left out', output))) for output in outputs.values()]
        require(warnings[0] and warnings[0] == warnings[1], f'other warnings: {warnings[0][:3]} and {warnings[1][:3]}')

    def evaluation_that_fails(self):
        """Too many unreadable images of an evaluation, none of them in the first batch: a checkpoint, and one sentence."""
        damaged = self.folder / 'mostly-damaged'
        shutil.copytree(self.images, damaged)
        for path in sorted(damaged.rglob('*.jpg'))[4:]:
            path.write_bytes(b'not a picture')
        folder = self.new('run')
        words = self.words('distill', folder, '--precision', 'f32', '--val', damaged)
        code, output = self.end(self.start(2, words))
        require(code == 65 and output.count('error:') == 1 and 'cannot be read' in output, f'exit code {code}: {output[-800:]}')
        require(list(folder.glob('checkpoint-*.safetensors')), 'no checkpoint was kept')

    def classifier(self):
        return self.reference('finetune', 'f32') / 'model.safetensors'

    def shared_words(self, kind, output):
        damaged = self.folder / 'damaged'
        self.evaluated_words(output)
        student = self.reference('distill', 'f32') / 'model.safetensors'
        few = ['--batch', '5', '--unreadable-limit', '0.9', '--json', '--quiet']
        return [str(word) for word in {
            'evaluate': ['evaluate', '--weights', self.classifier(), '--data', damaged, '--logits', output / 'logits.safetensors', *few],
            'embed': ['embed', '--weights', student, '--data', damaged, '--output', output / 'features.npy', *few],
            'tokens': ['embed', '--weights', student, '--data', damaged, '--pool', 'tokens', '--output',
                       output / 'tokens.safetensors', *few],
            'knn': ['knn', '--weights', student, '--train', damaged, '--val', self.images, '--k', '1,5', *few],
        }[kind]]

    def shared(self, kind, count):
        """`evaluate`, `embed` and `knn` by several processes write and say what one process does."""
        found = []
        for processes, program in ((0, self.dmae), (count, None)):
            output = self.new('shared')
            output.mkdir()
            text = self.run(processes, self.shared_words(kind, output), program=program)
            warnings = sorted(line for line in text.splitlines() if line.startswith('warning:'))
            found.append((text[text.index('{'):text.rindex('}')], warnings,
                          {path.name: path.read_bytes() for path in output.iterdir()}))
        require(found[0][1], 'no image was said to be unreadable')
        for one, several, name in zip(*found, ('what is printed', 'warnings', 'files')):
            require(one == several, f'{name} differ: {str(one)[:300]} and {str(several)[:300]}')

    def shared_fails(self, kind):
        """Process 1 has other images; a folder cannot be written; too many images cannot be read."""
        output = self.new('shared')
        output.mkdir()
        place = self.elsewhere()
        shutil.copytree(self.images, place / 'images')
        next((place / 'images').rglob('*.jpg')).unlink()
        words = self.shared_words(kind, output)
        words = ['images' if word == str(self.folder / 'damaged') else word for word in words]
        code, text = self.pair(words, elsewhere=place)
        require(code == 64 and 'other images than process 0' in text and text.count('error:') == 1, f'exit code {code}: {text[-800:]}')
        words = self.shared_words(kind, output)
        words[words.index('--unreadable-limit') + 1] = '0.01'
        code, text = self.end(self.start(4, words))
        require(code == 65 and 'cannot be read' in text and text.count('error:') == 1, f'exit code {code}: {text[-800:]}')
        require(not list(output.iterdir()), f'files were left: {list(output.iterdir())}')

    def shared_ends(self):
        """One of the processes that embed images is killed, or one or all are told to end: they do, and leave no result; where
        they were told, no part of one either."""
        for number, ranks in ((signal.SIGKILL, [1]), (signal.SIGTERM, [1]), (signal.SIGTERM, [0, 1]), (signal.SIGTERM, [1, 0])):
            output = self.new('shared')
            output.mkdir()
            words = self.shared_words('tokens', output)
            images = self.folder / 'many'
            if not images.exists():
                for copy in range(30):
                    shutil.copytree(self.images, images / str(copy))
            words[words.index(str(self.folder / 'damaged'))] = str(images)
            process = self.start(2, words)
            # The file of the features is begun.
            wait_for(lambda: list(output.iterdir()), process)
            children = ranks_of(process)
            for rank in ranks:
                os.kill(children[rank], number)
            code, text = self.end(process, 40)
            require(code != 0, f'{number} at {ranks}: exit code 0: {text[-800:]}')
            left = [path.name for path in output.iterdir() if number != signal.SIGKILL or '.part-' not in path.name]
            require(not left, f'{number} at {ranks}: files were left: {left}')

    def not_finite(self):
        """A loss that is not finite ends all with code 1 and one sentence."""
        folder = self.new('run')
        process = self.start(4, [*self.words('distill', folder, '--precision', 'f32'), '--base-learning-rate', '1e30'])
        code, output = self.end(process)
        require(code == 1 and output.count('error:') == 1 and 'not finite' in output, f'exit code {code}: {output[-800:]}')

    def full_disk(self):
        """Process 0 cannot write its checkpoint."""
        disk = self.folder / 'disk'
        disk.mkdir(exist_ok=True)
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk], capture_output=True).returncode:
            print('    left out: this process may not mount a small disk', flush=True)
            return
        try:
            process = self.start(2, self.words('distill', disk / 'run', '--precision', 'f32'))
            code, output = self.end(process)
            require(code == 74 and output.count('error:') == 1, f'exit code {code}: {output[-800:]}')
            require(not list((disk / 'run').glob('*.part*')), 'a part of a file was left')
        finally:
            subprocess.run(['umount', '-l', disk])

    # Machines: network namespaces with a cable between them

    def with_hosts(self, test):
        """Two machines, or a sentence where none can be made."""
        hosts = Hosts(self.folder)
        try:
            if not hosts.make():
                print('    left out: this process may not make network namespaces', flush=True)
                return
            test(hosts)
        finally:
            hosts.remove()

    def on_hosts(self, hosts, words, *more):
        command = [*hosts.launch(), '-n', '2', str(self.mpi), *words, *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                env={**self.environment, 'UCX_TLS': 'tcp,self'}, start_new_session=True, cwd=self.folder)

    def over_a_cable(self, hosts):
        folder = self.new('run')
        code, output = self.end(self.on_hosts(hosts, self.words('distill', folder, '--precision', 'f32')))
        require(code == 0, f'exit code {code}: {output[-800:]}')
        self.require_same(folder, self.reference('distill', 'f32'))

    def cut_cable(self, hosts):
        """A cut cable ends both sides, and the run goes on when it is mended."""
        folder = self.new('run')
        words = self.words('distill', folder, '--precision', 'f32')
        process = self.on_hosts(hosts, words, '--peer-timeout', '3')
        wait_for(lambda: list(folder.glob('checkpoint-*.safetensors')), process)
        start = time.monotonic()
        hosts.cut()
        try:
            wait_for(lambda: not ranks_of(process), process, 40)
            require(time.monotonic() - start < 34, 'the time-out came late')
            code, output = self.end(process, 60)
        finally:
            hosts.mend()
        require(code != 0 and 'no word from process' in output, f'exit code {code}: {output[-800:]}')
        status = json.loads((folder / 'status.json').read_text())
        require(status['state'] == 'resumable' and 'no word' in status['reason'], f'status.json says {status}')
        self.run(4, [*words, '--resume', 'auto'])
        self.require_same(folder, self.reference('distill', 'f32'))

    def refused(self, count, words, text, code=64):
        output = self.run(count, words, code)
        require(text in output and output.count('error:') == 1, output[-800:])

    def tests(self, short):
        lower = 'avx2' if 'avx2' in Path('/proc/cpuinfo').read_text() else None
        folder = self.folder / 'run'
        yield 'one group is what it was', lambda: self.one_group()
        for kind, precision in (('distill', 'f32'), ('distill', 'bf16'), ('finetune', 'f32'), ('finetune', 'bf16'), ('pretrain', 'f32')):
            for count in (1, 2, 4, 8):
                if short and (count in (1, 4) or kind == 'pretrain' or (kind, precision) == ('finetune', 'bf16')):
                    continue
                yield f'{kind} {precision}, {count} processes', lambda k=kind, p=precision, c=count: self.same_bytes(k, p, c)
        for count in (2, 8):
            yield (f'sums of bf16, {count} processes', lambda c=count: self.same_exchange(c))
        yield 'two threads each', lambda: self.same_bytes('distill', 'f32', 2, '--threads', '2', '--workers', '3')
        for kind, number, count, then in (('distill', signal.SIGTERM, 2, 4), ('finetune', signal.SIGINT, 4, 1),
                                          ('distill', signal.SIGKILL, 4, 2), ('finetune', signal.SIGKILL, 2, 8)):
            if not short or kind == 'distill':
                yield (f'{kind}, {signal.Signals(number).name} at one of {count}, resumed by {then}',
                       lambda k=kind, n=number, c=count, t=then: self.interrupted(k, n, c, t))
        yield 'killed again and again', lambda: self.killed_again_and_again(2 if short else 20)
        for number, rank, name in ((6, 1, 'a micro-batch'), (14, 1, 'the last micro-batch'), (14, 0, "process 0's last micro-batch")):
            if not short or rank == 0:
                yield f'{name} whose images never come', lambda n=number, r=rank: self.images_that_hang(n, r)
        yield 'a stopped process is named', lambda: self.stopped()
        yield 'a log that cannot be opened', lambda: self.resumed_with_a_blocked_log()
        yield 'a pause of all', lambda: self.paused_together()
        yield 'a run that one process began', lambda: self.begun_by_one()
        if not short:
            yield 'SIGUSR1 before the run', lambda: self.user_signal()
        yield 'other settings', lambda: self.different([], ['--seed', '5'], 'process 1 .* has other settings than process 0: --seed 5, not --seed 0')
        yield 'a path that one lacks', lambda: self.different(
            [], ['--init-student', 'nothing.safetensors'], 'process 1 .*nothing.safetensors', 74)
        if lower:
            yield 'other instruction set', lambda: self.different(
                [], [], 'other instruction set than process 0', environment=['-env', 'DMAE_ISA', lower])
        yield 'other teacher', lambda: self.other_teacher()
        yield 'other starting weights', lambda: self.other_start()
        yield 'other program', lambda: self.other_program()
        yield 'memory of the moments', lambda: self.memory()
        for count in (2,) if short else (2, 4):
            yield f"the teacher's weights once, {count} processes", lambda c=count: self.shared_teacher(c)
        yield "the teacher's weights in the plan", lambda: self.text_of_plan()
        yield "the teacher's weights, gone at the end", lambda: self.nothing_left()
        yield "the teacher's weights, a limit of each process", lambda: self.limit_of_memory()
        yield "the teacher's weights, a limit of all processes", lambda: self.limit_of_group()
        yield "the teacher's weights, a process that is not seen", lambda: self.unseen()
        if lower:
            yield "the teacher's weights, other instruction sets", lambda: self.other_form(lower)
        yield 'other images', lambda: self.other_images()
        yield 'unreadable images at one, allowed', lambda: self.unreadable_at_one('0.9')
        yield 'unreadable images at one, too many', lambda: self.unreadable_at_one('0.1')
        for count in (2, 4):
            yield f'evaluations by {count}', lambda c=count: self.evaluations(c)
        yield 'an evaluation that fails', lambda: self.evaluation_that_fails()
        for kind, count in (('evaluate', 2), ('evaluate', 3), ('embed', 2), ('embed', 8), ('tokens', 4), ('knn', 2), ('knn', 4)):
            if not short or count == 2:
                yield f'{kind} by {count}', lambda k=kind, c=count: self.shared(k, c)
        yield 'embed, where processes differ or images fail', lambda: self.shared_fails('embed')
        yield 'embed, ended by a signal', lambda: self.shared_ends()
        yield 'a loss that is not finite', lambda: self.not_finite()
        yield 'full disk at process 0', lambda: self.full_disk()
        yield 'two machines', lambda: self.with_hosts(self.over_a_cable)
        yield 'a cut cable', lambda: self.with_hosts(self.cut_cable)
        yield 'three processes', lambda: self.refused(3, self.words('distill', folder, '--precision', 'f32'), 'start 2 of them')
        yield 'a flag that is not there', lambda: self.refused(2, ['distill', '--nothing'], '--nothing')
        yield 'a command of one process', lambda: self.refused(
            2, ['inspect', str(DEMO / 'teacher.safetensors')], 'is done by one process')


class ControlGroup:
    """A control group with a limit of memory."""

    def __init__(self, folder, file):
        self.folder, self.file = folder, file
        self.join = f'echo $$ > {folder}/cgroup.procs'

    @staticmethod
    def make():
        """A group below this process's root of groups; None where the system does not let it."""
        for root, file in (('/sys/fs/cgroup/memory', 'memory.limit_in_bytes'), ('/sys/fs/cgroup', 'memory.max')):
            folder = Path(root) / f'dmae-{os.getpid()}'
            try:
                folder.mkdir()
            except OSError:
                continue
            group = ControlGroup(folder, file)
            if (folder / file).exists():
                return group
            group.remove()
        return None

    def limit(self, size):
        (self.folder / self.file).write_text(str(size))

    def remove(self):
        self.folder.rmdir()


class Hosts:
    """Two network namespaces with a cable between them, each a machine for mpiexec."""

    def __init__(self, folder):
        self.names = [f'dmae-{os.getpid()}-{number}' for number in (1, 2)]
        self.launcher = folder / 'launch.sh'
        self.launcher.write_text(
            '#!/bin/bash\n# mpiexec says: options, the address of a machine, and the words of a command.\n'
            'while [[ "$1" == -* ]]; do shift; done\n'
            f'address=$1; shift\nexec ip netns exec dmae-{os.getpid()}-${{address##*.}} bash -c "$*"\n')
        self.launcher.chmod(0o755)

    def ip(self, *words):
        return subprocess.run(['ip', *words], capture_output=True).returncode == 0

    def make(self):
        one, two = self.names
        ends = f'dm{os.getpid() % 10_000_000}a', f'dm{os.getpid() % 10_000_000}b'
        if not (self.ip('netns', 'add', one) and self.ip('netns', 'add', two)
                and self.ip('link', 'add', ends[0], 'type', 'veth', 'peer', 'name', ends[1])):
            return False
        for number, (name, end) in enumerate(zip(self.names, ends), 1):
            # UCX takes an interface of one name on both machines.
            if not (self.ip('link', 'set', end, 'netns', name) and self.ip('-n', name, 'link', 'set', end, 'name', 'eth0')
                    and self.ip('-n', name, 'addr', 'add', f'10.77.0.{number}/24', 'dev', 'eth0')
                    and self.ip('-n', name, 'link', 'set', 'eth0', 'up') and self.ip('-n', name, 'link', 'set', 'lo', 'up')):
                return False
        return True

    def launch(self):
        return ['ip', 'netns', 'exec', self.names[0], 'mpiexec.hydra', '-launcher', 'ssh', '-launcher-exec', str(self.launcher),
                '-hosts', '10.77.0.1,10.77.0.2', '-iface', 'eth0']

    def cut(self):
        self.ip('-n', self.names[1], 'link', 'set', 'eth0', 'down')

    def mend(self):
        self.ip('-n', self.names[1], 'link', 'set', 'eth0', 'up')

    def remove(self):
        for name in self.names:
            self.ip('netns', 'del', name)


def ranks_of(process):
    """The processes that mpiexec has started, in the order of their numbers."""
    found = []
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / 'environ').read_bytes().split(b'\0')
            name = os.readlink(entry / 'exe')
            session = int((entry / 'stat').read_text().rsplit(')', 1)[1].split()[3])
        except (OSError, ValueError):
            continue
        rank = next((int(each[9:]) for each in variables if each.startswith(b'PMI_RANK=')), None)
        if rank is not None and 'dmae' in Path(name).name and (session == process.pid or is_below(int(entry.name), process.pid)):
            found.append((rank, int(entry.name)))
    return [number for _, number in sorted(found)]


def kilobytes(number, file, key):
    """The bytes of a line such as "VmData:  1234 kB" of a process."""
    for line in Path(f'/proc/{number}/{file}').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return 1024 * int(line.split()[1])
    raise Failed(f'no {key} in {file}')


def shared_memory():
    """The bytes of memory without a disk of the whole machine."""
    return kilobytes('', 'meminfo', 'Shmem')


def is_below(number, ancestor):
    while number > 1:
        try:
            number = int(Path(f'/proc/{number}/stat').read_text().rsplit(')', 1)[1].split()[1])
        except OSError:
            return False
        if number == ancestor:
            return True
    return False


def wait_for(condition, process, seconds=LONGEST):
    start = time.monotonic()
    while not condition():
        if process.poll() is not None and not condition():
            raise Failed(f'ended with {process.returncode} before its time: {process.stdout.read()[-800:]}')
        if time.monotonic() - start > seconds:
            raise Failed(f'nothing for {seconds} s')
        time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--dmae', type=Path, required=True)
    parser.add_argument('--mpi', type=Path, required=True)
    parser.add_argument('--short', action='store_true')
    parser.add_argument('--only', default='')
    parser.add_argument('--seed', type=int, default=int(time.time()) % 100_000)
    arguments = parser.parse_args()
    print(f'runs of several processes, seed {arguments.seed}', flush=True)
    failures, count = 0, 0
    with tempfile.TemporaryDirectory(prefix='dmae-ranks-') as folder:
        bench = Bench(arguments, Path(folder))
        for name, test in bench.tests(arguments.short):
            if arguments.only not in name:
                continue
            count += 1
            start = time.monotonic()
            try:
                test()
                print(f'  {name}: {time.monotonic() - start:.1f} s', flush=True)
            except Failed as failed:
                failures += 1
                print(f'  {name}: FAILED: {failed}', flush=True)
    print(f'{count - failures} of {count} held')
    sys.exit(1 if failures or not count else 0)


if __name__ == '__main__':
    main()
