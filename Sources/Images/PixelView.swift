/// The bytes of a picture in memory that somebody else owns, to be changed in place.
struct PixelView {
    /// [height, width, channels].
    let bytes: UnsafeMutablePointer<UInt8>
    let width, height: Int
    /// 1 (grey) or 3 (RGB).
    let channels: Int

    var count: Int { width * height * channels }

    /// Exchanges left and right.
    func flipHorizontally() {
        for y in 0..<height {
            let row = bytes + y * width * channels
            for x in 0..<width / 2 {
                for channel in 0..<channels {
                    let left = x * channels + channel, right = (width - 1 - x) * channels + channel
                    (row[left], row[right]) = (row[right], row[left])
                }
            }
        }
    }
}

extension Pixels {
    /// Gives `body` the bytes to change.
    mutating func withView(_ body: (PixelView) -> Void) {
        let (width, height, channels) = (width, height, channels)
        bytes.withUnsafeMutableBufferPointer {
            body(PixelView(bytes: $0.baseAddress!, width: width, height: height, channels: channels))
        }
    }
}
