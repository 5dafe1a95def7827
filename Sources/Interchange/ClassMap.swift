import Reporting
import Weights

/// How class directories are given to the classes of a head, where their names alone do not say.
public enum ClassMap: Equatable, Sendable {
    /// By position: directories in natural order, in which 2 stands before 10.
    case natural
    /// By a list from a file.
    case listed(path: String, entries: [Entry])

    /// One line of a list.
    public struct Entry: Equatable, Sendable {
        /// The line in the file, from 1.
        public let line: Int
        /// The name of the class directory.
        public let folder: String
        /// The class: an index, or a name of the weights.
        public let target: String
    }

    /// The word that stands for `.natural` in place of a path.
    public static let naturalWord = "natural"

    /// `natural`, or the list in the file of that path: on each line the name of a class directory and, after a tab, a
    /// comma or spaces, the index or the name of its class. The first tab separates the two; without a tab the first
    /// comma does, without either the first space. Empty lines are skipped.
    ///
    /// - Throws: `Failure.inputOutput` if the file cannot be read; `Failure.badData` if it is no such list.
    public init(_ text: String) throws {
        guard text != Self.naturalWord else {
            self = .natural
            return
        }
        let bytes = try MappedFile.contents(text, wanted: "a list of classes")
        guard bytes.count <= Self.maximumLength else {
            throw Failure(.badData, "\(quoted(path: text)) has \(bytes.count) bytes, which no list of classes has")
        }
        guard let content = String(validating: bytes, as: UTF8.self) else {
            throw Failure(.badData, "\(quoted(path: text)) is no UTF-8 text: name a list of classes")
        }
        self = .listed(path: text, entries: try Self.entries(content, path: text))
    }

    private static let maximumLength = 64 << 20

    private static func entries(_ content: String, path: String) throws -> [Entry] {
        var entries: [Entry] = []
        var lines: [String: Int] = [:]
        for (index, line) in content.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let text = trimmed(line)
            if text.isEmpty { continue }
            let place = "\(quoted(path: path)), line \(index + 1)"
            let separator = text.firstIndex(of: "\t") ?? text.firstIndex(of: ",") ?? text.firstIndex(of: " ")
            let folder = separator.map { String(trimmed(text[..<$0])) } ?? ""
            let target = separator.map { String(trimmed(text[text.index(after: $0)...])) } ?? ""
            guard !folder.isEmpty, !target.isEmpty else {
                throw Failure(
                    .badData,
                    "\(place): \(quoted(String(text))) is not a class directory and, after a tab, a comma or spaces, "
                        + "the index or name of its class")
            }
            if let earlier = lines.updateValue(index + 1, forKey: folder) {
                throw Failure(
                    .badData, "\(place): \(quoted(folder)) stands on line \(earlier) already; remove one of the two")
            }
            entries.append(Entry(line: index + 1, folder: folder, target: target))
        }
        guard !entries.isEmpty else { throw Failure(.badData, "\(quoted(path: path)) lists no class directory") }
        return entries
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let isSpace: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        guard let first = text.firstIndex(where: { !isSpace($0) }), let last = text.lastIndex(where: { !isSpace($0) })
        else { return "" }
        return text[first...last]
    }
}
