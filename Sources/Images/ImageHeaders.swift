import Glibc
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
    /// Images with an alpha channel, or with a colour that is transparent.
    public let withAlpha: Int
    /// Images of 16-bit grey, and the indices of the first of them, at most `deepGreyCount`.
    public let withDeepGrey: Int
    public let deepGrey: [Int]
    /// In the order of the source.
    public let undecodable: [Undecodable]
    /// Pixels of all images that can be decoded.
    public let pixels: Int
    /// Bytes of memory in which each of the largest images is decoded, in descending order; at most `largestCount`.
    public let largest: [Int]

    /// The most entries of `largest`.
    public static let largestCount = 16
    /// The most entries of `deepGrey`.
    public static let deepGreyCount = 3

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
            var pixels = 0, withAlpha = 0, withDeepGrey = 0
            var deepGrey: [Int] = []
            var largest: [(index: Int, bytes: Int)] = []
        }
        let found = Mutex(Found())
        try ImageVisits.run(count: source.count, workers: workers, update: progress) { index in
            do {
                let header = try Self.header(of: index, in: source)
                found.withLock {
                    $0.formats[header.format, default: 0] += 1
                    $0.pixels += header.pixels
                    if header.hasAlpha { $0.withAlpha += 1 }
                    if header.isDeepGrey {
                        $0.withDeepGrey += 1
                        $0.deepGrey = Array(($0.deepGrey + [index]).sorted().prefix(Self.deepGreyCount))
                    }
                    if $0.largest.count == Self.largestCount, $0.largest.last!.bytes >= header.decodingBytes { return }
                    let place = $0.largest.firstIndex { $0.bytes < header.decodingBytes } ?? $0.largest.count
                    $0.largest.insert((index, header.decodingBytes), at: place)
                    if $0.largest.count > Self.largestCount { $0.largest.removeLast() }
                }
            } catch let failure as Failure where failure.code == .badData {
                let reason = text(failure.sentence)
                found.withLock { $0.undecodable.append((index, reason)) }
            }
        }
        let all = found.withLock { $0 }
        images = source.count
        formats = all.formats
        pixels = all.pixels
        withAlpha = all.withAlpha
        (withDeepGrey, deepGrey) = (all.withDeepGrey, all.deepGrey)
        // The file itself is in memory, too; a member of an archive is smaller than the archive.
        largest = all.largest.map { image in
            var status = stat()
            let isFile = stat(source.path(image.index), &status) == 0
            return image.bytes + (isFile ? Int(status.st_size) : 0)
        }
        undecodable = all.undecodable.sorted { $0.index < $1.index }.map {
            Undecodable(image: $0.index, path: source.title($0.index), reason: $0.reason)
        }
    }

    /// The median of the short sides of a source's pictures, in pixels; nil where no header can be read.
    ///
    /// Of a large source, the headers of images evenly spread over it are read, at most `sampled`.
    ///
    /// - Throws: `Failure.inputOutput` where the system failed, not an image.
    public static func medianShortSide(of source: any ImageSource, sampled: Int = 1000, workers: Int) throws -> Int? {
        let images = ImageSubset.spread(min(sampled, source.count), of: source.count)
        let sides = Mutex<[Int]>([])
        try ImageVisits.run(count: images.count, workers: workers) { number in
            do {
                let side = try header(of: images[number], in: source).shortSide
                sides.withLock { $0.append(side) }
            } catch let failure as Failure where failure.code == .badData {}
        }
        let sorted = sides.withLock { $0.sorted() }
        return sorted.isEmpty ? nil : sorted[sorted.count / 2]
    }

    /// The header of an image, if it is that of a picture that can be decoded.
    private static func header(of index: Int, in source: any ImageSource) throws -> Pixels.FileHeader {
        let head = try source.head(index, count: headCount)
        do {
            return try Pixels.header(ofFile: head, named: source.title(index))
        } catch  where head.count == headCount {
            // The size may stand behind a large profile or preview.
            return try Pixels.header(ofFile: source.bytes(index), named: source.title(index))
        }
    }

    /// Whether the images that could not be decoded cannot be decoded still. Permissions, for example, may have changed.
    public func hold(for source: any ImageSource) -> Bool {
        undecodable.allSatisfy { image in
            guard image.image < source.count else { return false }
            do {
                _ = try Self.header(of: image.image, in: source)
                return false
            } catch {
                return (error as? Failure)?.code == .badData
            }
        }
    }

    /// What becomes white of pictures of 16-bit grey, as sentences that a run says when it decodes them: of the first ones
    /// by name, and the number of all of that kind.
    ///
    /// - Parameter source: the source whose headers these are.
    /// - Throws: `Failure.inputOutput` where the system failed, not an image.
    public func clipping(in source: any ImageSource, as reading: PictureReading) throws -> [Message] {
        guard reading.grey16 == .clip else { return [] }
        var sentences: [Message] = []
        for index in deepGrey {
            do {
                let image = try ExaminedImage(decoding: source.bytes(index), named: source.title(index), as: reading)
                guard image.clippedFraction > 0 else { continue }
                sentences.append(PictureTally.clipping(source.title(index), image.clippedFraction))
            } catch let failure as Failure where failure.code == .badData {
                // Damaged behind its header: the run says so.
            }
        }
        if withDeepGrey > deepGrey.count, !sentences.isEmpty {
            let place = source.place.map { " in \($0)" } ?? ""
            sentences.append(
                "\(Format.grouped(withDeepGrey)) of \(Format.counted(source.count, "image"))\(place) are 16-bit grey, whose values "
                    + "above 255 become white: \(.grey16, "scale") keeps their differences")
        }
        return sentences
    }

    /// "JPEG 1,200, PNG 30", the most frequent format first.
    public var formatsText: String {
        formats.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \(Format.grouped($0.value))" }
            .joined(separator: ", ")
    }

    /// Whether more images cannot be decoded than `limit` allows, see `UnreadableLimit`.
    public func exceeds(_ limit: Double) -> Bool {
        UnreadableLimit.isExceeded(by: undecodable.count, of: images, limit)
    }
}
