import Images
import Tensors

#if canImport(Glibc)
    import Glibc
#endif

// Letters: B batch, C classes, T temperature; t targets, z and y the student's and the teacher's logits.

/// The targets of a classifier's step.
public enum TargetSelection: Sendable {
    /// Of the batch's labels and mixture, with label smoothing.
    case labels
    /// Recorded targets [B·C].
    case given([Float])
}

/// A softmax in double, of float32 logits divided by a temperature.
struct Softmax {
    let logits: UnsafePointer<Float>
    let count: Int
    let temperature: Double
    /// log Σ exp(logits / T).
    let logSumExp: Double

    init(_ logits: UnsafePointer<Float>, _ count: Int, temperature: Double = 1) {
        self.logits = logits
        self.count = count
        self.temperature = temperature
        var largest = -Float.infinity
        for i in 0..<count { largest = max(largest, logits[i]) }
        let top = Double(largest) / temperature
        var sum = 0.0
        for i in 0..<count { sum += exp(Double(logits[i]) / temperature - top) }
        logSumExp = top + log(sum)
    }

    /// The logarithm of the probability of class `index`.
    func logProbability(_ index: Int) -> Double { Double(logits[index]) / temperature - logSumExp }

}

/// The most probable class of logits[C]: the lowest index of the largest value.
func mostProbable(_ logits: UnsafePointer<Float>, _ count: Int) -> Int {
    var best = 0
    for i in 1..<max(count, 1) where logits[i] > logits[best] || logits[best].isNaN { best = i }
    return best
}

/// Cross-entropy with soft targets, -Σ t·log softmax(z), and the distillation of a teacher's logits, both averaged over
/// the batch.
final class ClassificationLoss {
    /// The gradient with respect to the logits: [B, C].
    let dLogits: Tensor
    /// Targets [B, C].
    private let targets: Tensor
    /// Cross-entropy and distillation loss of each image: [B, 2].
    private let imageLosses: Tensor
    private let classes: Int
    private let smoothing: Double
    private let distillation: LogitDistillation?
    private let plan: MemoryPlan
    private let phase: Phase

    /// - Parameters:
    ///   - phase: computes losses and gradient.
    ///   - end: the phase that reads the gradient last.
    init(
        batch: Int, classes: Int, smoothing: Double, distillation: LogitDistillation?, at phase: Phase,
        until end: Phase,
        plan: MemoryPlan
    ) {
        self.classes = classes
        self.smoothing = smoothing
        self.distillation = distillation
        self.plan = plan
        self.phase = phase
        targets = plan.reserve("targets", batch, classes, .scratch, alive: .only(phase))
        dLogits = plan.reserve("logits gradient", batch, classes, .scratch, alive: .during(phase...end))
        imageLosses = plan.reserve("image losses", batch, 2, .scratch, alive: .only(phase))
    }

    /// The losses of one micro-batch.
    struct Values {
        var total, classification, distillation: Float
    }

    /// Computes the losses of logits[B, C], and writes `dLogits`, the gradient of `scale` times the total.
    ///
    /// - Parameter teacherLogits: [B, C], if logits are distilled.
    func lossAndGradient(
        _ logits: Tensor, teacherLogits: Tensor?, _ selection: TargetSelection, _ batch: Batch, scale: Float
    ) -> Values {
        plan.begin(phase)
        let count = logits.rows
        set(selection, batch)
        Images(
            logits: logits, teacherLogits: teacherLogits, targets: targets, dLogits: dLogits, losses: imageLosses,
            distillation: distillation, gradientScale: Double(scale) / Double(count)
        ).runAll(count)
        var (classification, distilled) = (0.0, 0.0)
        for image in 0..<count {
            classification += Double(imageLosses.pointer[2 * image])
            distilled += Double(imageLosses.pointer[2 * image + 1])
        }
        classification /= Double(count)
        distilled /= Double(count)
        let weight = distillation?.weight ?? 0
        return Values(
            total: Float(distillation == nil ? classification : (1 - weight) * classification + weight * distilled),
            classification: Float(classification), distillation: Float(distilled))
    }

    /// Writes the targets. Row r of a mixed batch is λ of its own target and 1 - λ of that of row B - 1 - r.
    private func set(_ selection: TargetSelection, _ batch: Batch) {
        switch selection {
        case .given(let values):
            precondition(values.count == targets.count, "one target for each class of each image")
            for i in values.indices { targets.pointer[i] = values[i] }
        case .labels:
            guard let labels = batch.labels, labels.count == targets.rows else {
                preconditionFailure("every image of a classifier's step has a label")
            }
            let off = smoothing / Double(classes), own = Double(batch.mixture?.lambda ?? 1)
            for row in 0..<targets.rows {
                let target = targets.pointer + row * classes
                let label = labels[row], partner = labels[targets.rows - 1 - row]
                target.update(repeating: Float(off), count: classes)
                let share = label == partner ? 1 : own
                target[label] = Float(off + share * (1 - smoothing))
                if label != partner, own < 1 { target[partner] = Float(off + (1 - own) * (1 - smoothing)) }
            }
        }
    }

    private struct Images: ParallelRows {
        let logits: Tensor
        let teacherLogits: Tensor?
        let targets: Tensor
        let dLogits: Tensor
        let losses: Tensor
        let distillation: LogitDistillation?
        let gradientScale: Double

        func run(_ range: Range<Int>) {
            let classes = logits.columns
            for image in range {
                let z = UnsafePointer(logits.pointer) + image * classes
                let target = targets.pointer + image * classes, gradient = dLogits.pointer + image * classes
                let student = Softmax(z, classes)
                // Given targets need not sum to 1.
                var (sum, loss) = (0.0, 0.0)
                for i in 0..<classes {
                    let t = Double(target[i])
                    sum += t
                    // 0 · -∞ is left out.
                    if t != 0 { loss -= t * student.logProbability(i) }
                }
                losses.pointer[2 * image] = Float(loss)
                losses.pointer[2 * image + 1] = 0
                let weight = distillation?.weight ?? 0, scale = (1 - weight) * gradientScale
                for i in 0..<classes {
                    gradient[i] = Float(scale * (sum * exp(student.logProbability(i)) - Double(target[i])))
                }
                guard let distillation, let teacherLogits else { continue }
                let y = UnsafePointer(teacherLogits.pointer) + image * classes
                losses.pointer[2 * image + 1] = Float(
                    distillation.isHard
                        ? addHard(student, y, gradient, weight * gradientScale)
                        : addSoft(
                            z, y, gradient, weight * gradientScale, temperature: distillation.temperature, classes))
            }
        }

        /// Cross-entropy with the teacher's most probable class; its gradient is added.
        private func addHard(
            _ student: Softmax, _ y: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>, _ scale: Double
        ) -> Double {
            let label = mostProbable(y, student.count)
            for i in 0..<student.count {
                gradient[i] = Float(
                    Double(gradient[i]) + scale * (exp(student.logProbability(i)) - (i == label ? 1 : 0)))
            }
            return -student.logProbability(label)
        }

        /// T²·KL(softmax(y / T) ‖ softmax(z / T)); its gradient, T·(softmax(z / T) - softmax(y / T)), is added.
        private func addSoft(
            _ z: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>,
            _ scale: Double, temperature: Double, _ classes: Int
        ) -> Double {
            let student = Softmax(z, classes, temperature: temperature)
            let teacher = Softmax(y, classes, temperature: temperature)
            var divergence = 0.0
            for i in 0..<classes {
                let (logOwn, logGoal) = (student.logProbability(i), teacher.logProbability(i))
                let goal = exp(logGoal)
                if goal > 0 { divergence += goal * (logGoal - logOwn) }
                gradient[i] = Float(Double(gradient[i]) + scale * temperature * (exp(logOwn) - goal))
            }
            return temperature * temperature * divergence
        }
    }
}
