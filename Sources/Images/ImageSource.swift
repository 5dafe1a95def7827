/// Encoded images with names and, where there are any, classes: a folder, tar archives, a list, and whatever else can
/// list its images. Nothing else in the program knows where an image lies.
///
/// Images have indices 0..<count, in an order that depends on the source's content alone: by class, images without a
/// class first, then by name, byte by byte. Any number of threads may call the methods at a time.
public protocol ImageSource: Sendable {
    /// Number of images, at least 1.
    var count: Int { get }

    /// The names of the classes, by class index; empty where the source has no classes.
    var classes: [String] { get }

    /// The folder, archive or list that holds the images, as messages name it; nil where they come from several places.
    var place: String? { get }

    /// Notes for the user about the source, such as images that were left out, a sentence each.
    var notes: [String] { get }

    /// Warnings for the user about the source, such as folders that cannot be opened, a sentence each.
    var warnings: [String] { get }

    /// The pictures that `warnings` says are left out, as they are of kinds that cannot be decoded.
    var leftOutPictures: [LeftOutPictures] { get }

    /// The files that the images are read from, and the lists that name them. No output may replace them.
    var files: [String] { get }

    /// The name of an image within its place, or its whole path where it has none. Images of several folders or
    /// archives may have the same name.
    ///
    /// A run stores a checksum of the names and is resumed only with the same ones. So they must not change when the
    /// source is moved.
    func name(_ index: Int) -> String

    /// The whole path of an image, as lists of images show it: of a member of an archive, the archive's path and the
    /// member's, with a slash between them.
    func path(_ index: Int) -> String

    /// An image as messages name it: its path, with a member's archive set apart.
    func title(_ index: Int) -> String

    /// The class index of an image; nil if and only if the source has no classes.
    func label(_ index: Int) -> Int?

    /// The encoded image, of a format that `Pixels(decoding:named:)` reads.
    ///
    /// Throws `Failure`, naming the image by its `title`. The code says whose fault it is: `.badData` where this image
    /// cannot be read, today or tomorrow, so that a loader may go on without it; `.inputOutput` where the system failed
    /// (no file descriptors, no memory, a disk error) and the image might be read at another moment.
    func bytes(_ index: Int) throws -> [UInt8]

    /// The first `count` bytes of the encoded image, all of it if it is shorter. Throws as `bytes`.
    func head(_ index: Int, count: Int) throws -> [UInt8]

    /// Bytes of the encoded image; nil where they cannot be told. Nothing is read where the place of the image says it.
    func byteCount(_ index: Int) -> Int?

    /// The images in the order in which they lie where they are stored, so that neighbours are read quickly one after
    /// another.
    var storedOrder: [Int] { get }

    /// The folder of images to evaluate on if this one's directories are not classes but parts of a data set, such as
    /// train and val, and hold the class directories; nil otherwise.
    var evaluationPart: String? { get }
}

extension ImageSource {
    public var notes: [String] { [] }
    public var warnings: [String] { [] }
    public var leftOutPictures: [LeftOutPictures] { [] }
    public var evaluationPart: String? { nil }
    public var storedOrder: [Int] { Array(0..<count) }
    public var files: [String] { (0..<count).map(path) }

    public func path(_ index: Int) -> String {
        guard let place else { return name(index) }
        return place.hasSuffix("/") ? place + name(index) : "\(place)/\(name(index))"
    }

    public func head(_ index: Int, count: Int) throws -> [UInt8] { Array(try bytes(index).prefix(count)) }

    public func byteCount(_ index: Int) -> Int? { (try? bytes(index))?.count }

    public func title(_ index: Int) -> String { path(index) }
}
