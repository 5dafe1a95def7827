import FoundationEssentials
import Glibc
import Reporting
import Thresholds

/// Measured ratios, to be recorded or compared with the record.
package struct Results: Codable {
    /// Instruction set and threads: "avx512bf16, 2 threads".
    package let machine: String
    /// "peak": fractions of the measured peak; "peers": the time of the fastest other library over ours.
    let section: String
    /// Whether rows were left out by a filter.
    let partial: Bool
    package var rows: [String: Double] = [:]

    package init(machine: String, section: String, partial: Bool) {
        (self.machine, self.section, self.partial) = (machine, section, partial)
    }

    package static func read(_ path: String) -> Results {
        guard let bytes = Machine.contents(of: path) else { fail("cannot read \(path)") }
        guard let results = try? JSONDecoder().decode(Results.self, from: Data(bytes)) else {
            fail("\(path) holds no results")
        }
        return results
    }

    package static func thresholds(_ path: String) -> Thresholds {
        guard let bytes = Machine.contents(of: path) else { fail("cannot read \(path)") }
        guard let thresholds = try? Thresholds(json: bytes) else { fail("\(path) is not a record of ratios") }
        return thresholds
    }

    /// Records or compares, prints the outcome, and exits with 0 or 1.
    package static func conclude(_ results: Results, check: String?, record: String?) -> Never {
        let (machine, section) = (results.machine, results.section)
        if let record {
            var thresholds = thresholds(record)
            guard thresholds.record(results.rows, machine: machine, section: section, partial: results.partial) else {
                fail("a measurement is not above zero; nothing was recorded")
            }
            guard let json = try? thresholds.json(), let file = fopen(record, "wb"),
                fwrite(json, 1, json.count, file) == json.count,
                fclose(file) == 0
            else { fail("cannot write \(record)") }
            print("\nRecorded \(results.rows.count) rows of \(section) for \(machine) in \(record).")
            exit(0)
        }
        guard let check else { fail("--results needs --check or --record") }
        let thresholds = thresholds(check)
        guard
            let verdict = thresholds.verdict(
                on: results.rows, machine: machine, section: section, partial: results.partial)
        else {
            print("\nNothing of \(section) is recorded for \(machine) in \(check); RECORD=1 does so.")
            exit(1)
        }
        print(
            "\n\(verdict.compared) rows compared with \(check), \(machine), \(section); "
                + "\(verdict.lost.count) lost more than \(Format.fixed(100 * verdict.allowedLoss, 0)) %.")
        if !verdict.lost.isEmpty {
            print("lost".padded(54) + column("recorded", 10) + column("measured", 10) + column("change", 10))
            for row in verdict.lost {
                print(
                    row.name.padded(54) + column(Format.fixed(row.recorded!, 3), 10)
                        + column(Format.fixed(row.measured!, 3), 10)
                        + column(Format.fixed(100 * (row.measured! / row.recorded! - 1), 0), 8) + " %")
            }
        }
        for row in verdict.short {
            print(
                "\(row.name): \(Format.fixed(row.measured!, 3)) is below the goal of "
                    + "\(Format.fixed(row.goal!, 3)), which holds on every machine.")
        }
        if !verdict.missing.isEmpty {
            print(
                "Recorded and no longer measured: \(verdict.missing.map(\.name).joined(separator: "; ")). RECORD=1 "
                    + "makes a new record."
            )
        }
        if !verdict.new.isEmpty {
            print("Not yet recorded: \(verdict.new.map(\.name).joined(separator: "; ")). RECORD=1 adds them.")
        }
        exit(verdict.passed ? 0 : 1)
    }
}
