import Glibc
import Images
import Reporting

/// The paths of inputs on a command line, looked at before anything that takes long.
enum GivenPaths {
    /// A flag and the paths that it was given.
    typealias Given = (flag: String, paths: [String])

    /// Refuses paths that lead nowhere, all of them in one sentence. Braces stand for several paths.
    ///
    /// - Throws: `Failure.inputOutput`; `Failure.usage` where the words are parts of a path that is there, or the name of a
    ///   model that would have to be downloaded.
    static func require(_ given: [Given]) throws {
        var missing: [String] = []
        for (flag, paths) in given {
            try requireQuotes(flag, paths)
            for path in paths where weightFlags.contains(flag) && isMissing(path) && isHubName(path) {
                throw Failure(
                    .usage,
                    "\(flag) \(quoted(path: path)) is no file here. If it is a model of the Hugging Face hub: dmae downloads "
                        + "nothing; `\(hubCommand(path))` fetches it, then name that folder")
            }
            for path in paths where !path.isEmpty && isMissing(path) {
                let isPattern = path.utf8.contains(UInt8(ascii: "{"))
                let expanded = isPattern ? try BraceExpansion.texts(of: path) : [path]
                missing += expanded.filter(isMissing).map { "\(flag) \(quoted(path: $0))" }
            }
        }
        guard !missing.isEmpty else { return }
        let shown = missing.prefix(5)
        let names =
            shown.count < missing.count
            ? "\(shown.joined(separator: ", ")) and \(Format.counted(missing.count - shown.count, "other path"))"
            : shown.dropLast().joined(separator: ", ") + (shown.count > 1 ? " and " : "") + shown.last!
        throw Failure(
            .inputOutput,
            "cannot open \(names): \(errorText(ENOENT)); check the "
                + (missing.count == 1 ? "path and its permissions" : "paths and their permissions"))
    }

    /// Whether nothing is at `path`. Other errors have sentences of their own, where it is opened; so has a path that was
    /// not UTF-8.
    private static func isMissing(_ path: String) -> Bool {
        access(path, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR) && !path.unicodeScalars.contains("\u{FFFD}")
    }

    /// Refuses words that are parts of one path, which has spaces in its name.
    private static func requireQuotes(_ flag: String, _ paths: [String]) throws {
        for start in paths.indices where isMissing(paths[start]) {
            for end in paths.indices.dropFirst(start + 1) {
                let path = paths[start...end].joined(separator: " ")
                guard !isMissing(path) else { continue }
                throw Failure(
                    .usage,
                    "\(flag) \(paths[start...end].map { quoted(path: $0) }.joined(separator: " ")): there is "
                        + "\(quoted(path: path)), and a path with spaces needs quotes")
            }
        }
    }

    /// Whether a path that leads nowhere may be the name of a model: "facebook/vit-mae-large", "hf-hub:timm/vit".
    private static func isHubName(_ path: String) -> Bool {
        let name = plainHubName(path), parts = name.split(separator: "/", omittingEmptySubsequences: false)
        func isWord(_ text: Substring) -> Bool {
            text.first.map { $0.isLetter || $0.isNumber } == true
                && text.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-._".contains($0)) }
        }
        guard parts.count == 2, parts.allSatisfy(isWord), !Outputs.hasEnding(name, modelEndings) else { return false }
        return name != path || access(String(parts[0]), F_OK) != 0
    }

    private static let weightFlags = ["--teacher", "--weights", "--init-student"]
    private static let modelEndings = [".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".json", ".tar"]

    /// The name without the mark that timm puts before it.
    private static func plainHubName(_ path: String) -> String {
        for mark in ["hf-hub:", "hf_hub:", "timm/hf-hub:"] where path.hasPrefix(mark) {
            return String(path.dropFirst(mark.count))
        }
        return path
    }

    /// The command of the hub's own program that fetches a model into a folder.
    private static func hubCommand(_ path: String) -> String {
        let name = plainHubName(path)
        return "hf download \(name) --local-dir \(name.split(separator: "/").last ?? "")"
    }

    // MARK: The same images twice

    /// A warning where images that are learned are judged, too; nil where the places have nothing in common. Places are
    /// the same, or one lies in the other, whatever paths lead to them.
    ///
    /// - Parameter measure: what then says less, such as "the accuracy".
    static func sharedWarning(_ learned: Given, _ judged: Given, _ measure: String) -> String? {
        for judgedPath in judged.paths {
            for learnedPath in learned.paths {
                let isWithin = isInside(judgedPath, learnedPath), isAround = isInside(learnedPath, judgedPath)
                guard isWithin || isAround else { continue }
                let own = "\(learned.flag) \(escaped(learnedPath))", other = "\(judged.flag) \(escaped(judgedPath))"
                let relation =
                    isWithin && isAround
                    ? "\(own) and \(other) are the same images"
                    : isWithin ? "\(other) lies in \(own)" : "\(other) holds \(own)"
                return "\(relation): \(remembered(measure)); give \(judged.flag) other images"
            }
        }
        return nil
    }

    /// How many images that judge are copies of images that were learned, with the names of two, as the beginning of a
    /// sentence; nil without copies.
    static func copies(_ copied: CopiedImages, of learned: String, in judged: String) -> String? {
        guard !copied.copies.isEmpty else { return nil }
        let count = copied.copies.count, total = Format.counted(copied.images, "image")
        let names = copied.copies.prefix(2).map { "\(escaped($0.title)) of \(escaped($0.original))" }
        return (copied.areAll && count > 1 ? "all \(total)" : "\(Format.grouped(count)) of the \(total)")
            + " of \(judged) \(count == 1 ? "is a copy of an image" : "are copies of images") of \(learned) "
            + "(\(names.joined(separator: ", "))\(count > names.count ? ", …" : ""))"
    }

    /// What a figure of images that were learned is worth.
    ///
    /// - Parameter measure: such as "the accuracy".
    static func remembered(_ measure: String) -> String {
        "\(measure) of images that were learned says how well they are remembered, not how well others are told apart"
    }

    /// Whether `path` is `place`, or lies in it, without regard to links.
    private static func isInside(_ path: String, _ place: String) -> Bool {
        guard let place = identity(place), let resolved = realpath(path, nil) else { return false }
        defer { free(resolved) }
        var path = String(cString: resolved)
        while true {
            if identity(path).map({ $0 == place }) ?? false { return true }
            guard let slash = path.lastIndex(of: "/"), path.count > 1 else { return false }
            path = slash == path.startIndex ? "/" : String(path[..<slash])
        }
    }

    private static func identity(_ path: String) -> (device: dev_t, number: ino_t)? {
        var status = stat()
        return stat(path, &status) == 0 ? (status.st_dev, status.st_ino) : nil
    }
}
