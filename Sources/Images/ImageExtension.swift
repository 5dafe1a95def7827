/// The extensions of image files.
enum ImageExtension {
    /// The extensions of image files: torchvision's list, then the others of the kinds that are decoded. Which kind a
    /// file is, its content says.
    static let all = [
        "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "jfif", "jpe", "mpo", "gif", "pbm", "pnm",
    ]

    /// Those in a sentence, without the extensions of TIFF, which is found and named but not decoded.
    static let text = all.filter { !$0.hasPrefix("tif") }.map { "." + $0 }.joined(separator: " ")

    /// Whether a file of that name is an image.
    static func isImage(_ name: String) -> Bool {
        guard let dot = name.lastIndex(of: ".") else { return false }
        return all.contains(name[name.index(after: dot)...].lowercased())
    }
}
