import ArgumentParser
import Glibc
import Images
import Reporting
import RunReport
import Training
import Weights

/// The files that a command is about to write.
enum Outputs {
    /// A form of files that a command replaces without --force.
    enum Form: CaseIterable {
        case picture, tensors, report

        var ending: String {
            switch self {
            case .picture: ".png"
            case .tensors: ".safetensors"
            case .report: ".html"
            }
        }

        fileprivate var name: String {
            switch self {
            case .picture: "PNG file"
            case .tensors: "safetensors file"
            case .report: "report of dmae"
            }
        }

        /// Whether a file that begins with these bytes, at least 64 unless it is shorter, has this form.
        fileprivate func matches(_ head: some Collection<UInt8>) -> Bool {
            switch self {
            case .picture: head.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
            // The length of the header, far below 2^32, and the header, a JSON object.
            case .tensors:
                head.count >= 9 && head.dropFirst(4).prefix(5).elementsEqual([0, 0, 0, 0, UInt8(ascii: "{")])
            case .report: head.starts(with: ReportPage.mark.utf8)
            }
        }
    }

    /// What a command writes into a safetensors file, and therefore replaces without --force: weights are never that.
    enum Tensors: String {
        case logits = "logits of an earlier evaluation"
        case replay = "results of an earlier replay"

        fileprivate func matches(_ names: [String]) -> Bool {
            switch self {
            case .logits: Set(names) == ["logits", "labels"]
            case .replay: names.contains { $0.hasPrefix("loss.") }
            }
        }
    }

    /// Refuses, before long work, an output that is a file of the input: one that was opened so far, or one of `images`.
    /// Refuses, too, to replace a file of another form than its ending says, and a picture of somebody else: nobody meant
    /// that.
    ///
    /// - Parameters:
    ///   - outputs: the paths of all files that the command writes or replaces.
    ///   - images: the paths of the images that it reads; only asked for where an output exists.
    ///   - tensors: what a safetensors file among the outputs will hold.
    ///   - force: of a command with --force, whether it was given; without it every output that exists is refused, and
    ///     one that appears while the command runs is kept; with it none is. Nil for another command.
    /// - Throws: `Failure.usage`.
    static func check(
        _ outputs: [String], images: @autoclosure () -> [String] = [], tensors: Tensors? = nil, force: Bool? = nil
    )
        throws
    {
        try InputFiles.requireOther(than: outputs, images())
        guard force != true else { return }
        for output in outputs {
            var status = stat()
            // What is no file is refused in its own words, whatever the flags.
            guard stat(output, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
            if force == false {
                throw Failure(
                    .usage, "\(quoted(path: output)) exists: name another output, or give --force to replace it")
            }
            guard let form = Form.allCases.first(where: { output.lowercased().hasSuffix($0.ending) }),
                status.st_size > 0, let head = head(of: output)
            else { continue }
            func refuse(_ what: String) -> Failure {
                Failure(.usage, "\(quoted(path: output)) exists and \(what): name another output, or remove it")
            }
            guard form.matches(head) else { throw refuse("is not a \(form.name), whatever its name says") }
            guard form != .picture || PNGWriter.wrote(fileWithHead: head) else {
                throw refuse("is a picture that dmae has not written")
            }
            guard form == .tensors, let tensors else { continue }
            // One that is damaged may have been weights.
            let names = (try? SafeTensorsFile(path: output))?.entries.map(\.name) ?? []
            guard tensors.matches(names) else { throw refuse("holds other tensors than \(tensors.rawValue)") }
        }
        if force == false { AtomicFile.requireNew(outputs) }
    }

    /// Refuses to replace a file of a run, whatever the flags.
    ///
    /// - Throws: `Failure.usage`.
    static func requireNoRun(_ outputs: [String]) throws {
        for output in outputs where RunDirectory.isFileOfRun(output) {
            throw Failure(
                .usage, "\(quoted(path: output)) is a file of a run and would be replaced: name another output")
        }
    }

    /// The first bytes of a file; nil if it cannot be read.
    private static func head(of path: String) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: PNGWriter.headBytes)
        let count = read(descriptor, &bytes, bytes.count)
        return count < 0 ? nil : Array(bytes.prefix(count))
    }

    /// Endings of files. A folder is not called so.
    static let fileEndings = [
        ".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".onnx", ".npy", ".csv", ".json", ".jsonl", ".png", ".jpg",
        ".jpeg", ".tar", ".html", ".gguf", ".ggml", ".h5", ".hdf5", ".keras", ".msgpack", ".npz", ".pkl", ".pickle",
        ".tflite",
        ".mlmodel", ".engine", ".plan", ".pb", ".zip", ".gz", ".tgz", ".xz", ".zst", ".7z", ".txt", ".yaml", ".yml",
        ".gif",
        ".webp", ".bmp", ".tif", ".tiff", ".pdf",
    ]

    /// Whether the file name of `path` is one with this ending.
    static func hasEnding(_ path: String, _ endings: [String]) -> Bool {
        let name = (path.split(separator: "/").last ?? "").lowercased()
        return endings.contains { name.hasSuffix($0) && name.count > $0.count }
    }

    /// Refuses an output that is called another kind of file than is written: it might be a file of that kind. Not in
    /// `validate`, where a misspelt flag is not yet known.
    ///
    /// - Parameters:
    ///   - flag: the option that names it.
    ///   - what: what is written, such as "the grid is a PNG file".
    /// - Throws: `Failure.usage`.
    static func requireEnding(_ ending: String, of output: String, _ flag: String, _ what: String) throws {
        guard !hasEnding(output, [ending]) else { return }
        throw Failure(.usage, "\(flag) \(output): \(what); end it in \(ending)")
    }

    /// Refuses an output folder that is called as a file is.
    ///
    /// - Parameter writer: what writes it, such as "a run".
    /// - Throws: `Failure.usage`.
    static func requireFolderName(_ path: String, _ flag: String, of writer: String) throws {
        guard hasEnding(path, fileEndings) else { return }
        throw Failure(
            .usage,
            "\(flag) \(path): \(writer) writes a folder, and that is the name of a file: leave out its ending")
    }

    /// Refuses outputs in a folder of images of the same command: a drawn picture would be one of the next command's
    /// images.
    ///
    /// - Parameter places: folders, and what else images are in, which is passed over.
    /// - Throws: `Failure.usage`.
    static func requireOutside(_ outputs: [String], of places: [String]) throws {
        for place in places {
            guard let images = folder(place) else { continue }
            for output in outputs where whole(output).hasPrefix(images == "/" ? images : images + "/") {
                throw Failure(
                    .usage,
                    "the output \(quoted(path: output)) would lie among the images of \(quoted(path: place)): name one "
                        + "outside that folder")
            }
        }
    }

    /// Refuses the folder of a new run that is, lies in or holds one of the folders of its images: checkpoints among
    /// pictures, and a further class for the next run.
    ///
    /// - Throws: `Failure.usage`.
    static func requireApart(_ run: String, from places: [String]) throws {
        let folder = whole(run)
        for place in places {
            guard let images = Self.folder(place) else { continue }
            guard folder == images || folder.hasPrefix(images + "/") || images.hasPrefix(folder + "/") else { continue }
            throw Failure(
                .usage,
                "the run in \(quoted(path: run)) would lie among the images of \(quoted(path: place)): name an --output "
                    + "folder beside them")
        }
    }

    /// The path without links of a folder; nil for what is none.
    private static func folder(_ place: String) -> String? {
        var status = stat()
        return stat(place, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR ? whole(place) : nil
    }

    /// The path without links; of what does not exist yet, that of the folder that does, and the rest.
    private static func whole(_ path: String) -> String {
        if let found = realpath(path, nil) {
            defer { free(found) }
            return String(cString: found)
        }
        var parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        while parts.last == "" { parts.removeLast() }
        // The present folder itself may have been removed.
        guard parts.count > 1 else { return path == "." ? path : whole(".") + "/" + path }
        let last = parts.removeLast()
        let parent = parts.joined(separator: "/")
        return whole(parent.isEmpty ? "/" : parent) + "/" + last
    }
}

/// Whether outputs that exist are replaced.
struct ForceOptions: ParsableArguments {
    @Flag(help: "Replace an output that exists. A file of the input is never replaced.")
    var force = false
}
