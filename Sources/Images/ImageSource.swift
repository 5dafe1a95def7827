/// Encoded images with names and, where there are any, classes: a folder, and whatever else can list its images.
///
/// Images have indices 0..<count, in an order that depends on the source's content alone. Any number of threads may
/// call the methods at a time.
public protocol ImageSource: Sendable {
    /// Number of images, at least 1.
    var count: Int { get }

    /// The names of the classes, by class index; empty where the source has no classes.
    var classes: [String] { get }

    /// The folder or archive that holds the images, as messages name it; nil where they come from several places.
    var place: String? { get }

    /// Notes for the user about the source, such as images that were left out, a sentence each.
    var notes: [String] { get }

    /// Warnings for the user about the source, such as folders that cannot be opened, a sentence each.
    var warnings: [String] { get }

    /// The name of an image within `place`, or its whole path where that is nil; no two images have the same name.
    ///
    /// A run stores a checksum of the names and is resumed only with the same ones. So they must not change when the
    /// source is moved.
    func name(_ index: Int) -> String

    /// The class index of an image; nil if and only if the source has no classes.
    func label(_ index: Int) -> Int?

    /// The encoded image, of a format that `Pixels(decoding:named:)` reads.
    ///
    /// Throws `Failure`, naming the image by its `path`. The code says whose fault it is: `.badData` where this image
    /// cannot be read, today or tomorrow, so that a loader may go on without it; `.inputOutput` where the system failed
    /// (no file descriptors, no memory, a disk error) and the image might be read at another moment.
    func bytes(_ index: Int) throws -> [UInt8]
}

extension ImageSource {
    public var notes: [String] { [] }
    public var warnings: [String] { [] }

    /// The name of an image with the source's `place` in front, as messages and lists of images show it.
    public func path(_ index: Int) -> String {
        guard let place else { return name(index) }
        return place.hasSuffix("/") ? place + name(index) : "\(place)/\(name(index))"
    }
}
