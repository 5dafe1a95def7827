import Models
import Tensors
import Training
import XCTest

/// The recipes' values are pinned by the page Method (DocumentationTests) and by the help screens (HelpTests).
final class RecipeTests: XCTestCase {
    /// Every recipe names presets that exist and fits together, its batch divides, and its name is its own for its
    /// method.
    func testEveryRecipeFitsTogether() throws {
        for recipe in Recipe.all {
            XCTAssertEqual(Recipe.all.filter { $0.name == recipe.name && $0.method == recipe.method }.count, 1)
            func encoder(_ name: String) throws -> EncoderConfiguration {
                try XCTUnwrap(
                    Preset.encoder(name, imageHeight: recipe.imageSize, imageWidth: recipe.imageSize), recipe.name)
            }
            let model = ModelConfiguration(
                student: try encoder(recipe.student), decoder: try XCTUnwrap(Preset.decoder(recipe.decoder)),
                teacher: try recipe.teacher.map(encoder), alignment: recipe.alignment, maskRatio: recipe.maskRatio,
                normalizePixels: recipe.normalizePixels)
            XCTAssertEqual(recipe.effectiveBatch % recipe.batch, 0, recipe.name)
            let configuration = TrainingConfiguration(
                method: recipe.method, recipe: recipe.name, model: model, data: "images", teacher: recipe.teacher,
                batch: recipe.batch, accumulation: recipe.effectiveBatch / recipe.batch, epochs: recipe.epochs,
                warmupEpochs: recipe.warmupEpochs, baseLearningRate: recipe.baseLearningRate,
                minimumLearningRate: recipe.minimumLearningRate, optimizer: recipe.optimizer,
                minimumCropArea: recipe.cropArea.lowerBound, maximumCropArea: recipe.cropArea.upperBound)
            XCTAssertNoThrow(try configuration.validate(), recipe.name)
            XCTAssertEqual(configuration.effectiveBatch, recipe.effectiveBatch)
            XCTAssertEqual(recipe.method == .distill, recipe.teacher != nil)
        }
        XCTAssertNil(Recipe.named("paper", for: .pretrain))
        XCTAssertNil(Recipe.named("none", for: .distill))
    }

    /// ImageNet's 1,281,167 images in batches of 4096: 31278 steps in 100 epochs, the top rate 0.0024.
    func testPaperScheduleOnImageNet() throws {
        let recipe = Recipe.paper
        let model = ModelConfiguration(
            student: Preset.encoder("vit-base", imageHeight: 224, imageWidth: 224)!,
            decoder: Preset.decoder("dec512d8")!)
        let configuration = TrainingConfiguration(
            method: .distill, recipe: "paper", model: model, data: "", teacher: nil, batch: 32, accumulation: 128,
            epochs: recipe.epochs, warmupEpochs: recipe.warmupEpochs, baseLearningRate: recipe.baseLearningRate,
            minimumLearningRate: 0, optimizer: recipe.optimizer)
        XCTAssertEqual(configuration.steps(images: 1_281_167), 31_278)
        XCTAssertEqual(configuration.peakLearningRate, 0.0024, accuracy: 1e-15)
        XCTAssertEqual(configuration.epoch(step: 31_278, images: 1_281_167), 100, accuracy: 4096.0 / 1_281_167)
    }
}
