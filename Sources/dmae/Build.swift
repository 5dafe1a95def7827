import CBuild
import Reporting

/// What the program says of its own build.
enum Build {
    /// The commit that was built, with "+" behind it if files were changed since; nil outside of a repository.
    static let commit = dmae_commit().map { String(cString: $0) }

    /// "release" or "debug".
    static var kind: String {
        #if DEBUG
            "debug"
        #else
            "release"
        #endif
    }

    /// "0.1.0 (commit 0123456789ab, release build for x86_64)".
    static var description: String {
        #if arch(x86_64)
            let processor = "x86_64"
        #else
            let processor = "aarch64"
        #endif
        return "\(Dmae.version) (commit \(commit ?? "unknown"), \(kind) build for \(processor))"
    }

    /// The licences of everything that is linked into the static binary.
    static var thirdPartyNotices: String {
        var count = 0
        let start = dmae_third_party_notices(&count)
        return start!.withMemoryRebound(to: UInt8.self, capacity: count) { bytes in
            String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
        }
    }
}
