import CKernels
import Models
import Tensors
import Training

/// The kernel calls of the paper's step (ViT-L to ViT-B at 224 pixels, batch 32), recorded from the step itself.
package struct StepCalls {
    /// A kind of call; calls that differ only in the memory they use are of one kind.
    package struct Row {
        /// "gemm bf16 student fc1 dW", the start of a row's title.
        package let name: String
        /// "3072×768×1600"
        package let shape: String
        /// The linear layer of a GEMM: "student fc1".
        package let layer: String
        package let call: KernelCall
        /// Calls of this kind in the first step that has one.
        package var count = 1

        package var title: String { "\(name) \(shape)" }
    }

    static let batch = 32

    /// Mask ratios, and the suffix in the names of rows that only the second one has.
    private static let maskRatios = [(0.75, ""), (0.98, " 98 %")]

    /// Every kind of call once: of the steps in float32 and bf16 at both mask ratios, and with an int8 teacher.
    package static func rows() -> [Row] {
        var rows: [Row] = []
        for precision in [Precision.f32, .bf16] {
            for (maskRatio, suffix) in maskRatios {
                add(record(maskRatio, precision), suffix, to: &rows)
            }
        }
        add(record(0.75, .bf16, teacher: .int8), "", to: &rows)
        return rows
    }

    private static func add(_ calls: [KernelCall], _ suffix: String, to rows: inout [Row]) {
        let before = rows.count
        for call in calls where !call.isNegligible {
            let (name, shape) = call.name(suffix: "")
            let title = "\(name) \(shape)"
            // The name of a row that both mask ratios have carries no mask ratio.
            if rows[..<before].contains(where: { $0.title == title }) { continue }
            let row = Row(
                name: call.name(suffix: suffix).name, shape: shape, layer: call.layerName(suffix: suffix), call: call)
            if let index = rows.firstIndex(where: { $0.title == row.title }) {
                rows[index].count += 1
            } else {
                rows.append(row)
            }
        }
    }

    /// The calls of one step, optimiser included. Nothing is computed, and next to no memory is touched.
    private static func record(
        _ maskRatio: Double, _ precision: Precision, teacher: TeacherPrecision = .same
    ) -> [KernelCall] {
        let recipe = Recipe.paper
        func encoder(_ name: String?) -> EncoderConfiguration? {
            name.flatMap { Preset.encoder($0, imageHeight: recipe.imageSize, imageWidth: recipe.imageSize) }
        }
        guard let student = encoder(recipe.student), let decoder = Preset.decoder(recipe.decoder) else {
            fail("the paper's recipe names a preset that is not there")
        }
        let model = ModelConfiguration(
            student: student, decoder: decoder, teacher: encoder(recipe.teacher), alignment: recipe.alignment,
            maskRatio: maskRatio, normalizePixels: recipe.normalizePixels)
        do {
            return try Profile.recordCalls {
                _ = try StepBenchmark(
                    model, batch: batch, steps: 0, precision: precision, teacherPrecision: teacher,
                    optimizer: recipe.optimizer)
            }
        } catch {
            fail("the paper's step cannot be recorded: \(error)")
        }
    }
}

extension KernelCall {
    /// Too short to be timed, such as the AdamW step of a bias.
    fileprivate var isNegligible: Bool { flop < 1e7 && bytes < 1 << 20 }

    /// The operation of the list of variants.
    package var operation: String {
        switch arguments {
        case .gemm(let gemm): "gemm_" + gemm.precision.name
        case .attention(let attention), .attentionGradient(let attention): "attention_" + attention.type.name
        case .layerNorm, .layerNormGradient: "layernorm_f32"
        case .columnSum, .sumOfSquares: "reduction_f32"
        case .adamW: "adamw_f32"
        }
    }

    fileprivate func name(suffix: String) -> (name: String, shape: String) {
        func to(_ type: ElementType) -> String { type == .bf16 ? " bf16" : "" }
        switch arguments {
        case .gemm(let gemm):
            let words = ["gemm", gemm.precision.name, layerName(suffix: suffix) + gemm.epilogue, gemm.direction]
            return (words.filter { !$0.isEmpty }.joined(separator: " "), "\(gemm.m)×\(gemm.n)×\(gemm.k)")
        case .attention(let attention): return ("attention \(attention.type.name) forward", attention.shape)
        case .attentionGradient(let attention): return ("attention \(attention.type.name) backward", attention.shape)
        case .layerNorm(let rows, let width, let output, _, let isRecomputed):
            return ("layernorm \(isRecomputed ? "recompute" : "forward")" + to(output), "\(rows)×\(width)")
        case .layerNormGradient(let rows, let width, let accumulate):
            return ("layernorm backward" + (accumulate ? "" : ", not added"), "\(rows)×\(width)")
        case .columnSum(let rows, let width, let type, _): return ("column sum" + to(type), "\(rows)×\(width)")
        case .sumOfSquares(let count): return ("sum of squares", "\(count) weights")
        case .adamW(let count): return ("adamw", "\(count) weights")
        }
    }
}

extension dmae_precision {
    var name: String {
        switch self {
        case DMAE_PRECISION_BF16: "bf16"
        case DMAE_PRECISION_INT8: "int8"
        default: "f32"
        }
    }
}

extension dmae_type {
    var name: String { self == DMAE_TYPE_BF16 ? "bf16" : "f32" }
    var size: Int { self == DMAE_TYPE_BF16 ? 2 : 4 }
}

extension dmae_attention_arguments {
    fileprivate var shape: String {
        "\(queries == tokens ? "" : "\(queries) of ")\(tokens) tokens \(heads)×\(head_size)"
    }
}

extension dmae_gemm_arguments {
    /// Of a Linear: X·Wᵀ, dX = dY·W, dW = dYᵀ·X.
    enum Form: String { case forward, dX, dW }
    var form: Form { a_transposed ? .dW : b_transposed ? .forward : .dX }

    /// The direction in a row's name: empty if forward, with += if a gradient accumulates.
    fileprivate var direction: String { (form == .forward ? "" : form.rawValue) + (accumulate ? " +=" : "") }
    fileprivate var epilogue: String { activation != nil && before_gelu == nil ? "+gelu" : "" }
}

extension KernelCall {
    /// The linear layer in a row's name: "student qkv" for the student's `blocks.0.attn.qkv`. `suffix` follows the
    /// part.
    func layerName(suffix: String) -> String {
        let words = layer.split(separator: ".")
        switch words.first {
        case "patch_embed": return part + suffix + " patches"
        case "decoder_embed": return "decoder embed" + suffix
        case "decoder_pred": return "prediction" + suffix
        case "decoder_blocks": return "decoder" + suffix + " " + words.last!
        case "blocks": return part + suffix + " " + words.last!
        default: return "feature head" + suffix
        }
    }
}
