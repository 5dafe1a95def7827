import Foundation
import TestSupport
import Weights
import XCTest

/// `dmae convert`, and `dmae inspect --compare` of what it writes.
final class ConvertTests: XCTestCase {
    private let folder = TemporaryFolder()

    private func fixture(_ name: String) -> String { Fixtures.path("weights/" + name) }

    @discardableResult
    private func convert(_ input: String, _ output: String, _ form: String, _ more: String...) -> Command.Result {
        assertRuns(["convert", input, output, "--to", form, "--force"] + more)
    }

    private func assertSameTensors(_ a: String, _ b: String, _ what: String, line: UInt = #line) throws {
        let (first, second) = (try WeightFiles.open(a), try WeightFiles.open(b))
        XCTAssertEqual(Set(first.names), Set(second.names), what, line: line)
        for entry in first.entries {
            XCTAssertEqual(second[entry.name], entry, "\(what): \(entry.name)", line: line)
            XCTAssertEqual(
                try first.withBytes(entry.name) { Array($0) }, try second.withBytes(entry.name) { Array($0) },
                "\(what): \(entry.name)", line: line)
        }
    }

    /// A folder that holds a run is not the place for another model, and a name that is not UTF-8 not one for any.
    func testRefusesPlaces() throws {
        let run = folder.file("run")
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        for name in ["log.jsonl", "model.safetensors"] { folder.write([1], "run/" + name) }
        assertRefused(
            Command.run(["convert", Fixtures.path("demo/teacher.safetensors"), run, "--to", "huggingface"]), 64,
            ["holds a run", "name another folder"])
        XCTAssertEqual(FileManager.default.contents(atPath: run + "/model.safetensors"), Data([1]))
        let named = Command.run(
            [
                "-c", #"exec "$0" convert "$1" "$2/$(printf 'x\377').safetensors" --to mae"#, Command.binary,
                Fixtures.path("demo/teacher.safetensors"), run,
            ],
            executable: "/bin/sh")
        assertRefused(named, 64, ["is not valid UTF-8: rename the file"])
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: run).count, 2)
    }

    /// From MAE's names through every other form and back: the same file, byte for byte; and what was read at first,
    /// tensor for tensor.
    func testRoundTrips() throws {
        let own = folder.file("own.safetensors"), first = folder.file("first.safetensors")
        convert(fixture("mae/mae.safetensors"), first, "mae", "--heads", "4", "--decoder-heads", "4")
        // Hugging Face's folder says how pictures are prepared, which the first file left open; from then on it is kept.
        convert(first, folder.file("start"), "huggingface")
        convert(folder.file("start"), own, "mae")
        try assertSameTensors(first, own, "by way of Hugging Face")
        try assertSameTensors(own, fixture("mae/mae.safetensors"), "MAE's own names")
        convert(own, folder.file("hugging"), "huggingface")
        convert(folder.file("hugging"), folder.file("back.safetensors"), "mae")
        XCTAssertEqual(folder.read("back.safetensors"), folder.read("own.safetensors"))
        convert(own, folder.file("own.pth"), "mae")
        convert(folder.file("own.pth"), folder.file("back.safetensors"), "mae", "--heads", "4", "--decoder-heads", "4")
        XCTAssertEqual(folder.read("back.safetensors"), folder.read("own.safetensors"))
        // An encoder by way of timm.
        convert(own, folder.file("encoder.safetensors"), "mae", "--encoder-only")
        convert(own, folder.file("timm.safetensors"), "timm")
        convert(folder.file("timm.safetensors"), folder.file("back.safetensors"), "mae")
        XCTAssertEqual(folder.read("back.safetensors"), folder.read("encoder.safetensors"))
        convert(folder.file("encoder.safetensors"), folder.file("vit"), "huggingface")
        convert(folder.file("vit"), folder.file("back.safetensors"), "mae")
        XCTAssertEqual(folder.read("back.safetensors"), folder.read("encoder.safetensors"))
        // Heads that nobody tells stay unknown.
        convert(fixture("mae/mae.safetensors"), folder.file("untold.safetensors"), "mae")
        convert(folder.file("untold.safetensors"), folder.file("untold.pth"), "mae")
        convert(folder.file("untold.pth"), folder.file("back.safetensors"), "mae")
        XCTAssertEqual(folder.read("back.safetensors"), folder.read("untold.safetensors"))
        // What Hugging Face's own tools wrote, in the published names.
        for name in ["vitmae-published", "vit-classifier"] {
            convert(fixture("huggingface/" + name), folder.file("x.safetensors"), "mae")
            convert(folder.file("x.safetensors"), folder.file(name), "huggingface")
            try assertSameTensors(folder.file(name), fixture("huggingface/" + name), name)
        }
        // The same model in names of another generation, and in shards.
        for name in ["vitmae", "vitmae-sharded"] {
            convert(fixture("huggingface/" + name), folder.file(name + ".safetensors"), "mae")
        }
        XCTAssertEqual(folder.read("vitmae.safetensors"), folder.read("vitmae-sharded.safetensors"))
        convert(fixture("mmpretrain/mmpretrain.pth"), folder.file("mm.safetensors"), "mae")
        try assertSameTensors(folder.file("mm.safetensors"), folder.file("vitmae.safetensors"), "mmpretrain")
    }

    /// The folder's files, key for key, for the three classes of transformers.
    func testHuggingFaceFolder() throws {
        func object(_ path: String) throws -> [String: Any] {
            try XCTUnwrap(JSONSerialization.jsonObject(with: Data(folder.read(path))) as? [String: Any])
        }
        convert(fixture("huggingface/vitmae"), folder.file("mae"), "huggingface", "--dtype", "bf16")
        XCTAssertEqual(
            try FileManager.default.contentsOfDirectory(atPath: folder.file("mae")).sorted(),
            ["config.json", "model.safetensors", "preprocessor_config.json"])
        var expected: [String: Any] = [
            "architectures": ["ViTMAEForPreTraining"], "attention_probs_dropout_prob": 0, "decoder_hidden_size": 16,
            "decoder_intermediate_size": 64, "decoder_num_attention_heads": 4, "decoder_num_hidden_layers": 2,
            "dtype": "bfloat16",
            "hidden_act": "gelu", "hidden_dropout_prob": 0, "hidden_size": 32, "image_size": 32,
            "initializer_range": 0.02,
            "intermediate_size": 128, "layer_norm_eps": 1e-6, "mask_ratio": 0.75, "model_type": "vit_mae",
            "norm_pix_loss": false,
            "num_attention_heads": 4, "num_channels": 3, "num_hidden_layers": 3, "patch_size": 8, "qkv_bias": true,
        ]
        XCTAssertEqual(try object("mae/config.json") as NSDictionary, expected as NSDictionary)
        let preprocessor = try object("mae/preprocessor_config.json")
        // ViTImageProcessor stretches.
        XCTAssertEqual(preprocessor["image_processor_type"] as? String, "BitImageProcessor")
        XCTAssertEqual(preprocessor["size"] as? [String: Int], ["shortest_edge": 36])
        XCTAssertEqual(preprocessor["crop_size"] as? [String: Int], ["height": 32, "width": 32])
        XCTAssertEqual(preprocessor["do_center_crop"] as? Bool, true)
        XCTAssertEqual(preprocessor["image_mean"] as? [Double], [0.485, 0.456, 0.406])
        XCTAssertEqual(preprocessor["resample"] as? Int, 3)
        let file = try SafeTensorsFile(path: folder.file("mae/model.safetensors"))
        XCTAssertEqual(file.metadata, ["format": "pt"])
        XCTAssertEqual(Set(file.entries.map(\.type)), [.bf16])

        for name in ["x.gguf", "x.h5", "x.npz"] {
            let input = fixture("huggingface/vitmae")
            assertRefused(["convert", input, folder.file(name), "--to", "timm"], 64, "ends in .safetensors, .pth, .pt")
            assertRefused(
                ["convert", input, folder.file(name), "--to", "huggingface"], 64,
                "writes a folder, and that is the name of")
        }
        let quiet = assertRuns([
            "convert", fixture("huggingface/vitmae"), folder.file("quiet"), "--to", "huggingface", "-q",
        ])
        XCTAssertEqual(quiet.errors, "")
        let alone = convert(fixture("huggingface/vitmae"), folder.file("vit"), "huggingface", "--encoder-only")
        XCTAssertTrue(alone.errors.contains("left out: the decoder (32 tensors)"), alone.errors)
        XCTAssertTrue(
            alone.errors.contains("by AutoModel.from_pretrained(…, add_pooling_layer=False), a ViTModel"), alone.errors)
        for key in expected.keys where key.hasPrefix("decoder_") { expected[key] = nil }
        (expected["mask_ratio"], expected["norm_pix_loss"]) = (nil, nil)
        (expected["architectures"], expected["model_type"], expected["dtype"]) = (["ViTModel"], "vit", "float16")
        expected["encoder_stride"] = 8
        XCTAssertEqual(try object("vit/config.json") as NSDictionary, expected as NSDictionary)
        XCTAssertFalse(
            try SafeTensorsFile(path: folder.file("vit/model.safetensors")).names.contains { $0.hasPrefix("vit.") })

        let classifier = convert(
            fixture("timm/timm.safetensors"), folder.file("classifier"), "huggingface", "--heads", "4")
        for said in [alone, classifier] {
            XCTAssertFalse(said.errors.contains("stretched"), said.errors)
            XCTAssertTrue(
                said.errors.contains(
                    "where the margin of a crop is odd, transformers begins it at the lower row or column"),
                said.errors)
        }
        XCTAssertTrue(
            alone.errors.contains("last_hidden_state is that of `dmae embed` with this folder: "), alone.errors)
        // What was read from such a folder is cropped as transformers crops; and without a margin there is no corner.
        let again = convert(folder.file("classifier"), folder.file("again"), "huggingface")
        let squashed = convert(
            fixture("timm/timm.safetensors"), folder.file("squashed"), "huggingface", "--heads", "4", "--crop-fraction",
            "squash")
        for said in [again, squashed] { XCTAssertFalse(said.errors.contains("margin of a crop"), said.errors) }
        // No processor of transformers crops another shape than a square in the middle.
        let wide = convert(
            Fixtures.path("classifiers/transformers"), folder.file("wide"), "huggingface")
        XCTAssertTrue(
            wide.errors.contains(
                "pictures of another shape than 24×40 are stretched by the processor of preprocessor_config.json; dmae "
                    + "crops the centre (resize of the short side, then crop): for the logits of `dmae predict` prepare "
                    + "them so\n"), wide.errors)
        XCTAssertEqual(
            try object("wide/preprocessor_config.json")["size"] as? [String: Int], ["height": 24, "width": 40])
        let labels = (0..<10).map { "LABEL_\($0)" }
        expected["architectures"] = ["ViTForImageClassification"]
        expected["id2label"] = Dictionary(uniqueKeysWithValues: labels.enumerated().map { (String($0), $1) })
        expected["label2id"] = Dictionary(uniqueKeysWithValues: labels.enumerated().map { ($1, $0) })
        XCTAssertEqual(try object("classifier/config.json") as NSDictionary, expected as NSDictionary)
    }

    /// How timm loads what is written for it; Tests/Interop runs these lines.
    func testTimmAdvice() {
        for (source, pool) in [("timm", ""), ("timm-mean", ", global_pool=\"avg\"")] {
            let input = Fixtures.path("classifiers/\(source)")
            let file = convert(input, folder.file("\(source).safetensors"), "timm")
            XCTAssertTrue(
                file.errors.hasSuffix(
                    "\ntimm loads it by timm.create_model(\"vit_base_patch16_224\", img_size=32, patch_size=8, embed_dim=32, "
                        + "depth=2, num_heads=4, num_classes=5\(pool), pretrained_cfg_overlay=dict(input_size=(3, 32, 32), "
                        + "mean=(0.485, 0.456, 0.406,), std=(0.229, 0.224, 0.225,), crop_pct=0.875, interpolation=\"bicubic\"), checkpoint_path=\"…\")\n"
                ), file.errors)
            let made = convert(input, folder.file(source), "timm")
            XCTAssertTrue(
                made.errors.hasSuffix(
                    "\ntimm loads it by timm.create_model(\"local-dir:…\", pretrained=True), with the path of the folder\n"
                ),
                made.errors)
        }
    }

    /// What was found and what is left out is said, and the archive is one that PyTorch's rules allow.
    func testWhatIsSaid() throws {
        let checkpoint = fixture("mae/checkpoint.pth"), output = folder.file("x.pth")
        let result = convert(checkpoint, output, "timm")
        XCTAssertEqual(
            result.errors.split(separator: "\n").map(String.init),
            [
                "\(checkpoint): PyTorch archive, MAE names under model; ViT of width 32, 3 blocks, heads unknown, "
                    + "patches of 8 pixels, images "
                    + "of 32×32, 3 channels; decoder of width 16, 2 blocks, heads unknown",
                "left out: the decoder (32 tensors)",
                "left out: 9 tensors beside the model, such as an optimiser's state",
                "timm loads it by timm.create_model(\"vit_base_patch16_224\", img_size=32, patch_size=8, embed_dim=32, "
                    + "depth=3, num_heads=…, num_classes=0, pretrained_cfg_overlay=dict(input_size=(3, 32, 32), "
                    + "mean=(0.485, 0.456, 0.406,), std=(0.229, 0.224, 0.225,), crop_pct=0.875, interpolation=\"bicubic\"), checkpoint_path=\"…\")",
            ])
        XCTAssertEqual(result.output, "weights  \(output)  42 tensors, 179.7 kB\n")
        let file = try WeightFiles.open(output)
        XCTAssertEqual(file.form, "PyTorch archive")
        XCTAssertEqual(file.names[0], "model.cls_token")
        let distilled = convert(
            fixture("dmae/distilled.pth"), folder.file("hugging"), "huggingface", "--heads", "4", "--decoder-heads", "4"
        )
        XCTAssertTrue(distilled.errors.contains("left out: the projection heads (2 tensors)"), distilled.errors)
    }

    /// Rounding, and the refusal of what would become infinite.
    func testTypes() throws {
        let source = fixture("mae/mae.safetensors")
        for (name, type, bits) in [("f32", TensorType.f32, 24), ("f16", .f16, 11), ("bf16", .bf16, 8)] {
            let output = folder.file(name + ".safetensors")
            convert(source, output, "mae", "--dtype", name)
            let (first, second) = (try SafeTensorsFile(path: source), try SafeTensorsFile(path: output))
            XCTAssertEqual(Set(second.entries.map(\.type)), [type])
            for tensor in first.names {
                for (a, b) in zip(try first.floats(tensor), try second.floats(tensor)) {
                    let bound = max(
                        a.magnitude * Float(sign: .plus, exponent: -bits, significand: 1), type == .f16 ? 0x1p-25 : 0)
                    XCTAssertLessThanOrEqual((a - b).magnitude, type == .f32 ? 0 : bound, tensor)
                }
            }
        }
        XCTAssertEqual(try SafeTensorsFile(path: folder.file("f32.safetensors")).names.count, 74)
        let file = try SafeTensorsFile(path: source)
        var values = try file.names.map { try file.floats($0) }
        values[try XCTUnwrap(file.names.firstIndex(of: "blocks.1.mlp.fc2.bias"))][3] = -65520
        try withBuffers(values) { buffers in
            var writer = SafeTensorsWriter()
            for (entry, buffer) in zip(file.entries, buffers) {
                writer.add(entry.name, shape: entry.shape, floats: buffer)
            }
            try writer.write(to: folder.file("large.safetensors"))
        }
        let output = folder.file("none.safetensors")
        assertRefused(
            ["convert", folder.file("large.safetensors"), output, "--to", "mae", "--dtype", "f16"], 65,
            "\"blocks.1.mlp.fc2.bias\"",
            "large.safetensors", "--dtype bf16 or f32")
        convert(folder.file("large.safetensors"), folder.file("fits.safetensors"), "mae", "--dtype", "bf16")
        XCTAssertFalse(folder.names().contains { $0.hasPrefix("none") })
    }

    /// Images that are not square: what an archive does not say of their size --image-size does, and the file keeps it.
    func testImageSize() throws {
        assertRuns(TinyRun.pretrain(folder.file("run"), epochs: 1, ["--quiet", "--image-size", "32x16"]))
        let told = folder.file("run/model.safetensors"), untold = folder.file("untold.pth"),
            size = ["--heads", "2", "--image-size", "32x16"]
        convert(told, untold, "mae")
        convert(told, folder.file("told.onnx"), "onnx")
        convert(told, folder.file("told"), "huggingface", "--encoder-only")
        func run(_ input: String, _ output: String, _ form: String, _ more: [String]) -> [String] {
            ["convert", input, folder.file(output), "--to", form] + more
        }
        assertRuns(run(untold, "untold.onnx", "onnx", size))
        XCTAssertEqual(folder.read("untold.onnx"), folder.read("told.onnx"))
        assertRuns(run(untold, "untold", "huggingface", size + ["--encoder-only"]))
        for name in ["config.json", "preprocessor_config.json", "model.safetensors"] {
            XCTAssertEqual(folder.read("untold/" + name), folder.read("told/" + name), name)
        }
        assertRuns(run(untold, "kept.safetensors", "mae", size))
        convert(folder.file("kept.safetensors"), folder.file("kept.onnx"), "onnx")
        XCTAssertEqual(folder.read("kept.onnx"), folder.read("told.onnx"))
        let names = folder.names()
        for (form, more) in [("onnx", []), ("huggingface", ["--encoder-only"])] {
            assertRefused(
                run(untold, form == "onnx" ? "x.onnx" : "x", form, ["--heads", "2"] + more), 64,
                "--image-size is needed: \(untold) does not say the image size", "its patches form no square")
            assertRefused(
                run(untold, form == "onnx" ? "x.onnx" : "x", form, ["--heads", "2", "--image-size", "32"] + more), 64,
                "makes 16 patches of 8 pixels",
                "\(untold) has positions for 8")
            assertRefused(
                run(told, form == "onnx" ? "x.onnx" : "x", form, ["--image-size", "16x32"] + more), 64,
                "--image-size 16x32 contradicts \(told)",
                "32×16 pixels")
        }
        assertRefused(
            run(told, "x.safetensors", "mae", ["--heads", "4"]), 64,
            "--heads 4 contradicts \(told), which says that it has 2")
        assertRefused(
            run(told, "x.safetensors", "mae", ["--decoder-heads", "4"]), 64, "--decoder-heads 4 contradicts \(told)")
        assertRefused(
            run(told, "x.pth", "mae", ["--image-size", "32x16"]), 64,
            "--image-size has no effect: a PyTorch archive has no place for sizes")
        XCTAssertEqual(folder.names(), names)
    }

    func testRefusals() throws {
        let mae = fixture("mae/mae.safetensors"), output = folder.file("out")
        func refused(_ code: Int32, _ words: String..., arguments: String..., line: UInt = #line) {
            assertRefused(Command.run(["convert"] + arguments), code, words, line: line)
        }
        refused(64, "--heads is needed", "mae.safetensors", arguments: mae, output, "--to", "huggingface")
        refused(64, "--decoder-heads is needed", arguments: mae, output, "--to", "huggingface", "--heads", "4")
        refused(
            64, "--heads must be at least 1", arguments: mae, output + ".safetensors", "--to", "mae", "--heads", "0")
        refused(
            64, "--heads 5 does not divide the encoder's width of 32", arguments: mae, output + ".safetensors", "--to",
            "mae", "--heads",
            "5")
        refused(
            64, "--decoder-heads 5 does not divide the decoder's width of 16", arguments: mae, output + ".safetensors",
            "--to", "mae",
            "--decoder-heads", "5")
        refused(
            64, "5 heads do not divide the width 32", arguments: mae, output + ".onnx", "--to", "onnx", "--heads", "5")
        for form in ["timm", "onnx"] {
            refused(
                64, "--decoder-heads has no effect", "--to \(form)", arguments: mae,
                "\(output).\(form == "onnx" ? form : "pth")", "--to", form,
                "--decoder-heads", "4")
        }
        refused(
            64, "--decoder-heads has no effect", "--encoder-only", arguments: mae, output + ".safetensors", "--to",
            "mae",
            "--decoder-heads", "4",
            "--encoder-only")
        refused(
            64, "--decoder-heads has no effect", "holds no decoder", arguments: fixture("huggingface/vit"),
            output + ".safetensors",
            "--to", "mae",
            "--decoder-heads", "4")
        refused(
            64, "--heads has no effect: a PyTorch archive", arguments: mae, folder.file("x.pth"), "--to", "timm",
            "--heads", "4")
        refused(
            64, "--heads and --decoder-heads have no effect", arguments: mae, folder.file("x.pt"), "--to", "mae",
            "--heads", "4",
            "--decoder-heads", "4")
        refused(64, "keras", arguments: mae, output, "--to", "keras")
        refused(64, "int8", arguments: mae, output + ".safetensors", "--to", "mae", "--dtype", "int8")
        refused(64, "Missing expected argument '--to <form>'", arguments: mae, output)
        refused(
            65, "finetuned.pth", "fc_norm instead of norm", "--to timm", arguments: fixture("mae/finetuned.pth"),
            output, "--to", "huggingface")
        // A classifier gets the way to one that fits.
        refused(
            65, "fine-tune with --pool class, or use --to timm or --to onnx",
            arguments: Fixtures.path("classifiers/timm-mean/model.safetensors"), output, "--to", "huggingface")
        refused(
            65, "expected.safetensors\" holds no Vision Transformer", arguments: fixture("expected.safetensors"),
            output + ".safetensors", "--to", "mae")
        refused(74, "gone", arguments: folder.file("gone"), output + ".safetensors", "--to", "mae")
        refused(74, "nowhere", arguments: mae, folder.file("nowhere/x.safetensors"), "--to", "mae")
        folder.write("x".utf8, "file")
        refused(
            74, "something else has that name", arguments: fixture("huggingface/vit"), folder.file("file"), "--to",
            "huggingface")
        XCTAssertEqual(folder.names(), ["file"])
    }

    /// What fails after it has begun leaves the model that was there as it was, in files that belong together.
    func testAFailureLeavesWhatWasThere() throws {
        convert(fixture("huggingface/vitmae"), folder.file("hugging"), "huggingface")
        let names = ["config.json", "preprocessor_config.json", "model.safetensors"]
        let before = names.map { folder.read("hugging/" + $0) }
        let file = try SafeTensorsFile(path: fixture("mae/mae.safetensors"))
        var values = try file.names.map { try file.floats($0) }
        values[0][0] = 1e30
        try withBuffers(values) { buffers in
            var writer = SafeTensorsWriter()
            for (entry, buffer) in zip(file.entries, buffers) {
                writer.add(entry.name, shape: entry.shape, floats: buffer)
            }
            try writer.write(to: folder.file("huge.safetensors"))
        }
        let arguments = [
            "convert", folder.file("huge.safetensors"), folder.file("hugging"), "--to", "huggingface", "--heads", "4",
            "--force",
        ]
        assertRefused(arguments + ["--encoder-only", "--dtype", "f16"], 65, "huge.safetensors")
        XCTAssertEqual(names.map { folder.read("hugging/" + $0) }, before)
        XCTAssertEqual(
            try FileManager.default.contentsOfDirectory(atPath: folder.file("hugging")).sorted(), names.sorted())
    }

    /// The other tensors' values are compared as they are; names of two tools, as MAE's.
    func testCompare() throws {
        let mae = fixture("mae/mae.safetensors")
        let same = assertRuns(["inspect", mae, "--compare", mae])
        XCTAssertEqual(same.output, "tensors: 74 identical, 0 different, 0 of another shape, 0 in one file only\n")
        convert(mae, folder.file("vit"), "huggingface", "--heads", "4", "--encoder-only")
        let other = assertRuns(["inspect", mae, "--compare", folder.file("vit")]).output
        XCTAssertTrue(other.hasPrefix("compared under MAE's names\nonly in \(mae): decoder_"), other)
        XCTAssertTrue(
            other.hasSuffix("tensors: 42 identical, 0 different, 0 of another shape, 32 in one file only\n"), other)

        let file = try SafeTensorsFile(path: mae)
        var values = try file.names.map { try file.floats($0) }
        let place = try XCTUnwrap(file.names.firstIndex(of: "norm.weight"))
        let largest = values[place].map(\.magnitude).max()!
        values[place][0] += 0.5
        values[place][7] -= 0.25
        try withBuffers(values) { buffers in
            var writer = SafeTensorsWriter()
            for (entry, buffer) in zip(file.entries, buffers) where entry.name != "cls_token" {
                writer.add(entry.name, shape: entry.name == "mask_token" ? [16] : entry.shape, floats: buffer)
            }
            writer.add("extra", shape: [1], floats: UnsafeBufferPointer(rebasing: buffers[0][..<1]))
            try writer.write(to: folder.file("changed.safetensors"))
        }
        let changed = folder.file("changed.safetensors")
        struct Report: Decodable {
            struct Shapes: Decodable {
                let name: String
                let shape, other_shape: [Int]
            }
            struct Difference: Decodable {
                let name: String
                let elements: Int
                let maximum, relative: Double
            }
            let names: String
            let only_in_file, only_in_other: [String]
            let shapes: [Shapes]
            let differences: [Difference]
            let identical: Int
        }
        let json = assertRuns(["inspect", mae, "--compare", changed, "--json"]).output
        let report = try JSONDecoder().decode(Report.self, from: Data(json.utf8))
        XCTAssertEqual(
            [report.names, report.only_in_file[0], report.only_in_other[0]], ["file", "cls_token", "extra"])
        XCTAssertEqual([report.only_in_file.count, report.only_in_other.count, report.identical], [1, 1, 71])
        XCTAssertEqual(report.shapes.map(\.name), ["mask_token"])
        XCTAssertEqual(report.shapes.map(\.shape) + report.shapes.map(\.other_shape), [[1, 1, 16], [16]])
        XCTAssertEqual(report.differences.map(\.name), ["norm.weight"])
        XCTAssertEqual(report.differences[0].elements, 2)
        // The sum was rounded to a float near 1.5.
        XCTAssertEqual(report.differences[0].maximum, 0.5, accuracy: Double(Float(1).ulp))
        XCTAssertEqual(report.differences[0].relative, 0.5 / Double(largest), accuracy: 1e-6)
        let text = assertRuns(["inspect", mae, "--compare", changed]).output
        for words in [
            "only in \(mae): cls_token", "only in \(changed): extra", "shapes differ: mask_token [1, 1, 16] and [16]",
            "norm.weight ",
        ] {
            XCTAssertTrue(text.contains(words), text)
        }
        XCTAssertTrue(
            text.hasSuffix("tensors: 71 identical, 1 different, 1 of another shape, 2 in one file only\n"), text)
    }

    /// A file of 200 MB in a process that never holds a third of it.
    func testMemory() throws {
        let widths = 1024, depth = 4
        let source = folder.file("large.safetensors")
        let zeros = UnsafeMutableBufferPointer<Float>.allocate(capacity: 4 * widths * widths)
        zeros.initialize(repeating: 0.5)
        defer { zeros.deallocate() }
        var writer = SafeTensorsWriter()
        func add(_ name: String, _ shape: [Int]) {
            writer.add(name, shape: shape, floats: UnsafeBufferPointer(rebasing: zeros[..<shape.reduce(1, *)]))
        }
        func linear(_ name: String, _ inputs: Int, _ outputs: Int) {
            add(name + ".weight", [outputs, inputs])
            add(name + ".bias", [outputs])
        }
        add("cls_token", [1, 1, widths])
        add("pos_embed", [1, 197, widths])
        add("patch_embed.proj.weight", [widths, 3, 16, 16])
        add("patch_embed.proj.bias", [widths])
        for block in (0..<depth).map({ "blocks.\($0)." }) {
            for norm in ["norm1", "norm2"] { for end in [".weight", ".bias"] { add(block + norm + end, [widths]) } }
            linear(block + "attn.qkv", widths, 3 * widths)
            linear(block + "attn.proj", widths, widths)
            linear(block + "mlp.fc1", widths, 4 * widths)
            linear(block + "mlp.fc2", 4 * widths, widths)
        }
        for end in [".weight", ".bias"] { add("norm" + end, [widths]) }
        try writer.write(to: source)
        let size = try SafeTensorsFile(path: source).byteCount
        XCTAssertGreaterThan(size, 200_000_000)
        convert(source, folder.file("large.pth"), "mae")
        for (input, output, more) in [
            (source, "hugging", ["huggingface"]), (source, "half.pth", ["timm", "--dtype", "f16"]),
            (folder.file("large.pth"), "x.safetensors", ["mae"]),
            (folder.file("hugging"), "joined.safetensors", ["mae"]),
        ] {
            let (result, peak) = Command.measure(["convert", input, folder.file(output), "--to"] + more)
            XCTAssertEqual(result.end, .exited(0), result.description)
            XCTAssertLessThan(peak, size / 3, "\(more)")
        }
        // Their metadata differ: Hugging Face's folder says how pictures are prepared.
        let data = try ["x", "joined"].map { name in
            let path = "\(name).safetensors"
            return folder.read(path).suffix(try SafeTensorsFile(path: folder.file(path)).dataByteCount)
        }
        XCTAssertTrue(data[0].elementsEqual(data[1]), "the same tensors")
    }
}
