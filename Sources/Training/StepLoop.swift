import Images
import Models
import Reporting
import Tensors

/// Runs optimiser steps on an objective. Training, the dry run's estimate and the benchmark share this loop.
///
/// A step accumulates the gradients of `accumulation` micro-batches, group after group; the sums of groups are added in a
/// tree (`GroupTree`). In the last micro-batch the optimiser uses each gradient as soon as it is complete, or, if
/// gradients are clipped, all of them once their norm is known.
public final class StepLoop {
    public let objective: any Objective
    public let optimizer: Optimizer
    public let state: OptimizerState
    /// Micro-batches of a step.
    public let accumulation: Int
    /// Groups of equally many micro-batches, a power of two.
    public let groups: Int
    /// Maximum norm of the gradient over all parameters; nil: gradients are not clipped.
    public let clipGradient: Float?

    /// Micro-batches of the unfinished step whose gradients are accumulated already.
    public internal(set) var pending = 0
    /// Sums of the objective's loss values over those of the `pending` micro-batches that are of the current group.
    public internal(set) var lossSums: [Double]
    /// Sums over the groups before it, by level of the tree.
    private var lossTree: [[Double]]
    private let tree: GroupTree
    /// Means over the micro-batches of the last finished step, in the order of the objective's loss values.
    public private(set) var losses: [Float]
    private let sink: OptimizerSink

    /// A finished step.
    public struct Result: Sendable {
        /// The Euclidean norm of the gradient over all parameters.
        public let gradientNorm: Float
        /// Seconds of the forward and backward passes in this call, without loading batches and without the optimiser.
        public let gradientSeconds: Double
        /// Seconds of gradient norm and optimiser.
        public let optimizerSeconds: Double
    }

    /// How a step ended.
    public enum Outcome: Sendable {
        case finished(Result)
        /// `isInterrupted` returned true between two micro-batches.
        case interrupted
        /// The total loss of a micro-batch is not finite; no weight has changed.
        case nonFinite(Losses)
    }

    /// Plans the optimiser's memory.
    ///
    /// - Parameter clipGradient: see the property. The objective's parameters must keep their gradients.
    public init(
        _ objective: any Objective, _ optimizer: Optimizer, accumulation: Int, groups: Int = 1,
        clipGradient: Float? = nil, plan: MemoryPlan
    ) {
        precondition(accumulation % groups == 0, "every group has equally many micro-batches")
        self.objective = objective
        self.optimizer = optimizer
        self.accumulation = accumulation
        self.groups = groups
        self.clipGradient = clipGradient
        state = OptimizerState(of: objective.parameters, optimizer.algorithm, plan: plan)
        lossSums = Array(repeating: 0, count: objective.lossTerms.reduce(0) { $0 + $1.valueCount })
        losses = Array(repeating: 0, count: lossSums.count)
        tree = GroupTree(groups: groups)
        lossTree = Array(repeating: lossSums, count: tree.levels)
        sink = OptimizerSink(
            optimizer, state, groups > 1 ? GradientTree(groups: groups, of: objective.parameters, plan: plan) : nil,
            clipGradient: clipGradient)
    }

    /// A loop with another number of micro-batches per step, all of one group, that shares objective and optimiser state
    /// with `loop`.
    init(_ loop: StepLoop, accumulation: Int) {
        objective = loop.objective
        optimizer = loop.optimizer
        self.accumulation = accumulation
        groups = 1
        clipGradient = loop.clipGradient
        state = loop.state
        lossSums = Array(repeating: 0, count: loop.lossSums.count)
        losses = Array(repeating: 0, count: lossSums.count)
        tree = GroupTree(groups: 1)
        lossTree = []
        sink = OptimizerSink(optimizer, state, nil, clipGradient: clipGradient)
    }

    /// Runs the remaining micro-batches of optimiser step `step`, counted from 1. Throws what `next` throws.
    ///
    /// - Parameters:
    ///   - next: writes the next batch to the objective's images.
    ///   - isInterrupted: called between two micro-batches; true ends the call.
    public func run(
        step: Int, learningRate: Float, next: () throws -> Batch, isInterrupted: () -> Bool = { false }
    ) rethrows -> Outcome {
        var seconds = 0.0
        sink.seconds = 0
        let ofGroup = accumulation / groups
        while true {
            let batch = try next()
            let group = pending / ofGroup, isFirst = pending % ofGroup == 0
            if isFirst {
                for index in lossSums.indices { lossSums[index] = 0 }
            }
            sink.prepare(
                step: step, learningRate: learningRate, isFirst: isFirst, isLast: pending == accumulation - 1)
            let start = monotonicSeconds()
            let losses = objective.step(batch, scale: 1 / Float(accumulation), sink: sink)
            seconds += monotonicSeconds() - start
            guard losses.total.isFinite else { return .nonFinite(losses) }
            for index in lossSums.indices { lossSums[index] += Double(losses.values[index]) }
            pending += 1
            if pending % ofGroup == 0 { addLosses(of: group) }
            if pending == accumulation { break }
            if pending % ofGroup == 0 { sink.finish(group: group) }
            if isInterrupted() { return .interrupted }
        }
        sink.finish()
        pending = 0
        let scale = 1 / Double(accumulation)
        for index in losses.indices { losses[index] = Float(lossSums[index] * scale) }
        return .finished(
            Result(
                gradientNorm: sink.norm.value,
                gradientSeconds: seconds - sink.seconds, optimizerSeconds: sink.seconds))
    }

    /// Forgets the unfinished step: its sums are not those of whole groups. No weight has changed.
    func dropStep() {
        pending = 0
        for index in lossSums.indices { lossSums[index] = 0 }
    }

    /// Adds the sums of a finished group to those of the groups before it. After the last one they are those of the step.
    private func addLosses(of group: Int) {
        let levels = tree.levelsToAdd(after: group)
        for level in levels {
            for index in lossSums.indices { lossSums[index] += lossTree[level][index] }
        }
        if levels.upperBound < tree.levels { lossTree[levels.upperBound] = lossSums }
    }
}

/// Accumulates gradients over the micro-batches of a step. In the last micro-batch it adds them to the norm and updates
/// the weights: at once, or in `finish` if gradients are clipped.
private final class OptimizerSink: GradientSink {
    private let optimizer: Optimizer
    private let state: OptimizerState
    /// Nil where a step has one group.
    private let tree: GradientTree?
    private let clipGradient: Float?
    private var step = 0
    private var learningRate: Float = 0
    private var isLast = false
    private(set) var accumulates = false
    private(set) var norm: GradientNorm
    /// Seconds spent in `complete` and `finish`.
    var seconds = 0.0

    init(_ optimizer: Optimizer, _ state: OptimizerState, _ tree: GradientTree?, clipGradient: Float?) {
        self.optimizer = optimizer
        self.state = state
        self.tree = tree
        self.clipGradient = clipGradient
        norm = GradientNorm(state.parameters)
    }

    func prepare(step: Int, learningRate: Float, isFirst: Bool, isLast: Bool) {
        self.step = step
        self.learningRate = learningRate
        self.isLast = isLast
        accumulates = !isFirst
    }

    func complete(_ tensors: Range<Int>) {
        guard isLast else { return }
        let start = monotonicSeconds()
        // Tensor by tensor, so that the optimiser finds the gradient in the caches after the norm has read it.
        for index in tensors {
            tree?.finish(index)
            norm.add(state.parameters, index..<index + 1)
            if clipGradient == nil { update(index..<index + 1) }
        }
        seconds += monotonicSeconds() - start
    }

    /// Keeps the gradients of a group that is not the last one.
    func finish(group: Int) {
        let start = monotonicSeconds()
        tree?.add(group: group)
        seconds += monotonicSeconds() - start
    }

    /// Updates the weights that `complete` has left unchanged.
    func finish() {
        guard let clipGradient else { return }
        let start = monotonicSeconds()
        update(state.parameters.all.indices, gradientScale: norm.factor(clippingTo: clipGradient))
        seconds += monotonicSeconds() - start
    }

    private func update(_ tensors: Range<Int>, gradientScale: Float = 1) {
        state.update(tensors, optimizer, learningRate: learningRate, step: step, gradientScale: gradientScale)
    }
}
