import Reporting
import Synchronization

/// What the headers of a source's images say: their formats, and which of them cannot be decoded. Headers are a small
/// part of the files, so this is known before a run that would meet a broken image after hours.
public struct ImageHeaders: Codable, Equatable, Sendable {
    /// An image whose header is not that of a picture that can be decoded.
    public struct Undecodable: Codable, Equatable, Sendable {
        /// Its index in the source.
        public let image: Int
        public let path: String
        /// A sentence with the remedy.
        public let reason: String

        public init(image: Int, path: String, reason: String) {
            self.image = image
            self.path = path
            self.reason = reason
        }
    }

    /// Images of the source.
    public let images: Int
    /// The number of images of each format.
    public let formats: [String: Int]
    /// In the order of the source.
    public let undecodable: [Undecodable]

    /// The bytes in which most files have their header; of others the whole file is read.
    private static let headCount = 16 << 10

    /// Reads the header of every image of `source`.
    ///
    /// - Parameters:
    ///   - workers: threads that read.
    ///   - text: the words of a reason.
    ///   - progress: called with the number of images so far, about once a second, on the calling thread. What it
    ///     throws ends the reading.
    /// - Throws: `Failure.inputOutput` where the system failed, not an image; what `progress` throws.
    public init(
        of source: any ImageSource, workers: Int, text: @escaping @Sendable (Message) -> String,
        progress: (Int) throws -> Void = { _ in }
    ) throws {
        struct Found {
            var formats: [String: Int] = [:]
            var undecodable: [(index: Int, reason: String)] = []
        }
        let found = Mutex(Found())
        try ImageVisits.run(count: source.count, workers: workers, update: progress) { index in
            do {
                let format = try Self.format(of: index, in: source)
                found.withLock { $0.formats[format, default: 0] += 1 }
            } catch let failure as Failure where failure.code == .badData {
                let reason = text(failure.sentence)
                found.withLock { $0.undecodable.append((index, reason)) }
            }
        }
        let all = found.withLock { $0 }
        images = source.count
        formats = all.formats
        undecodable = all.undecodable.sorted { $0.index < $1.index }.map {
            Undecodable(image: $0.index, path: source.title($0.index), reason: $0.reason)
        }
    }

    /// The format of an image, such as "JPEG", whose header is that of a picture that can be decoded.
    private static func format(of index: Int, in source: any ImageSource) throws -> String {
        let head = try source.head(index, count: headCount)
        do {
            return try Pixels.format(ofFile: head, named: source.title(index))
        } catch  where head.count == headCount {
            // The size may stand behind a large profile or preview.
            return try Pixels.format(ofFile: source.bytes(index), named: source.title(index))
        }
    }

    /// Whether the images that could not be decoded cannot be decoded still. Permissions, for example, may have changed.
    public func hold(for source: any ImageSource) -> Bool {
        undecodable.allSatisfy { image in
            guard image.image < source.count else { return false }
            do {
                _ = try Self.format(of: image.image, in: source)
                return false
            } catch {
                return (error as? Failure)?.code == .badData
            }
        }
    }

    /// "JPEG 1,200, PNG 30", the most frequent format first.
    public var formatsText: String {
        formats.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \(Format.grouped($0.value))" }
            .joined(separator: ", ")
    }

    /// Whether more than the fraction `limit` of the images cannot be decoded.
    public func exceeds(_ limit: Double) -> Bool { Double(undecodable.count) / Double(images) > limit }
}
