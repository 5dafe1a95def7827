import Images
import Reporting
import Weights

/// The lists beside a file of results: a line for each image, in the order of the file's rows.
enum ImageList {
    /// The path of the list of paths beside `output`.
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

    /// Writes the paths of the images `written`.
    static func write(_ written: [Int], of source: any ImageSource, into file: AtomicFile) throws {
        for index in written { try file.append(source.path(index) + "\n") }
    }
}
