import Foundation
import Models
import TestSupport
import Tensors
import XCTest

final class ClassificationScoresTests: XCTestCase {
    private func add(_ scores: inout ClassificationScores, _ logits: [Float], _ label: Int) {
        logits.withUnsafeBufferPointer { scores.add(logits: $0.baseAddress!, label: label) }
    }

    private struct Recorded: Decodable {
        struct Case: Decodable {
            let classes, top1, top5: Int
            let logits: [Float]
            let labels, confusion: [Int]
            let loss: Double
        }
        let cases: [Case]
    }

    /// Logits with many ties, against NumPy's stable order and PyTorch's cross-entropy (Fixtures/scores).
    func testAgreesWithNumPy() throws {
        let data = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("scores/scores.json")))
        let cases = try JSONDecoder().decode(Recorded.self, from: data).cases
        XCTAssertEqual(cases.map(\.classes), [12, 4, 1, 30])
        for recorded in cases {
            var scores = ClassificationScores(classes: recorded.classes)
            let (count, classes) = (recorded.labels.count, recorded.classes)
            for (image, label) in recorded.labels.enumerated() {
                add(&scores, Array(recorded.logits[image * classes..<(image + 1) * classes]), label)
            }
            XCTAssertEqual(scores.images, count)
            XCTAssertEqual(scores.top1, Double(recorded.top1) / Double(count))
            XCTAssertEqual(scores.top5, Double(recorded.top5) / Double(count))
            // Both sum in double: some hundred roundings.
            XCTAssertEqual(scores.loss, recorded.loss, accuracy: 1e-13 * recorded.loss)
            for label in 0..<classes {
                let row = recorded.confusion[label * classes..<(label + 1) * classes]
                XCTAssertEqual((0..<classes).map { scores.confusion(label: label, prediction: $0) }, Array(row))
                XCTAssertEqual(scores.byClass[label].images, row.reduce(0, +))
                XCTAssertEqual(scores.byClass[label].hits, row[row.startIndex + label])
            }
        }
    }

    /// Of equal logits the lower index comes first, for the prediction and for the label's rank.
    func testTies() {
        var scores = ClassificationScores(classes: 7)
        let logits: [Float] = [0, 2, 2, 1, 1, 1, 1]
        for label in 0..<7 { add(&scores, logits, label) }
        XCTAssertEqual(scores.images, 7)
        XCTAssertEqual(scores.byClass.map(\.hits), [0, 1, 0, 0, 0, 0, 0])
        XCTAssertEqual(scores.byClass.map(\.images), Array(repeating: 1, count: 7))
        // Ranks: 6, 0, 1, 2, 3, 4, 5.
        XCTAssertEqual(scores.top1, 1 / 7)
        XCTAssertEqual(scores.top5, 5 / 7)
        XCTAssertEqual(scores.mostFrequent, 0)
        XCTAssertEqual(scores.chance, 1 / 7)
        XCTAssertEqual(scores.confusion(label: 3, prediction: 1), 1)
        XCTAssertEqual(scores.confusion(label: 3, prediction: 2), 0)
    }

    /// Chance follows from the labels alone, not from the predictions.
    func testChance() {
        var scores = ClassificationScores(classes: 4)
        for label in [3, 1, 2, 2, 1, 0, 2, 1] { add(&scores, [1, 0, 0, 0], label) }
        XCTAssertEqual(scores.mostFrequent, 1)
        XCTAssertEqual(scores.chance, 3.0 / 8)
        add(&scores, [1, 0, 0, 0], 2)
        XCTAssertEqual(scores.mostFrequent, 2)
        XCTAssertEqual(scores.chance, 4.0 / 9)
    }

    /// With fewer than five classes, top-5 counts all of them.
    func testFewClasses() {
        var scores = ClassificationScores(classes: 2)
        add(&scores, [0, 1], 0)
        add(&scores, [0, 1], 1)
        XCTAssertEqual(scores.top1, 0.5)
        XCTAssertEqual(scores.top5, 1)
        XCTAssertEqual(scores.loss, (log(1 + exp(-1)) + log(1 + exp(1))) / 2, accuracy: 1e-15)
    }

    /// A logit that is not a number wins nothing and makes the loss not a number.
    func testNotANumber() {
        var scores = ClassificationScores(classes: 3)
        add(&scores, [.nan, 1, 0], 0)
        XCTAssertEqual(scores.top1, 0)
        XCTAssertTrue(scores.loss.isNaN)
        XCTAssertEqual(scores.confusion(label: 0, prediction: 1), 1)
    }

    func testMostConfused() {
        var scores = ClassificationScores(classes: 3)
        for (label, prediction, count) in [(0, 1, 2), (1, 0, 2), (2, 0, 3), (2, 2, 9), (0, 2, 1)] {
            for _ in 0..<count { add(&scores, (0..<3).map { $0 == prediction ? 1 : 0 }, label) }
        }
        XCTAssertEqual(
            scores.mostConfused(3).map { [$0.label, $0.prediction, $0.images] }, [[2, 0, 3], [0, 1, 2], [1, 0, 2]])
        XCTAssertEqual(scores.mostConfused(10).count, 4)
        XCTAssertEqual(scores.byClass[2].top1, 0.75)
    }
}
