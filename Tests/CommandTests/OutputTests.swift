import Foundation
import TestSupport
import Weights
import XCTest

/// Where commands write: never over what they read, never what is ruined, and at paths as they are given.
final class OutputTests: XCTestCase {
    private let folder = TemporaryFolder()
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
        let reconstruct = ["reconstruct", "--weights", weights, "--input", lemon, "--output"]
        let cases = [
            (embed + [lemon, "--output", weights], weights), (embed + [lemon, "--output", link], weights),
            (embed + [lemon, "--output", lemon], lemon), (reconstruct + [weights], weights),
            (reconstruct + [lemon], lemon),
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

    /// What a name promises is what is written.
    func testEndingsThatContradictTheForm() {
        let weights = Fixtures.path("demo/teacher.safetensors")
        for (output, form, wanted) in [
            ("x.bin", "mae", ".safetensors, .pth, .pt"), ("x.onnx", "timm", ".safetensors, .pth, .pt"),
            ("x.pth", "onnx", ".onnx"),
        ] {
            assertRefused(
                ["convert", weights, folder.file(output), "--to", form], 64,
                "what --to \(form) writes ends in \(wanted)")
        }
        assertRefused(
            ["reconstruct", "--weights", weights, "--input", picture, "--output", folder.file("grid.jpg")], 64,
            "end it in .png")
        XCTAssertEqual(folder.names(), [])
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
