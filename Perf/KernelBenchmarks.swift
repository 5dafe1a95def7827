import CKernels
import Glibc

/// What a product reads and what becomes of it, as a step has it.
enum Operands {
    case weight
    ///< X·Wᵀ or dY·W: a weight in float32
    case activations
    ///< dYᵀ·X: both as activations are kept, the result float32, past the caches
    case accumulated
    ///< the same, added to C
    case plain///< both operands, and the result, as activations are kept
}

// m rows (batch 32 times tokens), n outputs, k inputs of a Linear: forward is X·Wᵀ, dX = dY·W, dW = dYᵀ·X.
private func gemm(
    _ name: String, m: Int, n: Int, k: Int, transposed: (Bool, Bool) = (false, true), _ operands: Operands = .weight,
    gelu: Bool = false, residual: Bool = false, isFrozen: Bool = false
) -> [Benchmark] {
    ([DMAE_PRECISION_F32, DMAE_PRECISION_BF16] + (isFrozen ? [DMAE_PRECISION_INT8] : [])).map {
        gemm(name, $0, m: m, n: n, k: k, transposed: transposed, operands, gelu: gelu, residual: residual)
    }
}
func gemm(
    _ name: String, _ precision: dmae_precision, m: Int, n: Int, k: Int, transposed: (Bool, Bool), _ operands: Operands,
    gelu: Bool = false, residual: Bool = false
) -> Benchmark {
    let isInt8 = precision == DMAE_PRECISION_INT8,
        type = isInt8 ? "int8 " : precision == DMAE_PRECISION_BF16 ? "bf16 " : "f32 "
    let bytes =
        4
        * Double(
            m * k + n * k / (isInt8 ? 4 : 1) + m * n * (1 + (operands == .accumulated || residual || gelu ? 1 : 0)))
    let work = Benchmark.Work.kernel(flop: 2 * Double(m) * Double(n) * Double(k), bytes: bytes, precision: precision)
    return Benchmark(name: "gemm " + type + name, shape: "\(m)×\(n)×\(k)", work: work) {
        var arguments = dmae_gemm_arguments()
        arguments.precision = precision
        (arguments.m, arguments.n, arguments.k) = (m, n, k)
        // What only products read is kept in their precision. int8 is a teacher's in a step of bf16.
        let kept = precision != DMAE_PRECISION_F32 ? DMAE_TYPE_BF16 : DMAE_TYPE_F32
        let bType = operands == .weight ? DMAE_TYPE_F32 : kept
        (arguments.a, arguments.lda, arguments.a_transposed) = (matrix(m * k, kept), transposed.0 ? m : k, transposed.0)
        (arguments.b, arguments.ldb, arguments.b_transposed) = (
            matrix(n * k, bType), transposed.1 ? k : n, transposed.1
        )
        (arguments.a_type, arguments.b_type) = (kept, bType)
        if isInt8 {
            let packed = UnsafeMutableRawPointer(memory(dmae_gemm_packed_bytes(precision, k, n) / 4))
            dmae_gemm_pack(precision, k, n, bType, arguments.b, k, true, packed)
            arguments.b_packed = UnsafeRawPointer(packed)
        }
        (arguments.c, arguments.ldc) = (UnsafeMutableRawPointer(memory(m * n)), n)
        switch operands {
        case .weight: arguments.bias = UnsafePointer(memory(n))
        case .activations: arguments.stream_c = true
        case .accumulated: arguments.accumulate = true
        case .plain: arguments.c_type = kept
        }
        if gelu {
            (arguments.activation, arguments.ldactivation) = (UnsafeMutableRawPointer(memory(m * n)), n)
            (arguments.activation_type, arguments.c_type) = (kept, kept)
            if isInt8 { arguments.c = nil }  // a teacher keeps nothing for a backward pass
        }
        if residual { (arguments.residual, arguments.ldr) = (UnsafePointer(memory(m * n)), n) }
        arguments.workspace = UnsafeMutableRawPointer(
            memory(dmae_gemm_workspace(precision, m, n, k, arguments.c_type) / 4 + 16))
        let fixed = arguments
        return {
            var arguments = fixed
            dmae_gemm(&arguments)
        }
    }
}

/// `count` random elements of `type`.
private func matrix(_ count: Int, _ type: dmae_type) -> UnsafeRawPointer {
    let floats = memory(count)
    guard type == DMAE_TYPE_BF16 else { return UnsafeRawPointer(floats) }
    let halves = UnsafeMutableRawPointer(floats)
    for i in 0..<count {
        halves.storeBytes(of: UInt16(floats[i].bitPattern >> 16), toByteOffset: 2 * i, as: UInt16.self)
    }
    return UnsafeRawPointer(halves)
}

private func forward(_ name: String, rows: Int, width d: Int, isFrozen: Bool = false) -> [Benchmark] {
    gemm("\(name) qkv", m: rows, n: 3 * d, k: d, isFrozen: isFrozen)
        + gemm("\(name) proj", m: rows, n: d, k: d, residual: true, isFrozen: isFrozen)
        + gemm("\(name) fc1+gelu", m: rows, n: 4 * d, k: d, gelu: true, isFrozen: isFrozen)
        + gemm("\(name) fc2", m: rows, n: d, k: 4 * d, residual: true, isFrozen: isFrozen)
}
private func backward(_ name: String, rows: Int, width d: Int, weights: Operands = .activations) -> [Benchmark] {
    [("qkv", 3 * d, d), ("proj", d, d), ("fc1", 4 * d, d), ("fc2", d, 4 * d)].flatMap { layer, n, k in
        gemm("\(name) \(layer) dX", m: rows, n: k, k: n, transposed: (false, false))
            + gemm("\(name) \(layer) dW", m: n, n: k, k: rows, transposed: (true, false), weights)
    }
}

private func attention(_ type: dmae_type, queries: Int? = nil, tokens: Int, heads: Int, size: Int) -> [Benchmark] {
    let batch = 32, width = heads * size, queries = queries ?? tokens, element = type == DMAE_TYPE_BF16 ? 2 : 4
    let product = 2 * Double(batch * heads) * Double(queries * tokens) * Double(size)
    let rows = Double(element * batch * width), q = rows * Double(queries), kv = 2 * rows * Double(tokens)
    let precision = type == DMAE_TYPE_BF16 ? DMAE_PRECISION_BF16 : DMAE_PRECISION_F32
    let name = type == DMAE_TYPE_BF16 ? "attention bf16" : "attention f32"
    let shape = "\(queries == tokens ? "" : "\(queries) of ")\(tokens) tokens \(heads)×\(size)"
    func arguments() -> dmae_attention_arguments {
        func tensor(_ rows: Int, _ columns: Int) -> UnsafeMutableRawPointer {
            let floats = memory(batch * rows * columns), tensor = UnsafeMutableRawPointer(floats)
            if type == DMAE_TYPE_BF16 {
                for i in 0..<batch * rows * columns {
                    tensor.storeBytes(of: UInt16(floats[i].bitPattern >> 16), toByteOffset: 2 * i, as: UInt16.self)
                }
            }
            return tensor
        }
        var arguments = dmae_attention_arguments()
        arguments.type = type
        (arguments.batch, arguments.queries, arguments.tokens, arguments.heads) = (batch, queries, tokens, heads)
        arguments.head_size = size
        let qkv = tensor(tokens, 3 * width), gradient = tensor(tokens, 3 * width)
        (arguments.q, arguments.k) = (UnsafeRawPointer(qkv), UnsafeRawPointer(qkv + width * element))
        arguments.v = UnsafeRawPointer(qkv + 2 * width * element)
        (arguments.d_q, arguments.d_k, arguments.d_v) = (
            gradient, gradient + width * element, gradient + 2 * width * element
        )
        (arguments.q_stride, arguments.kv_stride, arguments.output_stride) = (3 * width, 3 * width, width)
        (arguments.output, arguments.d_output) = (tensor(queries, width), UnsafeRawPointer(tensor(queries, width)))
        arguments.log_sum_exp = memory(batch * heads * queries)
        arguments.workspace = UnsafeMutableRawPointer(memory(dmae_attention_workspace(type, queries, tokens, size) / 4))
        return arguments
    }
    return [
        Benchmark(
            name: "\(name) forward", shape: shape,
            work: .kernel(flop: 2 * product, bytes: 2 * q + kv, precision: precision)
        ) {
            var arguments = arguments()
            return { dmae_attention_forward(&arguments) }
        },
        Benchmark(
            name: "\(name) backward", shape: shape,
            work: .kernel(flop: 5 * product, bytes: 4 * q + 2 * kv, precision: precision)
        ) {
            var arguments = arguments()
            dmae_attention_forward(&arguments)
            return { dmae_attention_backward(&arguments) }
        },
    ]
}

private func layerNorm(rows: Int, width: Int) -> [Benchmark] {
    let count = rows * width, shape = "\(rows)×\(width)"
    return [
        Benchmark(name: "layernorm forward", shape: shape, work: .kernel(flop: 0, bytes: 8 * Double(count))) {
            let x = memory(count), y = memory(count), gamma = memory(width), beta = memory(width), mean = memory(rows),
                rstd = memory(rows)
            return { dmae_layernorm_f32_forward(rows, width, x, gamma, beta, 1e-6, DMAE_TYPE_F32, y, mean, rstd) }
        },
        Benchmark(name: "layernorm backward", shape: shape, work: .kernel(flop: 0, bytes: 16 * Double(count))) {
            let x = memory(count), dY = memory(count), dX = memory(count), gamma = memory(width), dGamma = memory(width)
            let dBeta = memory(width), mean = memory(rows), rstd = memory(rows)
            let workspace = memory(dmae_layernorm_f32_backward_workspace(rows, width) / 4)
            return {
                dmae_layernorm_f32_backward(rows, width, x, gamma, mean, rstd, dY, true, dX, dGamma, dBeta, workspace)
            }
        },
    ]
}

private func gelu(rows: Int, width: Int) -> [Benchmark] {
    let count = rows * width, shape = "\(rows)×\(width)"
    return [
        Benchmark(name: "gelu forward", shape: shape, work: .kernel(flop: 0, bytes: 8 * Double(count))) {
            let x = memory(count), y = memory(count)
            return { dmae_gelu_f32_forward(count, x, y) }
        },
        Benchmark(name: "gelu backward", shape: shape, work: .kernel(flop: 0, bytes: 16 * Double(count))) {
            let x = memory(count), d = memory(count), y = memory(count)
            return { dmae_gelu_f32_backward(count, x, d, d, y) }
        },
    ]
}

/// The step of the paper's recipe: teacher ViT-L (1024), student ViT-B (768), decoder 512, batch 32, 75 % masked: 50
/// tokens; the student also at 98 %: 4 tokens.
func kernelBenchmarks() -> [Benchmark] {
    var all = forward("teacher", rows: 1600, width: 1024, isFrozen: true)
    all += forward("student", rows: 1600, width: 768) + backward("student", rows: 1600, width: 768)
    // The decoder's gradients are added up over the parts of a batch.
    all +=
        forward("decoder", rows: 6304, width: 512) + backward("decoder", rows: 6304, width: 512, weights: .accumulated)
    let others = [
        gemm("teacher patches", m: 1568, n: 1024, k: 768), gemm("student patches", m: 1568, n: 768, k: 768),
        gemm("decoder embed", m: 1600, n: 512, k: 768), gemm("feature head", m: 1600, n: 1024, k: 768),
        gemm("prediction", m: 6304, n: 768, k: 512),
        gemm("prediction dX", m: 6304, n: 512, k: 768, transposed: (false, false)),
        gemm("prediction dW", m: 768, n: 512, k: 6304, transposed: (true, false), .accumulated),
    ]
    all += others.flatMap { $0 }
    all += forward("student 98 %", rows: 128, width: 768) + backward("student 98 %", rows: 128, width: 768)
    for type in [DMAE_TYPE_F32, DMAE_TYPE_BF16] {
        for tokens in [4, 10, 50] { all += attention(type, tokens: tokens, heads: 12, size: 64) }
        all += attention(type, tokens: 50, heads: 16, size: 64) + attention(type, tokens: 197, heads: 12, size: 64)
        all +=
            attention(type, tokens: 197, heads: 16, size: 32)
            + attention(type, queries: 147, tokens: 197, heads: 16, size: 32)
    }
    all += layerNorm(rows: 1600, width: 768) + layerNorm(rows: 6304, width: 512)
    all += gelu(rows: 1600, width: 3072) + gelu(rows: 6304, width: 2048)
    let parameters = 1 << 24
    all.append(
        Benchmark(name: "adamw", shape: "\(parameters) weights", work: .kernel(flop: 0, bytes: 28 * Double(parameters)))
        {
            let g = memory(parameters), w = memory(parameters), m = memory(parameters), v = memory(parameters)
            for i in 0..<parameters { v[i] = abs(v[i]) }
            return {
                var settings = dmae_adamw_f32_settings(
                    learning_rate: 1e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.05, gradient_scale: 1,
                    step: 10)
                dmae_adamw_f32(parameters, &settings, g, w, m, v)
            }
        })
    all.append(
        Benchmark(
            name: "sum of squares", shape: "\(parameters) weights",
            work: .kernel(flop: 0, bytes: 4 * Double(parameters))
        ) {
            let x = memory(parameters)
            return { _ = dmae_sum_of_squares_f32(parameters, x) }
        })
    all.append(
        Benchmark(name: "column sum", shape: "6304×2048", work: .kernel(flop: 0, bytes: 4 * 6304 * 2048)) {
            let x = memory(6304 * 2048), sum = memory(2048),
                workspace = memory(dmae_layernorm_f32_backward_workspace(6304, 2048) / 4)
            return { dmae_column_sum_f32(6304, 2048, DMAE_TYPE_F32, x, 2048, sum, workspace) }
        })
    return all
}
