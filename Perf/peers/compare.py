#!/usr/bin/env python3
"""Compares other libraries with ours in turns on one machine: matmuls, and the whole steps of distillation and fine-tuning.
`make perf-peers` runs this.

Every contender is a process of its own. While one multiplies, the others are stopped (SIGSTOP), so that no thread pool spins
beside it; a step has the machine and its memory to itself. A ratio is the time of the fastest other library of a round over
our time, and of these the median over the rounds: above 1, ours is faster. Our program measures the peak in the same rounds.
--results receives the ratios and the seconds of every turn as JSON. If a virtual machine lost much processor time (steal), this
is reported.

bf16 is compared only if the processor multiplies it; otherwise PyTorch emulates it, several times slower than float32.

Settings of BLAS and OpenMP libraries are removed from the environment of all contenders, and reported.
"""

import argparse
import ctypes
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SETTINGS = re.compile(r"^(OPENBLAS|GOTO|BLIS|BLAS|NVPL|MKL|DNNL|ONEDNN|OMP|KMP|GOMP|ATEN|TORCH|TORCHINDUCTOR|MALLOC|GLIBC|THP)_?|^LD_PRELOAD$")


def end_with_parent():
    """Kills the process with its parent: a stopped program does not notice the end of its input."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Contender:
    """A program that answers each line with a line of JSON, and is stopped between its turns."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment, start_new_session=True, preexec_fn=end_with_parent)

    def signal(self, number):
        """Signals the process and its children: torch.compile keeps helpers."""
        os.killpg(self.process.pid, number)

    def ask(self, *words):
        self.signal(signal.SIGCONT)
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare: {' '.join(map(str, self.process.args))} ended with {self.process.wait()}")
        self.signal(signal.SIGSTOP)
        return json.loads(line)

    def end(self):
        """Closes the input and returns the last output, if any."""
        self.signal(signal.SIGCONT)
        said, _ = self.process.communicate()
        return json.loads(said) if said.strip() else None


def processor_times():
    """Busy and stolen processor time so far, in ticks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(fields[:3]) + sum(fields[5:7]), fields[7]


def rotated(items, by):
    by %= len(items)
    return items[by:] + items[:by]


def best_ratio(rounds, ours, others):
    """The median over `rounds` ({contender: seconds} each) of the fastest other time over ours, and the fastest one's name."""
    ratio = statistics.median(min(turn[name] for name in others) / turn[ours] for turn in rounds)
    return ratio, min(others, key=lambda name: statistics.median(turn[name] for turn in rounds))


PEERS = {"f32": ["openblas", "blis", "mkl", "onednn"], "bf16": ["pytorch-bf16"]}
TITLES = {"openblas": "OpenBLAS", "blis": "BLIS", "mkl": "MKL", "onednn": "oneDNN", "pytorch-bf16": "PyTorch"}


def products(options, environment, results, precisions, ours, hello):
    """Compares matmuls, then ends `ours`; `hello` is its answer to hello."""
    peers = {precision: PEERS[precision] for precision in precisions}
    chosen = [(index, product) for index, product in enumerate(hello["products"])
              if product["precision"] in precisions
              and options.filter in f"products {product['name']} {product['m']}×{product['n']}×{product['k']}"]
    if not chosen:
        ours.end()
        return
    folder = Path(options.peers) / "debian/usr/lib/x86_64-linux-gnu"
    # Memory that a library allocates for itself is on huge pages, too: by the C library, and by PyTorch.
    worker_environment = environment | {"LD_LIBRARY_PATH": str(folder), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
                                        "THP_MEM_ALLOC_ENABLE": "1"}
    others = {name: Contender([sys.executable, HERE / "product_worker.py", name, options.threads, folder], worker_environment)
              for names in peers.values() for name in names}
    print(f"ours: {hello['processor']}, {hello['instruction_set']}")
    for name, other in others.items():
        print(f"{TITLES[name]}: {other.ask('hello')['library']}")
    print(f"\nPlain matmuls, {options.rounds} rounds of turns, {options.threads} threads: % of the measured peak, and theirs "
          "over ours in time\nagainst the fastest of them, above 1 where ours is faster."
          + (" bf16: operands and results of both are\nbf16 in memory, but ours leaves gradients of weights (dW) in float32." if "bf16" in peers else "") + "\n")
    rows, titled = [], None
    for index, product in chosen:
        precision, shape = product["precision"], [product[letter] for letter in "mnk"]
        names = peers[precision]
        if precision != titled:
            titled = precision
            print(f"{'product':38}{'m×n×k':16}{precision + ': ours':>10}" + "".join(f"{TITLES[name]:>9}" for name in names)
                  + f"{'ratio':>7}")
        ours.ask("prepare", index)
        for name in names:
            others[name].ask("prepare", product["form"], *shape)
        rounds, peaks = [], []
        for number in range(options.rounds):
            turn = {}
            for name in rotated(["ours"] + names, number):
                answer = (ours if name == "ours" else others[name]).ask("run", options.seconds)
                turn[name] = statistics.median(answer["seconds"])
                peaks += [answer["peak"]] if name == "ours" else []
            rounds.append(turn)
        work = 2 * shape[0] * shape[1] * shape[2] / statistics.median(peaks)
        share = {name: work / statistics.median(turn[name] for turn in rounds) for name in ["ours"] + names}
        ratio, fastest = best_ratio(rounds, "ours", names)
        rows.append((precision, product, share["ours"], ratio, fastest))
        key = f"products {precision} {product['name']} {'×'.join(map(str, shape))}"
        results["rows"][key], results["turns"][key] = ratio, rounds
        print(f"{product['name']:38}{'×'.join(map(str, shape)):16}{100 * share['ours']:>10.0f}"
              + "".join(f"{100 * share[name]:>9.0f}" for name in names) + f"{ratio:>7.2f}", flush=True)
    for contender in [ours, *others.values()]:
        contender.end()

    print()
    for precision in peers:
        for title, few in (("more than 260 rows", False), ("260 rows and fewer", True)):
            those = [row for row in rows
                     if row[0] == precision and (row[1]["k" if row[1]["form"] == "dW" else "m"] <= 260) == few]
            if those:
                behind = [f"{row[1]['name']} ({row[3]:.2f}, {TITLES[row[4]]})" for row in those if row[3] < 1]
                print(f"{precision}, {title}: ours {100 * min(row[2] for row in those):.0f} to "
                      f"{100 * max(row[2] for row in those):.0f} % of peak, median "
                      f"{100 * statistics.median(row[2] for row in those):.0f} %; behind on {len(behind)} of {len(those)}"
                      + (": " + ", ".join(behind) if behind else ""))


def report(command, environment):
    """The JSON that a program prints."""
    done = subprocess.run(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"compare: {' '.join(map(str, command))} ended with {done.returncode}")
    return json.loads(done.stdout)


HEADING = (f"{'ours':>9}{'% peak':>8}{'eager':>9}{'compiled':>10}{'ratio':>8}"
           f"{'ours GB':>10}{'eager GB':>10}{'compiled GB':>13}{'ratio':>7}")


def turns(options, environment, results, key, ours, script):
    """Takes turns at a training step: `ours` and the PyTorch `script`, eager and compiled.

    Adds the row `key` to the results, and returns the columns under HEADING and the ratio of memory: ours over theirs.
    """
    script = [sys.executable, HERE / script[0], *script[1:], "--warm-up", 1, "--steps", 1]
    commands = {"ours": [options.dmae, "bench", *ours, "--json", "--steps", 1], "eager": script, "compiled": script + ["--compile"]}
    # The code of torch.compile is cached, so that no turn compiles. A program that does not run fails here.
    report(commands["compiled"], environment)
    rounds, reports = [], {name: [] for name in commands}
    for number in range(options.steps):
        for name in rotated(list(commands), number):
            reports[name].append(report(commands[name], environment))
        rounds.append({name: reports[name][-1]["step_seconds"][0] for name in commands})
    memory = {name: max(turn["peak_rss_bytes"] for turn in reports[name]) for name in commands}
    speed = {name: options.batch / statistics.median(turn[name] for turn in rounds) for name in commands}
    peak = statistics.median(turn["fraction_of_peak"] for turn in reports["ours"])
    faster, _ = best_ratio(rounds, "ours", ["eager", "compiled"])
    lighter = memory["ours"] / min(memory["eager"], memory["compiled"])
    results["rows"][key], results["turns"][key] = faster, rounds
    return (f"{speed['ours']:>9.2f}{100 * peak:>8.0f}{speed['eager']:>9.2f}{speed['compiled']:>10.2f}{faster:>8.2f}"
            f"{memory['ours'] / 1e9:>10.2f}{memory['eager'] / 1e9:>10.2f}{memory['compiled'] / 1e9:>13.2f}{lighter:>7.2f}"), lighter


def describe(options, step):
    print(f"\n{step}, batch {options.batch}, {options.threads} threads; {options.steps} turns, each a program of its own that does one "
          "step to\nwarm up and one that is timed. Images/s of the median step, peak resident memory, ratios to the faster of "
          "PyTorch's two (speed:\nours over theirs) and to the smaller (memory: ours over theirs).\n")


def steps(options, environment, results, precisions):
    chosen = [(precision, ratio) for precision in precisions for ratio in ("0.75", "0.95", "0.98")
              if options.filter in f"step {precision} {ratio}"]
    if not chosen:
        return
    describe(options, "The step of `dmae bench distill --recipe paper`")
    print(f"{'precision':10}{'masked':>7}{HEADING}")
    for precision, ratio in chosen:
        common = ["--batch", options.batch, "--mask-ratio", ratio, "--precision", precision, "--threads", options.threads]
        columns, _ = turns(options, environment, results, f"step {precision} {ratio}",
                           ["distill", "--recipe", "paper", *common], ["pytorch_step.py", *common])
        print(f"{precision:10}{ratio:>7}{columns}", flush=True)


def finetune(options, environment, results, precisions):
    """Beside the speed, memory has a row of its own: theirs over ours, so that above 1 is better there, too."""
    chosen = [precision for precision in precisions if options.filter in f"finetune {precision}"]
    if not chosen:
        return
    describe(options, "The step of `dmae bench finetune --recipe finetune-base`, ViT-B at 224 pixels without augmentation")
    print(f"{'precision':10}{HEADING}")
    for precision in chosen:
        common = ["--batch", options.batch, "--precision", precision, "--threads", options.threads]
        columns, lighter = turns(options, environment, results, f"finetune {precision}",
                                 ["finetune", "--recipe", "finetune-base", *common], ["pytorch_finetune.py", *common])
        results["rows"][f"finetune {precision} memory"] = 1 / lighter
        print(f"{precision:10}{columns}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, help="the folder that install.sh made")
    parser.add_argument("--dmae", required=True)
    parser.add_argument("--kernel-benchmark", required=True)
    parser.add_argument("--results", required=True, help="where the ratios are written")
    parser.add_argument("--filter", default="", help='text in the name of a row: "products", "student qkv", "step bf16 0.75", "finetune"')
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender at each product")
    parser.add_argument("--seconds", type=float, default=0.06, help="the length of a turn at a product")
    parser.add_argument("--steps", type=int, default=3, help="turns of each contender at the step")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()

    left_out = sorted(name for name in os.environ if SETTINGS.match(name))
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    if left_out:
        print("left out of the environment: " + ", ".join(f"{name}={os.environ[name]}" for name in left_out))
    # torch.compile takes minutes; its code is kept for the next run.
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(Path(options.peers).resolve() / "inductor")
    ours = Contender([options.kernel_benchmark, "--products", "--threads", options.threads], environment)
    hello = ours.ask("hello")
    instruction_set = hello["instruction_set"]
    precisions = list(PEERS) if instruction_set in ("avx512bf16", "amx") else ["f32"]
    if "bf16" not in precisions:
        print(f"bf16 is left out: {instruction_set} does not multiply it natively.")
    machine = f"{instruction_set}, {options.threads} thread{'s' if options.threads != 1 else ''}"
    results = {"machine": machine, "section": "peers", "partial": bool(options.filter), "rows": {}, "turns": {}}
    busy, stolen = processor_times()
    products(options, environment, results, precisions, ours, hello)
    steps(options, environment, results, precisions)
    finetune(options, environment, results, precisions)
    busy, stolen = (after - before for after, before in zip(processor_times(), (busy, stolen)))
    if stolen > 0.02 * (busy + stolen):
        print(f"\nOther virtual machines took {100 * stolen / (busy + stolen):.0f} % of the processor time that this one asked for.")
    if not results["rows"]:
        sys.exit(f"compare: no row holds '{options.filter}'")
    Path(options.results).write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
