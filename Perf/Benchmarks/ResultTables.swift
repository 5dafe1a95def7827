import FoundationEssentials
import Glibc
import Reporting

/// The tables of README.md and of the page Performance, made from the measurements in Perf/results.
///
/// In a page a table stands between two comments, `<!-- table: NAME -->` and `<!-- end -->`.
package struct ResultTables {
    /// One file of Perf/results; its README.md says what the keys mean.
    private struct Measurement<Row: Decodable>: Decodable {
        let machine: String
        let rows: [Row]
    }
    private struct Step: Decodable {
        let precision: String
        let mask_ratio, images_per_second, fraction_of_peak, gigabytes: Double
        let pytorch_eager, pytorch_compiled, ratio, pytorch_gigabytes: Double
    }
    private struct Teacher: Decodable {
        let precision: String
        let mask_ratio: Double
        let seconds_same, seconds_int8, ratio: [Double]
    }
    private struct Threads: Decodable {
        let precision: String
        let mask_ratio: Double
        let seconds_one, seconds_two, ratio: [Double]
    }

    private struct Fault: Error, CustomStringConvertible { let description: String }

    /// Pages with tables, from the root of the repository.
    package static let pages = ["README.md", "Sources/dmae/dmae.docc/Performance.md"]
    /// Machine classes, in the order of the tables.
    private static let classes = ["amx", "avx512bf16", "avx2"]
    private let root: String

    /// - Parameter root: the folder of the repository.
    package init(root: String) { self.root = root }

    /// Tables by name.
    private func tables() throws -> [String: String] {
        try ["step": step(), "summary": summary(), "int8-teacher": teacher(), "threads": threads()]
    }

    /// `text` with every table as the measurements give it.
    ///
    /// - Throws: where a table is not known or has no end, or a file cannot be read as a measurement.
    package func filled(_ text: String) throws -> String {
        let tables = try tables()
        var parts = text.split(separator: "<!-- table: ", omittingEmptySubsequences: false)[...]
        var filled = String(parts.removeFirst())
        for part in parts {
            guard let nameEnd = part.firstRange(of: " -->"), let end = part.firstRange(of: "<!-- end -->"),
                let table = tables[String(part[..<nameEnd.lowerBound])]
            else { throw Fault(description: "no such table, or no end of it: \(part.prefix(20))") }
            filled += "<!-- table: \(part[..<nameEnd.upperBound])\n\(table)\n\(part[end.lowerBound...])"
        }
        return filled
    }

    /// Writes the tables into the pages of the working directory.
    package static func write() {
        let tables = ResultTables(root: ".")
        for page in pages {
            guard let bytes = Machine.contents(of: page) else { fail("cannot read \(page)") }
            do {
                let text = try tables.filled(String(decoding: bytes, as: UTF8.self))
                guard let file = fopen(page, "wb"), fwrite(text, 1, text.utf8.count, file) == text.utf8.count,
                    fclose(file) == 0
                else { fail("cannot write \(page)") }
            } catch { fail("\(page): \(error)") }
        }
    }

    private func read<Row: Decodable>(_ name: String, as type: Row.Type) throws -> Measurement<Row> {
        let path = "\(root)/Perf/results/\(name).json"
        guard let bytes = Machine.contents(of: path) else { throw Fault(description: "cannot read \(path)") }
        return try JSONDecoder().decode(Measurement<Row>.self, from: Data(bytes))
    }

    private func measurements<Row: Decodable>(_ kind: String, of classes: [String], as type: Row.Type) throws
        -> [(machine: String, row: Row)]
    {
        try classes.flatMap { name in
            let measurement = try read("\(name)-\(kind)", as: type)
            return measurement.rows.map { (measurement.machine, $0) }
        }
    }

    /// Every step: speed, memory and PyTorch.
    private func step() throws -> String {
        table(
            ["machine", "precision", "masked", "images/s", "of peak", "GB", "PyTorch images/s", "ratio", "PyTorch GB"],
            try measurements("step", of: Self.classes, as: Step.self).map { machine, row in
                [
                    machine, row.precision, percent(row.mask_ratio), fixed(row.images_per_second),
                    percent(row.fraction_of_peak), fixed(row.gigabytes),
                    fixed(max(row.pytorch_eager, row.pytorch_compiled)), fixed(row.ratio),
                    fixed(row.pytorch_gigabytes),
                ]
            })
    }

    /// A row for each machine and precision: images/s, and times PyTorch's in brackets.
    private func summary() throws -> String {
        var rows: [[String]] = []
        for name in Self.classes {
            let measurement = try read("\(name)-step", as: Step.self)
            var precisions: [String] = []
            for row in measurement.rows where !precisions.contains(row.precision) { precisions.append(row.precision) }
            for precision in precisions {
                let steps = measurement.rows.filter { $0.precision == precision }
                guard let first = steps.first, steps.map(\.mask_ratio) == [0.75, 0.95, 0.98] else {
                    throw Fault(description: "\(name)-step.json has other mask ratios than the table")
                }
                rows.append(
                    [measurement.machine, precision]
                        + steps.map { "\(fixed($0.images_per_second)) (\(fixed($0.ratio)))" }
                        + ["\(fixed(first.gigabytes)), \(fixed(first.pytorch_gigabytes))"])
            }
        }
        return table(
            ["machine", "precision", "75 % masked", "95 %", "98 %", "GB at 75 %: dmae, PyTorch"], rows)
    }

    private func teacher() throws -> String {
        table(
            ["precision", "masked", "step, s", "with an int8 teacher, s", "ratio"],
            try read("avx512bf16-int8-teacher", as: Teacher.self).rows.map { row in
                [
                    row.precision, percent(row.mask_ratio), list(row.seconds_same), list(row.seconds_int8),
                    list(row.ratio),
                ]
            })
    }

    private func threads() throws -> String {
        table(
            ["machine", "precision", "one thread, s", "two threads, s", "ratio"],
            try measurements("threads", of: ["amx", "avx512bf16"], as: Threads.self).map { machine, row in
                [machine, row.precision, list(row.seconds_one), list(row.seconds_two), list(row.ratio)]
            })
    }

    private func table(_ header: [String], _ rows: [[String]]) -> String {
        ([header, header.map { _ in "---" }] + rows).map { "| " + $0.joined(separator: " | ") + " |" }
            .joined(separator: "\n")
    }
    private func fixed(_ value: Double) -> String { Format.fixed(value, 2) }
    private func percent(_ value: Double) -> String { Format.fixed(100 * value, 0) + " %" }
    private func list(_ values: [Double]) -> String { values.map(fixed).joined(separator: ", ") }
}
