import Foundation
import Images
import Reporting
import Tensors
import TestSupport
import XCTest

/// WebP, GIF, BMP, PBM, PGM and PPM, against what Fixtures/pictures/make_formats.py recorded of Pillow.
final class FormatTests: XCTestCase {
    private struct Expected: Decodable {
        struct File: Decodable {
            let name: String
            /// Absent where Pillow refuses the file.
            let rgb, grey: UInt32?
            let mode: String?
            let width, height: Int?
            let transparent: Bool?
            let over, overGrey: [String: UInt32]
            /// Of 16-bit grey.
            let scale: UInt32?, clipped: Int?
        }
        struct Orientation: Decodable { let name: String; let width, height: Int; let rgb, plain: UInt32 }
        struct Damage: Decodable { let name: String; let length: Int?; let flip: [Int]?; let rgb: UInt32? }
        let files: [File]
        let orientations: [Orientation]
        let damaged: [Damage]
    }
    private let folder = Fixtures.path("pictures/formats")
    private let expected = try! JSONDecoder().decode(
        Expected.self, from: FileManager.default.contents(atPath: Fixtures.path("pictures/formats.json"))!)

    private func bytes(_ name: String) -> [UInt8] {
        [UInt8](FileManager.default.contents(atPath: "\(folder)/\(name)")!)
    }

    func testEveryFileGivesPillowsPixels() throws {
        let read = expected.files.filter { $0.rgb != nil }
        for ending in ["webp", "gif", "bmp", "ppm", "pgm", "pbm"] {
            XCTAssertGreaterThan(read.count { $0.name.hasSuffix("." + ending) }, 10, ending)
        }
        XCTAssertGreaterThan(read.count { $0.transparent == true }, 30)
        for file in read {
            let path = "\(folder)/\(file.name)"
            let colour = try Pixels(contentsOf: path, as: .torchvision)
            XCTAssertEqual([colour.width, colour.height, colour.channels], [file.width, file.height, 3], file.name)
            XCTAssertEqual(crc32(colour), file.rgb, "\(file.name) (\(file.mode!)) as RGB")
            let grey = try Pixels(contentsOf: path, channels: 1, as: .torchvision)
            // Of this file Pillow's RGB has the colours of the global palette, and its L those of the frame's own.
            if file.name != "local-ramp.gif" {
                XCTAssertEqual(crc32(grey), file.grey, "\(file.name) (\(file.mode!)) as L")
            }
            for (name, crc) in file.over {
                let reading = PictureReading(background: try XCTUnwrap(Background(name)))
                XCTAssertEqual(crc32(try Pixels(contentsOf: path, as: reading)), crc, "\(file.name) over \(name)")
                XCTAssertEqual(
                    crc32(try Pixels(contentsOf: path, channels: 1, as: reading)), file.overGrey[name],
                    "\(file.name) over \(name), as grey")
            }
            var tally = PictureTally(PictureReading()), said: [String] = []
            _ = try Pixels(
                decoding: [UInt8](FileManager.default.contents(atPath: path)!), named: path, channels: 3,
                as: PictureReading(), in: &tally, image: 0
            ) {
                said.append("\($0)")
            }
            XCTAssertEqual(said.count, (file.clipped ?? 0) > 0 ? 1 : 0, "\(file.name): \(said)")
            XCTAssertEqual(tally.summary(of: 1, in: nil).count, file.transparent == true ? 1 : 0, file.name)
        }
    }

    func testGreyOf16BitsIsScaled() throws {
        let files = expected.files.filter { $0.scale != nil }
        XCTAssertGreaterThan(files.count, 10)
        for file in files {
            let reading = PictureReading(grey16: .scale)
            let scaled = try Pixels(contentsOf: "\(folder)/\(file.name)", channels: 1, as: reading)
            XCTAssertEqual(crc32(scaled), file.scale, file.name)
        }
    }

    func testOrientationOfWebP() throws {
        XCTAssertGreaterThan(expected.orientations.count { $0.rgb != $0.plain }, 10)
        XCTAssertGreaterThan(expected.orientations.count { $0.rgb == $0.plain }, 3)
        for file in expected.orientations {
            let path = "\(folder)/\(file.name)"
            let picture = try Pixels(contentsOf: path)
            XCTAssertEqual([picture.width, picture.height], [file.width, file.height], file.name)
            XCTAssertEqual(crc32(picture), file.rgb, file.name)
            let stored = try Pixels(contentsOf: path, as: PictureReading(appliesOrientation: false))
            XCTAssertEqual(crc32(stored), file.plain, "\(file.name) as stored")
        }
    }

    /// What Pillow refuses is refused in one sentence; what is valid, but not read, says so.
    func testBadFilesAreRefusedByName() throws {
        let refused = expected.files.filter { $0.rgb == nil }
        XCTAssertGreaterThan(refused.count, 40)
        for file in refused {
            let path = "\(folder)/\(file.name)"
            let failure = failure { _ = try Pixels(contentsOf: path) }
            XCTAssertEqual(failure?.code, .badData, file.name)
            XCTAssert(failure?.message.hasPrefix(path) == true, "\(file.name): \(failure as Any)")
        }
        for (name, sentence) in [
            ("fewer-pixels.gif", "is a damaged GIF file: the file is truncated"),
            ("no-frame.gif", "is a damaged GIF file: it holds no picture"),
            ("empty-frame.gif", "is a damaged GIF file: its first frame is empty"),
            ("wrong-code.gif", "is a damaged GIF file: a code that stands for nothing"),
            ("jpeg-inside.bmp", "is a BMP file with a JPEG file inside, which is not read: convert it with magick"),
            (
                "bits2.bmp",
                "is a BMP file with 2 bits a pixel in compression 0, which is not read: convert it with magick"
            ),
            (
                "rgb16-4444.bmp",
                "is a BMP file with bit fields in an unusual order, which is not read: convert it with magick"
            ),
            ("header-16.bmp", "is a BMP file with an unusual header (convert it with magick)"),
            ("palette300.bmp", "is a damaged BMP file: a palette of 300 colours"),
            ("palette8-cut.bmp", "is a damaged BMP file: the file is truncated"),
            ("short16.ppm", "is a damaged PNM file: the file is truncated"),
            ("text-too-large.pgm", "is a damaged PNM file: a sample of 101, where the maximum is 100"),
            ("maximum-65536.pgm", "is a damaged PNM file: a maximum of 65536"),
            ("no-picture.webp", "is a damaged WebP file: its chunks are damaged"),
            ("animated-outside.webp", "is a damaged WebP file: its chunks are damaged"),
        ] {
            XCTAssertEqual(
                failure { _ = try Pixels(contentsOf: "\(folder)/\(name)") }?.message, "\(folder)/\(name) \(sentence)")
        }
        for (name, size) in [("huge.pgm", "9999999999×9999999999"), ("wide.bmp", "4294967295×1"), ("empty.bmp", "0×0")]
        {
            let message = failure { _ = try Pixels(contentsOf: "\(folder)/\(name)") }?.message
            XCTAssertEqual(message?.contains("declares \(size) pixels"), true, "\(name): \(message ?? "")")
        }
    }

    /// A damaged file that Pillow refuses is refused; one that Pillow accepts gives the same pixels.
    func testDamage() throws {
        var refused = 0, accepted = 0
        for damage in expected.damaged {
            var bytes = bytes(damage.name)
            if let length = damage.length { bytes = Array(bytes[..<length]) }
            if let flip = damage.flip { bytes[flip[0]] ^= 1 << flip[1] }
            let what = "\(damage.name), length \(damage.length ?? -1), flip \(damage.flip ?? [])"
            do {
                let picture = try Pixels(decoding: bytes, named: damage.name, as: .torchvision)
                XCTAssertNotNil(damage.rgb, "\(what) is accepted though Pillow refuses it")
                XCTAssertEqual(crc32(picture), damage.rgb, what)
                accepted += 1
            } catch let failure as Failure {
                XCTAssertEqual(failure.code, .badData, what)
                XCTAssertNil(damage.rgb, "\(what) is refused though Pillow reads it: \(failure)")
                refused += 1
            }
        }
        print("damaged files: \(refused) refused, \(accepted) accepted")
        XCTAssertGreaterThan(refused, 300)
        XCTAssertGreaterThan(accepted, 400)
    }

    /// A few bytes that declare a large picture are refused without much memory or time, or read.
    func testHostileFiles() {
        func word(_ number: Int) -> [UInt8] { [UInt8(number & 0xFF), UInt8(number >> 8)] }
        // A screen of 89 million pixels for a frame of one.
        let screen = Array("GIF89a".utf8) + word(9459) + word(9459) + [0, 0, 0]
        let frame = [0x2C] + word(0) + word(0) + word(1) + word(1) + [0, 2, 2, 0x44, 1, 0]
        XCTAssertEqual(try Pixels(decoding: screen + frame, named: "screen.gif", channels: 1).width, 9459)
        let larger = Array("GIF89a".utf8) + word(9460) + word(9460) + [0, 0, 0] + frame
        XCTAssertEqual(
            failure { _ = try Pixels(decoding: larger, named: "larger.gif") }?.message,
            "larger.gif declares 9460×9460 pixels: at most 89478485 are accepted, and 65535 along a side")
        let declared = failure { _ = try Pixels(decoding: Array("P6 9459 9459 255\nabc".utf8), named: "short.ppm") }
        XCTAssertEqual(declared?.message, "short.ppm is a damaged PNM file: the file is truncated")
        // The canvas of an animation, around a frame of one pixel.
        let vp8l: [UInt8] = Array("VP8L".utf8) + [5, 0, 0, 0, 0x2F, 0, 0, 0, 0, 0]
        func animation(_ side: Int) -> [UInt8] {
            let extent = [UInt8((side - 1) & 0xFF), UInt8((side - 1) >> 8), 0]
            let canvas = Array("VP8X".utf8) + [10, 0, 0, 0, 2, 0, 0, 0] + extent + extent
            let frame = Array("ANMF".utf8) + [30, 0, 0, 0] + [UInt8](repeating: 0, count: 16) + vp8l
            let chunks = Array("WEBP".utf8) + canvas + Array("ANIM".utf8) + [6, 0, 0, 0, 0, 0, 0, 0, 0, 0] + frame
            return Array("RIFF".utf8) + word(chunks.count) + [0, 0] + chunks
        }
        XCTAssertEqual(
            failure { _ = try Pixels(decoding: animation(16000), named: "canvas.webp") }?.message,
            "canvas.webp declares 16000×16000 pixels: at most 89478485 are accepted, and 65535 along a side")
    }

    /// Random bytes after a valid start may be decoded or refused, but never crash.
    func testNoiseDoesNotCrash() {
        let seed = UInt64.random(in: .min ... .max)
        print("seed \(seed)")
        var random = CounterRandom(seed: seed, purpose: .test)
        var refused = 0
        for name in Set(expected.damaged.map(\.name)).sorted() {
            let file = bytes(name)
            for _ in 0..<100 {
                var bytes = file
                for _ in 0...random.below(20) { bytes[random.below(file.count)] = UInt8(random.below(256)) }
                do { _ = try Pixels(decoding: bytes, named: name) } catch { refused += 1 }
            }
        }
        XCTAssertGreaterThan(refused, 100)
    }

    /// Inputs that `make fuzz` found.
    func testFuzzedInputs() throws {
        let folder = Fixtures.path("fuzz/picture")
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
            let file = [UInt8](FileManager.default.contents(atPath: "\(folder)/\(name)")!)
            for channels in [1, 3] {
                for reading in [PictureReading(), .torchvision] {
                    do { _ = try Pixels(decoding: file, named: name, channels: channels, as: reading) } catch {
                        XCTAssertEqual((error as? Failure)?.code, .badData, "\(name): \(error)")
                    }
                }
            }
        }
    }
}
