#!/usr/bin/python3
"""The speed of several processes: on this machine, and across a cable of a given rate.

    speed.py ratio --dmae .build/dmae --mpi .build/dmae-mpi [--mask-ratio 0.98] [--rounds 3]
    speed.py cable --mpi .build/dmae-mpi [--rates 10 1 0.1] [--effective-batch 128]
    speed.py table --images 2.5

ratio: the paper's step, ViT-L to ViT-B in bf16 with an effective batch of 512, by two processes of one thread and by one of
two threads, in turns, on random weights of the teacher. cable: pre-training of a ViT-S by two processes in two network
namespaces, whose cable tc makes slow, beside the model that the page "Several machines" states. Nothing else should run.
table: the paper's run on paper, from the images per second of a core.
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / 'Fixtures/demo/images'
ENVIRONMENT = {**os.environ, 'OMP_WAIT_POLICY': 'passive'}


def hosts(folder):
    """The two machines of the tests."""
    specification = importlib.util.spec_from_file_location('ranks', ROOT / 'Tests/Ranks/ranks.py')
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Hosts(folder)


def run(words, **variables):
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, env={**ENVIRONMENT, **variables})
    if result.returncode:
        sys.exit(f'{result.stderr[-2000:]}speed: {" ".join(map(str, words))} ended with {result.returncode}')
    return result.stdout


def seconds_of_steps(folder):
    """Seconds of each step but the first, which warms up; of a run of one step those of it, since the log was begun."""
    steps = [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]
    ends = [step['elapsed_seconds'] for step in steps if 'loss' in step]
    return [after - before for before, after in zip(ends, ends[1:])] or ends


def ratio(arguments, folder):
    teacher = folder / 'teacher.safetensors'
    make_teacher(teacher)
    effective, steps = 512, arguments.steps
    base = ['distill', '--teacher', teacher, '--data', IMAGES, '--student', 'vit-base', '--batch', 32, '--effective-batch', effective,
            '--epochs', effective * steps / 350 + 0.01, '--warmup-epochs', 1, '--mask-ratio', arguments.mask_ratio, '--precision', 'bf16',
            '--groups', 2, '--no-check', '--quiet', '--workers', 1]
    one, two = [], []
    for number in range(arguments.rounds):
        for times, command in ((one, [arguments.dmae, *base, '--threads', 2]),
                               (two, ['mpiexec.hydra', '-n', 2, arguments.mpi, *base, '--threads', 1])):
            output = folder / f'run-{number}-{len(command)}'
            run([*command, '--output', output])
            times += seconds_of_steps(output)
            subprocess.run(['rm', '-rf', output])
            print(f'{command[0]}: {times[-1]:.1f} s a step', flush=True)
    print(json.dumps({'mask_ratio': arguments.mask_ratio, 'effective_batch': effective, 'one_process': one, 'two_processes': two,
                      'ratio': statistics.median(one) / statistics.median(two)}))


def make_teacher(path):
    """Random weights of a ViT-L under MAE's names; the speed does not depend on their values."""
    import struct
    width, depth = 1024, 24
    tensors = {'cls_token': [1, 1, width], 'pos_embed': [1, 197, width], 'patch_embed.proj.weight': [width, 3, 16, 16],
               'patch_embed.proj.bias': [width], 'norm.weight': [width], 'norm.bias': [width]}
    for block in range(depth):
        for name, shape in (('norm1.weight', [width]), ('norm1.bias', [width]), ('attn.qkv.weight', [3 * width, width]),
                            ('attn.qkv.bias', [3 * width]), ('attn.proj.weight', [width, width]), ('attn.proj.bias', [width]),
                            ('norm2.weight', [width]), ('norm2.bias', [width]), ('mlp.fc1.weight', [4 * width, width]),
                            ('mlp.fc1.bias', [4 * width]), ('mlp.fc2.weight', [width, 4 * width]), ('mlp.fc2.bias', [width])):
            tensors[f'blocks.{block}.{name}'] = shape
    header, offset = {}, 0
    for name, shape in tensors.items():
        count = 4
        for size in shape:
            count *= size
        header[name] = {'dtype': 'F32', 'shape': shape, 'data_offsets': [offset, offset + count]}
        offset += count
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    # One block of small numbers of both signs, again and again.
    import random
    generator = random.Random(1)
    some = struct.pack('<65536f', *(generator.gauss(0, 0.02) for _ in range(65536)))
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        while offset > 0:
            file.write(some[:offset])
            offset -= len(some)


def cable(arguments, folder):
    machines = hosts(folder)
    base = [arguments.mpi, 'pretrain', '--recipe', 'mae', '--student', 'vit-small', '--data', IMAGES, '--batch', 16,
            '--effective-batch', arguments.effective_batch, '--groups', 2, '--epochs', arguments.effective_batch * 4 / 350 + 0.01, '--warmup-epochs', 0.1, '--precision', 'bf16',
            '--no-check', '--quiet', '--threads', 1]
    try:
        if not machines.make():
            sys.exit('speed: this process may not make network namespaces')
        for rate in arguments.rates:
            for name in machines.names:
                subprocess.run(['tc', '-n', name, 'qdisc', 'replace', 'dev', 'eth0', 'root', 'tbf', 'rate', f'{rate * 1000:g}mbit',
                                'burst', '1mb', 'latency', '50ms'], check=True)
            command = [*machines.launch(), '-n', 2, *base]
            plan = json.loads(run([*command, '--dry-run', '--json'], UCX_TLS='tcp,self'))['sharing']
            output = folder / f'run-{rate}'
            run([*command, '--output', output], UCX_TLS='tcp,self')
            found = statistics.median(seconds_of_steps(output))
            hidden = max(0, plan['exchange_seconds'] - plan['waiting_seconds'])
            on_cable = plan['bytes_sent'] * 8 / (rate * 1e9)
            model = plan['compute_seconds'] + max(0, on_cable - hidden)
            print(json.dumps({'gigabits': rate, 'bytes_sent': plan['bytes_sent'], 'compute': round(plan['compute_seconds'], 3),
                              'exchange': round(plan['exchange_seconds'], 3), 'exchange_model': round(on_cable, 3),
                              'hidden': round(hidden, 3), 'planned_step': round(plan['compute_seconds'] + plan['waiting_seconds'], 3),
                              'model_step': round(model, 3), 'measured_step': round(found, 3),
                              'measured_to_model': round(found / model, 3)}), flush=True)
    finally:
        machines.remove()


def table(arguments, folder):
    """Days of the paper's run: ViT-L to ViT-B, 100 epochs of ImageNet, effective batch 4096, two processes on each server."""
    images, effective, parameters, processes = 100 * 1_281_167, 4096, 112.3e6, 2
    print('| servers | cores each | 10 Gbit/s | 25 Gbit/s | 100 Gbit/s |')
    print('| --- | --- | --- | --- | --- |')
    for cores in (64, 192):
        for servers in (1, 2, 4, 8, 16, 32, 64):
            cells = []
            for rate in (10, 25, 100):
                compute = effective / (servers * cores * arguments.images)
                # Each process sends the sums of all other shards and its own weights; what stays on the server costs nothing.
                exchange = 2 * 4 * parameters * processes * (1 - 1 / servers) * 8 / (rate * 1e9)
                seconds = compute + exchange
                cells.append(f'{effective / seconds:,.0f} images/s, {images / effective * seconds / 86400:.1f} days')
            print(f'| {servers} | {cores} | ' + ' | '.join(cells) + ' |')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=['ratio', 'cable', 'table'])
    parser.add_argument('--dmae', type=Path)
    parser.add_argument('--mpi', type=Path)
    parser.add_argument('--images', type=float, help='images per second of a core')
    parser.add_argument('--mask-ratio', type=float, default=0.75)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--steps', type=int, default=2)
    parser.add_argument('--effective-batch', type=int, default=128)
    parser.add_argument('--rates', type=float, nargs='+', default=[10, 1, 0.1])
    arguments = parser.parse_args()
    arguments.mpi = arguments.mpi and arguments.mpi.resolve()
    arguments.dmae = arguments.dmae and arguments.dmae.resolve()
    with tempfile.TemporaryDirectory(prefix='dmae-speed-') as folder:
        {'ratio': ratio, 'cable': cable, 'table': table}[arguments.what](arguments, Path(folder))


if __name__ == '__main__':
    main()
