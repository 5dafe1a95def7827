import Tensors

#if canImport(Glibc)
    import Glibc
#endif

// Letters: V queries, D width, N references of a block, R queries of a tile, K neighbours that are kept, C classes.

/// The result of a k-nearest-neighbour classification for one k.
public struct NeighborScores: Equatable, Sendable {
    /// Number of neighbours that vote.
    public let k: Int
    /// Number of images that were classified.
    public internal(set) var images: Int
    /// Images whose class is the first prediction.
    public internal(set) var top1Hits: Int
    /// Images whose class is among the first five predictions.
    public internal(set) var top5Hits: Int

    public init(k: Int, images: Int = 0, top1Hits: Int = 0, top5Hits: Int = 0) {
        self.k = k
        self.images = images
        self.top1Hits = top1Hits
        self.top5Hits = top5Hits
    }

    /// Fraction of the images whose class is the first prediction.
    public var top1: Double { Double(top1Hits) / Double(max(1, images)) }
    /// Fraction of the images whose class is among the first five predictions.
    public var top5: Double { Double(top5Hits) / Double(max(1, images)) }

    /// The scores of two sets of images together, for the same k.
    public static func + (first: NeighborScores, second: NeighborScores) -> NeighborScores {
        precondition(first.k == second.k)
        var sum = first
        sum.images += second.images
        sum.top1Hits += second.top1Hits
        sum.top5Hits += second.top5Hits
        return sum
    }
}

/// Classifies images (queries) by the classes of the k most similar images of a training set (references).
///
/// Similarity is the cosine. Each of the k nearest references votes for its class with the weight exp(similarity /
/// 0.07), and classes are ranked by their sums. Of equally similar references the first one added is nearer; of classes
/// with equal sums, also those without a vote, the one of lower index ranks first.
///
/// Queries are kept: V·(D + 2K) floats. References are compared in blocks and not kept, so a training set may be of any
/// size. The result depends on neither the size of a block nor the number of threads.
public final class NearestNeighbors {
    /// The temperature of the votes.
    public static let temperature = 0.07

    /// The numbers of neighbours that vote, ascending.
    public let counts: [Int]
    private let classes: Int
    private let width: Int
    private let plan: MemoryPlan
    private let comparison: Phase?
    /// Normalised features of the queries: [V, D].
    private let queries: Tensor
    /// Similarities of the K nearest references so far, in descending order: [V, K].
    private let nearest: Tensor
    /// Their classes, as numbers: [V, K].
    private let nearestLabels: Tensor
    /// Normalised features of the references that are not yet compared: [N, D].
    private let block: Tensor
    /// Similarities of a tile of queries to a block of references: [R, N].
    private let similarities: Tensor
    private let workspace: Workspace
    private var queryLabels: [Int] = []
    private var blockLabels: [Int] = []
    /// References that were compared, at most K.
    private var compared = 0

    /// Classes are kept as float32 numbers, which are exact up to here.
    public static let maximumClasses = 1 << 24

    /// Floats that are kept for each query.
    public static func floatsPerQuery(width: Int, counts: [Int]) -> Int { width + 2 * (counts.max() ?? 0) }

    /// Plans the memory.
    ///
    /// - Parameters:
    ///   - name: prefix of the names of the buffers.
    ///   - queries: maximum number of queries V.
    ///   - counts: the numbers of neighbours that vote, each at least 1.
    ///   - alive: the phases from the first query to the scores; the last one is that of the comparison. Nil: the
    ///     memory is not shared.
    ///   - blockSize: references N of a block.
    ///   - tileSize: maximum queries R of a tile.
    public init(
        _ name: String = "neighbours", queries count: Int, width: Int, classes: Int, counts: [Int], plan: MemoryPlan,
        alive: ClosedRange<Phase>? = nil, blockSize: Int = 1024, tileSize: Int = 1024
    ) {
        precondition(count > 0 && blockSize > 0 && tileSize > 0 && !counts.isEmpty && counts.allSatisfy { $0 > 0 })
        precondition((1...Self.maximumClasses).contains(classes))
        self.counts = Set(counts).sorted()
        self.classes = classes
        self.width = width
        self.plan = plan
        comparison = alive?.upperBound
        let state = alive.map { Lifetime.during($0) } ?? .always
        let passing = comparison.map { Lifetime.only($0) } ?? .always
        let most = self.counts.last!, tile = min(count, tileSize)
        queries = plan.reserve("\(name) queries", count, width, .activations, alive: state)
        nearest = plan.reserve("\(name) nearest", count, most, .activations, alive: state)
        nearestLabels = plan.reserve("\(name) nearest classes", count, most, .activations, alive: state)
        block = plan.reserve("\(name) references", blockSize, width, .scratch, alive: state)
        similarities = plan.reserve("\(name) similarities", tile, blockSize, .scratch, alive: passing)
        workspace = plan.workspace(
            "\(name) workspace",
            bytes: Kernels.linearWorkspaceBytes(
                rows: tile, inputs: width, outputs: blockSize, precision: .f32, activations: .f32), alive: passing)
    }

    /// Forgets all queries and references.
    public func removeAll() {
        queryLabels.removeAll(keepingCapacity: true)
        blockLabels.removeAll(keepingCapacity: true)
        compared = 0
    }

    /// Adds an image that is to be classified: its feature [D] and its class. All queries are added before the first
    /// reference.
    public func addQuery(_ feature: UnsafePointer<Float>, label: Int) {
        precondition(compared == 0 && blockLabels.isEmpty, "queries are added before references")
        precondition(queryLabels.count < queries.rows && label < classes)
        normalize(feature, into: queries.pointer + queryLabels.count * width)
        queryLabels.append(label)
    }

    /// Adds an image of the training set: its feature [D] and its class.
    public func addReference(_ feature: UnsafePointer<Float>, label: Int) {
        precondition(label < classes)
        normalize(feature, into: block.pointer + blockLabels.count * width)
        blockLabels.append(label)
        if blockLabels.count == block.rows { compareBlock() }
    }

    /// Scores of all queries, one for each of `counts`. If there are fewer references than k, all of them vote.
    public func scores() -> [NeighborScores] {
        if !blockLabels.isEmpty { compareBlock() }
        guard !queryLabels.isEmpty else { return counts.map { NeighborScores(k: $0) } }
        var ranks = [Int32](repeating: 0, count: queryLabels.count * counts.count)
        ranks.withUnsafeMutableBufferPointer { ranks in
            queryLabels.withUnsafeBufferPointer { labels in
                Vote(
                    similarities: nearest, neighbours: nearestLabels, filled: compared, labels: labels,
                    classes: classes, counts: counts, ranks: ranks
                ).runAll(labels.count, chunk: 16)
            }
        }
        return counts.indices.map { index in
            var scores = NeighborScores(k: counts[index])
            for query in queryLabels.indices {
                let rank = ranks[query * counts.count + index]
                scores.images += 1
                if rank < 1 { scores.top1Hits += 1 }
                if rank < 5 { scores.top5Hits += 1 }
            }
            return scores
        }
    }

    /// target[D] = feature / max(‖feature‖, 1e-12), the norm summed in double.
    private func normalize(_ feature: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>) {
        let square = SIMDRow.sum(
            width,
            {
                let value = SIMDRow.load(feature + $0)
                return value * value
            }, { feature[$0] * feature[$0] })
        let norm = max(square.squareRoot(), 1e-12)
        for i in 0..<width { target[i] = Float(Double(feature[i]) / norm) }
    }

    /// Compares every query with the references of the block, which is empty then.
    private func compareBlock() {
        if let comparison { plan.begin(comparison) }
        let count = blockLabels.count, references = block.rows(0..<count)
        for first in stride(from: 0, to: queryLabels.count, by: similarities.rows) {
            let rows = first..<min(first + similarities.rows, queryLabels.count)
            let tile = similarities.prefix(rows: rows.count, columns: count)
            Kernels.linear(
                queries.rows(rows), weight: references, bias: nil, output: tile, precision: .f32, workspace: workspace)
            blockLabels.withUnsafeBufferPointer { labels in
                Selection(
                    similarities: tile, labels: labels, nearest: nearest.rows(rows),
                    nearestLabels: nearestLabels.rows(rows), filled: compared
                ).runAll(rows.count, chunk: 8)
            }
        }
        compared = min(nearest.columns, compared + count)
        blockLabels.removeAll(keepingCapacity: true)
    }

    /// Keeps each query's K nearest references: merges a row of similarities into the ordered row of the nearest.
    private struct Selection: ParallelRows {
        let similarities: Tensor
        let labels: UnsafeBufferPointer<Int>
        let nearest: Tensor
        let nearestLabels: Tensor
        let filled: Int

        func run(_ range: Range<Int>) {
            let most = nearest.columns, count = labels.count
            for row in range {
                let values = UnsafePointer(similarities.pointer + row * count)
                let kept = nearest.pointer + row * most, keptLabels = nearestLabels.pointer + row * most
                /// Puts a reference behind those that are as similar; the last of `places` falls out.
                func insert(_ index: Int, places: Int) {
                    let value = values[index]
                    var place = places - 1
                    while place > 0, kept[place - 1] < value {
                        (kept[place], keptLabels[place]) = (kept[place - 1], keptLabels[place - 1])
                        place -= 1
                    }
                    (kept[place], keptLabels[place]) = (value, Float(labels[index]))
                }
                var index = 0
                while index < count, filled + index < most {
                    insert(index, places: filled + index + 1)
                    index += 1
                }
                // Most references are farther than the nearest so far: sixteen at a time are passed over.
                while index + 16 <= count {
                    if any(SIMDRow.load(values + index) .> kept[most - 1]) {
                        for i in index..<index + 16 where values[i] > kept[most - 1] { insert(i, places: most) }
                    }
                    index += 16
                }
                while index < count {
                    if values[index] > kept[most - 1] { insert(index, places: most) }
                    index += 1
                }
            }
        }
    }

    /// The rank of each query's own class by the votes of its nearest references: 0 is the first prediction.
    private struct Vote: ParallelRows {
        let similarities: Tensor
        let neighbours: Tensor
        let filled: Int
        let labels: UnsafeBufferPointer<Int>
        let classes: Int
        let counts: [Int]
        /// [V, counts].
        let ranks: UnsafeMutableBufferPointer<Int32>

        func run(_ range: Range<Int>) {
            var votes = [Double](repeating: 0, count: classes)
            for row in range {
                for index in votes.indices { votes[index] = 0 }
                var place = row * similarities.columns
                let start = place, label = labels[row]
                for (index, k) in counts.enumerated() {
                    while place < start + min(k, filled) {
                        votes[Int(neighbours.pointer[place])] += exp(
                            Double(similarities.pointer[place]) / NearestNeighbors.temperature)
                        place += 1
                    }
                    let own = votes[label]
                    var rank: Int32 = 0
                    for other in votes.indices where votes[other] > own || (votes[other] == own && other < label) {
                        rank += 1
                    }
                    ranks[row * counts.count + index] = rank
                }
            }
        }
    }
}
