import Training
import XCTest

/// Schedules for few images.
final class FittedScheduleTests: XCTestCase {
    /// The numbers of the issue: 700 images are 17 steps by the paper's recipe.
    func testSevenHundredImages() throws {
        XCTAssertEqual(Int(Recipe.paper.epochs * 700 / Double(Recipe.paper.effectiveBatch)), 17)
        XCTAssertEqual(
            Recipe.paper.fitted(images: 700),
            FittedSchedule(effectiveBatch: 64, epochs: 280, baseLearningRate: 1.2e-3, steps: 3062))
        // Enough epochs for more than the smallest batch.
        XCTAssertEqual(
            Recipe.mae.fitted(images: 700),
            FittedSchedule(effectiveBatch: 128, epochs: 800, baseLearningRate: 8.5e-4, steps: 4375))
        XCTAssertEqual(
            FineTuningRecipe.base.fitted(images: 700),
            FittedSchedule(effectiveBatch: 64, epochs: 100, baseLearningRate: 2e-3, steps: 1093))
    }

    /// Whatever the number of images, the steps suffice, the batch is a power of two, and nothing is larger than needed.
    func testAnyNumberOfImages() throws {
        let recipes: [any TrainingRecipe] = Recipe.all + FineTuningRecipe.all
        for recipe in recipes {
            for images in [1, 2, 9, 63, 64, 65, 350, 1000, 5515, 20_000, 41_000, 82_000, 126_689, 1_281_167] {
                let own = Int(recipe.epochs * Double(images) / Double(recipe.effectiveBatch))
                guard let fitted = recipe.fitted(images: images) else {
                    XCTAssertGreaterThanOrEqual(own, recipe.fewestSteps, "\(recipe.name), \(images)")
                    continue
                }
                XCTAssertLessThan(own, recipe.fewestSteps, "\(recipe.name), \(images)")
                XCTAssertGreaterThanOrEqual(fitted.steps, recipe.fewestSteps, "\(recipe.name), \(images)")
                XCTAssertEqual(fitted.effectiveBatch.nonzeroBitCount, 1)
                XCTAssertTrue((1...recipe.effectiveBatch).contains(fitted.effectiveBatch))
                XCTAssertTrue(fitted.effectiveBatch >= 64 || 2 * fitted.effectiveBatch > images, "\(images)")
                XCTAssertGreaterThanOrEqual(fitted.epochs, recipe.epochs)
                XCTAssertGreaterThanOrEqual(fitted.baseLearningRate, recipe.baseLearningRate)
            }
        }
        XCTAssertNil(Recipe.paper.fitted(images: 1_281_167))
    }

    /// What the user gives stays.
    func testGivenValues() throws {
        let recipe = Recipe.paper
        let epochs = try XCTUnwrap(recipe.fitted(images: 700, epochs: 1000))
        XCTAssertEqual([epochs.effectiveBatch, Int(epochs.epochs), epochs.steps], [128, 1000, 5468])
        let short = try XCTUnwrap(recipe.fitted(images: 700, epochs: 5))
        XCTAssertEqual([short.effectiveBatch, Int(short.epochs), short.steps], [64, 5, 54])
        XCTAssertEqual(recipe.sufficientEpochs(images: 700, effectiveBatch: 64), 280)
        XCTAssertEqual(recipe.sufficientEpochs(images: 5000, effectiveBatch: 64), 40)
        let effective = try XCTUnwrap(recipe.fitted(images: 700, effectiveBatch: 256))
        XCTAssertEqual([effective.effectiveBatch, Int(effective.epochs), effective.steps], [256, 1100, 3007])
        // Whole batches make up the effective batch.
        let batch = try XCTUnwrap(recipe.fitted(images: 20_000, batch: 24))
        XCTAssertEqual([batch.effectiveBatch, batch.steps], [384, 5208])
        XCTAssertNil(recipe.fitted(images: 700, epochs: 0))
        XCTAssertNil(recipe.fitted(images: 700, effectiveBatch: -1))
    }

    /// The rate is that of the effective batch, whoever chose it, unless it is given, too: what is given, and what comes
    /// of it.
    func testRateOfEveryCombination() throws {
        typealias Row = (
            batch: Int?, effectiveBatch: Int?, epochs: Double?, rate: Double?, fitted: (Int, Double, Double, Int)?
        )
        // The paper's recipe has 4096 images a step, 100 epochs and a rate of 1.5e-4, and 700 images.
        let rows: [Row] = [
            (nil, nil, nil, nil, (64, 280, 1.2e-3, 3062)),
            (nil, 64, nil, nil, (64, 280, 1.2e-3, 3062)),
            (nil, nil, 280, nil, (64, 280, 1.2e-3, 3062)),
            (nil, 64, 280, nil, (64, 280, 1.2e-3, 3062)),
            (32, 64, 280, nil, (64, 280, 1.2e-3, 3062)),
            (nil, 64, 280, 1.2e-3, nil),
            (nil, 64, 280, 7e-4, nil),
            (nil, nil, nil, 7e-4, (64, 280, 7e-4, 3062)),
            (nil, 64, nil, 7e-4, (64, 280, 7e-4, 3062)),
            // Steps enough because of a smaller batch that is given: 8750 and 4375.
            (nil, 8, nil, nil, (8, 100, 3.4e-3, 8750)),
            (nil, 8, 50, nil, (8, 50, 3.4e-3, 4375)),
            (8, nil, 50, nil, (8, 50, 3.4e-3, 4375)),
            (nil, 512, 10, nil, (512, 10, 4.2e-4, 13)),
            (128, nil, nil, nil, (128, 550, 8.5e-4, 3007)),
            // As many images a step as the recipe has, or more.
            (nil, 4096, nil, nil, (4096, 17560, 1.5e-4, 3000)),
            (nil, 4096, 10, nil, nil),
            (nil, 8192, 10, nil, nil),
            (8192, nil, 10, nil, (8192, 10, 1.5e-4, 0)),
            // The recipe's batch makes steps enough in so many epochs.
            (nil, 64, 20000, nil, nil),
        ]
        for (index, row) in rows.enumerated() {
            let fitted = Recipe.paper.fitted(
                images: 700, batch: row.batch, effectiveBatch: row.effectiveBatch, epochs: row.epochs,
                baseLearningRate: row.rate)
            let expected = row.fitted.map {
                FittedSchedule(effectiveBatch: $0.0, epochs: $0.1, baseLearningRate: $0.2, steps: $0.3)
            }
            XCTAssertEqual(fitted, expected, "row \(index)")
        }
        // A million images have the recipe's rate, whatever their batch.
        XCTAssertNil(Recipe.paper.fitted(images: 1_281_167, effectiveBatch: 64))
        XCTAssertNil(Recipe.paper.fitted(images: 1_281_167, effectiveBatch: 64, epochs: 100))
    }

    /// A better schedule than one with few steps has enough of them, by a smaller batch or more epochs, and nothing else.
    func testSufficient() {
        let recipes: [any TrainingRecipe] = Recipe.all + FineTuningRecipe.all
        for recipe in recipes {
            for images in [1, 9, 65, 700, 5515, 126_689, 1_281_167] {
                for effective in [8, 64, 4096] {
                    for epochs in [0.25, 1, 30, 200] {
                        guard epochs * Double(images) / Double(effective) < 1000 else { continue }
                        let better = recipe.sufficient(images: images, effectiveBatch: effective, epochs: epochs)
                        let message = "\(recipe.name), \(images), \(effective), \(epochs): \(better)"
                        XCTAssertGreaterThanOrEqual(better.steps, recipe.fewestSteps, message)
                        XCTAssertLessThanOrEqual(better.effectiveBatch, effective, message)
                        XCTAssertGreaterThanOrEqual(better.epochs, epochs, message)
                        XCTAssertEqual(
                            better.baseLearningRate > recipe.baseLearningRate,
                            better.effectiveBatch < recipe.effectiveBatch
                                && better.epochs * Double(images)
                                    < Double(recipe.fewestSteps * recipe.effectiveBatch),
                            message)
                    }
                }
            }
        }
    }
}
