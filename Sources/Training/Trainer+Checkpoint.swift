import Images
import Interchange
import Reporting
import FoundationEssentials
import Glibc
import Models
import Tensors
import Weights

extension Trainer {
    /// Keys of a checkpoint's metadata.
    enum Key {
        /// JSON of the `TrainingConfiguration`.
        static let training = ModelWeights.trainingKey
        /// Number of images in the source, which determines the order of samples.
        static let images = "dmae.images"
        /// `Trainer.namesChecksum`.
        static let imageNames = "dmae.image_names"
        /// `Trainer.orderChecksum`.
        static let imageOrder = "dmae.image_order"
        /// `Trainer.validationChecksum`.
        static let validationNames = "dmae.validation_names"
        /// `Trainer.teacherChecksum`.
        static let teacher = "dmae.teacher"
        /// The name of the instruction set that computed the last steps.
        static let instructionSet = "dmae.instruction_set"
        /// Micro-batches of the next step whose gradients are summed.
        static let pending = "dmae.pending"
        /// Sums of their losses, as bit patterns of doubles.
        static let lossSums = "dmae.loss_sums"
        /// The last step whose due evaluations are done.
        static let evaluated = "dmae.evaluated_step"
        /// JSON of the `WeightRanking`.
        static let ranking = "dmae.ranking"
    }

    /// Writes the state between two micro-batches: weights, the optimiser's state, and the summed gradients of an
    /// unfinished step.
    ///
    /// - Returns: the checkpoint's path.
    /// - Throws: `Failure.failure` if weights, state or gradients are not finite, as such a checkpoint would replace a
    ///   good one; `Failure.inputOutput` if it cannot be written.
    func save(to store: CheckpointStore) throws -> String {
        var tensors: [CheckpointStore.Tensor] = []
        var firstRuined: String?
        func add(_ prefix: String, _ parameter: Parameters.Parameter, _ tensor: Tensor?) {
            guard let tensor else { return }
            if firstRuined == nil, !Kernels.sumOfSquares(tensor).isFinite { firstRuined = prefix + parameter.name }
            tensors.append(
                CheckpointStore.Tensor(
                    name: prefix + parameter.name, shape: parameter.shape, floats: UnsafeBufferPointer(tensor.elements))
            )
        }
        for parameter in objective.parameters.all { add("", parameter, parameter.weight) }
        for kind in loop.state.kinds {
            for (index, parameter) in objective.parameters.all.enumerated() where parameter.isTrained {
                let prefix = CheckpointStore.prefix(of: kind)
                if let tensor = loop.state.tensor(index, kind) {
                    add(prefix, parameter, tensor)
                } else {
                    tensors.append(
                        CheckpointStore.Tensor(
                            stateOfOther(index, kind, name: prefix + parameter.name, ruined: ruined)))
                }
            }
        }
        if let average {
            for (parameter, tensor) in zip(objective.parameters.all, average.averages) {
                add(CheckpointStore.averagePrefix, parameter, tensor)
            }
        }
        if loop.pending > 0 {
            for parameter in objective.parameters.all {
                add(CheckpointStore.gradientPrefix, parameter, parameter.gradient)
            }
        }
        if let firstRuined { throw ruined(firstRuined) }
        var metadata = try weightsMetadata()
        metadata[Key.images] = String(source.count)
        metadata[Key.imageNames] = namesChecksum
        metadata[Key.imageOrder] = orderChecksum
        metadata[Key.validationNames] = validationChecksum
        metadata[Key.teacher] = teacherChecksum
        metadata[Key.instructionSet] = InstructionSet.selected.name
        metadata[Key.pending] = String(loop.pending)
        metadata[Key.evaluated] = String(evaluatedStep)
        metadata[Key.ranking] = String(decoding: try ranking.sortedJSON(), as: UTF8.self)
        metadata[Key.lossSums] = loop.lossSums.map { String($0.bitPattern) }.joined(separator: ",")
        return try store.write(step: step, tensors: tensors, metadata: metadata)
    }

    /// Makes the restored checkpoint the newest one of `store`, so that a killed run resumes from it.
    ///
    /// Other checkpoints of the same and of later steps are set aside: this run will not reproduce them. A checkpoint
    /// from another folder is copied into the store.
    ///
    /// - Returns: the new paths of the checkpoints that were set aside.
    /// - Throws: `Failure.inputOutput`.
    public func takeOver(_ store: CheckpointStore) throws -> [String] {
        let place = store.path(step: step)
        var status = stat(), other = stat()
        let isOwn =
            lastCheckpoint.map { stat($0, &status) == 0 && stat(place, &other) == 0 } == true
            && status.st_dev == other.st_dev && status.st_ino == other.st_ino
        let aside = try store.setAside(from: isOwn ? step + 1 : step)
        if !isOwn { lastCheckpoint = try save(to: store) }
        return aside
    }

    /// Writes the weights of a finished run: the average where there is one, and the weights themselves beside it.
    /// Throws `Failure.inputOutput`.
    func writeWeights(to directory: RunDirectory) throws {
        if average != nil { try writeWeights(to: directory.rawWeightsPath, averaged: false) }
        try writeWeights(to: directory.weightsPath, averaged: true)
    }

    /// Writes the weights only.
    ///
    /// - Parameter averaged: whether to write their average, where there is one.
    /// - Throws: `Failure.inputOutput`.
    func writeWeights(to path: String, averaged: Bool) throws {
        var writer = SafeTensorsWriter(metadata: try weightsMetadata())
        for tensor in writtenTensors { writer.add(tensor) }
        for (index, parameter) in objective.parameters.all.enumerated() {
            let tensor = averaged ? average?.averages[index] ?? parameter.weight : parameter.weight
            writer.add(parameter.name, shape: parameter.shape, floats: UnsafeBufferPointer(tensor.elements))
        }
        try writer.write(to: path, replacesLink: true)
    }

    /// What the files of weights say about the model: its sizes and, for a classifier, the names of the classes.
    private func weightsMetadata() throws -> [String: String] {
        var metadata = [Key.training: String(decoding: try configuration.sortedJSON(), as: UTF8.self)]
        if let model = configuration.model {
            metadata[ModelWeights.configurationKey] = String(decoding: try model.sortedJSON(), as: UTF8.self)
        } else {
            metadata[ModelWeights.architectureKey] = String(
                decoding: try ModelWeights.Architecture(encoder: configuration.trainedEncoder).sortedJSON(),
                as: UTF8.self)
            metadata[ModelWeights.classesKey] = String(decoding: try source.classes.sortedJSON(), as: UTF8.self)
        }
        return metadata
    }

    /// Restores the state of a run from `checkpoint`, bit for bit. Call after `prepare()`.
    ///
    /// - Throws: `Failure.usage` if the checkpoint has another configuration; `Failure.badData` if it has another
    ///   `RunFormat`, is incomplete or beyond the last step of the run, or if the names of the images, the order in which
    ///   windows of them lie, or the weights of the teacher have changed.
    public func restore(_ checkpoint: CheckpointStore.Checkpoint) throws {
        let file = checkpoint.file
        let stored = file.metadata[Key.training].map { Data($0.utf8) }
        if let stored { try RunFormat.requireCurrent(stored, in: file.path) }
        guard let stored, let saved = try? JSONDecoder().decode(TrainingConfiguration.self, from: stored),
            let images = file.metadata[Key.images].flatMap({ Int($0) }),
            let pending = file.metadata[Key.pending].flatMap({ Int($0) }),
            (0..<configuration.accumulation).contains(pending)
        else {
            throw Failure(.badData, "\(file.path): is not a checkpoint that a training run can resume from")
        }
        if let difference = configuration.difference(from: saved) {
            throw Failure(
                .usage,
                "\(file.path): was taken with \(difference.other), not \(difference.own): resume with the settings of "
                    + "its run, or name another \(.output) folder")
        }
        let folder = file.path.lastIndex(of: "/").map { String(file.path[..<$0]) } ?? "."
        /// The images of a source that differ from those whose names have this checksum, in brackets.
        func difference(_ place: Int, _ source: any ImageSource, _ checksum: String?) -> String {
            guard let names = ImageCheck.names(ofRunIn: folder), names.indices.contains(place),
                Self.checksum(of: names[place]) == checksum
            else { return "" }
            return ImageNames.difference(of: source, from: names[place]).map { " (\($0))" } ?? ""
        }
        guard images == source.count else {
            throw Failure(
                .badData,
                "\(configuration.data): holds \(source.count) images, but \(images) when the run was "
                    + "started\(difference(0, source, file.metadata[Key.imageNames])): a resumed run needs the same images; put "
                    + "back what was taken away, and take out what was added")
        }
        guard file.metadata[Key.imageNames] == namesChecksum else {
            throw Failure(
                .badData,
                "\(configuration.data): holds images of other names than when the run was "
                    + "started\(difference(0, source, file.metadata[Key.imageNames])): a resumed run needs the same images; give "
                    + "them their names again"
            )
        }
        guard file.metadata[Key.imageOrder] == orderChecksum else {
            throw Failure(
                .badData,
                "\(configuration.data): holds the images in another order than when the run was started, and with "
                    + "\(.shuffleWindow) the order decides: name the same folders, archives and lists, in the same order"
            )
        }
        guard file.metadata[Key.validationNames] == validationChecksum else {
            let differing = evaluations.lazy.compactMap(\.rankingImages).first.map {
                difference(1, $0, file.metadata[Key.validationNames])
            }
            throw Failure(
                .badData,
                "\(configuration.validation?.description ?? "the validation images"): holds other images than when the run was "
                    + "started\(differing ?? ""): the best weights of a resumed run are chosen on the same images; put back what was "
                    + "taken away, and take out what was added")
        }
        guard file.metadata[Key.teacher] == teacherChecksum else {
            let isTeacher = configuration.teacher != nil
            throw Failure(
                .badData,
                "\(configuration.teacher ?? configuration.weights ?? ""): has other weights than the "
                    + "\(isTeacher ? "teacher" : "encoder") the run was started with: name that one with "
                    + "\(isTeacher ? .teacher : .weights), or name another \(.output) folder")
        }
        guard checkpoint.step <= totalSteps else {
            throw Failure(
                .badData,
                "\(file.path): is of step \(checkpoint.step), but the run has \(totalSteps) steps: resume from an "
                    + "earlier "
                    + "checkpoint")
        }
        let parameters = objective.parameters
        // Weights first: a missing or wrong tensor is reported before anything is overwritten.
        try parameters.load(from: file, optional: { _ in false })
        func copy(_ prefix: String, _ parameter: Parameters.Parameter, _ tensor: Tensor?) throws {
            guard let tensor else { return }
            let name = prefix + parameter.name, shape = try file.entry(name).shape
            guard shape == parameter.shape else {
                throw Failure(
                    .badData, "\(file.path): \(quoted(name)) has shape \(shape) instead of \(parameter.shape)")
            }
            try file.copyFloats(name, into: tensor.elements)
        }
        if let average {
            for (parameter, tensor) in zip(parameters.all, average.averages) {
                try copy(CheckpointStore.averagePrefix, parameter, tensor)
            }
        }
        for parameter in parameters.all {
            for kind in loop.state.kinds {
                try copy(CheckpointStore.prefix(of: kind), parameter, loop.state[parameter.name, kind])
            }
            if pending > 0 { try copy(CheckpointStore.gradientPrefix, parameter, parameter.gradient) }
        }
        let sums = (file.metadata[Key.lossSums] ?? "").split(separator: ",").compactMap { UInt64($0) }
        guard sums.count == loop.lossSums.count else {
            throw Failure(
                .badData, "\(file.path): lacks the losses of its unfinished step; resume from another checkpoint")
        }
        loop.lossSums = sums.map { Double(bitPattern: $0) }
        if let text = file.metadata[Key.ranking] {
            guard let ranking = try? JSONDecoder().decode(WeightRanking.self, from: Data(text.utf8)) else {
                throw Failure(
                    .badData, "\(file.path): its evaluations cannot be read; resume from another checkpoint")
            }
            self.ranking = ranking
        }
        formerInstructionSet = file.metadata[Key.instructionSet]
        step = checkpoint.step
        evaluatedStep = file.metadata[Key.evaluated].flatMap { Int($0) } ?? step
        loop.pending = pending
        lastCheckpoint = file.path
        try distribute(file)
    }
}
