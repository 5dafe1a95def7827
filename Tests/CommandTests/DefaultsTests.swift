import Foundation
import Images
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
                "for 9 images: effective batch 8, 45 optimiser steps where the recipe's effective batches of 4,096 make "
                    + "none (--effective-batch)",
                "base learning rate 0.0034 for an effective batch of 8: its peak falls with the root of the batch "
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

    /// Sizes with which nothing can be computed are refused before defaults are computed from them, at once.
    func testSizesThatAreNone() throws {
        let teacher = Fixtures.path("demo/teacher.safetensors"), folder = TemporaryFolder()
        let distill = ["distill", "--teacher", teacher, "--data", TinyRun.data, "--output", folder.file("run")]
        let largest = "\(Int.max)"
        for (flags, text) in [
            (["--patch-size", "0"], "the patch size must be at least 1, not 0"),
            (["--patch-size", largest], "is more than the 1048576 supported"),
            (["--image-size", "2147483648"], "is more than the 1048576 supported"),
            (["--width", largest], "is more than the 1048576 supported"),
            (["--depth", "1000000000"], "blocks are more than the 4096 supported"),
            (["--channels", largest], "channels are more than the 1024 supported"),
            (["--batch", largest], "--batch must be at most 1073741824"),
            (["--effective-batch", largest], "--effective-batch must be at most 1073741824"),
        ] {
            for recipe in [[], ["--recipe", "demo"]] { assertRefused(distill + recipe + flags, 64, text) }
        }
        XCTAssertEqual(folder.names(), [])
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
        XCTAssertEqual(given.baseLearningRate, 0.0048)
        assertSaid(
            [
                "patches of 8 pixels: those of the teacher (--patch-size)",
                "base learning rate 0.0048 for an effective batch of 4: its peak falls with the root of the batch "
                    + "(--base-learning-rate)",
                "warning: 22 optimiser steps of 9 images are few: --epochs 1340 would make 3,015",
            ], said)
        for word in ["for 9 images", "warm-up", "are aligned", "--channels"] {
            XCTAssertFalse(said.contains(word), "\(word): \(said)")
        }

        folder.write(#"{"epochs": 5, "model": {"student": {"channels": 3}}}"#.utf8, "part.json")
        let (mixed, _) = try plan(start + ["--config", folder.file("part.json")])
        XCTAssertEqual([mixed.epochs, mixed.warmupEpochs], [5, 1])
        XCTAssertEqual([mixed.model?.student.channels, mixed.model?.student.imageHeight], [3, 48])
        let quiet = assertRuns(start + ["--print-config", "--quiet", "--depth", "1"])
        XCTAssertEqual(quiet.errors, "")
    }

    /// The recipe's student may be no student of a small teacher: a smaller preset takes its place, and a student that is
    /// larger still than its teacher gets a warning. So does a given one.
    func testLargeStudent() throws {
        let start = ["distill", "--teacher", makeTeacher(), "--data", TinyRun.data]
        let (stored, said) = try plan(start)
        XCTAssertEqual(stored.model?.student.width, 64)
        XCTAssertEqual(stored.model?.alignment.pairs, [AlignedPair(studentBlock: 2, teacherBlock: 0)])
        assertSaid(
            [
                "student vit-miniature: the recipe's has more than half of the teacher's weights (--student, --width, --depth)"
            ], said)
        XCTAssertTrue(said.contains("warning: the student, of 2"), said)
        let warning = "is larger than its teacher"
        XCTAssertTrue(said.contains(warning), said)
        XCTAssertTrue(try plan(start + Self.small + ["--quiet"]).1.contains(warning))
        XCTAssertTrue(try plan(start + ["--student", "vit-tiny", "--quiet"]).1.contains(warning))
        let teacher = try plan(start).0.model!.teacher!
        let same = ["--width", "\(teacher.width)", "--depth", "\(teacher.depth)", "--heads", "\(teacher.heads)"]
        XCTAssertTrue(
            try plan(start + same + ["--quiet"]).1.contains("is as large as its teacher: it can learn little"))
        XCTAssertEqual(try plan(start + Self.small + ["--depth", "1", "--quiet"]).1, "")
    }

    /// The decoder is the teacher's; of a teacher without one, smaller than MAE's, it is in proportion to the teacher; of
    /// one of MAE's sizes it is the paper's.
    func testDecoder() throws {
        let teacher = makeTeacher(),
            base = ["distill", "--data", TinyRun.data, "--width", "16", "--depth", "2", "--heads", "2"]
        let (own, said) = try plan(base + ["--teacher", teacher])
        XCTAssertEqual(own.model?.decoder, DecoderConfiguration(width: 16, depth: 1, heads: 2))
        assertSaid(
            [
                "decoder of width 16, 1 block, 2 heads: that of the teacher (--decoder, --decoder-width, --decoder-depth, "
                    + "--decoder-heads)"
            ], said)
        let (given, words) = try plan(base + ["--teacher", teacher, "--decoder-depth", "2"])
        XCTAssertEqual(given.model?.decoder, DecoderConfiguration(width: 512, depth: 2, heads: 16))
        XCTAssertFalse(words.contains("--decoder-width"), words)
        let encoder = folder.file("encoder.safetensors")
        assertRuns(["convert", teacher, encoder, "--to", "timm"])
        let (shared, sentence) = try plan(base + ["--teacher", encoder])
        XCTAssertEqual(shared.model?.decoder, DecoderConfiguration(width: 32, depth: 1, heads: 1))
        assertSaid(
            [
                "decoder of width 32, 1 block, 1 head: half the teacher's width and a third of its blocks, as MAE's for ViT-L "
                    + "(--decoder, --decoder-width, --decoder-depth, --decoder-heads)"
            ], sentence)
        let (named, warned) = try plan(
            base + ["--teacher", teacher, "--recipe", "paper", "--align", "1:1", "--patch-size", "8"])
        XCTAssertEqual(named.model?.decoder, DecoderConfiguration(width: 512, depth: 8, heads: 16))
        XCTAssertTrue(
            warned.contains(
                "warning: the decoder of recipe paper, of width 512, is wider than the teacher, of width 16, and takes most of "
                    + "the time; --decoder-width 16 --decoder-depth 1 --decoder-heads 2 would be that of the teacher\n"),
            warned)
        for (student, decoder) in [
            ("vit-tiny", DecoderConfiguration(width: 96, depth: 4, heads: 3)),
            ("vit-small", DecoderConfiguration(width: 192, depth: 4, heads: 6)),
            ("vit-base", DecoderConfiguration(width: 512, depth: 8, heads: 16)),
            ("vit-huge", DecoderConfiguration(width: 512, depth: 8, heads: 16)),
        ] {
            let (stored, _) = try plan(["pretrain", "--data", TinyRun.data, "--student", student])
            XCTAssertEqual(stored.model?.decoder, decoder, student)
        }
    }

    /// Pictures far below the recipe's size are not blown up: images follow their median short side, in whole patches of
    /// which there are at least seven a side.
    func testSmallPictures() throws {
        func images(_ side: Int) throws -> String {
            let name = "p\(side)"
            try FileManager.default.createDirectory(atPath: folder.file(name), withIntermediateDirectories: true)
            for (index, width) in [side, side, side + 40].enumerated() {
                let bytes = [UInt8](repeating: UInt8(40 * index), count: width * side)
                folder.write(
                    try PNGWriter.encode(Pixels(width: width, height: side, channels: 1, bytes: bytes)),
                    "\(name)/\(index).png")
            }
            return folder.file(name)
        }
        for (side, image, patch) in [
            (28, 28, 4), (32, 32, 4), (70, 64, 8), (168, 160, 16), (169, 224, 16), (300, 224, 16),
        ] {
            let (stored, said) = try plan(["pretrain", "--data", try images(side), "--student", "vit-tiny"])
            XCTAssertEqual(stored.model?.student.imageHeight, image, "\(side)")
            XCTAssertEqual(stored.model?.student.patchSize, patch, "\(side)")
            let patches = patch == 16 ? "" : ", patches of \(patch) pixels", flag = patch == 16 ? "" : ", --patch-size"
            let line =
                "images of \(image)×\(image)\(patches): the pictures' short sides have a median of \(side) (--image-size\(flag))\n"
            XCTAssertEqual(said.contains(line), image < 224, said)
        }
        let small = folder.file("p28")
        let (given, _) = try plan(["pretrain", "--data", small, "--patch-size", "8"])
        XCTAssertEqual([given.model?.student.imageHeight, given.model?.student.patchSize], [24, 8])
        let (named, warned) = try plan(["pretrain", "--data", small, "--recipe", "mae"])
        XCTAssertEqual([named.model?.student.imageHeight, named.model?.student.patchSize], [224, 16])
        assertSaid(
            [
                "warning: recipe mae enlarges the pictures, whose short sides have a median of 28, to 224×224; --image-size 28 "
                    + "--patch-size 4 would follow them"
            ], warned)
    }

    /// The size of the images given alone chooses their patches, unless these are given, or weights or a named recipe have
    /// them: then a warning says where hardly any stay visible.
    func testPatchesOfGivenImages() throws {
        let pretrain = ["pretrain", "--data", TinyRun.data, "--student", "vit-tiny", "--image-size"]
        for (size, patch) in [("32", 4), ("48", 4), ("64", 8), ("64x32", 4), ("96", 8), ("112", 16), ("224", 16)] {
            let (stored, said) = try plan(pretrain + [size])
            XCTAssertEqual(stored.model?.student.patchSize, patch, size)
            let side = size == "64x32" ? [4, 2] : [Int(size)! / 16, Int(size)! / 16]
            let line =
                "patches of \(patch) pixels: of 16 pixels the images would have only \(side[0] * side[1]) (--patch-size)\n"
            XCTAssertEqual(said.contains(line), patch < 16, said)
            XCTAssertFalse(said.contains("visible"), said)
        }
        let few = "warning: 1 of 4 patches is visible, of which hardly anything can be learned: "
        for fixed in [["--patch-size", "16"], ["--recipe", "mae"]] {
            let (stored, said) = try plan(pretrain + ["32"] + fixed)
            XCTAssertEqual(stored.model?.student.patchSize, 16)
            assertSaid([few + "--patch-size 4 makes 64 of these images, or lower --mask-ratio"], said)
        }
        let (better, none) = try plan(pretrain + ["32", "--recipe", "mae", "--patch-size", "4"])
        XCTAssertEqual(better.model?.student.patches, 64)
        XCTAssertFalse(none.contains("visible"), none)
        let distill =
            ["distill", "--teacher", makeTeacher(), "--data", TinyRun.data, "--image-size"] + ["16"] + Self.small
        let (taught, said) = try plan(distill)
        XCTAssertEqual(taught.model?.student.patchSize, 8)
        assertSaid(
            [few + "--image-size 56 makes 49 of 8 pixels, the size of the weights', or lower --mask-ratio"], said)
        // The paper's 3 of 196 are meant.
        let (_, paper) = try plan(pretrain + ["224", "--mask-ratio", "0.98"])
        XCTAssertFalse(paper.contains("visible"), paper)
        let (scratch, _) = try plan([
            "finetune", "--from-scratch", "--image-size", "32", "--train", Fixtures.path("classifiers/images"), "--val",
            Fixtures.path("classifiers/images"),
        ])
        XCTAssertEqual(scratch.classifier?.encoder.patchSize, 4)
    }

    /// What a user should know before hours: a teacher that was trained on labels, and a handful of images.
    func testWarnings() throws {
        try TinyRun.writeClasses(in: folder)
        let classifier = folder.file("classifier")
        let tuned = assertRuns(
            [
                "finetune", "--weights", makeTeacher(), "--output", classifier, "--effective-batch", "8", "--epochs",
                "0.5",
                "--train", folder.file("train"), "--val", folder.file("val"), "--quiet",
            ])
        XCTAssertTrue(
            tuned.errors.contains("warning: 18 images of 3 classes: with fewer than 10 of each"), tuned.errors)
        XCTAssertTrue(
            tuned.errors.contains("is hardly more than that of always predicting one class, 33.33 %: try another"),
            tuned.errors)
        let distilled = assertRuns(
            [
                "distill", "--teacher", classifier + "/model.safetensors", "--data", TinyRun.data, "--output",
                folder.file("student"), "--epochs", "1", "--quiet",
            ] + Self.small)
        XCTAssertTrue(
            distilled.errors.contains("/model.safetensors is a classifier, trained on labels: the method is made for"),
            distilled.errors)
        XCTAssertTrue(
            distilled.errors.contains(
                "warning: 9 images: a masked autoencoder learns from thousands, and of so few it learns little but themselves; "
                    + "add images to --data, or start from pre-trained weights (--init-student)\n"), distilled.errors)
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
        let (few, remarks) = try plan(["pretrain", "--data", TinyRun.data])
        XCTAssertEqual([few.model?.student.width, few.model?.student.depth], [192, 12])
        assertSaid(
            [
                "student vit-tiny: the recipe's vit-base is made for a million images, and 9 images would teach it little in "
                    + "a long time (--student, --width, --depth)"
            ], remarks)
        XCTAssertEqual(
            try plan(["pretrain", "--data", TinyRun.data, "--recipe", "mae"]).0.model?.student.width, 768)
        let (pretraining, said) = try plan(["pretrain", "--data", TinyRun.data, "--student", "vit-tiny"])
        XCTAssertEqual([pretraining.effectiveBatch, Int(pretraining.epochs)], [8, 2670])
        XCTAssertEqual(pretraining.warmupEpochs, 133.5)
        XCTAssertEqual(pretraining.model?.student.imageHeight, 104)
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
                "warning: 28 optimiser steps of 9 images are few: --effective-batch 8 --epochs 2670 "
                    + "--base-learning-rate 0.023 would make 3,003",
            ], said)
        let (short, words) = try plan([
            "pretrain", "--recipe", "demo-teacher", "--data", TinyRun.data, "--epochs", "400", "--effective-batch", "8",
        ])
        XCTAssertEqual(short.warmupEpochs, 40)
        assertSaid(
            ["the warm-up stays the recipe's 40 epochs; --warmup-epochs 20 would keep its share"], words)
        XCTAssertTrue(
            words.contains(
                "warning: 450 optimiser steps of 9 images are few: --epochs 2670 --base-learning-rate 0.011 would make "
                    + "3,003\n"), words)
    }

    /// Few steps are said whatever is given, and the flags that the warning proposes make as many as it promises.
    func testFewSteps() throws {
        let teacher = makeTeacher(), data = ["--data", TinyRun.data]
        let distill = ["distill", "--teacher", teacher, "--align", "1:1"] + data + Self.small
        let pretrain = ["pretrain", "--student", "vit-miniature"] + data
        try TinyRun.writeClasses(in: folder)
        let finetune = [
            "finetune", "--weights", teacher, "--train", folder.file("train"), "--val", folder.file("val"),
        ]
        let cases: [(command: [String], rate: Double, steps: Int)] = [
            (distill + ["--epochs", "5"], 0.0034, 5),
            (distill + ["--effective-batch", "2", "--epochs", "5"], 0.0068, 22),
            (distill + ["--effective-batch", "512", "--epochs", "5", "--batch", "2"], 4.2e-4, 0),
            (distill + ["--effective-batch", "8", "--epochs", "5", "--base-learning-rate", "0.001"], 0.001, 5),
            (distill + ["--recipe", "paper", "--patch-size", "8"], 1.5e-4, 0),
            (pretrain + ["--recipe", "demo-teacher", "--effective-batch", "8", "--epochs", "40"], 0.004, 45),
            (pretrain + ["--recipe", "demo-teacher", "--base-learning-rate", "0.02"], 0.02, 112),
            (pretrain + ["--recipe", "mae", "--batch", "3", "--effective-batch", "6", "--epochs", "50"], 1.5e-4, 75),
            (finetune + ["--epochs", "2"], 0.004, 2),
            (finetune + ["--recipe", "finetune-small-data", "--effective-batch", "32"], 0.008, 16),
            (finetune + ["--recipe", "finetune-small-data", "--effective-batch", "32", "--epochs", "90"], 0.008, 50),
        ]
        for (command, rate, steps) in cases {
            let (stored, said) = try plan(command + ["--quiet"])
            let images = stored.method == .finetune ? 18 : 9
            XCTAssertEqual(stored.baseLearningRate, rate, "\(command)")
            XCTAssertEqual(stored.steps(images: images), steps, "\(command)")
            let warning = try XCTUnwrap(
                said.firstMatch(
                    of: #/warning: (\d+) optimiser steps? of \d+ images are few: (--[^:]+) would make ([\d,]+)\n/#),
                "\(command): \(said)")
            XCTAssertEqual(Int(warning.1), steps)
            let (better, words) = try plan(command + warning.2.split(separator: " ").map(String.init) + ["--quiet"])
            XCTAssertEqual(
                "\(better.steps(images: images))", warning.3.replacing(",", with: ""), "\(command) \(warning.2)")
            XCTAssertGreaterThanOrEqual(better.steps(images: images), stored.method == .finetune ? 1000 : 3000)
            XCTAssertFalse(words.contains("are few"), words)
            XCTAssertFalse(words.contains("learning rate"), words)
        }
        // --resume auto begins a run, too; one that goes on has said it.
        let run = folder.file("run")
        let again = TinyRun.pretrain(run, epochs: 1, ["--resume", "auto", "--quiet"])
        for isFirst in [true, false] {
            XCTAssertEqual(
                assertRuns(again).errors.split(separator: "\n").filter { $0.contains("are few") }.count, isFirst ? 1 : 0
            )
        }
        // Steps enough, with the rate of other batches.
        let (_, rate) = try plan(pretrain + ["--recipe", "mae", "--effective-batch", "2"])
        XCTAssertTrue(
            rate.contains(
                "warning: the base learning rate of recipe mae, 0.00015, is for its effective batch of 4,096: "
                    + "--base-learning-rate 0.0068 would be for 2, as the peak falls with the root of the batch\n"),
            rate)
        // The recipe for few images is named where another one is taken, and what its pool is not for.
        let (_, tuned) = try plan(finetune)
        let recipe =
            "18 images: recipe finetune-base is made for ImageNet's million; --recipe finetune-small-data is for a few "
            + "thousand and a small encoder"
        let pool =
            "the head reads the mean of the patch tokens, which a model of Hugging Face cannot: --pool class for one that "
            + "is converted to it"
        assertSaid([recipe, pool], tuned)
        let (_, small) = try plan(finetune + ["--recipe", "finetune-small-data", "--pool", "class"])
        XCTAssertFalse(small.contains("finetune-base") || small.contains("Hugging Face"), small)
    }
}
