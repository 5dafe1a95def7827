import Images
import Tensors
import XCTest

final class AugmentationTests: XCTestCase {
    func testCropsAreTorchvisionsRule() {
        for entry in Expected.read.crops {
            var draw = CounterRandom(seed: UInt64(entry.seed)!, purpose: .crop, epoch: entry.epoch, index: entry.index)
            let crop = randomCrop(
                width: entry.size[0], height: entry.size[1], area: entry.area[0]...entry.area[1],
                aspect: 3.0 / 4...4.0 / 3,
                using: &draw)
            XCTAssertEqual([crop.left, crop.top, crop.width, crop.height], entry.crop, "\(entry)")
        }
    }

    func testWholeSamplesEqualPillows() throws {
        let source = try ResizingTests.source("large.png")
        XCTAssert(Expected.read.samples.contains { $0.flipped } && Expected.read.samples.contains { !$0.flipped })
        for entry in Expected.read.samples {
            let augmentation = Augmentation(width: entry.size[0], height: entry.size[1])
            let sample = augmentation.apply(
                to: source, seed: UInt64(entry.seed)!, epoch: entry.epoch, index: entry.index)
            XCTAssertEqual(crc32(sample), entry.crc, "\(entry)")
        }
    }

    func testCentreFramingEqualsTorchvisions() throws {
        for entry in Expected.read.frames {
            let source = try ResizingTests.source(entry.source)
            let augmentation = Augmentation(
                width: entry.size, height: entry.size, channels: source.channels, framing: .centre)
            let frame = augmentation.centreFrame(width: source.width, height: source.height)
            XCTAssertEqual([frame.resized.width, frame.resized.height], entry.resized, "\(entry)")
            XCTAssertEqual(
                [frame.crop.left, frame.crop.top, frame.crop.width, frame.crop.height], entry.crop, "\(entry)")
            XCTAssertEqual(crc32(augmentation.apply(to: source, seed: 0, epoch: 0, index: 0)), entry.crc, "\(entry)")
        }
    }

    /// Samples of up to 224 have a margin, int(224 / 0.875) = 256; larger ones have none. The picture's size does not
    /// matter; of a sample that is not square, the longer side decides. Computed by hand; halves round to even.
    func testMarginOfCentreFramingEndsAt224() {
        let cases: [(picture: [Int], sample: [Int], resized: [Int], corner: [Int])] = [
            ([224, 224], [224, 224], [256, 256], [16, 16]),
            ([300, 224], [224, 224], [342, 256], [59, 16]),
            ([224, 300], [224, 224], [256, 342], [16, 59]),
            ([500, 375], [224, 224], [341, 256], [58, 16]),
            ([300, 224], [225, 225], [301, 225], [38, 0]),
            ([224, 224], [225, 225], [225, 225], [0, 0]),
            ([300, 224], [224, 160], [256, 191], [16, 16]),
            ([300, 224], [160, 224], [342, 256], [91, 16]),
            ([300, 224], [240, 160], [240, 179], [0, 10]),
        ]
        for (picture, sample, resized, corner) in cases {
            let augmentation = Augmentation(width: sample[0], height: sample[1], framing: .centre)
            let frame = augmentation.centreFrame(width: picture[0], height: picture[1])
            XCTAssertEqual([frame.resized.width, frame.resized.height], resized, "\(picture) to \(sample)")
            XCTAssertEqual(
                [frame.crop.left, frame.crop.top, frame.crop.width, frame.crop.height], corner + sample,
                "\(picture) to \(sample)")
        }
    }

    /// For extreme shapes, too, the frame lies inside the resized picture, and a picture of one colour stays one.
    func testCentreFramingOfOddShapes() {
        for (width, height) in [(1, 1), (1, 200_000), (200_000, 1), (17, 1000), (333, 500)] {
            for (sampleWidth, sampleHeight) in [(32, 32), (48, 16), (16, 64), (300, 200)] {
                let augmentation = Augmentation(width: sampleWidth, height: sampleHeight, channels: 1, framing: .centre)
                let frame = augmentation.centreFrame(width: width, height: height)
                XCTAssert(
                    frame.crop.left >= 0 && frame.crop.left + sampleWidth <= frame.resized.width,
                    "\(width)×\(height): \(frame)")
                XCTAssert(
                    frame.crop.top >= 0 && frame.crop.top + sampleHeight <= frame.resized.height,
                    "\(width)×\(height): \(frame)")
                let flat = Pixels(
                    width: width, height: height, channels: 1, bytes: [UInt8](repeating: 93, count: width * height))
                let sample = augmentation.apply(to: flat, seed: 1, epoch: 0, index: 0)
                XCTAssertEqual(Set(sample.bytes), [93], "a flat picture stays flat")
            }
        }
    }

    /// Resampling only the frame gives the same pixels as resizing the whole picture and cropping it.
    func testWindowEqualsFullResize() throws {
        for name in ["large.png", "grey.png", "wide.png"] {
            let source = try ResizingTests.source(name)
            for (width, height) in [(40, 24), (24, 40), (5, 5)] {
                let augmentation = Augmentation(
                    width: width, height: height, channels: source.channels, framing: .centre)
                let frame = augmentation.centreFrame(width: source.width, height: source.height)
                let full = source.resized(width: frame.resized.width, height: frame.resized.height).cropped(
                    to: frame.crop)
                XCTAssertEqual(augmentation.apply(to: source, seed: 0, epoch: 0, index: 0), full, name)
            }
        }
    }

    func testChannelsAreConverted() throws {
        for (name, channels) in [("large.png", 1), ("grey.png", 3)] {
            let source = try ResizingTests.source(name)
            let asDecoded = try Pixels(contentsOf: "\(Expected.folder)/resize/\(name)", channels: channels)
            XCTAssertEqual(source.converted(channels: channels), asDecoded)
            let augmentation = Augmentation(width: 20, height: 10, channels: channels, framing: .whole)
            XCTAssertEqual(
                augmentation.apply(to: source, seed: 0, epoch: 0, index: 0), asDecoded.resized(width: 20, height: 10))
        }
    }

    /// ImageNet's customary values, and for grey their averages: 1.347/3 and 0.678/3. A sample's default is the one for
    /// its channels.
    func testImageNetsFigures() {
        let figures = [
            1: Normalisation(mean: [0.449], deviation: [0.226]),
            3: Normalisation(mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225]),
        ]
        for (channels, expected) in figures {
            XCTAssertEqual(Normalisation.imageNet(channels: channels), expected)
            XCTAssertEqual(Augmentation(width: 8, height: 8, channels: channels).normalisation, expected)
        }
    }

    func testNormalisationAndBack() throws {
        for (name, channels) in [("large.png", 3), ("grey.png", 1)] {
            let source = try ResizingTests.source(name)
            let normalisation = Normalisation.imageNet(channels: channels)
            let count = source.width * source.height
            var values = [Float](repeating: .nan, count: channels * count)
            normalisation.write(source, to: &values)
            for channel in 0..<channels {
                for pixel in stride(from: 0, to: count, by: 97) {
                    let byte = Float(source.bytes[pixel * channels + channel])
                    let value = (byte / 255 - normalisation.mean[channel]) / normalisation.deviation[channel]
                    XCTAssertEqual(values[channel * count + pixel], value)
                }
            }
            XCTAssertEqual(normalisation.pixels(values, width: source.width, height: source.height), source)
        }
    }

    func testDenormalisationCutsOff() {
        let normalisation = Normalisation(mean: [0.5], deviation: [0.25])
        let values: [Float] = [.nan, -.infinity, .infinity, -3, 3, 0, -2, 2]
        XCTAssertEqual(normalisation.pixels(values, width: 8, height: 1).bytes, [0, 0, 255, 0, 255, 128, 0, 255])
    }
}
