import Foundation
import Images
import TestSupport
import Weights
import XCTest

/// The results of timm 0.3.2, Pillow and PyTorch, as Fixtures/augmentation/make_augmentation.py recorded them.
struct ExpectedAugmentation: Decodable {
    /// The CRC-32 of each result: by operation, then [sign, magnitude]; operations without a sign have one row.
    struct Source: Decodable { let name: String; let results: [String: [[UInt32]]] }
    struct Sample: Decodable {
        let source: String; let size: [Int]; let seed: String; let epoch, index: Int; let changes: [Change]
        let crc: UInt32
    }
    struct Change: Decodable {
        let operation: String; let magnitude: Double; let isNegative: Bool

        init(from decoder: any Decoder) throws {
            var values = try decoder.unkeyedContainer()
            operation = try values.decode(String.self)
            magnitude = try values.decode(Double.self)
            isNegative = try values.decode(Bool.self)
        }
    }
    struct ProbeSample: Decodable {
        let source: String; let size: [Int]; let seed: String; let epoch, index: Int; let crop: [Int]; let crc: UInt32
    }
    struct Erasing: Decodable {
        let size: [Int]; let channels: Int; let seed: String; let epoch, index: Int; let probability: Double
        let erased: Bool
    }
    struct MixedBatch: Decodable {
        let size: [Int]; let seed: String; let first: Int; let alphas: [Double]; let labels: [Int]; let cutmix: Bool
    }
    let operations: [String]
    let magnitudes: [Double]
    let signed: [String]
    let sources: [Source]
    let samples: [Sample]
    let probe: [ProbeSample]
    let erasing: [Erasing]
    let mixing: [MixedBatch]
    let smoothing: Double
    let classes: Int

    static let folder = Fixtures.path("augmentation")
    static let read: ExpectedAugmentation = {
        let data = FileManager.default.contents(atPath: "\(folder)/expected.json")!
        return try! JSONDecoder().decode(ExpectedAugmentation.self, from: data)
    }()

    /// The pictures before and after erasing and mixing.
    static func tensors() throws -> SafeTensorsFile { try SafeTensorsFile(path: "\(folder)/tensors.safetensors") }

    /// A picture that operations are applied to.
    static func source(_ name: String) throws -> Pixels {
        try Pixels(
            contentsOf: "\(folder)/sources/\(name).png", channels: name.contains("grey") ? 1 : 3)
    }
}

extension SafeTensorsFile {
    /// All values of a tensor.
    func floats(_ name: String) throws -> [Float] {
        var values = [Float](repeating: .nan, count: self[name]!.shape.reduce(1, *))
        try values.withUnsafeMutableBufferPointer { try copyFloats(name, into: $0) }
        return values
    }
}

/// Fails if `count` of `trials` is not what the binomial distribution of `probability` allows: six standard deviations
/// are exceeded less often than twice in a thousand million tests.
func assertBinomial(
    _ count: Int, of trials: Int, _ probability: Double, _ what: String, file: StaticString = #filePath,
    line: UInt = #line
) {
    let expected = Double(trials) * probability
    let deviation = (expected * (1 - probability)).squareRoot()
    XCTAssertLessThanOrEqual(
        abs(Double(count) - expected), 6 * deviation,
        "\(what): \(count) of \(trials), expected \(expected) ± \(deviation)", file: file, line: line)
}
