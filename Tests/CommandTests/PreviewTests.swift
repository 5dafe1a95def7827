import Foundation
import Images
import Tensors
import TestSupport
import XCTest

/// `dmae preview`.
final class PreviewTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let source = try! ImageFolder(TinyRun.data)

    /// The bytes of the stream's sample at `position`, before normalisation.
    private func sample(_ position: Int, _ augmentation: Augmentation, seed: UInt64) throws -> Pixels {
        let (epoch, index) = position.quotientAndRemainder(dividingBy: source.count)
        var draw = CounterRandom(seed: seed, purpose: .order, epoch: epoch)
        let image = draw.permutation(source.count)[index]
        return augmentation.apply(
            to: try Pixels(contentsOf: source.path(image), channels: augmentation.channels), seed: seed, epoch: epoch,
            index: index)
    }

    /// The sample without the patches of the largest random numbers, which are those of the masking.
    private func masked(_ sample: Pixels, position: Int, patch: Int, kept: Int, seed: UInt64) -> Pixels {
        var random = CounterRandom(seed: seed, purpose: .mask, index: position)
        let columns = sample.width / patch, patches = columns * sample.height / patch
        let noise = (0..<patches).map { _ in random.uniform() }
        let removed = Set((0..<patches).sorted { noise[$0] < noise[$1] }.dropFirst(kept))
        var bytes = sample.bytes
        for i in bytes.indices {
            let pixel = i / sample.channels, (y, x) = (pixel / sample.width, pixel % sample.width)
            if removed.contains(y / patch * columns + x / patch) { bytes[i] = 128 }
        }
        return Pixels(width: sample.width, height: sample.height, channels: sample.channels, bytes: bytes)
    }

    /// A pre-training's samples: crops of 32×48 pixels in grey, 9 of 24 patches visible, over the end of an epoch.
    func testMaskedSamples() throws {
        let output = folder.file("grid.png"), seed: UInt64 = 7
        let result = assertRuns([
            "preview", "--data", TinyRun.data, "--recipe", "demo", "--output", output, "--seed", "\(seed)", "--count",
            "11", "--columns", "4", "--image-size", "32x48", "--channels", "1", "--mask-ratio", "0.6",
        ])
        XCTAssertEqual(result.errors, "")
        XCTAssertEqual(
            result.output,
            "11 samples of recipe demo, seed 7\n15 of 24 patches removed: grey\ngrid  \(output)  778×392\n")
        let augmentation = Augmentation(width: 48, height: 32, channels: 1)
        let tiles = try (0..<11).map { position in
            let sample = try sample(position, augmentation, seed: seed)
            return masked(sample, position: position, patch: 8, kept: 9, seed: seed).enlarged(by: 4)
        }
        let grid = Pixels.grid([Array(tiles[0..<4]), Array(tiles[4..<8]), Array(tiles[8...])])
        XCTAssertTrue(try Pixels(contentsOf: output, channels: 1) == grid)
    }

    func testRefusals() throws {
        let output = folder.file("error.png")
        let base = ["preview", "--data", TinyRun.data, "--output", output]
        assertRefused(base, 64, "Missing expected argument '--recipe <name>'")
        assertRefused(base + ["--recipe", "none"], 64, "--recipe none is not known: use one of paper, mae, ")
        assertRefused(base + ["--recipe", "demo", "--count", "0"], 64, "--count must be 1 to 10000")
        assertRefused(base + ["--recipe", "demo", "--columns", "0"], 64, "--columns must be 1 to 1000")
        assertRefused(base + ["--recipe", "demo", "--image-size", "30"], 64, "do not tile an image of 30×30")
        assertRefused(base + ["--recipe", "demo", "--mask-ratio", "1"], 64, "--mask-ratio 1.0 is not a fraction")
        assertRefused(base + ["--recipe", "demo", "--channels", "2"], 64, "image files give 1 or 3 channels, not 2")
        assertRefused(
            ["preview", "--data", TinyRun.data, "--recipe", "demo", "--output", folder.file("grid.jpg")], 64,
            "the grid is a PNG file; end it in .png")
        assertRefused(
            ["preview", "--data", folder.file("nothing"), "--recipe", "demo", "--output", output], 74, "nothing")
        XCTAssertEqual(folder.names(), [])
    }
}
