// Every operation of a training step, on the shapes of the paper's recipe, against what this machine can do at best.
import CKernels
import Glibc
import Reporting

func fail(_ message: String) -> Never {
    fputs("kernel-benchmark: \(message)\n", stderr)
    exit(64)
}

let help = """
    usage: kernel-benchmark [--filter TEXT] [--threads N] [--check FILE | --record FILE]
           kernel-benchmark --results FILE (--check FILE | --record FILE)
           kernel-benchmark --products [--threads N]

      --filter TEXT   only the rows that hold this text
      --check FILE    exit with 1 where a row lost more than FILE, a JSON of ratios, allows
      --record FILE   write the measured ratios into FILE, the least of three measurements of each
      --results FILE  take measured ratios from FILE, which Perf/peers/compare.py wrote, instead of measuring
      --products      take turns with other programs; see Perf/Product.swift

    DMAE_ISA=scalar|avx2|avx512|avx512vnni|avx512bf16|amx chooses a lower instruction set.
    """
var filter = "", threads = Int(dmae_threads()), check: String?, record: String?, results: String?, products = false
var arguments = Array(CommandLine.arguments.dropFirst())
while !arguments.isEmpty {
    let option = arguments.removeFirst()
    if option == "--help" {
        print(help)
        exit(0)
    }
    if option == "--products" {
        products = true
        continue
    }
    guard !arguments.isEmpty else { fail("\(option) is not an option or lacks its value; see --help") }
    let value = arguments.removeFirst()
    switch option {
    case "--filter": filter = value
    case "--check": check = value
    case "--record": record = value
    case "--results": results = value
    case "--threads":
        guard let count = Int(value), count > 0, count <= 1024 else {
            fail("--threads takes a number of threads, not '\(value)'")
        }
        threads = count
    default: fail("'\(option)' is not an option; see --help")
    }
}
switch dmae_isa_from_environment() {
case 1: fail("DMAE_ISA is not one of scalar, avx2, avx512, avx512vnni, avx512bf16, amx")
case 2: fail("this processor cannot run the instruction set that DMAE_ISA asks for")
default: break
}
dmae_set_threads(Int32(threads))
setvbuf(stdout, nil, _IOLBF, 0)

if let results {
    let results = Results.read(results)
    Results.conclude(results, check: check, record: record)
}

let machine = Machine(threads: threads)
if products {
    Product.serve(machine)
    exit(0)
}
let (f32, bf16, int8) = (
    machine.peak(DMAE_PRECISION_F32) / 1e9, machine.peak(DMAE_PRECISION_BF16) / 1e9,
    machine.peak(DMAE_PRECISION_INT8) / 1e9
)
let isa = String(cString: dmae_isa_name(dmae_isa_selected()))
print(
    "\(Machine.processor), \(isa), threads \(dmae_threads_observed()): peak "
        + "\(Format.fixed(f32, 0)) GFLOP/s f32, \(Format.fixed(bf16, 0)) bf16, \(Format.fixed(int8, 0)) int8, copying \(Format.fixed(machine.bandwidth / 1e9, 1)) GB/s"
        + (machine.roundTrip.map { ", a cache line to the other thread and back \(Format.fixed($0 * 1e9, 0)) ns" } ?? "")
)
print("Share: median, of the nearer of the two; above 100 % where the data stay in the cache.\n")
print("operation".padded(32) + "shape".padded(22) + column("time", 13) + column("rate", 9) + column("share", 16))
let benchmarks = (kernelBenchmarks() + imageBenchmarks()).filter { filter.isEmpty || $0.title.contains(filter) }
var measured = Results(
    machine: "\(isa), \(threads) \(threads == 1 ? "thread" : "threads")", section: "peak", partial: !filter.isEmpty)
for benchmark in benchmarks {
    let result = benchmark.measure(machine)
    print(result.line)
    measured.rows[benchmark.title] = result.ratio
}
guard check != nil || record != nil else { exit(0) }

// A record is of what the machine gives in its worse moments, too: the least of three measurements, a table apart.
if record != nil {
    for pass in 2...3 {
        print("\nPass \(pass) of 3; the least ratio of each row is recorded.")
        for benchmark in benchmarks {
            measured.rows[benchmark.title] = min(measured.rows[benchmark.title]!, benchmark.measure(machine).ratio)
        }
    }
}
// Other programs disturb a row now and then: one that seems to have lost is measured again, and its best one counts.
if let check {
    for _ in 0..<3 {
        for row in Results.thresholds(check).verdict(
            on: measured.rows, machine: measured.machine, section: "peak", partial: true)?.lost ?? []
        {
            let again = benchmarks.first { $0.title == row.name }!.measure(machine)
            measured.rows[row.name] = max(measured.rows[row.name]!, again.ratio)
        }
    }
}
Results.conclude(measured, check: check, record: record)
