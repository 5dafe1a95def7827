import Reporting
import Foundation
import Models
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// Recorded steps of PyTorch, replayed with every instruction set and number of threads.
final class GoldenTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Every recorded tensor comes back within what f32 arithmetic may lose, nothing is missing, and nothing is there
    /// beside.
    func testReplayAgreesWithPyTorch() throws {
        let cases = try Fixtures.golden()
        XCTAssertGreaterThanOrEqual(cases.count, 7)
        let ran = try withEachInstructionSet { set in
            for recorded in cases {
                let output = folder.file("\(recorded.name).\(set.name).safetensors")
                try Replay.run(input: recorded.inputPath, output: output)
                let found = try SafeTensorsFile(path: output)
                XCTAssertEqual(Set(found.names), Set(recorded.expected.names), "\(recorded.name), \(set.name)")
                try compare(recorded, found, set)
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// A replay of `fewer_tokens` shares mask tokens that stand in different rows of their images.
    func testARecordingOfFewerTokensSharesMaskTokens() throws {
        let recorded = try XCTUnwrap(Fixtures.golden().first { $0.name == "fewer_tokens" })
        let (predicted, mask) = (try recorded.expected.floats("predicted"), try recorded.expected.floats("mask"))
        let shape = try recorded.expected.entry("predicted").shape
        let (images, patches) = (shape[0], shape[1])
        let decoded = zip(predicted, mask).map { $0 == 1 || $1 == 0 }
        XCTAssertTrue(
            (0..<patches).contains { patch in
                let rows = (0..<images).filter { predicted[$0 * patches + patch] == 1 }.map { image in
                    (0..<patch).count { decoded[image * patches + $0] }
                }
                return Set(rows).count > 1
            })
        // The rule of the decoder: it shares where at most half of the rows are distinct.
        let kept = mask[..<patches].count { $0 == 0 }, rows = 1 + decoded[..<patches].count { $0 }
        XCTAssertLessThanOrEqual(2 * (images * (1 + kept) + patches), images * rows)
    }

    /// A replay of `shared_masks` works out mask tokens of one place once for all images: it would test nothing of that
    /// otherwise.
    func testOneRecordingSharesMaskTokens() throws {
        let recorded = try XCTUnwrap(Fixtures.golden().first { $0.name == "shared_masks" })
        let images = try recorded.input.entry("images").shape
        let (student, decoder) = (recorded.description.student, recorded.description.decoder)
        let model = ModelConfiguration(
            student: EncoderConfiguration(
                width: student.width, depth: student.depth, heads: student.heads,
                patchSize: recorded.description.patchSize,
                imageHeight: images[2], imageWidth: images[3], channels: images[1]),
            decoder: DecoderConfiguration(width: decoder.width, depth: decoder.depth, heads: decoder.heads),
            maskRatio: 0.9)
        XCTAssertEqual(
            try recorded.expected.entry("student.latent").shape, [images[0], 1 + model.keptPatches, student.width])
        // As Replay makes it; nothing is mapped for it.
        let observed = try ObservedModel(model, batch: images[0], plan: MemoryPlan(), predictsEveryPatch: true)
        XCTAssertLessThan(observed.operations.decoder, Operations(model).decoder)
    }

    private func compare(_ recorded: GoldenCase, _ found: SafeTensorsFile, _ set: InstructionSet) throws {
        let bounds = try Bounds(recorded)
        XCTAssertLessThan(bounds.gradient, 3e-5, "\(recorded.name): a bound this wide tests little")
        var comparison = TensorComparison()
        for entry in recorded.expected.entries {
            guard let own = found[entry.name] else { continue }
            XCTAssertEqual(own.shape, entry.shape, "\(recorded.name): \(entry.name)")
            let expected = try recorded.expected.floats(entry.name)
            let values = try found.floats(entry.name)
            if ["mask", "predicted"].contains(entry.name) {
                comparison.compare(entry.name, expected: expected, found: values) { _ in 0 }
            } else if entry.name.hasPrefix("loss.") {
                comparison.compare(entry.name, expected: expected, found: values) {
                    bounds.loss(Double(expected[$0]), step: $0)
                }
            } else if entry.name.hasPrefix("grad.") {
                comparison.compare(entry.name, expected: expected, found: values, relative: bounds.gradient)
            } else if entry.name.hasPrefix("after.") {
                let bound = try bounds.weights(String(entry.name.dropFirst("after.".count)), expected)
                comparison.compare(entry.name, expected: expected, found: values) { bound[$0] }
            } else {
                comparison.compare(entry.name, expected: expected, found: values, relative: bounds.forward)
            }
        }
        XCTAssertEqual(comparison.failures, [], "\(recorded.name) with \(set.name)")
        XCTAssertEqual(comparison.tensors, recorded.expected.entries.count)
        print("\(recorded.name), \(set.name): \(comparison.summary)")
    }

    /// How far f32 may stray from the record (float64, rounded once).
    ///
    /// A product over k terms loses about u·√(k/2) of its result, u = 2⁻²⁴: its k roundings are independent, each in
    /// proportion to a partial sum. The losses of S such stages in a row are independent too: u·√(S·k) in all, twice
    /// that being the bound for the largest of many elements, in proportion to the tensor's largest value. k is the
    /// longest sum of the model; a block is nine stages (two norms, four linear layers, scores, softmax, values), and
    /// backward goes through all of them again.
    private struct Bounds {
        let forward: Double
        let gradient: Double
        /// Products that a value goes through one after another, in the forward pass.
        let stages: Int
        private let recorded: GoldenCase
        /// What a loss may drift by over the steps, through the weights.
        private var drift = 0.0

        init(_ recorded: GoldenCase) throws {
            self.recorded = recorded
            let description = recorded.description
            let images = try recorded.input.entry("images").shape
            let patches = try recorded.input.entry("noise").shape[1]
            let widths = [description.student.width, description.decoder.width, description.teacher?.width ?? 0]
            let terms = max(
                4 * widths.max()!, description.patchSize * description.patchSize * images[1], images[0] * (1 + patches))
            let blocks = max(description.student.depth + description.decoder.depth, description.teacher?.depth ?? 0)
            // Beside the blocks: patch and decoder embedding, two norms, prediction, loss.
            stages = 9 * blocks + 6
            let u = 0x1p-24
            forward = 2 * u * Double(stages * terms).squareRoot()
            gradient = 2 * u * Double(2 * stages * terms).squareRoot()
            var square = 0.0
            for entry in recorded.expected.entries where entry.name.hasPrefix("grad.") {
                let name = String(entry.name.dropFirst("grad.".count))
                let bound = try weights(name, recorded.expected.floats("after." + name))
                for (gradient, bound) in zip(try recorded.expected.floats(entry.name), bound) {
                    square += (Double(gradient) * bound) * (Double(gradient) * bound)
                }
            }
            drift = square.squareRoot()
        }

        /// A loss of step `step` (from 0): the forward pass, and to first order the weights it starts from, each off by
        /// at most its bound, with signs of their own.
        func loss(_ expected: Double, step: Int) -> Double {
            forward * expected.magnitude + (step > 0 ? 2 * drift : 0)
        }

        /// How far each weight may be off after the recorded AdamW steps.
        ///
        /// Step t moves a weight by lr·m̂/(√v̂ + ε), where m̂ and √v̂ are a weighted mean and a weighted root mean
        /// square of the gradients so far. An error δ of the gradients moves neither by more than δ, and |m̂| ≤ C·√v̂
        /// with C² = Σ aᵢ²/bᵢ for the two sets of weights (Cauchy and Schwarz); so the step is off by at most lr·(1 +
        /// C)·δ/(√v̂ + ε). Of √v̂ we know that it is at least √b₁·|g₁|, g₁ being the recorded first gradient. δ is the
        /// gradient's bound, and grows with each step as the weights drift apart. Where g₁ is as small as the noise (a
        /// key's bias: softmax does not see it) that is nearly lr·δ/ε. Every tensor must keep to 1e-4 of its largest
        /// value besides.
        func weights(_ name: String, _ after: [Float]) throws -> [Double] {
            let largest = TensorComparison.largest(after)
            guard recorded.expected["grad." + name] != nil else {
                // A position table: fixed, computed in double, rounded once. Or a tensor that no loss reaches.
                return after.map { _ in 0x1p-24 * largest }
            }
            let first = try recorded.expected.floats("grad." + name)
            let optimizer = recorded.description.optimizer
            let delta = gradient * TensorComparison.largest(first)
            let (beta1, beta2) = (optimizer.betas[0], optimizer.betas[1])
            // Per step: 1 + C, and √b₁.
            let shares = (1...recorded.description.steps).map { step in
                func share(_ beta: Double, _ i: Int) -> Double {
                    (1 - beta) * pow(beta, Double(step - i)) / (1 - pow(beta, Double(step)))
                }
                let square = (1...step).reduce(0.0) { $0 + share(beta1, $1) * share(beta1, $1) / share(beta2, $1) }
                return (factor: 1 + square.squareRoot(), root: share(beta2, 1).squareRoot())
            }
            return zip(after, first).map { weight, gradient in
                let surely = max(0, Double(gradient.magnitude) - delta)
                var bound = 0.0
                for (index, share) in shares.enumerated() {
                    bound +=
                        optimizer.lr * share.factor * Double(index + 1) * delta / (share.root * surely + optimizer.eps)
                    // Decay, update and their difference are rounded.
                    bound += 3 * 0x1p-24 * Double(weight.magnitude) + 4 * 0x1p-24 * optimizer.lr
                }
                return min(bound, 1e-4 * largest)
            }
        }
    }

    /// Products of bf16 operands, by AVX512-BF16 and by the emulations.
    ///
    /// An operand loses 2⁻⁸ at most, and in the root of the mean square less than u = 2⁻⁹ (an error spread evenly over
    /// half a unit of the last place, 2⁻⁸/√3, over a significand of 1 to 2); a product of two 2u, and the products of a
    /// sum lose independently of one another: 2u of the result's norm. The losses of S stages in a row are independent
    /// too: 2u·√S, twice that being the bound; a gradient comes through 2S stages. But L1's slope jumps where a
    /// difference of features changes its sign, and of a recording's some are that small (7e-4 in `linear`, of features
    /// of the unit sphere): with L1, of the gradients only those that alignment has no part in, the decoder's, are held
    /// to that bound. No record can be met to the last bits of bf16, so that operands really are rounded shows in a
    /// distance from the f32 replay that no f32 rounding makes.
    func testReplayInBF16StaysWithinItsRounding() throws {
        let ran = try withEachInstructionSet { set in
            for recorded in try Fixtures.golden() {
                let output = folder.file("\(recorded.name).\(set.name).bf16.safetensors")
                try Replay.run(input: recorded.inputPath, output: output, precision: .bf16)
                let found = try SafeTensorsFile(path: output)
                XCTAssertEqual(Set(found.names), Set(recorded.expected.names), "\(recorded.name), \(set.name)")
                let bounds = try Bounds(recorded)
                let forward = 4 * 0x1p-9 * Double(bounds.stages).squareRoot()
                var comparison = TensorComparison()
                var furthest = 0.0
                for entry in recorded.expected.entries where !entry.name.hasPrefix("after.") {
                    let expected = try recorded.expected.floats(entry.name)
                    let values = try found.floats(entry.name)
                    let isGradient = entry.name.hasPrefix("grad.")
                    let isOfDecoder = entry.name.hasPrefix("grad.decoder") || entry.name == "grad.mask_token"
                    if isGradient, recorded.description.align.loss == "L1", !isOfDecoder { continue }
                    // A key's bias has no gradient but rounding: it is held to the gradient of the whole tensor, as all
                    // are.
                    let isMask = ["mask", "predicted"].contains(entry.name)
                    let relative = isMask ? 0 : forward * (isGradient ? 2.0.squareRoot() : 1)
                    comparison.compare(entry.name, expected: expected, found: values, relative: relative)
                    if isGradient {
                        let largest = TensorComparison.largest(expected)
                        for (value, expected) in zip(values, expected) {
                            furthest = max(furthest, Double((value - expected).magnitude) / largest)
                        }
                    }
                }
                XCTAssertEqual(comparison.failures, [], "\(recorded.name) with \(set.name)")
                XCTAssertGreaterThan(
                    furthest, 10 * bounds.gradient, "\(recorded.name), \(set.name): nothing was rounded to bf16")
                print("\(recorded.name), \(set.name), bf16: \(comparison.summary)")
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// One, two and three threads write the same file, with every instruction set, in both precisions.
    func testThreadsDoNotChangeAByte() throws {
        let ran = try withEachInstructionSet { set in
            for (recorded, precision) in try Fixtures.golden().flatMap({ [($0, Precision.f32), ($0, .bf16)] }) {
                let files = try [1, 2, 3].map { threads in
                    try withThreads(threads) {
                        XCTAssertEqual(Threads.observed, threads)
                        let name = "\(recorded.name).\(set.name).\(threads).safetensors"
                        try Replay.run(input: recorded.inputPath, output: folder.file(name), precision: precision)
                        return folder.read(name)
                    }
                }
                XCTAssertEqual(files[1], files[0], "\(recorded.name), \(set.name), \(precision): two threads")
                XCTAssertEqual(files[2], files[0], "\(recorded.name), \(set.name), \(precision): three threads")
            }
        }
        XCTAssertFalse(ran.isEmpty)
    }

    /// Recordings that do not fit together are refused with the file and what is wrong.
    func testRefusesRecordingsThatDoNotFit() throws {
        let recorded = try XCTUnwrap(Fixtures.golden().first { $0.name == "linear" })
        let metadata = try XCTUnwrap(recorded.input.metadata["dmae.replay"])
        func attempt(dropping: String? = nil, _ metadata: String?) throws -> Failure? {
            let names = recorded.input.names.filter { $0 != dropping }
            let path = folder.file("changed.safetensors")
            try withBuffers(names.map { try recorded.input.floats($0) }) { buffers in
                var writer = SafeTensorsWriter(metadata: metadata.map { ["dmae.replay": $0] } ?? [:])
                for (name, buffer) in zip(names, buffers) {
                    writer.add(name, shape: try recorded.input.entry(name).shape, floats: buffer)
                }
                try writer.write(to: path)
            }
            return failure { try Replay.run(input: path, output: folder.file("replayed.safetensors")) }
        }
        func changed(_ old: String, _ new: String) -> String {
            XCTAssertTrue(metadata.contains(old), old)
            return metadata.replacingOccurrences(of: old, with: new)
        }
        XCTAssertNil(try attempt(metadata))
        XCTAssertTrue(folder.names().contains("replayed.safetensors"))
        let attempts: [(Failure?, String)] = [
            (try attempt(nil), "dmae.replay is missing"),
            (try attempt("{"), "cannot be read: it is not JSON"),
            (try attempt("[]"), "it has another type"),
            (try attempt(changed("\"steps\":3", "\"steps\":0")), "at least one step"),
            (try attempt(changed("\"steps\":3", "\"steps\":\"three\"")), "steps has another type"),
            (try attempt(changed("\"patch_size\":8", "\"patch_size\":7")), "patches of 7 pixels do not tile"),
            (try attempt(changed("\"patch_size\":8", "\"patch_size\":8.5")), "a number in it does not fit its key"),
            (
                try attempt(changed("\"image_size\":32", "\"image_size\":30")),
                "choose an image_size that is a multiple of 8"
            ),
            (
                try attempt(changed("\"teacher_blocks\":[2]", "\"teacher_blocks\":[9]")),
                "teacher block 9 does not exist"
            ),
            (try attempt(changed("\"teacher_blocks\":[2]", "\"teacher_blocks\":[1,2]")), "differ in length"),
            (try attempt(changed("\"width\":24", "\"width\":36")), "has shape"),
            (
                try attempt(changed("\"mask_ratio\":0.75", "\"mask_ratio\":0.99")),
                ": mask_ratio 0.99 leaves none of the 16 patches"
            ),
            (try attempt(changed("\"mask_ratio\":0.75,", "")), "mask_ratio is missing"),
            (
                try attempt(changed("\"mask_ratio\":0.75", "\"mask_ratio\":0.75,\"predict_ratio\":0")),
                ": predict_ratio 0 is not a share of the removed patches"
            ),
            (
                try attempt(changed("\"mask_ratio\":0.75", "\"mask_ratio\":0.75,\"reconstruction_weight\":-1")),
                ": reconstruction_weight must be at least 0"
            ),
            (
                try attempt(changed("\"mask_ratio\":0.75", "\"mask_ratio\":0.75,\"teacher_mask_ratio\":0.8")),
                ": teacher_mask_ratio 0.8 must be at least 0 and at most mask_ratio 0.75"
            ),
            (
                try attempt(changed("\"student_blocks\":[1]", "\"student_blocks\":[\"1\"]")),
                "align.student_blocks.0 has another type"
            ),
            (
                try attempt(changed("\"loss\":\"L1\"", "\"loss\":\"L3\"")),
                "align.loss \"L3\" is not known: use one of L1, L2"
            ),
            (
                try attempt(changed("\"projection\":\"linear\"", "\"projection\":\"conv\"")),
                "align.projection \"conv\" is not known: use one of none, linear, mlp"
            ),
            (
                try attempt(changed("\"projection\":\"linear\"", "\"projection\":\"none\"")),
                "use align.projection linear"
            ),
            (
                try attempt(changed("\"steps\":3", "\"steps\":3,\"colour\":1")),
                "the key \"colour\" is not known: leave it out, or use one of teacher, student"
            ),
            (
                try attempt(changed("\"loss\":\"L1\"", "\"loss\":\"L1\",\"weight\":2")),
                "the key \"align.weight\" is not known"
            ),
            (
                try attempt(changed("{\"image_size\"", "{\"method\":\"probe\",\"image_size\"")),
                "method \"probe\" is not known: use finetune, or leave it out"
            ),
            (
                try attempt(changed("\"lr\":0.001", "\"lr\":-0.001")),
                "optimizer.lr must be at least 0, not -0.001"
            ),
            (try attempt(dropping: "noise", metadata), "noise is missing"),
            (try attempt(dropping: "student.norm.weight", metadata), "student.norm.weight"),
            (try attempt(dropping: "teacher.cls_token", metadata), "teacher.cls_token"),
        ]
        for (failure, words) in attempts {
            XCTAssertEqual(failure?.code, .badData, words)
            XCTAssertTrue(
                failure?.message.contains(words) == true, "\(failure?.message ?? "accepted") says nothing of: \(words)")
            XCTAssertTrue(failure?.message.contains("changed.safetensors") == true, failure?.message ?? "accepted")
            XCTAssertFalse(
                failure?.message.contains(" --") == true, "a recording has no flags: \(failure?.message ?? "accepted")")
        }
    }
}
