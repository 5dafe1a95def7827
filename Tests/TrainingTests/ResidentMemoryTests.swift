import Foundation
import Training
import XCTest

/// The peak of the memory of this process.
final class ResidentMemoryTests: XCTestCase {
    /// The peak does not fall with that of the kernel.
    func testThePeakStays() throws {
        let count = 256 << 20
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 4096)
        memset(bytes, 1, count)
        let peak = ResidentMemory.peakBytes
        XCTAssertGreaterThan(peak, count)
        bytes.deallocate()
        // "5" resets the kernel's maximum to what is resident now.
        let reset = open("/proc/self/clear_refs", O_WRONLY)
        try XCTSkipIf(reset < 0 || write(reset, "5", 1) != 1, "the maximum cannot be reset here")
        close(reset)
        XCTAssertGreaterThanOrEqual(ResidentMemory.peakBytes, peak)
    }
}
