import Foundation
import Weights

/// Where the fixtures are: `Fixtures/` beside `Tests/`, found from this file's own place.
public enum Fixtures {
    public static let folder = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent(
            "Fixtures"
        ).path

    /// The path of `name`, such as "golden/linear.in.safetensors".
    public static func path(_ name: String) -> String { folder + "/" + name }

    /// Every recorded pair of distillation steps in Fixtures/golden, by name.
    public static func golden() throws -> [GoldenCase] { try recordings("golden") }

    /// Every recorded pair of fine-tuning steps in Fixtures/golden/finetune, by name.
    public static func goldenFineTuning() throws -> [RecordedCase<FineTuningDescription>] {
        try recordings("golden/finetune")
    }

    private static func recordings<Description>(_ folder: String) throws -> [RecordedCase<Description>] {
        let end = ".in.safetensors"
        return try FileManager.default.contentsOfDirectory(atPath: path(folder)).sorted().filter { $0.hasSuffix(end) }
            .map { try RecordedCase(folder: folder, name: String($0.dropLast(end.count))) }
    }
}

/// Distillation steps recorded with PyTorch.
public typealias GoldenCase = RecordedCase<DistillationDescription>

/// What a recording of distillation says of itself, under the metadata key `dmae.replay`.
public struct DistillationDescription: Decodable {
    public struct Align: Decodable {
        public let loss: String
    }
    public let patchSize: Int
    public let align: Align
    public let student, decoder: RecordedSize
    public let teacher: RecordedSize?
    public let optimizer: RecordedAdamW
    public let steps: Int
}

/// What a recording of fine-tuning says of itself, under the metadata key `dmae.replay`.
public struct FineTuningDescription: Decodable {
    public let patchSize: Int
    public let model: RecordedSize
    public let classes: Int
    public let pool: String
}

public struct RecordedSize: Decodable {
    public let width, depth, heads: Int
}

public struct RecordedAdamW: Decodable {
    public let lr: Double
    public let betas: [Double]
    public let weightDecay: Double
    public let eps: Double
}

/// Training steps recorded with PyTorch: what went in, and what came out (see Fixtures/golden/README.md).
public struct RecordedCase<Description: Decodable> {
    public let name: String
    /// What `dmae replay` reads.
    public let inputPath: String
    public let input: SafeTensorsFile
    public let expected: SafeTensorsFile
    public let description: Description

    init(folder: String, name: String) throws {
        self.name = name
        inputPath = Fixtures.path("\(folder)/\(name).in.safetensors")
        input = try SafeTensorsFile(path: inputPath)
        expected = try SafeTensorsFile(path: Fixtures.path("\(folder)/\(name).out.safetensors"))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        description = try decoder.decode(Description.self, from: Data((input.metadata["dmae.replay"] ?? "").utf8))
    }
}
