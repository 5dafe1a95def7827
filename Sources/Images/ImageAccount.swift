import Reporting

/// What reading the images of a batch has found, beside their pixels.
public struct BatchFindings: Codable, Sendable {
    struct Unreadable: Codable, Sendable {
        let image: Int
        let reason: Message
    }
    struct Readable: Codable, Sendable {
        let image: Int
        let findings: PictureFindings
    }
    /// Samples of the batch, those included that no image was read for.
    let samples: Int
    /// Whether no readable image was found for one of the samples.
    let isExhausted: Bool
    /// In the order in which the images were come upon.
    let unreadable: [Unreadable], readable: [Readable]
}

/// The account of the images of a source as they are read: says what a person should know of them, and fails where too many
/// are unreadable.
public final class ImageAccount {
    private let source: any ImageSource
    private let limit: Double
    private let isOnce: Bool
    private let report: (Message) -> Void
    private let reportUnreadable: ((Int, Message) -> Void)?
    private var unreadable: Set<Int> = []
    private var firstUnreadable: [String] = []
    private var tally: PictureTally
    private var isSummarised = false
    private var samples = 0

    /// Number of different images that could not be read.
    public var unreadableCount: Int { unreadable.count }

    /// - Parameters:
    ///   - limit: the fraction of the images that may be unreadable.
    ///   - isOnce: whether each image is read once, and unreadable ones are left out; else others take their places.
    ///   - unreadable: called with each unreadable image and the reason.
    ///   - report: called with sentences for a person.
    public init(
        of source: any ImageSource, reading: PictureReading, limit: Double, isOnce: Bool,
        unreadable: ((Int, Message) -> Void)? = nil, report: @escaping (Message) -> Void
    ) {
        self.source = source
        self.limit = limit
        self.isOnce = isOnce
        self.report = report
        reportUnreadable = unreadable
        tally = PictureTally(reading)
    }

    /// Reports the findings of a batch.
    ///
    /// - Throws: `Failure.badData` once all images, or a larger fraction than the limit, have proved unreadable.
    public func add(_ batch: BatchFindings) throws {
        for event in batch.unreadable where unreadable.insert(event.image).inserted {
            reportUnreadable?(event.image, event.reason)
            report("\(event.reason)\(BatchLoader.endings[isOnce ? 0 : 1])")
            if firstUnreadable.count < 3 { firstUnreadable.append(source.title(event.image)) }
        }
        for finding in batch.readable {
            tally.add(finding.findings, image: finding.image, path: source.title(finding.image)).forEach(report)
        }
        try requireReadable(isExhausted: batch.isExhausted)
        samples += batch.samples
        if samples >= source.count { summarise() }
    }

    private func requireReadable(isExhausted: Bool) throws {
        let total = source.count
        guard
            UnreadableLimit.isExceeded(by: unreadable.count, of: total, limit) || isExhausted
                || unreadable.count == total
        else { return }
        let place = source.place.map { " in \($0)" } ?? ""
        let some = firstUnreadable.joined(separator: ", ") + (unreadable.count > firstUnreadable.count ? ", …" : "")
        guard unreadable.count < total else {
            throw Failure(
                .badData,
                "none of the \(total) images\(place) can be read (\(some)); name a folder of \(FileKind.names) files")
        }
        throw UnreadableLimit.failure(
            "\(unreadable.count) of the \(total) images\(place) cannot be read (\(some)), more than the allowed fraction of \(limit)",
            unreadable.count, of: total)
    }

    /// Reports, once, what was found in the images so far.
    public func summarise() {
        guard !isSummarised else { return }
        isSummarised = true
        tally.summary(of: min(samples, source.count), in: source.place).forEach(report)
    }
}
