import Reporting
import Glibc

/// Searches directories for images. Links are followed, but a directory is read once, whatever links lead to it: the
/// time grows with what the directories hold, not with the number of their paths.
struct ImageSearch {
    /// Directories that may not be read and were passed over, in the order in which they were met.
    private(set) var closed: [(path: String, failure: Failure)] = []
    /// Paths that `Debris` names.
    private(set) var debris: [String] = []
    /// Tar archives, and compressed archives, in the order in which they were met.
    private(set) var archives: [String] = []
    private(set) var compressed: [String] = []

    /// Pictures that cannot be decoded.
    private(set) var undecodable = UndecodablePictures()

    private var found: [(folder: String, files: [ImageName])] = []
    private var visited: Set<FileIdentity> = []
    /// Links to directories, which wait until all that is reached without them has been read.
    private var links: [String] = []
    private let root: String

    /// - Parameter root: what the paths of directories are relative to; empty for none.
    init(root: String) {
        self.root = root
    }

    /// The images in the directory `folder` and in all directories below it, directory by directory, ordered by their
    /// paths. Directories that an earlier call has read are read again; the directory `root` is not.
    ///
    /// - Throws: `Failure.inputOutput` where a directory is missing, cannot be read for another reason than its
    ///   permissions, or has a name that is not UTF-8.
    mutating func images(in folder: String) throws -> [(folder: String, files: [ImageName])] {
        (found, visited, links) = ([], [], [])
        if !root.isEmpty, let identity = FileIdentity(root) { visited.insert(identity) }
        try read(folder)
        var next = 0
        while next < links.count {
            try read(links[next])
            next += 1
        }
        return found.sorted { $0.folder.utf8.lexicographicallyPrecedes($1.folder.utf8) }
    }

    /// Reads a directory that was given by its path, so that it is an error if it may not be read.
    mutating func directory(_ path: String) throws -> Directory {
        let directory = try Directory(path)
        debris += directory.debris
        archives += directory.archives
        compressed += directory.compressed
        undecodable.add(directory.undecodable)
        return directory
    }

    /// Whether the permissions of a directory, or of one above it, keep this process from reading it.
    private static func isClosed(_ path: String) -> Bool {
        faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) != 0 && errno == EACCES
    }

    private mutating func read(_ folder: String) throws {
        let path = root.isEmpty ? folder : "\(root)/\(folder)"
        let directory: Directory
        do {
            guard let identity = FileIdentity(path) else { throw cannotOpen(path, "the folder ") }
            guard visited.insert(identity).inserted else { return }
            directory = try Directory(path)
        } catch let failure as Failure where Self.isClosed(path) {
            closed.append((path, failure))
            return
        }
        func inside(_ name: String) -> String { folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)" }
        debris += directory.debris.map(inside)
        archives += directory.archives.map(inside)
        compressed += directory.compressed.map(inside)
        undecodable.add(directory.undecodable)
        if !directory.images.isEmpty { found.append((folder, directory.images)) }
        for name in directory.folders {
            if directory.links.contains(name) { links.append(inside(name)) } else { try read(inside(name)) }
        }
    }
}

/// The name or path of an image file.
struct ImageName {
    let text: String
    /// Whether `text` has the bytes of the name. In a name that is not UTF-8, invalid bytes are replacement characters.
    let isExact: Bool

    /// The path of this name in `folder`.
    func inside(_ folder: String) -> ImageName {
        ImageName(text: folder.hasSuffix("/") ? folder + text : "\(folder)/\(text)", isExact: isExact)
    }

    /// Order by bytes; of two names with the same text, the exact one comes first.
    func precedes(_ other: ImageName) -> Bool {
        if text.utf8.elementsEqual(other.text.utf8) { return isExact && !other.isExact }
        return text.utf8.lexicographicallyPrecedes(other.text.utf8)
    }

    /// Whether both are exact and have the same bytes. (Strings compare equal if they have the same characters in other
    /// bytes.) Names that are not exact may differ in the bytes that were replaced.
    func isSameFile(as other: ImageName) -> Bool {
        isExact && other.isExact && text.utf8.elementsEqual(other.text.utf8)
    }
}

/// The identity of a directory: equal for two paths of the same one.
private struct FileIdentity: Hashable {
    let device: dev_t, number: ino_t
    /// Nil, with the reason in errno, where there is no such file.
    init?(_ path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        device = status.st_dev
        number = status.st_ino
    }
}

/// The image files and the directories in one directory, each sorted by the bytes of their names, without those that
/// `Debris` names.
struct Directory {
    var images: [ImageName] = []
    var folders: [String] = []
    /// Those of `folders` that are links.
    var links: Set<String> = []
    /// The names of images and directories that were left out.
    var debris: [String] = []
    /// The names of tar archives and of compressed archives.
    var archives: [String] = []
    var compressed: [String] = []
    /// Pictures that cannot be decoded.
    var undecodable = UndecodablePictures()

    init(_ path: String) throws {
        guard let stream = opendir(path) else { throw cannotOpen(path, "the folder ") }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno == 0 { break }
                throw Failure.system("cannot read the folder \(path)", errno, .listing)
            }
            let name: ImageName = withUnsafeBytes(of: &entry.pointee.d_name) { field in
                let bytes = field.prefix(while: { $0 != 0 })
                let text = String(decoding: bytes, as: UTF8.self)
                return ImageName(text: text, isExact: text.utf8.elementsEqual(bytes))
            }
            if name.text == "." || name.text == ".." { continue }
            let isFolder = Self.isFolder(entry, in: stream)
            if Debris.contains(name.text) {
                if isFolder || ImageFolder.isImage(name.text) { debris.append(name.text) }
            } else if isFolder {
                guard name.isExact else { throw notText("the folder \(path)/\(name.text)") }
                folders.append(name.text)
                if Int32(entry.pointee.d_type) != Int32(DT_DIR) { links.insert(name.text) }
            } else if ImageFolder.isImage(name.text) {
                images.append(name)
            } else if name.isExact, ArchiveName.isTar(name.text) {
                archives.append(name.text)
            } else if name.isExact, ArchiveName.compression(of: name.text) != nil {
                compressed.append(name.text)
            } else if let kind = ImageExtension.undecodable(name.text) {
                undecodable.add(kind)
            }
        }
        images.sort { $0.precedes($1) }
        debris.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        folders.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    /// Whether an entry is a directory or a link to one. The name's original bytes are used, as they may not be UTF-8.
    private static func isFolder(_ entry: UnsafeMutablePointer<dirent>, in stream: OpaquePointer) -> Bool {
        let type = Int32(entry.pointee.d_type)
        if type == Int32(DT_DIR) { return true }
        guard type == Int32(DT_LNK) || type == Int32(DT_UNKNOWN) else { return false }
        var status = stat()
        let found = withUnsafeBytes(of: &entry.pointee.d_name) { name in
            fstatat(dirfd(stream), name.bindMemory(to: CChar.self).baseAddress!, &status, 0) == 0
        }
        return found && status.st_mode & S_IFMT == S_IFDIR
    }
}
