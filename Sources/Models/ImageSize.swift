/// Height and width of an image in pixels. In JSON a square's side, or [height, width].
public struct ImageSize: Equatable, Sendable {
    public let height: Int
    public let width: Int

    public init(height: Int, width: Int) {
        self.height = height
        self.width = width
    }
}

extension ImageSize: CustomStringConvertible {
    /// "224x160", height first.
    public var description: String { "\(height)x\(width)" }

    /// Reads "224", a square's side, or "224x160"; nil for any other text, and for a side below 1.
    public init?(_ text: String) {
        let sides = text.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
        guard (1...2).contains(sides.count), let height = sides[0], let width = sides.last!, height > 0, width > 0
        else { return nil }
        self.init(height: height, width: width)
    }
}

extension ImageSize: Decodable {
    public init(from decoder: any Swift.Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let side = try? container.decode(Int.self) {
            self.init(height: side, width: side)
            return
        }
        let sides = try container.decode([Int].self)
        guard sides.count == 2 else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "image_size is not one or two numbers")
        }
        self.init(height: sides[0], width: sides[1])
    }
}
