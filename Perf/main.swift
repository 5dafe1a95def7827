// Every kernel call of the paper's training step, and every variant of the kernels, held against this machine's limits.
import Benchmarks
import CKernels
import Glibc
import Reporting
import Tensors

let help = """
    usage: kernel-benchmark [--filter TEXT] [--threads N] [--check FILE | --record FILE]
           kernel-benchmark --results FILE (--check FILE | --record FILE)
           kernel-benchmark --list | --shapes | --tables
           kernel-benchmark --products [--threads N]

      --filter TEXT   only the rows whose title contains this text
      --check FILE    exit with 1 where a row lost more than FILE, a JSON of ratios, allows
      --record FILE   write the measured ratios into FILE, the minimum of three measurements of each
      --results FILE  read measured ratios from FILE, written by Perf/peers/compare.py, instead of measuring
      --list          print the title of every row and measure nothing
      --shapes        print the matmuls of the step as JSON and measure nothing
      --tables        write the tables of README.md and of the page Performance from Perf/results
      --products      take turns with other programs; see Perf/Benchmarks/Product.swift

    DMAE_ISA=\(InstructionSet.names.joined(separator: "|")) chooses a lower instruction set.
    """
var filter = "", threads = Int(dmae_threads()), check: String?, record: String?, results: String?
enum Mode { case measure, list, shapes, tables, products }
var mode = Mode.measure
var arguments = Array(CommandLine.arguments.dropFirst())
while !arguments.isEmpty {
    let option = arguments.removeFirst()
    if option == "--help" {
        print(help)
        exit(0)
    }
    if let chosen = ["--list": Mode.list, "--shapes": .shapes, "--tables": .tables, "--products": .products][option] {
        mode = chosen
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
do { try InstructionSet.applyEnvironment() } catch { fail("\(error)") }
dmae_set_threads(Int32(threads))
setvbuf(stdout, nil, _IOLBF, 0)

if let results {
    let results = Results.read(results)
    Results.conclude(results, check: check, record: record)
}

if mode == .tables {
    ResultTables.write()
    exit(0)
}
let rows = StepCalls.rows()
let variants: (benchmarks: [Benchmark], missing: [String])
do { variants = try variantBenchmarks(rows) } catch { fail("\(error)") }
let benchmarks = (stepBenchmarks(rows) + imageBenchmarks() + variants.benchmarks).filter {
    filter.isEmpty || $0.title.contains(filter)
}
switch mode {
case .measure, .tables: break
case .list:
    benchmarks.forEach { print($0.title) }
    exit(0)
case .shapes:
    print(Product.json(Product.all(rows)))
    exit(0)
case .products:
    Product.serve(Product.all(rows), Machine(threads: threads))
    exit(0)
}
let machine = Machine(threads: threads)
let (f32, bf16, int8) = (
    machine.peak(DMAE_PRECISION_F32) / 1e9, machine.peak(DMAE_PRECISION_BF16) / 1e9,
    machine.peak(DMAE_PRECISION_INT8) / 1e9
)
let isa = InstructionSet.selected.name
print(
    "\(Machine.processor), \(isa), threads \(dmae_threads_observed()): peak "
        + "\(Format.fixed(f32, 0)) GFLOP/s f32, \(Format.fixed(bf16, 0)) bf16, \(Format.fixed(int8, 0)) int8, copying "
        + "\(Format.fixed(machine.bandwidth / 1e9, 1)) GB/s"
        + (machine.roundTrip.map { ", a cache line to the other thread and back \(Format.fixed($0 * 1e9, 0)) ns" } ?? "")
)
print("Last column: median fraction of the nearer limit; above 100 % where the data stay in the cache.")
if !variants.missing.isEmpty {
    print("Skipped, not of this processor: \(variants.missing.joined(separator: ", ")).")
}
print(
    "\n" + "operation".padded(36) + "shape".padded(22) + column("time", 13) + column("rate", 9) + column("of limit", 16)
)
var measured = Results(
    machine: "\(isa), \(threads) \(threads == 1 ? "thread" : "threads")", section: "peak", partial: !filter.isEmpty)
for benchmark in benchmarks {
    let result = benchmark.measure(machine)
    print(result.line)
    measured.rows[benchmark.title] = result.ratio
}
guard check != nil || record != nil else { exit(0) }

// A record covers the machine's worse moments: the minimum of three measurements, a whole table apart.
if record != nil {
    for pass in 2...3 {
        print("\nPass \(pass) of 3; the minimum of each row is recorded.")
        for benchmark in benchmarks {
            measured.rows[benchmark.title] = min(measured.rows[benchmark.title]!, benchmark.measure(machine).ratio)
        }
    }
}
// Other programs disturb a row now and then: a row that seems to have lost is measured again, and its maximum counts.
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
