/// Where images are: paths of folders, tar archives and lists, as a person gives them. Braces in a path stand for
/// several ("train-{000..127}.tar").
public struct ImagePlaces: Equatable, Sendable {
    public let paths: [String]

    /// - Parameter paths: at least one.
    public init(_ paths: [String]) {
        precondition(!paths.isEmpty, "images are somewhere")
        self.paths = paths
    }

    public init(_ path: String) { self.init([path]) }

    /// Nil for no paths.
    public static func optional(_ paths: [String]) -> ImagePlaces? { paths.isEmpty ? nil : ImagePlaces(paths) }
}

extension ImagePlaces: ExpressibleByStringLiteral {
    public init(stringLiteral path: String) { self.init(path) }
}

extension ImagePlaces: CustomStringConvertible {
    public var description: String { paths.joined(separator: ", ") }
}

/// One path is coded as a string, several as an array.
extension ImagePlaces: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let path = try? container.decode(String.self) {
            self.init(path)
            return
        }
        let paths = try container.decode([String].self)
        guard !paths.isEmpty else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "no path of images")
        }
        self.init(paths)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if paths.count == 1 { try container.encode(paths[0]) } else { try container.encode(paths) }
    }
}
