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
}

/// Whether outputs that exist are replaced.
struct ForceOptions: ParsableArguments {
    @Flag(help: "Replace an output that exists. A file of the input is never replaced.")
    var force = false
}
