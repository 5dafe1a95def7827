/// How the bytes of an image file become a picture: the choices that decide pixels before any resizing.
public struct PictureReading: Equatable, Sendable {
    /// Whether pictures are turned upright, as the orientation in their EXIF or XMP says.
    public var appliesOrientation: Bool
    /// What transparent pixels become.
    public var background: Background
    /// What 16-bit grey becomes.
    public var grey16: Grey16

    public init(appliesOrientation: Bool = true, background: Background = .white, grey16: Grey16 = .clip) {
        self.appliesOrientation = appliesOrientation
        self.background = background
        self.grey16 = grey16
    }

    /// As torchvision's loader reads files, by Pillow's `Image.open(path).convert("RGB")`: as they are stored, with the
    /// alpha channel dropped.
    public static let torchvision = PictureReading(appliesOrientation: false, background: .none)
}

/// The colour that transparent pictures are composited over, or none.
public enum Background: Equatable, Sendable {
    case colour(red: UInt8, green: UInt8, blue: UInt8)
    /// Alpha is dropped: transparent pixels get the colours that the file happens to hold for them.
    case none

    public static let white = Background.colour(red: 255, green: 255, blue: 255)
    public static let black = Background.colour(red: 0, green: 0, blue: 0)
}

extension Background: LosslessStringConvertible {
    /// "white", "black", "none", or a colour in hexadecimal digits such as "#ffcc00".
    public init?(_ text: String) {
        switch text.lowercased() {
        case "white": self = .white
        case "black": self = .black
        case "none": self = .none
        default:
            let digits = text.utf8.dropFirst()
            guard text.utf8.first == UInt8(ascii: "#"), digits.count == 6,
                let number = UInt32(Substring(digits), radix: 16), !text.contains("+")
            else { return nil }
            self = .colour(
                red: UInt8(number >> 16), green: UInt8(number >> 8 & 0xFF), blue: UInt8(number & 0xFF))
        }
    }

    public var description: String {
        switch self {
        case .white: return "white"
        case .black: return "black"
        case .none: return "none"
        case .colour(let red, let green, let blue):
            return "#"
                + [red, green, blue].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
    }
}

extension Background: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer(), text = try container.decode(String.self)
        guard let background = Background(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(text) is no background")
        }
        self = background
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// How values of 16-bit grey become bytes.
public enum Grey16: String, CaseIterable, Codable, Sendable {
    /// Values above 255 become 255, as in Pillow.
    case clip
    /// The high byte is kept, as of 16-bit colour.
    case scale
}

/// What a person should know about an image file that was read.
struct PictureFindings: Equatable, Codable, Sendable {
    /// Whether a pixel is not opaque and was composited over the background.
    var isTransparent = false
    /// The fraction of pixels of 16-bit grey that were above 255 and became 255.
    var clippedFraction = 0.0
    /// Whether the file has 16 bits a sample, of which 8 are used.
    var isSixteenBit = false
    /// Whether a PNG file's pixels have a wrong checksum.
    var hasWrongChecksum = false

    static let nothing = PictureFindings()
}
