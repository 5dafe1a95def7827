import Models
import TestSupport
import Weights
import XCTest

/// Position tables and patch projections for other images, against what PyTorch and timm make of them.
final class AdaptationTests: XCTestCase {
    private let recorded = Result { try SafeTensorsFile(path: Fixtures.path("adaptation/adaptation.safetensors")) }

    /// The sum of at most 16 products in double, rounded to a float once: the last bit may differ by the order of the
    /// sum.
    func testPositionTables() throws {
        let file = try recorded.get()
        var cases = 0
        for name in file.names where name.hasPrefix("positions.") && name.hasSuffix(".before") {
            let sizes = name.split(separator: ".")[1...2].map { $0.split(separator: "x").map { Int($0)! } }
            let width = try file.entry(name).shape[2]
            let expected = try file.floats(name.replacing(".before", with: ".after"))
            var found = [Float](repeating: .nan, count: expected.count)
            try file.floats(name).withUnsafeBufferPointer { source in
                found.withUnsafeMutableBufferPointer {
                    PositionTable.resample(
                        source, rows: sizes[0][0], columns: sizes[0][1], into: $0, rows: sizes[1][0],
                        columns: sizes[1][1], width: width)
                }
            }
            for (index, (own, their)) in zip(found, expected).enumerated() {
                XCTAssertEqual(own, their, accuracy: their.ulp, "\(name), element \(index)")
            }
            if sizes[0] == sizes[1] { XCTAssertEqual(found.bits, expected.bits, name) }
            cases += 1
        }
        XCTAssertEqual(cases, 10)
    }

    /// One product, or a sum in the order of the channels: the same bits, but for the order in which PyTorch adds.
    func testInputChannels() throws {
        let file = try recorded.get()
        var cases = 0
        for name in file.names where name.hasPrefix("channels.") && name.hasSuffix(".before") {
            let entry = try file.entry(name)
            let result = name.replacing(".before", with: ".after")
            let (old, new) = (entry.shape[1], try file.entry(result).shape[1])
            let expected = try file.floats(result)
            var found = [Float](repeating: .nan, count: expected.count)
            try file.floats(name).withUnsafeBufferPointer { source in
                found.withUnsafeMutableBufferPointer {
                    InputChannels.adapt(
                        source, channels: old, into: $0, channels: new, outputs: entry.shape[0], area: 4)
                }
            }
            for (own, their) in zip(found, expected) {
                // Values of a few units: a sum of four has at most three roundings.
                XCTAssertEqual(own, their, accuracy: new == 1 ? 3 * Float(8).ulp : 0, name)
            }
            cases += 1
        }
        XCTAssertEqual(cases, 7)
        XCTAssertEqual(InputChannels.rule(from: 3, to: 1), "summed")
        XCTAssertEqual(InputChannels.rule(from: 1, to: 3), "repeated and scaled by 1/3")
    }
}
