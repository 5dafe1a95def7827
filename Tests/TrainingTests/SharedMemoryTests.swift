import Foundation
import Ranks
import XCTest

/// Memory that processes of a machine map together, as far as one process can see it; Tests/Ranks has runs of several.
final class SharedMemoryTests: XCTestCase {
    /// The lines of a file of the system, which comes in pieces: Foundation takes the first for the whole.
    private func lines(_ path: String) throws -> [Substring] {
        let file = try XCTUnwrap(fopen(path, "r"))
        defer { fclose(file) }
        var bytes: [UInt8] = [], part = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&part, 1, part.count, file), count > 0 { bytes += part[..<count] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    }

    /// What one writes another reads, from whole pages without a name, until it is closed.
    func testOneWritesOthersRead() throws {
        let own = try SharedMemory(bytes: 100_000)
        XCTAssertTrue(own.isWritable)
        XCTAssertEqual(UInt(bitPattern: own.start) % 4096, 0)
        let place = try JSONDecoder().decode(SharedMemory.Place.self, from: JSONEncoder().encode(own.place))
        XCTAssertEqual(place, own.place)
        let other = try SharedMemory(at: place)
        XCTAssertFalse(other.isWritable)
        XCTAssertEqual(other.bytes, 100_000)
        XCTAssertTrue(UnsafeRawBufferPointer(start: other.start, count: other.bytes).allSatisfy { $0 == 0 })
        own.start.storeBytes(of: 42, toByteOffset: 99_999, as: UInt8.self)
        XCTAssertEqual(other.start.load(fromByteOffset: 99_999, as: UInt8.self), 42)
        own.finish()
        XCTAssertFalse(own.isWritable)
        let maps = try lines("/proc/self/maps").filter { $0.contains("memfd:dmae") }
        XCTAssertEqual(maps.count, 2)
        XCTAssertTrue(maps.allSatisfy { $0.contains(" r--s ") }, "\(maps)")
        own.close()
        assertRefused("do not see one another") { try SharedMemory(at: place) }
        XCTAssertEqual(other.start.load(fromByteOffset: 99_999, as: UInt8.self), 42)
    }

    /// Its pages come from all nodes of memory in turn, wherever the system lets the process choose.
    func testPagesComeFromAllNodes() throws {
        let own = try SharedMemory(bytes: 100_000)
        guard let line = try? lines("/proc/self/numa_maps").first(where: { $0.contains("memfd:dmae") }) else {
            throw XCTSkip("the system does not show where pages are")
        }
        withExtendedLifetime(own) { XCTAssertTrue(line.contains("interleave"), "\(line)") }
    }

    /// Other memory under the same number of a process is not taken for it.
    func testOtherMemoryIsRefused() throws {
        let own = try SharedMemory(bytes: 10)
        let place = own.place
        own.close()
        // The lowest free number is that of the first.
        let later = try SharedMemory(bytes: 10)
        assertRefused("do not see one another") { try SharedMemory(at: place) }
        withExtendedLifetime(later) {}
    }

    /// A limit on the size of files holds for it, too, and the sentence says so.
    func testLimits() {
        signal(SIGXFSZ, SIG_IGN)
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
        var lower = rlimit(rlim_cur: 1 << 20, rlim_max: before.rlim_max)
        setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &lower)
        defer { setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before) }
        assertRefused("File too large", remedy: "ulimit -f") { try SharedMemory(bytes: 2 << 20) }
        XCTAssertNoThrow(try SharedMemory(bytes: 1 << 20))
    }

    private func assertRefused(
        _ reason: String, remedy: String = "to share them", line: UInt = #line, _ make: () throws -> SharedMemory
    ) {
        XCTAssertThrowsError(try make(), line: line) {
            let refusal = $0 as? SharedMemory.Refusal
            XCTAssertTrue(refusal?.reason.contains(reason) == true, "\($0)", line: line)
            XCTAssertTrue(refusal?.remedy.contains(remedy) == true, "\($0)", line: line)
        }
    }
}
