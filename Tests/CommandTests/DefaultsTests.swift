import Foundation
import Models
import TestSupport
import Training
import XCTest

/// Values that nobody gave: they follow the teacher and the images, unless a recipe is named.
final class DefaultsTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Sizes of a model that is trained in no time.
    private static let small = [
        "--width", "16", "--depth", "4", "--heads", "2", "--decoder", "dec-miniature", "--decoder-width", "16",
        "--decoder-depth", "1", "--decoder-heads", "2",
    ]

    /// A teacher of 48×32 grey pixels in patches of 8, of two blocks.
    private func makeTeacher() -> String {
        let run = folder.file("teacher")
        assertRuns(
            TinyRun.pretrain(
                run, epochs: 1,
                ["--image-size", "48x32", "--channels", "1", "--mean", "0.25", "--std", "0.5", "--quiet"]))
        return run + "/model.safetensors"
    }

    /// The configuration that `arguments` make, and what was said.
    private func plan(_ arguments: [String], file: StaticString = #filePath, line: UInt = #line) throws -> (
        TrainingConfiguration, String
    ) {
        let result = assertRuns(arguments + ["--print-config"], file: file, line: line)
        return (try JSONDecoder().decode(TrainingConfiguration.self, from: Data(result.output.utf8)), result.errors)
    }

    private func assertSaid(_ lines: [String], _ errors: String, file: StaticString = #filePath, line: UInt = #line) {
        for text in lines { XCTAssertTrue(errors.contains(text + "\n"), "\(text)\n\(errors)", file: file, line: line) }
    }

    /// A whole run without a recipe: image, patches, channels and pixels are the teacher's, the blocks those at three
    /// quarters, the schedule that of nine images, and each choice is said in a line.
    func testDistillation() throws {
        let teacher = makeTeacher(), run = folder.file("run")
        let result = assertRuns(
            ["distill", "--teacher", teacher, "--data", TinyRun.data, "--output", run, "--epochs", "40"] + Self.small)
        assertSaid(
            [
                "images of 48×32, patches of 8 pixels, 1 channel: those of the teacher (--image-size, --patch-size, "
                    + "--channels)",
                "blocks 2:0 are aligned, at three quarters of the student's 4 and the teacher's 2: the recipe's 8:17 do "
                    + "not exist (--align)",
                "for 9 images: effective batch 8, 45 optimiser steps in place of 0 (--effective-batch)",
                "base learning rate 0.0034 for that effective batch: its peak falls with the root of the batch "
                    + "(--base-learning-rate)",
                "warm-up of 8 epochs, the share of the run that the recipe's 20 are (--warmup-epochs)",
                "warning: 45 optimiser steps of 9 images are few: --epochs 2670 would make 3,003",
            ], result.errors)
        let stored = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json"))
        XCTAssertEqual(
            stored.model?.student,
            EncoderConfiguration(
                width: 16, depth: 4, heads: 2, patchSize: 8, imageHeight: 48, imageWidth: 32, channels: 1))
        XCTAssertEqual(stored.model?.alignment.pairs, [AlignedPair(studentBlock: 2, teacherBlock: 0)])
        XCTAssertEqual(stored.preprocessing?.normalisation.mean, [0.25])
        XCTAssertEqual(stored.preprocessing?.normalisation.deviation, [0.5])
        XCTAssertEqual([stored.batch, stored.accumulation], [8, 1])
        XCTAssertEqual([stored.epochs, stored.warmupEpochs, stored.baseLearningRate], [40, 8, 0.0034])
        XCTAssertEqual(try TinyRun.losses(run).count, 45)
    }

    /// A flag, or a file of values, decides; what is left follows.
    func testGivenValues() throws {
        let teacher = makeTeacher(), start = ["distill", "--teacher", teacher, "--data", TinyRun.data] + Self.small
        let (given, said) = try plan(
            start + [
                "--image-size", "64", "--channels", "3", "--align", "0:1", "--effective-batch", "4", "--epochs", "10",
                "--warmup-epochs", "1", "--mean", "0.5", "--std", "0.25",
            ])
        XCTAssertEqual(given.model?.student.imageSize.description, "64x64")
        XCTAssertEqual([given.model?.student.patchSize, given.model?.student.channels], [8, 3])
        XCTAssertEqual(given.model?.alignment.pairs, [AlignedPair(studentBlock: 0, teacherBlock: 1)])
        XCTAssertEqual(given.preprocessing?.normalisation.mean, [0.5, 0.5, 0.5])
        XCTAssertEqual([given.effectiveBatch, Int(given.epochs), Int(given.warmupEpochs)], [4, 10, 1])
        XCTAssertEqual(given.baseLearningRate, Recipe.paper.baseLearningRate)
        assertSaid(["patches of 8 pixels: those of the teacher (--patch-size)"], said)
        for word in ["optimiser steps", "warm-up", "are aligned", "--channels"] {
            XCTAssertFalse(said.contains(word), "\(word): \(said)")
        }

        folder.write(#"{"epochs": 5, "model": {"student": {"channels": 3}}}"#.utf8, "part.json")
        let (mixed, _) = try plan(start + ["--config", folder.file("part.json")])
        XCTAssertEqual([mixed.epochs, mixed.warmupEpochs], [5, 1])
        XCTAssertEqual([mixed.model?.student.channels, mixed.model?.student.imageHeight], [3, 48])
        let quiet = assertRuns(start + ["--print-config", "--quiet"])
        XCTAssertEqual(quiet.errors, "")
    }

    /// The recipe's student may be no student of a small teacher.
    func testLargeStudent() throws {
        let start = ["distill", "--teacher", makeTeacher(), "--data", TinyRun.data]
        let (stored, said) = try plan(start + ["--quiet"])
        XCTAssertEqual(stored.model?.student.width, 768)
        XCTAssertEqual(stored.model?.alignment.pairs, [AlignedPair(studentBlock: 8, teacherBlock: 0)])
        XCTAssertTrue(said.hasPrefix("warning: the student is the recipe's vit-base, of 85."), said)
        XCTAssertTrue(said.contains("larger than its teacher"), said)
        XCTAssertEqual(try plan(start + Self.small + ["--quiet"]).1, "")
    }

    /// A classifier of random weights sees the images of its teacher; one that starts from weights, theirs.
    func testFinetuning() throws {
        for name in ["education", "geography"] {
            try FileManager.default.createDirectory(atPath: folder.file("images"), withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(
                atPath: folder.file("images/\(name)"), withDestinationPath: Fixtures.path("demo/images/\(name)"))
        }
        let weights = makeTeacher(), classifier = folder.file("classifier")
        let data = ["--train", folder.file("images"), "--val", folder.file("images")]
        assertRuns(
            [
                "finetune", "--weights", weights, "--output", classifier, "--effective-batch", "8", "--epochs", "0.5",
                "--quiet",
            ] + data)
        let start = ["finetune", "--from-scratch", "--teacher", classifier + "/model.safetensors"] + data
        let (follows, said) = try plan(start)
        XCTAssertEqual(follows.classifier?.encoder.imageSize.description, "48x32")
        XCTAssertEqual([follows.classifier?.encoder.patchSize, follows.classifier?.encoder.channels], [8, 1])
        XCTAssertEqual(follows.preprocessing?.normalisation.mean, [0.25])
        assertSaid(
            [
                "images of 48×32, patches of 8 pixels, 1 channel: those of the teacher (--image-size, --patch-size, "
                    + "--channels)",
                "for 20 images: effective batch 16, 800 epochs, 1,000 optimiser steps in place of 1 (--effective-batch, "
                    + "--epochs)",
            ], said)
        XCTAssertEqual(follows.steps(images: 20), 1000)
        let (named, words) = try plan(start + ["--recipe", "finetune-small-data"])
        XCTAssertEqual(named.classifier?.encoder.imageSize.description, "64x64")
        assertSaid(
            [
                "warning: recipe finetune-small-data has other images than the teacher; --image-size 48x32 --channels 1 "
                    + "would follow it"
            ], words)
    }

    /// Without a teacher the schedule follows, and blocks that exist stay.
    func testOthers() throws {
        let (pretraining, said) = try plan(["pretrain", "--data", TinyRun.data, "--student", "vit-tiny"])
        XCTAssertEqual([pretraining.effectiveBatch, Int(pretraining.epochs)], [8, 2670])
        XCTAssertEqual(pretraining.warmupEpochs, 133.5)
        XCTAssertEqual(pretraining.model?.student.imageHeight, 224)
        assertSaid(
            [
                "for 9 images: effective batch 8, 2670 epochs, 3,003 optimiser steps in place of 1 (--effective-batch, "
                    + "--epochs)"
            ], said)
        let large = folder.file("large")
        assertRuns(
            TinyRun.pretrain(large, epochs: 1, ["--depth", "24", "--image-size", "32", "--quiet"]))
        let (paper, words) = try plan(
            ["distill", "--teacher", large + "/model.safetensors", "--data", TinyRun.data, "--student", "vit-tiny"])
        XCTAssertEqual(paper.model?.alignment.pairs, Recipe.paper.alignment.pairs)
        XCTAssertFalse(words.contains("aligned"), words)
    }

    /// A recipe that was named is what it is: a warning says what would follow.
    func testNamedRecipes() throws {
        let teacher = makeTeacher()
        let (named, said) = try plan([
            "distill", "--recipe", "demo", "--teacher", teacher, "--data", TinyRun.data, "--align", "2:0",
        ])
        XCTAssertEqual(named.model?.student.imageSize.description, "64x64")
        XCTAssertEqual([named.effectiveBatch, Int(named.epochs)], [64, 200])
        XCTAssertEqual(named.warmupEpochs, 20)
        assertSaid(
            [
                "warning: recipe demo has other images than the teacher; --image-size 48x32 --channels 1 would follow it",
                "warning: 28 optimiser steps of recipe demo are few: --effective-batch 8 --epochs 2670 "
                    + "--base-learning-rate 0.023 would make 3,003 of 9 images",
            ], said)
        let (short, words) = try plan([
            "pretrain", "--recipe", "demo-teacher", "--data", TinyRun.data, "--epochs", "400", "--effective-batch", "8",
        ])
        XCTAssertEqual(short.warmupEpochs, 40)
        assertSaid(
            ["the warm-up stays the recipe's 40 epochs; --warmup-epochs 20 would keep its share"], words)
        XCTAssertFalse(words.contains("warning"), words)
    }
}
