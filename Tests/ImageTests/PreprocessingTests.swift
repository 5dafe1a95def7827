import Foundation
import Images
import XCTest

final class PreprocessingTests: XCTestCase {
    /// A fraction made of two sizes gives these sizes back, of which some quotients are rounded.
    func testFractionOfTwoSizes() throws {
        for side in 1...400 {
            for resized in side...side + 130 {
                // A crop may be a hundredth.
                guard resized < 100 * side else { continue }
                let crop = try XCTUnwrap(CentreCrop(side: side, of: resized))
                XCTAssertEqual(crop.frame(width: side, height: side, of: (50, 50)).resized.width, resized)
                XCTAssertTrue(CentreCrop.fractions.contains(crop.fraction!))
            }
        }
        for (side, resized) in [
            (0, 1), (2, 1), (1, 200), (32, .max), (32, 1 << 62), (.max, .max), (60_000, 65_536), (-1, 3),
        ] { XCTAssertNil(CentreCrop(side: side, of: resized), "\(side) of \(resized)") }
    }

    func testOtherChannels() {
        XCTAssertEqual(Normalisation.imageNet(channels: 3).adapted(channels: 1), .imageNet(channels: 1))
        XCTAssertEqual(Normalisation.imageNet(channels: 1).adapted(channels: 3), .imageNet(channels: 3))
        let own = Normalisation(mean: [0.25, 0.5, 0.75], deviation: [0.5, 0.5, 0.125])
        XCTAssertEqual(own.adapted(channels: 3), own)
        XCTAssertEqual(own.adapted(channels: 1), Normalisation(mean: [0.5], deviation: [0.375]))
        XCTAssertEqual(
            Normalisation(mean: [0.5], deviation: [0.25]).adapted(channels: 3),
            Normalisation(mean: [0.5, 0.5, 0.5], deviation: [0.25, 0.25, 0.25]))
    }

    func testTextAndJSON() throws {
        let half = Normalisation(mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5])
        let cases: [(Preprocessing, String)] = [
            (
                .imageNet(channels: 3),
                "mean 0.485 0.456 0.406, std 0.229 0.224 0.225, bicubic, crop 0.875 (1 for models above 224 pixels)"
            ),
            (.imageNet(channels: 1), "mean 0.449, std 0.226, bicubic, crop 0.875 (1 for models above 224 pixels)"),
            (
                Preprocessing(normalisation: half, interpolation: .bilinear, crop: CentreCrop(fraction: 0.9)),
                "mean 0.5, std 0.5, bilinear, crop 0.9"
            ),
            (
                Preprocessing(normalisation: half, crop: CentreCrop(fraction: 1, squashes: true, roundsDown: true)),
                "mean 0.5, std 0.5, bicubic, squash"
            ),
            (
                Preprocessing(normalisation: half, crop: CentreCrop(side: 224, of: 256, squashes: true)!),
                "mean 0.5, std 0.5, bicubic, squash, crop 0.875"
            ),
        ]
        for (preprocessing, text) in cases {
            XCTAssertEqual(preprocessing.description, text)
            let json = try JSONEncoder().encode(preprocessing)
            XCTAssertEqual(try JSONDecoder().decode(Preprocessing.self, from: json), preprocessing)
        }
        func decoded(_ json: String) -> Preprocessing? {
            try? JSONDecoder().decode(Preprocessing.self, from: Data(json.utf8))
        }
        let rest = #""interpolation":"bicubic","squashes":false,"cropRoundsDown":false"#
        XCTAssertNotNil(decoded(#"{"mean":[0.5],"std":[0.5],\#(rest)}"#))
        for wrong in [
            #"{"mean":[0.5],"std":[0],\#(rest)}"#, #"{"mean":[0.5,0.5],"std":[0.5,0.5],\#(rest)}"#,
            #"{"mean":[0.5],"std":[0.5],"cropFraction":0,\#(rest)}"#,
            #"{"mean":[0.5],"std":[0.5],"cropFraction":1.5,\#(rest)}"#,
            #"{"mean":[0.5],"std":[0.5],"cropFraction":1e-30,\#(rest)}"#,
            #"{"mean":[0.5],"std":[1e-30],\#(rest)}"#, #"{"mean":[1e30],"std":[0.5],\#(rest)}"#,
        ] { XCTAssertNil(decoded(wrong), wrong) }
    }
}
