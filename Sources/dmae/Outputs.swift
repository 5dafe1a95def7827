import ArgumentParser
import Glibc
import Reporting
import Weights

/// The files that a command is about to write.
enum Outputs {
    /// Refuses, before long work, an output that is a file of the input: one that was opened so far, or one of `images`.
    ///
    /// - Parameters:
    ///   - outputs: the paths of all files that the command writes or replaces.
    ///   - images: the paths of the images that it reads; only asked for where an output exists.
    ///   - force: of a command with --force, whether it was given; otherwise an output that exists is refused, too.
    /// - Throws: `Failure.usage`.
    static func check(_ outputs: [String], images: @autoclosure () -> [String] = [], force: Bool = true) throws {
        try InputFiles.requireOther(than: outputs, images())
        guard !force else { return }
        for output in outputs {
            var status = stat()
            // What is no file is refused in its own words, whatever the flags.
            guard stat(output, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
            throw Failure(
                .usage, "\(quoted(path: output)) exists: name another output, or give --force to replace it")
        }
    }

    /// Refuses the folder of a new run that is, lies in or holds one of the folders of its images: checkpoints among
    /// pictures, and a further class for the next run.
    ///
    /// - Throws: `Failure.usage`.
    static func requireApart(_ run: String, from places: [String]) throws {
        let folder = whole(run)
        for place in places {
            var status = stat()
            guard stat(place, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { continue }
            let images = whole(place)
            guard folder == images || folder.hasPrefix(images + "/") || images.hasPrefix(folder + "/") else { continue }
            throw Failure(
                .usage,
                "the run in \(quoted(path: run)) would lie among the images of \(quoted(path: place)): name an --output "
                    + "folder beside them")
        }
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
