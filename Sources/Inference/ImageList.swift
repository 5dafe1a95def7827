import Images
import Reporting
import Weights

/// The list beside a file of results: the path of each image on a line, in the order of the file's rows.
enum ImageList {
    /// The path of the list beside `output`.
    static func path(beside output: String) -> String { output + ".files.txt" }

    /// Requires that every path of `source` fits on a line of the list at `path`.
    ///
    /// - Throws: `Failure.badData` for a path with a line break.
    static func requireLines(_ source: any ImageSource, for path: String) throws {
        guard let broken = (0..<source.count).first(where: { source.path($0).utf8.contains(0x0A) }) else { return }
        throw Failure(
            .badData,
            "\(source.path(broken).debugDescription): the name holds a line break, but \(path) has one path per line: "
                + "rename the file")
    }

    /// Writes the list at `path` of the images `written`.
    static func write(_ written: [Int], of source: any ImageSource, to path: String) throws {
        try AtomicFile.write(to: path) { file in
            for index in written {
                try Array((source.path(index) + "\n").utf8).withUnsafeBytes { try file.append($0) }
            }
        }
    }
}
