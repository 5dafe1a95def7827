import Reporting
import Foundation
import Images
import Tensors
import TestSupport
import XCTest

final class DecodingTests: XCTestCase {
    let folder = Expected.folder

    func testEveryFormatGivesPillowsPixels() throws {
        XCTAssertGreaterThan(Expected.read.files.count, 80)
        for file in Expected.read.files {
            let colour = try Pixels(contentsOf: "\(folder)/files/\(file.name)", as: .torchvision)
            XCTAssertEqual([colour.width, colour.height, colour.channels], [file.width, file.height, 3], file.name)
            XCTAssertEqual(crc32(colour), file.rgb, "\(file.name) (\(file.mode)) as RGB")
            let grey = try Pixels(contentsOf: "\(folder)/files/\(file.name)", channels: 1, as: .torchvision)
            XCTAssertEqual([grey.width, grey.height, grey.channels], [file.width, file.height, 1], file.name)
            XCTAssertEqual(crc32(grey), file.grey, "\(file.name) (\(file.mode)) as L")
        }
    }

    func testOrientation() throws {
        XCTAssertEqual(Expected.read.orientations.count, 30)
        for file in Expected.read.orientations {
            let path = "\(folder)/files/\(file.name)"
            XCTAssertEqual(crc32(try Pixels(contentsOf: path, as: .torchvision)), file.plain, "\(file.name) as stored")
            let upright = try Pixels(contentsOf: path)
            XCTAssertEqual([upright.width, upright.height], [file.width, file.height], file.name)
            XCTAssertEqual(crc32(upright), file.rgb, "\(file.name) turned upright")
        }
    }

    /// A file that Pillow refuses is refused. A damaged file that Pillow accepts gives the same pixels, or is a PNG that
    /// is refused as its end is missing. One exception: the
    /// decoder smooths a progressive JPEG that lacks coefficients, and the newer libjpeg-turbo in Pillow smooths it
    /// slightly differently from Debian's (whose djpeg agrees with us).
    func testDamage() throws {
        var refused = 0, accepted = 0, stricter = 0
        for damage in Expected.read.damaged {
            var bytes = [UInt8](FileManager.default.contents(atPath: "\(folder)/damaged/\(damage.name)")!)
            if let length = damage.length { bytes = Array(bytes[..<length]) }
            if let flip = damage.flip { bytes[flip[0]] ^= 1 << flip[1] }
            let what = "\(damage.name), length \(damage.length ?? -1), flip \(damage.flip ?? [])"
            do {
                let picture = try Pixels(decoding: bytes, named: damage.name, as: .torchvision)
                XCTAssertNotNil(damage.rgb, "\(what) is accepted though Pillow refuses it")
                if damage.name != "progressive.jpg" { XCTAssertEqual(crc32(picture), damage.rgb, what) }
                accepted += 1
            } catch let failure as Failure {
                XCTAssertEqual(failure.code, .badData, what)
                XCTAssert(failure.message.contains(damage.name), failure.message)
                if damage.rgb != nil {
                    stricter += 1
                    XCTAssert(
                        damage.name.hasSuffix(".png") && damage.length != nil,
                        "\(what) is refused though Pillow reads it: \(failure)")
                }
                refused += 1
            }
        }
        print("damaged files: \(refused) refused, \(stricter) of them accepted by Pillow; \(accepted) accepted")
        XCTAssertGreaterThan(refused, 200)
        XCTAssertGreaterThan(accepted, 100)
    }

    func testBadFilesAreRefusedByName() {
        for (name, reason) in [
            ("text.jpg", "not a JPEG, PNG, WebP, GIF, BMP or PNM file"), ("empty.png", "is empty"),
            ("three-bytes.jpg", "truncated"),
            ("signature.png", "truncated"), ("truncated.jpg", "truncated"),
            ("truncated.png", "truncated"), ("two-components.jpg", "damaged JPEG"),
            ("huge.png", "declares 60000×60000 pixels"),
            ("huge.jpg", "declares 65000×65000 pixels"),
        ] {
            let path = "\(folder)/bad/\(name)"
            let failure = failure { _ = try Pixels(contentsOf: path) }
            XCTAssertEqual(failure?.code, .badData, name)
            XCTAssert(
                failure?.message.contains(path) == true && failure?.message.contains(reason) == true,
                "\(name): \(failure as Any)")
        }
    }

    /// The first bytes decide the format, not the name.
    func testNamesDoNotMatter() throws {
        let gif = try Pixels(contentsOf: "\(folder)/bad/gif.jpg")
        XCTAssertEqual([gif.width, gif.height], [8, 8])
    }

    func testPicturesAreAsLongAsAJPEGMayBe() throws {
        for (width, height) in [(65_535, 1), (1, 65_535), (65_536, 1), (1, 65_536)] {
            let picture = Pixels(
                width: width, height: height, channels: 1, bytes: [UInt8](repeating: 7, count: width * height))
            let file = try PNGWriter.encode(picture)
            let failure = failure {
                let decoded = try Pixels(decoding: file, named: "long.png", channels: 1)
                XCTAssertEqual(decoded, picture)
            }
            XCTAssertEqual(failure?.code, width * height > 65_535 ? .badData : nil)
            let wanted =
                "long.png declares \(width)×\(height) pixels: at most 89478485 are accepted, and 65535 along a side"
            XCTAssertEqual(failure?.message, failure == nil ? nil : wanted)
        }
    }

    func testFilesThatCannotBeRead() throws {
        let folder = TemporaryFolder()
        mkfifo("\(folder.path)/pipe.jpg", 0o600)
        for (path, reason) in [
            ("\(folder.path)/missing.jpg", "No such file or directory; check the path and its permissions"),
            (folder.path, "is a folder: name a picture"), ("\(folder.path)/pipe.jpg", "not a regular file"),
        ] {
            let failure = failure { _ = try Pixels(contentsOf: path) }
            XCTAssertEqual(failure?.code, .inputOutput, path)
            XCTAssert(
                failure?.message.contains(path) == true && failure?.message.contains(reason) == true,
                "\(failure as Any)")
        }
    }

    /// Files that would exhaust memory or time are refused: a sparse file of a terabyte, a JPEG of a thousand scans.
    func testHostileFiles() throws {
        let folder = TemporaryFolder()
        let png = [UInt8](FileManager.default.contents(atPath: "\(self.folder)/damaged/rgb.png")!)
        let path = folder.write(png, "sparse.png")
        XCTAssertEqual(truncate(path, 1 << 40), 0)
        let sparse = failure { _ = try Pixels(contentsOf: path) }
        XCTAssertEqual(sparse?.code, .badData)
        XCTAssert(sparse?.message.contains("\(path) is larger than the 1024 MiB") == true, "\(sparse as Any)")

        let jpeg = [UInt8](FileManager.default.contents(atPath: "\(self.folder)/damaged/progressive.jpg")!)
        let lastScan = (0..<jpeg.count - 1).last { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xDA }!
        let scan = jpeg[lastScan..<jpeg.count - 2]
        func repeated(_ count: Int) -> [UInt8] { jpeg.dropLast(2) + (0..<count).flatMap { _ in scan } + jpeg.suffix(2) }
        XCTAssertNoThrow(try Pixels(decoding: repeated(100), named: "scans.jpg"))
        let scans = failure { _ = try Pixels(decoding: repeated(1100), named: "scans.jpg") }
        XCTAssertEqual(scans, Failure(.badData, "scans.jpg is a damaged JPEG file: more than 1000 scans"))
    }

    /// Random bytes after a valid start may be decoded or refused, but never crash.
    func testNoiseDoesNotCrash() {
        let seed = UInt64.random(in: .min ... .max)
        print("seed \(seed)")
        var draw = CounterRandom(seed: seed, purpose: .test)
        var refused = 0
        for name in ["baseline.jpg", "progressive.jpg", "rgb.png", "interlaced.png"] {
            let file = [UInt8](FileManager.default.contents(atPath: "\(folder)/damaged/\(name)")!)
            for _ in 0..<200 {
                var bytes = file
                for _ in 0..<draw.below(20) + 1 { bytes[8 + draw.below(file.count - 8)] = UInt8(draw.below(256)) }
                do { _ = try Pixels(decoding: bytes, named: name) } catch { refused += 1 }
            }
        }
        XCTAssertGreaterThan(refused, 100)
    }
}
