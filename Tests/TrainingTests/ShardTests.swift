import Models
import Ranks
import Tensors
import Training
import XCTest

/// The division of a run among processes, as far as one process can see it; Tests/Ranks has the runs of several.
final class ShardTests: XCTestCase {
    /// Each process owns neighbouring tensors, and about as many bytes as the others.
    func testShardsAreNeighboursOfAboutOneSize() throws {
        let plan = MemoryPlan()
        let configuration = ModelConfiguration(
            student: EncoderConfiguration(
                width: 768, depth: 12, heads: 12, patchSize: 16, imageHeight: 224, imageWidth: 224),
            decoder: DecoderConfiguration(width: 512, depth: 8, heads: 16))
        let parameters = try configuration.objective(batch: 1, seed: 0, plan: plan).parameters
        let sizes = parameters.all.map { $0.isTrained ? $0.weight.count : 0 }
        let total = sizes.reduce(0, +), largest = sizes.max()!
        for count in [1, 2, 4, 8, 16, 64] {
            let owners = Shards(of: parameters, among: count).owners
            XCTAssertEqual(owners.count, parameters.all.count)
            XCTAssertEqual(owners, owners.sorted(), "\(count) processes")
            XCTAssertTrue(owners.allSatisfy((0..<count).contains))
            for process in 0..<count {
                let own = zip(sizes, owners).filter { $1 == process }.map(\.0).reduce(0, +)
                // Each of its two cuts is off by half of a tensor at most.
                XCTAssertLessThanOrEqual(abs(own - total / count), largest + 1, "process \(process) of \(count)")
            }
        }
    }

    /// Parts of processors are neighbours and make up the whole; where there are too few they are shared.
    func testPartsOfProcessors() {
        let processors = [0, 4, 1, 5, 2, 6, 3, 7]
        for count in [1, 2, 3, 4, 8] {
            let parts = (0..<count).map { Ranks.part($0, of: count, processors) }
            XCTAssertEqual(parts.flatMap { $0 }, processors)
            XCTAssertTrue(parts.allSatisfy { abs($0.count - processors.count / count) <= 1 && !$0.isEmpty })
        }
        XCTAssertEqual((0..<5).map { Ranks.part($0, of: 5, [3, 9]) }, [[3], [9], [3], [9], [3]])
    }
}
