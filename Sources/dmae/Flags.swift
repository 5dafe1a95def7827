import ArgumentParser
import Reporting
import Synchronization

/// Fields as flags of the command line.
struct Flags: Vocabulary {
    /// Whether a value that came from the file of --config is said to be its.
    var namesFile = true

    /// The run that `dmae resume` goes on with, as its folder was typed; nil for other commands, which have flags for the
    /// folder and for the checkpoint.
    static var resumedRun: String? {
        get { resumed.withLock { $0 } }
        set { resumed.withLock { $0 = newValue } }
    }
    private static let resumed = Mutex<String?>(nil)

    func name(_ field: Field) -> String {
        if Self.resumedRun != nil {
            // "Another run folder": it has no flag.
            if field == .output { return "run" }
            if field == .resume { return "--checkpoint" }
        }
        return "--" + field.rawValue.replacing(" ", with: "-")
    }

    func phrase(_ field: Field, _ value: String) -> String {
        if field == .resume, value == "auto", let run = Self.resumedRun { return "`dmae resume \(Shell.word(run))`" }
        // The method is no flag but the command itself.
        guard field != .method else { return "`dmae \(value)`" }
        let file = namesFile ? ConfigurationFile.file(of: name(field)) : nil
        return "\(name(field)) \(value)" + (file.map { " of \(quoted(path: $0))" } ?? "")
    }

    func phrase(_ field: Field, isOn: Bool) -> String {
        if isOn { return name(field) }
        return Self.inverted.contains(field) ? "--no-" + name(field).dropFirst(2) : "no \(name(field))"
    }

    /// The fields with a flag that switches them off.
    private static let inverted: Set<Field> = [.normalizePixels]
}

extension ValidationError {
    /// Runs `check`; its failure becomes an error that is shown with the usage of the command.
    static func check(_ check: () throws -> Void) throws {
        do { try check() } catch let failure as Failure { throw ValidationError(failure.message(in: Flags())) }
    }
}
