import FoundationEssentials
import Glibc
import Weights

extension RunStatus {
    /// What `status.json` of the run in the folder at `path` says; nil where there is none that can be read.
    public init?(ofRunIn path: String) {
        guard let text = try? MappedFile.contents("\(path)/\(RunDirectory.statusName)", wanted: "a run"),
            let status = try? JSONDecoder().decode(RunStatus.self, from: Data(text))
        else { return nil }
        self = status
    }

    /// Whether a process holds the lock of the run in the folder at `path`.
    public static func isLocked(_ path: String) -> Bool {
        let descriptor = open("\(path)/lock", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }
}
