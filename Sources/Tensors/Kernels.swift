import CKernels

/// The Swift interface of the C kernels, which checks shapes and takes the pointers.
///
/// Letters: R rows, D width, N outputs, K inputs, B batch, T tokens, H heads.
public enum Kernels {
    // MARK: Linear layers

    /// The epilogue of a linear layer's forward matmul.
    public enum Epilogue {
        /// Stored as it is.
        case none
        /// The residual [R, N] is added; it may be the output itself. With factors [images], each row of the result is
        /// first multiplied by the factor of its image, which has R / images adjacent rows.
        case residual(Tensor, scaledBy: Tensor? = nil)
        /// `activation` [R, N] receives GELU of the result.
        case gelu(activation: Tensor)
    }

    /// A weight [N, K] packed for forward matmuls by the instruction set that was selected when its memory was planned.
    public struct PackedWeight {
        let memory: Workspace
        /// Outputs × inputs of the weight.
        let rows: Int, columns: Int
        let precision: Precision
        let instructionSet: InstructionSet

        /// Plans the memory for `x · weightᵀ`.
        public init(
            _ name: String, rows: Int, columns: Int, precision: Precision, plan: MemoryPlan,
            _ purpose: MemoryPlan.Purpose
        ) {
            self.rows = rows
            self.columns = columns
            self.precision = precision
            instructionSet = .selected
            memory = plan.reserve(name, bytes: dmae_gemm_packed_bytes(precision.kernels, columns, rows), purpose)
        }

        /// Packs the weight's present values, unless the packed weight is another process's.
        public func pack(_ weight: Tensor) {
            precondition(weight.rows == rows && weight.columns == columns)
            precondition(
                instructionSet == .selected, "the instruction set changed since the weight's memory was planned")
            if Profile.isRecording || !memory.plan.isWritable(slot: memory.slot) { return }
            dmae_gemm_pack(
                precision.kernels, columns, rows, weight.type.kernels, weight.address, weight.stride, true,
                memory.pointer)
        }
    }

    /// Bytes of workspace for a linear layer's forward matmul and both backward matmuls with `rows` rows. `activations`
    /// is the type of inputs and outputs that are not float32. With int8 there is no backward pass.
    public static func linearWorkspaceBytes(
        rows: Int, inputs: Int, outputs: Int, precision: Precision, activations: ElementType
    ) -> Int {
        let forward = dmae_gemm_workspace(precision.kernels, rows, outputs, inputs, activations.kernels)
        guard precision != .int8 else { return forward }
        return max(
            forward, dmae_gemm_workspace(precision.kernels, rows, inputs, outputs, activations.kernels),
            dmae_gemm_workspace(precision.kernels, outputs, inputs, rows, DMAE_TYPE_F32),
            reductionWorkspaceBytes(rows: rows, width: outputs))
    }

    /// output[R, N] = x[R, K] · weight[N, K]ᵀ + bias[N], then the epilogue. `output` may be nil with GELU: the
    /// pre-activation is then not kept. `packed`, if given, replaces the weight and decides the precision of the
    /// matmul, which may be int8.
    public static func linear(
        _ x: Tensor, weight: Tensor, packed: PackedWeight? = nil, bias: Tensor?, output: Tensor?,
        _ epilogue: Epilogue = .none,
        precision: Precision, workspace: Workspace
    ) {
        precondition(x.columns == weight.columns && (bias == nil || bias!.count == weight.rows))
        var arguments = product(
            x, transposed: false, weight, transposed: true, (x.rows, weight.rows, x.columns), precision)
        if let packed {
            precondition(packed.rows == weight.rows && packed.columns == weight.columns)
            precondition(packed.instructionSet == .selected, "the instruction set changed since the weight was packed")
            arguments.b_packed = UnsafeRawPointer(packed.memory.pointer)
            arguments.precision = packed.precision.kernels
        }
        if let output {
            precondition(output.rows == x.rows && output.columns == weight.rows)
            set(output, &arguments)
        }
        if let bias { arguments.bias = UnsafePointer(bias.pointer) }
        switch epilogue {
        case .none: break
        case .residual(let residual, let factors):
            precondition(residual.rows == x.rows && residual.columns == weight.rows)
            arguments.residual = UnsafePointer(residual.pointer)
            arguments.ldr = residual.stride
            if let factors {
                precondition(x.rows % factors.count == 0, "the images of a batch have as many rows each")
                arguments.row_factor = UnsafePointer(factors.pointer)
                arguments.rows_per_factor = x.rows / factors.count
            }
        case .gelu(let activation):
            precondition(activation.rows == x.rows && activation.columns == weight.rows)
            set(activation: activation, &arguments)
        }
        run(&arguments, packed?.precision == .int8 ? .forwardInt8 : .forward, workspace)
    }

    /// dX[R, K] = (or += when `accumulate`) dY[R, N] · weight[N, K].
    public static func linearInputGradient(
        _ dY: Tensor, weight: Tensor, dX: Tensor, accumulate: Bool = false, precision: Precision, workspace: Workspace
    ) {
        precondition(dY.columns == weight.rows && dX.rows == dY.rows && dX.columns == weight.columns)
        var arguments = product(
            dY, transposed: false, weight, transposed: false, (dY.rows, weight.columns, weight.rows), precision)
        set(dX, &arguments)
        arguments.accumulate = accumulate
        run(&arguments, .inputGradient, workspace)
    }

    /// The same for a layer whose input is gelu(preActivation): dX = (dY · weight) · gelu'(preActivation). `activation`
    /// receives the recomputed gelu(preActivation) and may be the same tensor as `preActivation`. dX, preActivation and
    /// activation are [R, K].
    public static func linearInputGradient(
        _ dY: Tensor, weight: Tensor, preActivation: Tensor, activation: Tensor, dX: Tensor, precision: Precision,
        workspace: Workspace
    ) {
        precondition(dY.columns == weight.rows && dX.rows == dY.rows && dX.columns == weight.columns)
        precondition(preActivation.rows == dX.rows && preActivation.columns == dX.columns)
        precondition(activation.rows == dX.rows && activation.columns == dX.columns)
        var arguments = product(
            dY, transposed: false, weight, transposed: false, (dY.rows, weight.columns, weight.rows), precision)
        set(dX, &arguments)
        set(activation: activation, &arguments)
        arguments.before_gelu = UnsafeRawPointer(preActivation.address)
        arguments.before_gelu_type = preActivation.type.kernels
        arguments.ldbefore = preActivation.stride
        run(&arguments, .inputGradient, workspace)
    }

    /// dWeight[N, K] = (or += when `accumulate`) dY[R, N]ᵀ · x[R, K]; dBias[N] += column sums of dY.
    public static func linearWeightGradient(
        _ dY: Tensor, _ x: Tensor, dWeight: Tensor, accumulate: Bool, dBias: Tensor, precision: Precision,
        workspace: Workspace
    ) {
        precondition(dY.rows == x.rows && dWeight.rows == dY.columns && dWeight.columns == x.columns)
        precondition(dBias.count == dY.columns)
        Profile.run(
            .columnSum, bytes: dY.count * dY.type.size,
            .columnSum(rows: dY.rows, width: dY.columns, type: dY.type, stride: dY.stride)
        ) {
            dmae_column_sum_f32(
                dY.rows, dY.columns, dY.type.kernels, dY.address, dY.stride, dBias.pointer,
                workspace.pointer(bytes: reductionWorkspaceBytes(rows: dY.rows, width: dY.columns)))
        }
        var arguments = product(
            dY, transposed: true, x, transposed: false, (dY.columns, x.columns, x.rows), precision)
        set(dWeight, &arguments)
        arguments.accumulate = accumulate
        // Non-temporal stores: the caches would not keep the gradient until the optimiser or the next micro-batch reads
        // it.
        arguments.stream_c = !accumulate
        run(&arguments, .weightGradient, workspace)
    }

    private static func run(
        _ arguments: inout dmae_gemm_arguments, _ operation: Profile.Operation, _ workspace: Workspace
    ) {
        let (m, n, k) = (arguments.m, arguments.n, arguments.k)
        let output = arguments.c == nil ? arguments.activation_type : arguments.c_type
        arguments.workspace = workspace.pointer(bytes: dmae_gemm_workspace(arguments.precision, m, n, k, output))
        let outputs =
            (arguments.c == nil ? 0 : dmae_type_bytes(arguments.c_type))
            + (arguments.activation == nil ? 0 : dmae_type_bytes(arguments.activation_type))
            + (arguments.residual == nil && !arguments.accumulate ? 0 : 4)
            + (arguments.before_gelu == nil ? 0 : dmae_type_bytes(arguments.before_gelu_type))
        let weightSize = operation == .forwardInt8 ? 1 : dmae_type_bytes(arguments.b_type)
        let bytes = m * k * dmae_type_bytes(arguments.a_type) + k * n * weightSize + m * n * outputs
        Profile.run(operation, flop: 2 * Double(m) * Double(n) * Double(k), bytes: bytes, .gemm(arguments)) {
            dmae_gemm(&arguments)
        }
    }

    /// The arguments of a matmul op(a)[m, k] · op(b)[k, n], with operands and sizes set but no output.
    private static func product(
        _ a: Tensor, transposed aTransposed: Bool, _ b: Tensor, transposed bTransposed: Bool,
        _ size: (m: Int, n: Int, k: Int),
        _ precision: Precision
    ) -> dmae_gemm_arguments {
        var arguments = dmae_gemm_arguments()
        arguments.precision = precision.kernels
        (arguments.m, arguments.n, arguments.k) = size
        arguments.a = UnsafeRawPointer(a.address)
        arguments.a_type = a.type.kernels
        arguments.lda = a.stride
        arguments.a_transposed = aTransposed
        arguments.b = UnsafeRawPointer(b.address)
        arguments.b_type = b.type.kernels
        arguments.ldb = b.stride
        arguments.b_transposed = bTransposed
        return arguments
    }

    private static func set(_ output: Tensor, _ arguments: inout dmae_gemm_arguments) {
        arguments.c = output.address
        arguments.c_type = output.type.kernels
        arguments.ldc = output.stride
    }

    private static func set(activation: Tensor, _ arguments: inout dmae_gemm_arguments) {
        arguments.activation = activation.address
        arguments.activation_type = activation.type.kernels
        arguments.ldactivation = activation.stride
    }

    // MARK: Attention

    /// Bytes of workspace for attention, forward and backward, with queries for `queries` of an image's `tokens`
    /// tokens.
    public static func attentionWorkspaceBytes(queries: Int, tokens: Int, headSize: Int, as type: ElementType) -> Int {
        dmae_attention_workspace(type.kernels, queries, tokens, headSize)
    }

    /// Queries [B·Q, D], keys and values [B·T, D] of attention, or their gradients; all of one type, keys and values of
    /// one stride.
    public struct AttentionInputs {
        public let query, key, value: Tensor

        public init(query: Tensor, key: Tensor, value: Tensor) {
            precondition(query.type == key.type && key.type == value.type && key.stride == value.stride)
            precondition(query.columns == key.columns && key.columns == value.columns && key.rows == value.rows)
            (self.query, self.key, self.value) = (query, key, value)
        }

        /// A separate tensor of queries, and the halves of keysAndValues [B·T, 2D].
        public init(query: Tensor, keysAndValues: Tensor) {
            let width = keysAndValues.columns / 2
            self.init(
                query: query, key: keysAndValues.columns(0..<width), value: keysAndValues.columns(width..<2 * width))
        }

        /// The thirds of qkv [B·T, 3D].
        public init(_ qkv: Tensor) {
            let width = qkv.columns / 3
            self.init(
                query: qkv.columns(0..<width), key: qkv.columns(width..<2 * width),
                value: qkv.columns(2 * width..<3 * width))
        }
    }

    /// output[B·Q, D] = softmax(Q·Kᵀ·(D/H)^-½)·V per head; logSumExp[B·H·Q] is kept for the backward pass.
    public static func attention(
        _ inputs: AttentionInputs, batch: Int, heads: Int, output: Tensor, logSumExp: Tensor?, workspace: Workspace
    ) {
        var arguments = attentionArguments(inputs, output, logSumExp, batch: batch, heads: heads, workspace)
        let bytes = 2 * (inputs.query.count + inputs.key.count) * output.type.size
        Profile.run(.attention, flop: 2 * product(arguments), bytes: bytes, .attention(arguments)) {
            dmae_attention_forward(&arguments)
        }
    }

    /// gradients = those with respect to queries, keys and values, from the forward pass's inputs, output and
    /// log-sum-exp and from dOutput [B·Q, D].
    public static func attentionGradient(
        _ inputs: AttentionInputs, output: Tensor, logSumExp: Tensor, dOutput: Tensor, batch: Int, heads: Int,
        gradients: AttentionInputs, workspace: Workspace
    ) {
        var arguments = attentionArguments(inputs, output, logSumExp, batch: batch, heads: heads, workspace)
        precondition(dOutput.count == output.count && dOutput.stride == output.stride && dOutput.type == output.type)
        precondition(gradients.query.rows == inputs.query.rows && gradients.key.rows == inputs.key.rows)
        precondition(gradients.query.stride == inputs.query.stride && gradients.key.stride == inputs.key.stride)
        precondition(gradients.query.type == inputs.query.type && gradients.query.columns == inputs.query.columns)
        arguments.d_output = UnsafeRawPointer(dOutput.address)
        arguments.d_q = gradients.query.address
        arguments.d_k = gradients.key.address
        arguments.d_v = gradients.value.address
        let bytes = 4 * (inputs.query.count + inputs.key.count) * output.type.size
        Profile.run(.attentionGradient, flop: 5 * product(arguments), bytes: bytes, .attentionGradient(arguments)) {
            dmae_attention_backward(&arguments)
        }
    }

    /// FLOP of one of attention's matmuls, over all heads.
    private static func product(_ arguments: dmae_attention_arguments) -> Double {
        2 * Double(arguments.batch * arguments.heads * arguments.queries)
            * Double(arguments.tokens * arguments.head_size)
    }

    private static func attentionArguments(
        _ inputs: AttentionInputs, _ output: Tensor, _ logSumExp: Tensor?, batch: Int, heads: Int,
        _ workspace: Workspace
    ) -> dmae_attention_arguments {
        let (query, key, width) = (inputs.query, inputs.key, output.columns)
        precondition(query.rows == output.rows && query.columns == width && query.type == output.type)
        precondition(query.rows % batch == 0 && key.rows % batch == 0 && width % heads == 0)
        precondition(logSumExp == nil || logSumExp!.count == heads * query.rows)
        var arguments = dmae_attention_arguments()
        arguments.type = query.type.kernels
        (arguments.batch, arguments.queries, arguments.tokens) = (batch, query.rows / batch, key.rows / batch)
        (arguments.heads, arguments.head_size) = (heads, width / heads)
        arguments.q = UnsafeRawPointer(query.address)
        arguments.k = UnsafeRawPointer(key.address)
        arguments.v = UnsafeRawPointer(inputs.value.address)
        (arguments.q_stride, arguments.kv_stride, arguments.output_stride) = (query.stride, key.stride, output.stride)
        arguments.output = output.address
        arguments.log_sum_exp = logSumExp?.pointer
        arguments.workspace = workspace.pointer(
            bytes: dmae_attention_workspace(arguments.type, arguments.queries, arguments.tokens, arguments.head_size))
        return arguments
    }

    // MARK: LayerNorm

    /// ε of every LayerNorm in MAE's models.
    public static let layerNormEpsilon: Float = 1e-6

    /// Bytes of workspace for a LayerNorm's backward pass or a column sum.
    public static func reductionWorkspaceBytes(rows: Int, width: Int) -> Int {
        dmae_layernorm_f32_backward_workspace(rows, width)
    }

    /// y[R, D] = LayerNorm(x); mean[R] and rstd[R] are kept for the backward pass, or both nil.
    public static func layerNorm(_ x: Tensor, gamma: Tensor, beta: Tensor, y: Tensor, mean: Tensor?, rstd: Tensor?) {
        precondition(x.count == y.count && gamma.count == x.columns && beta.count == x.columns)
        Profile.run(
            .layerNorm, bytes: x.count * (4 + y.type.size),
            .layerNorm(
                rows: x.rows, width: x.columns, output: y.type, keepsStatistics: mean != nil, isRecomputed: false)
        ) {
            dmae_layernorm_f32_forward(
                x.rows, x.columns, x.pointer, gamma.pointer, beta.pointer, layerNormEpsilon, y.type.kernels, y.address,
                mean?.pointer, rstd?.pointer)
        }
    }

    /// y[R, D] = LayerNorm(x), recomputed from the statistics that the forward pass kept: the same bits.
    public static func layerNormRecompute(
        _ x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, rstd: Tensor, y: Tensor
    ) {
        precondition(x.count == y.count && gamma.count == x.columns && beta.count == x.columns)
        Profile.run(
            .layerNorm, bytes: x.count * (4 + y.type.size),
            .layerNorm(rows: x.rows, width: x.columns, output: y.type, keepsStatistics: false, isRecomputed: true)
        ) {
            dmae_layernorm_f32_apply(
                x.rows, x.columns, x.pointer, gamma.pointer, beta.pointer, mean.pointer, rstd.pointer, y.type.kernels,
                y.address)
        }
    }

    /// dX[R, D] = (or += when `accumulate`) the gradient with respect to x; dGamma, dBeta [D] +=.
    public static func layerNormGradient(
        _ x: Tensor, gamma: Tensor, mean: Tensor, rstd: Tensor, dY: Tensor, accumulate: Bool, dX: Tensor,
        dGamma: Tensor,
        dBeta: Tensor, workspace: Workspace
    ) {
        precondition(x.count == dY.count && x.count == dX.count && gamma.count == x.columns)
        Profile.run(
            .layerNormGradient, bytes: x.count * (accumulate ? 16 : 12),
            .layerNormGradient(rows: x.rows, width: x.columns, accumulate: accumulate)
        ) {
            dmae_layernorm_f32_backward(
                x.rows, x.columns, x.pointer, gamma.pointer, mean.pointer, rstd.pointer, dY.pointer, accumulate,
                dX.pointer, dGamma.pointer, dBeta.pointer,
                workspace.pointer(bytes: reductionWorkspaceBytes(rows: x.rows, width: x.columns)))
        }
    }

    // MARK: Reductions and the optimiser

    /// Σ x² over all elements, in double.
    public static func sumOfSquares(_ x: Tensor) -> Double {
        if Profile.isRecording {
            Profile.note(.sumOfSquares(count: x.count), bytes: 4 * x.count)
            return 0
        }
        return dmae_sum_of_squares_f32(x.count, x.elements.baseAddress)
    }

    /// The settings of one AdamW step.
    public struct AdamWSettings {
        /// Learning rate of this step.
        public var learningRate: Float
        /// Decay rate of the first moment.
        public var beta1: Float
        /// Decay rate of the second moment.
        public var beta2: Float
        /// Added to the root of the second moment.
        public var epsilon: Float
        /// Decoupled weight decay; zero for the parameters that do not decay.
        public var weightDecay: Float
        /// Every gradient is multiplied by this first.
        public var gradientScale: Float
        /// Steps taken, this one included; ≥ 1.
        public var step: Int

        public init(
            learningRate: Float, beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float, gradientScale: Float,
            step: Int
        ) {
            self.learningRate = learningRate
            self.beta1 = beta1
            self.beta2 = beta2
            self.epsilon = epsilon
            self.weightDecay = weightDecay
            self.gradientScale = gradientScale
            self.step = step
        }
    }

    /// One AdamW step (PyTorch's order of operations) on a weight and its moments.
    public static func adamW(
        weight: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, _ settings: AdamWSettings
    ) {
        precondition(
            weight.count == gradient.count && weight.count == firstMoment.count && weight.count == secondMoment.count)
        var c = dmae_adamw_f32_settings(
            learning_rate: settings.learningRate, beta1: settings.beta1, beta2: settings.beta2,
            epsilon: settings.epsilon,
            weight_decay: settings.weightDecay, gradient_scale: settings.gradientScale, step: UInt64(settings.step))
        Profile.run(.optimizer, bytes: 28 * weight.count, .adamW(count: weight.count)) {
            dmae_adamw_f32(
                weight.count, &c, gradient.pointer, weight.pointer, firstMoment.pointer, secondMoment.pointer)
        }
    }
}
