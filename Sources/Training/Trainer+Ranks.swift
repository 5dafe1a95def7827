import Images
import Models
import Ranks
import Reporting
import Tensors
import Weights

extension Trainer {
    /// Orders of process 0, with the index of a parameter and the place of a kind of its state; with the step that a
    /// checkpoint is of; or with the place of an evaluation.
    private enum Order {
        static let sendState = "send state", receiveState = "receive state", receiveWeights = "receive weights"
        static let goOnAfter = "go on after", evaluate = "evaluate"
    }

    /// What every process must have alike before the first step, but for what comes from files of weights.
    ///
    /// - Parameter text: a setting in the words of the command line.
    public func facts(
        program: String, instructionSetMatters: Bool, text: (Message) -> String
    ) -> [Ranks.Fact] {
        let copy = "every process needs the same files under the same paths"
        var facts = [
            Ranks.Fact("program", program, remedy: "start the same file on every machine"),
            Ranks.Fact("images", "\(source.count) images with checksum \(namesChecksum)", remedy: copy),
            Ranks.Fact("validation images", "checksum \(validationChecksum ?? "none")", remedy: copy),
        ]
        facts += configuration.decisiveValues.map {
            Ranks.Fact("settings", text($0.setting), remedy: "start all processes with the same words")
        }
        if instructionSetMatters {
            facts.append(
                Ranks.Fact(
                    "instruction set", InstructionSet.selected.name,
                    remedy: "set DMAE_ISA to the lower one for all, or allow different bits by \(Field.allowMixedIsa)"))
        }
        return facts
    }

    /// Where several processes train, those of a machine share the packed weights of the teacher: one packs them, and the
    /// others read them after the meeting that follows `prepare`. All processes call it before `prepare`.
    ///
    /// - Throws: `Failure.failure` or `Ranks.Stopped` where what the processes of a machine take does not fit into it;
    ///   `Ranks.LostPeer`.
    public func shareMemory() throws {
        guard !ranks.isAlone else { return }
        let shareable = plan.shareableBytes
        let memory = try ranks.shareMemory(
            shareable, form: InstructionSet.selected.name, beside: plannedBytes - shareable)
        if let shared = memory.shared {
            plan.placeShareable(at: shared.start, isWritable: shared.isWritable, owner: shared)
        }
        machineMemory = memory
    }

    /// What every process must have alike after `prepare`.
    public var preparedFacts: [Ranks.Fact] {
        let copy = "every process needs the same files under the same paths"
        var hash = XXHash64()
        for parameter in objective.parameters.all { hash.update(UnsafeRawBufferPointer(parameter.weight.elements)) }
        return [
            Ranks.Fact("weights of the teacher", "checksum \(teacherChecksum ?? "none")", remedy: copy),
            Ranks.Fact("starting weights", "checksum \(hash.text)", remedy: copy),
        ]
    }

    /// The part of the other processes in `run`: their micro-batches of each step, and what process 0 orders.
    ///
    /// - Throws: `Ranks.Stopped` where the run ends before its last step; `Ranks.LostPeer`.
    public func follow(
        workers: Int, message: @escaping (Message) -> Void,
        isInterrupted: @escaping () -> String? = { Signals.requested }
    ) throws {
        func serve() throws { try self.serve(workers: workers, isInterrupted: isInterrupted) }
        // The log is opened.
        try serve()
        let batches = batches(workers: workers, report: message)
        defer { batches.stop() }
        // Evaluations that are due at the start.
        try serve()
        while step < totalSteps {
            let rate = schedule.rate(epoch: configuration.epoch(step: step, images: source.count))
            let (outcome, _) = try runStep(rate, batches, progress: nil, isInterrupted: isInterrupted)
            switch outcome {
            case .nonFinite(let losses): throw try ranks.failed(nonFinite(losses))
            case .interrupted: break
            case .finished: step += 1
            }
            try serve()
        }
        try serve()
    }

    /// Does what process 0 orders, until it has ended what it does alone.
    ///
    /// - Throws: `Ranks.Stopped` where the run ends; `Ranks.LostPeer`.
    public func serve(workers: Int = 1, isInterrupted: @escaping () -> String? = { Signals.requested }) throws {
        try ranks.serve(request: isInterrupted) { word, first, second in
            switch word {
            case Order.sendState: try ranks.send(loop.state.tensor(first, loop.state.kinds[second])!.elements, to: [0])
            case Order.receiveState:
                try ranks.receive(loop.state.tensor(first, loop.state.kinds[second])!.elements, from: 0)
            case Order.receiveWeights:
                for parameter in objective.parameters.all { try ranks.receive(parameter.weight.elements, from: 0) }
            case Order.goOnAfter: (step, evaluatedStep) = (first, first)
            case Order.evaluate:
                // What there is to say process 0 says.
                _ = try evaluations[first].evaluate(workers: workers, report: { _ in }, isInterrupted: { false })
            default: preconditionFailure("an unknown order")
            }
        }
    }

    /// The optimiser state of the parameter at `index`, which another process owns, as process 0 writes it.
    ///
    /// - Parameter ruined: the failure where it is not finite.
    func stateOfOther(
        _ index: Int, _ kind: OptimizerState.Kind, name: String, ruined: @escaping (String) -> Failure
    ) -> TensorSource {
        let parameter = objective.parameters.all[index]
        return TensorSource(name: name, type: .f32, shape: parameter.shape) { [self] write in
            let floats = UnsafeMutableBufferPointer(rebasing: stateOfOthers!.elements[..<parameter.weight.count])
            let owner = loop.shards.owners[index]
            try ranks.order(Order.sendState, index, loop.state.kinds.firstIndex(of: kind)!, of: [owner])
            try ranks.receive(floats, from: owner)
            guard floats.allSatisfy(\.isFinite) else { throw ruined(name) }
            try write(UnsafeRawBufferPointer(floats))
        }
    }

    /// Gives the restored state to the other processes: all weights, and to each the optimiser state of its parameters.
    func distribute(_ file: SafeTensorsFile) throws {
        guard !ranks.isAlone else { return }
        for (index, parameter) in objective.parameters.all.enumerated() {
            let owner = loop.shards.owners[index]
            guard parameter.isTrained, owner != 0 else { continue }
            let floats = UnsafeMutableBufferPointer(rebasing: stateOfOthers!.elements[..<parameter.weight.count])
            for (place, kind) in loop.state.kinds.enumerated() {
                let name = CheckpointStore.prefix(of: kind) + parameter.name, shape = try file.entry(name).shape
                guard shape == parameter.shape else {
                    throw Failure(
                        .badData, "\(file.path): \(quoted(name)) has shape \(shape) instead of \(parameter.shape)")
                }
                try file.copyFloats(name, into: floats)
                try ranks.order(Order.receiveState, index, place, of: [owner])
                try ranks.send(floats, to: [owner])
            }
        }
        try distributeWeights()
        try ranks.order(Order.goOnAfter, step, 0, of: ranks.others)
    }

    /// Gives the weights of process 0 to the others.
    private func distributeWeights() throws {
        try ranks.order(Order.receiveWeights, 0, 0, of: ranks.others)
        for parameter in objective.parameters.all { try ranks.send(parameter.weight.elements, to: ranks.others) }
    }

    /// Calls `body`, in process 0, with the averages in place of the weights, in all processes; with the weights as they
    /// are where they are not averaged.
    func withAveragedWeights<Result>(_ body: () throws -> Result) throws -> Result {
        guard let average else { return try body() }
        guard !ranks.isAlone else { return try average.inPlace(body) }
        let result = try average.inPlace {
            try distributeWeights()
            return try body()
        }
        try distributeWeights()
        return result
    }

    /// Has the other processes take part in an evaluation.
    func share(_ evaluation: any PeriodicEvaluation) throws {
        guard !ranks.isAlone else { return }
        try ranks.order(Order.evaluate, evaluations.firstIndex { $0 === evaluation }!, 0, of: ranks.others)
    }

    /// A step that several processes share, as measured.
    public struct Sharing: Sendable {
        public let processes: Int
        /// Seconds of computing of the slowest process.
        public let computeSeconds: Double
        /// Seconds of the exchange of gradients and weights alone.
        public let exchangeSeconds: Double
        /// The part of `exchangeSeconds` during which nothing is computed.
        public let waitingSeconds: Double
        /// Bytes that a process sends in a step.
        public let bytesSent: Int
        /// Bytes of memory of the process with the most.
        public let mostMemory: Int

        public var stepSeconds: Double { computeSeconds + waitingSeconds }
        /// The speed of the processes beside that of one of them, divided by their number.
        public var efficiency: Double { computeSeconds / stepSeconds }
    }

    /// Measures a step that all processes share. All call it.
    ///
    /// - Parameters:
    ///   - batch: seconds of the passes of a micro-batch.
    ///   - update: seconds of norm and optimiser, each for the parameters of this process.
    /// - Throws: `Ranks.LostPeer`; `Failure.failure` if a loss is not finite.
    func measureSharing(of batch: Double, _ update: Double) throws -> Sharing {
        let timed = StepLoop(loop, accumulation: 2, exchanges: true)
        var alone: [Double] = [], whole: [Double] = []
        for round in 0..<4 {
            // All begin at once.
            try ranks.meet {}
            let seconds = try timed.exchangeAlone()
            try ranks.meet {}
            let start = monotonicSeconds()
            let size = configuration.batch
            let outcome = try timed.run(step: round + 1, learningRate: 0) {
                Batch(
                    samples: Array(0..<size), images: Array(0..<size),
                    labels: source.classes.isEmpty ? nil : Array(repeating: 0, count: size))
            }
            guard case .finished = outcome else {
                throw Failure(
                    .failure, "the loss of a step on random images is not finite: look at the teacher's weights")
            }
            guard round > 0 else { continue }
            alone.append(seconds)
            whole.append(monotonicSeconds() - start)
        }
        let slowest = try ranks.maxima([
            batch, update, StepBenchmark.median(alone), StepBenchmark.median(whole), Double(plannedBytes),
        ])
        return Sharing(
            processes: ranks.count, computeSeconds: slowest[0] * Double(loop.ownAccumulation) + slowest[1],
            exchangeSeconds: slowest[2], waitingSeconds: max(0, slowest[3] - 2 * slowest[0] - slowest[1]),
            bytesSent: timed.bytesSent, mostMemory: Int(slowest[4]))
    }
}
