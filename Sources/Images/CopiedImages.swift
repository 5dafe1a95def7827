import Reporting
import Synchronization

/// Images of one source whose files have the same bytes as one of another: whoever has learned the one knows the other.
///
/// Sizes are compared first, which reads no image; then the first bytes of the images with a size that both sources have,
/// and last the whole files of those that begin alike. So hardly more than the copies themselves is read. Images that
/// cannot be read are no copies.
public struct CopiedImages: Codable, Equatable, Sendable {
    /// An image and what it is a copy of.
    public struct Copy: Codable, Equatable, Sendable {
        /// Index of the image in its source.
        public let image: Int
        /// The title of the image, and of the first image of the other source that is equal.
        public let title, original: String

        public init(image: Int, title: String, original: String) {
            (self.image, self.title, self.original) = (image, title, original)
        }
    }

    /// Images of the source that was searched for copies.
    public let images: Int
    /// In the order of that source.
    public let copies: [Copy]

    /// Whether every image is a copy.
    public var areAll: Bool { copies.count == images }

    private init(images: Int, copies: [Copy]) { (self.images, self.copies) = (images, copies) }

    /// What is known of the images of `judged` where nobody has looked for copies.
    public static func none(in judged: any ImageSource) -> CopiedImages {
        CopiedImages(images: judged.count, copies: [])
    }

    /// The bytes at the beginning of a file that are compared before the whole is read.
    private static let headCount = 4 << 10

    /// Finds the images of `judged` that are copies of images of `learned`.
    ///
    /// - Parameters:
    ///   - workers: threads that read.
    ///   - isContinued: called about once a second, on the calling thread; what it throws ends the search.
    public init(
        of learned: any ImageSource, in judged: any ImageSource, workers: Int, isContinued: () throws -> Void = {}
    ) throws {
        typealias Trait = @Sendable (any ImageSource, Int) -> Int?
        @Sendable func hash(_ bytes: [UInt8]) -> Int {
            var hasher = Hasher()
            bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
            return hasher.finalize()
        }
        let traits: [Trait] = [
            // Empty files are equal, and no pictures.
            { source, image in source.byteCount(image).flatMap { $0 > 0 ? $0 : nil } },
            { source, image in (try? source.head(image, count: Self.headCount)).map(hash) },
            { source, image in (try? source.bytes(image)).map(hash) },
        ]
        struct Likeness: Hashable {
            let group, trait: Int
        }
        // Images that have been alike so far, by what they have in common.
        var alike: [(judged: [Int], learned: [Int])] = [(Array(0..<judged.count), Array(0..<learned.count))]
        for trait in traits {
            func groups(_ source: any ImageSource, _ images: [[Int]]) throws -> [Likeness: [Int]] {
                let all = images.enumerated().flatMap { group, images in images.map { (group, $0) } }
                let found = Mutex<[Likeness: [Int]]>([:])
                guard !all.isEmpty else { return [:] }
                try ImageVisits.run(count: all.count, workers: workers, update: { _ in try isContinued() }) { number in
                    let (group, image) = all[number]
                    guard let value = trait(source, image) else { return }
                    found.withLock { $0[Likeness(group: group, trait: value), default: []].append(image) }
                }
                return found.withLock { $0 }
            }
            let own = try groups(judged, alike.map(\.judged)), others = try groups(learned, alike.map(\.learned))
            alike = own.compactMap { key, images in others[key].map { (images, $0) } }
        }
        images = judged.count
        copies = alike.flatMap { group in
            let original = learned.title(group.learned.min()!)
            return group.judged.map { Copy(image: $0, title: judged.title($0), original: original) }
        }.sorted { $0.image < $1.image }
    }
}
