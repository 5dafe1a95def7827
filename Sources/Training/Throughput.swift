/// How fast a run is whose images are decoded beside the computation, by threads that share the processors with the
/// kernels' threads.
public struct Throughput: Equatable, Sendable {
    /// Seconds of an image.
    public let seconds: Double
    /// Whether the decoding threads cannot keep up, so that the kernels wait, or take most of the processors' time.
    public let isLimitedByDecoding: Bool
    /// Decoding threads with which they would keep up; nil if they do, or if more would not help.
    public let workers: Int?

    /// - Parameters:
    ///   - compute: seconds of an image with `threads` threads of the kernels and nothing beside them.
    ///   - decoding: seconds that one thread takes to decode an image, with nothing beside it.
    ///   - workers: decoding threads.
    public init(compute: Double, decoding: Double, threads: Int, workers: Int, processors: Int) {
        let processors = max(1, processors), workers = max(1, workers)
        // All processors are busy with both.
        let shared = (compute * Double(min(threads, processors)) + decoding) / Double(processors)
        let decoded = decoding / Double(min(workers, processors))
        let rest = max(compute, shared)
        seconds = max(rest, decoded)
        // Where all processors are busy with both: what they are busy with most.
        isLimitedByDecoding =
            decoded > rest || shared > compute && decoding > compute * Double(min(threads, processors))
        let enough = decoding > 0 && rest > 0 ? Int((decoding / rest).rounded(.up)) : 1
        self.workers = isLimitedByDecoding && workers < processors ? min(max(enough, workers + 1), processors) : nil
    }
}
