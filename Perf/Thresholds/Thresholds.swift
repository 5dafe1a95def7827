import FoundationEssentials

/// Recorded ratios of benchmarks: fractions of the measured peak, or the time of other libraries over ours. Never a
/// time.
///
/// In JSON: `{"allowed_loss": 0.1, "goals": {"peers": {"finetune …": 1.4}}, "ratios": {"avx512bf16, 2 threads": {"peak":
/// {"adamw …": 0.98}, "peers": {"step …": 1.6}}}}`. Each instruction set and number of threads has a record of its own.
/// A goal is demanded of every machine, recorded or not; a new record leaves the goals as they are.
public struct Thresholds: Codable, Equatable {
    /// The fraction of a ratio that may be lost before a comparison fails.
    public var allowedLoss: Double
    /// The ratio that a row must reach on every machine, by section, then by row.
    public var goals: [String: [String: Double]]
    /// By instruction set and threads, then by section, then by row.
    public var ratios: [String: [String: [String: Double]]]

    enum CodingKeys: String, CodingKey {
        case allowedLoss = "allowed_loss"
        case goals, ratios
    }

    public init(
        allowedLoss: Double = 0.1, goals: [String: [String: Double]] = [:],
        ratios: [String: [String: [String: Double]]] = [:]
    ) {
        (self.allowedLoss, self.goals, self.ratios) = (allowedLoss, goals, ratios)
    }

    /// Reads JSON.
    ///
    /// - Throws: if it has another form, a ratio is not positive or the allowed loss is not within 0..<1.
    public init(json: [UInt8]) throws {
        self = try JSONDecoder().decode(Thresholds.self, from: Data(json))
        let all = ratios.values.flatMap(\.values).flatMap(\.values) + goals.values.flatMap(\.values)
        guard (0..<1).contains(allowedLoss), all.allSatisfy({ $0 > 0 && $0.isFinite }) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: [], debugDescription: "a ratio or the allowed loss is out of range"))
        }
    }

    /// JSON with rows in alphabetical order, so that a new record gives a readable diff.
    public func json() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try [UInt8](encoder.encode(self)) + [10]
    }

    /// Replaces the record of the rows in `measured`, with three decimals. Unless it is partial, other rows are
    /// removed.
    ///
    /// - Returns: false, without a change, if a measurement is not positive.
    public mutating func record(_ measured: [String: Double], machine: String, section: String, partial: Bool) -> Bool {
        guard measured.values.allSatisfy({ $0.isFinite && $0 >= 0.001 }) else { return false }
        let rounded = measured.mapValues { ($0 * 1000).rounded() / 1000 }
        let old = partial ? ratios[machine]?[section] ?? [:] : [:]
        ratios[machine, default: [:]][section] = old.merging(rounded) { $1 }
        return true
    }

    /// Compares `measured` with the record and the goals. Nil if nothing is recorded for this machine and section, and no
    /// measured row has a goal. A partial measurement may lack rows.
    public func verdict(on measured: [String: Double], machine: String, section: String, partial: Bool) -> Verdict? {
        let recorded = ratios[machine]?[section], goals = goals[section] ?? [:]
        guard recorded != nil || goals.keys.contains(where: { measured[$0] != nil }) else { return nil }
        let keys = Set(measured.keys).union(partial ? [] : Array(recorded?.keys ?? [:].keys))
        let rows = keys.sorted().map {
            Verdict.Row(name: $0, recorded: recorded?[$0], measured: measured[$0], goal: goals[$0])
        }
        return Verdict(allowedLoss: allowedLoss, rows: rows)
    }
}

/// The comparison of a measurement with the record, row by row.
public struct Verdict: Equatable {
    public struct Row: Equatable {
        public let name: String
        public let recorded, measured, goal: Double?
    }
    public let allowedLoss: Double
    public let rows: [Row]

    /// Rows that lost more than allowed, the worst first. NaN counts as lost.
    public var lost: [Row] {
        rows.filter { row in
            guard let recorded = row.recorded, let measured = row.measured else { return false }
            return !(measured >= recorded * (1 - allowedLoss))
        }.sorted { $0.measured! / $0.recorded! < $1.measured! / $1.recorded! }
    }
    /// Rows that miss their goal. NaN counts as missed. Nothing is allowed below a goal.
    public var short: [Row] {
        rows.filter { row in
            guard let goal = row.goal, let measured = row.measured else { return false }
            return !(measured >= goal)
        }
    }
    /// Rows that are recorded but were not measured: they were renamed or removed, and a new record is due.
    public var missing: [Row] { rows.filter { $0.measured == nil } }
    /// Rows that are measured but not recorded yet.
    public var new: [Row] { rows.filter { $0.recorded == nil } }
    /// Rows that were compared with a record, a goal or both.
    public var compared: Int { rows.filter { $0.measured != nil && ($0.recorded ?? $0.goal) != nil }.count }
    /// Nothing lost, nothing missing, every goal reached, and something compared.
    public var passed: Bool { lost.isEmpty && missing.isEmpty && short.isEmpty && compared > 0 }
}
