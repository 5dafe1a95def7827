/// A decoded picture: 8-bit samples, grey (1 channel) or RGB (3), rows from the top, no padding.
public struct Pixels: Equatable, Sendable {
    /// Columns, at least 1.
    public let width: Int
    /// Rows, at least 1.
    public let height: Int
    /// 1 (grey) or 3 (red, green, blue).
    public let channels: Int
    /// [height, width, channels].
    public internal(set) var bytes: [UInt8]

    /// Larger pictures are refused before anything is allocated for them: Pillow's limit, 1 GiB / 4 / 3.
    public static let maximumCount = 89_478_485

    /// Pictures that are wider or higher are refused, too: the most that a JPEG file can say. What resampling needs
    /// beside the picture grows with its sides.
    public static let maximumSide = 65_535

    /// A picture over `bytes`, which must hold width × height × channels of them.
    public init(width: Int, height: Int, channels: Int, bytes: [UInt8]) {
        precondition(width > 0 && height > 0 && (channels == 1 || channels == 3))
        precondition(bytes.count == width * height * channels, "the bytes do not fit the size")
        self.width = width
        self.height = height
        self.channels = channels
        self.bytes = bytes
    }

    /// A picture whose bytes `fill` writes; all of them.
    init(
        width: Int, height: Int, channels: Int, filledBy fill: (UnsafeMutablePointer<UInt8>) throws -> Void
    ) rethrows {
        let count = width * height * channels
        self.init(
            width: width, height: height, channels: channels,
            bytes: try [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
                try fill(buffer.baseAddress!)
                initialized = count
            })
    }

    /// The part of the picture inside `rectangle`, which must lie within it.
    public func cropped(to rectangle: Rectangle) -> Pixels {
        precondition(rectangle.fits(width: width, height: height))
        let row = rectangle.width * channels
        return Pixels(width: rectangle.width, height: rectangle.height, channels: channels) { target in
            bytes.withUnsafeBufferPointer { source in
                for y in 0..<rectangle.height {
                    let start = ((rectangle.top + y) * width + rectangle.left) * channels
                    (target + y * row).update(from: source.baseAddress! + start, count: row)
                }
            }
        }
    }
}

/// A rectangle of whole pixels; `left` and `top` count from the upper left corner.
public struct Rectangle: Equatable, Sendable {
    public var left, top, width, height: Int

    public init(left: Int, top: Int, width: Int, height: Int) {
        self.left = left
        self.top = top
        self.width = width
        self.height = height
    }

    /// Whether all of it lies within a picture of that size, and it is not empty.
    func fits(width pictureWidth: Int, height pictureHeight: Int) -> Bool {
        left >= 0 && top >= 0 && width > 0 && height > 0 && left + width <= pictureWidth
            && top + height <= pictureHeight
    }
}
