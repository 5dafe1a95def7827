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
        XCTAssertEqual(result.errors, "\(TinyRun.data): 9 images\n")
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

    /// Fine-tuning's samples: augmented, erased and mixed by the row, each row the start of another batch.
    func testMixedSamples() throws {
        let output = folder.file("mixed.png"), seed: UInt64 = 11
        let result = assertRuns([
            "preview", "--data", TinyRun.data, "--recipe", "finetune-base", "--output", output, "--seed", "\(seed)",
            "--count", "14", "--columns", "3", "--batch", "4", "--image-size", "48",
        ])
        XCTAssertEqual(result.errors, "\(TinyRun.data): 9 images\n")
        let augmentation = Augmentation(
            width: 48, height: 48, framing: .random(area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, flip: 0.5),
            randAugment: RandAugment(), erasing: RandomErasing())
        let plan = MemoryPlan()
        let batch = plan.reserve("images", 4, augmentation.sampleCount, .batch)
        try plan.commit()
        var rows: [[Pixels]] = [], lines = ["14 samples of recipe finetune-base, seed 11"]
        for row in 0..<5 {
            for i in 0..<4 {
                let position = 4 * row + i, values = batch.pointer + i * batch.stride
                augmentation.normalisation.write(try sample(position, augmentation, seed: seed), to: values)
                augmentation.erase(values, seed: seed, epoch: position / source.count, index: position % source.count)
            }
            let mixture = Mixing().mixture(seed: seed, firstSample: 4 * row, width: 48, height: 48)
            mixture.apply(to: batch, count: 4, width: 48, height: 48)
            rows.append(
                (0..<min(3, 14 - 3 * row)).map {
                    augmentation.normalisation.pixels(batch.pointer + $0 * batch.stride, width: 48, height: 48)
                        .enlarged(by: 4)
                })
            lines.append(
                "row \(row + 1): \(mixture.box == nil ? "mixup" : "CutMix"), λ "
                    + String(format: "%.2f", mixture.lambda))
        }
        XCTAssertEqual(result.output, (lines + ["grid  \(output)  584×972"]).joined(separator: "\n") + "\n")
        XCTAssertTrue(try Pixels(contentsOf: output) == Pixels.grid(rows))
        // Both kinds of mixing were drawn.
        XCTAssertTrue(result.output.contains("mixup") && result.output.contains("CutMix"), result.output)
        // Without what mixes, the samples stand one after another.
        let plain = folder.file("plain.png")
        assertRuns([
            "preview", "--data", TinyRun.data, "--recipe", "finetune-base", "--output", plain, "--seed", "\(seed)",
            "--count", "2", "--columns", "1", "--image-size", "48", "--mixup", "0", "--cutmix", "0", "--erasing", "0",
            "--no-rand-augment",
        ])
        let cropped = Augmentation(width: 48, height: 48, framing: augmentation.framing)
        let tiles = try (0..<2).map { [try sample($0, cropped, seed: seed).enlarged(by: 4)] }
        XCTAssertTrue(try Pixels(contentsOf: plain) == Pixels.grid(tiles))
    }

    /// Without a recipe the samples are those of the paper's, or of fine-tuning's where its flags are given.
    func testDefaultRecipe() throws {
        let base = [
            "preview", "--data", TinyRun.data, "--count", "1", "--columns", "1", "--image-size", "32", "--output",
        ]
        for (recipe, command, flags) in [("paper", "distill", []), ("finetune-base", "finetune", ["--erasing", "0"])] {
            let result = assertRuns(base + [folder.file("default.png")] + flags)
            XCTAssertEqual(
                result.errors, "\(TinyRun.data): 9 images\nrecipe \(recipe), that of `dmae \(command)` (--recipe)\n")
            XCTAssertTrue(result.output.hasPrefix("1 sample of recipe \(recipe), seed 0\n"), result.output)
            // Nobody named a recipe, whose patches of 16 would be 4.
            let patches = recipe == "paper" ? ["--patch-size", "4"] : []
            assertRuns(base + [folder.file("named.png"), "--recipe", recipe] + flags + patches)
            XCTAssertEqual(folder.read("default.png"), folder.read("named.png"))
        }
    }

    func testRefusals() throws {
        let output = folder.file("error.png")
        let base = ["preview", "--data", TinyRun.data, "--output", output]
        assertRefused(base + ["--recipe", "none"], 64, "--recipe none is not known: use one of paper, mae, ")
        assertRefused(base + ["--recipe", "demo", "--count", "0"], 64, "--count must be 1 to 10000")
        assertRefused(base + ["--recipe", "demo", "--columns", "0"], 64, "--columns must be 1 to 1000")
        assertRefused(base + ["--recipe", "demo", "--image-size", "30"], 64, "do not tile an image of 30×30")
        assertRefused(base + ["--recipe", "demo", "--mask-ratio", "1"], 64, "--mask-ratio 1 is not a fraction")
        assertRefused(base + ["--recipe", "demo", "--channels", "2"], 64, "image files give 1 or 3 channels, not 2")
        assertRefused(
            ["preview", "--data", TinyRun.data, "--recipe", "demo", "--output", folder.file("grid.jpg")], 64,
            "the grid is a PNG file; end it in .png")
        assertRefused(
            ["preview", "--data", folder.file("nothing"), "--recipe", "demo", "--output", output], 74, "nothing")
        assertRefused(base + ["--recipe", "demo", "--mixup", "0"], 64, "--mixup is for recipes of fine-tuning")
        assertRefused(
            base + ["--recipe", "finetune-base", "--mask-ratio", "0.5"], 64,
            "--mask-ratio has no effect: recipe finetune-base removes no patches")
        assertRefused(
            base + ["--recipe", "finetune-base", "--batch", "4"], 64,
            "--columns 6 is more than a batch of 4 images: lower it, or raise --batch")
        assertRefused(base + ["--recipe", "finetune-base", "--batch", "7"], 64, "even")
        XCTAssertEqual(folder.names(), [])
        let picture = folder.file("picture.png")
        folder.write(try PNGWriter.encode(sample(0, Augmentation(width: 9, height: 9), seed: 0)), "picture.png")
        let before = folder.read("picture.png")
        folder.write("picture.png\n".utf8, "list.txt")
        assertRefused(
            ["preview", "--data", folder.file("list.txt"), "--recipe", "demo", "--output", picture], 64, "is the input "
        )
        XCTAssertEqual(folder.read("picture.png"), before)
    }
}
