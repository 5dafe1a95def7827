import Weights
import XCTest

final class CRC32Tests: XCTestCase {
    /// The check value of the catalogue of CRCs, and the examples of RFC 3720, appendix B.4.
    func testCastagnoli() {
        let known: [([UInt8], UInt32)] = [
            (Array("123456789".utf8), 0xE306_9283), ([], 0), (Array(repeating: 0, count: 32), 0x8A91_36AA),
            (Array(repeating: 0xFF, count: 32), 0x62A8_AB43), (Array(0..<32), 0x46DD_794E),
            ((0..<32).reversed(), 0x113F_DB5C),
        ]
        for (bytes, checksum) in known {
            XCTAssertEqual(bytes.withUnsafeBytes { CRC32.of($0, .castagnoli) }, checksum, "\(bytes)")
            // However the bytes are split.
            for cut in 0...bytes.count {
                var parts = CRC32(.castagnoli)
                bytes[..<cut].withUnsafeBytes { parts.update($0) }
                bytes[cut...].withUnsafeBytes { parts.update($0) }
                XCTAssertEqual(parts.value, checksum, "\(bytes) cut at \(cut)")
            }
        }
    }
}
