/// Names of files and directories that systems and tools leave among pictures.
enum Debris {
    /// Whether the name begins with a dot (hidden files, `.thumbnails`, `.ipynb_checkpoints`, macOS's `._` files,
    /// `.Trash-1000`) or belongs to a NAS, an archive of macOS, or a file system.
    static func contains(_ name: String) -> Bool {
        name.utf8.first == UInt8(ascii: ".") || names.contains(name.lowercased())
    }

    private static let names: Set<String> = [
        "@eadir", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "__macosx", "lost+found", "$recycle.bin",
        "system volume information", "network trash folder", "temporary items",
    ]
}
