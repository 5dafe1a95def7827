import Glibc
import Reporting

/// The images that a list names, with their classes if it has labels.
///
/// - A .csv file is comma-separated values: either the first line names the columns, among them `path` and mostly
///   `label`, or there are one or two columns, the path and the label. A label is the name of a class.
/// - A .txt file has one path on a line, and no labels.
///
/// Paths are relative to the list's folder. A listed file may have any extension. Every file must exist, and be listed
/// once.
public struct ImageList: ImageSource {
    public let place: String?
    public let classes: [String]
    public let warnings: [String]
    private let names: [String]
    private let labels: [Int32]
    /// What stands before a relative path: the list's folder with a slash, or nothing.
    private let folder: String

    /// Whether a file of that name is a list.
    static func isList(_ name: String) -> Bool { isTable(name) || name.lowercased().hasSuffix(".txt") }
    private static func isTable(_ name: String) -> Bool { name.lowercased().hasSuffix(".csv") }

    public var count: Int { names.count }
    public var files: [String] { [place!] + names.map(whole) }
    public func name(_ index: Int) -> String { names[index] }
    public func path(_ index: Int) -> String { whole(names[index]) }
    public func label(_ index: Int) -> Int? { classes.isEmpty ? nil : Int(labels[index]) }
    public func bytes(_ index: Int) throws -> [UInt8] { try imageOfSource(path(index)) }

    public func byteCount(_ index: Int) -> Int? { fileByteCount(path(index)) }

    public func head(_ index: Int, count: Int) throws -> [UInt8] { try imageOfSource(path(index), atMost: count) }

    private func whole(_ name: String) -> String { Self.whole(name, in: folder) }
    private static func whole(_ name: String, in folder: String) -> String {
        name.hasPrefix("/") ? name : folder + name
    }

    /// A line of a list.
    private struct Row {
        let line: Int
        let path: String
        let label: String
    }

    /// Reads the list at `path`.
    ///
    /// - Throws: `Failure.inputOutput` where the list cannot be read; `Failure.badData`, naming the first line, where it
    ///   is empty, malformed, names a file twice or one that is not there, or has labels for some files only.
    public init(_ path: String) throws {
        let bytes = try readFile(path, headCount: 0) { _ in }
        let rows = try bytes.withUnsafeBytes {
            Self.isTable(path) ? try Self.table($0, named: path) : try Self.lines($0, named: path)
        }
        guard !rows.isEmpty else {
            throw Failure(.badData, "\(path) lists no images: write one path on each line")
        }
        place = path
        folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        try Self.requireDistinct(rows, in: path)
        let hasLabels = rows.contains { !$0.label.isEmpty }
        if hasLabels, let missing = rows.first(where: \.label.isEmpty) {
            let others = rows.count(where: \.label.isEmpty)
            throw Failure(
                .badData,
                "\(path): line \(missing.line) has no label, though others have (lines without one: \(others)): give "
                    + "every image one, or none")
        }
        let classes = hasLabels ? Array(Set(rows.map { ByteText($0.label) })).sorted().map(\.text) : []
        let indices = Dictionary(uniqueKeysWithValues: zip(classes.map(ByteText.init), Int32(0)...))
        let order = rows.map { (label: indices[ByteText($0.label)] ?? 0, name: $0.path) }.sorted { first, second in
            first.label != second.label ? first.label < second.label : precedes(first.name, second.name)
        }
        self.classes = classes
        names = order.map(\.name)
        labels = hasLabels ? order.map(\.label) : []
        warnings = try Self.files(rows, in: path, folder)
    }

    /// The path with what does not change the file it names taken out: "./" and doubled slashes.
    private static func normalized(_ path: String) -> String {
        let parts = path.split(separator: "/").filter { $0 != "." }
        return (path.hasPrefix("/") ? "/" : "") + parts.joined(separator: "/")
    }

    private static func lines(_ bytes: UnsafeRawBufferPointer, named name: String) throws -> [Row] {
        let content = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? UnsafeRawBufferPointer(rebasing: bytes[3...]) : bytes
        var rows: [Row] = []
        for (index, line) in content.split(separator: 0x0A, omittingEmptySubsequences: false).enumerated() {
            let line = line.last == 0x0D ? line.dropLast() : line
            guard !line.isEmpty else { continue }
            guard let text = String(validating: line, as: UTF8.self), !text.utf8.contains(0) else {
                throw Failure(
                    .badData,
                    "\(name): line \(index + 1) is not text in UTF-8: a list has the path of one image on each line")
            }
            rows.append(Row(line: index + 1, path: normalized(text), label: ""))
        }
        return rows
    }

    private static func table(_ bytes: UnsafeRawBufferPointer, named name: String) throws -> [Row] {
        var records = try DelimitedText(bytes, named: name).records[...]
        guard let first = records.first else { return [] }
        let titles = first.fields.map { $0.lowercased().trimmed }
        var pathColumn = 0, labelColumn: Int? = 1
        if let column = titles.firstIndex(of: "path") {
            (pathColumn, labelColumn) = (column, titles.firstIndex(of: "label"))
            records = records.dropFirst()
        } else if first.fields.count > 2 {
            throw Failure(
                .badData,
                "\(name): has \(first.fields.count) columns without names: let the first line name them, two of them "
                    + "path and label")
        } else if first.fields.count == 1 {
            labelColumn = nil
        }
        return try records.map { record in
            guard record.fields.count == first.fields.count else {
                throw Failure(
                    .badData,
                    "\(name): line \(record.line) has \(Format.counted(record.fields.count, "field")), but the first "
                        + "one \(first.fields.count): put a field with a comma in it in quotes")
            }
            let path = record.fields[pathColumn]
            guard !path.isEmpty, !path.utf8.contains(0) else {
                throw Failure(.badData, "\(name): line \(record.line) has no path: name an image, or remove the line")
            }
            return Row(line: record.line, path: normalized(path), label: labelColumn.map { record.fields[$0] } ?? "")
        }
    }

    private static func requireDistinct(_ rows: [Row], in path: String) throws {
        var lines: [ByteText: Int] = [:], repeated: (first: Int, row: Row)?, count = 0
        for row in rows {
            guard let first = lines.updateValue(row.line, forKey: ByteText(row.path)) else { continue }
            count += 1
            if repeated == nil { repeated = (first, row) }
        }
        guard let repeated else { return }
        throw Failure(
            .badData,
            "\(path): line \(repeated.row.line) names \(repeated.row.path) again, after line \(repeated.first) (lines "
                + "that repeat another: \(count)): list every image once")
    }

    /// Requires that every line names a file. Returns a warning where several name the same one by different paths.
    private static func files(_ rows: [Row], in list: String, _ folder: String) throws -> [String] {
        struct Identity: Hashable {
            let device, node: UInt64
        }
        var missing: Row?, count = 0, seen: Set<Identity> = [], again: Row?, repetitions = 0
        var status = stat()
        for row in rows {
            if stat(whole(row.path, in: folder), &status) != 0 || status.st_mode & S_IFMT == S_IFDIR {
                count += 1
                if missing == nil { missing = row }
            } else if !seen.insert(Identity(device: UInt64(status.st_dev), node: UInt64(status.st_ino))).inserted {
                repetitions += 1
                if again == nil { again = row }
            }
        }
        guard let missing else {
            guard let again else { return [] }
            return [
                "\(list): line \(again.line) names by \(firstNames([again.path])) a file that another line names by "
                    + "another path: such an image counts as often as it is named (lines: \(repetitions))"
            ]
        }
        if let separator = DelimitedText.otherSeparator(missing.path), missing.label.isEmpty {
            guard !isTable(list) else {
                throw DelimitedText.separated(by: separator, line: missing.line, named: list)
            }
            throw notPaths(list, missing, separator)
        }
        let place = whole(missing.path, in: folder)
        let isFolder = stat(place, &status) == 0
        if !isTable(list), !isFolder, let end = missing.path.lastIndex(where: { $0 == "," || $0 == " " }),
            stat(whole(String(missing.path[..<end]), in: folder), &status) == 0
        {
            throw notPaths(list, missing, missing.path[end] == "," ? "a comma" : "a space")
        }
        throw Failure(
            .badData,
            "\(list): line \(missing.line) names \(missing.path), but \(place) is "
                + "\(isFolder ? "a folder" : "not there") (such lines: \(count) of \(rows.count)): paths are relative "
                + "to the list's folder, and a line of column names begins with path")
    }

    /// The failure for a line of a .txt list with more than a path.
    private static func notPaths(_ list: String, _ row: Row, _ separator: String) -> Failure {
        Failure(
            .badData,
            "\(list): line \(row.line) has more than a path, set apart by \(separator): a .txt list has one path on each "
                + "line and no labels; for labels write a .csv list with the columns path,label")
    }
}

/// A text that is compared by its bytes. (Strings are equal if they have the same characters in other bytes.)
struct ByteText: Hashable, Comparable {
    let text: String
    init(_ text: String) { self.text = text }
    static func == (first: ByteText, second: ByteText) -> Bool { first.text.utf8.elementsEqual(second.text.utf8) }
    static func < (first: ByteText, second: ByteText) -> Bool { precedes(first.text, second.text) }
    func hash(into hasher: inout Hasher) { for byte in text.utf8 { hasher.combine(byte) } }
}

extension String {
    /// Without spaces at both ends.
    fileprivate var trimmed: String {
        String(String(drop(while: \.isWhitespace).reversed()).drop(while: \.isWhitespace).reversed())
    }
}
