"""Options, timing and report of a training step in PyTorch."""

import argparse
import json
import platform
import resource
import statistics
import time
from pathlib import Path

import torch


def parser(description):
    """The options of every step."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--batch", type=int, default=32)
    result.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    result.add_argument("--compile", action="store_true", help="torch.compile around the whole forward pass")
    result.add_argument("--threads", type=int, default=torch.get_num_threads())
    result.add_argument("--steps", type=int, default=5)
    result.add_argument("--warm-up", type=int, default=2)
    result.add_argument("--seed", type=int, default=1)
    return result


def prepare(arguments):
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)


def peak_resident_bytes():
    """VmHWM begins at exec; getrusage begins with the memory that the parent held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(arguments, model, optimizer, draw):
    """Times steps and prints one JSON object.

    model(*inputs) is the loss of a batch. draw() makes the inputs of a step outside the measured time.
    """
    forward = torch.compile(model) if arguments.compile else model
    seconds, losses = [], []
    for index in range(arguments.warm_up + arguments.steps):
        inputs = draw()
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = forward(*inputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if index >= arguments.warm_up:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({
        "images_per_second": round(arguments.batch / statistics.median(seconds), 4),
        "step_seconds": [round(value, 4) for value in seconds],
        "peak_rss_bytes": peak_resident_bytes(),
        **{name: value for name, value in vars(arguments).items() if name not in ("steps", "warm_up", "seed")},
        "losses": [round(value, 5) for value in losses],
        "torch": torch.__version__, "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
    }))
