import Foundation
import Interchange
import Models
import Reporting
import TestSupport
import XCTest

/// A conversion of a file that another program writes meanwhile: what was read is partly old and partly new.
final class ChangedInputTests: XCTestCase {
    private let folder = TemporaryFolder()

    func testWrittenInPlace() throws {
        let input = folder.file("input.safetensors")
        let original = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("weights/timm/timm.safetensors")))
        folder.write(original, "input.safetensors")
        // Later tests of this process convert, too.
        defer { try? FileManager.default.removeItem(atPath: input) }
        let targets: [(Conversion.Target, String)] = [
            (.mae, "a.safetensors"), (.mae, "a.pth"), (.timm, "timm"), (.huggingFace, "hf"),
        ]
        func conversions() throws -> [(Conversion, String)] {
            let weights = try ModelWeights(path: input)
            return try targets.map { (try Conversion(weights, to: $0, heads: 4), $1) }
        }
        let before = try conversions(), weights = try ModelWeights(path: input)
        // The same number of bytes in the same file, a moment later.
        usleep(20_000)
        folder.write(original, "input.safetensors")
        for (conversion, name) in before {
            XCTAssertThrowsError(try conversion.write(to: folder.file(name))) { error in
                let failure = error as? Failure
                XCTAssertEqual(failure?.code, .badData)
                XCTAssertEqual(
                    failure?.message.hasPrefix(
                        "\"\(input)\" was written by another program while it was read, and nothing was written from it"
                    ),
                    true, "\(error)")
            }
        }
        XCTAssertThrowsError(
            try ONNXModel.write(
                weights.tensors, weights.runnableEncoder(heads: 4, imageSize: nil),
                to: folder.file("a.onnx"), type: .f32, hasHead: true, classNames: nil, metadata: [:], version: "0"))
        XCTAssertEqual(folder.names(), ["input.safetensors"])
        // Replaced under its name, the file that was opened is still whole.
        try FileManager.default.removeItem(atPath: input)
        folder.write(original, "input.safetensors")
        for (conversion, name) in try conversions() {
            folder.write(original, "other")
            try FileManager.default.removeItem(atPath: input)
            try FileManager.default.moveItem(atPath: folder.file("other"), toPath: input)
            XCTAssertNoThrow(try conversion.write(to: folder.file(name)))
        }
    }
}
