import Foundation
import Images
import Reporting
import Tensors
import TestSupport
import XCTest

/// Orientations, transparency, 16-bit grey and wrong checksums, against what Fixtures/pictures/make_pictures.py recorded
/// of Pillow.
final class PictureReadingTests: XCTestCase {
    private struct Expected: Decodable {
        struct Orientation: Decodable {
            let name: String; let width, height: Int; let rgb, plain: UInt32; let turned: Bool
        }
        struct Transparent: Decodable {
            let name: String; let width, height: Int; let plain: UInt32; let transparent: Bool
            let over, grey: [String: UInt32]
        }
        struct Grey16: Decodable { let name: String; let clip, scale: UInt32; let clipped, count: Int }
        struct Checksum: Decodable { let name: String; let rgb: UInt32?; let ofPixels: Bool }
        let orientations: [Orientation]
        let transparent: [Transparent]
        let grey16: [Grey16]
        let checksums: [Checksum]
    }
    private let folder = Fixtures.path("pictures")
    private let expected = try! JSONDecoder().decode(
        Expected.self, from: FileManager.default.contents(atPath: Fixtures.path("pictures/expected.json"))!)

    /// What is said about a file, at once and at the end.
    private func said(_ path: String, _ reading: PictureReading) throws -> (now: [String], later: [String]) {
        var tally = PictureTally(reading), now: [String] = []
        _ = try Pixels(
            decoding: [UInt8](FileManager.default.contents(atPath: path)!), named: path, channels: 3, as: reading,
            in: &tally, image: 0
        ) { now.append("\($0)") }
        return (now, tally.summary(of: 1, in: nil).map { "\($0)" })
    }

    func testOrientationsAreThoseOfPillow() throws {
        XCTAssertGreaterThan(expected.orientations.count { $0.turned }, 45)
        XCTAssertGreaterThan(expected.orientations.count { !$0.turned }, 12)
        for file in expected.orientations {
            let path = "\(folder)/oriented/\(file.name)"
            let picture = try Pixels(contentsOf: path)
            XCTAssertEqual([picture.width, picture.height], [file.width, file.height], file.name)
            XCTAssertEqual(crc32(picture), file.rgb, file.name)
            let stored = try Pixels(contentsOf: path, as: PictureReading(appliesOrientation: false))
            XCTAssertEqual(crc32(stored), file.plain, "\(file.name) as stored")
        }
    }

    func testTransparencyIsCompositedAsByPillow() throws {
        XCTAssertGreaterThan(expected.transparent.count { $0.transparent }, 25)
        for file in expected.transparent {
            let path = "\(folder)/transparent/\(file.name)"
            for (name, crc) in file.over {
                let reading = PictureReading(background: try XCTUnwrap(Background(name)))
                let picture = try Pixels(contentsOf: path, as: reading)
                XCTAssertEqual([picture.width, picture.height], [file.width, file.height], file.name)
                XCTAssertEqual(crc32(picture), crc, "\(file.name) over \(name)")
                let grey = try Pixels(contentsOf: path, channels: 1, as: reading)
                XCTAssertEqual(crc32(grey), file.grey[name], "\(file.name) over \(name), as grey")
                let said = try said(path, reading)
                XCTAssertEqual(
                    said.later,
                    file.transparent
                        ? [
                            "1 of 1 image has transparent pixels, which are composited over \(name): background sets the colour"
                        ]
                        : [], file.name)
            }
            XCTAssertEqual(
                file.over["white"], crc32(try Pixels(contentsOf: path)), "\(file.name): white is the default")
            XCTAssertEqual(
                crc32(try Pixels(contentsOf: path, as: .torchvision)), file.plain, "\(file.name), alpha dropped")
            XCTAssertEqual(try said(path, .torchvision).later, [])
        }
    }

    func testGreyOf16Bits() throws {
        for file in expected.grey16 {
            let path = "\(folder)/grey16/\(file.name)"
            for channels in [1, 3] {
                let clipped = try Pixels(contentsOf: path, channels: channels)
                XCTAssertEqual(crc32(clipped.converted(channels: 1)), file.clip, file.name)
                let scaled = try Pixels(contentsOf: path, channels: channels, as: PictureReading(grey16: .scale))
                XCTAssertEqual(crc32(scaled.converted(channels: 1)), file.scale, file.name)
            }
            let percent = Format.fixed(100 * Double(file.clipped) / Double(file.count), 1)
            XCTAssertEqual(
                try said(path, PictureReading()).now,
                file.clipped == 0
                    ? []
                    : [
                        "\(path) is 16-bit grey, and \(percent) % of its pixels are above 255, which makes them white: "
                            + "grey16 scale keeps their differences"
                    ])
            XCTAssertEqual(try said(path, PictureReading(grey16: .scale)).now, [])
        }
    }

    /// A wrong checksum of pixels is no reason to refuse them, one of the header is.
    func testChecksums() throws {
        XCTAssertGreaterThan(expected.checksums.count { $0.rgb == nil }, 3)
        for file in expected.checksums {
            let path = "\(folder)/checksums/\(file.name)"
            guard let crc = file.rgb else {
                XCTAssertEqual(failure { _ = try Pixels(contentsOf: path) }?.code, .badData, file.name)
                continue
            }
            XCTAssertEqual(crc32(try Pixels(contentsOf: path)), crc, file.name)
            let warning =
                "\(path) is damaged: its pixels have a wrong checksum; they are used as they are, as Pillow does"
            XCTAssertEqual(try said(path, PictureReading()).now, file.ofPixels ? [warning] : [], file.name)
        }
    }

    /// A loader says what it found: of the first images at once, of all at the end of the first epoch, the same for any
    /// number of threads.
    func testLoadersSayWhatTheyFound() throws {
        let temporary = TemporaryFolder()
        let files =
            ["transparent/rgba8", "transparent/palette8", "transparent/rgba8-opaque"]
            + Array(repeating: "grey16/bright", count: 4) + Array(repeating: "checksums/rgb-IDAT0", count: 5)
        for (index, file) in files.enumerated() {
            let bytes = FileManager.default.contents(atPath: "\(folder)/\(file).png")!
            temporary.write(bytes, "\(index + 10).png")
        }
        let source = try ImageFolder(temporary.path)
        let augmentation = Augmentation(width: 8, height: 8, framing: .whole)
        let plan = MemoryPlan()
        let images = plan.reserve("images", 5, augmentation.sampleCount, .batch)
        try plan.commit()
        func path(_ index: Int) -> String { temporary.file("\(index + 10).png") }
        let named = [3, 4, 5].map {
            "\(path($0)) is 16-bit grey, and 99.1 % of its pixels are above 255, which makes them white: grey16 scale "
                + "keeps their differences"
        }
        let damaged = [7, 8, 9].map {
            "\(path($0)) is damaged: its pixels have a wrong checksum; they are used as they are, as Pillow does"
        }
        let end = [
            "2 of 12 images in \(temporary.path) have transparent pixels, which are composited over white: background "
                + "sets the colour",
            "4 of 12 images in \(temporary.path) are 16-bit grey with values above 255: on average 99.1 % of their pixels "
                + "became white; grey16 scale keeps their differences",
            "5 of 12 images in \(temporary.path) are damaged: their pixels have a wrong checksum, and are used as they "
                + "are",
        ]
        for workers in [1, 3] {
            var reports: [String] = []
            let once = BatchLoader(
                once: source, augmentation: augmentation, batchSize: 5, workers: workers,
                report: { reports.append("\($0)") })
            while try once.next(into: images) != nil {}
            XCTAssertEqual(reports, named + damaged + end)
            once.stop()
            XCTAssertEqual(reports.count, 9, "said once")

            reports = []
            let stream = BatchLoader(
                source: source, augmentation: augmentation, batchSize: 5, seed: 3, firstSample: 0, lastSample: 100,
                workers: workers, report: { reports.append("\($0)") })
            for batch in 1...6 {
                XCTAssertNotNil(try stream.next(into: images))
                // The third batch holds the end of the epoch.
                XCTAssertEqual(Set(end).isSubset(of: reports), batch >= 3)
            }
            stream.stop()
            XCTAssertEqual(Array(reports.suffix(3)), end)
            XCTAssertEqual(reports.count, 9)

            // One that is stopped before says what it has seen.
            reports = []
            let stopped = BatchLoader(
                once: source, augmentation: augmentation, batchSize: 5, workers: workers,
                report: { reports.append("\($0)") })
            XCTAssertNotNil(try stopped.next(into: images))
            stopped.stop()
            XCTAssertEqual(reports.count, 3)
            XCTAssertTrue(reports.last!.hasPrefix("2 of 5 images in"), "\(reports)")
        }
    }

    func testBackgroundsAreColours() {
        for (text, background) in [
            ("white", .white), ("BLACK", .black), ("none", .none), ("#ffffff", .white), ("#000000", .black),
            ("#01aB9c", .colour(red: 1, green: 0xAB, blue: 0x9C)),
        ] as [(String, Background)] {
            XCTAssertEqual(Background(text), background, text)
            XCTAssertEqual(Background(background.description), background)
        }
        XCTAssertEqual(Background.colour(red: 1, green: 0xAB, blue: 0x9C).description, "#01ab9c")
        for text in ["", "#", "#fff", "#12345", "#1234567", "#12345g", "#+12345", "red", "# 12345", "#-12345"] {
            XCTAssertNil(Background(text), text)
        }
    }

    /// A file of another kind is refused by its own name and with a remedy.
    func testOtherKindsAreNamed() throws {
        let temporary = TemporaryFolder()
        func box(_ brands: String...) -> [UInt8] {
            let content = "ftyp" + brands[0] + "\0\0\0\0" + brands.dropFirst().joined()
            return [0, 0, 0, UInt8(content.utf8.count + 4)] + content.utf8 + [UInt8](repeating: 7, count: 64)
        }
        func text(_ text: String) -> [UInt8] { Array(text.utf8) }
        let written: [(String, [UInt8])] = [
            ("a HEIC file (convert it with heif-convert)", box("heic", "mif1", "heic")),
            ("a HEIC file (", box("mif1", "mif1", "heic", "hevc")), ("an AVIF file (", box("mif1", "miaf", "avif")),
            ("a video or sound", box("isom", "isom", "mp41")), ("a raw picture of a camera (CR3)", box("crx ", "isom")),
            (
                "a pointer of Git LFS (fetch the pictures with git lfs pull)",
                text(
                    "version https://git-lfs.github.com/spec/v1\noid sha256:\(String(repeating: "a", count: 64))\nsize 447\n"
                )
            ),
            ("a page of HTML (download it again", text("<!DOCTYPE html><html><head><title>403</title></head></html>")),
            ("a page of HTML (", text("\n  <HTML lang=en><body>Forbidden")),
            ("a page of HTML (", text("<!-- hello --> <p>")),
            ("a page of HTML (", text("\u{FEFF}<?xml version=\"1.0\"?>\n<html xmlns=\"x\">")),
            ("an SVG drawing (", text("<?xml version=\"1.0\"?>\n<svg xmlns=\"x\">")),
            ("an SVG drawing (", text("<svg>")),
            ("an XML document", text("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>")),
            ("a JSON document", text("{\"message\": \"Not Found\"}")), ("a text (", text("Only words, größer\n")),
            ("a text (", text("Rate limited")), ("a JPEG 2000 file", [0xFF, 0x4F, 0xFF, 0x51, 0, 0]),
            ("a JPEG XL file", [0xFF, 0x0A, 0, 0]), ("a Photoshop file", text("8BPS") + [0, 1, 0]),
            ("an AppleDouble file", [0, 5, 0x16, 7, 0, 2, 0, 0]), ("a ZIP archive", text("PK\u{3}\u{4}") + [0, 0]),
            ("a tar archive", [UInt8](repeating: 0, count: 257) + text("ustar") + [UInt8](repeating: 0, count: 250)),
            ("a file of zeros", [UInt8](repeating: 0, count: 5000)),
            ("a PAM file", text("P7\nWIDTH 1\n") + [0]), ("a PFM file", text("Pf\n1 1\n-1\n") + [0, 0, 0, 0]),
            ("a BMP file with an unusual header", text("BM") + [UInt8](repeating: 0, count: 60)),
            ("a text (", text("P1 is a processor")), ("a text (", text("P5\n# only\nwords")),
            ("a raw picture of a camera (CR2)", [0x49, 0x49, 0x2A, 0, 16, 0, 0, 0, 0x43, 0x52]),
            (
                "a PNG file with 2 bytes before its beginning",
                [13, 10, 0x89, 0x50, 0x4E, 0x47, 13, 10, 26, 10] + [UInt8](repeating: 0, count: 40)
            ),
        ]
        var cases = written.enumerated().map { ($1.0, temporary.write($1.1, "\($0).jpg")) }
        cases += [
            ("a TIFF file (convert it with magick)", "tif.jpg"), ("an AVIF file", "avif.jpg"),
            ("a JPEG 2000 file", "jp2.jpg"),
            ("a lossless JPEG file", "lossless.jpg"), ("a JPEG file of 12 bits a sample", "twelve-bits.jpg"),
            (
                "a JPEG file with 3 bytes before its beginning (remove them, for example with tail -c +4)",
                "byte-order-mark.jpg"
            ),
            ("a PNG file in Apple's CgBI variant (convert it with Xcode's pngcrush", "apple.png"),
        ].map { ($0, "\(folder)/others/\($1)") }
        for (kind, path) in cases {
            let failure = failure { _ = try Pixels(contentsOf: path) }
            XCTAssertEqual(failure?.code, .badData, kind)
            let message = failure?.message ?? ""
            XCTAssertTrue(message.hasPrefix("\(path) is \(kind)"), "\(kind): \(message)")
            XCTAssertTrue(message.contains(" ("), message)
            XCTAssertFalse(message.contains("damaged"), message)
        }
        // Bytes that say nothing.
        let noise = temporary.write([0x80, 1, 2, 3, 0xFE, 0, 9, 0xC0, 0xC1, 4, 5, 6, 7, 8], "noise.jpg")
        XCTAssertEqual(
            failure { _ = try Pixels(contentsOf: noise) },
            Failure(.badData, "\(noise) is not a JPEG, PNG, WebP, GIF, BMP or PNM file, whatever its name says"))
    }
}
