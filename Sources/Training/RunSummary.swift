import Reporting
import FoundationEssentials
import Tensors
import Weights

/// A run's loss curve in a few rows: what a person wants to see at its end.
public struct RunSummary: Sendable {
    /// Means over a stretch of optimiser steps.
    public struct Row: Sendable {
        /// Last step of the stretch, and where it ends in epochs.
        public var step = 0
        public var epoch = 0.0
        public var loss = 0.0
        public var reconstruction = 0.0
        /// One per aligned pair, unweighted.
        public var alignments: [Double] = []
        public var imagesPerSecond = 0.0
        fileprivate var count = 0
    }
    /// The first step alone, then stretches of equal length.
    public private(set) var rows: [Row] = []

    private struct Line: Decodable {
        let step: Int
        let epoch: Double
        let loss, lossReconstruction, imagesPerSecond: Double?
        let lossAlign: [Double?]
    }

    /// Reads the `log.jsonl` at `path` into the first step and `stretches` means.
    ///
    /// - Throws: `Failure.inputOutput` where it cannot be read, `Failure.badData` where a line is not of a run's log.
    public init(log path: String, stretches: Int = 10) throws {
        let text = Data(try MappedFile.contents(path, wanted: "the log of a run"))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let lines = try text.split(separator: UInt8(ascii: "\n")).enumerated().map { index, line in
            do { return try decoder.decode(Line.self, from: Data(line)) } catch {
                throw Failure(.badData, "\(path): line \(index + 1) is not a line of a run's log")
            }
        }
        guard let first = lines.first else { return }
        add([first])
        let rest = lines.dropFirst()
        let count = min(stretches, rest.count)
        for stretch in 0..<count {
            let start = rest.startIndex + stretch * rest.count / count
            add(rest[start..<rest.startIndex + (stretch + 1) * rest.count / count])
        }
    }

    private mutating func add(_ lines: some Collection<Line>) {
        var row = Row()
        for line in lines {
            row.step = line.step
            row.epoch = line.epoch
            row.loss += line.loss ?? .nan
            row.reconstruction += line.lossReconstruction ?? .nan
            row.imagesPerSecond += line.imagesPerSecond ?? 0
            if row.alignments.isEmpty { row.alignments = Array(repeating: 0, count: line.lossAlign.count) }
            for (index, value) in line.lossAlign.enumerated() where index < row.alignments.count {
                row.alignments[index] += value ?? .nan
            }
            row.count += 1
        }
        let count = Double(row.count)
        row.loss /= count
        row.reconstruction /= count
        row.imagesPerSecond /= count
        for index in row.alignments.indices { row.alignments[index] /= count }
        rows.append(row)
    }
}
