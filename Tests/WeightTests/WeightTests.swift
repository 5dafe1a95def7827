import XCTest
final class WeightTestsPlaceholder: XCTestCase { func testNothing() {} }
