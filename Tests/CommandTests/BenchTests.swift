import Reporting
import Foundation
import Tensors
import TestSupport
import XCTest

/// `dmae bench`.
final class BenchTests: XCTestCase {
    private let tiny = [
        "--student", "vit-miniature", "--width", "16", "--depth", "2", "--heads", "2", "--image-size", "32",
    ]

    private struct Report: Decodable {
        let version, method, recipe, precision, teacherPrecision, instructionSet: String
        let batch, threads: Int
        let maskRatio, predictRatio, teacherMaskRatio, reconstructionWeight, imagesPerSecond: Double
        let stepSeconds, optimizerSeconds: [Double]
        let peakRssBytes: Int
        let gflopPerImage, peakGflops, fractionOfPeak, int8GflopPerImage: Double
        let int8PeakGflops: Double?
    }

    private func report(_ arguments: [String], environment: [String: String] = [:]) throws -> Report {
        let result = assertRuns(["bench"] + arguments + ["--json"], environment: environment)
        XCTAssertEqual(result.output.filter { $0 == "\n" }.count, 1, "one object on one line: \(result.output)")
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Report.self, from: Data(result.output.utf8))
    }

    /// The figures fit together: the median step gives the speed, the speed and the operations the share of the peak.
    func testFiguresFitTogether() throws {
        let report = try report(
            [
                "distill", "--recipe", "demo", "--align", "1:4", "--batch", "3", "--mask-ratio", "0.5",
                "--predict-ratio", "0.4", "--teacher-mask-ratio", "0.2", "--reconstruction-weight", "0.5",
                "--precision", "f32", "--threads", "2", "--steps", "4",
            ] + tiny)
        XCTAssertEqual(report.method, "distill")
        XCTAssertEqual(report.recipe, "demo")
        XCTAssertEqual(report.precision, "f32")
        XCTAssertEqual(report.teacherPrecision, "same")
        XCTAssertEqual(report.int8GflopPerImage, 0)
        XCTAssertNil(report.int8PeakGflops)
        XCTAssertEqual(report.batch, 3)
        XCTAssertEqual(report.threads, 2)
        XCTAssertEqual(report.maskRatio, 0.5)
        XCTAssertEqual(report.predictRatio, 0.4)
        XCTAssertEqual(report.teacherMaskRatio, 0.2)
        XCTAssertEqual(report.reconstructionWeight, 0.5)
        XCTAssertEqual(report.instructionSet, InstructionSet.available.name)
        XCTAssertEqual(report.stepSeconds.count, 4)
        let sorted = report.stepSeconds.sorted()
        XCTAssertGreaterThan(sorted[0], 0)
        XCTAssertEqual(
            report.imagesPerSecond, 3 / ((sorted[1] + sorted[2]) / 2), accuracy: 1e-6 * report.imagesPerSecond)
        XCTAssertEqual(
            report.fractionOfPeak, report.imagesPerSecond * report.gflopPerImage / report.peakGflops,
            accuracy: 1e-9 * report.fractionOfPeak)
        XCTAssertLessThan(report.fractionOfPeak, 1)
        for (optimizer, step) in zip(report.optimizerSeconds, report.stepSeconds) { XCTAssertLessThan(optimizer, step) }
        XCTAssertGreaterThan(report.peakRssBytes, 1 << 20)
        XCTAssertLessThan(report.peakRssBytes, 1 << 30)
    }

    /// A step of fine-tuning, with the keys of the other methods.
    func testFineTuning() throws {
        let report = try report(
            ["finetune", "--batch", "4", "--precision", "f32", "--threads", "1", "--steps", "2"] + tiny)
        XCTAssertEqual(report.method, "finetune")
        XCTAssertEqual(report.recipe, "finetune-base")
        XCTAssertEqual(report.batch, 4)
        XCTAssertEqual(report.maskRatio, 0)
        XCTAssertEqual(report.teacherPrecision, "same")
        XCTAssertEqual(report.stepSeconds.count, 2)
        // Two blocks of width 16 over 17 tokens, 16 patches of 8×8×3 values, and a head of 1000 classes.
        let block = 3 * 2.0 * 17 * 12 * 16 * 16 + 3.5 * 2 * 2 * 17 * 17 * 16
        let expected = 2 * block + 2 * 2 * 16 * 192 * 16 + 3 * 2 * 1000 * 16
        XCTAssertEqual(report.gflopPerImage, expected * 1e-9, accuracy: 1e-12)
        assertRefused(
            ["bench", "finetune", "--mask-ratio", "0.5", "--decoder-depth", "1"], 64,
            "--mask-ratio, --decoder-depth are for distill and pretrain: finetune sees every patch and has no decoder")
        assertRefused(
            ["bench", "finetune", "--align", "1:4"], 64, "--align is for distill: finetune has no teacher")
        assertRefused(["bench", "finetune", "--recipe", "paper"], 64, "--recipe paper is not a recipe")
    }

    /// A teacher in int8: its products count against int8's peak, the others against theirs, and all against the step.
    func testInt8Teacher() throws {
        let arguments =
            [
                "distill", "--recipe", "demo", "--align", "1:4", "--batch", "3", "--steps", "3", "--teacher-precision",
                "int8",
            ] + tiny
        let report = try report(arguments)
        XCTAssertEqual(report.teacherPrecision, "int8")
        // Five blocks of width 128 on 5 tokens: four layers of 12·128² weights in all.
        XCTAssertEqual(report.int8GflopPerImage, 5 * 2 * 5 * 12 * 128 * 128 * 1e-9, accuracy: 1e-12)
        XCTAssertLessThan(report.int8GflopPerImage, report.gflopPerImage)
        let peak = try XCTUnwrap(report.int8PeakGflops)
        let seconds =
            report.int8GflopPerImage / peak + (report.gflopPerImage - report.int8GflopPerImage) / report.peakGflops
        XCTAssertEqual(report.fractionOfPeak, report.imagesPerSecond * seconds, accuracy: 1e-9 * report.fractionOfPeak)
        let text = assertRuns(["bench", "--profile"] + arguments).output
        for words in [
            "of which the teacher's in int8", "int8 peak, measured", "fraction of peak, each of its own",
            "matmul, forward, int8",
        ] {
            XCTAssertTrue(text.contains(words), "\(words): \(text)")
        }
        // Without such products the same sums come from others, and it says so.
        let slower = assertRuns(["bench"] + arguments, environment: ["DMAE_ISA": "scalar"])
        XCTAssertTrue(
            slower.errors.contains("warning: the instruction set scalar does not multiply int8"), slower.errors)
    }

    /// What each operation took makes up the step: shares sum to one, and the products' and attention's FLOP are those
    /// that are counted.
    func testProfile() throws {
        struct Row: Decodable {
            let part, operation: String
            let calls, seconds, share, gflops: Double
        }
        struct Profiled: Decodable {
            let stepSeconds: [Double]
            let gflopPerImage: Double
            let profile: [Row]
        }
        let arguments =
            ["bench", "distill", "--recipe", "demo", "--align", "1:4", "--batch", "3", "--steps", "3", "--profile"]
            + tiny
        let result = assertRuns(arguments + ["--json"])
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let report = try decoder.decode(Profiled.self, from: Data(result.output.utf8))
        XCTAssertEqual(report.profile.reduce(0) { $0 + $1.share }, 1, accuracy: 1e-9)
        XCTAssertEqual(
            report.profile.reduce(0) { $0 + $1.seconds }, report.stepSeconds.reduce(0, +) / 3, accuracy: 1e-9)
        XCTAssertEqual(
            report.profile.reduce(0) { $0 + $1.gflops * $1.seconds }, 3 * report.gflopPerImage,
            accuracy: 1e-9 * report.gflopPerImage)
        XCTAssertEqual(
            Set(report.profile.map(\.part)), ["teacher", "student", "decoder", "alignment", "optimiser", ""])
        XCTAssertEqual(report.profile.first { $0.part == "student" && $0.operation == "attention backward" }?.calls, 2)
        let table = assertRuns(arguments).output
        for row in report.profile { XCTAssertTrue(table.contains(row.operation), row.operation) }
    }

    /// Flags arrive: a lower instruction set, one thread, no teacher, more patches removed, a deeper student.
    func testFlagsArrive() throws {
        let base = try report(
            ["pretrain", "--recipe", "demo-teacher", "--batch", "2", "--steps", "1", "--threads", "1"] + tiny)
        XCTAssertEqual(base.method, "pretrain")
        XCTAssertEqual(base.threads, 1)
        let masked = try report(
            ["pretrain", "--recipe", "demo-teacher", "--batch", "2", "--steps", "1", "--mask-ratio", "0.9"] + tiny,
            environment: ["DMAE_ISA": "scalar"])
        XCTAssertEqual(masked.instructionSet, "scalar")
        // So narrow an encoder saves less than the last block of the decoder has to do for more removed patches.
        XCTAssertGreaterThan(masked.gflopPerImage, base.gflopPerImage)
        let taught = try report(
            ["distill", "--recipe", "demo", "--align", "1:4", "--batch", "2", "--steps", "1"] + tiny)
        XCTAssertGreaterThan(taught.gflopPerImage, base.gflopPerImage)
        let smaller = try report(
            [
                "distill", "--recipe", "demo", "--align", "1:1", "--teacher-width", "32", "--teacher-depth", "2",
                "--batch", "2", "--steps", "1",
            ]
                + tiny)
        XCTAssertLessThan(smaller.gflopPerImage, taught.gflopPerImage)
    }

    /// The text for people says the same things.
    func testText() {
        let result = assertRuns(
            ["bench", "pretrain", "--recipe", "demo-teacher", "--batch", "2", "--steps", "2", "--threads", "2"] + tiny)
        for words in [
            "images per second (median)", "GFLOP per image", "peak GFLOP/s, measured", "fraction of peak",
            "peak resident memory",
        ] {
            XCTAssertTrue(result.output.contains(words), "\(words): \(result.output)")
        }
        XCTAssertTrue(result.errors.contains("step 2 of 2"), result.errors)
    }

    /// What is of the teacher alone is refused where there is none.
    func testFlagsOfTheTeacher() {
        let flags = [
            ("--teacher-model", "vit-large"), ("--teacher-width", "32"), ("--teacher-depth", "2"),
            ("--teacher-heads", "2"),
            ("--align", "1:1"), ("--alignment-distance", "L2"), ("--projection", "mlp"), ("--alignment-weight", "2"),
            ("--teacher-precision", "int8"),
        ]
        for (flag, value) in flags {
            assertRefused(
                ["bench", "pretrain", flag, value] + tiny, 64, "\(flag) is for distill: pretrain has no teacher")
        }
        assertRefused(
            ["bench", "pretrain"] + flags.flatMap { [$0, $1] }, 64,
            "\(flags.map { $0.0 }.joined(separator: ", ")) are for distill: pretrain has no teacher")
    }

    func testErrors() {
        assertRefused(
            ["bench", "distill", "--precision", "f64"], 64, "'f64'", "'f32', 'bf16' or 'auto'")
        assertRefused(["bench", "distill", "--precision", "int8"], 64, "'int8'", "'f32', 'bf16' or 'auto'")
        assertRefused(["bench", "distill", "--teacher-precision", "int4"], 64, "'int4'", "'same' and 'int8'")
        assertRefused(["bench", "train"], 64, "'train'")
        assertRefused(
            ["bench", "distill", "--recipe", "mae"], 64, "--recipe mae is not a recipe of `dmae distill`", "paper, demo"
        )
        assertRefused(["bench", "distill", "--batch", "0"], 64, "--batch must be at least 1")
        assertRefused(["bench", "distill", "--steps", "0"], 64, "--steps must be at least 1")
        assertRefused(["bench", "distill", "--student", "vit-gigantic"], 64, "vit-gigantic is not known", "vit-base")
        assertRefused(["bench", "distill", "--decoder", "dec1"], 64, "--decoder dec1 is not known", "dec512d8")
        assertRefused(
            ["bench", "distill", "--mask-ratio", "1"], 64, "--mask-ratio 1 is not a fraction of the patches")
        assertRefused(
            ["bench", "distill", "--predict-ratio", "0"], 64,
            "--predict-ratio 0 is not a share of the removed patches: it must be above 0 and at most 1")
        assertRefused(
            ["bench", "distill", "--teacher-mask-ratio", "0.8"], 64,
            "--teacher-mask-ratio 0.8 must be at least 0 and at most --mask-ratio 0.75")
        assertRefused(
            ["bench", "pretrain", "--reconstruction-weight", "0"], 64,
            "--reconstruction-weight 0 leaves no loss to minimise without an aligned pair: raise it")
        assertRefused(["bench", "distill", "--mask-ratio", "0.999"], 64, "leaves none of the 196 patches visible")
        assertRefused(
            ["bench", "distill", "--image-size", "100"], 64, "do not tile an image of 100×100", "--image-size")
        assertRefused(["bench", "distill", "--image-size", "224x"], 64, "'224x'")
        assertRefused(["bench", "distill", "--heads", "7"], 64, "7 heads do not divide the width 768")
        assertRefused(["bench", "distill", "--align", "12:17"], 64, "student block 12 does not exist", "0 to 11")
        assertRefused(["bench", "distill", "--align", "8:24"], 64, "teacher block 24 does not exist", "0 to 23")
        assertRefused(["bench", "distill", "--align", "8"], 64, "'8'")
        assertRefused(
            ["bench", "distill", "--projection", "none"], 64, "without a projection the widths must be equal",
            "--projection linear")
        assertRefused(
            ["bench", "distill", "--alignment-weight=-1"], 64, "--alignment-weight must be at least 0 and finite")
        assertRefused(
            ["bench", "distill", "--alignment-weight", "inf"], 64, "--alignment-weight must be at least 0 and finite")
        assertRefused(["bench", "distill", "--alignment-distance", "L3"], 64, "'L3'", "L1")
    }
}
