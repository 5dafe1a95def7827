#if canImport(Glibc)
    import Glibc
#endif

/// The control groups (cgroups) of this process, of version 1, 2 or both, as far as the system shows them.
///
/// A container may see its own group as the root, or only a part of the tree, or nothing of it.
package struct ControlGroups {
    /// A group of this process.
    struct Group {
        /// Its path as /proc/self/cgroup gives it.
        let path: String
        /// Where its files are.
        let folder: String
        /// Whether it is of version 2.
        let isUnified: Bool
        /// Whether it is the process's own, and no ancestor.
        let isOwn: Bool

        /// The lines of one of its files; none if there is no such file.
        func lines(_ name: String) -> [Substring] { ControlGroups.lines(of: "\(folder)/\(name)") }

        /// The number that the file holds; nil without one, as for "max".
        func number(_ name: String) -> Int? { lines(name).first.flatMap { Int($0) } }

        /// The values of a file whose lines are "name number".
        func values(_ name: String) -> [Substring: Int] {
            var values: [Substring: Int] = [:]
            for line in lines(name) {
                let words = line.split(separator: " ")
                if words.count == 2, let value = Int(words[1]) { values[words[0]] = value }
            }
            return values
        }
    }

    private struct Mount {
        /// The group whose files are at `folder`.
        let root: String
        let folder: String
        let isUnified: Bool
        let controllers: [Substring]
    }

    /// What is put before each path: "" for the machine.
    private let root: String
    private let mounts: [Mount]

    /// - Parameter root: a folder that holds `proc` and what it names.
    package init(root: String = "") {
        self.root = root
        var mounts: [Mount] = []
        for line in Self.lines(of: root + "/proc/self/mountinfo") {
            // "36 35 98:0 ROOT FOLDER options - type source options"; further fields may stand before the dash.
            guard let dash = line.firstRange(of: " - ") else { continue }
            let places = line[..<dash.lowerBound].split(separator: " ")
            let words = line[dash.upperBound...].split(separator: " ")
            guard places.count >= 5, words.count >= 3, words[0] == "cgroup" || words[0] == "cgroup2" else { continue }
            mounts.append(
                Mount(
                    root: Self.unescaped(places[3]), folder: root + Self.unescaped(places[4]),
                    isUnified: words[0] == "cgroup2", controllers: words[2].split(separator: ",")))
        }
        if mounts.isEmpty {
            // Without /proc there may be /sys all the same.
            let folder = root + "/sys/fs/cgroup"
            mounts = [Mount(root: "/", folder: folder, isUnified: true, controllers: [])]
            for name in ["memory", "cpu"] as [Substring] {
                mounts.append(Mount(root: "/", folder: "\(folder)/\(name)", isUnified: false, controllers: [name]))
            }
        }
        self.mounts = mounts
    }

    /// The groups that count for `controller`: the process's own and its ancestors, from the innermost on.
    func groups(of controller: Substring) -> [Group] {
        var found: [Group] = []
        var own: [(path: String, isUnified: Bool)] = []
        for line in Self.lines(of: root + "/proc/self/cgroup") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            if fields[0] == "0" {
                own.append((String(fields[2]), true))
            } else if fields[1].split(separator: ",").contains(controller) {
                own.append((String(fields[2]), false))
            }
        }
        if own.isEmpty { own = [("/", true), ("/", false)] }
        for (path, isUnified) in own {
            // Of several mounts of the same tree the one that shows most of it.
            let candidates = mounts.filter {
                $0.isUnified == isUnified && (isUnified || $0.controllers.contains(controller))
            }.sorted { $0.root.utf8.count < $1.root.utf8.count }
            guard
                let mount = candidates.first(where: { Self.rest(of: path, below: $0.root) != nil }) ?? candidates.first
            else { continue }
            // Of a group outside of what is mounted only the mounted part is known.
            var rest = Self.rest(of: path, below: mount.root) ?? ""
            if access(mount.folder + rest, F_OK) != 0 { rest = "" }
            let base = mount.root == "/" ? "" : mount.root
            var isOwn = true
            while true {
                let name = base + rest
                found.append(
                    Group(
                        path: name.isEmpty ? "/" : name, folder: mount.folder + rest, isUnified: isUnified, isOwn: isOwn
                    ))
                isOwn = false
                guard let slash = rest.lastIndex(of: "/") else { break }
                rest = String(rest[..<slash])
            }
        }
        return found
    }

    /// The part of `path` below `root`, "" or beginning with a slash; nil if it is not below.
    private static func rest(of path: String, below root: String) -> String? {
        guard !path.hasPrefix("/..") else { return nil }
        if root == "/" { return path == "/" ? "" : path }
        if path == root { return "" }
        return path.hasPrefix(root + "/") ? String(path.dropFirst(root.count)) : nil
    }

    /// The kernel writes spaces, tabs, line breaks and backslashes as "\040".
    private static func unescaped(_ text: Substring) -> String {
        let bytes = Array(text.utf8)
        var result: [UInt8] = [], index = 0
        while index < bytes.count {
            let digits = bytes[(index + 1)...].prefix(3)
            if bytes[index] == UInt8(ascii: "\\"), digits.count == 3,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
            {
                result.append(value)
                index += 4
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The lines of a file of the kernel's; none if it cannot be read.
    static func lines(of path: String) -> [Substring] {
        guard let file = fopen(path, "re") else { return [] }
        defer { fclose(file) }
        var text: [UInt8] = []
        while true {
            let byte = fgetc(file)
            if byte == EOF || text.count > 1 << 20 { break }
            text.append(UInt8(byte))
        }
        return String(decoding: text, as: UTF8.self).split(separator: "\n")
    }
}
