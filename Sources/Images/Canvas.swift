/// A picture that others and captions are drawn on, white at first.
public struct Canvas {
    public let width, height: Int
    private let channels: Int
    private var bytes: [UInt8]

    /// - Parameter channels: 1 for grey, 3 for RGB.
    public init(width: Int, height: Int, channels: Int) {
        precondition(width > 0 && height > 0 && (channels == 1 || channels == 3))
        (self.width, self.height, self.channels) = (width, height, channels)
        bytes = [UInt8](repeating: 255, count: width * height * channels)
    }

    public var picture: Pixels { Pixels(width: width, height: height, channels: channels, bytes: bytes) }

    /// Draws `picture`, which must lie within the canvas, grey or in its own colours.
    public mutating func draw(_ picture: Pixels, left: Int, top: Int) {
        precondition(left >= 0 && top >= 0 && left + picture.width <= width && top + picture.height <= height)
        for y in 0..<picture.height {
            for x in 0..<picture.width {
                for channel in 0..<channels {
                    bytes[((top + y) * width + left + x) * channels + channel] =
                        picture.bytes[(y * picture.width + x) * picture.channels + min(channel, picture.channels - 1)]
                }
            }
        }
    }

    /// Writes `text` in dark grey, with `scale` pixels to a dot. What lies outside the canvas is left out.
    public mutating func write(_ text: String, left: Int, top: Int, scale: Int) {
        var dots: [(x: Int, y: Int)] = []
        BitmapFont.forEachDot(of: text) { dots.append(($0, $1)) }
        for dot in dots {
            for y in top + dot.y * scale..<top + (dot.y + 1) * scale where (0..<height).contains(y) {
                for x in left + dot.x * scale..<left + (dot.x + 1) * scale where (0..<width).contains(x) {
                    for channel in 0..<channels { bytes[(y * width + x) * channels + channel] = 40 }
                }
            }
        }
    }
}
