import Reporting
import FoundationEssentials
import Models
import Tensors
import Weights

/// A run's loss curve in a few rows, and its evaluations, printed at its end.
public struct RunSummary: Sendable {
    /// Means over an interval of optimiser steps.
    public struct Row: Sendable {
        /// Last step of the interval, and the epoch at its end.
        public var step = 0
        public var epoch = 0.0
        /// In the order of the objective's loss values.
        public var losses: [Double] = []
        public var imagesPerSecond = 0.0
    }
    /// The first step alone, then intervals of equal length.
    public private(set) var rows: [Row] = []
    /// The values of the evaluations, by key of their terms, in the order of the steps; keys of one line were evaluated
    /// together.
    public private(set) var evaluations: [(step: Int, epoch: Double, values: [String: Double])] = []
    /// Number of lines that are not of a run's log, and are left out.
    public private(set) var unreadableLines = 0

    private struct Line: Decodable {
        let step: Int
        let epoch: Double
        /// Nil in a line of evaluations.
        let losses: [Double]?
        let imagesPerSecond: Double
        /// The values of a line of evaluations; empty in the line of a step.
        let evaluations: [String: Double]

        private struct Key: CodingKey {
            let stringValue: String
            var intValue: Int? { nil }
            init(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }

        static let terms = CodingUserInfoKey(rawValue: "terms")!

        init(from decoder: any Swift.Decoder) throws {
            let line = try decoder.container(keyedBy: Key.self)
            func number(_ key: String) throws -> Double? {
                try line.decode(Double?.self, forKey: Key(stringValue: key))
            }
            step = try line.decode(Int.self, forKey: Key(stringValue: "step"))
            epoch = try line.decode(Double.self, forKey: Key(stringValue: "epoch"))
            guard line.contains(Key(stringValue: "learning_rate")) else {
                (losses, imagesPerSecond) = (nil, 0)
                let others = line.allKeys.filter { !["step", "epoch"].contains($0.stringValue) }
                let values = others.filter { !RunLog.measuredKeys.contains($0.stringValue) }
                evaluations = try Dictionary(
                    uniqueKeysWithValues: values.map { ($0.stringValue, try number($0.stringValue) ?? .nan) })
                return
            }
            evaluations = [:]
            imagesPerSecond = try number("images_per_second") ?? 0
            losses = try (decoder.userInfo[Self.terms] as! [LossTerm]).flatMap { term -> [Double] in
                guard let count = term.listCount else { return [try number(term.key) ?? .nan] }
                let values = try line.decode([Double?].self, forKey: Key(stringValue: term.key))
                guard values.count == count else {
                    throw DecodingError.dataCorruptedError(
                        forKey: Key(stringValue: term.key), in: line, debugDescription: "\(count) values are wanted")
                }
                return values.map { $0 ?? .nan }
            }
        }
    }

    /// Reads the `log.jsonl` at `path`, with the losses of `terms`, into a row for the first step and rows of means
    /// over `stretches` intervals.
    ///
    /// - Throws: `Failure.inputOutput` if it cannot be read.
    public init(log path: String, terms: [LossTerm], stretches: Int = 10) throws {
        let text = Data(try MappedFile.contents(path, wanted: "the log of a run"))
        let decoder = JSONDecoder()
        decoder.userInfo[Line.terms] = terms
        let all = text.split(separator: UInt8(ascii: "\n"))
        // A finished run has its result, whatever befell its log.
        let lines = all.compactMap { try? decoder.decode(Line.self, from: Data($0)) }
        unreadableLines = all.count - lines.count
        evaluations = lines.filter { $0.losses == nil }.map { ($0.step, $0.epoch, $0.evaluations) }
        let steps = lines.filter { $0.losses != nil }
        guard let first = steps.first else { return }
        add([first])
        let rest = steps.dropFirst()
        let count = min(stretches, rest.count)
        for stretch in 0..<count {
            let start = rest.startIndex + stretch * rest.count / count
            add(rest[start..<rest.startIndex + (stretch + 1) * rest.count / count])
        }
    }

    /// Adds the row of some steps, at least one.
    private mutating func add(_ lines: some Collection<Line>) {
        var row = Row()
        row.losses = Array(repeating: 0, count: lines.first!.losses!.count)
        for line in lines {
            row.step = line.step
            row.epoch = line.epoch
            row.imagesPerSecond += line.imagesPerSecond
            for (index, value) in line.losses!.enumerated() { row.losses[index] += value }
        }
        let count = Double(lines.count)
        row.imagesPerSecond /= count
        for index in row.losses.indices { row.losses[index] /= count }
        rows.append(row)
    }
}
