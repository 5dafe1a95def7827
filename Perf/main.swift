// Every operation of a training step, on the shapes of the paper's recipe, against what this machine can do at best.
import CKernels
import Glibc

func fail(_ message: String) -> Never {
    fputs("kernel-benchmark: \(message)\n", stderr)
    exit(64)
}

var filter = "", threads = Int(dmae_threads())
var arguments = Array(CommandLine.arguments.dropFirst())
while !arguments.isEmpty {
    let option = arguments.removeFirst()
    if option == "--help" {
        print("usage: kernel-benchmark [--filter TEXT] [--threads N]\nDMAE_ISA=scalar|avx2|avx512 chooses a lower instruction set.")
        exit(0)
    }
    guard !arguments.isEmpty else { fail("\(option) is not an option or lacks its value; see --help") }
    let value = arguments.removeFirst()
    switch option {
    case "--filter": filter = value
    case "--threads":
        guard let count = Int(value), count > 0, count <= 1024 else { fail("--threads takes a number of threads, not '\(value)'") }
        threads = count
    default: fail("'\(option)' is not an option; see --help")
    }
}
switch dmae_isa_from_environment() {
case 1: fail("DMAE_ISA is not one of scalar, avx2, avx512, avx512bf16")
case 2: fail("this processor cannot run the instruction set that DMAE_ISA asks for")
default: break
}
dmae_set_threads(Int32(threads))
setvbuf(stdout, nil, _IOLBF, 0)

let machine = Machine(threads: threads)
let (f32, bf16) = (machine.peak(DMAE_PRECISION_F32) / 1e9, machine.peak(DMAE_PRECISION_BF16) / 1e9)
print("\(Machine.processor), \(String(cString: dmae_isa_name(dmae_isa_selected()))), threads \(dmae_threads_observed()): peak "
    + "\(fixed(f32, 0)) GFLOP/s f32, \(fixed(bf16, 0)) bf16, copying \(fixed(machine.bandwidth / 1e9, 1)) GB/s")
print("Share: median, of the nearer of the two; above 100 % where the data stay in the cache.\n")
print("operation".padded(32) + "shape".padded(22) + column("time", 13) + column("rate", 9) + column("share", 16))
for benchmark in kernelBenchmarks() + imageBenchmarks()
where filter.isEmpty || "\(benchmark.name) \(benchmark.shape)".contains(filter) {
    print(benchmark.row(machine))
}
