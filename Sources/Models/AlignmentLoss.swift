import Tensors

// Letters: R rows (batch × (1 + kept patches)), Ds student width, Dt teacher width.

/// The loss of one aligned pair: projects a student block's output and measures its distance to a teacher block's
/// output.
///
/// With a projection P, features are compared on the unit sphere: mean |t̂ - ŝ| or mean (t̂ - ŝ)² over all tokens and
/// the width, with t̂ = t/max(‖t‖, 1e-12) and ŝ = P(s)/max(‖P(s)‖, 1e-12). Without one, the raw features are compared.
/// (DMAE, section 3.)
public final class AlignmentLoss {
    private enum Head {
        case none
        case linear(Linear)
        case mlp(fc1: Linear, fc2: Linear, preActivation: Tensor, activation: Tensor, dPreActivation: Tensor)
    }
    /// The aligned blocks.
    public let pair: AlignedPair
    private let distance: AlignmentDistance
    private let head: Head
    /// The teacher's block output, raw: [R, Dt].
    public let teacherFeature: Tensor
    private let projected: Tensor?
    private let dProjected: Tensor
    private let rowLosses: Tensor

    /// - Parameters:
    ///   - written: the phase in which the teacher's feature is written.
    ///   - phases: the phases in which the pair is compared and its gradient is added to the student's.
    ///   - end: the last phase in which the teacher's feature is read.
    init(
        _ index: Int, _ configuration: AlignmentConfiguration, studentWidth: Int, teacherWidth: Int, rows: Int,
        written: Phase, at phases: LayerPhases, until end: Phase, in parameters: Parameters
    ) {
        pair = configuration.pairs[index]
        distance = configuration.distance
        let name = "aligned_feature_projection_heads.\(index)"
        let type = parameters.precision.activations, backward = phases.backward!
        func linear(_ part: String, _ inputs: Int) -> Linear {
            Linear(name + part, inputs: inputs, outputs: teacherWidth, rows: rows, at: phases, in: parameters)
        }
        func buffer(
            _ what: String, _ columns: Int, _ purpose: MemoryPlan.Purpose = .scratch, as type: ElementType = .f32,
            alive lifetime: Lifetime
        ) -> Tensor {
            parameters.buffer("alignment \(index) \(what)", rows, columns, purpose, as: type, alive: lifetime)
        }
        switch configuration.projection {
        case .none: head = .none
        case .linear: head = .linear(linear("", studentWidth))
        case .mlp:
            head = .mlp(
                fc1: linear(".fc1", studentWidth), fc2: linear(".fc2", teacherWidth),
                preActivation: buffer(
                    "pre-activation", teacherWidth, .activations, as: type, alive: .during(phases.forward...backward)),
                activation: buffer("activation", teacherWidth, as: type, alive: .only(phases.forward, backward)),
                dPreActivation: buffer("pre-activation gradient", teacherWidth, as: type, alive: .only(backward)))
        }
        teacherFeature = buffer("teacher feature", teacherWidth, .teacherActivations, alive: .during(written...end))
        projected =
            configuration.projection == .none ? nil : buffer("projection", teacherWidth, alive: .only(phases.forward))
        dProjected = buffer(
            "projection gradient", teacherWidth, .activations, alive: .during(phases.forward...backward))
        rowLosses = buffer("row losses", 1, alive: .only(phases.forward))
    }

    /// Returns the distance for the first `count` rows of the student's block output [R, Ds], by default all, and
    /// stores `scale` times the gradient of the distance for all rows, for `backward`.
    func lossAndGradient(_ feature: Tensor, rows count: Int? = nil, scale: Float) -> Float {
        switch head {
        case .none: break
        case .linear(let linear): linear.forward(feature, projected)
        case .mlp(let fc1, let fc2, let preActivation, let activation, _):
            fc1.forward(feature, preActivation, .gelu(activation: activation))
            fc2.forward(activation, projected)
        }
        let student = projected ?? feature
        let rows = Rows(
            student: student, teacher: teacherFeature, gradient: dProjected, losses: rowLosses, distance: distance,
            onSphere: projected != nil, scale: scale / (Float(student.rows) * Float(student.columns)))
        rows.runAll(student.rows, chunk: 16)
        let count = count ?? student.rows
        let sum = rowLosses.rows(0..<count).elements.reduce(0.0) { $0 + Double($1) }
        return Float(sum / Double(count))
    }

    /// d[R, Ds] += the gradient with respect to the student's block output. The gradients of the projection's matrices
    /// are overwritten unless `accumulate`; gradients of its biases always accumulate.
    func backward(_ feature: Tensor, d: Tensor, accumulate: Bool) {
        switch head {
        case .none: d.add(dProjected)
        case .linear(let linear):
            linear.weightGradient(dProjected, feature, accumulate: accumulate)
            linear.inputGradient(dProjected, d, accumulate: true)
        case .mlp(let fc1, let fc2, let preActivation, let activation, let dPreActivation):
            fc2.inputGradient(dProjected, dPreActivation, preActivation: preActivation, activation: activation)
            fc2.weightGradient(dProjected, activation, accumulate: accumulate)
            fc1.weightGradient(dPreActivation, feature, accumulate: accumulate)
            fc1.inputGradient(dPreActivation, d, accumulate: true)
        }
    }

    private struct Rows: ParallelRows {
        let student: Tensor
        let teacher: Tensor
        let gradient: Tensor
        let losses: Tensor
        let distance: AlignmentDistance
        let onSphere: Bool
        /// `scale` of the loss divided by the number of elements.
        let scale: Float

        private static func inverseNorm(_ row: UnsafePointer<Float>, _ count: Int) -> (inverse: Float, isFloored: Bool)
        {
            let square = SIMDRow.sum(
                count,
                {
                    let value = SIMDRow.load(row + $0)
                    return value * value
                }, { row[$0] * row[$0] })
            let norm = square.squareRoot()
            return (Float(1 / max(norm, 1e-12)), norm < 1e-12)
        }

        func run(_ range: Range<Int>) {
            let width = student.columns
            for row in range {
                let s = student.pointer + row * width
                let t = teacher.pointer + row * width
                let g = gradient.pointer + row * width
                let (inverse, isFloored) = onSphere ? Self.inverseNorm(s, width) : (1, true)
                let teacherInverse = onSphere ? Self.inverseNorm(t, width).inverse : 1
                var loss = 0.0
                // Scaling s does not change ŝ, so the gradient's component along ŝ is removed.
                var along = 0.0
                var i = 0
                while i < width {
                    let unit = s[i] * inverse
                    let difference = unit - t[i] * teacherInverse
                    switch distance {
                    case .l1:
                        loss += Double(difference.magnitude)
                        g[i] = difference > 0 ? scale : difference < 0 ? -scale : difference * scale
                    case .l2:
                        loss += Double(difference * difference)
                        g[i] = 2 * difference * scale
                    }
                    along += Double(g[i] * unit)
                    i += 1
                }
                losses.pointer[row] = Float(loss / Double(width))
                guard onSphere else { continue }
                let correction = isFloored ? 0 : Float(along)
                for i in 0..<width { g[i] = (g[i] - s[i] * inverse * correction) * inverse }
            }
        }
    }
}
