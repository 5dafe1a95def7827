import XCTest
final class ImageTestsPlaceholder: XCTestCase { func testNothing() {} }
