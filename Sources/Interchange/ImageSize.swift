/// An image size in JSON: a square's side, or [height, width].
public struct ImageSize: Decodable, Sendable {
    public let height: Int
    public let width: Int

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let side = try? container.decode(Int.self) {
            (height, width) = (side, side)
            return
        }
        let sides = try container.decode([Int].self)
        guard sides.count == 2 else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "image_size is not one or two numbers")
        }
        (height, width) = (sides[0], sides[1])
    }
}
