import CKernels
import Dispatch
import Foundation
import XCTest

final class VariantTests: KernelTestCase {
    func testEveryOperationHasAScalarReference() {
        let operations = Set(Variant.all.map(\.operation))
        XCTAssertTrue(
            operations.isSuperset(of: [
                "gemm_f32", "gemm_bf16", "gemm_int8", "attention_f32", "layernorm_f32", "reduction_f32", "adamw_f32",
            ]))
        for operation in operations {
            XCTAssertTrue(Variant.all.contains { $0.operation == operation && $0.isa == dmae_isa_scalar }, operation)
        }
    }

    func testNamesSayOperationAndInstructionSet() {
        XCTAssertEqual(Set(Variant.all.map(\.name)).count, Variant.all.count)
        for variant in Variant.all {
            let isa = String(cString: dmae_isa_name(variant.isa))
            XCTAssertTrue(variant.name.hasPrefix("\(variant.operation)_\(isa)"), variant.name)
        }
    }

    /// A profile, a debugger and a sanitizer name the kernel: each row of the list has a file of its name, and every
    /// function of that file that the compiler kept begins with it.
    func testFunctionsCarryTheirFilesName() throws {
        let nm = Process(), output = Pipe()
        nm.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        // In the order of the symbol table, where a file's local symbols follow its name.
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        nm.arguments = ["nm", "--debug-syms", "--no-sort", program]
        nm.standardOutput = output
        try nm.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        nm.waitUntilExit()
        XCTAssertEqual(nm.terminationStatus, 0)
        let names = Set(Variant.all.map(\.name))
        var file = "", functions: [String: Int] = [:]
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ").map(String.init)
            guard fields.count == 3 else { continue }
            if fields[1] == "a" { file = fields[2].hasSuffix(".c") ? String(fields[2].dropLast(2)) : "" }
            guard fields[1] == "t", names.contains(file) else { continue }
            XCTAssertTrue(fields[2].hasPrefix(file + "_"), "\(file).c: \(fields[2])")
            functions[file, default: 0] += 1
        }
        XCTAssertEqual(Set(functions.keys), names)
    }

    private var sets: [dmae_isa] { (0..<dmae_isa_count.rawValue).map { dmae_isa($0) } }

    /// Of each operation the last row whose features the selected set has: one of a set that no other of the rows that
    /// could be used includes.
    func testOneVariantOfEachOperationIsSelected() {
        for isa in sets where dmae_isa_use(isa) {
            XCTAssertEqual(dmae_isa_selected(), isa)
            for (operation, rows) in Dictionary(grouping: Variant.all, by: \.operation) {
                let usable = rows.filter { dmae_isa_includes(isa, $0.isa) }
                let selected = rows.filter { dmae_variant_is_selected($0.index) }
                XCTAssertEqual(selected.map(\.name), usable.suffix(1).map(\.name), operation)
                for row in usable where row.isa != selected[0].isa {
                    XCTAssertFalse(dmae_isa_includes(row.isa, selected[0].isa), "\(row.name) after \(selected[0].name)")
                }
            }
        }
    }

    /// The kernels of each set today: who adds a row or a set changes this table.
    func testRowsOfEachSet() {
        let tiles = ["scalar": "_4x16", "avx2": "_6x16", "amx": "_32x32"]
        let expected = [
            "scalar": ("scalar", "scalar", "scalar"), "avx2": ("avx2", "avx2", "avx2"),
            "avx512": ("avx512", "avx512", "avx512"), "avx512vnni": ("avx512", "avx512", "avx512vnni"),
            "avx512bf16": ("avx512", "avx512bf16", "avx512vnni"), "amx": ("amx", "amx", "amx"),
        ]
        for isa in sets where dmae_isa_use(isa) {
            guard let rows = expected[String(cString: dmae_isa_name(isa))] else { return XCTFail("a new set") }
            for (operation, row) in [("gemm_f32", rows.0), ("gemm_bf16", rows.1), ("gemm_int8", rows.2)] {
                let selected = Variant.all.first { $0.operation == operation && dmae_variant_is_selected($0.index) }
                XCTAssertEqual(selected?.name, operation + "_" + row + (tiles[row] ?? "_14x32"))
            }
        }
    }

    /// A set later in the list is preferred, so none may be included in one before it; all include the scalar one.
    func testSetsAreInOrder() {
        for (index, isa) in sets.enumerated() {
            XCTAssertTrue(dmae_isa_includes(isa, dmae_isa_scalar) && dmae_isa_includes(isa, isa))
            for earlier in sets[..<index] {
                XCTAssertFalse(dmae_isa_includes(earlier, isa), String(cString: dmae_isa_name(isa)))
            }
        }
        XCTAssertTrue(dmae_isa_runs(dmae_isa_scalar))
        XCTAssertEqual(sets.last(where: { dmae_isa_runs($0) }), dmae_isa_available())
    }

    func testInstructionSetFromTheEnvironment() {
        defer { unsetenv("DMAE_ISA") }
        setenv("DMAE_ISA", "scalar", 1)
        XCTAssertEqual(dmae_isa_from_environment(), 0)
        XCTAssertEqual(dmae_isa_selected(), dmae_isa_scalar)
        setenv("DMAE_ISA", "sse9", 1)
        XCTAssertEqual(dmae_isa_from_environment(), 1)
        XCTAssertEqual(dmae_isa_selected(), dmae_isa_scalar)
        for isa in sets {
            setenv("DMAE_ISA", dmae_isa_name(isa), 1)
            XCTAssertEqual(dmae_isa_from_environment(), dmae_isa_runs(isa) ? 0 : 2)
        }
        unsetenv("DMAE_ISA")
        XCTAssertEqual(dmae_isa_from_environment(), 0)
    }

    /// The flags of a set's features are the processor's, if the set runs.
    func testFeaturesAreTheProcessors() throws {
        let text = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
        let line = text.split(separator: "\n").first { $0.hasPrefix("flags") || $0.hasPrefix("Features") }
        let present = Set(try XCTUnwrap(line).split(separator: " ").map(String.init))
        let known = Set(String(cString: dmae_feature_flags()).split(separator: " ").map(String.init))
        XCTAssertTrue(known.isSuperset(of: ["avx2", "avx512_vnni", "amx_tile", "asimd"]))
        let needed = [
            "avx2": ["fma", "avx2"], "avx512": ["avx512f", "avx512bw", "avx512dq", "avx512vl"],
            "avx512vnni": ["avx512_vnni"], "avx512bf16": ["avx512_bf16"], "amx": ["amx_tile", "amx_bf16", "amx_int8"],
        ]
        for isa in sets where dmae_isa_runs(isa) {
            XCTAssertTrue(present.isSuperset(of: needed[String(cString: dmae_isa_name(isa))] ?? []))
        }
    }

    func testThreads() {
        XCTAssertGreaterThanOrEqual(dmae_openmp_version(), 201511)
        for threads: Int32 in [1, 2, 3] {
            dmae_set_threads(threads)
            XCTAssertEqual(dmae_threads(), threads)
            XCTAssertEqual(dmae_threads_observed(), threads, "OpenMP is serial")
        }
        dmae_set_threads(0)
        XCTAssertEqual(dmae_threads(), 1)
    }

    func testParallelForVisitsEveryElementOnce() {
        dmae_set_threads(3)
        for (count, chunk) in [(0, 4), (1, 4), (10, 1), (10, 3), (100, 7), (5, 100), (9, 0)] {
            var visits = [Int32](repeating: 0, count: count)
            visits.withUnsafeMutableBufferPointer { visits in
                dmae_parallel_for(count, chunk, visits.baseAddress) { context, begin, end in
                    let visits = context!.assumingMemoryBound(to: Int32.self)
                    for i in begin..<end { visits[i] += 1 }
                }
            }
            XCTAssertEqual(visits, [Int32](repeating: 1, count: count), "count \(count), chunk \(chunk)")
        }
    }

    /// Threads get their queues before they start and steal when these are empty. No task is done twice.
    func testNoTaskIsTakenTwice() {
        for threads: Int32 in [2, 3, 5] {
            dmae_set_threads(threads)
            for turn in 0..<300 {
                let count = 1 + turn * 7 % 61
                var visits = [Int32](repeating: 0, count: count)
                visits.withUnsafeMutableBufferPointer { visits in
                    dmae_parallel_for(count, 1, visits.baseAddress) { context, begin, _ in
                        context!.assumingMemoryBound(to: Int32.self)[begin] += 1
                    }
                }
                XCTAssertEqual(visits, [Int32](repeating: 1, count: count), "\(threads) threads, \(count) tasks")
            }
        }
    }

    /// The first task waits for all others, of which its own thread can then do none: other threads steal them.
    func testTasksOfABusyThreadAreStolen() {
        dmae_set_threads(2)
        let count = 40
        var visits = [Int32](repeating: 0, count: count)
        visits.withUnsafeMutableBufferPointer { visits in
            dmae_parallel_for(count, 1, visits.baseAddress) { context, begin, _ in
                let visits = context!.assumingMemoryBound(to: Int32.self)
                // Without stealing it would wait forever; half a minute is enough.
                for _ in 0..<30_000 where begin == 0 && (1..<40).contains(where: { visits[$0] == 0 }) { usleep(1000) }
                visits[begin] = begin == 0 && (1..<40).contains(where: { visits[$0] == 0 }) ? -1 : 1
            }
        }
        XCTAssertEqual(visits, [Int32](repeating: 1, count: count))
    }

    /// Rounds of a peak kernel: chain i starts at i, in every lane, and each round changes it as its file says. The sum
    /// of all accumulators is exact for these numbers of rounds.
    private func checksum(_ variant: Variant, flop: Double, rounds: Int) -> Double? {
        let isScalar = variant.isa == dmae_isa_scalar
        let chains = isScalar ? 48.0 : 12, start = chains * (chains - 1) / 2
        switch variant.name {
        case "peak_f32_scalar", "peak_bf16_scalar", "peak_f32_avx2", "peak_bf16_avx2", "peak_f32_avx512",
            "peak_bf16_avx512":
            // x/2 + 1: the distance to 2 halves.
            let lanes = flop / 2 / chains
            return lanes * (2 * chains + (start - 2 * chains) * pow(0.5, Double(rounds)))
        case "peak_bf16_avx512bf16": return 16 * (start + chains * Double(rounds))
        case "peak_int8_scalar": return start + Double(rounds) * (0..<48).reduce(0) { $0 + Double($1 * $1) }
        case "peak_int8_avx2", "peak_int8_avx512": return flop / 4 / chains * (start + 2 * chains * Double(rounds))
        case "peak_int8_avx512vnni": return 16 * (start + 4 * chains * Double(rounds))
        default: return nil
        }
    }

    /// A peak kernel does the rounds that are counted, of which no processor does so many per second.
    func testPeakDoesTheWorkItCounts() {
        for (operation, precision) in [
            ("peak_f32", DMAE_PRECISION_F32), ("peak_bf16", DMAE_PRECISION_BF16), ("peak_int8", DMAE_PRECISION_INT8),
        ] {
            forEachVariant(of: operation) { variant in
                let round = dmae_peak_flops(precision, 1, 1)
                XCTAssertGreaterThan(round, 0)
                XCTAssertEqual(dmae_peak_flops(precision, 2, 3000), 6000 * round)
                for rounds in [0, 1, 2, 3, 7, 12] {
                    let sum = dmae_peak_checksum(precision, rounds)
                    if let expected = checksum(variant, flop: round, rounds: rounds) {
                        XCTAssertEqual(sum, expected, "\(variant.name), \(rounds) rounds")
                    } else if rounds <= 2 {
                        // Tiles of numbers, whose products are added to zeros in each round.
                        let one = dmae_peak_checksum(precision, 1)
                        XCTAssertNotEqual(one, 0, variant.name)
                        XCTAssertEqual(sum, Double(rounds) * one, variant.name)
                    }
                }
                // Tile products are 2048 bf16 or 4096 int8 operations a cycle at most, vectors an eighth of that, at no
                // more than 8 GHz.
                let perCycle = variant.name.hasSuffix("_amx") ? 4096.0 : 512
                var fastest = Double.infinity
                for _ in 0..<3 {
                    let start = DispatchTime.now().uptimeNanoseconds
                    _ = dmae_peak_flops(precision, 1, 200_000)
                    fastest = min(fastest, Double(DispatchTime.now().uptimeNanoseconds - start))
                }
                XCTAssertLessThan(200_000 * round / fastest, 8 * perCycle, variant.name)
            }
        }
    }
}
