import Training
import XCTest

final class ScheduleTests: XCTestCase {
    /// Values worked out by hand: cos 0, π/4, π/3, π/2, 2π/3, π. Bound: the error of cos and three roundings near 1.
    func testWarmUpThenHalfACosine() {
        let schedule = LearningRateSchedule(peakLearningRate: 1, minimumLearningRate: 0.1, warmupEpochs: 2, epochs: 10)
        for (epoch, rate) in [
            (0, 0), (0.25, 0.125), (1, 0.5), (1.5, 0.75), (2, 1),
            (4, 0.1 + 0.45 * (1 + 0.5.squareRoot())), (2 + 8.0 / 3, 0.775), (6, 0.55), (2 + 16.0 / 3, 0.325),
            (8, 0.1 + 0.45 * (1 - 0.5.squareRoot())), (10, 0.1), (10.5, 0.1), (1e9, 0.1),
        ] as [(Double, Double)] {
            XCTAssertEqual(schedule.rate(epoch: epoch), rate, accuracy: 4 * Double.ulpOfOne, "epoch \(epoch)")
        }
    }

    /// The paper's run: 1.5e-4 · 4096/256 = 2.4e-3, 20 of 100 epochs of warm-up; 1/312 of an epoch is one step of 4096
    /// images.
    func testThePapersRun() {
        let schedule = LearningRateSchedule(
            peakLearningRate: 1.5e-4 * 4096 / 256, minimumLearningRate: 0, warmupEpochs: 20, epochs: 100)
        XCTAssertEqual(schedule.rate(epoch: 0), 0)
        XCTAssertEqual(schedule.rate(epoch: 1.0 / 312), 2.4e-3 / 6240, accuracy: 1e-18)
        XCTAssertEqual(schedule.rate(epoch: 20), 2.4e-3, accuracy: 1e-18)
        XCTAssertEqual(schedule.rate(epoch: 60), 1.2e-3, accuracy: 1e-18)
        XCTAssertEqual(schedule.rate(epoch: 100), 0)
    }

    func testNoWarmUpAndNothingElse() {
        let decay = LearningRateSchedule(peakLearningRate: 3, minimumLearningRate: 1, warmupEpochs: 0, epochs: 4)
        XCTAssertEqual(decay.rate(epoch: 0), 3)
        XCTAssertEqual(decay.rate(epoch: 2), 2, accuracy: 4 * Double.ulpOfOne)
        let rise = LearningRateSchedule(peakLearningRate: 3, minimumLearningRate: 1, warmupEpochs: 4, epochs: 4)
        XCTAssertEqual(rise.rate(epoch: 2), 1.5)
        XCTAssertEqual(rise.rate(epoch: 4), 1)
    }
}
