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

    /// Every recorded pair in Fixtures/golden, by name.
    public static func golden() throws -> [GoldenCase] {
        let end = ".in.safetensors"
        return try FileManager.default.contentsOfDirectory(atPath: path("golden")).sorted().filter { $0.hasSuffix(end) }
            .map { try GoldenCase(name: String($0.dropLast(end.count))) }
    }
}

/// Training steps recorded with PyTorch: what went in, and what came out (see Fixtures/golden/README.md).
public struct GoldenCase {
    /// What the recording says of itself, under the metadata key `dmae.replay`.
    public struct Description: Decodable {
        public struct Size: Decodable {
            public let width, depth, heads: Int
        }
        public struct AdamW: Decodable {
            public let lr: Double
            public let betas: [Double]
            public let weightDecay: Double
            public let eps: Double
        }
        public struct Align: Decodable {
            public let loss: String
        }
        public let patchSize: Int
        public let align: Align
        public let student, decoder: Size
        public let teacher: Size?
        public let optimizer: AdamW
        public let steps: Int
    }

    public let name: String
    /// What `dmae replay` reads.
    public let inputPath: String
    public let input: SafeTensorsFile
    public let expected: SafeTensorsFile
    public let description: Description

    init(name: String) throws {
        self.name = name
        inputPath = Fixtures.path("golden/\(name).in.safetensors")
        input = try SafeTensorsFile(path: inputPath)
        expected = try SafeTensorsFile(path: Fixtures.path("golden/\(name).out.safetensors"))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        description = try decoder.decode(Description.self, from: Data((input.metadata["dmae.replay"] ?? "").utf8))
    }
}
