import Reporting

/// The files that features are written to.
///
/// - `x.npy` or `x.safetensors` holds the features, one row per image. Beside it are `x.npy.files.txt` with the path of
///   each image on a line, `x.npy.labels.txt` with the name of its class, where the images have classes, and `x.npy.json`
///   with the checksums of all of them. That file comes last and confirms the others: what it does not confirm is not a
///   result.
/// - `x.csv` is a table of path, label and features, and stands alone.
public struct FeatureFiles: Equatable, Sendable {
    /// The form of the features.
    public enum Form: Sendable { case numpy, safetensors, table }

    /// The path of the features.
    public let features: String
    public let form: Form
    /// The path of the list of images, in the order of the features; nil for a table.
    public var list: String? { form == .table ? nil : ImageList.path(beside: features) }
    /// The path of the list of the images' classes, in the order of the features; nil for a table.
    public var labels: String? { form == .table ? nil : features + ".labels.txt" }
    /// The path of the file that confirms the others; nil for a table.
    public var summary: String? { form == .table ? nil : features + ".json" }
    /// The paths of all files that may be written or removed.
    public var all: [String] { [features] + [list, labels, summary].compactMap { $0 } }

    /// The files for features at `path`. Its ending tells the form.
    ///
    /// - Throws: `Failure.usage` for an ending other than .npy, .safetensors and .csv.
    public init(_ path: String) throws {
        let forms: [(ending: String, form: Form)] = [
            (".npy", .numpy), (".safetensors", .safetensors), (".csv", .table),
        ]
        let name = path.split(separator: "/").last ?? ""
        guard let found = forms.first(where: { name.hasSuffix($0.ending) && name.count > $0.ending.count }) else {
            throw Failure(
                .usage,
                "\(.output, path): end it in .npy, .safetensors or .csv, the forms features are written in")
        }
        (features, form) = (path, found.form)
    }

    /// The first line of a table.
    static func header(columns: Int) -> String {
        "path,label," + (0..<columns).map { "feature_\($0)" }.joined(separator: ",") + "\n"
    }

    /// A line of a table. Numbers have the fewest digits that read back to the same bits.
    static func line(_ path: String, _ label: String, _ features: UnsafeBufferPointer<Float>) -> String {
        var line = Format.commaSeparated(path) + "," + Format.commaSeparated(label)
        for feature in features { line += ",\(feature)" }
        return line + "\n"
    }

    /// The contents of the file that confirms the others.
    struct Summary: Encodable {
        struct File: Encodable {
            let name: String
            let bytes: Int
            let xxh64: String

            init(path: String, byteCount: Int, checksum: UInt64) {
                name = path.split(separator: "/").last.map(String.init) ?? path
                bytes = byteCount
                let digits = String(checksum, radix: 16)
                xxh64 = String(repeating: "0", count: 16 - digits.count) + digits
            }
        }
        let files: [File]
        /// Of the features, images first.
        let shape: [Int]
        /// Images that could not be read and have no row.
        let unreadable: Int
        let metadata: [String: String]
    }
}
