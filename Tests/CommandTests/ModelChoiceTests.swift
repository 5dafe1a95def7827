import Foundation
import Models
import TestSupport
import Weights
import XCTest

/// Which model of a file a command takes, and what it says of models that are not run.
final class ModelChoiceTests: XCTestCase {
    private let folder = TemporaryFolder()
    private let pictures = Fixtures.path("weights/images")

    /// Writes the tensors of `models`, timm's fixture behind each prefix; the final norm is `scale` times its own.
    private func write(
        _ name: String, _ models: [(prefix: String, scale: Float)], without: (String) -> Bool = { _ in false },
        further: [(String, [Int])] = []
    ) throws -> String {
        let file = try SafeTensorsFile(path: Fixtures.path("weights/timm/timm.safetensors"))
        var writer = SafeTensorsWriter()
        let zeros = [Float](repeating: 0, count: 1 << 12)
        try zeros.withUnsafeBufferPointer { zeros in
            for (prefix, scale) in models {
                for entry in file.entries where !entry.name.hasPrefix("head") && !without(entry.name) {
                    let factor = entry.name == "norm.weight" ? scale : 1
                    writer.add(
                        TensorSource(name: prefix + entry.name, type: .f32, shape: entry.shape) { write in
                            try file.floats(entry.name).map { factor * $0 }.withUnsafeBytes { try write($0) }
                        })
                }
            }
            for (name, shape) in further {
                writer.add(
                    name, shape: shape, floats: UnsafeBufferPointer(rebasing: zeros[..<shape.reduce(1, *)]))
            }
            try writer.write(to: folder.file(name))
        }
        return folder.file(name)
    }

    private func features(_ weights: String, _ more: [String] = []) throws -> (values: [UInt8], note: String) {
        let output = folder.file("features.npy")
        try? FileManager.default.removeItem(atPath: output)
        let result = assertRuns(
            ["embed", "--weights", weights, "--data", pictures, "--output", output, "--heads", "4", "--force"] + more)
        return (folder.read("features.npy"), result.errors)
    }

    /// Every command that reads weights takes the model that --prefix names, and says what it did not take.
    func testPrefixChooses() throws {
        let trained = try features(write("trained.safetensors", [("", 1)])).values
        let average = try features(write("average.safetensors", [("", 2)])).values
        XCTAssertNotEqual(trained, average)
        let path = try write(
            "dino.pth", [("student.module.backbone.", 1), ("teacher.backbone.", 2)],
            further: [("teacher.head.mlp.0.weight", [4, 4])])
        let chosen = try features(path)
        XCTAssertEqual(chosen.values, average)
        XCTAssertTrue(
            chosen.note.contains("MAE names under teacher.backbone, not those under student.module.backbone"),
            chosen.note)
        for prefix in ["student", "student.module.backbone.", "student.backbone"] {
            let other = try features(path, ["--prefix", prefix])
            XCTAssertEqual(other.values, trained, prefix)
            XCTAssertTrue(other.note.contains("not those under teacher.backbone"), other.note)
        }
        let momentum = try write("moco.safetensors", [("base_encoder.", 1), ("momentum_encoder.", 2)])
        XCTAssertEqual(try features(momentum).values, trained)
        XCTAssertEqual(try features(momentum, ["--prefix", "momentum_encoder"]).values, average)

        let text = assertRuns(["inspect", path, "--prefix", "student"]).output
        XCTAssertTrue(text.contains("names: MAE names under student.module.backbone, not those under teacher"), text)
        let json = assertRuns(["inspect", path, "--json"]).output
        XCTAssertTrue(json.contains("\"other_wrappers\":[\"student.module.backbone.\"]"), json)
        let converted = folder.file("converted.safetensors")
        let said = assertRuns(["convert", path, converted, "--to", "timm", "--prefix", "student"])
        XCTAssertTrue(said.errors.contains("not those under teacher.backbone"), said.errors)
        XCTAssertEqual(try features(converted).values, trained)
        for command in [
            ["embed", "--data", pictures, "--output", folder.file("x.npy"), "--weights", path],
            ["convert", path, folder.file("x.safetensors"), "--to", "timm"], ["inspect", path],
            ["evaluate", "--data", pictures, "--weights", path], ["predict", pictures, "--weights", path],
            ["reconstruct", "--weights", path, "--input", pictures + "/0.png", "--output", folder.file("x.png")],
        ] {
            assertRefused(
                command + ["--prefix", "nobody"], 65, "behind \"nobody\", but behind", "\"student.module.backbone\"",
                "choose that by --prefix")
        }
        assertRefused(
            ["distill", "--teacher", path, "--data", pictures, "--dry-run", "--teacher-prefix", "nobody"], 65,
            "choose that by --teacher-prefix")
        let plan = assertRuns(
            [
                "distill", "--teacher", path, "--data", pictures, "--dry-run", "--teacher-prefix", "student",
                "--student",
                "vit-tiny", "--patch-size", "8", "--image-size", "32", "--teacher-heads", "4", "--align", "2:2",
                "--batch", "2", "--effective-batch", "2", "--warmup-epochs", "1",
            ])
        XCTAssertTrue(plan.errors.contains("not those under teacher.backbone"), plan.errors)
    }

    /// Where nothing tells the number of heads, the usual one for the width is named: heads of 64, in a decoder of 32.
    func testUsualHeads() throws {
        let encoder = EncoderConfiguration(
            width: 320, depth: 1, heads: 5, patchSize: 8, imageHeight: 16, imageWidth: 16)
        let model = try RandomModel(
            ModelConfiguration(
                student: encoder, decoder: DecoderConfiguration(width: 160, depth: 1, heads: 5), maskRatio: 0.5),
            batch: 1, seed: 1)
        var writer = SafeTensorsWriter()
        for parameter in model.parameters.all {
            writer.add(
                parameter.name, shape: parameter.shape, floats: UnsafeBufferPointer(parameter.weight.elements))
        }
        let path = folder.file("untold.safetensors")
        try withExtendedLifetime(model) { try writer.write(to: path) }
        let usual =
            "does not say the number of attention heads, and no preset has its width; a head is usually 64 wide, which would be"
        assertRefused(
            ["embed", "--weights", path, "--data", pictures, "--output", folder.file("x.npy")], 64,
            "--heads is needed: \(path) \(usual) --heads 5 for the width of 320")
        assertRefused(
            TinyRun.distill(folder.file("run"), teacher: path), 64,
            "--teacher-heads is needed: \(path) \(usual) --teacher-heads 5 for the width of 320")
        assertRefused(
            ["convert", path, folder.file("x"), "--to", "huggingface", "--heads", "5"], 64,
            "; a head is usually 32 wide, which would be --decoder-heads 5 for the width of 160")
        let narrow = Fixtures.path("weights/mae/encoder.pth")
        let refusal = Command.run(TinyRun.distill(folder.file("run"), teacher: narrow)).errors
        XCTAssertTrue(refusal.contains("--teacher-heads is needed") && !refusal.contains("usually"), refusal)
    }

    /// Relatives are refused by name, before a plan is printed, by every command that would run or rename them.
    func testRelativesAreRefused() throws {
        let scale = [("blocks.0.ls1.gamma", [32]), ("blocks.0.ls2.gamma", [32])]
        let relative = try write("relative.safetensors", [("", 1)], further: scale)
        let flexible = try write(
            "flexible.safetensors", [("", 1)], without: { $0 == "pos_embed" }, further: [("pos_embed", [1, 36, 32])])
        for (path, words) in [
            (relative, ["this is DINOv2", "layer scale"]),
            (flexible, ["position table has no row for the class token"]),
        ] {
            for command in [
                ["embed", "--weights", path, "--data", pictures, "--output", folder.file("x.npy"), "--heads", "4"],
                ["convert", path, folder.file("x.safetensors"), "--to", "mae"],
                ["convert", path, folder.file("x"), "--to", "huggingface", "--heads", "4"],
                [
                    "distill", "--teacher", path, "--data", pictures, "--dry-run", "--teacher-heads", "4",
                    "--patch-size",
                    "8", "--image-size", "32", "--align", "2:2", "--batch", "2",
                ],
                ["finetune", "--weights", path, "--train", pictures, "--val", pictures, "--heads", "4", "--dry-run"],
                ["probe", "--weights", path, "--train", pictures, "--val", pictures, "--heads", "4", "--dry-run"],
            ] {
                let result = Command.run(command)
                XCTAssertEqual(result.end, .exited(65), result.description)
                XCTAssertEqual(result.output, "", "a plan was printed: \(command)")
                for word in words { XCTAssertTrue(result.errors.contains(word), result.errors) }
                XCTAssertFalse(result.errors.contains("download"), result.errors)
            }
            XCTAssertFalse(FileManager.default.fileExists(atPath: folder.file("x.safetensors")))
        }
        // `dmae inspect` still lists the tensors.
        let listed = assertRuns(["inspect", relative]).output
        XCTAssertTrue(listed.contains("this is DINOv2") && listed.contains("blocks.0.ls1.gamma"), listed)
        let rows = assertRuns(["inspect", flexible]).output
        XCTAssertTrue(rows.contains("not MAE's ViT: its position table has no row"), rows)
    }

    /// A tensor of a type that is not read is listed, and refused only where its values are wanted.
    func testOtherTypes() throws {
        func path(_ name: String, _ type: String, _ bytes: Int, _ shape: [Int]) throws -> String {
            let plain = try write("plain.safetensors", [("", 1)], without: { $0 == name })
            let data = [UInt8](try Data(contentsOf: URL(fileURLWithPath: plain)))
            let length = Int(UInt64(littleEndian: data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }))
            let end = data.count - 8 - length
            var header = String(decoding: data[8..<8 + length], as: UTF8.self)
            while header.last != "}" { header.removeLast() }
            header.removeLast()
            header +=
                ",\"\(name)\":{\"dtype\":\"\(type)\",\"shape\":\(shape),\"data_offsets\":[\(end),\(end + bytes)]}}"
            let start = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian, Array.init)
            return folder.write(
                start + Array(header.utf8) + data[(8 + length)...] + [UInt8](repeating: 0, count: bytes),
                "typed.safetensors")
        }
        for (type, bytes) in [("C64", 32), ("F8_E8M0", 4), ("F4", 2), ("F6_E2M3", 3), ("F8_E4M3FNUZ", 4)] {
            let extra = try path("extra.scale", type, bytes, [4])
            let listed = assertRuns(["inspect", extra]).output
            XCTAssertTrue(
                listed.components(separatedBy: "\n").contains {
                    $0.hasPrefix("extra.scale ") && $0.contains(" \(type) ") && $0.hasSuffix(" \(bytes)")
                }, listed)
            XCTAssertTrue(assertRuns(["inspect", extra, "--json"]).output.contains("\"type\":\"\(type)\""))
            _ = try features(extra)
        }
        let wanted = try path("blocks.1.norm1.bias", "C64", 256, [32])
        for command in [
            ["embed", "--weights", wanted, "--data", pictures, "--output", folder.file("x.npy"), "--heads", "4"],
            ["convert", wanted, folder.file("x.safetensors"), "--to", "mae"],
        ] {
            assertRefused(command, 65, "\"blocks.1.norm1.bias\"", "is of type C64")
        }
    }
}
