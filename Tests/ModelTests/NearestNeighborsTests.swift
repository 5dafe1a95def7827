import Foundation
import Models
import Tensors
import TestSupport
import Weights
import XCTest

/// k-nearest-neighbour classification compared with NumPy's, and its rules for ties.
final class NearestNeighborsTests: XCTestCase {
    /// Features, labels and results of Fixtures/neighbors.
    private struct Recorded {
        let classes: Int, width: Int
        let train, validation: [[Float]]
        let trainLabels, validationLabels: [Int]
        /// For each k: first predictions that are right, and right ones among the first five.
        let hits: [Int: [Int]]

        init() throws {
            let file = try SafeTensorsFile(path: Fixtures.path("neighbors/neighbors.safetensors"))
            classes = try XCTUnwrap(file.metadata["classes"].flatMap { Int($0) })
            let width = try XCTUnwrap(file["train.features"]).shape[1]
            self.width = width
            func rows(_ name: String) throws -> [[Float]] {
                let values = try file.floats(name)
                return stride(from: 0, to: values.count, by: width).map { Array(values[$0..<$0 + width]) }
            }
            func labels(_ name: String) throws -> [Int] { try file.floats(name).map { Int($0) } }
            (train, validation) = (try rows("train.features"), try rows("validation.features"))
            (trainLabels, validationLabels) = (try labels("train.labels"), try labels("validation.labels"))
            let json = Data(try XCTUnwrap(file.metadata["hits"]).utf8)
            hits = Dictionary(
                uniqueKeysWithValues: try JSONDecoder().decode([String: [Int]].self, from: json).map { (Int($0)!, $1) })
        }
    }

    private func scores(
        _ counts: [Int], classes: Int, train: [([Float], Int)], validation: [([Float], Int)], blockSize: Int = 1024,
        tileSize: Int = 1024
    ) throws -> [NeighborScores] {
        let plan = MemoryPlan()
        let neighbors = NearestNeighbors(
            queries: validation.count, width: validation[0].0.count, classes: classes, counts: counts, plan: plan,
            blockSize: blockSize, tileSize: tileSize)
        try plan.commit()
        for (feature, label) in validation { neighbors.addQuery(feature, label: label) }
        for (feature, label) in train { neighbors.addReference(feature, label: label) }
        return neighbors.scores()
    }

    /// With every instruction set, and whatever the blocks and the number of threads.
    func testAgreesWithNumPy() throws {
        let recorded = try Recorded()
        let counts = recorded.hits.keys.sorted()
        XCTAssertEqual(counts, [1, 2, 5, 10, 20, 100, 331])
        let ran = try withEachInstructionSet { set in
            for (threads, blockSize, tileSize) in [(1, 1024, 1024), (2, 64, 32), (3, 37, 1), (2, 1, 87), (1, 331, 50)] {
                let found = try withThreads(threads) {
                    try scores(
                        counts.shuffled(), classes: recorded.classes,
                        train: Array(zip(recorded.train, recorded.trainLabels)),
                        validation: Array(zip(recorded.validation, recorded.validationLabels)), blockSize: blockSize,
                        tileSize: tileSize)
                }
                XCTAssertEqual(found.map(\.k), counts)
                for scores in found {
                    XCTAssertEqual(
                        [scores.top1Hits, scores.top5Hits], recorded.hits[scores.k],
                        "\(set.name), k = \(scores.k), blocks of \(blockSize) and \(tileSize)")
                    XCTAssertEqual(scores.images, 87)
                    XCTAssertEqual(scores.top1, Double(scores.top1Hits) / 87)
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// Equally similar references: the first is nearer. Equal votes: the class of lower index, voted for or not.
    func testTies() throws {
        let east: [Float] = [1, 0, 0], north: [Float] = [0, 2, 0]
        // Two copies of one feature: the first has class 3, whichever block they are in.
        for blockSize in [1, 2, 4] {
            let train = [(north, 6), (east, 3), ([3, 0, 0], 1), (north, 0)]
            let found = try scores([1], classes: 7, train: train, validation: [(east, 3)], blockSize: blockSize)
            XCTAssertEqual([found[0].top1Hits, found[0].top5Hits], [1, 1])
            XCTAssertEqual(
                try scores([1], classes: 7, train: train, validation: [(east, 1)], blockSize: blockSize)[0].top1Hits, 0)
        }
        // Both vote with the same weight: class 1 is first, class 3 second, then the classes without votes: 0, 2, 4.
        let train = [(east, 3), (east, 1), (north, 6)]
        for (label, expected) in [(1, [1, 1]), (3, [0, 1]), (0, [0, 1]), (2, [0, 1]), (4, [0, 1]), (5, [0, 0])] {
            let found = try scores([2], classes: 7, train: train, validation: [(east, label)])[0]
            XCTAssertEqual([found.top1Hits, found.top5Hits], expected, "class \(label)")
        }
    }

    /// The weight of a vote is exp(similarity / 0.07): one near neighbour outvotes several that are farther.
    func testWeights() throws {
        let near: [Float] = [1, 0], far: [Float] = [0.6, 0.8]
        // exp(0.4 / 0.07) = 303.
        for (others, wins) in [(302, true), (304, false)] {
            let train = [(near, 1)] + Array(repeating: (far, 0), count: others)
            let found = try scores([others + 1], classes: 2, train: train, validation: [(near, 1)])[0]
            XCTAssertEqual(found.top1Hits, wins ? 1 : 0, "\(others)")
        }
    }

    /// Fewer references than k all vote; a feature of zeros is similar to nothing; scores of two parts add up.
    func testEdges() throws {
        let train: [([Float], Int)] = [([1, 0], 0), ([0, 1], 1)]
        let found = try scores([1, 50], classes: 2, train: train, validation: [([0, 3], 1), ([0, 0], 1)])
        XCTAssertEqual(found.map(\.top1Hits), [1, 1])
        XCTAssertEqual(found.map(\.top5Hits), [2, 2])
        let sum = found[0] + found[0]
        XCTAssertEqual([sum.k, sum.images, sum.top1Hits, sum.top5Hits], [1, 4, 2, 4])

        let plan = MemoryPlan()
        let neighbors = NearestNeighbors(queries: 2, width: 2, classes: 2, counts: [1], plan: plan, blockSize: 3)
        try plan.commit()
        XCTAssertEqual(neighbors.scores(), [NeighborScores(k: 1)])
        for _ in 0..<2 {
            neighbors.removeAll()
            neighbors.addQuery([0, 1], label: 1)
            for (feature, label) in train { neighbors.addReference(feature, label: label) }
            XCTAssertEqual(neighbors.scores().map(\.top1Hits), [1])
        }
    }
}
