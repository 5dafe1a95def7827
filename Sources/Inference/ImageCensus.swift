import Images
import Reporting
import Synchronization
import Weights

/// What reading and decoding every image of a source showed: what a person wants to know before a run.
public struct ImageCensus: Sendable {
    /// An image that cannot be read.
    public struct Unreadable: Sendable {
        public let path: String
        public let reason: Message
    }

    /// The size of a picture, in pixels, turned upright.
    public struct Size: Equatable, Sendable {
        public let width, height: Int
        var area: Int { width * height }
    }

    /// A range of short sides, and the images in it.
    public struct SideRange: Equatable, Sendable {
        /// Pixels.
        public let sides: ClosedRange<Int>
        public let images: Int
    }

    /// Images whose files have the same bytes.
    public struct Copies: Equatable, Sendable {
        /// At least two, in the order of the source.
        public let paths: [String]
        /// Whether they are in different classes.
        public let isAcrossClasses: Bool
    }

    /// What holds the images; nil where they come from several places.
    public let place: String?
    /// All images, those included that cannot be read.
    public let count: Int
    /// The images of each class, those included that cannot be read; empty where there are no classes.
    public let classes: [(name: String, images: Int)]
    /// The images of each format, the most frequent one first. As in the check of a run, an image counts if its header can
    /// be read.
    public let formats: [(name: String, images: Int)]
    public let unreadable: [Unreadable]
    /// The sizes with the least, the median and the largest area; nil where no image can be read.
    public let sizes: (smallest: Size, median: Size, largest: Size)?
    /// Ranges from a power of two to below the next one, from the first to the last that has images.
    public let shortSides: [SideRange]
    /// Bytes of all files that can be read.
    public let fileBytes: Int
    /// Images with a pixel that is not opaque.
    public let transparent: Int
    /// Images with 16 bits a sample.
    public let sixteenBit: Int
    /// The titles of images of 16-bit grey with values that became white, in the order of the source.
    public let clipped: [String]
    /// Images whose orientation is another than upright.
    public let oriented: Int
    /// PNG files whose pixels have a wrong checksum.
    public let wrongChecksums: Int
    /// Groups of images whose files have the same bytes.
    public let copies: [Copies]
    /// Images that one thread reads, decodes and crops to `cropSide` in a second; nil where none can be read.
    public let imagesPerSecond: Double?

    /// Side of the crops whose time is measured, as random crops of training.
    public static let cropSide = 224

    /// What is kept of an image that was read.
    private struct Record {
        let format: UInt8
        let flags: UInt8
        let width, height: Int32
        let bytes: Int
        let checksum: UInt64

        static let transparent: UInt8 = 1, sixteenBit: UInt8 = 2, clipped: UInt8 = 4, oriented: UInt8 = 8,
            wrongChecksum: UInt8 = 16
    }

    /// What the threads found.
    private final class Findings: @unchecked Sendable {
        struct Shared {
            var formats: [String] = []
            var unreadable: [Int: Message] = [:]
            /// Unreadable images with a whole header, by format.
            var damaged: [String: Int] = [:]
            /// Time of reading, decoding and cropping, summed over the threads.
            var seconds = 0.0
        }
        /// One for each image that was read. Threads write different elements.
        let records: UnsafeMutableBufferPointer<Record?>
        let shared = Mutex(Shared())

        init(_ count: Int) {
            records = .allocate(capacity: count)
            records.initialize(repeating: nil)
        }

        deinit { records.deallocate() }

        func add(_ image: ExaminedImage, _ index: Int, bytes: Int, checksum: UInt64, seconds: Double) {
            let format = shared.withLock { shared in
                shared.seconds += seconds
                if let known = shared.formats.firstIndex(of: image.format) { return known }
                shared.formats.append(image.format)
                return shared.formats.count - 1
            }
            let flags =
                (image.isTransparent ? Record.transparent : 0) | (image.isSixteenBit ? Record.sixteenBit : 0)
                | (image.clippedFraction > 0 ? Record.clipped : 0) | (image.isOriented ? Record.oriented : 0)
                | (image.hasWrongChecksum ? Record.wrongChecksum : 0)
            records[index] = Record(
                format: UInt8(format), flags: flags, width: Int32(image.width), height: Int32(image.height),
                bytes: bytes, checksum: checksum)
        }
    }

    /// Reads every image of `source` once.
    ///
    /// - Parameters:
    ///   - reading: how the bytes of a file become a picture.
    ///   - workers: threads that read and decode.
    ///   - progress: called with the number of images so far, about once a second.
    /// - Throws: `Failure.inputOutput` where the system failed, not an image.
    public init(
        of source: any ImageSource, reading: PictureReading, workers: Int, progress: (Int) -> Void = { _ in }
    ) throws {
        let findings = Findings(source.count)
        let augmentation = Augmentation(width: Self.cropSide, height: Self.cropSide, reading: reading)
        try ImageVisits.run(count: source.count, workers: workers, update: progress) { index in
            var bytes: [UInt8] = []
            do {
                let start = monotonicSeconds()
                bytes = try source.bytes(index)
                let image = try ExaminedImage(decoding: bytes, named: source.title(index), as: reading) {
                    _ = augmentation.apply(to: $0, seed: 0, epoch: 0, index: index)
                }
                let seconds = monotonicSeconds() - start
                var checksum = XXHash64()
                bytes.withUnsafeBytes { checksum.update($0) }
                findings.add(image, index, bytes: bytes.count, checksum: checksum.finish(), seconds: seconds)
            } catch let failure as Failure where failure.code == .badData {
                let format = ExaminedImage.format(ofFile: bytes)
                findings.shared.withLock {
                    $0.unreadable[index] = failure.sentence
                    if let format { $0.damaged[format, default: 0] += 1 }
                }
            }
        }
        self.init(source, findings.records, findings.shared.withLock { $0 })
    }

    private init(
        _ source: any ImageSource, _ found: UnsafeMutableBufferPointer<Record?>, _ shared: Findings.Shared
    ) {
        place = source.place
        count = source.count
        var classCounts = [Int](repeating: 0, count: source.classes.count)
        for index in 0..<count { if let label = source.label(index) { classCounts[label] += 1 } }
        classes = zip(source.classes, classCounts).map { (name: $0, images: $1) }
        unreadable = shared.unreadable.sorted { $0.key < $1.key }.map {
            Unreadable(path: source.title($0.key), reason: $0.value)
        }
        let records = found.compactMap { $0 }
        var formatCounts = [Int](repeating: 0, count: shared.formats.count)
        for record in records { formatCounts[Int(record.format)] += 1 }
        let readable = Dictionary(uniqueKeysWithValues: zip(shared.formats, formatCounts))
        formats = readable.merging(shared.damaged, uniquingKeysWith: +).map { (name: $0, images: $1) }.sorted {
            ($1.images, $0.name) < ($0.images, $1.name)
        }
        let ordered = records.map { Size(width: Int($0.width), height: Int($0.height)) }.sorted {
            ($0.area, $0.width) < ($1.area, $1.width)
        }
        sizes = ordered.isEmpty ? nil : (ordered[0], ordered[ordered.count / 2], ordered[ordered.count - 1])
        shortSides = Self.histogram(ordered.map { min($0.width, $0.height) })
        fileBytes = records.reduce(0) { $0 + $1.bytes }
        func having(_ flag: UInt8) -> Int { records.count { $0.flags & flag != 0 } }
        transparent = having(Record.transparent)
        sixteenBit = having(Record.sixteenBit)
        clipped = found.indices.filter { found[$0].map { $0.flags & Record.clipped != 0 } ?? false }.map(source.title)
        oriented = having(Record.oriented)
        wrongChecksums = having(Record.wrongChecksum)
        copies = Self.copies(source, found)
        imagesPerSecond = records.isEmpty ? nil : Double(records.count) / max(shared.seconds, 1e-9)
    }

    private static func histogram(_ sides: [Int]) -> [SideRange] {
        // Side 1 has exponent 0, sides 2 and 3 have 1, and so on.
        func exponent(_ side: Int) -> Int { Int.bitWidth - 1 - side.leadingZeroBitCount }
        guard let least = sides.min(), let largest = sides.max() else { return [] }
        let first = exponent(least)
        var counts = [Int](repeating: 0, count: exponent(largest) - first + 1)
        for side in sides { counts[exponent(side) - first] += 1 }
        return counts.enumerated().map { offset, images in
            SideRange(sides: 1 << (first + offset)...(2 << (first + offset)) - 1, images: images)
        }
    }

    /// Groups of equal files, by the length and the checksum of their bytes.
    private static func copies(
        _ source: any ImageSource, _ records: UnsafeMutableBufferPointer<Record?>
    ) -> [Copies] {
        struct Content: Hashable {
            let bytes: Int, checksum: UInt64
        }
        var images: [Content: [Int]] = [:]
        for (index, record) in records.enumerated() {
            if let record { images[Content(bytes: record.bytes, checksum: record.checksum), default: []].append(index) }
        }
        return images.values.filter { $0.count > 1 }.sorted { $0[0] < $1[0] }.map { group in
            Copies(paths: group.map(source.title), isAcrossClasses: Set(group.map(source.label)).count > 1)
        }
    }
}
