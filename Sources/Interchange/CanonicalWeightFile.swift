import Models
import Reporting
import Weights

/// The tensors of one model in a file, under MAE's names whatever the file's naming scheme.
///
/// Row-thirds (separate query, key and value) are joined when they are read. `entries` does not include tensors outside
/// the model, such as an optimiser's.
public final class CanonicalWeightFile: WeightFile {
    /// The file that holds the model.
    public let file: any WeightFile
    /// The naming scheme and the prefix of the model's names.
    public let detection: NamingScheme.Detection
    /// The model's tensors under MAE's names, in the order of the file.
    public let entries: [TensorEntry]
    /// Names of the model's tensors that the scheme does not have, in the order of the file.
    public let unknown: [String]
    /// The part of `unknown` that changes the computation compared with MAE's ViT: parts of blocks, additional tokens,
    /// norms and scales.
    public let foreign: [String]
    /// Number of tensors in the file outside the model: an optimiser's state, another model.
    public let outside: Int
    /// Whether a projection head of self-supervised learning is in the place of a class head; its tensors are `unknown`.
    public let hasProjection: Bool

    /// One tensor of the file, or the row-thirds in order.
    private let sources: [String: [TensorEntry]]
    private let indices: [String: Int]

    public var path: String { file.path }
    public var form: String { file.form }
    public var metadata: [String: String] { file.metadata }
    public var values: [(name: String, value: PlainValue)] { file.values }
    public var byteCount: Int { file.byteCount }

    /// Finds the model in `file`; see `NamingScheme.detect`.
    ///
    /// - Throws: `Failure.badData` where no scheme matches, or where row-thirds are missing or differ in shape or type.
    public convenience init(_ file: any WeightFile, role: NamingScheme.Role = .student, prefix: String? = nil) throws {
        let names = ModelNames(file.names)
        try self.init(
            file, names, NamingScheme.detect(file.entries, names, in: file.path, role: role, prefix: prefix))
    }

    /// - Parameters:
    ///   - names: those of `file`.
    ///   - detection: the model among them.
    init(_ file: any WeightFile, _ names: ModelNames, _ detection: NamingScheme.Detection) throws {
        self.file = file
        self.detection = detection
        let scheme = detection.scheme
        let wrapper = detection.plainWrapper
        // DMAE keeps the projection heads beside the student.
        let beside =
            wrapper.hasSuffix("student.") ? String(wrapper.dropLast("student.".count)) + Self.projectionHeads : nil
        // The projection head of self-supervised learning has the place of a class head, but more layers.
        let hasProjection =
            scheme.canonical("head.weight") != nil
            && names.plain.contains {
                detection.own($0).map { $0.hasPrefix("head.") && scheme.canonical($0) == nil } == true
            }
        var order: [String] = []
        var sources: [String: [TensorEntry?]] = [:]
        var unknown: [String] = []
        var foreign: [String] = []
        var outside = 0
        for (entry, plain) in zip(file.entries, names.plain) {
            let own: String
            if let name = detection.own(plain) {
                own = name
            } else if let beside, plain.hasPrefix(beside) {
                own = Self.projectionHeads + plain.dropFirst(beside.count)
            } else {
                outside += 1
                continue
            }
            guard let found = scheme.canonical(own), !(hasProjection && found.name.hasPrefix("head.")) else {
                // An empty wrapper matches all names, including those of an optimiser's state and of other models.
                if wrapper.isEmpty, Self.isOutside(own) {
                    outside += 1
                } else {
                    unknown.append(entry.name)
                    if scheme.computes(own) { foreign.append(entry.name) }
                }
                continue
            }
            let place = found.third ?? 0
            if sources[found.name] == nil {
                order.append(found.name)
                sources[found.name] = Array(repeating: nil, count: found.third == nil ? 1 : 3)
            }
            guard place < sources[found.name]!.count, sources[found.name]![place] == nil else {
                throw Failure(
                    .badData,
                    "\(quoted(path: file.path)) holds \(found.name) twice, the second time as \(quoted(entry.name)); "
                        + "remove one of them")
            }
            sources[found.name]![place] = entry
        }
        var whole: [String: [TensorEntry]] = [:]
        entries = try order.map { name in
            let parts = sources[name]!
            let present = parts.compactMap { $0 }
            guard present.count == parts.count else {
                throw Failure(
                    .badData,
                    "\(quoted(path: file.path)) holds \(quoted(present[0].name)) but not all of query, key and value; "
                        + "download or write the file again")
            }
            whole[name] = present
            guard present.count > 1 else { return TensorEntry(name, joining: present) }
            guard present.allSatisfy({ $0.typeName == present[0].typeName && $0.shape == present[0].shape }),
                !present[0].shape.isEmpty
            else {
                throw Failure(
                    .badData,
                    "\(quoted(path: file.path)) holds query, key and value in different shapes or types, such as "
                        + "\(quoted(present[0].name)); download or write the file again")
            }
            let shape: [Int] = [present[0].shape[0], 3] + present[0].shape.dropFirst()
            guard TensorEntry.isCountable(shape) else {
                throw Failure(
                    .badData,
                    "\(quoted(path: file.path)): \(quoted(present[0].name)) is larger than any memory; download or "
                        + "write "
                        + "the file again")
            }
            return TensorEntry(name, joining: present)
        }
        indices = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.name, $0) })
        self.sources = whole
        self.unknown = unknown
        self.foreign = foreign
        self.outside = outside
        self.hasProjection = hasProjection
    }

    private static let projectionHeads = ModelLayout.projectionHeads + "."

    /// Whether a name without wrapper belongs to an optimiser's state or another model.
    private static func isOutside(_ name: String) -> Bool {
        let first = String(name.prefix { $0 != "." })
        return NamingScheme.stateWords.contains(first)
            || (!["backbone", "encoder", "vit"].contains(first) && NamingScheme.wrapperWords.contains(first))
    }

    public subscript(name: String) -> TensorEntry? { indices[name].map { entries[$0] } }

    /// The file's names for MAE's `name`: one, or three for row-thirds in order.
    public func sourceNames(_ name: String) -> [String] { sources[name]?.map(\.name) ?? [] }

    public func copyFloats(_ name: String, into destination: UnsafeMutableBufferPointer<Float>) throws {
        let entry = try entry(name)
        precondition(destination.count == entry.count, "the destination of \(name) must hold \(entry.count) elements")
        var start = 0
        for source in sources[name]! {
            try file.copyFloats(
                source.name, into: UnsafeMutableBufferPointer(rebasing: destination[start..<start + source.count]))
            start += source.count
        }
    }

    public func withBytes<Result>(_ name: String, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
        let entry = try entry(name)
        let parts = sources[name]!
        guard parts.count > 1 else { return try file.withBytes(parts[0].name, body) }
        let joined = UnsafeMutableRawBufferPointer.allocate(byteCount: entry.byteCount, alignment: 16)
        defer { joined.deallocate() }
        var start = 0
        for part in parts {
            try file.withBytes(part.name) {
                UnsafeMutableRawBufferPointer(rebasing: joined[start..<start + part.byteCount]).copyMemory(from: $0)
            }
            start += part.byteCount
        }
        return try body(UnsafeRawBufferPointer(joined))
    }
}

extension WeightFile {
    /// Whether the file holds the weight or the bias of the layer `name`, one of MAE's names.
    public func holdsLayer(_ name: String) -> Bool { self[name + ".weight"] != nil || self[name + ".bias"] != nil }

    /// Requires that the file does not hold both final norms: `norm` for the class token, `fc_norm` for the mean of the
    /// patch tokens.
    ///
    /// - Parameters:
    ///   - user: the operation that needs to know the final norm, for the message.
    ///   - remedy: what the user can do, other than removing one of the two.
    /// - Throws: `Failure.badData` where the file holds both.
    public func requireOneNorm(_ user: String, _ remedy: Message) throws {
        guard holdsLayer("norm"), holdsLayer("fc_norm") else { return }
        throw Failure(
            .badData,
            "\(path): holds both norm and fc_norm, and \(user) cannot say which of them comes last; \(remedy), or "
                + "leave "
                + "one of the two out of the file")
    }
}
