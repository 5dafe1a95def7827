import Models
import Reporting
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// Recorded fine-tuning steps of PyTorch, replayed with every instruction set and number of threads.
final class FineTuningGoldenTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// The stages that a value goes through in the forward pass: nine in a block (see GoldenTests), patch projection,
    /// mean, norm, head and loss beside them; and the longest sum.
    private func stages(_ recorded: RecordedCase<FineTuningDescription>) throws -> (count: Int, terms: Int) {
        let description = recorded.description, images = try recorded.input.entry("images").shape
        let tokens = try recorded.input.entry("model.pos_embed").shape[1]
        return (
            9 * description.model.depth + 5,
            max(
                4 * description.model.width, description.patchSize * description.patchSize * images[1],
                images[0] * tokens)
        )
    }

    /// Logits, first losses and gradients within what f32 arithmetic may lose; see GoldenTests for the bound. Later
    /// losses and the weights come through AdamW, which divides each gradient by its own size plus epsilon: 1e-4 of a
    /// tensor's largest value.
    func testReplayAgreesWithPyTorch() throws {
        let cases = try Fixtures.goldenFineTuning()
        XCTAssertGreaterThanOrEqual(cases.count, 3)
        let ran = try withEachInstructionSet { set in
            for recorded in cases {
                let output = folder.file("\(recorded.name).\(set.name).safetensors")
                try Replay.run(input: recorded.inputPath, output: output)
                let found = try SafeTensorsFile(path: output)
                XCTAssertEqual(Set(found.names), Set(recorded.expected.names), "\(recorded.name), \(set.name)")
                let (count, terms) = try stages(recorded)
                let forward = 2 * 0x1p-24 * Double(count * terms).squareRoot()
                XCTAssertLessThan(2 * forward, 3e-5, "a bound this wide tests little")
                var comparison = TensorComparison()
                for entry in recorded.expected.entries {
                    let expected = try recorded.expected.floats(entry.name), values = try found.floats(entry.name)
                    XCTAssertEqual(found[entry.name]?.shape, entry.shape, "\(recorded.name): \(entry.name)")
                    let largest = TensorComparison.largest(expected)
                    comparison.compare(entry.name, expected: expected, found: values) { index in
                        let isOfFirstStep = !entry.name.hasPrefix("after.") && index == 0
                        return entry.name.hasPrefix("grad.")
                            ? 2.0.squareRoot() * forward * largest
                            : entry.name == "logits" || entry.name.hasPrefix("loss.") && isOfFirstStep
                                ? forward * largest : 1e-4 * largest
                    }
                }
                XCTAssertEqual(comparison.failures, [], "\(recorded.name) with \(set.name)")
                print("\(recorded.name), \(set.name): \(comparison.summary)")
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// Products of bf16 operands stay within their rounding; see GoldenTests for the bound. Gradients show that operands
    /// are rounded at all.
    func testReplayInBF16StaysWithinItsRounding() throws {
        let ran = try withEachInstructionSet { set in
            for recorded in try Fixtures.goldenFineTuning() {
                let output = folder.file("\(recorded.name).\(set.name).bf16.safetensors")
                try Replay.run(input: recorded.inputPath, output: output, precision: .bf16)
                let found = try SafeTensorsFile(path: output)
                let forward = 4 * 0x1p-9 * Double(try stages(recorded).count).squareRoot()
                var comparison = TensorComparison(), furthest = 0.0
                for entry in recorded.expected.entries where !entry.name.hasPrefix("after.") {
                    let expected = try recorded.expected.floats(entry.name), values = try found.floats(entry.name)
                    let isGradient = entry.name.hasPrefix("grad.")
                    comparison.compare(
                        entry.name, expected: expected, found: values,
                        relative: forward * (isGradient ? 2.0.squareRoot() : 1))
                    let largest = TensorComparison.largest(expected)
                    for (value, expected) in zip(values, expected) where isGradient {
                        furthest = max(furthest, Double((value - expected).magnitude) / largest)
                    }
                }
                XCTAssertEqual(comparison.failures, [], "\(recorded.name) with \(set.name)")
                XCTAssertGreaterThan(furthest, 1e-4, "\(recorded.name), \(set.name): nothing was rounded to bf16")
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    func testThreadsDoNotChangeAByte() throws {
        let ran = try withEachInstructionSet { set in
            for recorded in try Fixtures.goldenFineTuning() {
                for precision in [Precision.f32, .bf16] {
                    let files = try [1, 2, 3].map { threads in
                        try withThreads(threads) {
                            XCTAssertEqual(Threads.observed, threads)
                            let name = "\(recorded.name).\(threads).safetensors"
                            try Replay.run(input: recorded.inputPath, output: folder.file(name), precision: precision)
                            return folder.read(name)
                        }
                    }
                    XCTAssertEqual(files[1], files[0], "\(recorded.name), \(set.name), \(precision): two threads")
                    XCTAssertEqual(files[2], files[0], "\(recorded.name), \(set.name), \(precision): three threads")
                }
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// Recordings that do not fit together are refused with the file and what is wrong.
    func testRefusesRecordingsThatDoNotFit() throws {
        let recorded = try XCTUnwrap(Fixtures.goldenFineTuning().first { $0.name == "class_distilled" })
        let metadata = try XCTUnwrap(recorded.input.metadata["dmae.replay"])
        func attempt(
            dropping: String? = nil, replacing: (name: String, value: Float)? = nil, _ change: (String, String)? = nil
        ) throws -> Failure? {
            var text = metadata
            if let (old, new) = change {
                XCTAssertTrue(text.contains(old), old)
                text = text.replacing(old, with: new)
            }
            let names = recorded.input.names.filter { $0 != dropping }
            let path = folder.file("changed.safetensors")
            var values = try names.map { try recorded.input.floats($0) }
            if let (name, value) = replacing { values[names.firstIndex(of: name)!][0] = value }
            try withBuffers(values) { buffers in
                var writer = SafeTensorsWriter(metadata: ["dmae.replay": text])
                for (name, buffer) in zip(names, buffers) {
                    writer.add(name, shape: try recorded.input.entry(name).shape, floats: buffer)
                }
                try writer.write(to: path)
            }
            return failure { try Replay.run(input: path, output: folder.file("replayed.safetensors")) }
        }
        XCTAssertNil(try attempt())
        XCTAssertNil(try attempt(dropping: "model.pos_embed"))
        let attempts: [(Failure?, String)] = [
            (try attempt(dropping: "targets"), "the tensor targets is missing"),
            (try attempt(dropping: "drop_path_keep"), "the tensor drop_path_keep is missing"),
            (try attempt(dropping: "teacher_logits"), "the tensor teacher_logits is missing"),
            (try attempt(dropping: "model.norm.bias"), "model.norm.bias"),
            (
                try attempt(replacing: ("drop_path_keep", 0.5)),
                "drop_path_keep must hold nothing but 0 (dropped) and 1 (kept)"
            ),
            (
                try attempt(("\"drop_path\":0.3", "\"drop_path\":0")),
                "drop_path_keep drops branches, but drop_path is 0"
            ),
            (
                try attempt(("\"drop_path\":0.3", "\"drop_path\":1")),
                "drop_path must be at least 0 and below 1, not 1.0"
            ),
            (
                try attempt(("\"classes\":5", "\"classes\":6")),
                "targets has shape [3, 5], but 3 images of 6 classes need [3, 6]"
            ),
            (
                try attempt(("\"pool\":\"class\"", "\"pool\":\"max\"")),
                "pool \"max\" is not known: use one of class, mean"
            ),
            (try attempt(("\"pool\":\"class\"", "\"pool\":\"mean\"")), "model.fc_norm"),
            (try attempt(("\"alpha\":0.7", "\"alpha\":1.7")), "distillation.alpha must be from 0 to 1, not 1.7"),
            (
                try attempt(("\"temperature\":3.0", "\"temperature\":0.0")),
                "distillation.temperature must be above 0, not 0.0"
            ),
            (try attempt(("\"alpha\":0.7", "\"alpha\":0.7,\"beta\":1")), "the key \"distillation.beta\" is not known"),
            (
                try attempt(("\"layer_decay\":0.75", "\"layer_decay\":1.75")),
                "layer_decay must be above 0 and at most 1, not 1.75"
            ),
            (
                try attempt(("\"steps\":4", "\"steps\":4,\"clip_gradient\":0")),
                "clip_gradient must be above 0, not 0.0"
            ),
            (try attempt(("\"lr\":0.001", "\"lr\":-1")), "optimizer.lr must be at least 0, not -1.0"),
            (try attempt(("\"steps\":4", "\"steps\":4,\"mask_ratio\":0.75")), "the key \"mask_ratio\" is not known"),
            (try attempt(("\"image_size\":32", "\"image_size\":40")), "images has shape [3, 1, 32, 32]"),
        ]
        for (failure, words) in attempts {
            XCTAssertEqual(failure?.code, .badData, words)
            XCTAssertTrue(
                failure?.message.contains(words) == true, "\(failure?.message ?? "accepted") says nothing of: \(words)")
            XCTAssertTrue(failure?.message.contains("changed.safetensors") == true, failure?.message ?? "accepted")
        }
    }
}
