import Foundation
import Images

/// Pillow's results, as Fixtures/images/make_images.py recorded them.
struct Expected: Decodable {
    struct File: Decodable { let name, mode: String; let width, height: Int; let rgb, grey: UInt32 }
    struct Damage: Decodable { let name: String; let length: Int?; let flip: [Int]?; let rgb: UInt32? }
    struct Orientation: Decodable { let name: String; let width, height: Int; let rgb, plain: UInt32 }
    struct Resize: Decodable {
        let source: String; let crop: [Int]?; let box: [Float]?; let size: [Int]; let crc: UInt32
    }
    struct Crop: Decodable {
        let size: [Int]; let area: [Double]; let seed: String; let epoch, index: Int; let crop: [Int]
    }
    struct Sample: Decodable {
        let size: [Int]; let seed: String; let epoch, index: Int; let flipped: Bool; let crc: UInt32
    }
    struct Frame: Decodable { let source: String; let size: Int; let resized, crop: [Int]; let crc: UInt32 }
    let files: [File]
    let damaged: [Damage]
    let orientations: [Orientation]
    let resizes: [Resize]
    let crops: [Crop]
    let samples: [Sample]
    let frames: [Frame]

    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("Fixtures/images").path
    static let read: Expected = {
        let data = FileManager.default.contents(atPath: "\(folder)/expected.json")!
        return try! JSONDecoder().decode(Expected.self, from: data)
    }()
}

/// Pillow 13's results, as Fixtures/resizing/make_resizing.py recorded them.
struct RecordedResizing: Decodable {
    struct Resize: Decodable {
        let source: String; let filter: Interpolation; let crop: [Int]?; let box: [Float]?; let size: [Int]
        let crc: UInt32
    }
    struct Frame: Decodable {
        let source: String; let filter: Interpolation; let size: Int; let fraction: Double; let squashes, down: Bool
        let resized, crop: [Int]; let crc: UInt32
    }
    let resizes: [Resize]
    let frames: [Frame]

    static let folder = "\(Expected.folder)/../resizing"
    static let read: RecordedResizing = {
        let data = FileManager.default.contents(atPath: "\(folder)/expected.json")!
        return try! JSONDecoder().decode(RecordedResizing.self, from: data)
    }()

    static func source(_ name: String) throws -> Pixels {
        name == "tall.png" ? try Pixels(contentsOf: "\(folder)/\(name)") : try ResizingTests.source(name)
    }
}

/// The CRC-32 of zlib and PNG.
func crc32(_ bytes: [UInt8]) -> UInt32 {
    var crc = ~UInt32(0)
    for byte in bytes {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 1 ? 0xEDB8_8320 : 0) }
    }
    return ~crc
}

func crc32(_ picture: Pixels) -> UInt32 { crc32(picture.bytes) }

extension Pixels {
    /// The part of the picture inside `rectangle`, copied pixel by pixel.
    func cropped(to rectangle: Rectangle) -> Pixels {
        var cropped: [UInt8] = []
        for y in rectangle.top..<rectangle.top + rectangle.height {
            let start = (y * width + rectangle.left) * channels
            cropped += bytes[start..<start + rectangle.width * channels]
        }
        return Pixels(width: rectangle.width, height: rectangle.height, channels: channels, bytes: cropped)
    }
}
