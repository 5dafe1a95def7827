import Foundation
import Images
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// `dmae pretrain` and `dmae distill`: what they print, write and refuse.
final class TrainingCommandTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// A teacher, then a student of it: both learn, and everything a run leaves is there.
    func testTeacherAndStudent() throws {
        let teacher = folder.file("teacher")
        let first = assertRuns(TinyRun.pretrain(teacher, epochs: 60))
        XCTAssertTrue(first.output.contains("weights  \(teacher)/model.safetensors"), first.output)
        XCTAssertTrue(first.errors.contains("step 67/67"), first.errors)
        XCTAssertTrue(
            first.output.contains(
                "\nnext     dmae knn --weights \(teacher)/model.safetensors --train LABELLED-FOLDER --val LABELLED-FOLDER\n"
                    + "or       dmae distill --teacher \(teacher)/model.safetensors --data "
            ), first.output)
        XCTAssertTrue(first.output.contains("\ntime     "), first.output)
        // Before anything is known of the first step.
        let begin = first.errors.split(separator: "\n").first { $0.contains("  step 0/67  batch 0/2  ") }
        XCTAssertNotNil(
            begin?.wholeMatch(of: #/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  step 0/67  .*GB  \d+ s elapsed/#), first.errors)
        XCTAssertFalse(first.errors.contains("\u{1B}"), "no terminal, no escape sequences: \(first.errors)")
        XCTAssertEqual(
            try FileManager.default.contentsOfDirectory(atPath: teacher).sorted().filter {
                !$0.hasPrefix("checkpoint-")
            },
            [
                "configuration.json", "images.json", "lock", "log.jsonl", "model.safetensors", "starts.jsonl",
                "status.json",
            ])

        let student = folder.file("student")
        let second = assertRuns(
            TinyRun.distill(student, teacher: teacher + "/model.safetensors", epochs: 60, ["--keep", "3"]))
        // Block 0 is aligned: 2 tokens and tables, 2 of the projection and 12 of the block; the other block, norm and
        // decoder stay unused.
        let file = try SafeTensorsFile(path: teacher + "/model.safetensors")
        XCTAssertTrue(
            second.errors.contains(
                "teacher: 16 tensors used of \(teacher)/model.safetensors; \(file.entries.count - 16) not needed "
                    + "(blocks after the last "
                    + "aligned one, norm, decoder)\n"),
            second.errors)
        XCTAssertEqual(try TinyRun.checkpoints(student).count, 3)
        XCTAssertEqual(try TinyRun.checkpoints(student).last, "checkpoint-00000067.safetensors")
        // The total of a pre-training is its one term.
        for (run, columns) in [(first, 4), (second, 6)] {
            let rows = run.output.split(separator: "\n").filter { $0.first?.isNumber == true }.map {
                $0.split(separator: " ")
            }
            XCTAssertEqual(rows.count, 11, run.output)
            XCTAssertEqual(Set(rows.map(\.count)), [columns], run.output)
            let losses = rows.map { Double($0[2])! }
            XCTAssertLessThan(losses.last!, 0.9 * losses[0], "it learns: \(run.output)")
        }
        let inspected = assertRuns(["inspect", student + "/checkpoint-00000067.safetensors"]).output
        XCTAssertTrue(inspected.contains("checkpoint of a run of dmae at step 67"), inspected)
        let weights = assertRuns(["inspect", student + "/model.safetensors"]).output
        XCTAssertTrue(weights.contains("aligned_feature_projection_heads.0.weight"), weights)
    }

    /// --threads and --workers change no byte; --seed changes them.
    func testSameBytesForAnyThreads() throws {
        for (name, more) in [
            ("a", ["--threads", "1", "--workers", "1"]), ("b", ["--threads", "2", "--workers", "3"]),
            ("c", ["--seed", "1"]),
        ] {
            assertRuns(TinyRun.pretrain(folder.file(name), more))
        }
        let models = try ["a", "b", "c"].map { try TinyRun.bytes(folder.file($0) + "/model.safetensors") }
        XCTAssertEqual(models[0], models[1])
        XCTAssertNotEqual(models[0], models[2])
        XCTAssertEqual(try TinyRun.log(folder.file("a")), try TinyRun.log(folder.file("b")))
    }

    /// The plan: parameters, memory, operations, time; nothing is written, and no folder is needed.
    func testDryRun() throws {
        let teacher = folder.file("teacher")
        assertRuns(TinyRun.pretrain(teacher, epochs: 2, ["--quiet"]))
        var arguments = TinyRun.distill("", teacher: teacher + "/model.safetensors", epochs: 100)
        let place = arguments.firstIndex(of: "--output")!
        arguments.removeSubrange(place...place + 1)
        let result = assertRuns(arguments + ["--dry-run", "--resume", "auto"]), output = result.output
        XCTAssertTrue(result.errors.contains("--dry-run reads no checkpoint"), result.errors)
        func field(_ name: String) -> [String]? {
            output.split(separator: "\n").first { $0.hasPrefix(name + " ") }.map {
                $0.dropFirst(name.count).split(separator: " ").map(String.init)
            }
        }
        XCTAssertEqual(field("images"), ["9"])
        XCTAssertEqual(field("optimiser steps"), ["112"])
        XCTAssertEqual(field("effective batch"), ["8", "(2", "×", "4)"])
        for name in ["student", "decoder", "projection heads", "teacher, to its last aligned block"] {
            XCTAssertNotNil(field("parameters: " + name), name)
        }
        // Ds·Dt weights and Dt biases.
        XCTAssertEqual(field("parameters: projection heads"), ["272"])
        for name in [
            "teacher weights", "weights", "gradients", "optimizer moments", "activations", "scratch", "batch", "total",
        ] {
            XCTAssertNotNil(field("memory: " + name), name)
        }
        for name in ["teacher", "student", "decoder", "projection heads", "total"] {
            XCTAssertNotNil(field("GFLOP per image: " + name).flatMap { Double($0[0]) }, name)
        }
        XCTAssertGreaterThan(try XCTUnwrap(field("images per second").flatMap { Double($0[0]) }), 0)
        XCTAssertNotNil(field("one optimiser step"))
        XCTAssertNotNil(field("the whole run"))
        XCTAssertGreaterThan(try XCTUnwrap(field("images decoded per second").flatMap { Double($0[0].dropLast()) }), 0)
        XCTAssertNotNil(field("limited by"))
        XCTAssertEqual(field("epochs"), ["100,", "1", "of", "warm-up"])
        XCTAssertEqual(field("precision"), [Precision.bf16.isNative ? "bf16" : "f32"])
        XCTAssertEqual(field("student"), ["width", "16,", "depth", "2,", "heads", "2"])
        XCTAssertEqual(field("images and patches"), ["32×32×3,", "8", "a", "side"])
        XCTAssertEqual(field("visible patches"), ["4", "of", "16,", "mask", "ratio", "0.75"])
        XCTAssertEqual(field("decoder"), ["width", "16,", "depth", "1,", "heads", "2"])
        XCTAssertEqual(field("teacher"), ["width", "16,", "depth", "2,", "heads", "2"])
        XCTAssertEqual(field("aligned blocks"), ["1:0"])
        XCTAssertEqual(field("threads")?.suffix(4), ["kernels,", "1", "of", "decoding"])
        // Every other value that decides the result.
        let settings = output.replacingOccurrences(of: "\n", with: " ")
        for setting in [
            "--weight-decay 0.05", "--seed 0", "--background white", "--minimum-crop-area 0.2", "--projection linear",
        ] {
            XCTAssertTrue(settings.contains(setting), setting)
        }
        XCTAssertFalse(output.contains("not counted"), output)
        let unchecked = assertRuns(arguments + ["--dry-run", "--no-check"])
        XCTAssertTrue(unchecked.output.contains("not counted: images that cannot be decoded and the memory"))
        XCTAssertFalse(unchecked.errors.contains("checked"), unchecked.errors)
        XCTAssertEqual(folder.names(), ["teacher"])
    }

    /// Every value that decides a result reaches the stored configuration.
    func testFlagsReachTheConfiguration() throws {
        let teacher = folder.file("teacher")
        assertRuns(TinyRun.pretrain(teacher, epochs: 1, ["--quiet", "--image-size", "32x16"]))
        let run = folder.file("run")
        assertRuns([
            "distill", "--recipe", "demo", "--teacher", teacher + "/model.safetensors", "--data", TinyRun.data,
            "--output", run,
            "--student", "vit-miniature", "--width", "24", "--depth", "3", "--heads", "3", "--decoder", "dec-miniature",
            "--decoder-width", "20", "--decoder-depth", "1", "--decoder-heads", "5", "--image-size", "32x16",
            "--mask-ratio", "0.5",
            "--normalize-pixels", "--align", "1:0", "--align", "2:1", "--alignment-distance", "L2", "--projection",
            "mlp",
            "--alignment-weight", "0.5", "--batch", "3", "--effective-batch", "6", "--epochs", "1.5", "--warmup-epochs",
            "0.5",
            "--base-learning-rate", "0.001", "--minimum-learning-rate", "0.00001", "--weight-decay", "0.25", "--beta1",
            "0.5",
            "--beta2", "0.75", "--epsilon", "0.5", "--seed", "9", "--minimum-crop-area", "0.25", "--maximum-crop-area",
            "0.5",
            "--stored-orientation", "--background", "#C0FFEE", "--grey16", "scale", "--unreadable-limit", "0.5",
            "--mean", "0.25", "--std", "0.5,0.25,0.5", "--interpolation", "box", "--crop-fraction", "0.75",
            "--checkpoint-every", "2", "--keep", "4",
        ])
        let stored = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json"))
        XCTAssertEqual(
            [stored.model!.student.width, stored.model!.student.depth, stored.model!.student.heads], [24, 3, 3])
        XCTAssertEqual(
            [stored.model!.student.imageHeight, stored.model!.student.imageWidth, stored.model!.student.patchSize],
            [32, 16, 8])
        XCTAssertEqual(
            [stored.model!.decoder.width, stored.model!.decoder.depth, stored.model!.decoder.heads], [20, 1, 5])
        // The teacher's file says what it is.
        XCTAssertEqual(
            [stored.model!.teacher?.width, stored.model!.teacher?.depth, stored.model!.teacher?.heads], [16, 2, 2])
        XCTAssertEqual(stored.model!.alignment.pairs.map { [$0.studentBlock, $0.teacherBlock] }, [[1, 0], [2, 1]])
        XCTAssertEqual(stored.model!.alignment.distance, .l2)
        XCTAssertEqual(stored.model!.alignment.projection, .mlp)
        XCTAssertEqual(stored.model!.alignment.weight, 0.5)
        XCTAssertEqual(stored.model!.maskRatio, 0.5)
        XCTAssertTrue(stored.model!.normalizePixels)
        XCTAssertEqual([stored.batch, stored.accumulation, stored.checkpointEvery, stored.keep], [3, 2, 2, 4])
        XCTAssertEqual([stored.epochs, stored.warmupEpochs], [1.5, 0.5])
        XCTAssertEqual([stored.baseLearningRate, stored.minimumLearningRate], [0.001, 0.00001])
        XCTAssertEqual(stored.optimizer, Optimizer(beta1: 0.5, beta2: 0.75, epsilon: 0.5, weightDecay: 0.25))
        XCTAssertEqual([stored.minimumCropArea, stored.maximumCropArea, stored.unreadableLimit], [0.25, 0.5, 0.5])
        XCTAssertEqual(stored.seed, 9)
        XCTAssertEqual(
            stored.reading,
            PictureReading(
                appliesOrientation: false, background: .colour(red: 0xC0, green: 0xFF, blue: 0xEE), grey16: .scale))
        XCTAssertEqual(
            stored.preprocessing,
            Preprocessing(
                normalisation: Normalisation(mean: [0.25, 0.25, 0.25], deviation: [0.5, 0.25, 0.5]),
                interpolation: .box, crop: CentreCrop(fraction: 0.75)))
        let text = String(decoding: try TinyRun.bytes(run + "/configuration.json"), as: UTF8.self)
        for pair in [#""appliesOrientation" : false"#, ##""background" : "#c0ffee""##, #""grey16" : "scale""#] {
            XCTAssertTrue(text.contains(pair), pair)
        }
    }

    /// A recipe's warm-up of 40 of 800 epochs does not stop a run of 10: it is shortened to half an epoch.
    func testWarmupOfAShortRun() throws {
        var arguments = TinyRun.pretrain(folder.file("run"))
        let flag = try XCTUnwrap(arguments.firstIndex(of: "--warmup-epochs"))
        arguments.removeSubrange(flag...flag + 1)
        let result = assertRuns(arguments)
        XCTAssertTrue(
            result.errors.contains("warm-up of 40 epochs is longer than the run: it is shortened to 0.5"), result.errors
        )
        let configuration = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(folder.file("run/configuration.json")))
        XCTAssertEqual(configuration.warmupEpochs, 0.5)
    }

    // MARK: What is refused

    func testWrongValues() {
        func refused(_ flags: String..., words: String, file: StaticString = #filePath, line: UInt = #line) {
            assertRefused(TinyRun.pretrain(folder.file("run"), flags), 64, words, file: file, line: line)
        }
        refused("--batch", "3", "--effective-batch", "8", words: "--effective-batch 8 is not a multiple of --batch 3")
        refused("--epochs", "0", words: "--epochs must be above 0")
        refused("--epochs", "0.5", "--warmup-epochs", "0", words: "nothing would be trained")
        refused("--warmup-epochs", "11", words: "--warmup-epochs 11 is more than the 10 epochs of the run")
        refused("--base-learning-rate=-1", words: "--base-learning-rate must be at least 0 and finite")
        refused("--epochs", "-1", words: "--epochs must be above 0")
        refused("--warmup-epochs", "-inf", words: "--warmup-epochs must be at least 0 and finite")
        refused("--dry-run", "-1", words: "--dry-run")
        refused("--base-learning-rate", "inf", words: "--base-learning-rate must be at least 0 and finite")
        refused("--warmup-epochs", "inf", words: "--warmup-epochs must be at least 0 and finite")
        refused(
            "--minimum-learning-rate", "0.004",
            words:
                "--minimum-learning-rate 0.004 is more than the peak of 0.003125, --base-learning-rate 0.1 · effective "
                + "batch 8 / 256"
        )
        refused("--base-learning-rate", "fast", words: "'fast'")
        refused("--beta1", "1", words: "--beta1 must be at least 0 and below 1")
        refused("--beta2=-0.1", words: "--beta2 must be at least 0 and below 1")
        refused("--epsilon", "0", words: "--epsilon must be above 0")
        refused("--epsilon", "inf", words: "--epsilon must be above 0 and finite")
        refused("--epochs", "1e300", words: "--epochs must be above 0 and at most 1000000000")
        refused("--base-learning-rate", "1e42", words: "is more than float32 holds")
        refused("--weight-decay=-1", words: "--weight-decay must be at least 0 and finite")
        refused(
            "--weight-decay", "1e30",
            words:
                "--weight-decay 1e+30 times the peak learning rate of 0.003125 is more than 1, so that a step takes more "
                + "from a weight than it has: lower --weight-decay")
        refused("--weight-decay", "1e39", words: "--weight-decay must be at least 0 and finite")
        refused(
            "--minimum-crop-area", "0.9", "--maximum-crop-area", "0.5",
            words: "--minimum-crop-area must be above 0 and at most")
        refused("--unreadable-limit", "2", words: "--unreadable-limit is a fraction from 0 to 1")
        refused("--keep", "0", words: "--keep must be at least 1")
        refused("--checkpoint-every", "0", words: "--checkpoint-every must be at least 1")
        refused("--workers", "0", words: "--workers must be 1 to 1024")
        refused("--channels", "4", words: "use --channels 1 or 3")
        refused("--depth", "0", words: "student: the depth must be at least 1, not 0")
        refused("--patch-size", "32", words: "an image of 32×32 has one patch of 32 pixels")
        refused("--mask-ratio", "0", words: "removes none of the 16 patches")
        refused(
            "--recipe", "paper",
            words: "--recipe paper is not a recipe of `dmae pretrain`: use one of mae, demo-teacher")
        assertRefused(["pretrain", "--recipe", "demo-teacher", "--data", TinyRun.data], 64, "--output is needed")
        assertRefused(
            ["pretrain", "--recipe", "demo-teacher", "--data", TinyRun.data, "--ouput", "a"], 64,
            "Unknown option '--ouput'")
        assertRefused(
            ["distill", "--recipe", "demo", "--data", TinyRun.data, "--output", folder.file("run")], 64, "--teacher")
        XCTAssertEqual(folder.names(), [], "what is refused leaves nothing behind")
    }

    func testTeachersThatDoNotFit() throws {
        let path = folder.file("teacher")
        assertRuns(TinyRun.pretrain(path, epochs: 1, ["--quiet"]))
        let teacher = path + "/model.safetensors"
        let run = folder.file("run")
        assertRefused(
            TinyRun.distill(run, teacher: teacher, ["--teacher-width", "32"]), 64,
            "--teacher-width 32 contradicts \(teacher), whose width is 16: leave it out")
        assertRefused(
            TinyRun.distill(run, teacher: teacher, ["--teacher-model", "vit-tiny"]), 64,
            "--teacher-model vit-tiny, with width 192, contradicts \(teacher), whose width is 16: leave it out")
        assertRefused(
            TinyRun.distill(run, teacher: teacher, ["--teacher-depth", "3"]), 64,
            "--teacher-depth 3 contradicts \(teacher), which holds 2 blocks: leave it out, or lower it")
        assertRefused(
            TinyRun.distill(run, teacher: teacher, ["--align", "1:2"]), 64, "teacher block 2 does not exist", "0 to 1",
            "for --align")
        assertRefused(
            TinyRun.distill(run, teacher: teacher, ["--align", "1:0"]), 64, "--align 1:0 is given twice: give it once")
        assertRefused(
            TinyRun.distill(run, teacher: teacher, ["--patch-size", "4"]), 64,
            "teacher and student must see the same patches", "use --patch-size 8, or another teacher")
        assertRefused(TinyRun.distill(run, teacher: folder.file("missing")), 74, "missing", "No such file")
        // A teacher that lacks a block.
        let whole = try SafeTensorsFile(path: teacher)
        let names = whole.names.filter { !$0.hasPrefix("blocks.0.mlp") }
        try withBuffers(names.map { try whole.floats($0) }) { buffers in
            var writer = SafeTensorsWriter(metadata: whole.metadata)
            for (name, buffer) in zip(names, buffers) {
                writer.add(name, shape: try whole.entry(name).shape, floats: buffer)
            }
            try writer.write(to: folder.file("partial.safetensors"))
        }
        assertRefused(
            TinyRun.distill(run, teacher: folder.file("partial.safetensors")), 65,
            "partial.safetensors: lacks 4 of the 16 tensors",
            "blocks.0.mlp.fc1")
        let bytes = [UInt8](try TinyRun.bytes(teacher))
        folder.write(bytes.dropLast(), "cut.safetensors")
        assertRefused(TinyRun.distill(run, teacher: folder.file("cut.safetensors")), 65, "cut.safetensors")
    }

    /// A recipe's pair is of its own depths: in a deeper teacher it is another share, and that is said.
    func testPairsOfOtherDepths() throws {
        let teacher = folder.file("deep")
        assertRuns(TinyRun.pretrain(teacher, epochs: 2, ["--depth", "8", "--quiet"]))
        let arguments = [
            "distill", "--recipe", "demo", "--teacher", teacher + "/model.safetensors", "--data", TinyRun.data,
            "--image-size", "32",
            "--epochs", "10", "--warmup-epochs", "1", "--batch", "4", "--effective-batch", "8", "--dry-run",
        ]
        let result = assertRuns(arguments)
        XCTAssertTrue(
            result.errors.contains(
                "blocks 2:4 are aligned, as recipe demo says for a student of 4 and a teacher of 6 blocks; in yours, "
                    + "of "
                    + "4 and 8, the same shares of the depth are --align 2:5"), result.errors)
        XCTAssertFalse(assertRuns(arguments + ["--align", "2:5"]).errors.contains("are aligned"))
    }

    /// Teachers of other image sizes and channels are brought to the student's, whatever tool wrote them.
    func testTeachersThatAreAdapted() throws {
        for (name, form, unneeded) in [
            (
                "mae/encoder.pth", "PyTorch archive, MAE names under model",
                "26 not needed (blocks after the last aligned one, norm)"
            ),
            (
                "huggingface/vit", "safetensors, Hugging Face names",
                "26 not needed (blocks after the last aligned one, norm)"
            ),
            (
                "timm/timm.safetensors", "safetensors, timm names",
                "28 not needed (blocks after the last aligned one, norm, class head)"
            ),
        ] {
            let teacher = Fixtures.path("weights/" + name)
            let result = assertRuns(
                TinyRun.distill(
                    folder.file("run-" + name.map { $0.isLetter ? "\($0)" : "-" }.joined()), teacher: teacher,
                    epochs: 1,
                    ["--image-size", "48", "--channels", "1", "--teacher-heads", "4"]))
            XCTAssertTrue(result.errors.hasPrefix("\(teacher): \(form); ViT of width 32, 3 blocks, "), result.errors)
            XCTAssertTrue(
                result.errors.contains(
                    "teacher: 16 tensors used of \(teacher); position tables resampled from 4×4 to 6×6 patches; input "
                        + "channels summed, from 3 "
                        + "to 1; \(unneeded)\n"), result.errors)
        }
        assertRefused(
            TinyRun.distill(folder.file("run"), teacher: Fixtures.path("weights/mae/encoder.pth")), 64,
            "--teacher-heads is needed",
            "encoder.pth")
    }

    /// A loss that is no number any more: 1, the step, the parts, the last good checkpoint, and that checkpoint is
    /// really good.
    func testNonFiniteLoss() throws {
        let run = folder.file("run")
        let result = Command.run(
            TinyRun.pretrain(
                run, epochs: 100,
                ["--base-learning-rate", "1e30", "--warmup-epochs", "50", "--checkpoint-every", "1", "--quiet"]))
        assertRefused(
            result, 1, ["the loss is not finite at step ", ": loss ", "reconstruction ", "lower --base-learning-rate"])
        let last = try XCTUnwrap(TinyRun.checkpoints(run).last)
        XCTAssertTrue(result.errors.contains("the last good checkpoint is \(run)/\(last)"), result.errors)
        XCTAssertNoThrow(try CheckpointStore.open(run + "/" + last))
    }

    // MARK: Images

    /// A folder of the tiny run's pictures, four times over, and `bad` files that are no images.
    private func pictures(_ name: String, bad: Int) throws -> String {
        let files = try FileManager.default.contentsOfDirectory(atPath: TinyRun.data).sorted()
        let path = folder.file(name)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        for copy in 0..<4 {
            for file in files {
                try FileManager.default.createSymbolicLink(
                    atPath: "\(path)/\(copy)-\(file)", withDestinationPath: "\(TinyRun.data)/\(file)")
            }
        }
        for number in 0..<bad {
            folder.write("This is text, whatever its name says.\n".utf8, "\(name)/text-\(number).jpg")
        }
        return path
    }

    /// Below the limit an unreadable image is named once, counted, and replaced, reproducibly.
    func testUnreadableImagesBelowTheLimit() throws {
        let data = try pictures("images", bad: 1)
        let runs = [("a", "1"), ("b", "3")].map { name, workers in
            assertRuns(
                TinyRun.pretrain(
                    folder.file(name), epochs: 3, data: data, ["--unreadable-limit", "0.03", "--workers", workers]))
        }
        for run in runs {
            XCTAssertEqual(run.errors.components(separatedBy: "text-0.jpg").count, 2, "named once: \(run.errors)")
            XCTAssertTrue(run.errors.contains("not a JPEG, PNG, WebP, GIF, BMP or PNM file"), run.errors)
        }
        XCTAssertEqual(
            try TinyRun.bytes(folder.file("a") + "/model.safetensors"),
            try TinyRun.bytes(folder.file("b") + "/model.safetensors"))
    }

    /// Two in 38 are more than 1 %: the run stops, names the limit, and keeps what it had.
    func testUnreadableImagesAboveTheLimit() throws {
        let data = try pictures("images", bad: 2)
        let result = Command.run(TinyRun.pretrain(folder.file("run"), epochs: 3, data: data))
        assertRefused(result, 65, ["--unreadable-limit"])
        XCTAssertTrue(result.errors.contains("text-0.jpg"), result.errors)
        XCTAssertTrue(result.errors.contains("unreadable"), result.errors)
    }

    func testFoldersWithoutImages() throws {
        let run = folder.file("run")
        try FileManager.default.createDirectory(atPath: folder.file("empty"), withIntermediateDirectories: true)
        assertRefused(
            TinyRun.pretrain(run, data: folder.file("empty")), 65, "empty", "holds no images",
            "JPEG, PNG, WebP, GIF, BMP or PNM files")
        assertRefused(
            TinyRun.pretrain(run, data: folder.file("missing")), 74, "missing", "No such file",
            "check the path and its permissions")
        assertRefused(TinyRun.pretrain(run, data: ""), 64, "--data needs the path of a folder, tar archive or list")
        folder.write("x".utf8, "file")
        assertRefused(TinyRun.pretrain(run, data: folder.file("file")), 74, "file is not a folder")
    }

    // MARK: Disks

    /// A checkpoint that does not fit on the disk: 74, one sentence, and no part of it is left.
    func testFullDisk() throws {
        let run = folder.file("run")
        let result = TemporaryFolder.limitingFileSize(to: 50_000) {
            Command.run(TinyRun.pretrain(run, ["--checkpoint-every", "3"]))
        }
        assertRefused(result, 74, ["checkpoint-00000003.safetensors", "File too large"])
        XCTAssertEqual(
            try FileManager.default.contentsOfDirectory(atPath: run).sorted(),
            ["configuration.json", "images.json", "lock", "log.jsonl", "starts.jsonl", "status.json"])
        // With room again the run goes on.
        assertRuns(TinyRun.pretrain(run, ["--checkpoint-every", "3", "--resume", "auto"]))
    }

    func testFoldersThatCannotHoldARun() throws {
        folder.write("x".utf8, "file")
        assertRefused(TinyRun.pretrain(folder.file("file")), 74, "file", "something else has that name")
        assertRefused(TinyRun.pretrain("/proc/nowhere"), 74, "/proc/nowhere")
    }
}
