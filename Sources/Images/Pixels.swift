/// A decoded picture: 8-bit samples, grey (1 channel) or RGB (3), rows from top to bottom without padding.
public struct Pixels: Equatable, Sendable {
    /// Columns, at least 1.
    public let width: Int
    /// Rows, at least 1.
    public let height: Int
    /// 1 (grey) or 3 (red, green, blue).
    public let channels: Int
    /// [height, width, channels].
    public internal(set) var bytes: [UInt8]

    /// Maximum number of pixels: Pillow's limit, 1 GiB / 4 / 3. Larger pictures are refused before memory is allocated
    /// for them.
    public static let maximumCount = 89_478_485

    /// Maximum width and height: that of a JPEG file. The memory for resampling grows with the sides.
    public static let maximumSide = 65_535

    /// A picture of `bytes`[height, width, channels].
    public init(width: Int, height: Int, channels: Int, bytes: [UInt8]) {
        precondition(width > 0 && height > 0 && (channels == 1 || channels == 3))
        precondition(bytes.count == width * height * channels, "the bytes do not fit the size")
        self.width = width
        self.height = height
        self.channels = channels
        self.bytes = bytes
    }

    /// A picture whose bytes are all written by `fill`.
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
}

/// A rectangle of pixels; `left` and `top` count from the upper left corner.
public struct Rectangle: Equatable, Sendable {
    public var left, top, width, height: Int

    public init(left: Int, top: Int, width: Int, height: Int) {
        self.left = left
        self.top = top
        self.width = width
        self.height = height
    }

    /// Whether the rectangle is not empty and lies within a picture of the given size.
    func fits(width pictureWidth: Int, height pictureHeight: Int) -> Bool {
        left >= 0 && top >= 0 && width > 0 && height > 0 && left + width <= pictureWidth
            && top + height <= pictureHeight
    }
}
