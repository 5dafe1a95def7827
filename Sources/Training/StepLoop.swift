import Images
import Models
import Ranks
import Reporting
import Tensors

/// Runs optimiser steps on an objective. Training, the dry run's estimate and the benchmark share this loop.
///
/// A step accumulates the gradients of `accumulation` micro-batches, group after group; the sums of groups are added in a
/// tree (`GroupTree`). In the last micro-batch the optimiser uses each gradient as soon as it is complete, or, if
/// gradients are clipped, all of them once their norm is known.
///
/// Where several processes share a step, each runs the micro-batches of neighbouring groups; `GradientExchange` adds
/// their gradients.
public final class StepLoop {
    public let objective: any Objective
    public let optimizer: Optimizer
    public let state: OptimizerState
    /// Micro-batches of a step, of all processes.
    public let accumulation: Int
    /// Micro-batches of a step that this process runs.
    public let ownAccumulation: Int
    /// Groups of equally many micro-batches that this process runs, a power of two.
    private let ownGroups: Int
    /// Whether the step is one of several groups, whose sums no checkpoint keeps.
    public let hasGroups: Bool
    /// Maximum norm of the gradient over all parameters; nil: gradients are not clipped.
    public let clipGradient: Float?
    /// Who owns which parameters, where several processes share a step.
    let shards: Shards

    /// Micro-batches of this process in the unfinished step whose gradients are accumulated already.
    public internal(set) var pending = 0
    /// Sums of the objective's loss values over those of the `pending` micro-batches that are of the current group.
    public internal(set) var lossSums: [Double]
    /// Sums over the groups before it, by level of the tree.
    private var lossTree: [[Double]]
    private let tree: GroupTree
    /// Means over the micro-batches of the last finished step, in the order of the objective's loss values.
    public private(set) var losses: [Float]
    private let sink: OptimizerSink
    private let exchange: GradientExchange?

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
    /// - Parameters:
    ///   - groups: groups of a step, of all processes.
    ///   - exchange: what the sums of groups are rounded to before they are added.
    ///   - clipGradient: see the property. The objective's parameters must keep their gradients.
    ///   - ranks: the processes that share each step.
    public init(
        _ objective: any Objective, _ optimizer: Optimizer, accumulation: Int, groups: Int = 1,
        exchange precision: ExchangePrecision = .f32, clipGradient: Float? = nil, ranks: Ranks = .current,
        plan: MemoryPlan
    ) {
        precondition(accumulation % groups == 0, "every group has equally many micro-batches")
        precondition(groups % ranks.count == 0, "every process has equally many groups")
        self.objective = objective
        self.optimizer = optimizer
        self.accumulation = accumulation
        ownAccumulation = accumulation / ranks.count
        ownGroups = groups / ranks.count
        hasGroups = groups > 1
        self.clipGradient = clipGradient
        let lossCount = objective.lossTerms.reduce(0) { $0 + $1.valueCount }
        let shards = Shards(of: objective.parameters, among: ranks.count)
        exchange =
            ranks.isAlone
            ? nil
            : GradientExchange(
                of: objective.parameters, in: precision, shards: shards, losses: lossCount, among: ranks,
                plan: plan)
        state = OptimizerState(of: objective.parameters, optimizer.algorithm, plan: plan) {
            shards.owners[$0] == ranks.rank
        }
        self.shards = shards
        lossSums = Array(repeating: 0, count: lossCount)
        losses = Array(repeating: 0, count: lossSums.count)
        tree = GroupTree(groups: ownGroups)
        lossTree = Array(repeating: lossSums, count: tree.levels)
        sink = OptimizerSink(
            optimizer, state,
            ownGroups > 1
                ? GradientTree(groups: ownGroups, of: objective.parameters, in: precision, plan: plan) : nil,
            exchange, clipGradient: clipGradient)
    }

    /// A loop with another number of micro-batches per step, all of one group of this process, that shares objective and
    /// optimiser state with `loop`. It updates the parameters that this process owns.
    ///
    /// - Parameters:
    ///   - accumulation: micro-batches of this process.
    ///   - exchanges: whether the processes add their gradients; otherwise each works for itself.
    init(_ loop: StepLoop, accumulation: Int, exchanges: Bool = false) {
        objective = loop.objective
        optimizer = loop.optimizer
        self.accumulation = accumulation
        (ownAccumulation, ownGroups, hasGroups) = (accumulation, 1, false)
        exchange = exchanges ? loop.exchange : nil
        clipGradient = loop.clipGradient
        shards = loop.shards
        state = loop.state
        lossSums = Array(repeating: 0, count: loop.lossSums.count)
        losses = Array(repeating: 0, count: lossSums.count)
        tree = GroupTree(groups: 1)
        lossTree = []
        sink = OptimizerSink(optimizer, state, nil, exchange, clipGradient: clipGradient)
    }

    /// Gives gradients and weights to the other processes without computing any, and updates nothing.
    ///
    /// - Returns: seconds.
    /// - Throws: `Ranks.LostPeer`.
    func exchangeAlone() throws -> Double {
        guard let exchange else { return 0 }
        let start = monotonicSeconds()
        exchange.begin { _ in }
        for index in objective.parameters.all.indices.reversed() { exchange.complete(index) }
        try exchange.finish()
        var norm = GradientNorm(objective.parameters), losses = lossSums
        try exchange.share(losses: &losses, norm: &norm)
        try exchange.update { _ in }
        return monotonicSeconds() - start
    }

    /// Bytes that this process sends in a step.
    var bytesSent: Int { exchange?.bytesSent ?? 0 }

    /// Runs the remaining micro-batches of optimiser step `step`, counted from 1.
    ///
    /// - Parameters:
    ///   - next: writes the next batch to the objective's images.
    ///   - isInterrupted: called between two micro-batches; true ends the call. Where several processes share the step it
    ///     is called after the last one, too, with true, before gradients are waited for.
    /// - Throws: what `next` and `isInterrupted` throw; `Ranks.LostPeer`.
    public func run(
        step: Int, learningRate: Float, next: () throws -> Batch,
        isInterrupted: (_ isLast: Bool) throws -> Bool = { _ in false }
    ) throws -> Outcome {
        var seconds = 0.0
        sink.seconds = 0
        let ofGroup = ownAccumulation / ownGroups
        while true {
            let batch = try next()
            let group = pending / ofGroup, isFirst = pending % ofGroup == 0
            if isFirst {
                for index in lossSums.indices { lossSums[index] = 0 }
            }
            sink.prepare(
                step: step, learningRate: learningRate, isFirst: isFirst, isLast: pending == ownAccumulation - 1)
            let start = monotonicSeconds()
            let losses = objective.step(batch, scale: 1 / Float(accumulation), sink: sink)
            seconds += monotonicSeconds() - start
            guard losses.total.isFinite else { return .nonFinite(losses) }
            for index in lossSums.indices { lossSums[index] += Double(losses.values[index]) }
            pending += 1
            if pending % ofGroup == 0 { addLosses(of: group) }
            if pending == ownAccumulation { break }
            if pending % ofGroup == 0 { sink.finish(group: group) }
            if try isInterrupted(false) { return .interrupted }
        }
        if exchange != nil, try isInterrupted(true) { return .interrupted }
        try sink.finish(losses: &lossSums)
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
    /// Nil where a process is alone.
    private let exchange: GradientExchange?
    private let clipGradient: Float?
    private var step = 0
    private var learningRate: Float = 0
    private var isLast = false
    private(set) var accumulates = false
    private(set) var norm: GradientNorm
    /// Seconds spent in `complete` and `finish`.
    var seconds = 0.0

    init(
        _ optimizer: Optimizer, _ state: OptimizerState, _ tree: GradientTree?, _ exchange: GradientExchange?,
        clipGradient: Float?
    ) {
        self.optimizer = optimizer
        self.state = state
        self.tree = tree
        self.exchange = exchange
        self.clipGradient = clipGradient
        norm = GradientNorm(state.parameters)
    }

    func prepare(step: Int, learningRate: Float, isFirst: Bool, isLast: Bool) {
        self.step = step
        self.learningRate = learningRate
        self.isLast = isLast
        accumulates = !isFirst
        if isLast {
            exchange?.begin { [unowned self] index in norm.add(state.parameters, index..<index + 1) }
        }
    }

    func complete(_ tensors: Range<Int>) {
        guard isLast else { return }
        let start = monotonicSeconds()
        // Tensor by tensor, so that the optimiser finds the gradient in the caches after the norm has read it.
        for index in tensors {
            tree?.finish(index)
            if let exchange {
                exchange.complete(index)
                continue
            }
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

    /// Completes gradients and losses by those of the other processes, and updates the weights that `complete` has left
    /// unchanged.
    func finish(losses: inout [Double]) throws {
        let start = monotonicSeconds()
        defer { seconds += monotonicSeconds() - start }
        if let exchange {
            try exchange.finish()
            try exchange.share(losses: &losses, norm: &norm)
            let scale = clipGradient.map(norm.factor(clippingTo:)) ?? 1
            try exchange.update { update($0..<$0 + 1, gradientScale: scale) }
        } else if let clipGradient {
            update(state.parameters.all.indices, gradientScale: norm.factor(clippingTo: clipGradient))
        }
    }

    private func update(_ tensors: Range<Int>, gradientScale: Float = 1) {
        state.update(tensors, optimizer, learningRate: learningRate, step: step, gradientScale: gradientScale)
    }
}
