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
        XCTAssertNil(recipe.fitted(images: 700, effectiveBatch: 512, epochs: 10))
        let epochs = try XCTUnwrap(recipe.fitted(images: 700, epochs: 1000))
        XCTAssertEqual([epochs.effectiveBatch, Int(epochs.epochs), epochs.steps], [128, 1000, 5468])
        let short = try XCTUnwrap(recipe.fitted(images: 700, epochs: 5))
        XCTAssertEqual([short.effectiveBatch, Int(short.epochs), short.steps], [64, 5, 54])
        XCTAssertEqual(recipe.sufficientEpochs(images: 700, effectiveBatch: 64), 280)
        XCTAssertEqual(recipe.sufficientEpochs(images: 5000, effectiveBatch: 64), 40)
        // The rate belongs to the effective batch: one that was given keeps the recipe's.
        let effective = try XCTUnwrap(recipe.fitted(images: 700, effectiveBatch: 256))
        XCTAssertEqual([effective.effectiveBatch, Int(effective.epochs), effective.steps], [256, 1100, 3007])
        XCTAssertEqual(effective.baseLearningRate, recipe.baseLearningRate)
        // Whole batches make up the effective batch.
        let batch = try XCTUnwrap(recipe.fitted(images: 20_000, batch: 24))
        XCTAssertEqual([batch.effectiveBatch, batch.steps], [384, 5208])
        XCTAssertNil(recipe.fitted(images: 700, epochs: 0))
        XCTAssertNil(recipe.fitted(images: 700, effectiveBatch: -1))
    }
}
