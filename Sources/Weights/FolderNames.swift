import Reporting
import Glibc

/// The names in a folder.
package enum FolderNames {
    /// The sorted names, including "." and "..".
    ///
    /// Throws `Failure(.inputOutput)` where the folder cannot be opened or read completely.
    package static func sorted(_ folder: String) throws -> [String] {
        func failure(_ number: Int32) -> Failure {
            .system("cannot list folder \(quoted(path: folder))", number, .listing)
        }
        guard let directory = opendir(folder) else { throw failure(errno) }
        defer { closedir(directory) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(directory) else {
                guard errno == 0 else { throw failure(errno) }
                return names.sorted()
            }
            names.append(
                withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: $0.pointee)) {
                        String(cString: $0)
                    }
                })
        }
    }
}
