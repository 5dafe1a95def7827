import Foundation
import Images
import Interchange
import TestSupport
import Training
import Weights
import XCTest

/// Mean and deviation, filter and crop: whose they are, what overrides them, and where they go.
final class PreprocessingTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let encoder = Fixtures.path("weights/mae/mae.safetensors")
    private let picture = Fixtures.path("classifiers/images/ant/0.jpg")
    private let half = ["--mean", "0.5", "--std", "0.5"]

    /// Features of a picture of 61 × 47, and what was said.
    private func embed(_ weights: String, _ more: [String] = []) -> (values: [UInt8], errors: String) {
        let result = assertRuns(
            [
                "embed", "--weights", weights, "--data", picture, "--output", folder.file("x.npy"), "--force",
            ] + (weights == encoder || weights.hasPrefix(folder.file("m-")) ? ["--heads", "4"] : []) + more)
        return (folder.read("x.npy"), result.errors)
    }

    /// Copies the weights of an encoder to a folder with `files`.
    private func model(_ name: String, _ files: [String: String], as file: String = "model.safetensors") throws
        -> String
    {
        let path = folder.file("m-" + name)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: encoder, toPath: path + "/" + file)
        for (file, text) in files { try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/" + file)) }
        return path
    }

    func testWhoseItIs() throws {
        let processor = """
            {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": {"height": 32, "width": 32}}
            """
        let timm = """
            {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "pretrained_cfg":
             {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "crop_pct": 0.9}}
            """
        let hugging = half + ["--interpolation", "bilinear", "--crop-fraction", "squash"]
        for (name, files, flags, line) in [
            ("hf", ["preprocessor_config.json": processor], hugging, "bilinear, squash (preprocessor_config.json)"),
            ("timm", ["config.json": timm], half + ["--crop-fraction", "0.9"], "bicubic, crop 0.9 (config.json)"),
            // Both: that of transformers.
            (
                "both", ["preprocessor_config.json": processor, "config.json": timm], hugging,
                "bilinear, squash (preprocessor_config.json)"
            ),
        ] {
            let path = try model(name, files)
            let own = embed(path), named = embed(path + "/model.safetensors"), flags = embed(encoder, flags)
            XCTAssertEqual(own.values, flags.values, name)
            XCTAssertEqual(own.values, named.values, name)
            XCTAssertTrue(own.errors.contains("\npixels: mean 0.5, std 0.5, \(line)\n"), own.errors)
            XCTAssertTrue(
                assertRuns(["inspect", path]).output.contains("\n  pixels: mean 0.5, std 0.5, \(line)\n"), name)
            let overridden = embed(path, ["--mean", "0.485,0.456,0.406"])
            XCTAssertNotEqual(overridden.values, own.values)
            XCTAssertTrue(
                overridden.errors.contains("pixels: mean 0.485 0.456 0.406, std 0.5, ")
                    && overridden.errors.contains("(--mean; the rest from "), overridden.errors)
        }
        // Not beside a file of another name.
        let other = try model("other", ["preprocessor_config.json": processor], as: "student.safetensors")
        let assumed = embed(other + "/student.safetensors")
        XCTAssertEqual(assumed.values, embed(encoder).values)
        XCTAssertTrue(assumed.errors.contains("(assumed: the weights say nothing of it; --mean, "), assumed.errors)
        XCTAssertEqual(
            embed(encoder).values,
            embed(encoder, ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--crop-fraction", "0.875"])
                .values)
        let broken = try model("broken", ["preprocessor_config.json": "{"])
        assertRefused(
            ["embed", "--weights", broken, "--heads", "4", "--data", picture, "--output", folder.file("y.npy")], 65,
            "preprocessor_config.json: does not say how pictures are prepared in the way of Hugging Face")
    }

    func testWrongFlags() {
        func refused(_ more: [String], _ words: String) {
            assertRefused(
                ["embed", "--weights", encoder, "--heads", "4", "--data", picture, "--output", folder.file("y.npy")]
                    + more, 64, words)
        }
        refused(["--mean", "0.5,0.5"], "is invalid for '--mean <number,…>'")
        refused(["--std", "0"], "--std must be at least 0.000001")
        refused(["--std", "1e-45"], "--std must be at least 0.000001")
        refused(["--mean", "1e30"], "--mean must be from -1000 to 1000")
        refused(["--crop-fraction", "1e-30"], "is invalid for '--crop-fraction <fraction|squash>'")
        refused(["--interpolation", "nearest"], "is invalid for '--interpolation <filter>'")
        refused(["--crop-fraction", "1.5"], "is invalid for '--crop-fraction <fraction|squash>'")
        assertRefused(
            TinyRun.pretrain(folder.file("grey"), ["--channels", "1", "--mean", "0.5,0.5,0.5"]), 64,
            "--mean 0.5,0.5,0.5 has 3 numbers, but the images have 1 channel: give one")
    }

    /// A teacher's mean and deviation become the run's, go into its weights, and are used with them.
    func testATeachersBecomeTheRuns() throws {
        let first = folder.file("first"), run = folder.file("run"), hurried = folder.file("hurried")
        assertRuns(TinyRun.pretrain(first, epochs: 1, half + ["--quiet"]))
        let converted = folder.file("teacher")
        assertRuns(["convert", first + "/model.safetensors", converted, "--to", "huggingface"])
        let steps = ["--checkpoint-every", "1"]
        let said = assertRuns(TinyRun.distill(run, teacher: converted, epochs: 2, steps))
        let line =
            "pixels: mean 0.5, std 0.5, bicubic, in evaluations crop 0.875 (1 for models above 224 pixels) (mean and std of the "
            + "teacher, "
        XCTAssertTrue(said.errors.contains(line + "preprocessor_config.json)\n"), said.errors)
        let stored = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json"))
        XCTAssertEqual(
            stored.preprocessing,
            Preprocessing(normalisation: Normalisation(mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5])))
        let weights = run + "/model.safetensors"
        let own = embed(weights)
        XCTAssertTrue(own.errors.contains("(as in the training of the weights)\n"), own.errors)
        XCTAssertNotEqual(own.values, embed(weights, ["--mean", "0.4"]).values)
        // The flags override it; the whole run is another one.
        let other = folder.file("other")
        assertRuns(TinyRun.distill(other, teacher: converted, epochs: 2, steps + ["--mean", "0.25", "--quiet"]))
        XCTAssertNotEqual(try TinyRun.bytes(weights), try TinyRun.bytes(other + "/model.safetensors"))
        let again = try JSONDecoder().decode(
            TrainingConfiguration.self, from: TinyRun.bytes(other + "/configuration.json"))
        XCTAssertEqual(
            again.preprocessing?.normalisation,
            Normalisation(mean: [0.25, 0.25, 0.25], deviation: [0.5, 0.5, 0.5]))
        // A resumed run keeps its own, whatever the teacher's folder says by then.
        assertRuns(TinyRun.distill(hurried, teacher: converted, epochs: 2, steps))
        try FileManager.default.removeItem(atPath: hurried + "/model.safetensors")
        let last = try XCTUnwrap(TinyRun.checkpoints(hurried).last)
        try FileManager.default.removeItem(atPath: hurried + "/" + last)
        try FileManager.default.removeItem(atPath: converted + "/preprocessor_config.json")
        assertRuns(TinyRun.distill(hurried, teacher: converted, epochs: 2, steps + ["--resume", "auto"]))
        XCTAssertEqual(try TinyRun.bytes(weights), try TinyRun.bytes(hurried + "/model.safetensors"))
        // What convert writes keeps it, and how pictures are read.
        for (form, output) in [
            ("mae", "a.safetensors"), ("mae", "a.pth"), ("timm", "b.safetensors"), ("timm", "b.pth"), ("timm", "b"),
            ("huggingface", "c"),
        ] {
            let path = folder.file(output)
            let result = assertRuns(["convert", weights, path, "--to", form])
            XCTAssertTrue(result.errors.contains("pixels: mean 0.5, std 0.5, "), result.errors)
            let written = try ModelWeights(path: path)
            XCTAssertEqual(written.preprocessing.normalisation, stored.preprocessing?.normalisation, output)
            XCTAssertEqual(embed(path, output.hasSuffix(".pth") ? ["--heads", "2"] : []).values, own.values, output)
            if form == "mae" { XCTAssertEqual(written.pictureReading, PictureReading()) }
        }
    }

    /// An encoder that is frozen goes on seeing what it was made for; one that is fine-tuned keeps mean and deviation.
    func testClassifiersOfOtherWeights() throws {
        let weights = try model(
            "weights",
            ["preprocessor_config.json": #"{"image_mean": 0.5, "image_std": 0.5, "resample": 2, "size": 32}"#])
        let images = Fixtures.path("classifiers/images")
        func preprocessing(_ command: String, _ more: [String]) throws -> Preprocessing? {
            let run = folder.file(([command] + more).joined())
            assertRuns(
                [
                    command, "--weights", weights, "--heads", "4", "--train", images, "--val", images, "--output", run,
                    "--epochs", "1", "--quiet", "--batch", "4", "--effective-batch", "4",
                ] + more)
            return try JSONDecoder().decode(
                TrainingConfiguration.self, from: TinyRun.bytes(run + "/configuration.json")
            ).preprocessing
        }
        let half = Normalisation(mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5])
        XCTAssertEqual(
            try preprocessing("probe", ["--augment", "none"]),
            Preprocessing(
                normalisation: half, interpolation: .bilinear,
                crop: CentreCrop(fraction: 1, squashes: true, roundsDown: true)))
        // Another crop of such a folder is rounded as transformers rounds it.
        XCTAssertEqual(
            try preprocessing("probe", ["--augment", "none", "--crop-fraction", "0.78"])?.crop,
            CentreCrop(fraction: 0.78, roundsDown: true))
        XCTAssertEqual(
            try preprocessing("finetune", ["--recipe", "finetune-small-data"]), Preprocessing(normalisation: half))
    }

    /// timm's folder says what its `local-dir:` needs, and no name that is not known.
    func testTimmFolder() throws {
        func object(_ path: String) throws -> [String: Any] {
            try XCTUnwrap(JSONSerialization.jsonObject(with: Data(folder.read(path))) as? [String: Any])
        }
        for (source, pool, isNamed) in [
            ("classifiers/timm", "token", true), ("classifiers/timm-mean", "avg", true),
            ("weights/timm/timm.safetensors", "token", false),
        ] {
            let name = "x\(pool)\(isNamed)"
            assertRuns([
                "convert", Fixtures.path(source), folder.file(name), "--to", "timm", "--heads", "4", "--crop-fraction",
                "0.9",
            ])
            XCTAssertEqual(
                try FileManager.default.contentsOfDirectory(atPath: folder.file(name)).sorted(),
                ["config.json", "model.safetensors"])
            let written = try object(name + "/config.json")
            XCTAssertEqual(written["global_pool"] as? String, pool)
            XCTAssertEqual(written["label_names"] as? [String], isNamed ? ["ant", "bee", "cat", "dog", "emu"] : nil)
            let arguments = try XCTUnwrap(written["model_args"] as? [String: Any])
            XCTAssertEqual(arguments["embed_dim"] as? Int, 32)
            XCTAssertEqual(arguments["num_heads"] as? Int, 4)
            XCTAssertEqual(arguments["img_size"] as? [Int], [32, 32])
            let preparation = try XCTUnwrap(written["pretrained_cfg"] as? [String: Any])
            XCTAssertEqual(preparation["crop_pct"] as? Double, 0.9)
            XCTAssertEqual(preparation["crop_mode"] as? String, "center")
            XCTAssertEqual(preparation["input_size"] as? [Int], [3, 32, 32])
            XCTAssertEqual(try ModelWeights(path: folder.file(name)).preprocessing.crop, CentreCrop(fraction: 0.9))
        }
        let unknown = Fixtures.path("weights/timm/timm.safetensors")
        assertRefused(
            ["convert", unknown, folder.file("none"), "--to", "timm"], 64,
            "--heads is needed: \(unknown) does not say the number of attention heads")
        XCTAssertFalse(folder.names().contains("none"))
        // timm's folder says its heads and the size of its images.
        let read = try ModelWeights(path: folder.file("xtokentrue"))
        XCTAssertEqual([read.encoder.heads, read.encoder.imageHeight, read.encoder.imageWidth], [4, 32, 32])
    }
}
