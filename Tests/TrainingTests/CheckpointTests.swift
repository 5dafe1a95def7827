import Reporting
import Foundation
import Tensors
import TestSupport
import Training
import Weights
import XCTest

final class CheckpointTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func name(_ step: Int) -> String {
        "checkpoint-" + String(repeating: "0", count: 8 - "\(step)".count) + "\(step).safetensors"
    }

    private func write(_ store: CheckpointStore, step: Int, count: Int = 6) throws {
        let weight = (0..<count).map { Float($0 + step) }
        try withBuffers([weight, weight.map { -$0 }, weight.map { $0 * $0 }, [0.5]]) { buffers in
            let path = try store.write(
                step: step,
                tensors: [
                    .init(name: "norm.weight", shape: [2, count / 2], floats: buffers[0]),
                    .init(
                        name: CheckpointStore.firstMomentPrefix + "norm.weight", shape: [2, count / 2],
                        floats: buffers[1]),
                    .init(
                        name: CheckpointStore.secondMomentPrefix + "norm.weight", shape: [2, count / 2],
                        floats: buffers[2]),
                    .init(name: CheckpointStore.gradientPrefix + "cls_token", shape: [1], floats: buffers[3]),
                ],
                metadata: ["dmae.samples": "\(step * 4)", "dmae.seed": "9"])
            XCTAssertEqual(path, folder.file(name(step)))
        }
    }

    private func newest(_ store: CheckpointStore) throws -> (step: Int?, reports: [String]) {
        var reports: [String] = []
        let step = try store.newestValid { reports.append($0) }?.step
        return (step, reports)
    }

    func testWritesEverythingAndKeepsTheNewest() throws {
        let store = CheckpointStore(directory: folder.path, keep: 2)
        XCTAssertNil(try newest(store).step)
        folder.write([1], "checkpoint-final.safetensors")
        folder.write([1], "checkpoint-1.safetensors")
        for step in [1, 9, 10, 200] { try write(store, step: step) }
        XCTAssertEqual(try store.steps(), [10, 200])
        XCTAssertEqual(
            folder.names(), [name(10), name(200), "checkpoint-1.safetensors", "checkpoint-final.safetensors"].sorted())
        let found = try XCTUnwrap(store.newestValid { XCTFail($0) })
        XCTAssertEqual(found.step, 200)
        XCTAssertEqual(
            found.file.names,
            [
                "norm.weight", "optimizer.first_moment.norm.weight", "optimizer.second_moment.norm.weight",
                "gradient.cls_token",
            ])
        XCTAssertEqual(
            try found.file.floats("optimizer.first_moment.norm.weight"), [-200, -201, -202, -203, -204, -205])
        XCTAssertEqual(found.file.metadata["dmae.step"], "200")
        XCTAssertEqual(found.file.metadata["dmae.samples"], "800")
        XCTAssertEqual(found.file.metadata["dmae.seed"], "9")
    }

    func testStepsBeyondEightDigits() throws {
        let store = CheckpointStore(directory: folder.path, keep: 3)
        XCTAssertTrue(store.path(step: 123_456_789).hasSuffix("/checkpoint-123456789.safetensors"))
        folder.write([1], "checkpoint-123456789.safetensors")
        folder.write([1], "checkpoint-012345678.safetensors")
        folder.write([1], "checkpoint-99999999.safetensors")
        XCTAssertEqual(try store.steps(), [99_999_999, 123_456_789])
    }

    /// One truncated, one with a single flipped bit of its data, one renamed: each is named and the one before them is
    /// found.
    func testDamagedOnesAreNamedAndPassedOver() throws {
        let store = CheckpointStore(directory: folder.path, keep: 9)
        for step in [1, 2, 3, 4] { try write(store, step: step) }
        var flipped = folder.read(name(3))
        flipped[flipped.count - 9] ^= 0x10
        folder.write(flipped, name(3))
        let whole = folder.read(name(4))
        folder.write(whole.dropLast(), name(4))
        folder.write(folder.read(name(2)), name(5))
        let (step, reports) = try newest(store)
        XCTAssertEqual(step, 2)
        XCTAssertEqual(reports.count, 3)
        XCTAssertEqual(reports[0], "skipping \"\(folder.file(name(5)))\": it is the checkpoint of step 2, renamed")
        XCTAssertEqual(
            reports[1],
            "skipping a checkpoint: \"\(folder.file(name(4)))\" is not a valid safetensors file: its header describes "
                + "76 bytes of "
                + "data but the file holds 75: it was cut off; download or write the file again")
        XCTAssertTrue(
            reports[2].hasPrefix(
                "skipping a checkpoint: \"\(folder.file(name(3)))\" is damaged: its checksum is \"xxh64:"),
            reports[2])
        XCTAssertTrue(reports[2].hasSuffix("; use an older checkpoint"), reports[2])
        // All damaged: nothing is found, and each is named.
        for step in [1, 2] { folder.write([], name(step)) }
        XCTAssertNil(try newest(store).step)
        XCTAssertEqual(try newest(store).reports.count, 5)
    }

    /// Resumed from an older one, a run does not take the later ones for its elders.
    func testTheJustWrittenIsNeverRemoved() throws {
        let store = CheckpointStore(directory: folder.path, keep: 1)
        try write(CheckpointStore(directory: folder.path, keep: 9), step: 50)
        try write(store, step: 20)
        XCTAssertEqual(try store.steps(), [20, 50])
        try write(store, step: 60)
        XCTAssertEqual(try store.steps(), [60])
        try write(store, step: 60)
        XCTAssertEqual(try store.steps(), [60])
    }

    /// A disk that is away for a while is no reason to go back to an older state, or to the beginning.
    func testWhatCannotBeReadIsNotPassedOver() throws {
        let store = CheckpointStore(directory: folder.path, keep: 9)
        try write(store, step: 1)
        let path = folder.file(name(2))
        XCTAssertEqual(symlink(path, path), 0)
        let found = failure { _ = try store.newestValid { XCTFail($0) } }
        XCTAssertEqual(found?.code, .inputOutput)
        XCTAssertTrue(found?.message.contains(name(2)) == true, found?.message ?? "found one")
    }

    /// What a run has left behind on a course that it gave up keeps its bytes under a name that is no checkpoint's.
    func testSetsLaterOnesAside() throws {
        let store = CheckpointStore(directory: folder.path, keep: 9)
        for step in [1, 2, 3] { try write(store, step: step) }
        let third = folder.read(name(3))
        XCTAssertEqual(try store.setAside(from: 4), [])
        XCTAssertEqual(try store.setAside(from: 2), [2, 3].map { folder.file(name($0) + ".abandoned") })
        XCTAssertEqual(try store.steps(), [1])
        XCTAssertEqual(folder.read(name(3) + ".abandoned"), third)
        XCTAssertEqual(try store.newestValid { XCTFail($0) }?.step, 1)
        // The next time, too.
        try write(store, step: 3, count: 8)
        XCTAssertEqual(try store.setAside(from: 2), [folder.file(name(3) + ".abandoned-2")])
        XCTAssertEqual(folder.read(name(3) + ".abandoned"), third)
    }

    func testFullDiskLeavesTheOlderOnes() throws {
        let store = CheckpointStore(directory: folder.path, keep: 1)
        try write(store, step: 1)
        let found = TemporaryFolder.limitingFileSize(to: 1 << 14) {
            failure { try write(store, step: 2, count: 1 << 14) }
        }
        XCTAssertEqual(
            found,
            Failure(
                .inputOutput,
                "cannot write \"\(folder.file(name(2)))\": File too large; raise the limit on the size of files "
                    + "(ulimit -f)"
            ))
        XCTAssertEqual(folder.names(), [name(1)])
        XCTAssertEqual(try newest(store).step, 1)
    }

    func testOpeningOneByName() throws {
        let path = folder.file("plain.safetensors")
        try SafeTensorsWriter().write(to: path, checksummed: true)
        XCTAssertEqual(
            failure { _ = try CheckpointStore.open(path) },
            Failure(.badData, "\"\(path)\" holds no step number; use a checkpoint that dmae wrote"))
        XCTAssertEqual(failure { _ = try CheckpointStore.open(folder.file("absent")) }?.code, .inputOutput)
        XCTAssertNil(try CheckpointStore(directory: folder.file("absent"), keep: 1).newestValid { XCTFail($0) })
    }
}
