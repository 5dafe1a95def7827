import Foundation
import Tensors
import TestSupport
import Training
import XCTest

/// bf16 is the default of the commands that train an encoder, where the processor multiplies it, and of no other.
final class PrecisionTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func precision(_ run: String) throws -> Precision {
        try JSONDecoder().decode(TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json")).precision
    }

    /// The default is said where it is bf16, and a lower instruction set has another.
    func testTheDefault() throws {
        let isNative = Precision.bf16.isNative
        let teacher = folder.file("teacher"), student = folder.file("student")
        for (path, arguments) in [
            (teacher, TinyRun.pretrain(teacher, epochs: 2)),
            (student, TinyRun.distill(student, teacher: teacher + "/model.safetensors", epochs: 2)),
        ] {
            let run = assertRuns(arguments)
            XCTAssertEqual(try precision(path), isNative ? .bf16 : .f32)
            XCTAssertEqual(
                run.errors.contains(
                    "precision: bf16, which this processor multiplies; --precision f32 computes in float32\n"),
                isNative,
                run.errors)
            XCTAssertEqual(run.errors.components(separatedBy: "precision").count, isNative ? 3 : 1, run.errors)
        }
        let scalar = Command.run(
            TinyRun.pretrain(folder.file("scalar"), epochs: 2), environment: ["DMAE_ISA": "scalar"])
        XCTAssertEqual(scalar.end, .exited(0), scalar.description)
        XCTAssertEqual(try precision(folder.file("scalar")), .f32)
        XCTAssertFalse(scalar.errors.contains("precision"), scalar.errors)
    }

    /// A run keeps the precision it was started with on any processor, unless a flag asks for another, which is refused.
    func testAResumedRunKeepsItsPrecision() throws {
        for (name, precision, isa) in [("a", Precision.bf16, "scalar"), ("b", .f32, nil)] {
            let run = folder.file(name)
            let more = ["--precision", precision.rawValue, "--checkpoint-every", "1", "--keep", "9"]
            assertRuns(TinyRun.pretrain(run, epochs: 2, more + ["--quiet"]))
            let environment = isa.map { ["DMAE_ISA": $0] } ?? [:]
            for resume in ["auto", run + "/checkpoint-00000001.safetensors"] {
                let resumed = Command.run(
                    TinyRun.pretrain(run, epochs: 2, ["--checkpoint-every", "1", "--keep", "9", "--resume", resume]),
                    environment: environment)
                XCTAssertEqual(resumed.end, .exited(0), resumed.description)
                XCTAssertEqual(try self.precision(run), precision)
            }
            let other = precision == .f32 ? Precision.bf16 : .f32
            assertRefused(
                TinyRun.pretrain(run, epochs: 2, ["--resume", "auto", "--precision", other.rawValue]), 64,
                "was taken with --precision \(precision.rawValue), not --precision \(other.rawValue)")
        }
    }

    /// What judges or reads weights computes in float32 by default.
    func testOtherCommandsComputeInFloat32() {
        for (command, value) in [
            ("distill", "auto"), ("pretrain", "auto"), ("finetune", "auto"), ("probe", "f32"), ("embed", "f32"),
            ("evaluate", "f32"), ("predict", "f32"), ("knn", "f32"),
        ] {
            let words = assertRuns([command, "--help"]).output.split { $0.isWhitespace }.joined(separator: " ")
            XCTAssertTrue(
                words.contains("bf16 instructions, else f32. (values: f32, bf16, auto; default: \(value))"), command)
        }
    }
}
