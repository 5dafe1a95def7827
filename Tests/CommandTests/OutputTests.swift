import Foundation
import TestSupport
import Weights
import XCTest

/// Where commands write: never over what they read, never what is ruined, and at paths as they are given.
final class OutputTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// A new run's folder that is, lies in or holds the folder of its images.
    func testRunsAmongImages() throws {
        try FileManager.default.createDirectory(atPath: folder.file("all"), withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: TinyRun.data, toPath: folder.file("all/images"))
        let data = folder.file("all/images")
        for output in ["all/images", "all/images/", "all/images/deep/run", "all", "all/./images/../images/run"] {
            assertRefused(
                TinyRun.pretrain(folder.file(output), epochs: 1, data: data), 64, "would lie among the images of")
            // What begins a run as well.
            assertRefused(
                TinyRun.pretrain(folder.file(output), epochs: 1, data: data, ["--resume", "auto"]), 64,
                "would lie among the images of")
        }
        XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("all/images/deep")))
        assertRuns(TinyRun.pretrain(folder.file("all/images-run"), epochs: 1, data: data, ["--quiet"]))
    }
    private let picture = Fixtures.path("demo/held-out/food-lemon.jpg")

    private func copy(_ path: String, _ name: String) throws -> String {
        try FileManager.default.copyItem(atPath: path, toPath: folder.file(name))
        return folder.file(name)
    }

    /// Every output that a command could be given is refused where it is an input, through a link, too, and the input
    /// is whole.
    func testNothingIsWrittenOverAnInput() throws {
        let weights = try copy(Fixtures.path("demo/teacher.safetensors"), "weights.safetensors")
        let recording = try copy(Fixtures.path("golden/linear.in.safetensors"), "recording.safetensors")
        let hugging = try copy(Fixtures.path("weights/huggingface/vit"), "hugging"),
            lemon = try copy(picture, "lemon.npy")
        let link = folder.file("link.safetensors")
        XCTAssertEqual(symlink(weights, link), 0)
        let embed = ["embed", "--weights", weights, "--data"]
        let picture = try copy(picture, "lemon.png")
        let reconstruct = ["reconstruct", "--weights", weights, "--input", picture, "--output"]
        let cases = [
            (embed + [lemon, "--output", weights], weights), (embed + [lemon, "--output", link], weights),
            (embed + [lemon, "--output", lemon], lemon), (reconstruct + [picture], picture),
            (["convert", weights, weights, "--to", "timm"], weights),
            (["convert", weights, link, "--to", "timm"], weights),
            (["convert", hugging, hugging, "--to", "huggingface", "--dtype", "f16"], hugging + "/model.safetensors"),
            (["convert", hugging, hugging + "/model.safetensors", "--to", "mae"], hugging + "/model.safetensors"),
            (["replay", recording, "--output", recording], recording),
        ]
        for (arguments, input) in cases {
            let before = try Data(contentsOf: URL(fileURLWithPath: input))
            assertRefused(arguments, 64, " is the input ", " itself: name another output")
            XCTAssertEqual(try Data(contentsOf: URL(fileURLWithPath: input)), before, "\(arguments)")
        }
    }

    /// No file that a command opened for its input is replaced, whichever it is: shards, their index, configurations,
    /// lists, archives, the teacher. --force does not change that.
    func testNothingThatWasReadIsReplaced() throws {
        let sharded = try copy(Fixtures.path("weights/huggingface/vitmae-sharded"), "sharded")
        let shard = try XCTUnwrap(
            FileManager.default.contentsOfDirectory(atPath: sharded).sorted().last {
                $0.hasSuffix("of-00003.safetensors")
            })
        let index = sharded + "/model.safetensors.index.json", first = sharded + "/" + shard
        let config = sharded + "/config.json", hard = folder.file("hard.npy")
        XCTAssertEqual(link(first, hard), 0)
        folder.write("path,label\n\(picture),lemon\n".utf8, "list.csv")
        let list = folder.file("list.csv"), lemon = try copy(picture, "lemon.png")
        let mask = try copy(Fixtures.path("demo/held-out/tools-bucket-michael-moore.png"), "mask.png")
        let recording = try copy(Fixtures.path("golden/linear.in.safetensors"), "recording.safetensors")
        let embed = ["embed", "--weights", sharded, "--data", lemon, "--output"]
        let reconstruct = ["reconstruct", "--weights", sharded, "--input", lemon, "--output"]
        var cases: [(arguments: [String], input: String)] = [
            (["convert", sharded, first, "--to", "mae"], first), (["convert", index, first, "--to", "mae"], first),
            (["convert", index, sharded, "--to", "huggingface"], config),
            (embed + [first], first), (embed + [hard], first),
            (["embed", "--weights", sharded, "--data", list, "--output", list], list),
            (reconstruct + [mask, "--mask", mask], mask), (reconstruct + [lemon], lemon),
            (["replay", recording, "--output", recording], recording),
        ]
        // The weights, timm's configuration beside them and the list of classes.
        let classifier = try copy(Fixtures.path("classifiers/timm-mean"), "classifier")
        let labels = folder.write("ant 0\nbee 1\ncat 2\ndog 3\nemu 4\n".utf8, "classes.safetensors")
        let evaluate = [
            "evaluate", "--weights", classifier, "--heads", "4", "--data", Fixtures.path("classifiers/images"),
            "--class-map", labels, "--logits",
        ]
        let link = folder.file("link.safetensors")
        XCTAssertEqual(symlink(classifier + "/config.json", link), 0)
        cases += [
            (evaluate + [classifier + "/model.safetensors"], classifier + "/model.safetensors"),
            (evaluate + [labels], labels), (evaluate + [link], classifier + "/config.json"),
        ]
        let names = folder.names(), files = try FileManager.default.contentsOfDirectory(atPath: sharded)
        for (arguments, input) in cases {
            let before = try Data(contentsOf: URL(fileURLWithPath: input))
            let forces = ["convert", "embed"].contains(arguments[0]) ? [[], ["--force"]] : [[]]
            for force in forces {
                assertRefused(arguments + force, 64, " is the input ", " itself: name another output")
                XCTAssertEqual(try Data(contentsOf: URL(fileURLWithPath: input)), before, "\(arguments + force)")
            }
        }
        XCTAssertEqual(folder.names(), names)
        XCTAssertEqual(Set(try FileManager.default.contentsOfDirectory(atPath: sharded)), Set(files))
    }

    /// A run would replace its own teacher: best.safetensors, after hours.
    func testNoRunReplacesItsWeights() throws {
        let weights = try copy(Fixtures.path("demo/teacher.safetensors"), "best.safetensors")
        let data = folder.file("classes")
        for name in ["a", "b"] {
            try FileManager.default.createDirectory(atPath: "\(data)/\(name)", withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: picture, toPath: "\(data)/\(name)/1.jpg")
        }
        assertRefused(
            [
                "finetune", "--weights", weights, "--train", data, "--val", data, "--recipe", "finetune-small-data",
                "--batch", "2", "--effective-batch", "2", "--output", folder.path,
            ], 64, "best.safetensors\" is the input ", " itself: name another output")
        XCTAssertEqual(folder.names(), ["best.safetensors", "classes"])
        XCTAssertEqual(
            try Data(contentsOf: URL(fileURLWithPath: weights)),
            try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("demo/teacher.safetensors"))))
    }

    /// `convert` and `embed` refuse what exists and name the flag that replaces it; other files of a folder stay.
    func testOutputsThatExist() throws {
        let weights = Fixtures.path("demo/teacher.safetensors")
        let embed = ["embed", "--weights", weights, "--quiet", "--data", picture, "--output"]
        let convert = ["convert", weights]
        try FileManager.default.createDirectory(atPath: folder.file("hub"), withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: folder.file("timm"), withIntermediateDirectories: true)
        for (arguments, name) in [
            (embed + [folder.file("a.npy")], "a.npy"), (embed + [folder.file("b.npy")], "b.npy.files.txt"),
            (embed + [folder.file("c.npy")], "c.npy.labels.txt"), (embed + [folder.file("d.npy")], "d.npy.json"),
            (embed + [folder.file("e.csv")], "e.csv"),
            (convert + [folder.file("f.pth"), "--to", "mae"], "f.pth"),
            (convert + [folder.file("g.onnx"), "--to", "onnx"], "g.onnx.data"),
            (convert + [folder.file("hub"), "--to", "huggingface"], "hub/preprocessor_config.json"),
            (convert + [folder.file("timm"), "--to", "timm"], "timm/config.json"),
        ] {
            let path = folder.write("old".utf8, name)
            let names = folder.names()
            assertRefused(arguments, 64, "\"\(path)\" exists: name another output, or give --force to replace it")
            XCTAssertEqual(folder.names(), names)
            XCTAssertEqual(folder.read(name), Array("old".utf8))
            assertRuns(arguments + ["--force"])
            // The list of labels of a result without labels is gone; what a model in one file does not need stays.
            if name.hasSuffix(".labels.txt") {
                XCTAssertFalse(FileManager.default.fileExists(atPath: path))
            } else if !name.hasSuffix(".data") {
                XCTAssertNotEqual(folder.read(name), Array("old".utf8), name)
            }
        }
        // What is no file is refused in its own words.
        try FileManager.default.createDirectory(atPath: folder.file("x.npy"), withIntermediateDirectories: true)
        for force in [[], ["--force"]] {
            assertRefused(embed + [folder.file("x.npy")] + force, 74, "it is a folder; name another file")
        }
    }

    /// What a name promises is what is written.
    func testEndingsThatContradictTheForm() {
        let weights = Fixtures.path("demo/teacher.safetensors")
        for (output, form, wanted) in [
            ("x.bin", "mae", ".safetensors, .pth, .pt"), ("x.onnx", "timm", ".safetensors, .pth, .pt"),
            ("x.pth", "onnx", ".onnx"), ("x.py", "mae", ".safetensors, .pth, .pt"), ("x", "onnx", ".onnx"),
            ("x.csv", "timm", ".safetensors, .pth, .pt"), (".pt", "mae", ".safetensors, .pth, .pt"),
        ] {
            assertRefused(
                ["convert", weights, folder.file(output), "--to", form], 64,
                "what --to \(form) writes ends in \(wanted)")
        }
        for name in ["grid.jpg", "x.py", "grid", "grid.png.txt", ".png"] {
            let output = folder.file(name)
            for arguments in [
                ["reconstruct", "--weights", weights, "--input", picture],
                ["preview", "--data", TinyRun.data, "--recipe", "demo"],
            ] {
                assertRefused(
                    arguments + ["--output", output], 64, "--output \(output): the grid is a PNG file; end it in .png")
            }
            assertRefused(
                ["evaluate", "--weights", weights, "--data", TinyRun.data, "--confusion", output], 64,
                "--confusion \(output): the matrix is drawn as a PNG file; end it in .png")
            assertRefused(
                ["evaluate", "--weights", weights, "--data", TinyRun.data, "--logits", output], 64,
                "--logits \(output): end it in .safetensors")
            assertRefused(
                ["replay", Fixtures.path("golden/linear.in.safetensors"), "--output", output], 64,
                "--output \(output): the results are a safetensors file; end it in .safetensors")
        }
        // What writes a folder is not given the name of a file.
        for output in ["hub.safetensors", "hub.ONNX/"].map(folder.file) {
            assertRefused(
                ["convert", weights, output, "--to", "huggingface"], 64,
                "output \(output): --to huggingface writes a folder, and that is the name of a file: leave out its ending"
            )
            assertRefused(
                TinyRun.pretrain(output), 64,
                "--output \(output): a run writes a folder, and that is the name of a file: leave out its ending")
        }
        XCTAssertEqual(folder.names(), [])
    }

    /// Pictures and recordings replace their like, and nothing else that happens to have such a name.
    func testOnlyTheSameFormIsReplaced() throws {
        let weights = Fixtures.path("demo/teacher.safetensors"),
            recording = Fixtures.path("golden/linear.in.safetensors")
        let cases = [
            (["preview", "--data", TinyRun.data, "--recipe", "demo", "--count", "1", "--output"], "x.png", "PNG"),
            (["reconstruct", "--weights", weights, "--input", picture, "--output"], "x.png", "PNG"),
            (["replay", recording, "--output"], "x.safetensors", "safetensors"),
        ]
        for (arguments, name, form) in cases {
            for text in ["print(1)\n", "12345678x"] {
                let path = folder.write(text.utf8, name)
                assertRefused(
                    arguments + [path], 64,
                    "\"\(path)\" exists and is not a \(form) file, whatever its name says: name another output, or remove"
                )
                XCTAssertEqual(folder.read(name), Array(text.utf8))
            }
            // An empty file loses nothing.
            folder.write([], name)
            assertRuns(arguments + [folder.file(name)])
            let first = folder.read(name)
            assertRuns(arguments + [folder.file(name)])
            XCTAssertEqual(folder.read(name), first)
        }
    }

    /// A picture that somebody else made is nobody's output, whatever draws it.
    func testNoPictureOfSomebodyElseIsReplaced() throws {
        let weights = Fixtures.path("demo/teacher.safetensors"),
            classifier = Fixtures.path("classifiers/timm-mean/model.safetensors")
        let photo = try copy(Fixtures.path("demo/held-out/tools-bucket-michael-moore.png"), "photo.png")
        let before = folder.read("photo.png")
        for arguments in [
            ["preview", "--data", TinyRun.data, "--recipe", "demo", "--count", "1", "--output"],
            ["reconstruct", "--weights", weights, "--input", picture, "--output"],
            [
                "evaluate", "--weights", classifier, "--heads", "4", "--data", Fixtures.path("classifiers/images"),
                "--confusion",
            ],
        ] {
            assertRefused(
                arguments + [photo], 64,
                "\"\(photo)\" exists and is a picture that dmae has not written: name another output, or remove it")
        }
        XCTAssertEqual(folder.read("photo.png"), before)
    }

    /// No command writes among the images that it reads, through whatever path.
    func testNothingIsWrittenAmongImages() throws {
        let weights = Fixtures.path("demo/teacher.safetensors"),
            classifier = Fixtures.path("classifiers/timm-mean/model.safetensors")
        let data = folder.file("images")
        try FileManager.default.copyItem(atPath: Fixtures.path("demo/images"), toPath: data)
        try FileManager.default.createSymbolicLink(atPath: folder.file("link"), withDestinationPath: data)
        let run = folder.file("run")
        assertRuns(TinyRun.pretrain(run, epochs: 1, data: data + "/geography", ["--quiet"]))
        let before = try FileManager.default.subpathsOfDirectory(atPath: data)
        for inside in ["images", "link", "images/geography", "run/../images"].map(folder.file) {
            for (arguments, name, input) in [
                (["preview", "--data", data, "--recipe", "demo", "--output"], "new.png", data),
                (["reconstruct", "--weights", weights, "--input", picture, data, "--output"], "new.png", data),
                (
                    ["evaluate", "--weights", classifier, "--heads", "4", "--data", data, "--confusion"], "new.png",
                    data
                ),
                (
                    ["evaluate", "--weights", classifier, "--heads", "4", "--data", data, "--logits"],
                    "new.safetensors", data
                ),
                (["embed", "--weights", weights, "--data", picture, data, "--force", "--output"], "new.npy", data),
                (["report", run, "--input", data, "--output"], "new.html", data),
            ] {
                assertRefused(
                    arguments + ["\(inside)/\(name)"], 64,
                    "the output \"\(inside)/\(name)\" would lie among the images of \"\(input)\": name one outside that "
                        + "folder")
            }
        }
        // The images of the run itself.
        assertRefused(
            ["report", run, "--output", data + "/geography/new.html"], 64, "would lie among the images of",
            "/geography\": name one outside that folder")
        assertRefused(
            TinyRun.pretrain(
                data + "/run", epochs: 1,
                ["--knn-train", Fixtures.path("demo/images"), "--knn-val", folder.file("link")]), 64,
            "would lie among the images of \"\(folder.file("link"))\"")
        XCTAssertEqual(try FileManager.default.subpathsOfDirectory(atPath: data), before)
        // Beside them, and where a picture alone is named.
        assertRuns(["preview", "--data", data, "--recipe", "demo", "--count", "1", "--output", data + ".png"])
        let lemon = try copy(picture, "lemon.jpg")
        assertRuns(["reconstruct", "--weights", weights, "--input", lemon, "--output", folder.file("lemon.png")])
    }

    /// Results of a replay replace results of a replay, and no weights or recording, although all are safetensors files.
    func testNoWeightsAreReplacedByResults() throws {
        let recording = Fixtures.path("golden/linear.in.safetensors"), names = folder.names()
        for source in ["demo/teacher.safetensors", "golden/no_pairs.in.safetensors"] {
            let path = try copy(Fixtures.path(source), "x.safetensors"), before = folder.read("x.safetensors")
            assertRefused(
                ["replay", recording, "--output", path], 64,
                "\"\(path)\" exists and holds other tensors than results of an earlier replay: name another output, or remove"
            )
            XCTAssertEqual(folder.read("x.safetensors"), before)
            try FileManager.default.removeItem(atPath: path)
        }
        XCTAssertEqual(folder.names(), names)
    }

    /// A file of a run is not replaced by features, whatever the flags; other files in its folder are.
    func testNoFileOfARunIsReplacedByFeatures() throws {
        let weights = Fixtures.path("demo/teacher.safetensors")
        let embed = ["embed", "--weights", weights, "--quiet", "--data", picture, "--force", "--output"]
        let run = folder.file("run"), old = try Data(contentsOf: URL(fileURLWithPath: weights))
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
        for name in [
            "model.safetensors", "best.safetensors", "checkpoint-00000005.safetensors", "features.safetensors",
        ] {
            folder.write(old, "run/\(name)")
        }
        assertRuns(embed + [run + "/best.safetensors"])
        folder.write("{}".utf8, "run/configuration.json")
        for name in ["model.safetensors", "checkpoint-00000005.safetensors"] {
            assertRefused(
                embed + ["\(run)/\(name)"], 64,
                "\(name)\" is a file of a run and would be replaced: name another output")
            XCTAssertEqual(folder.read("run/\(name)"), Array(old))
        }
        assertRuns(embed + [run + "/features.safetensors"])
    }

    /// Weights that hold NaN give no features and no picture.
    func testWhatIsNotFiniteIsNotWritten() throws {
        let file = try SafeTensorsFile(path: Fixtures.path("demo/teacher.safetensors"))
        var values = try file.names.map { try file.floats($0) }
        for name in ["blocks.0.mlp.fc2.bias", "decoder_pred.bias"] {
            values[try XCTUnwrap(file.names.firstIndex(of: name))][0] = .nan
        }
        let ruined = folder.file("ruined.safetensors")
        try withBuffers(values) { buffers in
            var writer = SafeTensorsWriter(metadata: file.metadata)
            for (entry, buffer) in zip(file.entries, buffers) {
                writer.add(entry.name, shape: entry.shape, floats: buffer)
            }
            try writer.write(to: ruined)
        }
        assertRefused(
            ["embed", "--weights", ruined, "--data", picture, "--output", folder.file("x.npy")], 1,
            "features are not finite", picture)
        assertRefused(
            ["reconstruct", "--weights", ruined, "--input", picture, "--output", folder.file("x.png")], 1,
            "is not finite", picture)
        XCTAssertEqual(folder.names(), ["ruined.safetensors"])
    }

    /// A shell leaves the ~ of --output=~/run alone, and a path may begin with one: it is no home of anybody's.
    func testPathsThatBeginWithATilde() throws {
        func dmae(_ command: String) {
            let result = Command.run(
                ["-c", "cd '\(folder.path)' && exec '\(Command.binary)' \(command)"], executable: "/bin/sh")
            XCTAssertEqual(result.end, .exited(0), result.description)
        }
        try FileManager.default.copyItem(
            atPath: Fixtures.path("weights/huggingface/vit"), toPath: folder.file("~nobody"))
        dmae("inspect '~nobody'")
        dmae("embed --weights '~nobody' --data '\(picture)' --output '~features.npy'")
        XCTAssertTrue(folder.names().contains("~features.npy"))
        dmae(TinyRun.pretrain("'~run'", epochs: 1).joined(separator: " "))
        XCTAssertTrue(
            try FileManager.default.contentsOfDirectory(atPath: folder.file("~run")).contains("model.safetensors"))
    }
}
