import Foundation
import Images
import Tensors
import Reporting
import Synchronization
import TestSupport
import XCTest

final class BatchLoaderTests: XCTestCase {
    /// A flat folder of `count` small pictures of various sizes and colours; those in `broken` cannot be decoded.
    private func pictures(_ count: Int, broken: Set<Int> = []) throws -> (TemporaryFolder, ImageFolder) {
        let folder = TemporaryFolder()
        for number in 0..<count {
            let name = String(format: "%03d.png", number)
            if broken.contains(number) {
                folder.write(Array("no picture".utf8), name)
            } else {
                var draw = CounterRandom(seed: 1, purpose: .test, index: number)
                let width = 9 + number % 7, height = 8 + number % 5
                let bytes = (0..<width * height * 3).map { _ in UInt8(draw.below(256)) }
                folder.write(
                    try PNGWriter.encode(Pixels(width: width, height: height, channels: 3, bytes: bytes)), name)
            }
        }
        return (folder, try ImageFolder(folder.path))
    }

    private let augmentation = Augmentation(width: 8, height: 6)
    private let seed: UInt64 = 77

    /// The samples of the stream in `range`, as a loader gives them, and the images they show.
    private func load(
        _ source: any ImageSource, _ range: Range<Int>, batch: Int, workers: Int, ahead: Int = 3, limit: Double = 0.01,
        augmentation: Augmentation? = nil, mixing: Mixing? = nil, report: @escaping (Message) -> Void = { _ in }
    ) throws -> (values: [Float], images: [Int], unreadable: Int) {
        let augmentation = augmentation ?? self.augmentation
        let loader = BatchLoader(
            source: source, augmentation: augmentation, batchSize: batch, seed: seed, firstSample: range.lowerBound,
            lastSample: range.upperBound, workers: workers, unreadableLimit: limit, batchesAhead: ahead, mixing: mixing,
            report: report)
        defer { loader.stop() }
        var values: [Float] = [], images: [Int] = [], position = range.lowerBound
        let destination = Destination(batch, augmentation)
        while let loaded = try loader.next(into: destination.tensor) {
            let count = min(batch, range.upperBound - position)
            XCTAssertEqual(loaded.samples, Array(position..<position + count))
            XCTAssertEqual(loaded.count, count)
            XCTAssertEqual(
                loaded.mixture,
                mixing?.mixture(
                    seed: seed, firstSample: position, width: augmentation.width, height: augmentation.height))
            XCTAssertEqual(loaded.labels, source.classes.isEmpty ? nil : loaded.images.map { source.label($0)! })
            position += count
            values += destination.values(count)
            images += loaded.images
        }
        XCTAssertEqual(position, range.upperBound)
        XCTAssertNil(try loader.next(into: destination.tensor), "the end stays the end")
        return (values, images, loader.unreadableCount)
    }

    /// The same samples, computed from the definition, one after another and without threads.
    private func byDefinition(
        _ folder: ImageFolder, _ range: Range<Int>, broken: Set<Int> = [], augmentation: Augmentation? = nil
    ) throws -> (values: [Float], images: [Int]) {
        let augmentation = augmentation ?? self.augmentation
        var values: [Float] = [], images: [Int] = []
        for position in range {
            let (epoch, index) = (position / folder.count, position % folder.count)
            var draw = CounterRandom(seed: seed, purpose: .order, epoch: epoch)
            let order = draw.permutation(folder.count)
            let image = (0..<folder.count).map { order[(index + $0) % folder.count] }.first { !broken.contains($0) }!
            let sample = augmentation.apply(
                to: try Pixels(contentsOf: folder.path(image)), seed: seed, epoch: epoch, index: index)
            var normalised = [Float](repeating: .nan, count: augmentation.sampleCount)
            augmentation.normalisation.write(sample, to: &normalised)
            augmentation.erase(&normalised, seed: seed, epoch: epoch, index: index)
            values += normalised
            images.append(image)
        }
        return (values, images)
    }

    func testTheStreamIsWhatItsDefinitionSays() throws {
        let (_folder, folder) = try pictures(13)
        defer { withExtendedLifetime(_folder) {} }
        let expected = try byDefinition(folder, 0..<60)
        for workers in [1, 2, 3, 8] {
            for (batch, ahead) in [(4, 3), (7, 1), (60, 2), (100, 1), (1, 5)] {
                let loaded = try load(folder, 0..<60, batch: batch, workers: workers, ahead: ahead)
                XCTAssertEqual(loaded.images, expected.images, "\(workers) workers, batches of \(batch)")
                XCTAssert(loaded.values == expected.values, "\(workers) workers, batches of \(batch)")
                XCTAssertEqual(loaded.unreadable, 0)
            }
        }
        // Every epoch shows every image once, in an order of its own.
        let epochs = stride(from: 0, to: 52, by: 13).map { Array(expected.images[$0..<$0 + 13]) }
        for epoch in epochs { XCTAssertEqual(epoch.sorted(), Array(0..<13)) }
        XCTAssertEqual(Set(epochs).count, 4)
    }

    /// Fine-tuning's augmentation: what is drawn for a sample is drawn for its position, and how a batch is mixed, for
    /// the position of its first sample.
    func testAugmentedStreamsAreWhatTheirDefinitionSays() throws {
        let (_folder, folder) = try pictures(13, broken: [6])
        defer { withExtendedLifetime(_folder) {} }
        let augmentation = Augmentation(
            width: 12, height: 10, framing: .random(area: 0.08...1, aspect: 3.0 / 4...4.0 / 3, flip: 0.5),
            randAugment: RandAugment(), erasing: RandomErasing(probability: 0.5))
        let expected = try byDefinition(folder, 0..<48, broken: [6], augmentation: augmentation)
        let plain = try byDefinition(
            folder, 0..<48, broken: [6],
            augmentation: Augmentation(width: 12, height: 10, framing: augmentation.framing))
        XCTAssert(plain.values != expected.values)
        for (workers, batch, ahead) in [(1, 4, 3), (2, 8, 1), (3, 6, 2), (8, 1, 5), (2, 48, 1)] {
            let what = "\(workers) workers, batches of \(batch)"
            let loaded = try load(
                folder, 0..<48, batch: batch, workers: workers, ahead: ahead, limit: 0.1, augmentation: augmentation)
            XCTAssertEqual(loaded.images, expected.images, what)
            XCTAssert(loaded.values == expected.values, what)
            guard batch % 2 == 0 else { continue }

            var values = expected.values
            let destination = Destination(batch, augmentation), length = batch * augmentation.sampleCount
            for first in stride(from: 0, to: 48, by: batch) {
                let range = first * augmentation.sampleCount..<first * augmentation.sampleCount + length
                _ = destination.tensor.elements.update(from: values[range])
                Mixing().mixture(seed: seed, firstSample: first, width: 12, height: 10).apply(
                    to: destination.tensor, count: batch, width: 12, height: 10)
                values.replaceSubrange(range, with: destination.values(batch))
            }
            XCTAssert(values != expected.values)
            for start in [0, batch, 48 / batch / 2 * batch] {
                let mixed = try load(
                    folder, start..<48, batch: batch, workers: workers, ahead: ahead, limit: 0.1,
                    augmentation: augmentation, mixing: Mixing())
                XCTAssert(mixed.values[...] == values[(start * augmentation.sampleCount)...], "\(what), from \(start)")
            }
        }
    }

    func testStartingAnywhereGivesTheSameStream() throws {
        let (_folder, folder) = try pictures(11, broken: [2])
        defer { withExtendedLifetime(_folder) {} }
        let whole = try load(folder, 0..<90, batch: 9, workers: 2, limit: 0.1)
        let start = UInt64.random(in: .min ... .max)
        print("seed \(start)")
        var draw = CounterRandom(seed: start, purpose: .test)
        for _ in 0..<12 {
            let first = draw.below(91)
            let part = try load(folder, first..<90, batch: 1 + draw.below(12), workers: 1 + draw.below(3), limit: 0.1)
            XCTAssert(part.images[...] == whole.images[first...], "from \(first)")
            XCTAssert(part.values[...] == whole.values[(first * augmentation.sampleCount)...], "from \(first)")
        }
    }

    /// Readers that share the stream get, together, every sample of it, each in its place.
    func testSharesOfAStreamAreTheStream() throws {
        let (folder, source) = try pictures(11)
        defer { withExtendedLifetime(folder) {} }
        let block = 16, batch = 2, blocks = 3
        let whole = try load(source, 0..<blocks * block, batch: batch, workers: 2)
        let size = augmentation.sampleCount
        for count in [1, 2, 4, 8] {
            var values = [Float](repeating: .nan, count: whole.values.count),
                images = Array(repeating: -1, count: whole.images.count)
            for part in 0..<count {
                // Started in the second block, and again from the beginning.
                for first in [blocks * block / count / 3, 0] {
                    let loader = BatchLoader(
                        source: source, augmentation: augmentation, batchSize: batch, seed: seed,
                        firstSample: first / batch * batch, lastSample: blocks * block / count,
                        share: StreamShare(part: part, of: count, block: block), workers: 2
                    ) { _ in }
                    defer { loader.stop() }
                    let destination = Destination(batch, augmentation)
                    while let loaded = try loader.next(into: destination.tensor) {
                        let found = destination.values(loaded.count)
                        for (place, position) in loaded.samples.enumerated() {
                            XCTAssertEqual(position % block / (block / count), part, "\(count) readers")
                            images[position] = loaded.images[place]
                            values.replaceSubrange(
                                position * size..<(position + 1) * size, with: found[place * size..<(place + 1) * size])
                        }
                    }
                }
            }
            XCTAssertEqual(images, whole.images, "\(count) readers")
            XCTAssertEqual(values, whole.values, "\(count) readers")
        }
    }

    func testUnreadableImagesAreReportedCountedAndReplaced() throws {
        let broken: Set = [3, 4, 10]
        let (_folder, folder) = try pictures(16, broken: broken)
        defer { withExtendedLifetime(_folder) {} }
        let expected = try byDefinition(folder, 5..<75, broken: broken)
        var first: [String]?
        for workers in [1, 2, 3] {
            var reports: [String] = []
            // 3 of 16 is 0.1875, exactly allowed.
            let loaded = try load(folder, 5..<75, batch: 8, workers: workers, limit: 0.1875) { reports.append("\($0)") }
            XCTAssertEqual(loaded.images, expected.images)
            XCTAssert(loaded.values == expected.values)
            XCTAssertEqual(loaded.unreadable, 3)
            XCTAssertEqual(reports.count, 3, "once for each file")
            for file in broken { XCTAssertEqual(reports.filter { $0.contains(folder.path(file)) }.count, 1) }
            XCTAssertEqual(reports, first ?? reports, "in the same order whatever the threads do")
            first = reports
        }
    }

    func testTooManyUnreadableImagesStopTheRun() throws {
        let (_folder, folder) = try pictures(16, broken: [3, 4, 10])
        defer { withExtendedLifetime(_folder) {} }
        for workers in [1, 3] {
            var reports = 0
            let failure = failure {
                _ = try self.load(folder, 0..<1000, batch: 4, workers: workers, limit: 0.18) { _ in reports += 1 }
            }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssertEqual(reports, 3)
            let message = failure?.message ?? ""
            XCTAssert(message.hasPrefix("3 of the 16 images in \(folder.place!) cannot be read ("), message)
            XCTAssert(message.contains("unreadable limit") && message.contains("0.18"), message)
            for file in [3, 4, 10] { XCTAssert(message.contains(folder.path(file)), message) }
        }
    }

    func testAllUnreadableEnds() throws {
        let (_folder, folder) = try pictures(40, broken: Set(0..<40))
        defer { withExtendedLifetime(_folder) {} }
        for limit in [0.0, 0.01, 0.5, 1.0] {
            let failure = failure { _ = try self.load(folder, 0..<1000, batch: 4, workers: 2, limit: limit) }
            XCTAssertEqual(failure?.code, .badData, "limit \(limit)")
            let start =
                limit == 1
                ? "none of the 40 images in \(folder.place!) can be read ("
                : "of the 40 images in \(folder.place!) cannot"
            XCTAssert(
                failure?.message.contains(start) == true && failure?.message.contains(", …)") == true,
                "\(failure as Any)")
        }
    }

    func testAFileThatVanishesIsUnreadable() throws {
        let (temporary, folder) = try pictures(10)
        try FileManager.default.removeItem(atPath: temporary.file("004.png"))
        var reports: [String] = []
        let loaded = try load(folder, 0..<20, batch: 5, workers: 2, limit: 0.1) { reports.append("\($0)") }
        XCTAssertEqual(loaded.unreadable, 1)
        XCTAssertEqual(reports.count, 1)
        XCTAssert(reports[0].contains("004.png") && reports[0].contains("No such file"), reports[0])
    }

    /// Without file descriptors any image could seem unreadable, so the run stops and no image is blamed.
    func testWhatTheSystemLacksIsNoFaultOfTheImages() throws {
        let (_folder, folder) = try pictures(10)
        defer { withExtendedLifetime(_folder) {} }
        for workers in [1, 3] {
            var reports: [String] = []
            let found = TemporaryFolder.withoutFileDescriptors {
                failure {
                    _ = try load(folder, 0..<20, batch: 5, workers: workers, limit: 1) { reports.append("\($0)") }
                }
            }
            XCTAssertEqual(found?.code, .inputOutput)
            let words = ".png: Too many open files; raise the limit on open files (ulimit -n)"
            XCTAssert(found?.message.hasSuffix(words) == true, "\(found as Any)")
            XCTAssertEqual(reports, [])
        }
    }

    /// With OMP_PROC_BIND, OpenMP binds the thread that starts it. That thread also creates the decoding threads, which
    /// must not inherit its binding.
    func testDecodingThreadsUseEveryProcessor() throws {
        func tasks() throws -> Set<String> {
            Set(try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task"))
        }
        /// As "0-3,7".
        func processors(_ task: String) -> Substring? {
            let status = try? String(contentsOfFile: "/proc/\(task)/status", encoding: .utf8)
            return status?.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }?.split(separator: "\t")
                .last
        }
        let all = try XCTUnwrap(processors("thread-self")), first = try XCTUnwrap(Int(all.prefix { $0.isNumber }))
        // Swift's Glibc module does not import this function.
        typealias Bind = @convention(c) (pid_t, Int, UnsafeRawPointer) -> Int32
        let bind = unsafeBitCast(try XCTUnwrap(dlsym(nil, "sched_setaffinity")), to: Bind.self)
        var mask = [UInt64](repeating: 0, count: 16)
        mask[first / 64] = 1 << (first % 64)
        XCTAssertEqual(bind(0, 128, mask), 0)
        defer { Threads.unbind() }
        XCTAssertEqual(processors("thread-self"), "\(first)")
        let before = try tasks()
        let (_folder, folder) = try pictures(10)
        defer { withExtendedLifetime(_folder) {} }
        let loader = BatchLoader(
            source: folder, augmentation: augmentation, batchSize: 4, seed: 1, firstSample: 0, lastSample: .max,
            workers: 3,
            report: { _ in })
        defer { loader.stop() }
        // A thread unbinds itself before it takes its first sample.
        for _ in 0..<1000
        where try tasks().subtracting(before).contains(where: { processors("self/task/\($0)") != all }) {
            usleep(10_000)
        }
        let new = try tasks().subtracting(before)
        XCTAssertGreaterThanOrEqual(new.count, 3)
        for task in new { XCTAssertEqual(processors("self/task/\(task)"), all) }
    }

    private func threadsOfTheProcess() throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count
    }

    /// A disk that does not answer does not keep a run from its end.
    func testStoppingWhileAnImageIsRead() throws {
        struct Hanging: ImageSource {
            let classes: [String] = []
            let place: String? = nil
            let count = 4
            func name(_ index: Int) -> String { "\(index)" }
            func label(_ index: Int) -> Int? { nil }
            func bytes(_ index: Int) throws -> [UInt8] {
                sleep(60)
                return []
            }
        }
        let loader = BatchLoader(
            source: Hanging(), augmentation: augmentation, batchSize: 2, seed: seed, firstSample: 0, lastSample: 4,
            workers: 2
        ) { _ in }
        let destination = Destination(2, augmentation)
        struct Stopped: Error {}
        XCTAssertThrowsError(try loader.next(into: destination.tensor) { throw Stopped() }) {
            XCTAssertTrue($0 is Stopped)
        }
        let start = monotonicSeconds()
        loader.stop()
        XCTAssertLessThan(monotonicSeconds() - start, 30)
    }

    func testStoppingEarly() throws {
        let before = try threadsOfTheProcess()
        let (_folder, folder) = try pictures(10)
        defer { withExtendedLifetime(_folder) {} }
        let destination = Destination(4, augmentation)
        for taken in 0..<4 {
            let loader = BatchLoader(
                source: folder, augmentation: augmentation, batchSize: 4, seed: 1, firstSample: 0, lastSample: .max,
                workers: 3,
                report: { _ in })
            for _ in 0..<taken { XCTAssertEqual(try loader.next(into: destination.tensor)?.count, 4) }
            loader.stop()
            loader.stop()
            XCTAssertEqual(failure { _ = try loader.next(into: destination.tensor) }?.code, .failure)
        }
        // Released without being stopped: its threads end as well.
        for _ in 0..<20 {
            _ = BatchLoader(
                source: folder, augmentation: augmentation, batchSize: 4, seed: 1, firstSample: 0, lastSample: 100,
                workers: 3,
                report: { _ in })
        }
        // 72 were started in all; the process may have started or ended others.
        XCTAssertLessThan(try threadsOfTheProcess() - before, 20)
    }

    /// Every image once and in order; unreadable ones are left out. A batch of unreadable images alone does not end the
    /// stream.
    func testOnceInOrder() throws {
        let broken: Set = [0, 4, 5, 6, 7, 12]
        let (_folder, folder) = try pictures(13, broken: broken)
        defer { withExtendedLifetime(_folder) {} }
        let centre = Augmentation(width: 8, height: 6, framing: .centre)
        let wanted = (0..<13).filter { !broken.contains($0) }
        let expected = try wanted.flatMap { file in
            var values = [Float](repeating: .nan, count: centre.sampleCount)
            centre.normalisation.write(
                centre.apply(to: try Pixels(contentsOf: folder.path(file)), seed: 9, epoch: 9, index: 9), to: &values)
            return values
        }
        for (batch, workers, ahead) in [(1, 1, 1), (4, 1, 3), (4, 3, 2), (5, 2, 1), (20, 2, 1)] {
            var reports: [String] = [], values: [Float] = [], images: [Int] = []
            let loader = BatchLoader(
                once: folder, augmentation: centre, batchSize: batch, workers: workers, unreadableLimit: 0.5,
                batchesAhead: ahead,
                report: { reports.append("\($0)") })
            defer { loader.stop() }
            let destination = Destination(batch, centre)
            while let loaded = try loader.next(into: destination.tensor) {
                XCTAssertEqual(loaded.samples, loaded.images)
                values += destination.values(loaded.count)
                images += loaded.images
            }
            XCTAssertEqual(images, wanted)
            XCTAssert(values == expected)
            XCTAssertEqual(loader.unreadableCount, broken.count)
            XCTAssertEqual(reports.count, broken.count)
            for (report, file) in zip(reports, broken.sorted()) {
                XCTAssert(report.contains(folder.path(file)) && report.hasSuffix("; it is left out"), report)
            }
            XCTAssertNil(try loader.next(into: destination.tensor), "the end stays the end")
        }
        for (files, limit, words) in [
            (folder, 0.4, "6 of the 13 images"), (try pictures(2, broken: [0, 1]).1, 1.0, "none of the 2 images"),
        ] {
            let loader = BatchLoader(
                once: files, augmentation: centre, batchSize: 4, workers: 1, unreadableLimit: limit, report: { _ in })
            defer { loader.stop() }
            let destination = Destination(4, centre)
            let failure = failure { while try loader.next(into: destination.tensor) != nil {} }
            XCTAssertEqual(failure?.code, .badData)
            XCTAssert(failure?.message.contains(words) == true, "\(failure as Any)")
        }
    }

    /// Readers who take the batches in turn have together what one of them has alone, whatever is unreadable; their
    /// findings, which survive their coding, give the same sentences and the same failure.
    func testBatchesInTurn() throws {
        let broken: Set = [0, 4, 5, 6, 7, 12]
        let (_folder, folder) = try pictures(13, broken: broken)
        defer { withExtendedLifetime(_folder) {} }
        let centre = Augmentation(width: 8, height: 6, framing: .centre), limit = 0.5
        for (batch, readers) in [(1, 1), (1, 3), (2, 2), (4, 2), (4, 3), (4, 8), (5, 2), (20, 4)] {
            let destination = Destination(batch, centre)
            var expected: [[Float]] = [], images: [[Int]] = [], reports: [String] = []
            let alone = BatchLoader(
                once: folder, augmentation: centre, batchSize: batch, workers: 1, unreadableLimit: limit,
                report: { reports.append("\($0)") })
            defer { alone.stop() }
            while let loaded = try alone.next(into: destination.tensor) {
                expected.append(Array(destination.values(loaded.count)))
                images.append(loaded.images)
            }
            let loaders = (0..<readers).map { part in
                BatchLoader(
                    once: folder, augmentation: centre, batchSize: batch,
                    share: .batches(of: part, readers, size: batch), workers: 2, report: { XCTFail("\($0)") })
            }
            defer { loaders.forEach { $0.stop() } }
            var found: [[Float]] = [], foundImages: [[Int]] = [], foundReports: [String] = []
            let account = ImageAccount(
                of: folder, reading: PictureReading(), limit: limit, isOnce: true,
                report: { foundReports.append("\($0)") })
            for number in 0..<(folder.count + batch - 1) / batch {
                let (loaded, findings) = try XCTUnwrap(loaders[number % readers].nextPart(into: destination.tensor))
                let sent = try JSONEncoder().encode(findings)
                try account.add(JSONDecoder().decode(BatchFindings.self, from: sent))
                guard loaded.count > 0 else { continue }
                XCTAssertEqual(loaded.samples, loaded.images)
                found.append(Array(destination.values(loaded.count)))
                foundImages.append(loaded.images)
            }
            for loader in loaders { XCTAssertNil(try loader.nextPart(into: destination.tensor)) }
            XCTAssertEqual(foundImages, images, "\(batch), \(readers)")
            XCTAssert(found == expected, "\(batch), \(readers)")
            XCTAssertEqual(foundReports, reports)
            XCTAssertEqual(account.unreadableCount, broken.count)
        }
        let strict = ImageAccount(of: folder, reading: PictureReading(), limit: 0.2, isOnce: true, report: { _ in })
        let loader = BatchLoader(
            once: folder, augmentation: centre, batchSize: 13, share: .batches(of: 0, 2, size: 13), workers: 1,
            report: { _ in })
        defer { loader.stop() }
        let destination = Destination(13, centre)
        let (_, findings) = try XCTUnwrap(loader.nextPart(into: destination.tensor))
        let failure = failure { try strict.add(findings) }
        XCTAssertEqual(failure?.code, .badData)
        XCTAssert(failure?.message.contains("6 of the 13 images") == true, "\(failure as Any)")
    }

    /// The batch has the labels of a class folder. Where an image replaces an unreadable one, the label is its own.
    func testLabelsAreThoseOfTheImagesShown() throws {
        let folder = TemporaryFolder()
        let picture = try PNGWriter.encode(Pixels(width: 2, height: 2, channels: 1, bytes: [1, 2, 3, 4]))
        let expected = ["ant/0.png": 0, "ant/1.png": 0, "bee/0.png": 1, "cow/0.png": 2, "cow/deep/1.png": 2]
        for name in ["ant", "bee", "cow/deep"] {
            try FileManager.default.createDirectory(
                atPath: folder.file(name), withIntermediateDirectories: true)
        }
        for name in expected.keys { folder.write(name == "bee/0.png" ? Array("no picture".utf8) : picture, name) }
        let images = try ImageFolder(folder.path)
        XCTAssertEqual(images.classes, ["ant", "bee", "cow"])
        let loader = BatchLoader(
            source: images, augmentation: augmentation, batchSize: 4, seed: seed, firstSample: 2, lastSample: 42,
            workers: 2, unreadableLimit: 0.2, report: { _ in })
        defer { loader.stop() }
        let destination = Destination(4, augmentation)
        var seen: Set<Int> = [], position = 2
        while let batch = try loader.next(into: destination.tensor) {
            XCTAssertEqual(batch.samples, Array(position..<position + 4))
            XCTAssertEqual(batch.labels, batch.images.map { expected[images.name($0)]! })
            seen.formUnion(batch.labels!)
            position += 4
        }
        XCTAssertEqual(position, 42)
        XCTAssertEqual(seen, [0, 2], "the unreadable bee is never shown")
    }

    /// A batch that the caller keeps is not changed by the next one.
    func testABatchIsAValue() throws {
        let (_folder, folder) = try pictures(13)
        defer { withExtendedLifetime(_folder) {} }
        let loader = BatchLoader(
            source: folder, augmentation: augmentation, batchSize: 5, seed: seed, firstSample: 0, lastSample: 10,
            workers: 2, report: { XCTFail("\($0)") })
        defer { loader.stop() }
        let destination = Destination(5, augmentation)
        let first = try XCTUnwrap(loader.next(into: destination.tensor)), copy = first
        let second = try XCTUnwrap(loader.next(into: destination.tensor))
        XCTAssertEqual(first, copy)
        XCTAssertEqual([first.samples, second.samples], [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
        XCTAssertEqual(first.images + second.images, try byDefinition(folder, 0..<10).images)
    }

    /// The loader works on a source that is not a folder, and its messages name the source's images.
    func testASourceThatIsNoFolder() throws {
        let (_folder, folder) = try pictures(9)
        defer { withExtendedLifetime(_folder) {} }
        var source = MemorySource(classes: ["even", "odd"])
        for index in 0..<folder.count {
            source.images.append(
                (name: "picture \(index)", label: index % 2, bytes: .success(try folder.bytes(index))))
        }
        let expected = try byDefinition(folder, 0..<40)
        var loaded = try load(source, 0..<40, batch: 6, workers: 2)
        XCTAssertEqual(loaded.images, expected.images)
        XCTAssert(loaded.values == expected.values)

        // A damaged image and one that the source cannot read are named and replaced.
        source.images[3].bytes = .success(Array("no picture".utf8))
        source.images[5].bytes = .failure(Failure(.badData, "memory/picture 5 is lost"))
        var reports: [String] = []
        loaded = try load(source, 0..<40, batch: 6, workers: 2, limit: 0.25) { reports.append("\($0)") }
        XCTAssertEqual(loaded.images, try byDefinition(folder, 0..<40, broken: [3, 5]).images)
        XCTAssertEqual(
            Set(reports),
            [
                "memory/picture 3 is a text (download it again, or remove it), not a JPEG, PNG, WebP, GIF, BMP or PNM "
                    + "file; the next image takes its place",
                "memory/picture 5 is lost; the next image takes its place",
            ])
        let tooMany = failure { _ = try load(source, 0..<40, batch: 6, workers: 2, limit: 0.2) }
        XCTAssertEqual(tooMany?.code, .badData)
        XCTAssertEqual(
            tooMany.flatMap { failure in failure.unreadable.map { failure.message.hasPrefix($0.reason.description) } },
            true)
        XCTAssert(
            tooMany?.message.hasPrefix("2 of the 9 images in memory cannot be read (") == true, "\(tooMany as Any)")
        source.place = nil
        let nowhere = failure { _ = try load(source, 0..<40, batch: 6, workers: 2, limit: 0.2) }
        XCTAssert(nowhere?.message.hasPrefix("2 of the 9 images cannot be read (picture ") == true, "\(nowhere as Any)")

        // A failure of the system stops the loader and blames no image.
        let broken = Failure(.inputOutput, "cannot read picture 4: Input/output error")
        source.images[4].bytes = .failure(broken)
        XCTAssertEqual(failure { _ = try load(source, 0..<40, batch: 6, workers: 2, limit: 1) }, broken)
    }

    func testGreyAndTheDemoSet() throws {
        let root = URL(fileURLWithPath: Expected.folder).deletingLastPathComponent().appendingPathComponent(
            "demo/images"
        ).path
        let folder = try ImageFolder(root)
        XCTAssertGreaterThan(folder.classes.count, 10)
        XCTAssertGreaterThan(folder.count, 300)
        for channels in [1, 3] {
            let augmentation = Augmentation(width: 64, height: 64, channels: channels)
            let loader = BatchLoader(
                source: folder, augmentation: augmentation, batchSize: folder.count, seed: 5, firstSample: 0,
                lastSample: folder.count,
                workers: 2, unreadableLimit: 0, report: { XCTFail("\($0)") })
            let destination = Destination(folder.count, augmentation)
            let loaded = try XCTUnwrap(loader.next(into: destination.tensor))
            XCTAssertEqual(loaded.images.sorted(), Array(0..<folder.count))
            XCTAssert(destination.tensor.elements.allSatisfy(\.isFinite))
            loader.stop()
        }
        let held = try ImageFolder(root.replacingOccurrences(of: "demo/images", with: "demo/held-out"))
        XCTAssertEqual(held.count, 16)
        for index in 0..<held.count { _ = try Pixels(contentsOf: held.path(index)) }
    }

    /// Images that can be read once a gate is open.
    private final class GatedSource: ImageSource {
        let isOpen = Atomic(false)
        let image: [UInt8]

        init(_ image: [UInt8]) { self.image = image }

        var count: Int { 2 }
        var classes: [String] { [] }
        var place: String? { nil }
        func name(_ index: Int) -> String { "image \(index)" }
        func label(_ index: Int) -> Int? { nil }
        func bytes(_ index: Int) -> [UInt8] {
            while !isOpen.load(ordering: .acquiring) { usleep(1000) }
            return image
        }
    }

    /// While a batch is not ready the caller is called; what it throws leaves the batch the next one.
    func testWaiting() throws {
        struct Stop: Error {}
        let picture = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("pictures/grey16/bright.png")))
        let source = GatedSource(Array(picture))
        let loader = BatchLoader(
            source: source, augmentation: augmentation, batchSize: 2, seed: 1, firstSample: 0, lastSample: 4,
            workers: 1,
            report: { _ in })
        defer {
            source.isOpen.store(true, ordering: .releasing)
            loader.stop()
        }
        let destination = Destination(2, augmentation)
        var calls = 0
        XCTAssertThrowsError(
            try loader.next(into: destination.tensor) {
                calls += 1
                if calls == 2 { throw Stop() }
            }
        ) { XCTAssertTrue($0 is Stop) }
        XCTAssertEqual(calls, 2)
        XCTAssertGreaterThan(loader.secondsWaited, 0.3)
        let batch = try loader.next(into: destination.tensor) { source.isOpen.store(true, ordering: .releasing) }
        XCTAssertEqual(batch?.samples, [0, 1])
    }
}
