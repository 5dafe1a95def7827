import CKernels
import Tensors

/// A row for each kind of call of the paper's step.
package func stepBenchmarks(_ rows: [StepCalls.Row]) -> [Benchmark] {
    rows.map { row in
        let call = row.call
        return Benchmark(
            name: row.name, shape: row.shape,
            work: .kernel(flop: call.flop, bytes: Double(call.bytes), precision: call.precision),
            prepare: { call.prepare() })
    }
}

/// An operation of the list of variants that no row can measure.
package struct Unmeasured: Error, CustomStringConvertible {
    package let operation: String

    package var description: String { "nothing measures \(operation), an operation of the list of variants" }
}

/// A row for each variant of the list that this processor runs, on a small call of its operation in the step.
///
/// - Returns: also the variants that this processor lacks.
/// - Throws: `Unmeasured` if no call of the step runs an operation of the list.
package func variantBenchmarks(_ rows: [StepCalls.Row]) throws -> (benchmarks: [Benchmark], missing: [String]) {
    var benchmarks: [Benchmark] = [], missing: [String] = []
    let selected = InstructionSet.selected
    defer { _ = selected.use() }
    for variant in InstructionSet.variants {
        guard variant.instructionSet.use() else {
            missing.append(variant.name)
            continue
        }
        var benchmark: Benchmark
        if let precision = peak(of: variant.operation) {
            benchmark = Benchmark(name: variant.name, shape: "", work: .peak(precision), prepare: { {} })
        } else if let row = representative(of: variant.operation, rows) {
            benchmark = stepBenchmarks([row])[0]
            benchmark = Benchmark(
                name: variant.name, shape: row.shape, work: benchmark.work, prepare: benchmark.prepare)
        } else {
            throw Unmeasured(operation: variant.operation)
        }
        benchmark.variant = variant
        benchmarks.append(benchmark)
    }
    return (benchmarks, missing)
}

/// The smallest call of an operation that still takes long enough to be timed, even by the fastest variant.
private func representative(of operation: String, _ rows: [StepCalls.Row]) -> StepCalls.Row? {
    let calls = rows.filter { $0.call.operation == operation }.sorted { $0.call < $1.call }
    return calls.first { $0.call.flop >= 1e8 || $0.call.flop == 0 && $0.call.bytes >= 8 << 20 } ?? calls.last
}

/// The precision of an operation that measures the machine.
private func peak(of operation: String) -> dmae_precision? {
    [DMAE_PRECISION_F32, DMAE_PRECISION_BF16, DMAE_PRECISION_INT8].first { "peak_" + $0.name == operation }
}

extension KernelCall {
    /// Orders calls by work.
    fileprivate static func < (a: KernelCall, b: KernelCall) -> Bool { (a.flop, a.bytes) < (b.flop, b.bytes) }

    /// Allocates memory for the call and returns the code that is timed.
    package func prepare() -> () -> Void {
        switch arguments {
        case .gemm(let gemm): gemm.prepare()
        case .attention(let attention): attention.prepare { dmae_attention_forward(&$0) }
        case .attentionGradient(let attention):
            attention.prepare(after: { dmae_attention_forward(&$0) }) { dmae_attention_backward(&$0) }
        case .layerNorm(let rows, let width, let output, let keepsStatistics, let isRecomputed):
            layerNorm(rows, width, output, keepsStatistics: keepsStatistics, isRecomputed: isRecomputed)
        case .layerNormGradient(let rows, let width, let accumulate): layerNormGradient(rows, width, accumulate)
        case .columnSum(let rows, let width, let type, let stride): columnSum(rows, width, type, stride)
        case .sumOfSquares(let count): sumOfSquares(count)
        case .adamW(let count): adamW(count)
        }
    }

    private func layerNorm(
        _ rows: Int, _ width: Int, _ output: ElementType, keepsStatistics: Bool, isRecomputed: Bool
    ) -> () -> Void {
        let count = rows * width, x = memory(count), y = UnsafeMutableRawPointer(memory(count))
        let gamma = memory(width), beta = memory(width)
        let type = output == .bf16 ? DMAE_TYPE_BF16 : DMAE_TYPE_F32
        let hasStatistics = keepsStatistics || isRecomputed
        let mean = hasStatistics ? memory(rows) : nil, rstd = hasStatistics ? memory(rows) : nil
        guard isRecomputed else {
            return {
                dmae_layernorm_f32_forward(
                    rows, width, x, gamma, beta, Kernels.layerNormEpsilon, type, y, mean, rstd)
            }
        }
        return { dmae_layernorm_f32_apply(rows, width, x, gamma, beta, mean, rstd, type, y) }
    }

    private func layerNormGradient(_ rows: Int, _ width: Int, _ accumulate: Bool) -> () -> Void {
        let count = rows * width, x = memory(count), dY = memory(count), dX = memory(count)
        let gamma = memory(width), dGamma = memory(width), dBeta = memory(width)
        let mean = memory(rows), rstd = memory(rows)
        let workspace = scratch(dmae_layernorm_f32_backward_workspace(rows, width))
        return {
            dmae_layernorm_f32_backward(
                rows, width, x, gamma, mean, rstd, dY, accumulate, dX, dGamma, dBeta, workspace)
        }
    }

    private func columnSum(_ rows: Int, _ width: Int, _ type: ElementType, _ stride: Int) -> () -> Void {
        let type = type == .bf16 ? DMAE_TYPE_BF16 : DMAE_TYPE_F32
        let x = matrix(rows * stride, type), sum = memory(width)
        let workspace = scratch(dmae_layernorm_f32_backward_workspace(rows, width))
        return { dmae_column_sum_f32(rows, width, type, x, stride, sum, workspace) }
    }

    private func sumOfSquares(_ count: Int) -> () -> Void {
        let x = memory(count)
        return { _ = dmae_sum_of_squares_f32(count, x) }
    }

    private func adamW(_ count: Int) -> () -> Void {
        let g = memory(count), w = memory(count), m = memory(count), v = memory(count)
        for i in 0..<count { v[i] = abs(v[i]) }
        return {
            var settings = dmae_adamw_f32_settings(
                learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.05, gradient_scale: 1,
                step: 10)
            dmae_adamw_f32(count, &settings, g, w, m, v)
        }
    }

    /// The precision of the peak that the row is compared with.
    var precision: dmae_precision {
        switch arguments {
        case .gemm(let gemm): gemm.precision
        case .attention(let attention), .attentionGradient(let attention):
            attention.type == DMAE_TYPE_BF16 ? DMAE_PRECISION_BF16 : DMAE_PRECISION_F32
        default: DMAE_PRECISION_F32
        }
    }
}

extension dmae_gemm_arguments {
    func prepare() -> () -> Void {
        var operands = Operands()
        operands.add(a, rows: a_transposed ? k : m, columns: a_transposed ? m : k, stride: lda, a_type)
        if b_packed == nil {
            operands.add(b, rows: b_transposed ? n : k, columns: b_transposed ? k : n, stride: ldb, b_type)
        }
        operands.add(c, rows: m, columns: n, stride: ldc, c_type)
        operands.add(activation, rows: m, columns: n, stride: ldactivation, activation_type)
        operands.add(before_gelu, rows: m, columns: n, stride: ldbefore, before_gelu_type)
        operands.add(residual, rows: m, columns: n, stride: ldr, DMAE_TYPE_F32)
        operands.add(bias, rows: 1, columns: n, stride: n, DMAE_TYPE_F32)
        if rows_per_factor > 0 {
            let factors = (m + rows_per_factor - 1) / rows_per_factor
            operands.add(row_factor, rows: 1, columns: factors, stride: factors, DMAE_TYPE_F32)
        }
        operands.allocate()
        var call = self
        call.a = UnsafeRawPointer(operands[a])
        if b_packed == nil {
            call.b = UnsafeRawPointer(operands[b])
        } else {
            let weight = matrix(n * k, DMAE_TYPE_F32), packed = scratch(dmae_gemm_packed_bytes(precision, k, n))
            dmae_gemm_pack(precision, k, n, DMAE_TYPE_F32, weight, k, true, packed)
            call.b_packed = UnsafeRawPointer(packed)
            call.b = UnsafeRawPointer(weight)
        }
        (call.c, call.activation, call.before_gelu) = (
            operands[c], operands[activation], UnsafeRawPointer(operands[before_gelu])
        )
        (call.residual, call.bias, call.row_factor) = (operands[residual], operands[bias], operands[row_factor])
        call.workspace = scratch(dmae_gemm_workspace(precision, m, n, k, c == nil ? activation_type : c_type))
        return { [call] in
            var call = call
            dmae_gemm(&call)
        }
    }
}

extension dmae_attention_arguments {
    func prepare(
        after before: (inout dmae_attention_arguments) -> Void = { _ in },
        _ kernel: @escaping (inout dmae_attention_arguments) -> Void
    ) -> () -> Void {
        let width = heads * head_size
        var operands = Operands()
        func add(_ pointer: UnsafeRawPointer?, _ rows: Int, _ stride: Int) {
            operands.add(pointer, rows: batch * rows, columns: width, stride: stride, type)
        }
        add(q, queries, q_stride)
        add(k, tokens, kv_stride)
        add(v, tokens, kv_stride)
        add(output, queries, output_stride)
        add(d_output, queries, output_stride)
        add(d_q, queries, q_stride)
        add(d_k, tokens, kv_stride)
        add(d_v, tokens, kv_stride)
        operands.add(log_sum_exp, rows: 1, columns: batch * heads * queries, stride: 0, DMAE_TYPE_F32)
        operands.allocate()
        var call = self
        (call.q, call.k, call.v) = (
            UnsafeRawPointer(operands[q]), UnsafeRawPointer(operands[k]), UnsafeRawPointer(operands[v])
        )
        (call.output, call.d_output) = (operands[output], UnsafeRawPointer(operands[d_output]))
        (call.d_q, call.d_k, call.d_v) = (operands[d_q], operands[d_k], operands[d_v])
        call.log_sum_exp = operands[log_sum_exp]
        call.workspace = scratch(dmae_attention_workspace(type, queries, tokens, head_size))
        before(&call)
        return { [call] in
            var call = call
            kernel(&call)
        }
    }
}
