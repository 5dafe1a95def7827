import Models
import Tensors
import TestSupport
import XCTest

/// What the paper's ViT-L to ViT-B step costs.
final class PaperConfigurationTests: XCTestCase {
    private func paper(_ ratio: Double) -> ModelConfiguration {
        ModelConfiguration(
            student: Preset.encoder("vit-base", imageHeight: 224, imageWidth: 224)!,
            decoder: Preset.decoder("dec512d8")!,
            teacher: Preset.encoder("vit-large", imageHeight: 224, imageWidth: 224)!,
            alignment: AlignmentConfiguration(pairs: [AlignedPair(studentBlock: 8, teacherBlock: 17)]), maskRatio: ratio
        )
    }

    /// The figures known for the paper's step are of the blocks alone, a backward pass being twice a forward one: the
    /// encoders' linear layers, the decoder's linear layers and attention; their last digit is the tolerance. What runs
    /// besides makes up the rest: attention in the encoders, whose backward pass is five products for two, embeddings,
    /// and the prediction; less what the decoder's last block leaves out: queries, attention's output, MLP and
    /// prediction of the patches that stay and the class token.
    func testOperations() {
        for (ratio, kept, teacher, student, total) in [(0.75, 49, 22.6, 25.5, 80.0), (0.98, 3, 1.8, 2.0, 35.6)] {
            let operations = Operations(paper(ratio))
            let tokens = 1 + kept
            func product(_ m: Int, _ n: Int, _ k: Int) -> Double { 2 * Double(m) * Double(n) * Double(k) * 1e-9 }
            let teacherBlocks = 18 * product(tokens, 12 * 1024, 1024)
            XCTAssertEqual(teacherBlocks, teacher, accuracy: 0.1)
            let teacherRest = 18 * 2 * product(tokens, tokens, 1024) + product(kept, 1024, 768)
            XCTAssertEqual(operations.teacher, teacherBlocks + teacherRest, accuracy: 1e-9, "ratio \(ratio)")

            let studentBlocks = 12 * 3 * product(tokens, 12 * 768, 768)
            XCTAssertEqual(studentBlocks, student, accuracy: 0.1)
            let studentRest = 12 * 7 * product(tokens, tokens, 768) + 2 * product(kept, 768, 768)
            XCTAssertEqual(operations.student, studentBlocks + studentRest, accuracy: 1e-9, "ratio \(ratio)")

            let decoderBlocks = 8 * 3 * (product(197, 12 * 512, 512) + 2 * product(197, 197, 512))
            XCTAssertEqual(decoderBlocks, 31.6, accuracy: 0.1)
            let decoderRest = 8 * product(197, 197, 512) + 3 * product(tokens, 512, 768) + 3 * product(197, 768, 512)
            let leftOut =
                3 * product(tokens, 10 * 512, 512) + 7 * product(tokens, 197, 512) + 3 * product(tokens, 768, 512)
            XCTAssertEqual(operations.decoder, decoderBlocks + decoderRest - leftOut, accuracy: 1e-9, "ratio \(ratio)")

            XCTAssertEqual(operations.alignment, 3 * product(tokens, 1024, 768), accuracy: 1e-9)
            let rest = teacherRest + studentRest + decoderRest + operations.alignment
            XCTAssertEqual(operations.total - rest + leftOut, total, accuracy: 0.5, "ratio \(ratio)")
            XCTAssertLessThan(rest, 0.04 * total)
        }
    }

    /// The blocks alone, counted by hand for a tiny model: 2·m·n·k for each product that runs.
    func testOperationsOfATinyModel() {
        var configuration = ModelConfiguration.smallForCounting
        configuration.alignment.projection = .mlp
        let operations = Operations(configuration)
        // 8 patches of 2 values, 4 kept: 5 tokens, width 4; decoder width 8 on 9 tokens; teacher width 12, two of three
        // blocks.
        let studentBlock = 2 * 5 * 4 * (12 + 4 + 16 + 16) * 3 + 2 * 2 * 5 * 5 * 4 + 5 * 2 * 5 * 5 * 4
        // Its only decoder block works for the 4 removed patches: queries, attention, projection, MLP; keys and values
        // for all 9 tokens.
        let decoderBlock = (2 * 9 * 8 * 16 + 2 * 4 * 8 * (8 + 8 + 32 + 32)) * 3 + 2 * 2 * 4 * 9 * 8 + 5 * 2 * 4 * 9 * 8
        let teacherBlock = 2 * 5 * 12 * (36 + 12 + 48 + 48) + 2 * 2 * 5 * 5 * 12
        XCTAssertEqual(operations.student * 1e9, Double(1 * studentBlock + 2 * 2 * 4 * 4 * 2), accuracy: 1e-3)
        XCTAssertEqual(
            operations.decoder * 1e9, Double(1 * decoderBlock + 3 * 2 * 5 * 8 * 4 + 3 * 2 * 4 * 2 * 8), accuracy: 1e-3)
        XCTAssertEqual(operations.teacher * 1e9, Double(2 * teacherBlock + 2 * 4 * 12 * 2), accuracy: 1e-3)
        XCTAssertEqual(operations.alignment * 1e9, Double(3 * 2 * 5 * 12 * 4 + 3 * 2 * 5 * 12 * 12), accuracy: 1e-3)
    }

    /// At batch 32 the whole plan is below 8 GB; weights, gradients and moments are what the parameters need.
    func testMemoryAtBatch32() throws {
        let plan = MemoryPlan()
        let observed = try ObservedModel(paper(0.75), batch: 32, plan: plan)
        XCTAssertLessThan(plan.totalBytes, 8_000_000_000)
        let parameters = observed.parameters
        // Each buffer is rounded up to a cache line.
        let slack = MemoryPlan.alignment * parameters.all.count
        func check(_ purpose: MemoryPlan.Purpose, _ count: Int, _ slack: Int) {
            XCTAssertGreaterThanOrEqual(plan.bytes(of: purpose), 4 * count)
            XCTAssertLessThanOrEqual(plan.bytes(of: purpose), 4 * count + slack)
        }
        check(.weights, parameters.count(), slack)
        check(.gradients, parameters.count(trainedOnly: true), slack)
        let teacher = try XCTUnwrap(observed.teacherParameters)
        check(.teacherWeights, teacher.count(), MemoryPlan.alignment * teacher.all.count)
        // Images, masks, and the noise of one image.
        check(.batch, 32 * (3 * 224 * 224 + 196) + 196, 3 * MemoryPlan.alignment)
        for purpose in MemoryPlan.Purpose.allCases {
            print("\(purpose.rawValue): \(plan.bytes(of: purpose) >> 20) MiB")
        }
        print("in all: \(plan.totalBytes >> 20) MiB")
    }

    /// Gradients that are not added up are alive from the phase that clears them to the one that hands them over: the
    /// decoder's, or a block's of the student with those of everything outside of the blocks, whichever are more.
    func testGradientsThatAreNotAccumulated() throws {
        let (accumulated, alone) = (MemoryPlan(), MemoryPlan())
        let parameters = try ObservedModel(paper(0.75), batch: 32, plan: accumulated).parameters
        _ = try ObservedModel(paper(0.75), batch: 32, plan: alone, accumulates: false)
        let trained = parameters.all.filter { $0.gradient != nil }
        func count(_ isWanted: (String) -> Bool) -> Int {
            trained.reduce(0) { $0 + (isWanted($1.name) ? $1.weight.count : 0) }
        }
        // LayerNorms; queries, keys, values and projection; MLP.
        let block = 4 * 768 + 768 * 3 * 768 + 3 * 768 + 768 * 768 + 768 + 2 * 4 * 768 * 768 + 5 * 768
        let blocks = count { $0.hasPrefix("blocks.") }
        XCTAssertEqual(blocks, 12 * block)
        let decoder = count { $0.hasPrefix("decoder_") || $0 == "mask_token" }
        let expected = 4 * max(decoder, count { _ in true } - decoder - 11 * block)
        XCTAssertGreaterThanOrEqual(alone.bytes(of: .gradients), expected)
        XCTAssertLessThanOrEqual(alone.bytes(of: .gradients), expected + MemoryPlan.alignment * trained.count)
        XCTAssertLessThanOrEqual(alone.totalBytes, accumulated.totalBytes - 4 * 12 * block)
        for purpose in MemoryPlan.Purpose.allCases where purpose != .gradients {
            XCTAssertEqual(alone.bytes(of: purpose), accumulated.bytes(of: purpose), "\(purpose)")
        }
        print("\(accumulated.totalBytes) bytes, or \(alone.totalBytes) where nothing is accumulated")
    }

    /// The plan overlays buffers that are never alive together. These are the bytes it took before each buffer had a
    /// lifetime of its own, when whole phases of a step shared memory: no configuration may need more. A packed
    /// teacher's size depends on the instruction set, workspaces on the threads: one thread here, and the scalar
    /// kernels' panels.
    func testPlannedBytes() throws {
        let before: [(Double, Precision, keeps: Bool, bytes: Int)] = [
            (0.75, .f32, false, 3_299_061_632),
            (0.75, .f32, true, 3_644_800_896),
            (0.75, .bf16, false, 3_124_008_320),
            (0.75, .bf16, true, 3_469_747_584),
            (0.98, .f32, false, 2_730_807_168),
            (0.98, .f32, true, 3_076_546_432),
            (0.98, .bf16, false, 2_773_972_608),
            (0.98, .bf16, true, 3_119_711_872),
        ]
        for (ratio, precision, keeps, bytes) in before {
            try withThreads(1) {
                let plan = MemoryPlan()
                let objective = try paper(ratio).objective(
                    batch: 32, seed: 0, plan: plan, .init(precision: precision, keepsGradients: keeps))
                // The optimiser's two moments.
                let moments = 2 * 4 * objective.parameters.count(trainedOnly: true)
                XCTAssertLessThanOrEqual(
                    plan.totalBytes + moments, bytes, "mask ratio \(ratio), \(precision), gradients kept: \(keeps)")
            }
        }
    }

    /// A model that is only looked through keeps no activations for a backward pass.
    func testInferenceNeedsFarLess() throws {
        let (training, inference) = (MemoryPlan(), MemoryPlan())
        _ = try ObservedModel(paper(0.75), batch: 1, plan: training)
        _ = try ObservedModel(paper(0.75), batch: 1, plan: inference, training: false)
        XCTAssertEqual(inference.bytes(of: .gradients), 0)
        XCTAssertEqual(inference.bytes(of: .moments), 0)
        XCTAssertLessThan(inference.bytes(of: .activations), training.bytes(of: .activations) / 10)
    }
}

extension ModelConfiguration {
    fileprivate static var smallForCounting: ModelConfiguration {
        func encoder(_ width: Int, _ depth: Int) -> EncoderConfiguration {
            EncoderConfiguration(
                width: width, depth: depth, heads: 1, patchSize: 1, imageHeight: 2, imageWidth: 4, channels: 2)
        }
        return ModelConfiguration(
            student: encoder(4, 1), decoder: DecoderConfiguration(width: 8, depth: 1, heads: 1),
            teacher: encoder(12, 3),
            alignment: AlignmentConfiguration(pairs: [AlignedPair(studentBlock: 0, teacherBlock: 1)]), maskRatio: 0.5)
    }
}
