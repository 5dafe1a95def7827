import Reporting

/// The extensions of image files.
enum ImageExtension {
    /// The extensions of image files that can be decoded: those of torchvision's list without TIFF's, then the others of
    /// the kinds that are decoded. Which kind a file is, its content says.
    static let all = [
        "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "webp", "jfif", "jpe", "mpo", "gif", "pbm", "pnm",
    ]

    /// The extensions of pictures that cannot be decoded, sorted.
    static let undecodable = [
        "3fr", "arw", "avif", "cr2", "cr3", "crw", "cur", "dcm", "dcr", "dds", "dng", "eps", "erf", "exr", "fff",
        "hdr", "heic", "heics", "heif", "heifs", "hif", "icns", "ico", "iiq", "j2k", "jls", "jp2", "jpf", "jpx", "jxl",
        "jxr", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pcx", "pef", "psb", "psd", "qoi", "raf", "raw", "rw2",
        "rwl", "sgi", "sr2", "srf", "srw", "svg", "svgz", "tga", "tif", "tiff", "wdp", "x3f", "xcf",
    ]
    private static let undecodableSet = Set(undecodable)

    /// Those of `all` in a sentence.
    static let text = all.map { "." + $0 }.joined(separator: " ")

    /// Whether a file of that name is an image that can be decoded.
    static func isImage(_ name: String) -> Bool { of(name).map(all.contains) ?? false }

    /// The extension of a picture that cannot be decoded; nil for another name.
    static func undecodable(_ name: String) -> String? { of(name).flatMap { undecodableSet.contains($0) ? $0 : nil } }

    /// The extension of a name, in lower case.
    private static func of(_ name: String) -> String? {
        name.lastIndex(of: ".").map { name[name.index(after: $0)...].lowercased() }
    }
}

/// Pictures that were found and cannot be decoded, counted by their extensions.
struct UndecodablePictures: Equatable {
    private(set) var counts: [String: Int] = [:]

    var isEmpty: Bool { counts.isEmpty }

    mutating func add(_ kind: String, _ count: Int = 1) { counts[kind, default: 0] += count }

    mutating func add(_ others: UndecodablePictures) {
        for (kind, count) in others.counts { add(kind, count) }
    }

    /// "12 .heic, 3 .tif", the most frequent kind first.
    private var text: String {
        counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\(Format.grouped($0.value)) .\($0.key)" }
            .joined(separator: ", ")
    }

    private static let remedy = "convert them to JPEG or PNG"

    /// Those that were left out, if any.
    ///
    /// - Parameter place: what holds them; nil for several places.
    func leftOut(of place: String?) -> [LeftOutPictures] {
        isEmpty ? [] : [LeftOutPictures(places: place.map { [$0] } ?? [], pictures: self)]
    }

    /// A warning about them.
    fileprivate func warning(in places: [String]) -> String {
        "pictures of kinds that cannot be decoded are left out\(places.isEmpty ? "" : " in \(firstNames(places))"): \(text); "
            + "\(Self.remedy) to use them"
    }

    /// The end of a sentence that says that there are no images.
    var hint: String {
        isEmpty ? "" : ", but pictures of kinds that cannot be decoded (\(text)): \(Self.remedy)"
    }
}

/// Pictures of places of images that are left out, as they are of kinds that cannot be decoded.
public struct LeftOutPictures: Equatable, Sendable {
    /// What holds them; empty where that has no one name.
    fileprivate var places: [String]
    fileprivate var pictures: UndecodablePictures

    /// A warning about them.
    var warning: String { pictures.warning(in: places) }
}

extension Sequence where Element == any ImageSource {
    /// The warnings of all sources, each once. One sentence tells of the pictures that are left out, whatever places they
    /// are in.
    public var distinctWarnings: [String] {
        var all: LeftOutPictures?, parts: [LeftOutPictures] = []
        for part in flatMap(\.leftOutPictures) where !parts.contains(part) {
            parts.append(part)
            all = all ?? LeftOutPictures(places: [], pictures: UndecodablePictures())
            all!.places += part.places
            all!.pictures.add(part.pictures)
        }
        let single = Set(parts.map(\.warning))
        var said: Set<String> = []
        return flatMap(\.warnings).map { single.contains($0) ? all!.warning : $0 }.filter { said.insert($0).inserted }
    }
}
