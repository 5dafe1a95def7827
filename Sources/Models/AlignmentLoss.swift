import Tensors

// Letters: R rows (batch × (1 + kept patches)), Ds student width, Dt teacher width.

/// One aligned pair: the projection of a student block's output, and its distance to a teacher block's output.
///
/// With a projection P both sides are compared on the unit sphere: mean |t̂ - ŝ| or mean (t̂ - ŝ)², t̂ = t/max(‖t‖,
/// 1e-12), ŝ likewise of P(s), over all tokens. Without, the raw features are compared. (DMAE, section 3.)
public final class AlignmentLoss {
    private enum Head {
        case none
        case linear(Linear)
        case mlp(fc1: Linear, fc2: Linear, hidden: Tensor, activation: Tensor, dHidden: Tensor)
    }
    public let pair: AlignedPair
    private let distance: AlignmentDistance
    private let head: Head
    /// The teacher's block output, raw: [R, Dt].
    public let teacherFeature: Tensor
    private let projected: Tensor?
    private let dProjected: Tensor
    private let rowLosses: Tensor

    init(
        _ index: Int, _ configuration: AlignmentConfiguration, studentWidth: Int, teacherWidth: Int, rows: Int,
        in parameters: Parameters, plan: MemoryPlan
    ) {
        pair = configuration.pairs[index]
        distance = configuration.distance
        let name = "aligned_feature_projection_heads.\(index)"
        func linear(_ part: String, _ inputs: Int) -> Linear {
            Linear(name + part, inputs: inputs, outputs: teacherWidth, rows: rows, in: parameters, plan: plan)
        }
        switch configuration.projection {
        case .none: head = .none
        case .linear: head = .linear(linear("", studentWidth))
        case .mlp:
            head = .mlp(
                fc1: linear(".fc1", studentWidth), fc2: linear(".fc2", teacherWidth),
                hidden: plan.reserve(rows, teacherWidth, .activations, as: parameters.precision.activations),
                activation: plan.scratch(
                    "alignment activation", rows, teacherWidth, as: parameters.precision.activations),
                dHidden: plan.scratch(
                    "alignment hidden gradient", rows, teacherWidth, as: parameters.precision.activations))
        }
        // Left for whoever looks at it after a pass.
        teacherFeature = plan.during([.teacher, .studentBackward]) {
            plan.reserve(rows, teacherWidth, .teacherActivations)
        }
        projected =
            configuration.projection == .none
            ? nil : plan.during(.student) { plan.scratch("alignment projection", rows, teacherWidth) }
        dProjected = plan.reserve(rows, teacherWidth, .activations)
        rowLosses = plan.reserve(rows, 1, .activations)
    }

    /// The distance for the student's block output [R, Ds]; prepares the gradient, times `scale`.
    func evaluate(_ feature: Tensor, scale: Float) -> Float {
        switch head {
        case .none: break
        case .linear(let linear): linear.forward(feature, projected)
        case .mlp(let fc1, let fc2, let hidden, let activation, _):
            fc1.forward(feature, hidden, .gelu(activation: activation))
            fc2.forward(activation, projected)
        }
        let student = projected ?? feature
        let rows = Rows(
            student: student, teacher: teacherFeature, gradient: dProjected, losses: rowLosses, distance: distance,
            onSphere: projected != nil, scale: scale / (Float(student.rows) * Float(student.columns)))
        rows.runAll(student.rows, chunk: 16)
        let sum = rowLosses.elements.reduce(0.0) { $0 + Double($1) }
        return Float(sum / Double(student.rows))
    }

    /// d[R, Ds] += the gradient by the student's block output; the projection's gradients +=, or its matrices' = unless
    /// `accumulate`.
    func backward(_ feature: Tensor, d: Tensor, accumulate: Bool) {
        switch head {
        case .none: d.add(dProjected)
        case .linear(let linear):
            linear.weightGradient(dProjected, feature, accumulate: accumulate)
            linear.inputGradient(dProjected, d, accumulate: true)
        case .mlp(let fc1, let fc2, let hidden, let activation, let dHidden):
            fc2.inputGradient(dProjected, dHidden, beforeGELU: hidden, activation: activation)
            fc2.weightGradient(dProjected, activation, accumulate: accumulate)
            fc1.weightGradient(dHidden, feature, accumulate: accumulate)
            fc1.inputGradient(dHidden, d, accumulate: true)
        }
    }

    private struct Rows: ParallelRows {
        let student: Tensor
        let teacher: Tensor
        let gradient: Tensor
        let losses: Tensor
        let distance: AlignmentDistance
        let onSphere: Bool
        /// Weight of the loss over the number of elements.
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
                // Along ŝ the distance does not change when s grows: that part of the gradient goes.
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
