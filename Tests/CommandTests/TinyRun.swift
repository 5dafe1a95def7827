import Foundation
import TestSupport
import XCTest

/// Runs of a model so small that hundreds of steps take seconds, on a few of the demo's pictures.
struct TinyRun {
    /// Nine pictures, flat in one folder.
    static let data = Fixtures.path("demo/images/geography")
    static let classes = ["education", "electronics", "geography"]

    /// Makes the folders `train` and `val`: links to pictures of three classes of the demo, 18 and 9.
    static func writeClasses(in folder: TemporaryFolder) throws {
        for name in classes {
            let pictures = Fixtures.path("demo/images/\(name)")
            for part in ["train", "val"] {
                try FileManager.default.createDirectory(
                    atPath: folder.file("\(part)/\(name)"), withIntermediateDirectories: true)
            }
            let files = try FileManager.default.contentsOfDirectory(atPath: pictures).sorted().prefix(9)
            for (index, file) in files.enumerated() {
                try FileManager.default.createSymbolicLink(
                    atPath: folder.file("\(index % 3 == 0 ? "val" : "train")/\(name)/\(file)"),
                    withDestinationPath: "\(pictures)/\(file)")
            }
        }
    }

    /// Effective batches of 8 in two passes of 4: an epoch of nine images leaves a remainder.
    static let model = [
        "--student", "vit-miniature", "--width", "16", "--depth", "2", "--heads", "2", "--decoder-width", "16",
        "--decoder-depth", "1",
        "--decoder-heads", "2", "--image-size", "32", "--batch", "4", "--effective-batch", "8", "--base-learning-rate",
        "0.1",
    ]

    /// The whole command line of a pre-training.
    static func pretrain(_ output: String, epochs: Int = 10, data: String = TinyRun.data, _ more: [String] = [])
        -> [String]
    {
        [
            "pretrain", "--recipe", "demo-teacher", "--data", data, "--output", output, "--epochs", "\(epochs)",
            "--warmup-epochs", "1",
        ] + model
            + more
    }

    /// The whole command line of a distillation, one aligned pair, from a teacher made by `pretrain`.
    static func distill(
        _ output: String, teacher: String, epochs: Int = 10, data: String = TinyRun.data, _ more: [String] = []
    ) -> [String] {
        [
            "distill", "--recipe", "demo", "--teacher", teacher, "--data", data, "--output", output, "--epochs",
            "\(epochs)",
            "--warmup-epochs", "1", "--align", "1:0",
        ] + model + more
    }

    /// The log of a run without its measured values, a line per step or evaluation.
    static func log(_ folder: String) throws -> [String] {
        try String(contentsOfFile: folder + "/log.jsonl", encoding: .utf8).split(separator: "\n").map {
            String($0[..<($0.range(of: ",\"images_per_second\"") ?? $0.range(of: ",\"time\""))!.lowerBound])
        }
    }

    /// The total loss of each step.
    static func losses(_ folder: String) throws -> [Double] {
        try log(folder).compactMap { line in
            line.components(separatedBy: "\"loss\":").dropFirst().first.flatMap { Double($0.prefix { $0 != "," }) }
        }
    }

    static func bytes(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }

    static func checkpoints(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("checkpoint-") }.sorted()
    }
}
