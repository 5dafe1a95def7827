import Tensors

// Letters: R rows, D width.

/// The MLP of a pre-norm transformer block: x + fc2(gelu(fc1(LN(x)))).
///
/// Between forward and backward it keeps the pre-activation [R, 4D] and LayerNorm's statistics of each row. The outputs
/// of LayerNorm and GELU are recomputed, which saves their memory.
struct MLP {
    private let plan: MemoryPlan
    private let schedule: BlockSchedule
    private let norm: LayerNorm
    private let fc1: Linear
    private let fc2: Linear
    private let normed: Tensor
    /// fc1's output. Nil without a backward pass.
    private let preActivation: Tensor?
    private let activation: Tensor
    private let gradients: Gradients?

    private struct Gradients {
        /// With respect to fc2's output, if drop path has scaled it: `d` times the factors.
        let dBranch: Tensor?
        let dPreActivation: Tensor
        let recomputedNormed: Tensor
        let dNormed: Tensor
    }

    /// Adds the parameters of `block.norm2`, `block.mlp.fc1` and `block.mlp.fc2`.
    ///
    /// - Parameter dropsPath: whether `forward` and `backward` may be given factors.
    init(
        _ block: String, rows: Int, width: Int, dropsPath: Bool, schedule: BlockSchedule, in parameters: Parameters
    ) {
        plan = parameters.plan
        self.schedule = schedule
        func linear(_ name: String, _ inputs: Int, _ outputs: Int, _ phase: KeyPath<BlockPhases, Phase>) -> Linear {
            Linear(
                "\(block).mlp.\(name)", inputs: inputs, outputs: outputs, rows: rows, at: schedule.layer(phase),
                in: parameters, isInBlock: true)
        }
        norm = LayerNorm("\(block).norm2", width: width, rows: rows, at: schedule.layer(\.fc1), in: parameters)
        fc1 = linear("fc1", width, 4 * width, \.fc1)
        fc2 = linear("fc2", 4 * width, width, \.fc2)
        let type = parameters.precision.activations
        normed = parameters.buffer(
            "\(block).norm2 output", rows, width, as: type, alive: .only(schedule.forward.fc1))
        activation = parameters.buffer(
            "\(block).mlp activation", rows, 4 * width, as: type,
            alive: .during(schedule.forward.fc1...schedule.forward.fc2))
        guard let backward = schedule.backward else {
            (preActivation, gradients) = (nil, nil)
            return
        }
        preActivation = parameters.buffer(
            "\(block).mlp pre-activation", rows, 4 * width, .activations, as: type,
            alive: schedule.value(\.fc1, \.fc1, backward: \.fc2))
        gradients = Gradients(
            dBranch: dropsPath
                ? parameters.buffer(
                    "\(block).mlp output gradient", rows, width, as: type, alive: .only(backward.fc2)) : nil,
            dPreActivation: parameters.buffer(
                "\(block).mlp pre-activation gradient", rows, 4 * width, as: type,
                alive: .during(backward.fc2...backward.fc1)),
            recomputedNormed: parameters.buffer(
                "\(block).norm2 output, recomputed", rows, width, as: type, alive: .only(backward.fc1)),
            dNormed: parameters.buffer(
                "\(block).norm2 output gradient", rows, width, alive: .only(backward.fc1)))
    }

    /// y[R, D] = x[R, D] + f · fc2(gelu(fc1(LN(x)))). f are the factors of the images' rows; nil: 1. y may be x if no
    /// backward pass follows.
    func forward(_ x: Tensor, _ y: Tensor, factors: Tensor?) {
        plan.begin(schedule.forward.fc1)
        norm.forward(x, normed)
        fc1.forward(normed, preActivation, .gelu(activation: activation))
        plan.begin(schedule.forward.fc2)
        fc2.forward(activation, y, .residual(x, scaledBy: factors))
    }

    /// Backward pass. In: `d` [R, D], the gradient with respect to the output y; out: `d`, the gradient with respect to
    /// x. The gradients of matrices are overwritten unless `accumulate`; gradients of vectors always accumulate.
    func backward(_ x: Tensor, d: Tensor, factors: Tensor?, accumulate: Bool) {
        let (gradients, backward) = (gradients!, schedule.backward!)
        plan.begin(backward.fc2)
        // Alias: GELU's recomputed output overwrites the pre-activation, which is not read after this.
        let activation = preActivation!
        var dBranch = d
        if let factors {
            dBranch = gradients.dBranch!
            ScaledRows(source: d, factors: factors, target: dBranch).run()
        }
        fc2.inputGradient(dBranch, gradients.dPreActivation, preActivation: activation, activation: activation)
        fc2.weightGradient(dBranch, activation, accumulate: accumulate)
        plan.begin(backward.fc1)
        norm.recompute(x, gradients.recomputedNormed)
        fc1.weightGradient(gradients.dPreActivation, gradients.recomputedNormed, accumulate: accumulate)
        fc1.inputGradient(gradients.dPreActivation, gradients.dNormed)
        norm.backward(x, dY: gradients.dNormed, dX: d, accumulate: true)
    }
}
