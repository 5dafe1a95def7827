import RunReport
import XCTest

final class QuantityTests: XCTestCase {
    /// The number of a value of a list stands in its name only where there are several: "alignment 0" reads as if nothing
    /// were aligned.
    func testTheOnlyValueOfAList() {
        for (key, isEvaluation) in [("loss_align_0", false), ("val_loss_align_0", true)] {
            let start = isEvaluation ? "validation alignment" : "alignment"
            func name(_ others: [String]) -> String {
                Quantity(key: key, isEvaluation: isEvaluation, among: [key, "loss"] + others).name
            }
            XCTAssertEqual(name([]), start)
            XCTAssertEqual(name([String(key.dropLast()) + "1"]), start + " 0")
        }
        XCTAssertEqual(Quantity(key: "loss_align_1", isEvaluation: false, among: ["loss_align_1"]).name, "alignment 1")
        XCTAssertEqual(Quantity(key: "some_0", isEvaluation: false, among: ["some_0"]).name, "some_0")
    }
}
