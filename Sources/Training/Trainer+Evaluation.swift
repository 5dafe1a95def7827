import Images
import Models
import Reporting

extension Trainer {
    /// Runs the evaluations that are due after the current step, writes their values to the log and, if they rank the
    /// weights, the best weights and `evaluation.json`. Weights that are averaged are evaluated as their average.
    ///
    /// - Returns: the name of the signal that interrupted them; nothing is written then.
    func evaluate(
        log: RunLog, events: EventLog?, directory: RunDirectory, workers: Int, progress: ProgressLine?,
        report: @escaping (Message) -> Void, isInterrupted: () -> String?
    ) throws -> String? {
        guard evaluatedStep < step else { return nil }
        let due = evaluations.filter { isDue(every: $0.everyEpochs) }
        guard !due.isEmpty else { return nil }
        var values: [(term: EvaluationTerm, value: Double)] = []
        var rankingKey: String?, signal: String?
        func reportOnce(_ sentence: Message) {
            if evaluationReports.insert(sentence).inserted { report(sentence) }
        }
        func evaluate(_ evaluation: any PeriodicEvaluation) throws -> Bool {
            try share(evaluation)
            let result = try evaluation.evaluate(workers: workers, report: reportOnce) {
                signal = isInterrupted()
                return signal != nil
            }
            guard let result else { return false }
            if evaluation.ranksWeights {
                // Weights that are not finite would be kept as the best, and destroy better ones.
                guard result.allSatisfy(\.isFinite) else { throw ruinedEvaluation }
                rankingKey = evaluation.terms[0].key
            }
            values += zip(evaluation.terms, result).map { ($0, $1) }
            return true
        }
        guard try withAveragedWeights({ try due.allSatisfy(evaluate) }) else { return signal }
        let record = EvaluationRecord(
            step: step, epoch: configuration.epoch(step: step, images: source.count), values: values)
        // Where a file cannot be written, the checkpoint that follows must not count this evaluation as done: a resumed
        // run evaluates again, and writes the best weights and the line of the log.
        var ranking = ranking
        if let rankingKey {
            if ranking.add(record, by: rankingKey) { try writeWeights(to: directory.bestWeightsPath, averaged: true) }
            try directory.writeEvaluation(ranking)
        }
        try log.append(record)
        events?.append(record)
        self.ranking = ranking
        evaluatedStep = step
        progress?.update(record)
        return nil
    }

    private var ruinedEvaluation: Failure {
        Failure(
            .failure,
            "the validation loss is not finite after step \(step); \(lastGood); start again in another \(.output) folder "
                + "with a lower \(.baseLearningRate)")
    }

    /// Refuses images that a classifier cannot be trained or judged on. Throws `Failure.badData`.
    static func requireClasses(of source: any ImageSource, and validation: any ImageSource) throws {
        try requireSameClasses(source, .train, validation, .validation)
        guard source.classes.count > 1 else {
            let place = source.place.map { " \($0)" } ?? ""
            throw Failure(
                .badData,
                "\(.train)\(place) holds only one class, \(quoted(source.classes[0])), but a classifier needs two: give each class "
                    + "a folder of its own, and about a fifth of its images to \(.validation), as in train/CLASS/1.jpg and "
                    + "val/CLASS/2.jpg")
        }
    }

    /// Whether a multiple of `epochs` was passed in the current step, or it is the last one.
    private func isDue(every epochs: Double) -> Bool {
        guard step > 0 else { return false }
        func count(_ step: Int) -> Double {
            (Double(step) * Double(configuration.effectiveBatch) / (epochs * Double(source.count))).rounded(.down)
        }
        return step == totalSteps || count(step) > count(step - 1)
    }
}

/// The best and the newest evaluation of a run, as `evaluation.json` and checkpoints hold them.
struct WeightRanking: Codable, Equatable {
    /// An evaluation: the optimiser step, and its values by their keys.
    struct Entry: Codable, Equatable {
        let step: Int
        let epoch: Double
        let values: [String: Double]

        init(_ record: EvaluationRecord) {
            step = record.step
            epoch = record.epoch
            values = Dictionary(uniqueKeysWithValues: record.values.map { ($0.term.key, $0.value) })
        }
    }
    /// The evaluation with the highest value, the earlier one on a tie.
    private(set) var best: Entry?
    private(set) var last: Entry?

    /// Adds an evaluation that is ranked by the value under `key`; returns whether it is the best so far.
    mutating func add(_ record: EvaluationRecord, by key: String) -> Bool {
        let entry = Entry(record)
        last = entry
        if let best, entry.values[key]! <= best.values[key]! { return false }
        best = entry
        return true
    }
}
